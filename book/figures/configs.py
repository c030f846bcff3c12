"""The figures of chapter 05: rounding, and what each block of a network costs.

Other chapters show their networks with :func:`macs_by_feature` too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mnv3lib.config import make_divisible
from mnv3lib.cost import Profile
from mnv3lib.explore.drawing import Drawing, in_style, new_figure
from mnv3lib.explore.palette import ACCENT, COLOURS, REFERENCE

__all__ = ["macs_by_feature", "parameters_and_macs", "part", "rounding_staircase"]


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
def macs_by_feature(
    networks: Mapping[str, Sequence[int]], *, ceiling: float | None = None, scale: float = 1.0
) -> Drawing:
    """Million multiply-adds of each block of one or two networks, side by side.

    Args:
        networks: name to the multiply-adds of the stem, each block, the last convolution and the classifier; the first
            is drawn in the accent colour, a second as a grey outline around it.
        ceiling: top of the axis in millions, so that a figure keeps its scale while its reader changes the network.
        scale: of the drawing, as in :class:`Drawing`.
    """
    longest = max(map(len, networks.values()))
    labels = ["stem", *map(str, range(1, longest - 1)), "head"]
    figure, axes = new_figure(height=3.2)
    parts = []
    for (name, macs), style in zip(networks.items(), _STYLES, strict=False):
        millions = [value / 1e6 for value in macs]
        axes.bar([*range(len(macs) - 2), longest - 2, longest - 1], millions, label=name, **style)
        top = max(range(len(macs)), key=macs.__getitem__)
        place = part(top, len(macs))
        parts.append(f"{name} takes {sum(millions):.3g} in all, most ({millions[top]:.3g}) in {place}")
    ticks = [0, *range(3, longest - 3, 3), longest - 1]
    axes.set_xticks(ticks, [labels[tick] for tick in ticks])
    axes.set(xlabel="block", ylabel="million multiply-adds", ylim=(0, ceiling))
    axes.legend()
    return Drawing(figure, f"Bars of million multiply-adds for each block. {'; '.join(parts)}.", scale=scale)


_STYLES: tuple[dict[str, Any], ...] = (
    {"color": ACCENT, "width": 0.62},
    {"facecolor": "none", "edgecolor": REFERENCE, "linewidth": 1.5, "width": 0.86},
)


@in_style
def parameters_and_macs(report: Profile) -> Drawing:
    """Two panels of bars: parameters of each block above, its multiply-adds below."""
    figure, axes = new_figure(height=3.8, nrows=2, sharex=True)
    count = len(report.features)
    parts = []
    rows = (("parameters", report.parameters_by_feature), ("multiply-adds", report.macs_by_feature))
    for frame, (name, values), colour in zip(axes, rows, (COLOURS["vermilion"], ACCENT), strict=True):
        frame.bar(range(count), [value / 1e6 for value in values], color=colour, width=0.7)
        frame.set_title(f"million {name}")
        top = max(range(count), key=values.__getitem__)
        parts.append(f"most {name}, {100 * values[top] / sum(values):.0f} % of them, are in {part(top, count)}")
    ticks = [0, *range(3, count - 3, 3), count - 1]
    axes[1].set_xticks(ticks, ["stem", *map(str, ticks[1:-1]), "head"])
    axes[1].set_xlabel("block")
    return Drawing(figure, f"Bars of parameters and of multiply-adds for each block: {'; '.join(parts)}.")


def part(index: int, count: int) -> str:
    """What stands at a place of a network, in words: a block, or one of its ends.

    Args:
        index: 0 for the stem, then the blocks, the last convolution and the classifier.
        count: of all of them.
    """
    names = {0: "the stem", count - 2: "the last convolution", count - 1: "the classifier"}
    return names.get(index, f"block {index}")
