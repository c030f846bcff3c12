"""Validating notebooks: nbval with drawings compared as drawings, and as other processors would run them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
from conftest import ROOT
from nbformat.v4 import new_code_cell, new_notebook, new_output
from scripts import load_script

validation = load_script(ROOT / "tools" / "validation.py")
portable = load_script(ROOT / "tools" / "portable.py")
tool = load_script(ROOT / "tools" / "notebooks.py")

DRAWING = '<p>One line.</p><svg><path d="M 10.123456 20.5 L 30.25 40.75" style="stroke: #0072b2"/></svg>'


def shown(html: str, kind: str = "text/html") -> str:
    """Return a cell that shows some HTML."""
    return f"from IPython.display import display\ndisplay({{{kind!r}: {html!r}, 'text/plain': 'words'}}, raw=True)"


def write(path: Path, *sources: str) -> Path:
    """Store and run a notebook of these cells."""
    path.write_text(tool.dump(new_notebook(cells=[new_code_cell(source) for source in sources])), encoding="utf-8")
    assert tool.main([str(path)]) == 0
    return path


@pytest.mark.slow
def test_nbval_compares_drawings_as_drawings_and_the_rest_to_the_letter(tmp_path: Path) -> None:
    changes = {
        "its last bits": (DRAWING.replace("123456", "123447"), True),
        "a pixel": (DRAWING.replace("10.123456", "11.123456"), False),
        "a colour": (DRAWING.replace("#0072b2", "#d55e00"), False),
        "a word beside it": (DRAWING.replace("One", "Two"), False),
        "a drawing less": (DRAWING.partition("<svg")[0], False),
    }
    kinds = ("text/html", "image/svg+xml")
    path = write(tmp_path / "drawings.ipynb", *(shown(DRAWING, kind) for kind in kinds for _ in changes))
    notebook = tool.read(path)
    new = [shown(html, kind) for kind in kinds for html, _ in changes.values()]
    for cell, source in zip(notebook.cells, new, strict=True):
        cell.source = source
    path.write_text(tool.dump(notebook), encoding="utf-8")
    folder = tmp_path / "run"
    folder.mkdir()
    said, status = validation.validate(path, folder)
    red = {int(number) for number in re.findall(r"^FAILED \S+::Cell (\d+)", said, flags=re.M)}
    assert red == {number for number, (_, same) in enumerate([*changes.values()] * 2) if not same}, said
    assert "drawing 1, top, path d: 'M 10.123456" in said
    assert status == 1


def test_a_drawing_that_is_the_same_takes_the_files_form_and_another_is_told() -> None:
    def output(html: str) -> object:
        return new_output("display_data", {"text/html": html, "text/plain": "words"})

    other = DRAWING.replace("123456", "123447")
    settled, told = validation.settle([output(other)], [output(DRAWING)])
    assert (settled[0]["data"]["text/html"], told) == (DRAWING, [])
    settled, told = validation.settle([output(DRAWING.replace("30.25", "30.5"))], [output(DRAWING)])
    assert len(told) == 1
    stream = new_output("stream", name="stdout", text="one\n")
    assert validation.settle([stream], [stream]) == ([stream], [])
    assert validation.settle([output(other)], [stream]) == ([output(other)], []), "nbval says that one is missing"


# As other processors would -------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_what_depends_on_the_setting_is_red_and_the_table_says_where(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    variable = "ATEN_CPU_CAPABILITY"
    monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(portable, "SETTINGS", {"same": {}, "other": {variable: "default"}})
    monkeypatch.setattr(portable, "listing", lambda settings: "")
    path = write(tmp_path / "kernels.ipynb", "import os", f"print(os.environ.get({variable!r}))", "print('always')")
    assert portable.main([str(path), "--setting", "same"]) == 0
    assert portable.main([str(path)]) == 1
    said = capsys.readouterr().out
    assert re.search(r"^kernels +· +1 red$", said, flags=re.M), said
    assert f"kernels, other, code cell 1 (print(os.environ.get('{variable}'))): - default | + None" in said


@pytest.mark.slow
def test_a_float_of_six_digits_is_red_where_the_kernels_differ(
    tmp_path: Path, elsewhere: Callable[[str], NoReturn]
) -> None:
    usual, other = (portable.probe(settings) for settings in (portable.threads(1), portable.SETTINGS["sse"]))
    if usual["matmul"] == other["matmul"]:
        elsewhere("this processor multiplies matrices alike under both settings")
    product = """import numpy, torch
a = torch.from_numpy(numpy.random.default_rng(0).standard_normal((200, 300))).float()
product = a @ a.T"""
    rest = "(product - product.round()).sum()"  # of 40,000 small numbers: what their last bits add up to
    path = write(tmp_path / "digits.ipynb", product, f"print(f'{{{rest}:.6g}}')", f"print(f'{{{rest}:.0f}}')")
    (red,) = portable.reds(path, portable.SETTINGS["sse"])
    assert red.cell == 1, "a whole number is not"


def test_there_are_settings_for_kernels_and_threads() -> None:
    settings = portable.SETTINGS
    assert len(settings) >= 4
    assert {"default", "avx2"} <= {s.get("ATEN_CPU_CAPABILITY") for s in settings.values()}
    assert {"SSE41", "AVX2", "AVX512_CORE"} <= {s.get("ONEDNN_MAX_CPU_ISA") for s in settings.values()}
    assert {"1", "2"} <= {s["OMP_NUM_THREADS"] for s in settings.values()}
    assert len({tuple(sorted(s.items())) for s in settings.values()}) == len(settings)


def test_a_setting_that_needs_a_compiler_is_left_out_aloud(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(portable.shutil, "which", lambda name: None)
    assert list(portable.prepared(["sse", "intel"], tmp_path)) == ["sse"]
    assert "intel: left out" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        portable.main(["--setting", "intel"])


@pytest.mark.parametrize(
    ("report", "told"),
    [
        (" differs: drawing 1: 'M 1' is now 'M 2'\n mismatch 'text/html'", "drawing 1: 'M 1' is now 'M 2'"),
        ("mismatch 'stdout'\n\n  Skipping 3 identical\n  - 0.01\n  ?   ^\n  + 0.02\n", "- 0.01 | + 0.02"),
        ("Traceback:\n\x1b[31mAssertionError\x1b[39m: too far\n\n", "AssertionError: too far"),
        ("Missing output fields from running code: {'a'}\n", "Missing output fields from running code: {'a'}"),
        ("something\nelse", "else"),
    ],
)
def test_the_first_difference_is_told_in_a_line(report: str, told: str) -> None:
    assert portable.first_difference(report) == told


def test_a_notebook_that_cannot_be_run_is_red(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "n.ipynb"
    path.write_text(tool.dump(new_notebook(cells=[new_code_cell("1")])), encoding="utf-8")
    monkeypatch.setattr(portable, "validate", lambda *_: ("no\nmemory", 1))
    assert [red.difference for red in portable.reds(path, {})] == ["did not run: memory"]


def report(cases: str) -> Callable[..., tuple[str, int]]:
    """Return a validation that leaves a report of these cases."""

    def validate(path: Path, folder: Path, settings: object, extra: tuple[str]) -> tuple[str, int]:
        (folder / "report.xml").write_text(f"<testsuites><testsuite>{cases}</testsuite></testsuites>", encoding="utf-8")
        return "", 0

    return validate


@pytest.mark.parametrize(
    ("cases", "number"),
    [
        ('<testcase name="Cell 0"/><testcase name="Cell 1"/>', 0),
        ('<testcase name="Cell 0"/>', 1),
        ('<testcase name="Cell 0"/><testcase name="Cell 1"><skipped message="xfail"/></testcase>', 1),
        ('<testcase name="Cell 0"/><testcase name="Cell 1"><failure message="no">E</failure></testcase>', 1),
    ],
)
def test_only_cells_that_passed_are_green(
    cases: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "n.ipynb"
    path.write_text(tool.dump(new_notebook(cells=[new_code_cell("1"), new_code_cell("2")])), encoding="utf-8")
    monkeypatch.setattr(portable, "validate", report(cases))
    assert len(portable.reds(path, {})) == number
