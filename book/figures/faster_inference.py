"""The figures of the chapter on faster inference: the ladder, calls before and after folding, and two layouts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.patches import Rectangle

from mnv3lib._checks import one_of
from mnv3lib.explore.drawing import Drawing, in_style, new_figure
from mnv3lib.explore.palette import ACCENT, COLOURS, REFERENCE

__all__ = ["PYTORCH", "calls", "ladder", "layouts", "precision_of"]

#: The ways that need nothing but PyTorch.
PYTORCH = ("PyTorch", "folded, channels last", "matrix products", "torch.compile", "AOTInductor")
_OURS = "engine"
_CHANNELS = (COLOURS["sky"], COLOURS["orange"], COLOURS["green"], COLOURS["yellow"])
_PRECISIONS = ("fp32", "bf16", "int8")


@in_style
def ladder(result: Mapping[str, Any], *, precision: str = "fp32") -> Drawing:
    """Time of each way as a fraction of eager PyTorch's, with its interval; dashed, the floor in float32.

    Args:
        result: of one network and batch, as the benchmark of inference writes it.
        precision: ``"fp32"`` for the ways in float32 alone, or another one for its ways beside eager PyTorch.
    """
    shown = {kind: _lines(result, kind) for kind in _PRECISIONS}
    lines, most = shown[one_of("precision", precision, _PRECISIONS)], max(map(len, shown.values()))
    baseline = next(line for line in lines if line["way"] == PYTORCH[0])
    floor = result["floor_ms"] / baseline["milliseconds"]
    figure, axes = new_figure(height=1.3 + 0.42 * most)  # so that nothing below it moves
    words, data = [], {}
    for at, line in enumerate(lines):
        way, (ratio, low, high) = line["way"], line["ratio"]
        name = way.partition(", ")[0] if precision_of(way) != "fp32" else way
        colour = COLOURS["orange"] if name == _OURS else ACCENT if name in PYTORCH else COLOURS["green"]
        axes.barh(at, ratio, height=0.66, color=colour)
        axes.plot([low, high], [at, at], color=REFERENCE, linewidth=3)
        axes.annotate(f"{ratio:.2f}", (max(ratio, high), at), (5, 0), textcoords="offset points", va="center")
        words.append(f"{way} {ratio:.2f}")
        data[way] = ratio
    axes.axvline(floor, color=REFERENCE, linestyle="--", linewidth=1.5)
    axes.annotate("floor", (floor, 1), (0, 3), xycoords=("data", "axes fraction"), textcoords="offset points",
                  ha="center")  # fmt: skip
    axes.set_yticks(range(len(lines)), [line["way"].replace(", ", ",\n") for line in lines])
    axes.set(ylim=(most - 0.5, -0.5), xlim=(0, 1.19), xlabel="time over that of eager PyTorch")
    alt = (
        f"Bars of times as fractions of eager PyTorch's, batch {result['batch']}: {', '.join(words)}. The floor of "
        f"this processor in float32 is {floor:.2f}."
    )
    return Drawing(figure, alt, {"ratios": data, "floor": floor})


@in_style
def calls(before: Mapping[str, int], after: Mapping[str, int]) -> Drawing:
    """How often a network calls each operation, two bars each, as it is and with batch norm folded.

    Args:
        before: name of an operation to the number of its calls.
        after: the same of the folded network; an operation that is not there is not called.
    """
    names = sorted(before, key=lambda name: -before[name])
    figure, axes = new_figure(height=1.0 + 0.5 * len(names))
    for shift, counts, colour, label in ((-0.2, before, REFERENCE, "as it is"), (0.2, after, ACCENT, "folded")):
        for place, name in enumerate(names):
            count = counts.get(name, 0)
            axes.barh(place + shift, count, height=0.38, color=colour, label="" if place else label)
            axes.annotate(str(count), (count, place + shift), (4, 0), textcoords="offset points", va="center")
    axes.set_yticks(range(len(names)), names)
    axes.set(xlim=(0, 1.12 * max(before.values())), ylim=(len(names) - 0.5, -0.5), xlabel="calls")
    axes.legend(loc="lower right")
    said = ", ".join(f"{name} {before[name]} and {after.get(name, 0)}" for name in names)
    alt = f"Bars of the calls of each operation, as the network is and folded: {said}."
    return Drawing(figure, alt, {"before": dict(before), "after": dict(after)})


@in_style
def layouts(channels: int, positions: int, lanes: int) -> Drawing:
    """The values of a feature map in the order in which they lie in memory, by default and with channels last.

    Args:
        channels: up to four, a colour each.
        positions: whose numbers stand in the values.
        lanes: values that one vector instruction takes, framed at the beginning.
    """
    orders = {
        "default: channel after channel": [(c, p) for c in range(channels) for p in range(positions)],
        "channels last: position after position": [(c, p) for p in range(positions) for c in range(channels)],
    }
    figure, axes = new_figure(height=2.4, nrows=len(orders))
    for frame, (title, order) in zip(axes, orders.items(), strict=True):
        for at, (channel, position) in enumerate(order):
            frame.add_patch(Rectangle((at, 0), 0.92, 1, color=_CHANNELS[channel]))
            frame.annotate(str(position), (at + 0.46, 0.46), ha="center", va="center", color="black")
        frame.add_patch(Rectangle((-0.12, -0.16), lanes + 0.12, 1.32, fill=False, edgecolor=REFERENCE, linewidth=2.5))
        frame.set(title=title, xlim=(-0.3, len(order) + 0.1), ylim=(-0.3, 1.3), xticks=[], yticks=[])
        frame.spines[:].set_visible(False)
    firsts = {title: [f"channel {c} at position {p}" for c, p in order[:lanes]] for title, order in orders.items()}
    said = "; ".join(f"{title}, first {', '.join(first)}" for title, first in firsts.items())
    return Drawing(figure, f"Two lines of {channels * positions} values in memory: {said}.", {"orders": orders})


def _lines(result: Mapping[str, Any], precision: str) -> list[Mapping[str, Any]]:
    """The ways in float32, or those in another precision below eager PyTorch."""
    return [line for line in result["lines"] if precision_of(line["way"]) == precision or line["way"] == PYTORCH[0]]


def precision_of(way: str) -> str:
    """The precision that a way computes in."""
    return next((kind for kind in _PRECISIONS[1:] if way.endswith(f", {kind}")), _PRECISIONS[0])
