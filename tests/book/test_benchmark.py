"""The benchmark runs, and its ratios are those of its candidates within a round."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import ROOT
from scripts import load_script

BENCHMARKS = ROOT / "benchmarks"
SCRIPT = load_script(BENCHMARKS / "training_step.py")
CANDIDATES = {"this loop", "this loop, memory not kept", "this loop, torchvision's network",
              "plain loop, torchvision's network"}  # fmt: skip


@pytest.mark.slow
def test_a_short_benchmark(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "short.json"
    short = ["--rounds", "2", "--networks", "mobilenet_v3_small", "--sides", "64", "--out", str(out)]
    assert SCRIPT.main(short) == 0
    found = json.loads(out.read_text())
    assert {line["against"] for line in found["lines"]} == CANDIDATES
    first = found["lines"][0]
    assert (first["against"], first["faster_by"], first["quartiles"]) == ("this loop", 1, [1, 1])
    assert all(line["images_per_second"] > 0 for line in found["lines"])
    assert "this loop is faster by" in capsys.readouterr().out


def test_ratios_are_taken_within_a_round() -> None:
    """A candidate that is twice as slow in every round, on a machine whose speed changes all the time."""
    clock = iter([0.0, 1.0, 0.0, 2.0, 0.0, 5.0, 0.0, 10.0])

    def nothing() -> None:
        pass

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SCRIPT.time, "perf_counter", lambda: next(clock))
        times = SCRIPT.measure({"a": (nothing, nothing), "b": (nothing, nothing)}, 2, "")
    assert times == {"a": [1.0, 5.0], "b": [2.0, 10.0]}


def test_the_file_is_what_the_script_writes() -> None:
    kept = json.loads((BENCHMARKS / "training_step.json").read_text())
    assert len(kept["commit"]) == 40, "made from code that is in no commit"
    assert {"torch", "torchvision", "python", "mnv3lib"} <= set(kept["versions"])
    assert kept["cpu"]
    assert kept["rounds"] == 9
    measured = {(line["network"], line["side"], line["against"]) for line in kept["lines"]}
    networks = ("mobilenet_v3_small", "mobilenet_v3_large")
    assert measured == {(name, side, one) for name in networks for side in (64, 224) for one in CANDIDATES}
