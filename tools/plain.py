"""Write the plain edition of the book's notebooks: readable without the MyST extension, on Colab, GitHub or in VS Code.

    python tools/plain.py            write book/plain/ anew
    python tools/plain.py --check    say which of its notebooks are not up to date, and fail if one is not

Roles become words and links, admonitions quotes, solutions and answers folded boxes, references numbers within the
notebook; captions stand below their figures. Pictures are PNG. The code is the chapter's own. The book's buttons for
Colab, Binder and download lead here (``book/_ext/launching.py``).
"""

from __future__ import annotations

import argparse
import html
import re
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell, new_notebook
from pybtex.database import parse_file

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "book" / "_ext"))
import notebooks
from numbering import chapter

BOOK = notebooks.BOOK
PLAIN = BOOK / "plain"
NOTE = (
    "> This is the plain edition of a chapter of *MobileNetV3: the executable book*. Run the next cell first; if it "
    "cannot install the book, clone {address} and run `make lab` in it."
)
#: Titles of folded code, by the tag that folds it on the page.
FOLDED = {
    "hide-input": "Code of the figure",
    "hide-cell": "Code",
    "remove-input": "Code of the figure",
    "remove-cell": "Checks of the text",
}
STILL = re.compile(r'<img class="mnv3-still" alt="([^"]*)" src="data:image/png;base64,([^"]+)"[^>]*>')


@cache
def title(document: str) -> str:
    """Return the first heading of a page of the book."""
    path = BOOK / f"{document}.ipynb"
    if path.is_file():
        text = "\n".join(cell.source for cell in notebooks.read(path).cells if cell.cell_type == "markdown")
    else:
        text = (BOOK / f"{document}.md").read_text(encoding="utf-8")
    found = re.search(r"^# (.+)", text, flags=re.M)
    return found[1].strip() if found else document


@cache
def bibliography() -> Any:
    """Return the entries of the bibliography."""
    return parse_file(str(BOOK / "references.bib")).entries


def cited(key: str, *, textual: bool) -> str:
    """Return author and year of a work, linked to where it is."""
    entry = bibliography()[key]
    names = [" ".join(person.prelast_names + person.last_names) for person in entry.persons["author"]]
    names = [re.sub(r"[{}\\]", "", name) for name in names]
    who = names[0] if len(names) == 1 else " and ".join(names) if len(names) == 2 else f"{names[0]} et al."
    fields = entry.fields
    address = fields.get("url") or (f"https://doi.org/{fields['doi']}" if "doi" in fields else "")
    address = address or (f"https://arxiv.org/abs/{fields['eprint']}" if "eprint" in fields else "")
    words = f"{who} ({fields['year']})" if textual else f"{who}, {fields['year']}"
    return f"[{words}]({address})" if address else words


@cache
def labels() -> dict[str, str]:
    """Return the labels above headings and boxes, each with the notebook that it stands in."""
    return {
        label: path.stem
        for path in notebooks.sources()
        for cell in notebooks.read(path).cells
        if cell.cell_type == "markdown"
        for label in re.findall(r"^\(([\w-]+)\)=$", cell.source, flags=re.M)
    }


def place_of(label: str, page: str) -> str:
    """Return where a label is, seen from a page."""
    place = labels().get(label, page)
    return f"#{label}" if place == page else f"{place}.ipynb#{label}"


class Numbers:
    """The numbers of a notebook's figures, equations and exercises, by their labels, as the page has them."""

    def __init__(self, cells: list[NotebookNode], page: str) -> None:
        self.page = page
        self._before = chapter(page)
        text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        self.figures = notebooks.figure_numbers(cells)
        self.equations = self._count(re.findall(r"^\$\$ \(([\w-]+)\)|^:label: (eq-[\w-]+)", text, flags=re.M))
        self.exercises = self._count(re.findall(r"\{exercise(?:-start)?\}[^\n]*\n:label: ([\w-]+)", text))

    def _count(self, labels: Any) -> dict[str, str]:
        flat = (label if isinstance(label, str) else next(filter(None, label)) for label in labels)
        return {label: ".".join(map(str, (*self._before, count))) for count, label in enumerate(flat, start=1)}


def roles(text: str, numbers: Numbers) -> str:
    """Write roles as words and links."""

    def one(match: re.Match[str]) -> str:
        name, inside = match[1], " ".join(match[2].split())
        words, target = (re.fullmatch(r"(.*?)\s*<([^>]*)>", inside) or re.fullmatch(r"(.*)()", inside)).groups()
        target = target or words
        if name == "term":
            return words
        if name == "doc":
            kind = "ipynb" if (BOOK / f"{target}.ipynb").is_file() else "md"
            place = f"{target}.ipynb" if kind == "ipynb" else f"../{target}.md"
            return f"[{words if words != target else title(target)}]({place})"
        if name == "ref":
            return words
        if name == "eq":
            return f"({numbers.equations[target]})"
        if name in ("cite:t", "cite:p"):
            works = [cited(key.strip(), textual=name == "cite:t") for key in inside.split(",")]
            return ", ".join(works) if name == "cite:t" else f"({'; '.join(works)})"
        raise ValueError(f"no plain form for the role {name!r}: {match[0]}")

    return re.sub(r"\{([\w:]+)\}`([^`]+)`", one, text)


def quoted(head: str, body: str) -> str:
    """Return a text as a quotation with a heading."""
    lines = [f"**{head}**", "", *body.strip("\n").split("\n")]
    return "\n".join(f"> {line}".rstrip() for line in lines)


def folded(head: str, body: str) -> str:
    """Return a text in a box that opens on demand."""
    return f"<details><summary>{head}</summary>\n\n{body.strip()}\n\n</details>"


def directive(name: str, argument: str, body: str, numbers: Numbers) -> str:
    """Return a directive as plain Markdown."""
    label = re.search(r"^:label: (\S+)", body, flags=re.M)
    body = re.sub(r"^(?::[\w-]+:.*\n?)+", "", body)
    if name in ("admonition", "note", "tip", "warning", "important"):
        return quoted(argument or name.capitalize(), body)
    if name == "dropdown":
        return folded(argument, body)
    if name in ("exercise-start", "exercise") and label:
        return f"**Exercise {numbers.exercises[label[1]]} · {argument}**\n\n{body}".rstrip()
    if name == "solution-start":
        return f"*Solution of exercise {numbers.exercises[argument]}*"
    if name in ("exercise-end", "solution-end"):
        return ""
    if name == "math":
        tag = f" \\tag{{{numbers.equations[label[1]]}}}" if label else ""
        return f"$$\n{body.strip()}{tag}\n$$"
    raise ValueError(f"no plain form for the directive {name!r}")


def plain(text: str, numbers: Numbers) -> str:
    """Write MyST as Markdown that every front end knows."""
    fence = re.compile(r"^(`{3,}|:{3,})\{([\w-]+)\}[ ]?([^\n]*)\n((?:(?!\1[ ]*$).*\n)*?)\1[ ]*$", flags=re.M)
    before = None
    while text != before:  # the outer ones may hold others
        before = text
        text = fence.sub(lambda m: directive(m[2], m[3].strip(), m[4], numbers), text + "\n").rstrip("\n")
    text = re.sub(r"^\$\$ \(([\w-]+)\)", lambda m: f"\\tag{{{numbers.equations[m[1]]}}}\n$$", text, flags=re.M)
    text = re.sub(r"^\(([\w-]+)\)=\n", r'<a id="\1"></a>\n\n', text, flags=re.M)
    text = re.sub(r"\]\(#([\w-]+)\)", lambda m: f"]({place_of(m[1], numbers.page)})", text)
    text = roles(text, numbers)
    return re.sub(r"\n{3,}", "\n\n", text).strip("\n")


def still_output(output: NotebookNode) -> NotebookNode:
    """Keep of an output what every front end shows: text, tables, and pictures as PNG."""
    if "data" not in output:
        return output
    data, metadata = dict(output.data), dict(output.get("metadata", {}))
    page = data.get("text/html", "")
    if picture := STILL.search(page):
        data["image/png"] = picture[2]
        metadata["image/png"] = {"alt": html.unescape(picture[1])}
        del data["text/html"]
    elif 'class="mnv3-widget"' in page:
        data["text/html"] = page[page.index("\n") + 1 : page.rindex("</div>")].strip()
    data.pop("image/svg+xml", None)
    return NotebookNode(output, data=NotebookNode(data), metadata=NotebookNode(metadata))


def edition(notebook: NotebookNode, page: str) -> NotebookNode:
    """Return the plain edition of a notebook."""
    numbers = Numbers(notebook.cells, page)
    solves = notebooks.in_solutions(notebook.cells)
    address = re.search(r'^BOOK = "(.*)"$', notebooks.first_cell(), flags=re.M)
    assert address
    cells: list[NotebookNode] = [new_markdown_cell(NOTE.format(address=address[1]))]
    for place, (cell, inside) in enumerate(zip(notebook.cells, solves, strict=True)):
        marks = set(cell.metadata.get("tags", []))
        if cell.cell_type == "markdown":
            text = plain(cell.source, numbers)
            if inside and text:
                head, _, rest = text.partition("\n\n") if "{solution-start}" in cell.source else ("", "", text)
                box = folded("In words", rest) if rest else ""
                text = "\n\n".join(part for part in (head, box) if part)
            if text:
                cells.append(new_markdown_cell(text))
            continue
        copy = NotebookNode(cell, outputs=[still_output(output) for output in cell.outputs], metadata=NotebookNode())
        titles = ["Solution"] if inside else [FOLDED[mark] for mark in FOLDED if mark in marks and place]
        if titles:
            notebooks.fold(copy)
            copy.source = f"# @title {titles[0]}\n{cell.source}"
            if marks & {"hide-input", "remove-input"}:
                copy.metadata["jupyter"].pop("outputs_hidden", None)
        cells.append(copy)
        figure = cell.metadata.get("mystnb", {}).get("figure", {})
        if figure.get("name"):
            caption = plain(figure.get("caption", "").strip(), numbers)
            cells.append(new_markdown_cell(f"**Fig. {numbers.figures[figure['name']]}.** {caption}"))
    made = new_notebook(cells=cells, metadata=nbformat.from_dict(notebooks.METADATA))
    taken: set[str] = set()
    for count, cell in enumerate([c for c in made.cells if c.cell_type == "code"], start=1):
        cell.execution_count = count
        for output in cell.outputs:
            if output.output_type == "execute_result":
                output.execution_count = count
    for cell in made.cells:
        cell.id = notebooks.cell_id(cell, taken)
    return made


def outdated(write: Callable[[Path, str], object] | None = None) -> list[str]:
    """Return the names of what is not up to date in the plain edition; hand each file's right text to ``write``."""
    PLAIN.mkdir(exist_ok=True)
    wanted = {}
    for path in sorted(BOOK.glob("*.ipynb")):
        wanted[path.name] = notebooks.dump(edition(notebooks.read(path), path.stem))
    found = [path.name for path in PLAIN.glob("*.ipynb") if path.name not in wanted]
    for name, text in wanted.items():
        path = PLAIN / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            found.append(name)
            if write:
                write(path, text)
    return found


def main(arguments: list[str] | None = None) -> int:
    """Run from the command line; return the exit status."""
    parser = argparse.ArgumentParser(description="Write the plain edition of the book's notebooks into book/plain/.")
    parser.add_argument("--check", action="store_true", help="say which notebooks are not up to date")
    if parser.parse_args(arguments).check:
        found = outdated()
        for name in found:
            print(f"book/plain/{name}: not up to date; run `python tools/plain.py`", file=sys.stderr)
        return 1 if found else 0
    for name in outdated(lambda path, text: path.write_text(text, encoding="utf-8")):
        path = PLAIN / name
        if not (BOOK / name).is_file():
            path.unlink()
        print(f"book/plain/{name}: written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
