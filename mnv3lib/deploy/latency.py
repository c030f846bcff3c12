"""Which of these is faster, and by how much: candidates take turns, and what counts are ratios within a round.

A time alone says little: processors change their clock, other programs come and go, the first calls find cold caches.
All that concerns neighbours in time alike, so in every round each candidate runs once, in an order drawn anew, and is
compared with the baseline of the same round. The baseline runs twice in a round: how far its own ratio strays from 1 is
the noise.

``torch.utils.benchmark`` times one statement after another, without turns, so it is not used here.
"""

from __future__ import annotations

import gc
import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from mnv3lib._checks import boolean, one_of, positive_int, positive_real

__all__ = ["Comparison", "Ratio", "compare", "quiet"]

#: A ratio of the baseline to itself that strays further than this in half of the rounds is worth a word.
_QUIET = 0.05
#: Samples that a bootstrap interval is drawn from, and the probability that it holds the median.
_DRAWS, CONFIDENCE = 2_000, 0.95
_AGAIN = "\0the baseline again"


@dataclass(frozen=True)
class Ratio:
    """A median of paired ratios and the bootstrap interval that holds it with a probability of 95 %."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f}–{self.high:.2f})"


@dataclass(frozen=True)
class Comparison:
    """Times of candidates that took turns.

    Attributes:
        seconds: of one call, candidate by candidate, a number a round.
        baseline: the candidate that the others are compared with.
        again: the baseline's seconds from its second turn in each round.
        threads: that PyTorch computed with.
    """

    seconds: Mapping[str, Sequence[float]]
    baseline: str
    again: Sequence[float]
    threads: int
    seed: int = field(default=0, repr=False)

    def median(self, name: str) -> float:
        """Seconds of a call."""
        return statistics.median(self.seconds[name])

    def spread(self, name: str) -> float:
        """The middle half of the times is so wide, as a fraction of their median."""
        low, _, high = statistics.quantiles(self.seconds[name], n=4)
        return (high - low) / self.median(name)

    def ratio(self, name: str, to: str | None = None) -> Ratio:
        """Time of ``name`` as a multiple of that of ``to``, by default the baseline; below 1 it is faster."""
        return self._paired(self.seconds[name], self.seconds[self.baseline if to is None else to])

    @property
    def noise(self) -> float:
        """How far the ratio of the baseline to itself strays from 1 in half of the rounds."""
        return statistics.median(abs(b / a - 1) for a, b in zip(self.seconds[self.baseline], self.again, strict=True))

    @property
    def noisy(self) -> bool:
        """Whether something disturbed the measurement, by more than 5 % in half of the rounds."""
        return self.noise > _QUIET

    def _paired(self, times: Sequence[float], others: Sequence[float]) -> Ratio:
        ratios = [mine / theirs for mine, theirs in zip(times, others, strict=True)]
        draw = random.Random(self.seed)
        medians = sorted(statistics.median(draw.choices(ratios, k=len(ratios))) for _ in range(_DRAWS))
        outside = round((1 - CONFIDENCE) / 2 * _DRAWS)
        return Ratio(statistics.median(ratios), medians[outside], medians[-1 - outside])

    def __str__(self) -> str:
        width = max(map(len, self.seconds))
        lines = [f"{'':{width}}  {'ms':>9}  {'spread':>6}  ratio (95 % interval)"]
        for name in self.seconds:
            ratio = "1" if name == self.baseline else str(self.ratio(name))
            lines.append(f"{name:{width}}  {self.median(name) * 1e3:9.3f}  {self.spread(name):6.0%}  {ratio}")
        if self.noisy:
            lines.append(f"Noise: {self.baseline!r} against itself is off by {self.noise:.0%} in half of the rounds.")
        return "\n".join(lines)


def compare(
    candidates: Mapping[str, Callable[[], Any]],
    *,
    baseline: str | None = None,
    rounds: int = 25,
    seconds: float = 0.01,
    cold: bool = False,
    before: Mapping[str, Callable[[], Any]] | None = None,
    threads: int = 1,
    seed: int = 0,
) -> Comparison:
    """Time candidates in turns.

    Args:
        candidates: functions without arguments, by name.
        baseline: which of them the others are compared with; by default the first.
        rounds: how often each has its turn, 5 or more.
        seconds: that a turn lasts at least; fast candidates are called as often as that takes.
        cold: a turn is a single call, and no call before it brings back into the caches what the others' turns have
            driven out. So a layer's time is what it takes between other layers.
        before: what a candidate of that name needs right before its turn; it is not timed.
        threads: that PyTorch computes with meanwhile. An engine with threads of its own is told when it is made.
        seed: of the order in each round.

    Raises:
        TypeError, ValueError: naming the argument, the value and the range. What a candidate raises comes through.
    """
    if not isinstance(candidates, Mapping) or not all(callable(candidate) for candidate in candidates.values()):
        raise TypeError(f"candidates must be functions by name, got {candidates!r}")
    if not candidates:
        raise ValueError("candidates must be one function or more, got none")
    first = one_of("baseline", next(iter(candidates)) if baseline is None else baseline, tuple(candidates))
    if positive_int("rounds", rounds) < 5:
        raise ValueError(f"rounds must be an integer >= 5, got {rounds!r}")
    positive_real("seconds", seconds)
    boolean("cold", cold)
    prepare = dict(before or {})
    for name in prepare:
        one_of("before", name, tuple(candidates))
    positive_int("threads", threads)

    with quiet(threads):
        turns = {
            name: _Turn(candidate, prepare.get(name, _nothing), seconds, cold) for name, candidate in candidates.items()
        }
        turns[_AGAIN] = turns[first]
        found: dict[str, list[float]] = {name: [] for name in turns}
        order, shuffle = list(turns), random.Random(seed)
        for _ in range(rounds):
            shuffle.shuffle(order)
            for name in order:
                found[name].append(turns[name]())
    again = found.pop(_AGAIN)
    return Comparison(found, first, again, threads, seed)


class _Turn:
    """One candidate's turn: a call that does not count, then as many as make it long enough; or one cold call."""

    def __init__(self, candidate: Callable[[], Any], before: Callable[[], Any], seconds: float, cold: bool) -> None:
        self.candidate, self.before, self.cold = candidate, before, cold
        self.calls = 1
        candidate()  # the first call may compile, and counts for nothing
        while not cold and (took := self._time()) * self.calls < seconds:
            self.calls = max(self.calls + 1, min(int(seconds / max(took, 1e-9)) + 1, 10 * self.calls))

    def __call__(self) -> float:
        if not self.cold:
            self.candidate()  # the caches hold the other candidates' data
        self.before()
        return self._time()

    def _time(self) -> float:
        candidate, calls = self.candidate, self.calls
        began = time.perf_counter()
        for _ in range(calls):
            candidate()
        return (time.perf_counter() - began) / calls


def _nothing() -> None:
    pass


@contextmanager
def computing_with(threads: int) -> Iterator[None]:
    """So many threads for PyTorch."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def quiet(threads: int) -> Iterator[None]:
    """So many threads for PyTorch, and no garbage collection between two looks at the clock."""
    collects = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        with computing_with(threads):
            yield
    finally:
        if collects:
            gc.enable()
