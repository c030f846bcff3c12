"""How code and figures are spread over a chapter, and where an operation is first computed by hand."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterator
from itertools import pairwise

from nbformat import NotebookNode

from .reading import HIDDEN, WORD, asserts, body, code_cells, output_texts, plain, tags, text_of, words

BETWEEN = (40, 90)  # words from one code cell to the next, in the median
WITHOUT_A_STOP = 500
WORDS_A_FIGURE = 400
#: The tag of the cell that computes an operation on numbers small enough to be checked on paper.
BY_HAND = "by-hand"
#: An equation on a line of its own, code or a picture inside Markdown.
STOP = re.compile(
    r"\$\$[^$]*\$\$|^(?:[`:]{3,}\{(?:math|image|figure)\}|`{3,}\w+\n).*?^[`:]{3,}$|!\[[^\]]*\]\([^)]*\)",
    flags=re.S | re.M,
)


def count(text: str) -> int:
    """Count the words of a piece of Markdown."""
    return len(WORD.findall(plain(text)))


def after_the_opening(notebook: NotebookNode) -> list[NotebookNode]:
    """Return the cells after the line of times; all where there is none."""
    return body(notebook) or notebook.cells


def figures(notebook: NotebookNode) -> int:
    """Count the figures that have a name, and so a number."""
    return sum(bool(cell.metadata.get("mystnb", {}).get("figure", {}).get("name")) for _, cell in code_cells(notebook))


def uneven_code(notebook: NotebookNode) -> list[str]:
    """The median of the words between two visible code cells is within limits."""
    cells = after_the_opening(notebook)
    shown = [place for place, cell in enumerate(cells) if cell.cell_type == "code" and not HIDDEN & tags(cell)]
    gaps = [count(text_of(cells[one:other])) for one, other in pairwise(shown)]
    if not gaps:
        return ["fewer than two visible code cells"]
    median, (least, most) = statistics.median(gaps), BETWEEN
    return [] if least <= median <= most else [f"a median of {median:g} words between code cells"]


def pieces(notebook: NotebookNode) -> Iterator[int]:
    """Return the words of each piece of text between what interrupts it: figure, code or equation."""
    piece = 0
    for cell in after_the_opening(notebook):
        if cell.cell_type == "code":
            if "remove-cell" not in tags(cell):
                yield piece
                piece = 0
            continue
        first, *others = [count(text) for text in STOP.split(cell.source)]
        piece += first
        for other in others:
            yield piece
            piece = other
    yield piece


def long_text(notebook: NotebookNode) -> list[str]:
    """Some figure, code or equation interrupts the text before it gets long."""
    return [f"{piece} words without figure, code or equation" for piece in pieces(notebook) if piece > WITHOUT_A_STOP]


def few_figures(notebook: NotebookNode) -> list[str]:
    """About one figure for so many words: a part of that number needs none of its own."""
    there, wanted = figures(notebook), words(notebook) // WORDS_A_FIGURE
    return [] if there >= wanted else [f"{there} figures for {words(notebook):,} words; {wanted} are wanted"]


def not_by_hand(notebook: NotebookNode) -> list[str]:
    """A visible cell computes an operation on a toy, in the first half of the chapter: its author tags it."""
    tagged = [(place, cell) for place, cell in code_cells(notebook) if BY_HAND in tags(cell)]
    found = [] if tagged else [f"no cell has the tag {BY_HAND}"]
    for place, cell in tagged:
        wrong = {
            "is hidden": bool(HIDDEN & tags(cell)),
            "did not run": not cell.execution_count,
            "neither asserts nor prints": not asserts(cell) and not any(output_texts(cell)),
            "comes after the first half": 2 * count(text_of(notebook.cells[:place])) > words(notebook),
        }
        found += [f"cell {place}, {BY_HAND}, {fault}" for fault, holds in wrong.items() if holds]
    return found
