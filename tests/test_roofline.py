"""The floor of a layer, worked out by hand, and ceilings that stand in the order in which caches are built."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest

from mnv3lib import cost
from mnv3lib.config import large, small
from mnv3lib.deploy import roofline
from mnv3lib.deploy.roofline import Ceilings, floor, measure_ceilings

ONE = Ceilings(multiply_adds=1e9, matrix_product=1e9, first=1e9, second=1e9, third=1e9, memory=1e9)


def test_the_floor_of_a_layer_by_hand() -> None:
    profile = cost.profile(small(), 224)
    by_name = {one.layer.name: one for one in floor(profile, ONE)}
    stem = by_name["features.0"]
    assert stem.arithmetic == pytest.approx(16 * 112 * 112 * 27 / 1e9)
    maps, weights = 3 * 224 * 224 + 16 * 112 * 112, 16 * 27 + 2 * 16
    assert stem.traffic == pytest.approx(4 * (maps + weights) / 1e9)
    assert stem.seconds == stem.arithmetic
    logits = by_name["classifier.3"]
    assert logits.traffic == pytest.approx(4 * (1024 * 1000 + 1000 + 1024 + 1000) / 1e9)
    assert logits.seconds == logits.traffic
    assert by_name["avgpool"].seconds == 0


def test_weights_are_read_once_for_a_batch_and_maps_for_each_image() -> None:
    profile = cost.profile(large(), 160)
    slow_maps = Ceilings(**{**asdict(ONE), "second": 1.0})
    slow_weights = Ceilings(**{**asdict(ONE), "third": 1.0})
    for one, eight in zip(floor(profile, slow_maps), floor(profile, slow_maps, batch=8), strict=True):
        assert eight.seconds == pytest.approx(8 * one.seconds, rel=1e-3)
    for one, eight in zip(floor(profile, slow_weights), floor(profile, slow_weights, batch=8), strict=True):
        assert eight.traffic == pytest.approx(one.traffic, rel=1e-2)
    with pytest.raises(ValueError, match="batch must be an integer >= 1, got 0"):
        floor(profile, ONE, batch=0)


def test_all_multiply_adds_are_in_the_floor() -> None:
    profile = cost.profile(large(), 224)
    assert sum(one.arithmetic for one in floor(profile, ONE)) == pytest.approx(profile.macs / 1e9)


def test_ceilings_are_measured() -> None:
    found = measure_ceilings(seconds=0.004)
    assert found.multiply_adds > 1e9  # a vector of four at 250 MHz
    assert found.first > found.memory
    assert "multiply adds" in str(found)


def test_what_is_measured_is_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = 0.0

    def work(rounds: int) -> None:
        nonlocal clock
        clock += rounds * 0.002

    monkeypatch.setattr("time.perf_counter", lambda: clock)
    assert roofline._rate(work, 0.05) == pytest.approx(500)


def test_sizes_of_caches_are_read_or_guessed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(roofline, "_CACHES", tmp_path)
    assert roofline._cache_sizes() == roofline._USUAL
    caches = (("1", "Data", "48K"), ("1", "Instruction", "32K"), ("2", "Unified", "2048K"))
    for index, (level, kind, size) in enumerate(caches):
        folder = tmp_path / f"index{index}"
        folder.mkdir()
        for name, text in (("level", level), ("type", kind), ("size", size)):
            (folder / name).write_text(f"{text}\n")
    assert roofline._cache_sizes() == (48 << 10, 2048 << 10, 32 << 20)
