"""The figures of the chapter on inverted residuals: what ReLU loses, and where a bottleneck is narrow.

The spiral is the idea of Figure 1 of Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks",
arXiv:1801.04381; the drawing is our own. Each function takes what it plots and returns a :class:`Drawing` with the
words for it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.ticker import FixedLocator, NullLocator

from mnv3lib.explore.drawing import Drawing, in_style, new_figure
from mnv3lib.explore.palette import ACCENT, COLOURS, REFERENCE

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["block_widths", "gradient_growth", "loss_by_width", "shortcut_memory", "spiral_and_return", "spirals"]

LOST = COLOURS["vermilion"]


def _draw_curve(frame: Any, points: NDArray[Any], drawn: NDArray[Any], lost: NDArray[Any], title: str) -> None:
    """A curve in a frame without axes, the original in grey behind it; what is lost is dotted."""
    frame.plot(points[0], points[1], color=REFERENCE, linewidth=1, alpha=0.7)
    x, y = drawn
    for chosen, colour, style in ((lost, LOST, (0, (1.5, 1))), (~lost, ACCENT, "-")):
        here = chosen | np.roll(chosen, 1)  # up to the next point, so that the curve has no gaps
        frame.plot(np.where(here, x, np.nan), np.where(here, y, np.nan), color=colour, linestyle=style)
    frame.set(title=title, xticks=[], yticks=[], xlim=(-1.1, 1.1), ylim=(-1.1, 1.1), aspect="equal")
    frame.spines[:].set_visible(False)


@in_style
def spirals(points: NDArray[Any], widths: Sequence[int], *, seed: int) -> Drawing:
    """What comes back of a curve from different numbers of channels with ReLU, a panel each.

    Args:
        points: (2, P), the curve in the order it is drawn, within the unit circle.
        widths: numbers of channels, increasing, up to six.
        seed: of the random weights, drawn from a normal distribution anew for each width.
    """
    figure, axes = new_figure(height=3.3, nrows=2, ncols=3)
    found: dict[int, float] = {}
    for frame, channels in zip(axes.flat, widths, strict=False):
        weights = np.random.default_rng(seed).standard_normal((channels, 2))
        seen = np.maximum(weights @ points, 0)
        lost = (seen > 0).sum(axis=0) < 2
        found[channels] = float(lost.mean())
        _draw_curve(
            frame, points, np.linalg.pinv(weights) @ seen, lost, f"{channels}: {100 * found[channels]:.0f} % lost"
        )
    parts = [f"{100 * share:.0f} % of its points are lost in {channels}" for channels, share in found.items()]
    alt = f"What comes back of a spiral, a panel for each number of channels with ReLU: {', '.join(parts)}."
    return Drawing(figure, alt, {"lost": found}, scale=1.5)


@in_style
def spiral_and_return(points: NDArray[Any], returned: NDArray[Any], lost: NDArray[Any], *, channels: int) -> Drawing:
    """A curve in the plane, and what comes back from ``channels`` channels with ReLU.

    Args:
        points: (2, P), the curve in the order it is drawn, within the unit circle.
        returned: (2, P), what the linear decoder makes of each point.
        lost: (P,), whether fewer than two channels answer to the point.
        channels: n, named in the words only.

    Raises:
        ValueError: if the shapes do not fit together.
    """
    if points.shape != returned.shape or points.shape != (2, lost.size):
        raise ValueError(
            f"points and returned must be (2, P) and lost (P,), got {points.shape}, {returned.shape}, {lost.shape}"
        )
    figure, axes = new_figure(height=2.6, ncols=2, sharex=True, sharey=True)
    titles = (f"in: {100 * lost.mean():.0f} % lost", "out")
    for frame, drawn, title in zip(axes, (points, returned), titles, strict=True):
        _draw_curve(frame, points, drawn, lost, title)
    share, size = lost.mean(), np.linalg.norm(returned) / np.linalg.norm(points)
    beyond = int((np.abs(returned) > 1.1).any(0).sum())
    alt = (
        f"Left, a spiral; right, what comes back from {channels} channels with ReLU. {100 * share:.0f} % of its points "
        f"are lost, drawn dotted. The root mean square distance from the centre is {size:.2f} of the spiral's"
    )
    return Drawing(figure, alt + (f"; {beyond} of {lost.size} points leave the frame." if beyond else "."))


@in_style
def loss_by_width(
    channels: Sequence[int], lost: Sequence[float], formula: Sequence[float], error: Sequence[float]
) -> Drawing:
    """Two panels over the number of channels: the fraction of points lost, and the error of the linear decoder.

    Args:
        channels: n, increasing.
        lost: measured fraction of points lost, 0 to 1.
        formula: the same by formula, drawn as rings.
        error: of the decoder, relative to what it would return without error.
    """
    figure, axes = new_figure(height=3.9, nrows=2, sharex=True)
    places = range(len(channels))
    axes[0].bar(places, [100 * value for value in lost], color=LOST, width=0.6, label="measured")
    rings: dict[str, Any] = {"facecolors": "none", "edgecolors": REFERENCE, "s": 60, "linewidths": 2, "zorder": 3}
    axes[0].scatter(places, [100 * value for value in formula], label="formula", **rings)
    axes[0].set(ylabel="% of points lost", ylim=(-4, 100))
    axes[0].legend()
    axes[1].plot(places, error, color=ACCENT, marker="o")
    axes[1].set(ylabel="error", xlabel="channels", ylim=(0, 1.1))
    axes[1].set_xticks(list(places), [str(n) for n in channels])
    parts = [
        f"{n} channels {100 * share:.1f} %, {off:.2f}" for n, share, off in zip(channels, lost, error, strict=True)
    ]
    return Drawing(figure, f"Fraction of points lost, and error of the linear decoder: {'; '.join(parts)}.")


@in_style
def block_widths(blocks: Mapping[str, Sequence[int]], *, kernel: int = 3) -> Drawing:
    """Blocks of three convolutions as hourglasses: how wide each feature map is, and which ones the shortcut joins.

    Args:
        blocks: name to the channels before, between and after the three convolutions, four numbers each.
        kernel: side of the kernel in the middle.

    Raises:
        ValueError: if a block has other than four widths.
    """
    figure, axes = new_figure(height=3.1, ncols=len(blocks), sharey=True)
    parts = []
    for frame, (name, widths) in zip(np.atleast_1d(axes), blocks.items(), strict=True):
        if len(widths) != 4:
            raise ValueError(f"blocks[{name!r}] must hold 4 widths, got {tuple(widths)}")
        ends = widths[0] == widths[-1]
        for place, width in enumerate(widths):
            inside = place in (1, 2)
            frame.barh(place, width, left=-width / 2, height=0.42, color=ACCENT if inside else COLOURS["green"])
            frame.text(0, place + 0.27, str(width), ha="center", va="top")
        if ends:
            reach = max(max(each) for each in blocks.values()) * 0.62
            arc = [-widths[0] / 2, -reach, -reach, -widths[-1] / 2]
            frame.plot(arc, [0, 0, 3, 3], color=REFERENCE, linewidth=1.5)
        frame.set(title=name, xticks=[], yticks=[0.62, 1.62, 2.62], ylim=(3.7, -0.3))
        frame.set_yticklabels(["1×1", f"{kernel}×{kernel}", "1×1"])
        frame.tick_params(length=0)
        frame.spines[:].set_visible(False)
        joined = f"the shortcut keeps {widths[0]}" if ends else "there is no shortcut"
        parts.append(f"{name}: {' → '.join(map(str, widths))} channels, {joined}")
    return Drawing(
        figure, f"Widths of the feature maps before, between and after three convolutions. {'; '.join(parts)}."
    )


@in_style
def gradient_growth(depths: Sequence[int], curves: Mapping[str, Sequence[float]]) -> Drawing:
    """Length of the gradient at the input of a stack over its length at the output, on logarithmic axes.

    Args:
        depths: number of blocks, increasing.
        curves: name to the ratio at each depth; the first is drawn in the accent colour.
    """
    figure, axes = new_figure(height=3.2)
    for (name, ratios), colour, marker in zip(curves.items(), (ACCENT, LOST), "os", strict=False):
        axes.plot(depths, ratios, color=colour, marker=marker, markersize=5, label=name)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.xaxis.set_major_locator(FixedLocator(list(depths)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(list(depths), [str(depth) for depth in depths])
    axes.set_yticks(ticks := [1, 10, 100, 1_000, 10_000, 100_000], [f"{tick:,}" for tick in ticks])
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set(xlabel="blocks, one after another", ylabel="gradient grows, times")
    axes.legend(loc="upper left")
    ends = "; ".join(
        f"{name}, {ys[0]:.2g} times after {depths[0]}, more than {_at_least(ys[-1]):,} after {depths[-1]}"
        for name, ys in curves.items()
    )
    return Drawing(figure, f"Growth of the gradient's length towards the input over the number of blocks: {ends}.")


def _at_least(times: float) -> int:
    """One digit, rounded down: rounding errors grow through the blocks, and processors differ in the second."""
    unit = 10 ** int(math.log10(times))
    return int(times // unit) * unit


@in_style
def shortcut_memory(numbers: Sequence[int], narrow: Sequence[int], wide: Sequence[int]) -> Drawing:
    """What the shortcut of each block keeps, between the narrow ends and were it between the wide ones.

    Args:
        numbers: of the blocks that have a shortcut, from 1.
        narrow: bytes of the block's input, one image.
        wide: bytes of a feature map of the expanded channels.
    """
    figure, axes = new_figure(height=3.0)
    places = range(len(numbers))
    axes.bar(places, [value / 1e3 for value in narrow], color=ACCENT, width=0.55, label="narrow ends")
    outline: dict[str, Any] = {"facecolor": "none", "edgecolor": REFERENCE, "linewidth": 1.5}
    axes.bar(places, [value / 1e3 for value in wide], width=0.8, label="wide ends", **outline)
    axes.set_xticks(list(places), [str(number) for number in numbers])
    axes.set(xlabel="block", ylabel="kB kept")
    axes.legend()
    most = max(places, key=lambda place: wide[place] - narrow[place])
    alt = (
        f"Bars of the bytes a shortcut keeps in blocks {', '.join(map(str, numbers))}: between the narrow ends "
        f"{sum(narrow) / 1e3:,.0f} kB over all of them, between the wide ones {sum(wide) / 1e3:,.0f} kB. The "
        f"largest step is in block {numbers[most]}, from {narrow[most] / 1e3:.0f} to {wide[most] / 1e3:.0f} kB."
    )
    return Drawing(figure, alt)
