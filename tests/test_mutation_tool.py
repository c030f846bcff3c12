"""The tool behind `make mutants`: changes that can be noticed, tests that can, and no file of ours touched."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from scripts import load_script

ROOT = Path(__file__).resolve().parents[1]
TOOL = load_script(ROOT / "tools" / "mutants.py")


def test_annotations_and_layout_mean_nothing() -> None:
    source = "def f(a: int | None = 1) -> int | None:\n    b: int | str = a\n    return b\n"
    meaning = TOOL.meaning(source)
    assert meaning == TOOL.meaning(source.replace("|", "+").replace("= 1", "=  1"))
    assert meaning != TOOL.meaning(source.replace("= 1", "= 2"))


@pytest.mark.parametrize("room", sorted(TOOL.ROOMS))
def test_a_room_has_files_and_tests(room: str) -> None:
    described = TOOL.ROOMS[room]
    for patterns, folder in ((described.files, TOOL.LIBRARY), (described.tests, ROOT / "tests")):
        for pattern in patterns:
            assert TOOL.expanded([pattern], folder), pattern


@pytest.mark.slow
def test_a_sample_is_the_same_every_time_and_every_mutant_another(capsys: pytest.CaptureFixture[str]) -> None:
    first = TOOL.sample("cost", 8, 3)
    assert first == TOOL.sample("cost", 8, 3) != TOOL.sample("cost", 8, 4)
    capsys.readouterr()
    assert len(first) == len({mutant.text for mutant in first}) == 8
    source = TOOL.original("cost.py").read_text(encoding="utf-8")
    for mutant in first:
        assert TOOL.meaning(mutant.text) != TOOL.meaning(source)
        assert mutant.old != mutant.new
        assert mutant.line in TOOL.lines_of(mutant)


def test_a_decorator_that_goes_is_on_its_own_line() -> None:
    """Not on the empty line above it, or on a comment: no test reaches these, and all would seem to pass."""
    before = ["class A:", "    a = 1", "", "    # -- part --", "", "    @staticmethod", "    def f() -> None: ..."]
    line, old, new = TOOL._difference(before, [*before[:2], *before[6:]])
    assert (line, old.split()[-1], new) == (6, "@staticmethod", "")
    assert TOOL._difference(["a = 1", "b = 2"], ["a = 1", "b = 3"]) == (2, "b = 2", "b = 3")


def test_a_mutant_is_judged_by_the_tests_that_reach_it_the_shortest_first() -> None:
    source = TOOL.original("_checks.py").read_text(encoding="utf-8").splitlines()
    inside = next(number for number, line in enumerate(source, start=1) if "if value < 1:" in line)
    mutant = TOOL.Mutant("_checks.py", inside, "", "", "")
    lines = {"_checks.py": [inside]}
    reached = {"import": {"_checks.py": [1]}, "slow": lines, "fast": lines, "other": {}}
    control = TOOL.Outcome(0, [], [], [], "", {"slow": 2.0, "fast": 0.1, "other": 0.0}, reached)
    assert TOOL.telling(mutant, control) == ["fast", "slow"]
    control.lines["import"]["_checks.py"].append(inside)
    assert TOOL.telling(mutant, control) == ["other", "fast", "slow"]


def test_tests_that_did_not_run_kill_nothing() -> None:
    """Exit status 5: no test was collected."""
    with pytest.raises(AssertionError, match="did not run"):
        _ = TOOL.Outcome(5, [], [], [], "no tests ran").killed_by
    assert TOOL.Outcome(0, [], [], [], "").killed_by is None
    assert TOOL.Outcome(1, ["a::b"], [], [], "").killed_by == "a::b"
    assert TOOL.Outcome(-1, [], [], [], "", hung=True).killed_by


def test_an_import_that_ends_python_is_noticed(tmp_path: Path) -> None:
    """Pytest takes it for a fault of its own; other faults of pytest's kill nothing."""
    witness = TOOL.Witness(tmp_path, [], [])
    with pytest.raises(RuntimeError) as fault:
        raise RuntimeError
    witness.pytest_internalerror(fault)
    assert witness.errors == []
    with pytest.raises(SystemExit) as end:
        sys.exit(2)
    witness.pytest_internalerror(end)
    assert TOOL.Outcome(3, [], witness.errors, [], "").killed_by == "an import that ends Python"


def test_the_listed_equivalents_are_of_lines_that_are_there() -> None:
    for (file, old, _), why in TOOL.equivalents().items():
        text = " ".join(line.strip() for line in TOOL.original(file).read_text(encoding="utf-8").splitlines())
        assert old in text, f"{file}: {old}"
        assert len(why) > 10


@pytest.mark.slow
def test_mutants_are_killed_in_a_copy() -> None:
    files = {path: path.read_bytes() for path in TOOL.LIBRARY.rglob("*.py")}
    source = TOOL.original("_checks.py").read_text(encoding="utf-8")
    strict, loud = source.replace("if value < 0:", "if value < 1:"), source + "\nprint('loaded')\n"
    line = source[: source.index("if value < 0:")].count("\n") + 1
    mutants = [
        TOOL.Mutant("_checks.py", line, "if value < 0:", "if value < 1:", strict),
        TOOL.Mutant("_checks.py", 1, "", "print('loaded')", loud),
    ]
    tally = TOOL.judge(mutants, ["test_checks.py"])
    ((killed, by),) = tally.killed
    assert killed is mutants[0]
    assert by.startswith("tests/test_checks.py::test_the_ends_of_a_range_belong_to_it")
    assert tally.survived == mutants[1:]
    assert tally.rate == 0.5
    assert {path: path.read_bytes() for path in TOOL.LIBRARY.rglob("*.py")} == files
