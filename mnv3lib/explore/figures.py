"""The figures of Part II; each takes what it plots and returns a :class:`Drawing` with the words for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from matplotlib.ticker import FixedLocator, NullLocator

from mnv3lib.config import make_divisible
from mnv3lib.cost import Profile
from mnv3lib.explore.drawing import Drawing, in_style, new_figure
from mnv3lib.explore.palette import ACCENT, COLOURS, REFERENCE

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "accuracy_against_macs",
    "macs_by_feature",
    "parameters_and_macs",
    "power_law",
    "rounding_staircase",
    "stage_maps",
]


@in_style
def rounding_staircase(highest: int = 64) -> Drawing:
    """What :func:`mnv3lib.config.make_divisible` makes of every width up to ``highest`` channels."""
    wanted = range(1, highest + 1)
    given = [make_divisible(channels) for channels in wanted]
    most = max(wanted, key=lambda channels: given[channels - 1] / channels if channels >= 8 else 0)
    least = min(wanted, key=lambda channels: given[channels - 1] / channels)
    figure, axes = new_figure(height=3.4)
    axes.plot(wanted, wanted, color=REFERENCE, linewidth=1, linestyle=":", label="unrounded")
    axes.step(wanted, given, where="mid", color=ACCENT, label="make_divisible")
    axes.scatter([most, least], [given[most - 1], given[least - 1]], color=COLOURS["vermilion"], zorder=3)
    axes.annotate(f"{most}→{given[most - 1]}", (most, given[most - 1]), (6, 6), textcoords="offset points", ha="right")
    axes.annotate(f"{least}→{given[least - 1]}", (least, given[least - 1]), (6, -14), textcoords="offset points")
    axes.set(xlabel="channels asked for", ylabel="channels given", xticks=range(0, highest + 1, 16))
    axes.set_yticks(range(0, highest + 1, 16))
    axes.legend(loc="upper left")
    alt = (
        f"Staircase of make_divisible for 1 to {highest} channels against the dotted diagonal. Steps are 8 high. "
        f"From 8 channels on, {most} gains most (it becomes {given[most - 1]}) and {least} loses most "
        f"(it becomes {given[least - 1]})."
    )
    return Drawing(figure, alt)


@in_style
def macs_by_feature(networks: Mapping[str, Sequence[int]], *, ceiling: float | None = None) -> Drawing:
    """Million multiply-adds of each feature of one or two networks, side by side.

    Args:
        networks: name to the multiply-adds of the stem, each row, the last convolution and the classifier; the first
            is drawn in the accent colour, a second as a grey outline around it.
        ceiling: top of the axis in millions, so that a figure keeps its scale while its reader changes the network.
    """
    longest = max(map(len, networks.values()))
    labels = ["stem", *map(str, range(1, longest - 1)), "head"]
    figure, axes = new_figure(height=3.2)
    parts = []
    for (name, macs), style in zip(networks.items(), _STYLES, strict=False):
        millions = [value / 1e6 for value in macs]
        axes.bar([*range(len(macs) - 2), longest - 2, longest - 1], millions, label=name, **style)
        top = max(range(len(macs)), key=macs.__getitem__)
        place = _place(top, len(macs))
        parts.append(f"{name} takes {sum(millions):.1f} in all, most ({millions[top]:.1f}) in {place}")
    ticks = [0, *range(3, longest - 3, 3), longest - 1]
    axes.set_xticks(ticks, [labels[tick] for tick in ticks])
    axes.set(xlabel="feature (rows count from 1)", ylabel="M multiply-adds", ylim=(0, ceiling))
    axes.legend()
    return Drawing(figure, f"Bars of million multiply-adds for each feature. {'; '.join(parts)}.")


_STYLES: tuple[dict[str, Any], ...] = (
    {"color": ACCENT, "width": 0.62},
    {"facecolor": "none", "edgecolor": REFERENCE, "linewidth": 1.5, "width": 0.86},
)


@in_style
def parameters_and_macs(report: Profile) -> Drawing:
    """Two panels of bars: parameters of each feature above, its multiply-adds below."""
    figure, axes = new_figure(height=3.8, nrows=2, sharex=True)
    count = len(report.features)
    parts = []
    rows = (("parameters", report.parameters_by_feature), ("multiply-adds", report.macs_by_feature))
    for frame, (name, values), colour in zip(axes, rows, (COLOURS["vermilion"], ACCENT), strict=True):
        frame.bar(range(count), [value / 1e6 for value in values], color=colour, width=0.7)
        frame.set_ylabel(f"M {name}" if name == "parameters" else "M mult.-adds")
        top = max(range(count), key=values.__getitem__)
        parts.append(f"most {name}, {values[top] / sum(values):.0%} of them, are in {_place(top, count)}")
    ticks = [0, *range(3, count - 3, 3), count - 1]
    axes[1].set_xticks(ticks, ["stem", *map(str, ticks[1:-1]), "head"])
    axes[1].set_xlabel("feature (rows count from 1)")
    return Drawing(figure, f"Bars of parameters and of multiply-adds for each feature: {'; '.join(parts)}.")


def _place(index: int, count: int) -> str:
    """A feature in words."""
    names = {0: "the stem", count - 2: "the last convolution", count - 1: "the classifier"}
    return names.get(index, f"row {index}")


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
        parts.append(f"{name} rises from {worst:.1f} % at {low:.1f} M to {best:.1f} % at {high:.1f} M")
    return Drawing(figure, f"Published top-1 accuracy over multiply-adds, logarithmic axis: {'; '.join(parts)}.")


@in_style
def stage_maps(photo: Tensor, maps: Sequence[Tensor]) -> Drawing:
    """A photograph and, for each map, the mean absolute value of its channels at every place.

    Args:
        photo: (3, H, W), values from 0 to 1.
        maps: each (C, h, w), from fine to coarse; up to five.
    """
    figure, axes = new_figure(height=2.9, nrows=2, ncols=3)
    for frame in axes.flat:
        frame.axis("off")
    height, width = photo.shape[1:]
    frame = axes.flat[0]
    frame.imshow(photo.permute(1, 2, 0)[::2, ::2].numpy(), interpolation="nearest", extent=(0, width, height, 0))
    axes.flat[0].set_title(f"{height}×{width}")
    sizes = []
    for frame, values in zip(axes.flat[1:], maps, strict=False):
        channels, h, w = values.shape
        frame.imshow(
            values.abs().mean(0).numpy(), cmap="cividis", interpolation="nearest", extent=(0, width, height, 0)
        )
        frame.set_title(f"{h}×{w}")
        sizes.append(f"{h}×{w} with {channels} channels")
    alt = (
        f"A photograph of {height}×{width} pixels and the mean absolute value of the channels at each place after "
        f"every stage: {', '.join(sizes)}. Outlines of the photograph can be made out in the fine maps and dissolve "
        "into patches in the coarse ones."
    )
    return Drawing(figure, alt)
