"""Every number in the prose is declared: printed by a checked cell of that notebook, or held by the fact data.

Looked at are numerals of three or more digits, numbers with a decimal point, percentages and numbers with a unit, in
Markdown cells, captions and pages. Numbers that the prose works out by hand are printed by a cell tagged
``remove-cell`` at the end of the chapter, so that nbval checks them with the rest.
"""

from __future__ import annotations

import re
from decimal import Decimal
from importlib.resources import files
from pathlib import Path

import nbformat
import pytest
from conftest import ROOT
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

NOTEBOOKS = sorted((ROOT / "book").glob("*.ipynb"))

NUMBER = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?(?:e[-−]?\d+)?"
UNIT = (
    r"(?:\s|\u202f|-)?(?:%|per cent|million|thousand|[MGk]B\b|M\b|ms\b|seconds?|minutes?|points?\b|times\b|pixels|px\b|"
    r"channels|parameters|multiply-adds|rows)"
)
#: Names, not quantities: "Table 9", "Section 6.2", "version 5", "Python 3.11", "chapter 05".
LABEL = r"(?:Table|Tables|Section|Sections|Figure|Fig\.|Part|[Vv]ersion|Python|[Cc]hapter|Equation|issue|request)\s*"

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
    "api.md": {},
    "changelog.md": {},
    "glossary.md": {},
    "proof_ledger.md": {},
    "reference.md": {},
    "references.md": {},
}


def value(text: str) -> Decimal:
    """A numeral as a number, so that 1.00 is 1 and 2,542,856 is 2542856."""
    return Decimal(text.replace(",", "").replace("−", "-")).normalize()


def numbers(text: str) -> set[Decimal]:
    """All numbers of a text; its digits may be grouped by commas or narrow spaces."""
    return {value(found) for found in re.findall(NUMBER, text.replace("\u202f", ""))}


def plain(markdown: str) -> str:
    """Markdown without code, directives' first lines, roles' names, addresses and labels."""
    text = re.sub(r"```\{code-cell\}.*?```", " ", markdown, flags=re.DOTALL)
    text = re.sub(r"^(?:```|:::)+.*$|^:[\w-]+:.*$", " ", text, flags=re.MULTILINE)
    text = re.sub(r"\{[\w:]+\}`[^`]*`|`[^`]*`", " ", text)
    text = re.sub(r"\]\([^)]*\)|https?://\S+|<[^>]*>", " ", text)
    return re.sub(LABEL + r"\d+(?:\.\d+)*(?:(?:,| and| to)\s\d+(?:\.\d+)*)*", " ", text)


#: What stands behind a number that is a count rounded, and the power of ten that it stands for.
SCALES = {"thousand": 3, "million": 6, "M": 6, "MB": 6, "billion": 9, "G": 9, "GB": 9}


def is_rounded(text: str, after: str, counts: set[int]) -> bool:
    """Whether a number and the unit after it are one of the counts, rounded: 216.6 million is 216,589,760."""
    unit = re.match(r"[\s\u202f-]*([A-Za-z]+)", after)
    if unit is None or unit[1] not in SCALES:
        return False
    said = Decimal(text.replace(",", ""))
    return any(Decimal(count).scaleb(-SCALES[unit[1]]).quantize(said) == said for count in counts)


def claims(markdown: str, counts: set[int] | None = None) -> list[tuple[Decimal, str]]:
    """The numbers that need a source, each with the words around it; not those that are one of the counts, rounded."""
    text = plain(markdown)
    found = []
    for match in re.finditer(rf"(?<![\w.])({NUMBER})({UNIT})?", text):
        number = match[1]
        if is_rounded(number, text[match.end(1) :], counts or set()):
            continue
        if match[2] or "." in number or "," in number or len(number) >= 3:
            around = text[max(0, match.start() - 30) : match.end() + 20].replace("\n", " ")
            found.append((value(number), around))
    return found


def output_text(notebook: NotebookNode) -> str:
    """What checked cells print and show."""
    parts = []
    for cell in notebook.cells:
        if cell.cell_type != "code" or "nbval-ignore-output" in cell.metadata.get("tags", []):
            continue
        for output in cell.outputs:
            data = output.get("data", {})
            parts += [output.get("text", ""), data.get("text/plain", "")]
            # Of a drawing only its words count: coordinates are not claims.
            for kind in ("text/html", "image/svg+xml"):
                said = re.findall(r'(?:\b(?:aria-label|alt)="([^"]*)"|>([^<]+)<)', data.get(kind, ""))
                parts.append(" ".join(label or text for label, text in said))
    return "\n".join(parts)


def prose(notebook: NotebookNode) -> str:
    """Markdown cells and captions."""
    parts = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
        else:
            parts.append(cell.metadata.get("mystnb", {}).get("figure", {}).get("caption", ""))
    return "\n\n".join(parts)


def fact_numbers() -> set[Decimal]:
    return numbers(files("mnv3lib").joinpath("facts.yaml").read_text(encoding="utf-8"))


#: Reading and run times stand in one line at the head of a chapter; test_notebooks.py prints what it measured.
TIMES = re.compile(r"^Reading: \d+ minutes\. All cells together: about \d+ seconds.*$", re.MULTILINE)


def undeclared(notebook: NotebookNode) -> list[str]:
    """Numbers of the prose that no checked cell prints and no fact holds."""
    printed = numbers(output_text(notebook))
    known, counts = printed | fact_numbers(), {int(number) for number in printed if number == int(number) >= 1000}
    return [around for number, around in claims(TIMES.sub("", prose(notebook)), counts) if number not in known]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_number_in_a_chapter_is_declared(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    expected = 20 if path.stem[:2].isdigit() else 10
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
