"""The page on choosing: published networks under a limit of time, and what beats what."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from figures.families import peers
from matplotlib.ticker import NullLocator

from mnv3lib._checks import positive_real, value_of
from mnv3lib.explore.drawing import ON_PAPER, Drawing, in_style, new_figure
from mnv3lib.explore.palette import ACCENT, COLOURS, REFERENCE

__all__ = ["PROCESSORS", "beaten_by", "best", "front", "is_v3", "under_a_limit"]

#: The processors of the published times, and their columns in ``_data/peers.csv``.
PROCESSORS = {"i7-12700H": "i7_12700h", "i9-10940X": "i9_10940x"}

Row = Mapping[str, Any]


def is_v3(row: Row) -> bool:
    """Whether a published network is a MobileNetV3."""
    return "mobilenetv3" in row["model"]


def best(rows: Iterable[Row], processor: str, milliseconds: float) -> Row | None:
    """The network of the highest top-1 that takes at most so long for one image; None if there is none.

    Args:
        rows: of :func:`figures.families.peers`.
        processor: one of :data:`PROCESSORS`.
        milliseconds: the limit, above 0.

    Raises:
        ValueError: for another processor, or a limit that is not above 0.
    """
    column = value_of("processor", processor, PROCESSORS)
    limit = positive_real("milliseconds", milliseconds)
    within = [row for row in rows if 1000 / row[column] <= limit]
    return max(within, key=lambda row: float(row["top1"]), default=None)


def beaten_by(row: Row, rows: Iterable[Row]) -> list[str]:
    """Networks that are not MobileNetV3 and at least as accurate and as fast as ``row`` on every processor."""
    keys = ("top1", *PROCESSORS.values())
    others = (other for other in rows if other is not row and not is_v3(other))
    return [other["model"] for other in others if all(other[key] >= row[key] for key in keys)]


def front(rows: Iterable[Mapping[str, Any]], cost: str, gain: str = "top1") -> list[Mapping[str, Any]]:
    """The rows that no other row undercuts without losing: from the cheapest on, each gains more than all before.

    Args:
        rows: any mappings.
        cost: key of what is to be small.
        gain: key of what is to be large.
    """
    found: list[Mapping[str, Any]] = []
    for row in sorted(rows, key=lambda row: (row[cost], -row[gain])):
        if not found or row[gain] > found[-1][gain]:
            found.append(row)
    return found


@in_style
def under_a_limit(processor: str, milliseconds: float) -> Drawing:
    """Published networks by time and top-1, and the best of all and of MobileNetV3 within a limit of time.

    Args:
        processor: one of :data:`PROCESSORS`.
        milliseconds: the limit for one image.
    """
    rows = peers()
    column = value_of("processor", processor, PROCESSORS)
    winners = {
        "best": best(rows, processor, milliseconds),
        "V3": best(filter(is_v3, rows), processor, milliseconds),
    }
    figure, axes = new_figure(height=4.4)
    for ours, colour, label in ((False, REFERENCE, "others"), (True, ACCENT, "MobileNetV3")):
        some = [row for row in rows if is_v3(row) == ours]
        xs, ys = [1000 / row[column] for row in some], [row["top1"] for row in some]
        axes.plot(xs, ys, "o", color=colour, markersize=6 if ours else 4, alpha=1 if ours else 0.7, label=label)
    axes.axvline(milliseconds, color=COLOURS["vermilion"], linewidth=1.5)
    axes.axvspan(milliseconds, _WIDE[1], color=REFERENCE, alpha=0.15, linewidth=0)
    words = []
    for place, (kind, row) in enumerate(winners.items()):
        said = "none" if row is None else f"{_name(row)}, {row['top1']:.1f} %"
        words.append(f"{kind}: {said}")
        if row is not None:
            axes.plot(
                1000 / row[column], row["top1"], "o", markersize=12, markerfacecolor="none", markeredgewidth=2,
                color=COLOURS["vermilion"] if place == 0 else ACCENT,
            )  # fmt: skip
    axes.set_xscale("log")
    axes.set_xticks(_TICKS, [f"{tick:g}" for tick in _TICKS])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set(xlim=_WIDE, ylim=(50, 85), xlabel=f"ms for one image, {processor}", ylabel="ImageNet top-1, %")
    axes.text(0.98, 0.03, "\n".join(words), transform=axes.transAxes, ha="right", va="bottom", bbox=ON_PAPER)
    figure.legend(loc="outside upper center", ncols=2, handlelength=1)
    alt = (
        f"{len(rows)} published networks, top-1 over the time for one image on an {processor}, {_count(rows)} of them "
        f"MobileNetV3. Within {milliseconds:g} ms, {'; '.join(words)}."
    )
    return Drawing(figure, alt, {kind: row and row["model"] for kind, row in winners.items()})


_WIDE = (2.2, 90)
_TICKS = (2.5, 5, 10, 20, 40, 80)


def _name(row: Row) -> str:
    """The network without the tag of its training."""
    return str(row["model"]).partition(".")[0]


def _count(rows: Sequence[Row]) -> int:
    return sum(map(is_v3, rows))
