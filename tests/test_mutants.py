"""Would the tests notice? Canonical mistakes are made in a copy of the library, and each must turn a test red.

A mistake is one replacement of text that occurs exactly once, so that a change of the library cannot disarm it
unnoticed. ``tools/mutants.py`` runs the quick tests that each names against the copy, until one fails; the table goes
to the proof ledger.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mistakes import MISTAKES, Mistake
from scripts import load_script

TOOL = load_script(Path(__file__).resolve().parents[1] / "tools" / "mutants.py")
QUICK = ("sigmoid as the gate", "nearest multiple of 8 without the 90 % rule")

Try = Callable[[Mistake], str | None]


def changed(mistake: Mistake) -> str:
    """The file with the mistake in it."""
    text = TOOL.original(mistake.file).read_text(encoding="utf-8")
    assert text.count(mistake.old) == 1
    return text.replace(mistake.old, mistake.new)


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., object]]:
    """Runs tests against copies of the library."""
    try:
        runner = TOOL.Runner(tmp_path_factory.mktemp("copies"))
    except NotImplementedError as error:
        pytest.skip(str(error))
    yield runner
    runner.close()


@pytest.fixture(scope="module")
def caught_by(runner: Callable[..., object]) -> Try:
    """The test that a mistake turns red, e.g. "test_parity.py::test_gate_is_hard"; None if none of its tests is."""

    def run(mistake: Mistake) -> str | None:
        outcome = runner({mistake.file: changed(mistake)}, mistake.tests)
        assert not outcome.errors, f"broken, not wrong:\n{outcome.log}"
        by = outcome.killed_by
        return by and by.partition("/")[2].partition("[")[0]

    return run


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
def test_mistakes_fit_the_library(mistake: Mistake) -> None:
    compile(changed(mistake), mistake.file, "exec")


def test_names_differ_and_every_room_has_its_mistakes() -> None:
    assert len({mistake.name for mistake in MISTAKES}) == len(MISTAKES) >= 80
    assert set(QUICK) <= {mistake.name for mistake in MISTAKES}
    rooms = {mistake.file.partition("/")[0] for mistake in MISTAKES}
    torch_free = {"rows.py", "_scaling.py", "_walk.py", "recipe"}
    assert rooms >= torch_free | {"blocks.py", "network.py", "data", "training", "weights", "explore", "figures"}


@pytest.mark.slow
@pytest.mark.parametrize("name", QUICK)
def test_two_mistakes_are_caught(name: str, caught_by: Try) -> None:
    (mistake,) = [mistake for mistake in MISTAKES if mistake.name == name]
    assert caught_by(mistake)


@pytest.mark.slow
def test_every_mistake_is_caught(
    runner: Callable[..., object], caught_by: Try, record_property: Callable[[str, object], None]
) -> None:
    control = runner({}, sorted({test for mistake in MISTAKES for test in mistake.tests}))
    assert control.status == 0, control.log
    table = [{"mistake": mistake.name, "file": mistake.file, "caught_by": caught_by(mistake)} for mistake in MISTAKES]
    record_property("mutants", table)
    assert [row["mistake"] for row in table if row["caught_by"] is None] == []
