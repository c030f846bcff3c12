"""The figures of chapter 7: the power laws of width and resolution, and published accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.ticker import FixedLocator, NullLocator

from mnv3lib.explore.drawing import Drawing, in_style, new_figure
from mnv3lib.explore.palette import ACCENT, COLOURS, REFERENCE

__all__ = ["accuracy_against_macs", "dials", "power_law"]

_FULL = (1.0, 224)  # width and resolution of the network that the dials start from


@in_style
def dials(points: Mapping[tuple[float, int], tuple[float, float, float]]) -> Drawing:
    """Accuracy over work and over time when one of two dials is turned, one panel above the other.

    Args:
        points: width and resolution to million multiply-adds, milliseconds and top-1 in per cent. Width is turned at
            224 pixels and resolution at width 1.
    """
    figure, panels = new_figure(height=4.6, nrows=2, sharey=True)
    turned = {
        "width": {f"×{width:g}": found for (width, side), found in points.items() if side == _FULL[1]},
        "resolution": {f"{side}": found for (width, side), found in points.items() if width == _FULL[0]},
    }
    alt = []
    for axes, column, unit in zip(panels, (0, 1), ("million multiply-adds", "ms on a Pixel 1"), strict=True):
        sides = (1, -1) if column else (-1, 1)  # names to the right or left: away from the other curve
        for (dial, found), colour, marker, side in zip(
            turned.items(), (COLOURS["orange"], ACCENT), "o^", sides, strict=True
        ):
            ordered = sorted(found.items(), key=lambda pair: pair[1][column])
            xs, ys = [values[column] for _, values in ordered], [values[2] for _, values in ordered]
            axes.plot(xs, ys, color=colour, marker=marker, markersize=6, label=dial if column == 0 else None)
            for (name, _), x, y in zip(ordered, xs, ys, strict=True):
                if points[_FULL][column] == x:
                    continue  # the network that both dials start from
                axes.annotate(name, (x, y), (7 * side, -4 * side), textcoords="offset points",
                              ha="left" if side > 0 else "right", va="top" if side > 0 else "bottom")  # fmt: skip
            if column:
                shown = (f"{name} {values[2]:.1f} in {values[1]:.1f} ms" for name, values in ordered)
                alt.append(f"{dial}: {', '.join(shown)}")
        axes.set_xscale("log")
        ticks = [[50, 100, 200, 400], [10, 20, 40, 80]][column]
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.margins(x=0.12 if column else 0.3, y=0.22)
        axes.set(xlabel=unit, ylabel="top-1, %")
    figure.legend(loc="outside upper center", ncols=2)
    said = "; ".join(alt)
    return Drawing(figure, f"Top-1 in %, above over multiply-adds, below over time, by the dial turned. {said}.")


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
    axes.set(xlabel="million multiply-adds", ylabel="ImageNet top-1, %")
    axes.legend(loc="lower right")
    parts = []
    for name, series in points.items():
        (low, worst), (high, best) = min(series), max(series)
        parts.append(f"{name} rises from {worst:.1f} % at {low:.3g} M to {best:.1f} % at {high:.3g} M")
    return Drawing(figure, f"Published top-1 accuracy over multiply-adds, logarithmic axis: {'; '.join(parts)}.")
