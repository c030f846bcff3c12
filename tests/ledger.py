"""The proof ledger: what the tests prove, against what, how exactly, and how far off the worst case was.

A test says what it proves with ``@pytest.mark.proves(claim, against=…, tolerance=…)`` and notes every deviation that it
measures with the fixture ``deviation``, which fails beyond the tolerance. ``pytest --write-ledger`` (``make ledger``)
keeps what a whole run noted in ``book/_data/ledger.json``, which the page is made from; every other run compares, and
fails if the page says something else. What this processor cannot run keeps the line that another one wrote.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

FILE = Path(__file__).resolve().parent.parent / "book" / "_data" / "ledger.json"
UNITS = ("absolute", "relative to the spread", "relative to the largest", "count")


class Deviation:
    """Collects the deviations of one test."""

    def __init__(self, tolerance: float) -> None:
        self.tolerance = tolerance
        self.noted: list[float] = []

    def __call__(self, value: float) -> None:
        value = float(value)
        self.noted.append(value)
        assert value <= self.tolerance, f"{value:g} is beyond the tolerance of {self.tolerance:g}"


@pytest.fixture
def deviation(request: pytest.FixtureRequest) -> Iterator[Deviation]:
    """Note a deviation of what the test proves: ``deviation(worst)``."""
    marks = list(request.node.iter_markers("proves"))
    if not marks:
        pytest.fail("a test that notes deviations says what it proves: @pytest.mark.proves(…)", pytrace=False)
    mark = marks[0]
    (claim,), about = mark.args, mark.kwargs
    assert set(about) == {"against", "tolerance", "unit"}, f"proves(…) takes against, tolerance and unit, got {about}"
    assert about["unit"] in UNITS, f"unit must be one of {UNITS}, got {about['unit']!r}"
    collected = Deviation(about["tolerance"])
    yield collected
    if left_out(request.node):
        return
    if not collected.noted:
        pytest.fail(f"noted nothing of what it proves: {claim}", pytrace=False)
    entry = {"claim": claim, **about, "worst": max(collected.noted), "cases": len(collected.noted)}
    request.node.user_properties.append(("proof", entry))


@pytest.fixture
def elsewhere(request: pytest.FixtureRequest) -> Callable[[str], NoReturn]:
    """Leave a test to processors that have what it tests: ``elsewhere("no bfloat16")``. The page keeps its line."""

    def leave(reason: str) -> NoReturn:
        request.node.user_properties.append(("elsewhere", reason))
        pytest.skip(reason)

    return leave


def left_out(test: Any) -> bool:
    """Whether a test, or what is reported of it, was left to another processor."""
    return any(name == "elsewhere" for name, _ in test.user_properties)


def rows(reports: list[Any]) -> dict[str, list[dict[str, Any]]]:
    """What the reports noted: proofs joined over the parameters of a test, the other tables as they came."""
    proofs: dict[tuple[str, str], dict[str, Any]] = {}
    found: dict[str, list[dict[str, Any]]] = {"mutants": [], "disagreements": []}
    for report in reports:
        test = test_of(report)
        for name, value in report.user_properties:
            if name == "proof":
                first = {**value, "test": test}
                entry = proofs.setdefault((test, value["claim"]), {**first, "cases": 0})
                entry["worst"] = max(entry["worst"], value["worst"])
                entry["cases"] += value["cases"]
            elif name in found:
                found[name] += value
    return {"proofs": in_order(proofs.values()), **found}


def in_order(proofs: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """As the page's file has them."""
    return sorted(proofs, key=lambda entry: (entry["test"].partition("::")[0], entry["claim"]))


def test_of(report: Any) -> str:
    """File and function."""
    name: str = report.nodeid.rpartition("/")[2].partition("[")[0]
    return name


def comparable(entry: dict[str, Any]) -> dict[str, Any]:
    """An entry without what differs between processors: the deviation, which is within its tolerance anyway."""
    return {name: value for name, value in entry.items() if name != "worst"}


def differences(kept: dict[str, Any], fresh: dict[str, Any], *, whole: bool) -> list[str]:
    """In words, what the page says otherwise than this run; of a part of the tests only what it ran."""
    found = []
    for table, identity in (("proofs", ("test", "claim")), ("mutants", ("mistake",)), ("disagreements", ("what",))):
        old = {tuple(entry[key] for key in identity): comparable(entry) for entry in kept.get(table, [])}
        new = {tuple(entry[key] for key in identity): comparable(entry) for entry in fresh[table]}
        for key, entry in new.items():
            if key not in old:
                found.append(f"not on the page: {', '.join(key)}")
            else:
                changed = [name for name in entry if entry[name] != old[key].get(name)]
                # Of a test that ran in part there are fewer cases.
                changed = changed if whole else [name for name in changed if name != "cases"]
                found += [f"{', '.join(key)}: {n} was {old[key].get(n)!r}, is {entry[n]!r}" for n in changed]
        if whole:
            found += [f"on the page, but no test notes it: {', '.join(key)}" for key in old if key not in new]
    return found


class Ledger:
    """Gathers what the tests of a run noted; in a run over several processes, in the one that has all reports."""

    def __init__(self, write: bool, whole: bool) -> None:
        self.write = write
        self.whole = whole
        self.reports: list[Any] = []
        self.complete = True
        self.left_out: set[str] = set()  # tests that need another processor
        self.lines: list[str] = []

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.when == "teardown":
            self.reports.append(report)
        if report.skipped and left_out(report):
            self.left_out.add(test_of(report))
        else:
            self.complete = self.complete and report.passed

    def elsewhere(self, table: dict[str, Any], wanted: bool) -> list[dict[str, Any]]:
        """The proofs that take another processor, or those that do not."""
        return [entry for entry in table.get("proofs", []) if (entry["test"] in self.left_out) == wanted]

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        fresh = rows(self.reports)
        kept = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
        if self.write:
            if exitstatus or not self.whole or not self.complete:
                self.lines = ["not written: that takes a whole run in which every test passes and none is skipped"]
                session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED
            else:
                fresh["proofs"] = in_order([*self.elsewhere(fresh, False), *self.elsewhere(kept, True)])
                FILE.parent.mkdir(exist_ok=True)
                FILE.write_text(json.dumps(fresh, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
                self.lines = [f"{len(fresh['proofs'])} proofs and {len(fresh['mutants'])} mutants written"]
        elif any(fresh.values()) and exitstatus == 0:
            compared = [{**table, "proofs": self.elsewhere(table, False)} for table in (kept, fresh)]
            self.lines = differences(*compared, whole=self.whole and self.complete)
            if self.lines:
                self.lines.append("The page is made from an older run: `make ledger` writes it anew.")
                session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if self.lines:
            terminalreporter.section("proof ledger")
            for line in self.lines:
                terminalreporter.line(line)


def configure(config: pytest.Config) -> None:
    """Gather in the process that has all reports, not in its workers."""
    if not hasattr(config, "workerinput"):
        chosen = config.option.keyword or config.option.markexpr or getattr(config.option, "lf", False)
        whole = not chosen and config.args_source is not pytest.Config.ArgsSource.ARGS
        config.pluginmanager.register(Ledger(config.option.write_ledger, whole), "ledger")


def worst(found: Any, expected: Any) -> float:
    """Largest absolute difference of two tensors; infinite for another type, another shape or a stray NaN."""
    if found.dtype != expected.dtype or found.shape != expected.shape:
        return math.inf
    if found.numel() == 0:
        return 0.0
    difference = (found.detach().double() - expected.detach().double()).abs()
    return math.inf if difference.isnan().any() else float(difference.max())


def worst_of(found: dict[str, Any], expected: dict[str, Any]) -> float:
    """The same over all tensors of two state dicts with the same keys in the same order."""
    if list(found) != list(expected):
        return math.inf
    return max((worst(found[name], expected[name]) for name in found), default=0.0)
