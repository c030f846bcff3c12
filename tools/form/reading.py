"""What a notebook holds: its cells, its prose and its outputs, as the rules look at them."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import notebooks
from bs4 import BeautifulSoup
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell

ROOT = Path(__file__).resolve().parents[2]
BOOK = ROOT / "book"

WORD = re.compile(r"[^\W\d_][\w’'-]*")
#: The line of times at the head of a chapter; what follows a comma says where the seconds go.
TIMES = re.compile(
    r"^Reading: (\d+) minutes\. All cells together: about (\d+) seconds on (?:one CPU core|two CPU cores)(?:, .+)?\.$",
    flags=re.M,
)
#: With the code between them; what the line of times says is the words of the page over this.
WORDS_A_MINUTE = 115
#: What says where something was found.
SOURCE = r"\]\(\S+\)|\{cite|\b(?:Table|Section) \d"
#: What a cell shows that is a picture or a control; the tags that hide its code; a box that is closed at first.
PICTURES = {"image/svg+xml", "image/png", "image/jpeg", "text/html"}
HIDDEN = notebooks.ASIDE
FOLDED = re.compile(r"^(:{3,}|`{3,})\{dropdown\}.*?^\1$", flags=re.DOTALL | re.MULTILINE)


def code_cells(notebook: NotebookNode) -> list[tuple[int, NotebookNode]]:
    """Return the code cells with their places."""
    return [(place, cell) for place, cell in enumerate(notebook.cells) if cell.cell_type == "code"]


def tags(cell: NotebookNode) -> set[str]:
    """Return a cell's tags."""
    return set(cell.metadata.get("tags", []))


def text_of(cells: list[NotebookNode]) -> str:
    """Return the Markdown of some cells."""
    return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


def prose(notebook: NotebookNode) -> str:
    """Return all Markdown, one cell after the other."""
    return text_of(notebook.cells)


def plain(text: str) -> str:
    """Return Markdown without directives, equations and addresses."""
    text = re.sub(r"\$\$[^$]*\$\$|\$[^$\n]*\$", " ", text)
    text = re.sub(r"^[`:]{3,}.*$|^:[\w-]+:.*$", " ", text, flags=re.M)
    return re.sub(r"\]\([^)]*\)|\{[\w:]+\}`[^`]*`", " ", text)


def words(notebook: NotebookNode) -> int:
    """Count the words of the prose."""
    return len(WORD.findall(plain(prose(notebook))))


def sections(notebook: NotebookNode) -> list[list[NotebookNode]]:
    """Return what stands before the first heading of the second order, then what stands under each."""
    found: list[list[NotebookNode]] = [[]]
    for cell in notebook.cells:
        if cell.cell_type == "code":
            found[-1].append(cell)
            continue
        for part in re.split(r"^(?=## )", cell.source, flags=re.M):
            if part.startswith("## "):
                found.append([])
            found[-1].append(new_markdown_cell(part))
    return found


def body(notebook: NotebookNode) -> list[NotebookNode]:
    """Return what follows the line of times; nothing where there is none."""
    for place, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown" and (line := TIMES.search(cell.source)):
            return [new_markdown_cell(cell.source[line.end() :]), *notebook.cells[place + 1 :]]
    return []


def output_texts(cell: NotebookNode) -> Iterator[str]:
    """Return the texts of a cell's outputs, without pictures."""
    for output in cell.outputs:
        if output.output_type == "stream":
            yield output.text
        for kind, data in output.get("data", {}).items():
            if not kind.startswith("image/"):
                yield data if isinstance(data, str) else json.dumps(data)


def asserts(cell: NotebookNode) -> bool:
    """Whether a code cell holds an assert statement; a word in a comment is none."""
    try:
        tree = ast.parse(re.sub(r"^(\s*)[%!].*$", r"\1pass", cell.source, flags=re.M))
    except SyntaxError:
        return False
    return any(isinstance(node, ast.Assert) for node in ast.walk(tree))


@lru_cache(maxsize=64)  # the outputs of a notebook, which several rules look at and none changes
def parsed(page: str) -> BeautifulSoup:
    """Return the tree of an HTML or SVG text."""
    return BeautifulSoup(page, "html.parser")


def html_outputs(notebook: NotebookNode) -> Iterator[tuple[int, BeautifulSoup]]:
    """Return the HTML and SVG outputs with the places of their cells."""
    for place, cell in code_cells(notebook):
        for output in cell.outputs:
            for kind in ("text/html", "image/svg+xml"):
                if kind in output.get("data", {}):
                    yield place, parsed(output.data[kind])
