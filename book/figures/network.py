"""The figures of the chapter that builds the network: errors of its repairs, and a photograph from stage to stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log10
from typing import TYPE_CHECKING

from mnv3lib.explore.drawing import Drawing, in_style, new_figure, power_of_ten
from mnv3lib.explore.palette import ACCENT, COLOURS

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["errors_left", "stage_maps"]

_LEAST = 1e-8  # where the axis of the errors starts


@in_style
def errors_left(errors: Mapping[str, float]) -> Drawing:
    """The relative error of a network after each of its repairs, on a logarithmic axis; zero is written out.

    Args:
        errors: name of the repair to the error that is left after it, 0 or at least 1e-8.
    """
    figure, axes = new_figure(height=0.7 + 0.5 * len(errors))
    shown = {name: "0, bit for bit" if error == 0 else _named(error) for name, error in errors.items()}
    for at, (name, error) in enumerate(errors.items()):
        length = log10(error / _LEAST) if error else 0
        axes.barh(at, length, height=0.6, color=ACCENT if at else COLOURS["vermilion"])
        axes.annotate(shown[name], (length, at), (5, 0), textcoords="offset points", va="center")
    axes.set_yticks(range(len(errors)), list(errors))
    axes.invert_yaxis()
    axes.set_xticks(ticks := [2, 5, 8], [power_of_ten(tick - 8) for tick in ticks])
    axes.set(xlabel="relative error of the logits", xlim=(0, 9.6))
    parts = [f"{name}: {words}" for name, words in shown.items()]
    return Drawing(
        figure, f"Bars of the relative error that is left, logarithmic axis. {'; '.join(parts)}.", scale=1.45
    )


def _named(error: float) -> str:
    """Two digits, or from 0.001 down as many powers of ten: 0.23, 10⁻⁶, 3.1·10⁻⁸."""
    if error >= 1e-3:
        return f"{error:.2g}"
    digits, exponent = f"{error:.1e}".split("e")
    power = power_of_ten(int(exponent))
    return power if digits == "1.0" else f"{digits}·{power}"


@in_style
def stage_maps(photo: Tensor, maps: Sequence[Tensor]) -> Drawing:
    """A photograph and, for each feature map, the mean absolute value of its channels at every position.

    Args:
        photo: (3, H, W), values from 0 to 1.
        maps: feature maps, each (C, h, w), from fine to coarse; up to five.
    """
    figure, axes = new_figure(height=2.6, nrows=2, ncols=3)
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
        f"A photograph of {height}×{width} pixels and the mean absolute value of the channels at each position after "
        f"every stage: {', '.join(sizes)}. Outlines of the photograph can be made out in the fine feature maps and "
        "dissolve into patches in the coarse ones."
    )
    return Drawing(figure, alt, scale=1.5)
