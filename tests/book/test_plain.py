"""The plain edition: readable where MyST is not known, and the same chapter."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup
from conftest import ROOT
from nbconvert import HTMLExporter, MarkdownExporter
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from scripts import load_script

plain = load_script(ROOT / "tools" / "plain.py")
BOOK, PLAIN = ROOT / "book", ROOT / "book" / "plain"
EDITION = sorted(PLAIN.glob("*.ipynb"))
each_notebook = pytest.mark.parametrize("path", EDITION, ids=lambda path: path.stem)
#: Roles, fences of directives, options, targets and labels of equations.
RAW = re.compile(
    r"\{[a-z][\w:-]*\}`|^[`:]{3,} ?\{|^:::|^:[a-z-]+:(?: |$)|^\([\w-]+\)=|\$\$ \([\w-]+\)|(?:^|\s)%s(?:\s|$)",
    flags=re.M,
)


def raw_markup(text: str) -> list[str]:
    """Return what only MyST understands."""
    return [text[max(0, m.start() - 20) : m.end() + 40] for m in RAW.finditer(text)]


def prose(notebook: nbformat.NotebookNode) -> str:
    return "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def test_it_is_up_to_date() -> None:
    assert plain.outdated() == []
    assert len(EDITION) == len(list(BOOK.glob("*.ipynb"))) > 10


@pytest.mark.parametrize(
    "text",
    [
        "{term}`row`",
        "{cite:p}`hu`",
        "```{note}\nx\n```",
        ":::{dropdown} A\n:::",
        ":label: x",
        "(belief-1)=\n# A",
        "$$ (eq-a)",
    ],
)
def test_raw_markup_is_recognised(text: str) -> None:
    assert raw_markup(f"Before\n\n{text}\n")


@each_notebook
@pytest.mark.slow
def test_plain_nbconvert_shows_no_raw_markup(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    assert raw_markup(prose(notebook)) == []
    page = BeautifulSoup(HTMLExporter(embed_images=False).from_notebook_node(notebook)[0], "html.parser")
    for code in page.select("pre, style, script, .jp-OutputArea"):
        code.decompose()
    shown = page.get_text()
    assert raw_markup(shown) == []
    assert "{solution" not in shown
    markdown, _ = MarkdownExporter().from_notebook_node(notebook)
    assert raw_markup(re.sub(r"^```.*?^```|^    .*$", "", markdown, flags=re.M | re.S)) == []


@each_notebook
def test_pictures_are_png_with_words_and_captions_stand_below(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    for place, cell in enumerate(notebook.cells):
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            assert "image/svg+xml" not in data
            assert "<svg" not in data.get("text/html", "")
            assert "data-state" not in data.get("text/html", "")
            if "image/png" in data:
                assert len(output.metadata.get("image/png", {}).get("alt", "")) >= 30, place
    chapter = nbformat.read(BOOK / path.name, as_version=4)
    captions = [c for c in chapter.cells if c.metadata.get("mystnb", {}).get("figure", {}).get("name")]
    numbers = re.findall(r"^\*\*Fig\. ([\d.]+)\.\*\* \S", prose(notebook), flags=re.M)
    number = re.match(r"(\d\d)_", path.name)
    before = f"{int(number[1])}." if number else ""
    assert numbers == [f"{before}{n}" for n in range(1, len(captions) + 1)]


@each_notebook
def test_the_code_is_the_chapters(path: Path) -> None:
    ours, theirs = (
        [cell for cell in nbformat.read(p, as_version=4).cells if cell.cell_type == "code"]
        for p in (path, BOOK / path.name)
    )
    assert [re.sub(r"^# @title .*\n", "", cell.source) for cell in ours] == [cell.source for cell in theirs]


@each_notebook
def test_solutions_are_folded_and_links_lead_somewhere(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    titled = [cell for cell in notebook.cells if cell.source.startswith("# @title Solution\n")]
    assert titled or not re.match(r"(?!00)\d\d_", path.stem)
    for cell in titled:
        assert cell.metadata.cellView == "form"
        assert cell.metadata.jupyter == {"source_hidden": True, "outputs_hidden": True}
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", prose(notebook)):
        assert re.match(r"https?://", target) or (PLAIN / target).is_file(), target


@each_notebook
def test_it_begins_with_what_to_do_if_it_cannot_install(path: Path) -> None:
    note, first = nbformat.read(path, as_version=4).cells[:2]
    assert re.search(r"if it cannot install the book, clone https://\S+ and run `make lab` in it\.$", note.source)
    assert first.source == plain.notebooks.first_cell()


def test_every_kind_of_markup_has_its_plain_form() -> None:
    source = (
        "# 5 · Configs\n\n```{admonition} Predict first\n:class: tip\n"
        "Think of a {term}`maps <map>`, {ref}`Fig. 5.1 <fig-05-a>` and {eq}`eq-05-b`.\n```\n\n"
        "$$\nx = 1\n$$ (eq-05-b)\n\n"
        ":::{dropdown} Answer\nSee {doc}`05_configs` and {cite:p}`howard2019searching`.\n:::\n"
    )
    figure = new_code_cell("draw()", metadata={"mystnb": {"figure": {"name": "fig-05-a", "caption": "A {term}`row`."}}})
    figure.outputs = [
        new_output("display_data", {"image/svg+xml": "<svg/>", "image/png": "AAAA", "text/plain": "words"})
    ]
    made = plain.edition(new_notebook(cells=[new_markdown_cell(source), figure]), "05_configs")
    text = made.cells[1].source
    assert text.startswith("# 5 · Configs\n\n> **Predict first**\n>\n> Think of a maps, Fig. 5.1 and (5.1).")
    assert "$$\nx = 1\n\\tag{5.1}\n$$" in text
    assert "<details><summary>Answer</summary>" in text
    assert re.search(r"\[[^\]]+\]\(05_configs\.ipynb\) and \(\[Howard et al\., 2019\]\(https?://", text)
    assert set(made.cells[2].outputs[0].data) == {"image/png", "text/plain"}
    assert made.cells[3].source == "**Fig. 5.1.** A row."


@pytest.mark.parametrize("text", ["{unheard}`of`", "```{unheard} of\n```"])
def test_markup_without_a_plain_form_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="unheard"):
        plain.edition(new_notebook(cells=[new_markdown_cell(text)]), "05_configs")


@each_notebook
def test_every_link_to_a_label_leads_to_it(path: Path) -> None:
    text = "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown")
    for page, label in re.findall(r"\]\((\w+\.ipynb)?#([\w-]+)\)", text):
        there = path if not page else path.parent / page
        assert f'<a id=\\"{label}\\"></a>' in there.read_text(encoding="utf-8"), f"{page}#{label}"
