"""Every number in the prose is declared: printed by a checked cell of that notebook, or held by the fact data.

The search for numbers is tools/form/prose.py; here it looks at the book, and at sentences made for it.
"""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from conftest import ROOT
from form.prose import claims, fact_numbers, prose, undeclared, value
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

NOTEBOOKS = sorted((ROOT / "book").glob("*.ipynb"))

#: What pages without cells may say, and why. A page's numbers have no cell that could print them.
PAGES = {
    "index.md": {
        "0.5": "a stop of the explorer",
        "1": "a stop of the explorer",
        "160": "a stop of the explorer",
        "224": "a stop of the explorer",
        "0.75": "a stop of the explorer",
        "7": "size of .venv in GB, measured when requirements.txt was pinned",
        "20": "reading time in minutes, as the chapters print it",
    },
    "about.md": {"4.0": "the version of a licence", "2.0": "the version of a licence"},
    "api.md": {},
    "changelog.md": {},
    "glossary.md": {},
    "proof_ledger.md": {},
    "reference.md": {},
    "references.md": {},
}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_number_in_a_chapter_is_declared(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    expected = 15 if path.stem[:2].isdigit() else 2
    assert len(claims(prose(notebook))) > expected, "the search for numbers finds too few"
    assert undeclared(notebook) == []


@pytest.mark.parametrize("path", sorted((ROOT / "book").glob("*.md")), ids=lambda path: path.stem)
def test_every_number_on_a_page_is_declared(path: Path) -> None:
    known = {value(number) for number in PAGES[path.name]} | fact_numbers()
    assert [around for number, around in claims(path.read_text(encoding="utf-8")) if number not in known] == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("It takes 56.5 million.", ["56.5"]),
        ("It takes 2,542,856 parameters in 11 rows.", ["2542856", "11"]),
        ("Three of 15, in 2 steps.", []),
        ("At 64 % and 3 per cent.", ["64", "3"]),
        ("See Table 9, Section 6.2 and `width_mult=0.5`, {numref}`fig-05-map`.", []),
        ("[pull](https://example.org/3366) $28^2 = 784$", ["784"]),
        ("a 224×224 image", ["224", "224"]),
    ],
)
def test_claims_are_found(text: str, found: list[str]) -> None:
    assert [number for number, _ in claims(text)] == [value(number) for number in found]


@pytest.mark.parametrize(
    ("text", "declared"),
    [
        ("It takes 314.2 million.", True),
        ("It takes 314.16 million, or 314 M.", True),
        ("It takes 0.3142 billion, 314,159 thousand.", True),
        ("It takes 314.1 million.", False),
        ("It takes 314.2 thousand.", False),
        ("It takes 314.2 of them.", False),
        ("It takes 314.2 seconds.", False),
    ],
)
def test_a_count_may_be_rounded_to_millions(text: str, declared: bool) -> None:
    cell = new_code_cell("show()", outputs=[new_output("stream", text="314,159,265 of 12.5\n")])
    assert (undeclared(new_notebook(cells=[new_markdown_cell(text), cell])) == []) is declared


@pytest.mark.parametrize(
    ("printed", "tags", "declared"),
    [
        ("987.5 M", [], True),
        ("987.6 M", [], False),
        ("987.5 M", ["nbval-ignore-output"], False),
        ("", [], False),
    ],
)
def test_a_number_counts_as_declared_only_if_a_checked_cell_prints_it(
    printed: str, tags: list[str], declared: bool
) -> None:
    cell = new_code_cell("show()", outputs=[new_output("stream", text=printed)], metadata={"tags": tags})
    notebook = new_notebook(cells=[new_markdown_cell("It takes 987.5 million."), cell])
    assert (undeclared(notebook) == []) is declared
