"""What a comparison says of times that are known: a clock that the tests turn stands for the processor's."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch

from mnv3lib.deploy import Comparison, compare


class Clock:
    """A clock that only candidates move."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.calls = 0.0, list[str]()
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)
        monkeypatch.setattr(gc, "collect", lambda: 0)  # half a second in a process as large as the tests'

    def takes(self, name: str, seconds: Callable[[int], float]) -> Callable[[], None]:
        """A candidate whose call number n takes ``seconds(n)``."""
        count = 0

        def call() -> None:
            nonlocal count
            self.now += seconds(count)
            self.calls.append(name)
            count += 1

        return call


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_ratios_are_those_of_the_clock(clock: Clock) -> None:
    found = compare(
        {"slow": clock.takes("slow", lambda n: 0.004), "fast": clock.takes("fast", lambda n: 0.001)}, rounds=9
    )
    assert found.median("slow") == pytest.approx(0.004)
    assert found.median("fast") == pytest.approx(0.001)
    ratio = found.ratio("fast")
    assert (ratio.median, ratio.low, ratio.high) == pytest.approx((0.25, 0.25, 0.25))
    assert found.ratio("slow", to="fast").median == pytest.approx(4)
    assert found.spread("slow") == pytest.approx(0)
    assert not found.noisy
    assert "fast" in str(found)
    assert "0.25 (0.25–0.25)" in str(found)


def test_a_cold_turn_is_one_call_after_another_candidates(clock: Clock) -> None:
    """A candidate that is slow whenever another one ran before it, as one is that finds the caches full."""

    def slow_after_others(n: int) -> float:
        return 0.001 if clock.calls and clock.calls[-1] == "a" else 0.005

    candidates = {"a": clock.takes("a", slow_after_others), "b": clock.takes("b", lambda n: 0.002)}
    assert compare(candidates, baseline="b", rounds=9, seconds=0.001).median("a") == pytest.approx(0.001)
    clock.calls.clear()
    found = compare(candidates, baseline="b", rounds=9, cold=True)
    assert found.median("a") == pytest.approx(0.005)
    assert clock.calls.count("a") == 1 + 9
    assert clock.calls.count("b") == 1 + 2 * 9
    with pytest.raises(TypeError, match="cold"):
        compare(candidates, cold=1)  # type: ignore[arg-type]


def test_what_comes_before_a_turn_is_not_timed(clock: Clock) -> None:
    candidates = {"a": clock.takes("a", lambda n: 0.001), "b": clock.takes("b", lambda n: 0.002)}
    found = compare(candidates, rounds=5, cold=True, before={"b": clock.takes("before b", lambda n: 9.0)})
    assert (found.median("a"), found.median("b")) == pytest.approx((0.001, 0.002))
    assert clock.calls.count("before b") == 5
    assert all(clock.calls[at + 1] == "b" for at, call in enumerate(clock.calls) if call == "before b")
    with pytest.raises(ValueError, match="before must be one of 'a', 'b', got 'c'"):
        compare(candidates, before={"c": print})


def test_a_first_call_that_compiles_does_not_count(clock: Clock) -> None:
    found = compare({"a": clock.takes("a", lambda n: 60.0 if n == 0 else 0.02)}, rounds=5)
    assert max(found.seconds["a"]) == pytest.approx(0.02)


def test_candidates_take_turns_in_every_round(clock: Clock) -> None:
    candidates = {name: clock.takes(name, lambda n: 0.02) for name in "abc"}
    compare(candidates, rounds=40)
    turns = clock.calls[6:]  # after two calls each to see how long they take
    rounds = [turns[i : i + 8 : 2] for i in range(0, len(turns), 8)]  # the first call of each turn warms up
    assert len(rounds) == 40
    assert all(sorted(names) == ["a", "a", "b", "c"] for names in rounds)  # the baseline twice
    assert len({tuple(names) for names in rounds}) > 8


def test_a_turn_lasts_as_long_as_asked(clock: Clock) -> None:
    compare({"a": clock.takes("a", lambda n: 0.001)}, rounds=5, seconds=0.05)
    assert len(clock.calls) >= 2 * 5 * 51


def test_a_drift_that_concerns_all_leaves_the_ratio(clock: Clock) -> None:
    """The processor slows down to a third in the course of the measurement."""

    def slower() -> float:
        return 1 + min(clock.now, 2.0)

    found = compare(
        {"a": clock.takes("a", lambda n: 0.010 * slower()), "b": clock.takes("b", lambda n: 0.005 * slower())},
        rounds=50,
    )
    assert found.spread("a") > 0.3
    assert found.ratio("b").median == pytest.approx(0.5, abs=0.02)
    assert not found.noisy


def test_noise_is_told(clock: Clock) -> None:
    found = compare({"a": clock.takes("a", lambda n: 0.02 * (1 + n * 7 % 5))}, rounds=25)
    assert found.noisy
    assert "Noise: 'a' against itself" in str(found)


def test_the_interval_holds_the_median_as_often_as_it_says() -> None:
    draw = torch.Generator().manual_seed(0)
    inside = 0
    for seed in range(80):
        ratios = (1 + 0.1 * torch.randn(25, generator=draw)).tolist()
        one = Comparison({"a": [1.0] * 25, "b": ratios}, "a", [1.0] * 25, 1, seed).ratio("b")
        inside += one.low <= 1 <= one.high
    assert 70 <= inside <= 79


def test_threads_and_the_garbage_collector_are_as_before() -> None:
    seen = []
    before = torch.get_num_threads()
    compare({"a": lambda: seen.append((torch.get_num_threads(), gc.isenabled()))}, rounds=5, seconds=1e-6, threads=2)
    assert set(seen) == {(2, False)}
    assert (torch.get_num_threads(), gc.isenabled()) == (before, True)

    def fails() -> None:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        compare({"a": fails}, threads=2)
    assert (torch.get_num_threads(), gc.isenabled()) == (before, True)


@pytest.mark.parametrize(
    ("candidates", "options", "message"),
    [
        ({}, {}, "candidates must be one function or more"),
        ({"a": 3}, {}, "candidates must be functions by name"),
        ([print], {}, "candidates must be functions by name"),
        ({"a": print}, {"rounds": 4}, "rounds must be an integer >= 5, got 4"),
        ({"a": print}, {"seconds": 0}, "seconds must be a finite number > 0, got 0"),
        ({"a": print}, {"threads": 0}, "threads must be an integer >= 1, got 0"),
        ({"a": print}, {"baseline": "b"}, "baseline must be one of 'a', got 'b'"),
    ],
)
def test_wrong_arguments_are_named(candidates: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        compare(candidates, **options)
