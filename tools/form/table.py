"""What the page *About this book* says of each notebook: counts, run time and score."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import nbformat
import notebooks

from . import CHAPTER, FOR_CHAPTERS, FOR_PAGES
from .reading import BOOK, ROOT, asserts, code_cells, prose, words
from .rubric import ITEMS, Verdict, limit, score
from .spread import figures

HEADER = ("notebook", "words", "figures", "exercises", "asserting cells", "seconds", "points", "missed")
UNKNOWN = "–"


class Line(NamedTuple):
    """What is said of one notebook."""

    stem: str
    title: str
    words: int
    figures: int
    exercises: int
    asserting: int
    seconds: int | None
    verdicts: list[Verdict]

    @property
    def missed(self) -> list[Verdict]:
        """The items that are not met."""
        return [verdict for verdict in self.verdicts if not verdict.met]


def run_times() -> tuple[str, dict[str, int]]:
    """Return the processor on which the notebooks were run, and the seconds of each by its name."""
    kept = json.loads(notebooks.RUN_TIMES.read_text(encoding="utf-8"))
    return kept["cpu"], kept["seconds"]


def line(path: Path, seconds: int | None) -> Line:
    """Read a notebook and judge it."""
    notebook = nbformat.read(path, as_version=4)
    text = prose(notebook)
    heading = next(line for line in text.split("\n") if line.startswith("# "))
    title = heading.removeprefix("# ").removeprefix("Appendix: ").partition(":")[0]
    return Line(
        stem=path.stem,
        title=title[0].upper() + title[1:],
        words=words(notebook),
        figures=figures(notebook),
        exercises=len(re.findall(r"\{exercise(?:-start)?\}", text)),
        asserting=sum(asserts(cell) for _, cell in code_cells(notebook)),
        seconds=seconds,
        verdicts=score(notebook, seconds, limit(path.stem)),
    )


def stems(*, chapters: bool) -> list[str]:
    """Return the notebooks in the order of the table of contents: those with a chapter's form, or the others."""
    listed = re.findall(r"file: (\S+)", (ROOT / "_toc.yml").read_text(encoding="utf-8"))
    there = [stem for stem in listed if (BOOK / f"{stem}.ipynb").is_file()]
    return [stem for stem in there if chapters == has_form(stem)]


def has_form(stem: str) -> bool:
    """Whether the whole form of a chapter is asked of the notebook of this name."""
    return bool(CHAPTER.fullmatch(stem)) or FOR_PAGES.get(stem) is FOR_CHAPTERS


def lines(*, chapters: bool) -> list[Line]:
    """Judge the chapters, or the other notebooks."""
    _, seconds = run_times()
    return [line(BOOK / f"{stem}.ipynb", seconds.get(stem)) for stem in stems(chapters=chapters)]


def literal(text: str) -> str:
    """Write a text so that Markdown shows it as it is."""
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", " ".join(text.split()))


def rows(found: Iterable[Line]) -> list[list[str]]:
    """Return the cells of the table, in Markdown, below :data:`HEADER`."""
    return [
        [
            f"{{doc}}`{one.title} <{one.stem}>`",
            f"{one.words:,}",
            str(one.figures),
            str(one.exercises),
            str(one.asserting),
            UNKNOWN if one.seconds is None else str(one.seconds),
            str(len(ITEMS) - len(one.missed)),
            ", ".join(str(verdict.number) for verdict in one.missed) or UNKNOWN,
        ]
        for one in found
    ]


def reasons(found: Iterable[Line]) -> list[str]:
    """Say for each notebook what it misses and why, in Markdown; of many faults of one item the first."""
    said = []
    for one in found:
        parts = []
        for verdict in one.missed:
            first, *others = verdict.faults
            more = f", and {len(others)} more" if others else ""
            parts.append(f"*{verdict.number}*: {literal(first)}{more}")
        if parts:
            said.append(f"{one.title}: {'; '.join(parts)}.")
    return said
