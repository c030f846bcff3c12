"""The figure of chapter 06: what a photograph becomes from stage to stage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mnv3lib.explore.drawing import Drawing, in_style, new_figure

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["stage_maps"]


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
