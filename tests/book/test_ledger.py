"""The proof ledger keeps its promises: nothing beyond a tolerance, nothing unsaid, nothing stale."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import ledger
import pytest
import torch

TESTS = Path(__file__).resolve().parents[1]
ROOT = TESTS.parent
CONFTEST = """
from pathlib import Path
import ledger
from ledger import deviation, elsewhere

ledger.FILE = Path(__file__).parent / "_data" / "ledger.json"

def pytest_addoption(parser):
    parser.addoption("--write-ledger", action="store_true")

def pytest_configure(config):
    config.addinivalue_line("markers", "proves(claim, against, tolerance, unit): x")
    ledger.configure(config)
"""
HEAD = "import pytest\nSAYS = dict(against='that', tolerance=1e-3, unit='absolute')\n\n"
GOOD = (
    HEAD
    + """@pytest.mark.proves("this", **SAYS)
@pytest.mark.parametrize("value", [0.0, 5e-4])
def test_it(value, deviation):
    deviation(value)
    deviation(value / 2)
"""
)


def run(folder: Path, text: str, *options: str) -> tuple[int, str]:
    """Run tests of the given text in a folder of their own, with a ledger of their own."""
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "test_x.py").write_text(text)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    environment |= {"PYTHONPATH": str(TESTS), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(folder), *options]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


@pytest.mark.slow
def test_what_is_written_is_what_was_noted_and_then_holds(tmp_path: Path) -> None:
    status, said = run(tmp_path, GOOD, "--write-ledger")
    assert status == 0, said
    (entry,) = json.loads((tmp_path / "_data" / "ledger.json").read_text())["proofs"]
    about = {"claim": "this", "against": "that", "tolerance": 1e-3, "unit": "absolute"}
    assert entry == {**about, "worst": 5e-4, "cases": 4, "test": "test_x.py::test_it"}
    assert run(tmp_path, GOOD)[0] == 0
    assert run(tmp_path, GOOD.replace("5e-4", "4e-4"))[0] == 0, "another small deviation is no news"
    assert run(tmp_path, GOOD, "-k", "0.0")[0] == 0, "a part of the tests is compared as far as it goes"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("'this'", "'this'", None),
        ('"this"', '"these"', "not on the page: test_x.py::test_it, these"),
        ("1e-3", "1e-2", "tolerance was 0.001, is 0.01"),
        ("[0.0, 5e-4]", "[0.0]", "cases was 4, is 2"),
        ("def test_it", "def test_that", "on the page, but no test notes it: test_x.py::test_it, this"),
    ],
)
def test_a_stale_page_fails_the_run(tmp_path: Path, old: str, new: str, words: str | None) -> None:
    assert run(tmp_path, GOOD, "--write-ledger")[0] == 0
    status, said = run(tmp_path, GOOD.replace(old, new))
    assert status == (1 if words else 0), said
    assert (words or "") in said


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (GOOD.replace("5e-4", "5e-3"), "0.005 is beyond the tolerance of 0.001"),
        (GOOD.replace("5e-4", "float('nan')"), "nan is beyond the tolerance"),
        (HEAD + "def test_it(deviation):\n    deviation(0)\n", "says what it proves"),
        (HEAD + "@pytest.mark.proves('this', **SAYS)\ndef test_it(deviation):\n    pass\n", "noted nothing"),
        (GOOD.replace("unit='absolute'", "unit='metres'"), "unit must be one of"),
        (GOOD.replace("against='that', ", ""), "takes against, tolerance and unit"),
        (GOOD + "\n@pytest.mark.skip\ndef test_more():\n    pass\n", "not written: that takes a whole run"),
    ],
)
def test_nothing_is_written_of_a_run_with_a_fault(tmp_path: Path, text: str, words: str) -> None:
    status, said = run(tmp_path, text, "--write-ledger")
    assert status == 1, said
    assert words in said
    assert not (tmp_path / "_data").exists()


ELSEWHERE = """
@pytest.mark.proves('half', **SAYS)
def test_half(deviation, elsewhere):
    if {lacking}:
        elsewhere('this processor has no such number')
    deviation(0)
"""


@pytest.mark.slow
def test_what_this_processor_cannot_run_keeps_its_line(tmp_path: Path) -> None:
    both, one = (GOOD + ELSEWHERE.format(lacking=lacking) for lacking in (False, True))
    assert run(tmp_path, both, "--write-ledger")[0] == 0
    written = (tmp_path / "_data" / "ledger.json").read_text()
    assert run(tmp_path, one)[0] == 0
    assert run(tmp_path, one, "--write-ledger")[0] == 0
    assert (tmp_path / "_data" / "ledger.json").read_text() == written
    status, said = run(tmp_path, one.replace("[0.0, 5e-4]", "[0.0]"))
    assert status == 1, "the others are compared as ever"
    assert "cases was 4, is 2" in said


@pytest.mark.slow
def test_a_run_can_be_kept_as_junit_xml(tmp_path: Path) -> None:
    """With the settings of this repository, what a test records is a property of it, and no error."""
    (tmp_path / "test_x.py").write_text("def test_it(record_property):\n    record_property('measured', '3 images')\n")
    command = ["-c", str(ROOT / "pyproject.toml"), "--rootdir", str(tmp_path), "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *command, f"--junitxml={tmp_path / 'run.xml'}", str(tmp_path / "test_x.py")],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert '<property name="measured" value="3 images"' in (tmp_path / "run.xml").read_text(encoding="utf-8")


def test_the_worst_difference() -> None:
    a = torch.tensor([1.0, 2.0])
    assert ledger.worst(a, a) == 0
    assert ledger.worst(a, a + torch.tensor([0.0, 0.5])) == 0.5
    for other in (a.double(), a[:1], torch.tensor([1.0, float("nan")])):
        assert ledger.worst(a, other) == float("inf")
    assert ledger.worst_of({"x": a, "y": a}, {"x": a, "y": a - 3}) == 3
    assert ledger.worst_of({"x": a}, {"y": a}) == float("inf")


def entries() -> dict[str, list[dict[str, Any]]]:
    return json.loads(ledger.FILE.read_text(encoding="utf-8"))


def test_the_page_has_all_its_tables(request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--write-ledger"):
        return  # about to be written anew
    kept = entries()
    assert len(kept["proofs"]) >= 18
    assert len(kept["mutants"]) >= 30
    assert len(kept["disagreements"]) >= 12
    assert all(entry["worst"] <= entry["tolerance"] for entry in kept["proofs"])
    assert all(row["caught_by"] for row in kept["mutants"])
