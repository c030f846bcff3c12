"""The figures of the chapter on measuring: two orders, a machine that changes its speed, an interval that is drawn."""

from __future__ import annotations

import random
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log10

from mnv3lib._checks import non_negative_real, one_of, positive_int, positive_real
from mnv3lib.deploy import Comparison
from mnv3lib.explore.drawing import Drawing, in_style, new_figure
from mnv3lib.explore.palette import ACCENT, COLOURS, REFERENCE

__all__ = ["DESIGNS", "Machine", "measured_rounds", "minimum_and_median", "ratios_to_one", "resampled"]

#: How candidates can follow each other.
DESIGNS = ("one after the other", "in turns")


@in_style
def ratios_to_one(ratios: Mapping[str, Sequence[float]], *, title: str) -> Drawing:
    """Bars from 1, the reference, to ratios, each with the ends of its interval.

    Args:
        ratios: name to a ratio, or to a ratio and the ends of its interval.
        title: what the ratios are of.
    """
    figure, axes = new_figure(height=0.9 + 0.45 * len(ratios))
    words = []
    for at, (name, (ratio, *interval)) in enumerate(ratios.items()):
        axes.barh(at, ratio - 1, left=1, height=0.6, color=ACCENT if ratio < 1 else COLOURS["orange"])
        if interval:
            axes.plot(interval, [at, at], color=REFERENCE, linewidth=3)
        side = -1 if ratio < 1 else 1
        outermost = min([ratio, *interval]) if ratio < 1 else max([ratio, *interval])
        axes.annotate(f"{ratio:.2f}", (outermost, at), (5 * side, 0), textcoords="offset points", va="center",
                      ha="right" if ratio < 1 else "left")  # fmt: skip
        words.append(f"{name} {ratio:.2f}")
    axes.axvline(1, color=REFERENCE, linewidth=1)
    axes.set_yticks(range(len(ratios)), list(ratios))
    axes.invert_yaxis()
    axes.margins(x=0.25)
    figure.suptitle(title, size="medium")
    return Drawing(figure, f"Bars from 1 to ratios. {title}: {', '.join(words)}.", {"ratios": dict(ratios)})


@dataclass(frozen=True)
class Machine:
    """A machine whose speed changes: what two candidates take on it, of which one is truly faster.

    Args:
        truth: time of the second candidate as a multiple of the first's.
        drift: by how much the machine is slower at the end than at the start, as a fraction.
        jitter: standard deviation of a single time, as a fraction.
        seed: of the jitter.
    """

    truth: float = 0.9
    drift: float = 0.0
    jitter: float = 0.03
    seed: int = 0

    def __post_init__(self) -> None:
        positive_real("truth", self.truth)
        non_negative_real("drift", self.drift)
        non_negative_real("jitter", self.jitter)

    def measure(self, design: str, rounds: int) -> Comparison:
        """Times of the two under a design, as if ``rounds`` calls of each had been made."""
        one_of("design", design, DESIGNS)
        positive_int("rounds", rounds)
        draw = random.Random(self.seed)
        order = ["A"] * rounds + ["B"] * rounds if design == DESIGNS[0] else ["A", "B"] * rounds
        seconds: dict[str, list[float]] = {"A": [], "B": []}
        for call, name in enumerate(order):
            slower = 1 + self.drift * call / (len(order) - 1)
            seconds[name].append(slower * (self.truth if name == "B" else 1) * (1 + draw.gauss(0, self.jitter)))
        return Comparison(seconds, "A", seconds["A"], 1)


@in_style
def measured_rounds(machine: Machine, design: str, rounds: int) -> Drawing:
    """The times of both candidates in the order they were measured; the ratio found, and the true one.

    Axes do not move: the whole measurement, and times from 0.75 to 1.65 of A's at the start.
    """
    found = machine.measure(design, rounds)
    figure, axes = new_figure(height=3.2)
    turns = design == DESIGNS[1]
    for name, marker, colour in (("A", "o", ACCENT), ("B", "s", COLOURS["orange"])):
        first = 0 if name == "A" else 1 if turns else rounds
        positions = [first + (2 if turns else 1) * call for call in range(rounds)]
        axes.plot(
            [100 * at / (2 * rounds - 1) for at in positions],
            found.seconds[name],
            marker,
            color=colour,
            markersize=4,
            label=name,
        )
    axes.set(xlabel="% of the measurement", ylabel="time", xlim=(-2, 102), ylim=(0.75, 1.65), yticks=(1, 1.25, 1.5))
    figure.legend(loc="outside upper left", ncols=2, handletextpad=0.1)
    ratio = found.ratio("B")
    axes.set_title(f"B/A: {ratio}, truly {machine.truth:.2f}")
    alt = (
        f"Times of {2 * rounds} calls, {design}, on a machine that gets slower by {machine.drift:.0%}. B takes "
        f"{ratio.median:.2f} of A's time, {ratio.low:.2f} to {ratio.high:.2f}; truly it is {machine.truth:.2f}."
    )
    return Drawing(figure, alt, {"ratio": ratio})


@in_style
def minimum_and_median(times: Sequence[float]) -> Drawing:
    """What the minimum and the median of the first calls are, over how many of them there are, on a logarithmic axis.

    Args:
        times: of all calls, in order, in ms; 10 or more.
    """
    counts = sorted({round(10 ** (exponent / 16)) for exponent in range(16, int(16 * log10(len(times))) + 1)})
    figure, axes = new_figure(height=2.9)
    found = {
        name: [summary(times[:count]) for count in counts]
        for name, summary in (("median", statistics.median), ("minimum", min))
    }
    for (name, values), colour in zip(found.items(), (ACCENT, COLOURS["orange"]), strict=True):
        axes.plot(counts, values, color=colour, label=name)
    axes.set(xscale="log", xlabel="calls", ylabel="ms")
    axes.set_xticks(ticks := [tick for tick in (10, 100, 1000) if tick <= len(times)], [f"{tick:,}" for tick in ticks])
    axes.minorticks_off()
    axes.legend(loc="center right")
    said = "; ".join(f"the {name} goes from {values[0]:.1f} to {values[-1]:.1f} ms" for name, values in found.items())
    return Drawing(figure, f"Two lines over the number of calls, {counts[0]} to {counts[-1]:,}: {said}.", found)


@in_style
def resampled(ratios: Sequence[float], *, draws: int = 2000, seed: int = 0) -> Drawing:
    """A histogram of medians of ratios that were drawn with replacement, and the middle 95 % of them."""
    draw = random.Random(seed)
    positive_int("draws", draws)
    medians = sorted(statistics.median(draw.choices(ratios, k=len(ratios))) for _ in range(draws))
    low, high = medians[round(0.025 * draws)], medians[-1 - round(0.025 * draws)]
    figure, axes = new_figure(height=2.8)
    axes.hist(medians, bins=24, color=ACCENT)
    for end in (low, high):
        axes.axvline(end, color=COLOURS["orange"])
    axes.annotate("95 %", ((low + high) / 2, 1), (0, 3), xycoords=("data", "axes fraction"),
                  textcoords="offset points", ha="center")  # fmt: skip
    axes.set(xlabel="median of the drawn ratios", ylabel="times drawn")
    alt = (
        f"A histogram of {draws:,} medians of ratios drawn with replacement from {len(ratios)}; the middle 95 % lie "
        f"between {low:.2f} and {high:.2f}."
    )
    return Drawing(figure, alt, {"low": low, "high": high})
