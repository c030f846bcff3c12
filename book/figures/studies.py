"""Figures of training studies: every run is a point, so that a difference is seen beside the spread of the seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log
from statistics import fmean, median
from typing import Any

from figures.measured import Study

from mnv3lib.explore.drawing import Drawing, in_style, new_figure
from mnv3lib.explore.palette import ACCENT, COLOURS, REFERENCE

__all__ = ["accuracy_over_work", "along_axes", "epoch_curves", "gains", "within_budget", "without_colours"]

_COLOURS = (COLOURS["orange"], ACCENT, COLOURS["green"], COLOURS["vermilion"], COLOURS["purple"])

#: Multiply-adds in millions and accuracies in per cent, one for each seed, by the width of a network.
Curve = Mapping[float, tuple[float, Sequence[float]]]


def _plain(frame: Any, ticks: Sequence[float]) -> None:
    """Numbers instead of powers of ten on a logarithmic axis."""
    frame.set_xscale("log")
    frame.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    frame.set_xticks([], minor=True)


@in_style
def epoch_curves(study: Study, variants: Sequence[str], *, column: str = "last_top1", tested: bool = False) -> Drawing:
    """A measure over the epochs, a line for each run.

    Args:
        study: with the runs.
        variants: up to five of its variants.
        column: of the table of epochs, from 0 to 1.
        tested: whether a diamond after the last epoch shows each run's accuracy on the test images.
    """
    if not 1 <= len(variants) <= len(_COLOURS):
        raise ValueError(f"variants must be from 1 to {len(_COLOURS)}, got {len(variants)}")
    (figure, axes), words = new_figure(height=3.3), []
    for variant, colour in zip(variants, _COLOURS, strict=False):
        runs = study.of(variant)
        for number, run in enumerate(runs):
            values = [100 * value for value in run.epochs[column]]
            label = variant if number == 0 else None
            axes.plot(run.epochs["epoch"], values, ".-", color=colour, linewidth=1.5, label=label)
        ends = [[100 * run.epochs[column][place] for run in runs] for place in (0, -1)]
        (low, high), (worst, best) = ((min(values), max(values)) for values in ends)
        said = f"{variant}: {low:.0f} to {high:.0f} after the first epoch, {worst:.0f} to {best:.0f} at the end"
        if tested:
            values = [100 * value for value in study.values(variant)]
            after = [run.epochs["epoch"][-1] + 0.5 for run in runs]
            axes.plot(after, values, "D", color=colour, markersize=5, clip_on=False)
            said += f", {min(values):.0f} to {max(values):.0f} on the test images"
        words.append(said)
    axes.set(xlabel="epoch", ylabel="top-1, %", ylim=(0, 100))
    figure.legend(loc="outside upper center", ncols=2, handlelength=1.5)
    return Drawing(figure, f"Lines of accuracy in % over the epochs, one for each seed. {'; '.join(words)}.")


@in_style
def gains(panels: Mapping[str, Mapping[str, Sequence[float]]]) -> Drawing:
    """What each step of a recipe adds, in points: a dot for each seed and a bar at their mean, panel above panel.

    Args:
        panels: title to steps, each with its gain for every seed; all panels share the axis of points.
    """
    if not panels or not all(panels.values()):
        raise ValueError("panels must hold one or more steps each")
    counts = [len(steps) for steps in panels.values()]
    figure, frames = new_figure(
        height=1.0 + 0.52 * sum(counts) + 0.3 * len(counts),
        nrows=len(counts),
        sharex=True,
        squeeze=False,
        height_ratios=counts,
    )
    words = []
    for frame, (title, steps) in zip(frames.flat, panels.items(), strict=True):
        said = []
        for place, (name, values) in enumerate(steps.items()):
            mean = fmean(values)
            frame.plot(values, [place] * len(values), "o", color=ACCENT, markersize=5)
            frame.plot([mean, mean], [place - 0.22, place + 0.22], color=COLOURS["vermilion"], linewidth=3)
            # Not through the names above the dots; beside them there is no room on a phone.
            frame.vlines(0, place - 0.28, place + 0.28, color=REFERENCE, linewidth=1)
            frame.annotate(f"{name}: {mean:+.1f}", (0, place - 0.3), xycoords=("axes fraction", "data"), va="bottom")
            spread = f" ({min(values):+.1f} to {max(values):+.1f})" if len(values) > 1 else ""
            said.append(f"{name} {mean:+.1f}{spread}")
        frame.set_ylim(len(steps) - 0.6, -0.95)
        frame.set_yticks([])
        frame.spines["left"].set_visible(False)
        frame.set_title(title)
        words.append(f"{title}: {', '.join(said)}")
    frames.flat[-1].set_xlabel("points of top-1")
    return Drawing(figure, f"Gains of top-1 in points, each step over the one before it. {'. '.join(words)}.")


_LETTER = 0.027  # width of a letter, of the width of the axes


def _lines(widths: Sequence[float], work: Sequence[float], span: Sequence[float]) -> list[int]:
    """0 for a label along a curve, or 1 where the label before it is on 0 and begins where this one still goes on."""
    whole = log(max(span) / min(span)) or 1
    lines: list[int] = []
    for place, (width, x) in enumerate(zip(widths, work, strict=True)):
        room = abs(log(x / work[place - 1])) / whole if place else 1
        lines.append(1 - lines[-1] if room < _LETTER * len(f"{width:g}") else 0)
    return lines


def _draw_curves(frame: Any, curves: Mapping[str, Curve], *, labelled: bool = True) -> dict[str, str]:
    """A dot for each seed and lines through their medians, up to two networks; returns each in words."""
    if not 1 <= len(curves) <= 2:
        raise ValueError(f"curves must be of one or two networks, got {len(curves)}")
    words = {}
    for (name, curve), colour, below in zip(curves.items(), _COLOURS, (True, False), strict=False):
        widths = sorted(curve)
        work, middles = [curve[width][0] for width in widths], [median(curve[width][1]) for width in widths]
        frame.plot(work, middles, color=colour, linewidth=1.5, label=name if labelled else None)
        # A label below goes on to the right, one above to the left: that is the side on which it needs room.
        span = [x for other in curves.values() for x, _ in other.values()]
        lines = _lines(widths[::-1], work[::-1], span)[::-1] if below else _lines(widths, work, span)
        for width, x, line in zip(widths, work, lines, strict=True):
            values = curve[width][1]
            frame.plot([x] * len(values), values, "o", color=colour, markersize=4)
            # Curves rise: to the right below and to the left above there is most room.
            edge, away = (min(values) if below else max(values)), 3 + 13 * line
            frame.annotate(f"{width:g}", (x, edge), (2, -away) if below else (-2, away), textcoords="offset points",
                           ha="left" if below else "right", va="top" if below else "bottom")  # fmt: skip
        shown = zip(widths, work, middles, strict=True)
        words[name] = ", ".join(f"{width:g} with {x:.3g} M {middle:.1f}" for width, x, middle in shown)
    _plain(frame, [tick for tick in (0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200) if min(span) <= tick <= max(span)])
    frame.margins(x=0.08, y=0.16)
    frame.set(ylabel="top-1, %")
    return words


@in_style
def accuracy_over_work(panels: Mapping[str, Mapping[str, Curve]]) -> Drawing:
    """Accuracy over multiply-adds on a logarithmic axis: a dot for each seed, lines through their medians.

    Args:
        panels: title to networks, each with its widths; one panel above the other. All have the same networks, in
            any order: a network has one colour.
    """
    if not panels:
        raise ValueError("panels must hold one or more, got none")
    names = list(next(iter(panels.values())))
    for title, curves in panels.items():
        if sorted(curves) != sorted(names):
            raise ValueError(f"panels must all have the networks {names}, got {list(curves)} in {title!r}")
    figure, frames = new_figure(height=3.0 * len(panels) + 0.4, nrows=len(panels), squeeze=False)
    words = []
    for frame, (title, curves) in zip(frames.flat, panels.items(), strict=True):
        ordered = {name: curves[name] for name in names}
        for name, shown in _draw_curves(frame, ordered, labelled=frame is frames.flat[0]).items():
            words.append(f"{title}, {name}: {shown}")
        frame.set_title(title)
    frames.flat[-1].set_xlabel("million multiply-adds")
    figure.legend(loc="outside upper center", ncols=2, handlelength=1.5)
    return Drawing(figure, f"Accuracy in % over multiply-adds, by width. {'. '.join(words)}.")


@in_style
def within_budget(curves: Mapping[str, Curve], budget: float, *, unit: str = "million multiply-adds") -> Drawing:
    """Which network is the most accurate one, by the median of its seeds, that costs no more than a budget.

    Args:
        curves: name to widths, up to two networks; the axes are those of all of them, whatever the budget.
        budget: in the unit of the curves.
        unit: for the axis.

    Raises:
        ValueError: for a budget below all costs.
    """
    inside = [
        (median(values), name, width, x)
        for name, curve in curves.items()
        for width, (x, values) in curve.items()
        if x <= budget
    ]
    if not inside:
        least = min(x for curve in curves.values() for x, _ in curve.values())
        raise ValueError(f"budget must be at least the least cost, {least:g}, got {budget!r}")
    middle, name, width, x = max(inside)
    figure, frame = new_figure(height=3.4)
    _draw_curves(frame, curves)
    left, right = frame.get_xlim()
    frame.axvspan(min(budget, right), right, color=REFERENCE, alpha=0.25, linewidth=0)
    frame.plot(x, middle, "o", markersize=14, markerfacecolor="none", color=COLOURS["vermilion"], markeredgewidth=2)
    frame.set(xlim=(left, right), xlabel=unit)
    frame.set_title(f"{name} ×{width:g}: {middle:.1f} %")
    figure.legend(loc="outside upper center", ncols=2, handlelength=1.5)
    alt = f"Of the networks with at most {budget:g} {unit}, {name} ×{width:g} is the best: {middle:.1f} %"
    return Drawing(figure, f"{alt} with {x:.3g}.")


@in_style
def without_colours(groups: Mapping[str, Sequence[tuple[float, float]]]) -> Drawing:
    """Accuracy over the accuracy on the same images in shades of grey, a point for each run.

    A network that does not use colours is on the diagonal, and the farther above it the more it needs them.

    Args:
        groups: up to three, name to the pairs of its runs in per cent: with colours, without.
    """
    if not 1 <= len(groups) <= 3 or not all(groups.values()):
        raise ValueError(f"groups must be from 1 to 3 with one or more runs each, got {len(groups)}")
    (figure, frame), words = new_figure(height=3.9), []
    frame.plot([0, 100], [0, 100], ":", color=REFERENCE, label="colours not used")
    for (name, pairs), colour, marker in zip(groups.items(), _COLOURS, "so^", strict=False):
        seen, grey = zip(*pairs, strict=True)
        frame.plot(grey, seen, marker, color=colour, markersize=5.5, label=name)
        blind = sorted(top1 for top1, left in pairs if top1 - left < 5)
        ends = f", reaching {blind[0]:.0f} to {blind[-1]:.0f}" if blind else ""
        words.append(f"{name}: {len(blind)} of {len(pairs)} lose less than 5 points{ends}")
    frame.set(xlabel="top-1 without colours, %", ylabel="top-1, %", xlim=(0, 100), ylim=(0, 100), aspect="equal")
    figure.legend(loc="outside upper center", ncols=2, handlelength=1.5)
    return Drawing(figure, f"Points of accuracy over the accuracy on grey images. {'. '.join(words)}.")


@in_style
def along_axes(groups: Mapping[str, Sequence[Mapping[int, float]]]) -> Drawing:
    """Accuracy on images whose colours lie on one axis of hue, over the angle of the axis, a line for each network.

    Args:
        groups: one or two, name to networks, each with accuracies in per cent by degrees from 0 to below 180, where
            0 is the axis of red and cyan.
    """
    if not 1 <= len(groups) <= 2 or not all(groups.values()):
        raise ValueError(f"groups must be one or two with a network or more each, got {len(groups)}")
    (figure, frame), words = new_figure(height=3.4), []
    for (name, networks), colour in zip(groups.items(), _COLOURS, strict=False):
        for number, network in enumerate(networks):
            places = sorted(network)
            heights = [network[place] for place in places]
            label = name if number == 0 else None
            # Half a turn is the same axis again.
            frame.plot(
                [*places, places[0] + 180], [*heights, heights[0]], ".-", color=colour, linewidth=1.5, label=label
            )
        ends = [(min(network.values()), max(network.values())) for network in networks]
        (worst, least), (most, best) = ((min(side), max(side)) for side in zip(*ends, strict=True))
        words.append(f"{name}: {worst:.0f} to {least:.0f} on the worst axis, {most:.0f} to {best:.0f} on the best")
    named = {0: "0°\nred", 60: "60°\nyellow", 120: "120°\ngreen", 180: "180°\ncyan"}
    frame.set_xticks(list(named), list(named.values()))
    frame.set(ylabel="top-1, %", ylim=(0, 100))
    figure.legend(loc="outside upper center", ncols=2, handlelength=1.5)
    return Drawing(figure, f"Lines of accuracy over the angle of the axis that colours lie on. {'; '.join(words)}.")
