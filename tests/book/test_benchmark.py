"""The benchmark runs, and its ratios are those of its candidates within a round."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from conftest import ROOT
from scripts import load_script

from mnv3lib.deploy import Comparison

BENCHMARKS = ROOT / "benchmarks"
SCRIPT = load_script(BENCHMARKS / "training_step.py")
INFERENCE = load_script(BENCHMARKS / "inference.py")
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


@pytest.mark.slow
def test_a_short_benchmark_of_inference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "short.json"
    short = ["--rounds", "5", "--networks", "mobilenet_v3_small", "--sides", "64", "--ways", "PyTorch", "engine"]
    before = os.sched_getaffinity(0)
    try:
        assert INFERENCE.main([*short, "--out", str(out)]) == 0
    finally:
        os.sched_setaffinity(0, before)
    found = json.loads(out.read_text())
    (result,) = found["results"]
    by_name = {line["way"]: line for line in result["lines"]}
    assert by_name["PyTorch"]["ratio"] == [1, 1, 1]
    assert by_name["engine"]["milliseconds"] > 0
    assert found["cpu"]
    assert found["ceilings"]["multiply_adds"] > 0
    assert "the floor is" in capsys.readouterr().out


def test_an_engine_is_compared_with_the_best_of_the_others_in_its_precision() -> None:
    seconds = {"PyTorch": 0.010, "ONNX Runtime": 0.005, "OpenVINO": 0.004, "OpenVINO, bf16": 0.002, "engine": 0.003,
               "engine, bf16": 0.001}  # fmt: skip
    found = Comparison({name: [value] * 5 for name, value in seconds.items()}, "PyTorch", [0.010] * 5, 1)
    by_name = {line["way"]: line for line in INFERENCE.lines(found, 0.0015)}
    assert (by_name["engine"]["against"], by_name["engine"]["ratio_to_it"]) == ("OpenVINO", [0.75] * 3)
    assert (by_name["engine, bf16"]["against"], by_name["engine, bf16"]["ratio_to_it"]) == ("OpenVINO, bf16", [0.5] * 3)
    assert "against" not in by_name["OpenVINO"]
    assert by_name["engine"]["share_of_floor"] == 0.5
    assert by_name["OpenVINO"]["ratio"] == [0.4] * 3


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
