"""The chapter on detection: anchors of several designs, and how many objects each of them matches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import box_iou

from mnv3lib.detectors import SSDLiteConfig
from mnv3lib.explore.drawing import Drawing, in_style, new_figure
from mnv3lib.explore.palette import COLOURS
from mnv3lib.tasks.ssdlite import DefaultBoxes

__all__ = ["anchors", "best_overlap", "default_boxes", "overlaps", "positions"]


def anchors(sizes: Sequence[Sequence[int]], strides: Sequence[int], *, side: int = 320) -> Tensor:
    """Anchors of Faster R-CNN, (N, 4), in an image: torchvision's generator, with its three ratios.

    Args:
        sizes: sides of the squares, for each feature map.
        strides: output stride of each feature map.
        side: of the image.
    """
    generator = AnchorGenerator(tuple(map(tuple, sizes)), ((0.5, 1.0, 2.0),) * len(sizes))
    maps = [torch.zeros(1, 1, side // stride, side // stride) for stride in strides]
    found: Tensor = generator(ImageList(torch.zeros(1, 3, side, side), [(side, side)]), maps)[0]
    return found


def default_boxes(config: SSDLiteConfig) -> Tensor:
    """All default boxes of an SSDLite at its own size, (N, 4) in pixels."""
    side = config.size
    maps, cells = [], -(-side // 16)
    for _ in config.boxes:
        maps.append(torch.zeros(1, 1, cells, cells))
        cells = -(-cells // 2)
    found: Tensor = DefaultBoxes(config)(ImageList(torch.zeros(1, 3, side, side), [(side, side)]), maps)[0]
    return found


def positions(side: float, *, period: int = 64, steps: int = 16, start: int = 128) -> Tensor:
    """Square boxes of one side, (steps², 4), around every position of a fine grid in one period of the coarsest stride.

    Args:
        side: of the boxes, in pixels.
        period: side of the square that the centres fill.
        steps: centres along each side of it.
        start: its left and upper border.
    """
    centres = start + (torch.arange(steps) + 0.5) * period / steps
    middle = torch.cartesian_prod(centres, centres)
    return torch.cat([middle - side / 2, middle + side / 2], dim=1)


def overlaps(boxes: Tensor, sides: Sequence[int], *, least: float = 0.5) -> dict[int, float]:
    """Of square objects, by side: the fraction of positions at which some box has an IoU of ``least`` or more."""
    return {side: (box_iou(positions(side), boxes).amax(1) >= least).float().mean().item() for side in sides}


@in_style
def best_overlap(curves: Mapping[str, Mapping[int, float]]) -> Drawing:
    """For square objects by side: at how many of their positions some anchor overlaps enough; a line for each set."""
    figure, axes = new_figure(height=3.6)
    words = []
    # Rings without a line for the last one: it may lie on others, which have to be seen through it.
    styles = (("vermilion", "o-"), ("sky", "s-"), ("blue", "^-"), ("orange", "o"))
    for (name, curve), (colour, style) in zip(curves.items(), styles, strict=False):
        ring = {"markerfacecolor": "none", "markersize": 11, "markeredgewidth": 2} if style == "o" else {}
        axes.plot(
            list(curve), [100 * part for part in curve.values()], style, color=COLOURS[colour], label=name, **ring
        )
        words.append(f"{name}: " + ", ".join(f"{part:.0%} at {side}" for side, part in curve.items()))
    axes.set_xscale("log", base=2)
    sides = list(next(iter(curves.values())))
    axes.set_xticks(sides, [f"{side}" for side in sides])
    axes.set_xticks([], minor=True)
    axes.set(xlabel="side of the object, pixels", ylabel="positions with IoU ≥ 0.5, %", ylim=(-8, 108))
    figure.legend(loc="outside upper center", ncols=1, handlelength=1.5)
    return Drawing(figure, f"Lines of positions matched over the side of an object. {'; '.join(words)}.", dict(curves))
