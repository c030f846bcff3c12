"""The figures of the chapter on activations: soft curves, their hard versions, and what lies between them.

Functions and names as in Howard et al., arXiv:1905.02244v5, Section 5.2. Inputs and outputs are plain numbers without
a unit unless an argument says otherwise. A *saturation point* is the input from which on a hard sigmoid is 1;
h-sigmoid's is 3, so that its slope is 1/6.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from figures.configs import part

from mnv3lib.explore.drawing import Drawing, in_style, new_figure
from mnv3lib.explore.palette import ACCENT, COLOURS, REFERENCE

__all__ = [
    "errors_by_saturation",
    "hard_against_soft",
    "quantised_errors",
    "soft_and_hard",
    "traded",
    "values_by_feature",
]

Array = npt.NDArray[np.float64]

SHOWN = 6.0  # the curves are drawn from -SHOWN to SHOWN
GATE, ACTIVATION = ACCENT, COLOURS["orange"]


def _sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def _hard(x: Array, saturation: float) -> Array:
    return np.clip((x + saturation) / (2 * saturation), 0, 1)


def _places(*kinks: float) -> Array:
    """Inputs to draw at, corners included."""
    return np.union1d(np.linspace(-SHOWN, SHOWN, 193), [side * kink for kink in kinks for side in (-1, 1)])


def _largest(saturation: float, power: int) -> tuple[float, float]:
    """Where x ≥ 0 makes the absolute difference, times x to the ``power``, largest, and that difference."""
    x = np.union1d(np.linspace(0, 12, 12001), [saturation])
    error = np.abs(x**power * (_sigmoid(x) - _hard(x, saturation)))
    return float(x[error.argmax()]), float(error.max())


def _check_saturation(saturation: float) -> float:
    if isinstance(saturation, bool) or not isinstance(saturation, int | float):
        raise TypeError(f"saturation must be a number above 0 and up to {SHOWN:g}, got {saturation!r}")
    if not 0 < saturation <= SHOWN:
        raise ValueError(f"saturation must be a number above 0 and up to {SHOWN:g}, got {saturation!r}")
    return float(saturation)


@in_style
def traded(networks: Mapping[str, tuple[float, float]]) -> Drawing:
    """What activations gain and cost: top-1 over the time of a network, a labelled point for each of its variants.

    Args:
        networks: name to milliseconds and top-1 in per cent; the first has another colour, being compared with.
    """
    figure, axes = new_figure(height=2.9)
    times = [ms for ms, _ in networks.values()]
    for at, (name, (ms, top1)) in enumerate(networks.items()):
        axes.plot(ms, top1, "o", markersize=9, color=ACTIVATION if at == 0 else ACCENT)
        right = ms > (min(times) + max(times)) / 2  # the words go where there is room
        axes.annotate(name, (ms, top1), (-9 if right else 9, 0), textcoords="offset points", va="center",
                      ha="right" if right else "left")  # fmt: skip
    axes.set(xlabel="ms on a Pixel 1", ylabel="top-1, %")
    axes.margins(0.08, 0.15)
    parts = [f"{name} {top1:.1f} % in {ms:.1f} ms" for name, (ms, top1) in networks.items()]
    return Drawing(figure, f"Points, top-1 over time: {'; '.join(parts)}.", scale=1.45)


@in_style
def soft_and_hard() -> Drawing:
    """Sigmoid and h-sigmoid above, swish and h-swish below, with the lowest point of both."""
    x = _places(3)
    figure, axes = new_figure(height=4.2, nrows=2, sharex=True)
    pairs = (("sigmoid", _sigmoid(x), _hard(x, 3)), ("swish", x * _sigmoid(x), x * _hard(x, 3)))
    for frame, (name, soft, hard) in zip(axes, pairs, strict=True):
        frame.plot(x, soft, color=ACTIVATION, label=name)
        frame.plot(x, hard, color=GATE, linestyle="--", label=f"h-{name}")
        frame.axvline(-3, ymax=0.45, color=REFERENCE, linewidth=1, linestyle=":")
        frame.axvline(3, color=REFERENCE, linewidth=1, linestyle=":")
        frame.legend(loc="upper left")
    fine = np.linspace(-3, 0, 3001)
    lowest = [(float(fine[y.argmin()]), float(y.min())) for y in (fine * _sigmoid(fine), fine * _hard(fine, 3))]
    axes[1].plot(*lowest[0], "o", color=ACTIVATION)
    axes[1].plot(*lowest[1], "s", color=GATE)
    axes[1].set(xlabel="input x", xticks=range(-6, 7, 3))
    alt = (
        f"Curves from -6 to 6. Above, sigmoid bends smoothly from 0 to 1; h-sigmoid is 0 up to -3, rises straight and "
        f"is 1 from 3 on. Below, swish has its lowest point, {lowest[0][1]:.3f}, at {lowest[0][0]:.2f}; h-swish has "
        f"{lowest[1][1]:.3f} at {lowest[1][0]:.2f} and is 0 up to -3."
    )
    return Drawing(figure, alt)


@in_style
def hard_against_soft(saturation: float = 3.0) -> Drawing:
    """A hard sigmoid on the sigmoid above; below, how far they and the activations made of them are apart.

    Args:
        saturation: above 0 and at most 6; 3 for h-sigmoid, 2.5 for a slope of 0.2.

    Raises:
        TypeError, ValueError: naming the argument, the value and the range.
    """
    saturation = _check_saturation(saturation)
    x = _places(saturation)
    figure, axes = new_figure(height=4.6, nrows=2, sharex=True, height_ratios=(2, 3))
    axes[0].plot(x, _sigmoid(x), color=REFERENCE, label="sigmoid")
    axes[0].plot(x, _hard(x, saturation), color=GATE, linestyle="--", label="hard")
    axes[0].legend(loc="upper left")
    gap = _sigmoid(x) - _hard(x, saturation)
    parts = []
    curves = (("from sigmoid", gap, 0, GATE, "s"), ("from swish", x * gap, 1, ACTIVATION, "o"))
    for label, error, power, colour, marker in curves:
        place, largest = _largest(saturation, power)
        axes[1].plot(x, np.abs(error), color=colour, linestyle="--" if power == 0 else "-", label=label)
        axes[1].plot([-place, place], [largest] * 2, marker, color=colour)
        parts.append(f"{label} by up to {largest:.3f}, at ±{place:.2f}")
    axes[1].set(xlabel="input x", xticks=range(-6, 7, 3), ylabel="difference", ylim=(0, 0.45))
    axes[1].legend(loc="upper center", ncols=2, columnspacing=1)
    alt = (
        f"A hard sigmoid that reaches 0 and 1 at ±{saturation:g}, over the sigmoid; below, the absolute differences. "
        f"The hard version differs {'; x times it '.join(parts)}."
    )
    return Drawing(figure, alt)


@in_style
def errors_by_saturation(points: Sequence[float], curves: Mapping[str, Sequence[float]]) -> Drawing:
    """The largest difference over the saturation point, one line a function, the lowest point of each marked.

    Args:
        points: rising; 3 among them or not, it is marked.
        curves: name of the soft function to the largest differences, one for each saturation point.
    """
    figure, axes = new_figure(height=3.2)
    axes.axvline(3, ymax=0.8, color=REFERENCE, linewidth=1, linestyle=":")
    parts = []
    styles = (GATE, "--", "s"), (ACTIVATION, "-", "o")
    for (name, errors), (colour, line, marker) in zip(curves.items(), styles, strict=True):
        best = int(np.argmin(errors))
        axes.plot(points, errors, color=colour, linestyle=line, label=f"from {name}")
        axes.plot(points[best], errors[best], marker, color=colour)
        parts.append(f"from {name} it is smallest, {errors[best]:.3f}, at saturation point {points[best]:.2f}")
    axes.set(xlabel="saturation point", ylabel="largest difference")
    axes.set_ylim(0, 1.25 * max(map(max, curves.values())))
    axes.legend(loc="upper center", ncols=2, columnspacing=1)
    alt = f"Largest difference over saturation points from {points[0]:g} to {points[-1]:g}: {'; '.join(parts)}."
    return Drawing(figure, alt)


@in_style
def quantised_errors(inputs: Sequence[int], errors: Mapping[str, Sequence[int]]) -> Drawing:
    """How many output steps a computation is off the correctly rounded value, for each quantised input; a panel each.

    Args:
        inputs: quantised values of 8 bits, rising.
        errors: name of a computation to its errors in output steps, one for each input.
    """
    count = len(errors)
    figure, axes = new_figure(height=1.1 + 1.1 * count, nrows=count, sharex=True, sharey=True, squeeze=False)
    bound = max(1, *(abs(int(step)) for steps in errors.values() for step in steps))
    parts = []
    for frame, (name, steps), colour in zip(axes[:, 0], errors.items(), (ACTIVATION, GATE, REFERENCE), strict=False):
        off = sum(int(step) != 0 for step in steps)
        frame.step(inputs, steps, where="mid", color=colour, linewidth=1.2)
        frame.set_title(f"{name}: {off} off")
        frame.set(ylim=(-bound - 0.4, bound + 0.4), yticks=(-bound, 0, bound))
        parts.append(f"{name} is off at {off}, by at most {max(abs(int(step)) for step in steps)}")
    axes[-1, 0].set(xlabel="quantised input", xticks=range(-128, 129, 64))
    figure.supylabel("steps off", fontsize=12)
    return Drawing(figure, f"Error in output steps for each of {len(inputs)} quantised inputs: {'; '.join(parts)}.")


@in_style
def values_by_feature(values: Sequence[int], hard: Sequence[bool]) -> Drawing:
    """Bars of how many values of each block, in thousands for one image, go through h-swish or ReLU.

    Args:
        values: activation values of the stem, each block, the last convolution and the classifier.
        hard: for each of them, whether it computes with h-swish.
    """
    figure, axes = new_figure(height=3.2)
    looks: tuple[tuple[bool, str, dict[str, Any]], ...] = (
        (False, "ReLU", {"facecolor": "none", "edgecolor": REFERENCE, "linewidth": 1.5}),
        (True, "h-swish", {"color": ACCENT}),
    )
    for kind, name, look in looks:
        chosen = [place for place, is_hard in enumerate(hard) if is_hard == kind]
        axes.bar(chosen, [values[place] / 1e3 for place in chosen], width=0.7, label=name, **look)
    last = len(values) - 1
    ticks = [0, *range(3, last - 2, 3), last]
    axes.set_xticks(ticks, ["stem", *map(str, ticks[1:-1]), "head"])
    axes.set(xlabel="block", ylabel="thousand values")
    axes.legend()
    top = max(range(len(values)), key=values.__getitem__)
    share = sum(value for value, is_hard in zip(values, hard, strict=True) if is_hard) / sum(values)
    alt = (
        f"Bars of the values that go through an activation, {sum(values) / 1e6:.2f} million in all. "
        f"{100 * share:.0f} % of them go through h-swish. "
        f"The tallest bar, {part(top, len(values))}, has {values[top] / 1e3:,.0f} thousand."
    )
    return Drawing(figure, alt)
