"""What every notebook of the book keeps: each rule is a function that returns what is wrong."""

from __future__ import annotations

import json
import re
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

import nbformat
import notebooks
from bs4 import BeautifulSoup
from nbformat import NotebookNode

from .reading import BOOK, HIDDEN, ROOT, asserts, code_cells, html_outputs, output_texts, prose, tags

MEDIAN_LINES, MOST_LINES, COLUMNS = 8, 30, 79
ALT_LENGTH = 30
IGNORED_SHARE = 0.15
SIGNIFICANT = 3  # digits of a float that is compared
VIEW = "application/vnd.jupyter.widget-view+json"
#: "12.5", "1,399.7", "2e-05"; not "2.15.0", which is a version.
FLOAT = re.compile(r"(?<![\w.,])\d[\d,]*(?:\.\d+(?:e[-+]?\d+)?|e[-+]?\d+)(?![\w]|\.\d)", flags=re.I)
Rule = Callable[[NotebookNode], list[str]]


def not_executed_in_order(notebook: NotebookNode) -> list[str]:
    """Un-run cells pass nbval with nothing compared."""
    counts = [cell.execution_count for _, cell in code_cells(notebook)]
    return [] if counts == list(range(1, len(counts) + 1)) else [f"cells ran in the order {counts}"]


def errors(notebook: NotebookNode) -> list[str]:
    """No cell raises, unless it says so, and none writes to stderr."""
    return list(notebooks.faults(notebook))


def absolute_paths(notebook: NotebookNode) -> list[str]:
    """What a reader sees must not depend on where the author works."""
    own = [str(ROOT), str(Path.home()), tempfile.gettempdir(), sys.prefix]
    pattern = "|".join(rf"{re.escape(path)}(?![\w-])" for path in own if len(path) > 1)
    pattern += r"|(?<![\w.:/<-])/(?:home|root|Users|tmp|opt|mnt|var|usr|private)/\w|\b[A-Z]:\\\w"
    return [
        f"cell {place}: {match.group()}"
        for place, cell in enumerate(notebook.cells)
        for text in [cell.source, *(output_texts(cell) if cell.cell_type == "code" else ())]
        for match in re.finditer(pattern, text)
    ]


def pictures_without_words(notebook: NotebookNode) -> list[str]:
    """Every picture says in words what there is to see."""
    found = []
    for place, cell in code_cells(notebook):
        alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
        # An SVG has its words itself; the PNG beside it has them in its metadata.
        bundles = [o.get("data", {}) for o in cell.outputs]
        bare = any(
            "image/svg+xml" not in bundle and any(kind.startswith("image/") for kind in bundle) for bundle in bundles
        )
        if bare and len(alt) < ALT_LENGTH:
            found.append(f"cell {place}: metadata mystnb.image.alt is {alt!r}")
    for place, page in html_outputs(notebook):
        if "remove-output" in tags(notebook.cells[place]):
            continue
        for drawing in page.find_all("svg"):
            title = drawing.find("title")
            alt = str(drawing.get("aria-label") or (title.get_text() if title else ""))
            if drawing.get("aria-hidden") != "true" and (drawing.get("role") != "img" or len(alt) < ALT_LENGTH):
                found.append(f"cell {place}: svg with role {drawing.get('role')!r} and words {alt!r}")
        found += [f"cell {place}: {i}" for i in page.find_all("img") if len(str(i.get("alt", ""))) < ALT_LENGTH]
    text = prose(notebook)
    found += [f"image without alt text: {m}" for m in re.findall(r"!\[\s*\]\([^)]*\)", text)]
    found += [f"image without alt text: {m}" for m in re.findall(r"<img(?![^>]*\balt=[\"'][^\"']{5,})[^>]*>", text)]
    for block in re.findall(r"^[`:]{3,}\{(?:image|figure)\}.*?^[`:]{3,}", text, flags=re.S | re.M):
        if not re.search(r"^:alt: \S.{4,}", block, flags=re.M):
            found.append(f"image without alt text: {block.splitlines()[0]}")
    return found


def unseen_before_a_run(notebook: NotebookNode) -> list[str]:
    """Where HTML is sanitised and SVG not trusted a drawing is seen as PNG, with its words."""
    found = []
    for place, cell in code_cells(notebook):
        for output in cell.outputs:
            data = output.get("data", {})
            if "<svg" in re.sub(r"data-state='[^']*'", "", data.get("text/html", "")):
                found.append(f"cell {place}: SVG in HTML falls to pieces where HTML is sanitised")
            if "image/svg+xml" in data and "image/png" not in data:
                found.append(f"cell {place}: an SVG without a PNG")
            if "image/svg+xml" in data and len(output.metadata.get("image/png", {}).get("alt", "")) < ALT_LENGTH:
                found.append(f"cell {place}: a PNG without words")
    return found


def long_cells(notebook: NotebookNode) -> list[str]:
    """One idea in each cell, readable on a phone."""
    found = []
    for place, cell in code_cells(notebook):
        lines = cell.source.split("\n")
        if len(lines) > MOST_LINES:
            found.append(f"cell {place} has {len(lines)} lines")
        found += [f"cell {place}: {len(line)} columns: {line}" for line in lines if len(line) > COLUMNS]
    visible = [cell.source.split("\n") for _, cell in code_cells(notebook) if not HIDDEN & tags(cell)]
    shown = [sum(bool(line.strip()) for line in lines) for lines in visible]
    if shown and statistics.median(shown) > MEDIAN_LINES:
        found.append(f"the median cell has {statistics.median(shown)} lines")
    return found


def ignored_outputs(notebook: NotebookNode) -> list[str]:
    """Few cells escape nbval, and those by a tag that readers do not see."""
    cells = code_cells(notebook)
    ignored = [place for place, cell in cells if "nbval-ignore-output" in tags(cell)]
    found = [f"cell {place}: use tags, not comments" for place, cell in cells if re.search(r"#\s*NBVAL", cell.source)]
    found += [f"cell {place} is skipped by nbval" for place, cell in cells if "nbval-skip" in tags(cell)]
    if len(ignored) > IGNORED_SHARE * len(cells):
        found.append(f"the outputs of {len(ignored)} of {len(cells)} cells are ignored: {ignored}")
    return found


def poor_citations(notebook: NotebookNode) -> list[str]:
    """A chapter cites three or more works, all in the bibliography."""
    keys = re.findall(r"^@\w+\{([^,\s]+)", (BOOK / "references.bib").read_text(encoding="utf-8"), flags=re.M)
    roles = re.findall(r"\{cite(?::\w+)?\}`([^`]+)`", prose(notebook))
    cited = {key.strip() for role in roles for key in role.split(",")}
    found = [f"{key} is not in references.bib" for key in sorted(cited - set(keys))]
    return found if len(cited) >= 3 else [*found, f"cites only {sorted(cited)}"]


def not_tidy(notebook: NotebookNode) -> list[str]:
    """Notebooks are stored in one form (tools/notebooks.py)."""
    before = notebooks.dump(notebook)
    after = notebooks.dump(notebooks.tidy(nbformat.reads(before, as_version=4)))
    return [] if before == after else ["not in the stored form: run `python tools/notebooks.py --tidy`"]


def broken_widgets(notebook: NotebookNode) -> list[str]:
    """Widgets carry their state in their HTML, not in models that need a kernel."""
    found = ["metadata.widgets is stored"] if "widgets" in notebook.metadata else []
    for place, cell in code_cells(notebook):
        if any(VIEW in output.get("data", {}) for output in cell.outputs):
            found.append(f"cell {place} stores the view of a live widget")
    for place, page in html_outputs(notebook):
        for widget in page.select(".mnv3-widget"):
            try:
                state = json.loads(str(widget.get("data-state", "")))
            except json.JSONDecodeError as error:
                found.append(f"cell {place}: data-state is not JSON: {error}")
                continue
            fallback = widget.find("table") or widget.find("img", alt=True)
            if not isinstance(state, dict) or not widget.get("data-widget") or not fallback:
                found.append(f"cell {place}: a widget needs data-widget, a state and a table or figure for all others")
    return found


def silenced_by_semicolon(notebook: NotebookNode) -> list[str]:
    """A trailing semicolon silences a front end, but not nbval: write `_ = …`."""
    return [f"cell {place} ends in `;`" for place, cell in code_cells(notebook) if cell.source.rstrip().endswith(";")]


def without_parity(notebook: NotebookNode) -> list[str]:
    """Three or more cells assert something; a claim that nothing checks is an opinion."""
    number = sum(asserts(cell) for _, cell in code_cells(notebook))
    return [] if number >= 3 else [f"{number} cells with an assert; a notebook has three or more"]


def compared_words(html: str) -> Iterator[str]:
    """Return what of HTML is compared to the letter: words, also those said aloud, not where a drawing's lines go."""
    page = BeautifulSoup(html, "html.parser")
    for widget in page.select("[data-state]"):
        state = json.loads(str(widget["data-state"]))
        frames = state.pop("frames", []) if isinstance(state, dict) else []
        yield json.dumps(state)
        for frame in frames:
            yield from compared_words(frame)
    for part in page.find_all(["style", "script"]):
        part.decompose()
    for part in page.find_all(True):
        yield from (str(value) for name, value in part.attrs.items() if name in ("aria-label", "alt", "title"))
    yield from page.stripped_strings


def long_floats(notebook: NotebookNode) -> list[str]:
    """No compared output depends on a float's last bits: three significant digits, unless the cell itself says more."""
    found = []
    for place, cell in code_cells(notebook):
        if "nbval-ignore-output" in tags(cell):
            continue
        texts = [output.text for output in cell.outputs if output.output_type == "stream"]
        for kind, data in chain.from_iterable(output.get("data", {}).items() for output in cell.outputs):
            if kind in ("text/html", "image/svg+xml"):
                texts += compared_words(data)
            elif kind.startswith("text/"):
                texts.append(data)
        for number in dict.fromkeys(chain.from_iterable(FLOAT.findall(text) for text in texts)):
            digits = re.sub(r"e.*", "", number, flags=re.I).replace(",", "").replace(".", "").lstrip("0")
            if len(digits) > SIGNIFICANT and not re.search(rf"(?<![\d.]){re.escape(number)}(?![\d.])", cell.source):
                found.append(f"cell {place}: {number}")
    return found
