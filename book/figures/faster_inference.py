"""The figure of the chapter on faster inference: the ladder, a bar a way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mnv3lib._checks import one_of
from mnv3lib.explore.drawing import Drawing, in_style, new_figure
from mnv3lib.explore.palette import ACCENT, COLOURS, REFERENCE

__all__ = ["PYTORCH", "ladder", "precision_of"]

#: The ways that need nothing but PyTorch.
PYTORCH = ("PyTorch", "folded, channels last", "matrix products", "torch.compile", "AOTInductor")
_OURS = "engine"
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


def _lines(result: Mapping[str, Any], precision: str) -> list[Mapping[str, Any]]:
    """The ways in float32, or those in another precision below eager PyTorch."""
    return [line for line in result["lines"] if precision_of(line["way"]) == precision or line["way"] == PYTORCH[0]]


def precision_of(way: str) -> str:
    """The precision that a way computes in."""
    return next((kind for kind in _PRECISIONS[1:] if way.endswith(f", {kind}")), _PRECISIONS[0])
