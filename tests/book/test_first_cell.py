"""The first cell of a notebook: what a copy of it elsewhere does to find the book, and what it says if it cannot."""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path

import nbformat
import pytest
from conftest import ROOT
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat.v4 import new_code_cell, new_notebook
from scripts import load_script

tool = load_script(ROOT / "tools" / "notebooks.py")
BOOK = ROOT / "book"


def run(folder: Path, address: str, monkeypatch: pytest.MonkeyPatch) -> list[nbformat.NotebookNode]:
    """Run the cell and one after it in a folder, with another address; return both."""
    monkeypatch.delenv("PYTHONPATH", raising=False)
    source = tool.first_cell().replace('BOOK = "', f'BOOK = "{address}"  # "', 1)
    assert source != tool.first_cell()
    notebook = new_notebook(
        cells=[new_code_cell(source), new_code_cell("import os\nimport figures\nprint(os.getcwd())")]
    )
    client = NotebookClient(notebook, kernel_name="python3", resources={"metadata": {"path": str(folder)}}, timeout=120)
    with contextlib.suppress(CellExecutionError):
        client.execute()
    return notebook.cells


def test_every_chapter_begins_with_it() -> None:
    cells = [nbformat.read(path, as_version=4).cells[0] for path in sorted(BOOK.glob("*.ipynb"))]
    assert len(cells) > 10
    assert {cell.source for cell in cells} == {tool.first_cell()}
    assert {tuple(cell.metadata.tags) for cell in cells} == {("remove-cell",)}


@pytest.mark.slow
def test_an_address_that_is_not_there_is_one_sentence_and_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = (tmp_path / "nobody" / "book").as_uri()
    first, second = run(tmp_path, address, monkeypatch)
    (output,) = first.outputs
    assert output.output_type == "error"
    said = f"The book could not be fetched from {address}. Run the notebook in a clone of the book instead."
    assert output.traceback == [said]
    assert second.execution_count is None, "no later cell runs"


@pytest.mark.slow
def test_a_copy_fetches_the_book_and_works_in_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    origin, away = tmp_path / "origin" / "some-book", tmp_path / "away"
    (origin / "book" / "figures").mkdir(parents=True)
    away.mkdir()
    (origin / "book" / "figures" / "__init__.py").write_text("", encoding="utf-8")
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@y", "-C", str(origin)]
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "one"]):
        subprocess.run([*git, *command], check=True, capture_output=True)
    for _ in range(2):  # the second time the clone is there
        first, second = run(away, origin.as_uri(), monkeypatch)
        assert first.outputs == []
        assert second.outputs[0].text.strip() == str(away / "some-book" / "book")


@pytest.mark.slow
def test_in_a_folder_below_the_book_it_goes_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "book" / "figures").mkdir(parents=True)
    (tmp_path / "book" / "figures" / "__init__.py").write_text("", encoding="utf-8")
    below = tmp_path / "book" / "plain"
    below.mkdir()
    _, second = run(below, "file:///nowhere", monkeypatch)
    assert second.outputs[0].text.strip() == str(tmp_path / "book")
