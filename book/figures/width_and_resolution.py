"""The figures of chapter 07: the power laws of width and resolution, and published accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.ticker import FixedLocator, NullLocator

from mnv3lib.explore.drawing import Drawing, in_style, new_figure
from mnv3lib.explore.palette import ACCENT, COLOURS, REFERENCE

__all__ = ["accuracy_against_macs", "power_law"]


@in_style
def power_law(
    xs: Sequence[float], curves: Mapping[str, Sequence[float]], *, xlabel: str, exponents: Mapping[str, float]
) -> Drawing:
    """Cost relative to the reference on logarithmic axes, where a power law is a straight line.

    Args:
        xs: what is varied, 1.0 being the reference.
        curves: name to cost at each x, relative to the cost at 1.0.
        xlabel: what is varied, in words.
        exponents: name to the slope of a straight line drawn dotted for comparison.
    """
    figure, axes = new_figure(height=3.4)
    colours = (ACCENT, COLOURS["orange"], COLOURS["green"])
    for (name, ys), colour, marker in zip(curves.items(), colours, "os^", strict=False):
        axes.plot(xs, ys, color=colour, marker=marker, markersize=4, label=name)
    for name, exponent in exponents.items():
        axes.plot(xs, [x**exponent for x in xs], color=REFERENCE, linewidth=1, linestyle=":")
        low = xs[len(xs) // 8]  # where the curves have left the line
        axes.annotate(name, (low, low**exponent), (8, -6), textcoords="offset points")
    axes.set_xscale("log")
    axes.set_yscale("log")
    shown = [x for x in (0.25, 0.5, 1.0, 1.5, 2.0) if min(xs) <= x <= max(xs)]
    axes.xaxis.set_major_locator(FixedLocator(shown))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(shown, [f"{x:g}" for x in shown])
    axes.set_yticks(heights := [0.05, 0.1, 0.2, 0.5, 1, 2, 4], [f"{height:g}" for height in heights])
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set(xlabel=xlabel, ylabel="relative to 1.0", ylim=(0.8 * min(map(min, curves.values())), None))
    axes.legend(loc="upper left")
    ends = ", ".join(f"{name} from {ys[0]:.2f} to {ys[-1]:.2f}" for name, ys in curves.items())
    alt = f"Lines on logarithmic axes over {xlabel} from {xs[0]:g} to {xs[-1]:g}, relative to 1.0: {ends}."
    return Drawing(figure, alt)


@in_style
def accuracy_against_macs(points: Mapping[str, Sequence[tuple[float, float]]]) -> Drawing:
    """Published top-1 accuracy over million multiply-adds, one line a series of (MACs, accuracy).

    Solid lines with circles and dotted ones with triangles take turns.
    """
    figure, axes = new_figure(height=3.6)
    colours = (ACCENT, COLOURS["sky"], COLOURS["vermilion"], COLOURS["orange"])
    styles = (("o", "-"), ("^", ":")) * 2
    for (name, series), colour, (marker, line) in zip(points.items(), colours, styles, strict=False):
        macs, accuracy = zip(*sorted(series), strict=True)
        axes.plot(macs, accuracy, color=colour, marker=marker, linestyle=line, markersize=5, label=name)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator([10, 20, 50, 100, 200, 400]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks([10, 20, 50, 100, 200, 400], ["10", "20", "50", "100", "200", "400"])
    axes.set(xlabel="M multiply-adds", ylabel="ImageNet top-1, %")
    axes.legend(loc="lower right")
    parts = []
    for name, series in points.items():
        (low, worst), (high, best) = min(series), max(series)
        parts.append(f"{name} rises from {worst:.1f} % at {low:.3g} M to {best:.1f} % at {high:.3g} M")
    return Drawing(figure, f"Published top-1 accuracy over multiply-adds, logarithmic axis: {'; '.join(parts)}.")
