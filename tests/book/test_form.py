"""The rubric, each of its items broken once, and the page *About this book*, which is made from it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import nbformat
import notebooks
import pytest
from bs4 import BeautifulSoup
from conftest import ROOT
from form import reading, table
from form.reading import code_cells, prose
from form.rubric import ENOUGH, ITEMS, SECONDS, TIMED, TRAINING_SECONDS, limit, score
from form.spread import BETWEEN, BY_HAND, STOP, WITHOUT_A_STOP, WORDS_A_FIGURE, pieces
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from samples import code, excellent, replace
from scripts import load_script

NOTEBOOKS = sorted((ROOT / "book").glob("*.ipynb"))
CHAPTERS = [path for path in NOTEBOOKS if table.has_form(path.stem)]


def missed(notebook: NotebookNode, seconds: float | None = 10, limit: float = SECONDS) -> list[int]:
    """Return the numbers of the items that are not met."""
    return [verdict.number for verdict in score(notebook, seconds, limit) if not verdict.met]


# Each item -----------------------------------------------------------------------------------------------------------


def add_words(notebook: NotebookNode, number: int, place: int = 5) -> None:
    """Add a cell of so many words."""
    notebook.cells.insert(place, new_markdown_cell("word " * number))


def tag(notebook: NotebookNode, number: int, *tags: str) -> None:
    """Give a code cell these tags and no others."""
    code(notebook, number).metadata["tags"] = list(tags)


def say(notebook: NotebookNode, text: str) -> None:
    """Add a sentence below the first heading."""
    replace(notebook, "A sum in 2 parts.", f"A sum in 2 parts. {text}")


BROKEN: dict[str, tuple[int, Callable[[NotebookNode], object]]] = {
    "no aims": (1, lambda n: replace(n, "You will be able to", "Aims")),
    "no prerequisites": (1, lambda n: replace(n, "| you should know |", "| know |")),
    "no picture above": (1, lambda n: n.cells[1].outputs.clear()),
    "a problem without a number": (2, lambda n: replace(n, "217 million", "one of 7")),
    "code after 400 words": (3, lambda n: replace(n, "A row", "word " * 400)),
    "few words between cells": (3, lambda n: replace(n, "word " * (BETWEEN[0] - 1), "")),
    "many words between cells": (3, lambda n: replace(n, "word " * (BETWEEN[0] - 1), "word " * (BETWEEN[1] + 1))),
    "501 words alone": (3, lambda n: replace(n, "A sum is two", "word " * WITHOUT_A_STOP + "A sum is two")),
    "a cell of 31 lines": (4, lambda n: code(n, 0).update(source="\n".join(["x = 1"] * 31))),
    "nothing by hand": (5, lambda n: tag(n, 0)),
    "a hidden hand": (5, lambda n: tag(n, 0, BY_HAND, "hide-input")),
    "a hand that did not move": (5, lambda n: code(n, 0).update(execution_count=None)),
    "a silent hand": (5, lambda n: code(n, 0).outputs.clear()),
    "a late hand": (5, lambda n: (tag(n, 0), tag(n, -1, BY_HAND))),
    "no assert": (6, lambda n: replace(n, "assert 1 + 1 == 2", "1 + 1")),
    "a number from nowhere": (7, lambda n: say(n, "It costs 987.5 million.")),
    "two figures for many words": (8, lambda n: add_words(n, 3 * WORDS_A_FIGURE)),
    "a figure without a caption": (8, lambda n: code(n, 3).metadata.mystnb.figure.pop("caption")),
    "a figure without words": (9, lambda n: code(n, 1).metadata.pop("mystnb")),
    "an SVG without a PNG": (9, lambda n: code(n, 3).outputs[0].data.pop("image/png")),
    "no prediction": (10, lambda n: replace(n, "Predict first", "Look")),
    "three exercises": (11, lambda n: replace(n, "```{exercise}\n:label: ex-extend\n```", "")),
    "a solution in sight": (11, lambda n: replace(n, ":class: dropdown\n", "")),
    "four questions": (12, lambda n: replace(n, "**5.** ", "")),
    "no belief": (13, lambda n: replace(n, "Widely believed", "Note")),
    "a cell that did not run": (14, lambda n: code(n, 2).update(execution_count=None)),
    "a cell that warned": (14, lambda n: code(n, 0).outputs[0].update(name="stderr")),
    "no summary": (15, lambda n: replace(n, "## Summary", "## Close")),
    "two citations": (15, lambda n: replace(n, "{cite:t}`hu2018squeeze`", "nothing")),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_item_is_not_met(name: str) -> None:
    number, damage = BROKEN[name]
    notebook = excellent()
    damage(notebook)
    assert number in missed(notebook)


def test_an_excellent_notebook_misses_nothing_and_each_item_is_broken_once() -> None:
    verdicts = score(excellent(), 10)
    assert {verdict.number: verdict.faults for verdict in verdicts if not verdict.met} == {}
    assert [verdict.number for verdict in verdicts] == list(range(1, 16))
    assert {number for number, _ in BROKEN.values()} == set(range(1, 16))


def test_the_time_decides_one_item() -> None:
    notebook = excellent()
    assert missed(notebook, SECONDS) == []
    assert missed(notebook, SECONDS + 1) == missed(notebook, None) == [TIMED]
    assert missed(notebook, SECONDS + 1, limit("11_training_recipe")) == []
    assert missed(notebook, TRAINING_SECONDS + 1, limit("11_training_recipe")) == [TIMED]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("one two", [2]),
        ("one two\n\n$$\nx = y\n$$ (eq-a)\n\nthree", [2, 2]),  # the label is read as a word
        ("one\n\n```{math}\n:label: eq-a\nx = y\n```\n\ntwo three", [1, 2]),
        ("one\n\n```python\nx = y\n```\n\ntwo three", [1, 2]),
        ("one ![a picture](a.svg) two", [1, 1]),
        ("one $x$ two", [2]),
        (":::{dropdown} Answer\none two\n:::", [2]),
    ],
)
def test_equations_code_and_pictures_interrupt_the_text(text: str, words: list[int]) -> None:
    assert list(pieces(new_notebook(cells=[new_markdown_cell(text)]))) == words
    assert bool(STOP.search(text)) == (len(words) > 1)


def test_a_hidden_cell_interrupts_nothing_but_a_figure_does() -> None:
    for tags, words in ((["remove-cell"], [2]), (["hide-input"], [1, 1]), ([], [1, 1])):
        cell = new_code_cell("draw()", metadata={"tags": tags})
        assert list(pieces(new_notebook(cells=[new_markdown_cell("one"), cell, new_markdown_cell("two")]))) == words


# The book ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_has_enough_points(path: Path) -> None:
    """Its time is left out: how fast a machine is decides no test."""
    verdicts = score(nbformat.read(path, as_version=4), 0)
    assert sum(verdict.met for verdict in verdicts) >= ENOUGH
    wrong = [verdict for verdict, item in zip(verdicts, ITEMS, strict=True) if item.required and not verdict.met]
    assert wrong == []


def test_every_notebook_has_a_run_time_and_stands_in_one_table() -> None:
    cpu, seconds = table.run_times()
    stems = {path.stem for path in NOTEBOOKS}
    assert re.fullmatch(r"\S.* \([^()]+\)", cpu)
    assert set(seconds) == stems, "run `make notebooks`"
    listed = [*table.stems(chapters=True), *table.stems(chapters=False)]
    assert len(listed) == len(set(listed))
    assert set(listed) == stems
    assert table.stems(chapters=True) == [path.stem for path in CHAPTERS]


def test_a_line_counts_what_the_notebook_holds(tmp_path: Path) -> None:
    path = tmp_path / "excellent.ipynb"
    nbformat.write(excellent(), path)
    line = table.line(path, 61)
    assert (line.title, line.figures, line.exercises, line.seconds) == ("A chapter", 2, 4, 61)
    assert line.asserting == sum("assert" in cell.source for _, cell in code_cells(excellent()))
    (row,) = table.rows([line])
    assert row[0] == "{doc}`A chapter <excellent>`"
    assert row[4:] == [str(line.asserting), "61", "14", "14"]
    assert table.reasons([line]) == [r"A chapter: *14*: ran for 61 seconds\; 60 are allowed."]
    assert table.rows([line._replace(seconds=None, words=12345, verdicts=[])])[0][1] == "12,345"


def test_the_directive_writes_each_table(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tables = load_script(ROOT / "book" / "_ext" / "form_tables.py")
    path = tmp_path / "excellent.ipynb"
    nbformat.write(excellent(), path)
    monkeypatch.setattr(tables.table, "lines", lambda chapters: [table.line(path, 61 if chapters else 5)])
    chapters, others = tables.TABLES["chapters"](), tables.TABLES["others"]()
    assert {line.count("|") for line in chapters[:3]} == {len(table.HEADER) + 1}
    assert {line.count("|") for line in others[:3]} == {len(table.HEADER)}
    assert chapters[2].endswith("| 61 | 14 | 14 |")
    assert others[2].endswith("| 5 | 15 |")
    assert any(table.run_times()[0] in line for line in chapters)
    assert len(tables.TABLES["items"]()) == 15
    page = (ROOT / "book" / "about.md").read_text(encoding="utf-8")
    assert re.findall(r"^```\{chapters\} (\S+)", page, flags=re.M) == list(tables.TABLES)


@pytest.mark.browser
def test_the_page_links_every_notebook_with_its_run_time(site: Path) -> None:
    page = BeautifulSoup((site / "about.html").read_text(encoding="utf-8"), "html.parser")
    found = {}
    for row in page.select(".facts tbody tr"):
        cells = row.find_all("td")
        found[str(cells[0].a["href"]).removesuffix(".html")] = int(cells[table.HEADER.index("seconds")].get_text())
    assert found == table.run_times()[1]


# The run times -------------------------------------------------------------------------------------------------------


def test_run_times_are_kept_of_the_whole_book_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    kept = tmp_path / "run_times.json"
    for name in ("one", "two"):
        (tmp_path / f"{name}.ipynb").write_text(notebooks.dump(new_notebook()), encoding="utf-8")
    monkeypatch.setattr(notebooks, "BOOK", tmp_path)
    monkeypatch.setattr(notebooks, "RUN_TIMES", kept)
    monkeypatch.setattr(notebooks, "processor", lambda: "A processor (AVX2)")
    monkeypatch.setattr(notebooks, "run", lambda path, timeout: len(path.stem))
    assert notebooks.main([str(tmp_path / "one.ipynb")]) == notebooks.main(["--tidy"]) == 0
    assert not kept.exists()
    assert notebooks.main([]) == 0
    expected = {"cpu": "A processor (AVX2)", "seconds": {"one": 3, "two": 3}}
    assert json.loads(kept.read_text(encoding="utf-8")) == expected

    def fails(path: Path, timeout: int) -> int:
        if path.stem == "two":
            raise notebooks.NotebookError("it raised")
        return 99

    monkeypatch.setattr(notebooks, "run", fails)
    assert notebooks.main([]) == 1
    assert json.loads(kept.read_text(encoding="utf-8")) == expected, "the rest of a faulty book is not the book"
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".ipynb", ".ipynb", ".json"]


def test_the_processor_has_the_name_of_the_speed_files() -> None:
    from mnv3lib.provenance import made

    assert notebooks.processor() == made(None, threads=1)["cpu"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_page_says_how_long_it_takes(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    said = re.search(r"Reading: (\d+) minutes\. All cells together: about (\d+) seconds", prose(notebook))
    if said is not None:
        minutes, seconds = map(int, said.groups())
        measured = table.run_times()[1][path.stem]
        assert abs(minutes - reading.words(notebook) / reading.WORDS_A_MINUTE) <= 1, reading.words(notebook)
        assert abs(seconds - measured) <= max(5, 0.2 * measured), measured
