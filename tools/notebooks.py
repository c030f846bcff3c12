"""Run the book's notebooks in place and store them in one form.

    python tools/notebooks.py              run and tidy every notebook under book/, and note how long each ran
    python tools/notebooks.py FILE ...     run and tidy these
    python tools/notebooks.py --tidy       tidy only, without running
    python tools/notebooks.py --check      say which are not tidy, and fail if one is not

Tidy means: a change that shows in a diff is a change that somebody made. No execution times, no widget models (the
explorer keeps its state in its HTML), the kernel named without its version, cell ids that depend on nothing but the
cell's place, streams in one piece. References to figures have their numbers, since JupyterLab knows none. The first
cell, which fetches the book for a copy elsewhere, is ``first_cell.py`` with the address in ``_config.yml``. Solutions
stand in cells of their own, folded in JupyterLab and on Colab; code that is a link on the page, or not there, is folded
in JupyterLab. A cell that raises or writes to stderr is an error and leaves the file as it was.

Run times are of the whole book or not kept: those of a few notebooks, from another day or another machine, would stand
in one table with the rest.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import nbformat
import yaml
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell

ROOT = Path(__file__).resolve().parent.parent
BOOK = ROOT / "book"
RUN_TIMES = BOOK / "_data" / "run_times.json"
TIMEOUT = 180
FIRST_CELL = Path(__file__).resolve().with_name("first_cell.py")

METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"file_extension": ".py", "mimetype": "text/x-python", "name": "python"},
}
WIDGET = "application/vnd.jupyter.widget-view+json"
# What a front end or the executor writes into a cell's metadata of its own accord.
NOISE = ("execution", "ExecuteTime", "collapsed", "scrolled", "vscode", "colab", "outputId", "trusted")
# What folds a cell in JupyterLab and on Colab; solutions have it, and no other cell.
FOLDING = ("jupyter", "cellView")
# A reference to a figure, as it is written and as it is stored.
FIGURE = re.compile(r"\{numref\}`([\w-]+)`|\{ref\}`Fig\. [\d.]+ <([\w-]+)>`")
# The tags of cells whose code is a link on the page, or not there.
ASIDE = {"hide-input", "hide-cell", "remove-input", "remove-cell"}


class NotebookError(Exception):
    """A notebook that cannot be published as it is."""


def sources(paths: Iterable[Path] = ()) -> list[Path]:
    """Return the notebooks to work on: those given, or all of the book's."""
    return [Path(path) for path in paths] or sorted(BOOK.glob("*.ipynb"))


def read(path: Path) -> NotebookNode:
    """Read a notebook as format 4.5."""
    notebook: NotebookNode = nbformat.read(path, as_version=4)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    return notebook


def dump(notebook: NotebookNode) -> str:
    """Return the text of a notebook file."""
    return str(nbformat.writes(notebook)).rstrip("\n") + "\n"


def cell_id(cell: NotebookNode, taken: set[str]) -> str:
    """Name a cell after its first words, so that a new cell does not rename the others."""
    words = re.sub(r"[^a-z0-9]+", "-", cell.source.lower())[:40].strip("-") or cell.cell_type
    name, count = words, 1
    while name in taken:
        count += 1
        name = f"{words}-{count}"
    taken.add(name)
    return name


def tidy_output(output: NotebookNode) -> NotebookNode:
    """Drop what changes from run to run and what needs a kernel to be shown."""
    if output.output_type == "stream" or "data" not in output:
        return output
    output.data.pop(WIDGET, None)
    output.metadata = NotebookNode({k: v for k, v in output.get("metadata", {}).items() if k in output.data})
    return output


def merge_streams(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Join neighbouring pieces of one stream: how a kernel cuts them is chance."""
    merged: list[NotebookNode] = []
    for output in outputs:
        last = merged[-1] if merged else None
        if last and last.output_type == output.output_type == "stream" and last.name == output.name:
            last.text += output.text
        else:
            merged.append(output)
    return merged


def first_cell() -> str:
    """Return the code that fetches the book for a copy of a notebook, with the book's address."""
    code = FIRST_CELL.read_text(encoding="utf-8").strip("\n")
    address = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["repository"]["url"]
    return re.sub(r'^BOOK = ".*"$', f'BOOK = "{address}"', code, flags=re.M)


def split_solutions(cells: list[NotebookNode]) -> list[NotebookNode]:
    """Give solutions cells of their own: a new one begins at each start of a solution and after each end."""
    edges = r"(?=^`{3,}\{solution-start\})|(?<=^```\{solution-end\}\n```)\n"
    split: list[NotebookNode] = []
    for cell in cells:
        parts = re.split(edges, cell.source, flags=re.M) if cell.cell_type == "markdown" else [cell.source]
        parts = [part.strip("\n") for part in parts if part.strip()] or [cell.source]
        cell.source = parts[0]
        split += [cell, *map(new_markdown_cell, parts[1:])]
    return split


def in_solutions(cells: list[NotebookNode]) -> list[bool]:
    """Say for each cell whether it belongs to a solution."""
    inside, found = False, []
    for cell in cells:
        edges = re.findall(r"\{solution-(start|end)\}", cell.source) if cell.cell_type == "markdown" else []
        found.append(inside or "start" in edges)
        inside = edges[-1] == "start" if edges else inside
    return found


def figure_numbers(cells: list[NotebookNode]) -> dict[str, str]:
    """Return the numbers of a notebook's figures by their names: 3.2 for the second one of chapter 3."""
    titles = (re.match(r"# (\d+)\s·", cell.source) for cell in cells if cell.cell_type == "markdown")
    chapter = next((f"{found[1]}." for found in titles if found), "")
    named = (cell.metadata.get("mystnb", {}).get("figure", {}).get("name") for cell in cells)
    return {name: f"{chapter}{count}" for count, name in enumerate(filter(None, named), start=1)}


def number_references(cells: list[NotebookNode]) -> None:
    """Write the number of a figure wherever the text refers to it without one, or with one that was right once."""
    numbers = figure_numbers(cells)

    def reference(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        return f"{{ref}}`Fig. {numbers[name]} <{name}>`" if name in numbers else match[0]

    for cell in cells:
        figure = cell.metadata.get("mystnb", {}).get("figure", {})
        if cell.cell_type == "markdown":
            cell.source = FIGURE.sub(reference, cell.source)
        elif "caption" in figure:
            figure.caption = FIGURE.sub(reference, figure.caption)


def fold(cell: NotebookNode) -> None:
    """Fold a cell in JupyterLab and on Colab."""
    cell.metadata["jupyter"] = {"source_hidden": True}
    if cell.cell_type == "code":
        cell.metadata["jupyter"]["outputs_hidden"] = True
        cell.metadata["cellView"] = "form"


def tidy(notebook: NotebookNode) -> NotebookNode:
    """Bring a notebook into the one form in which it is stored, in place."""
    notebook.cells = split_solutions(notebook.cells)
    opening = notebook.cells[0] if notebook.cells else None
    if opening and opening.cell_type == "code" and "remove-cell" in opening.metadata.get("tags", []):
        opening.source = first_cell()
    notebook.metadata = NotebookNode(
        {**{k: v for k, v in notebook.metadata.items() if k == "mystnb"}, **nbformat.from_dict(METADATA)}
    )
    number_references(notebook.cells)
    taken: set[str] = set()
    for cell, solves in zip(notebook.cells, in_solutions(notebook.cells), strict=True):
        cell.source = "\n".join(line.rstrip() for line in cell.source.strip("\n").split("\n"))
        cell.id = cell_id(cell, taken)
        kept = {k: v for k, v in cell.metadata.items() if k not in (*NOISE, *FOLDING) and v not in ([], {})}
        cell.metadata = NotebookNode(kept)
        if solves:
            fold(cell)
        elif ASIDE & set(cell.metadata.get("tags", [])):
            cell.metadata["jupyter"] = NotebookNode(source_hidden=True)
        if cell.cell_type == "code":
            cell.outputs = [tidy_output(output) for output in merge_streams(cell.outputs)]
    return notebook


def faults(notebook: NotebookNode) -> list[str]:
    """Say which cells raised or wrote to stderr."""
    found = []
    for number, cell in enumerate(notebook.cells):
        for output in cell.get("outputs", []):
            if output.output_type == "error" and "raises-exception" not in cell.metadata.get("tags", []):
                found.append(f"cell {number} raised {output.ename}: {output.evalue}")
            if output.output_type == "stream" and output.name == "stderr":
                found.append(f"cell {number} wrote to stderr: {output.text.strip()[:500]}")
    return found


def execute(notebook: NotebookNode, folder: Path, name: str, timeout: int = TIMEOUT) -> NotebookNode:
    """Run every cell in a fresh kernel, showing progress on a terminal."""
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError
    from tqdm import tqdm

    code = sum(cell.cell_type == "code" for cell in notebook.cells)
    with tqdm(total=code, desc=name, unit="cell", disable=None, leave=False) as bar:

        def advance(cell: NotebookNode, cell_index: int, **_: Any) -> None:
            if cell.cell_type == "code":
                bar.update()

        client = NotebookClient(
            notebook,
            timeout=timeout,
            kernel_name="python3",
            resources={"metadata": {"path": str(folder)}},
            on_cell_complete=advance,
        )
        try:
            client.execute()
        except CellExecutionError as error:
            raise NotebookError(str(error)) from None
    return notebook


def run(path: Path, timeout: int = TIMEOUT) -> int:
    """Run a notebook and store it tidy; leave the file alone if a cell failed. Return the seconds that it took."""
    start = time.perf_counter()
    notebook = execute(tidy(read(path)), path.parent, path.name, timeout)
    found = faults(notebook)
    if found:
        raise NotebookError("\n".join(found))
    path.write_text(dump(tidy(notebook)), encoding="utf-8")
    seconds = round(time.perf_counter() - start)
    print(f"{path.name}: ran in {seconds} s")
    return seconds


def write_run_times(seconds: Mapping[str, int], cpu: str) -> None:
    """Keep how long each notebook ran, by its name, and on which processor; all or nothing."""
    text = json.dumps({"cpu": cpu, "seconds": dict(sorted(seconds.items()))}, indent=1)
    unfinished = RUN_TIMES.with_suffix(".unfinished")
    unfinished.write_text(text + "\n", encoding="utf-8")
    os.replace(unfinished, RUN_TIMES)


def processor() -> str:
    """Return the processor's name with its widest vectors, as the files of measured speeds have it."""
    from mnv3lib.provenance import made

    return str(made(None, threads=1)["cpu"])


def is_tidy(path: Path) -> bool:
    """Say whether a notebook is stored in the one form."""
    return path.read_text(encoding="utf-8") == dump(tidy(read(path)))


def main(arguments: list[str] | None = None) -> int:
    """Run from the command line; return the exit status."""
    parser = argparse.ArgumentParser(description="Run the book's notebooks in place and store them in one form.")
    parser.add_argument("paths", nargs="*", type=Path, help="notebooks (default: all under book/)")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--tidy", action="store_true", help="tidy without running")
    mode.add_argument("--check", action="store_true", help="say which notebooks are not tidy")
    parser.add_argument("--timeout", type=int, default=TIMEOUT, help=f"seconds for a cell (default: {TIMEOUT})")
    options = parser.parse_args(arguments)

    bad = 0
    seconds: dict[str, int] = {}
    for path in sources(options.paths):
        try:
            if options.check:
                if not is_tidy(path):
                    bad += 1
                    print(f"{path.name}: not tidy; run `python tools/notebooks.py --tidy {path.name}`", file=sys.stderr)
            elif options.tidy:
                path.write_text(dump(tidy(read(path))), encoding="utf-8")
            else:
                seconds[path.stem] = run(path, options.timeout)
        except NotebookError as error:
            bad += 1
            print(f"{path.name}: {error}", file=sys.stderr)
    if seconds and not bad and not options.paths:
        write_run_times(seconds, processor())
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
