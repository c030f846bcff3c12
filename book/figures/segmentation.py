"""The chapter on segmentation: its images and its figures."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean
from typing import Any

import numpy as np
import torch
from figures.jpeg import jpeg
from figures.measured import Study
from IPython.display import Image as Shown
from matplotlib.patches import FancyBboxPatch, Patch
from PIL import Image, ImageDraw
from torch import Tensor

from mnv3lib.data import DigitScenes
from mnv3lib.explore.drawing import Drawing, in_style, new_figure
from mnv3lib.explore.palette import ACCENT, COLOURS, KINDS, REFERENCE
from mnv3lib.heads import LRASPPConfig
from mnv3lib.recipe import Recipe

__all__ = ["block_diagram", "compared", "gridded", "known_every", "scenes", "scores"]

#: What a pixel can be, and its colour.
_VERDICTS = {"right digit": ACCENT, "wrong digit": COLOURS["purple"], "missed": COLOURS["orange"],
             "invented": COLOURS["vermilion"]}  # fmt: skip


def scenes(recipe: Recipe, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Test images of a recipe on DigitScenes, that no training saw.

    Returns:
        pixels uint8 (size, 3, H, W), the same as the network takes them, float32, and masks int64 (size, H, W).
    """
    options: dict[str, Any] = dict(recipe.data.options)
    chosen: dict[str, Any] = {"difficulty": options["difficulty"], "digits": tuple(options["digits"])}
    data = DigitScenes("test", size=size, resolution=recipe.data.eval_size, task="segmentation", **chosen)
    images, masks = zip(*(data[at] for at in range(size)), strict=True)
    pixels = torch.stack([image.as_subclass(Tensor) for image in images])
    mean, deviation = (torch.tensor(values)[:, None, None] for values in (recipe.augment.mean, recipe.augment.std))
    return pixels, (pixels / 255 - mean) / deviation, torch.stack([mask.as_subclass(Tensor) for mask in masks]).long()


def gridded(picture: Image.Image, mask: Tensor, *, positions: int, backdrop: str = ACCENT) -> Shown:
    """A picture under a grid of so many positions a side, and beside it its mask, as a JPEG.

    Args:
        picture: RGB, square.
        mask: of any size, True where the object is.
        positions: of the coarsest feature map, a side.
        backdrop: colour of all that is not the object.
    """
    side = 2 * picture.width
    large = picture.resize((side, side), Image.Resampling.BICUBIC)
    drawn = ImageDraw.Draw(large)
    for line in range(1, positions):
        at = round(line * side / positions)
        drawn.line([(at, 0), (at, side)], fill="white", width=2)
        drawn.line([(0, at), (side, at)], fill="white", width=2)
    shape = Image.fromarray(mask.numpy().astype(np.uint8) * 255).resize((side, side), Image.Resampling.NEAREST)
    both = Image.new("RGB", (2 * side, side), backdrop)
    both.paste(large, (0, 0))
    both.paste(Image.new("RGB", (side, side), "white"), (side, 0), shape)
    both = both.resize((2 * picture.width, picture.width), Image.Resampling.LANCZOS)
    fraction = float(mask.float().mean())
    alt = f"A picture under a grid of {positions} by {positions}, and a mask of {fraction:.0%} of its pixels."
    return jpeg(both, alt)


@in_style
def block_diagram(config: LRASPPConfig, size: int) -> Drawing:
    """LR-ASPP from its two feature maps to the mask: what each step is, and the shape of what it gives.

    Args:
        config: of the network.
        size: side of the image in pixels, a multiple of 16.
    """
    high, low = config.backbone.last_conv, config.low_channels
    coarse, fine, inter, classes = size // 16, size // 8, config.inter_channels, config.num_classes
    figure, axes = new_figure(height=5.2)
    boxes = {
        "last feature map": (0.8, 5, f"{high} × {coarse}²", REFERENCE),
        "conv 1×1, ReLU": (0.0, 4, f"{inter} × {coarse}²", KINDS["expand"]),
        "mean, conv, sigmoid": (1.6, 4, f"{inter} × 1²", KINDS["se"]),
        "multiply, enlarge": (0.8, 3, f"{inter} × {fine}²", KINDS["project"]),
        "conv 1×1": (0.8, 2, f"{classes} × {fine}²", KINDS["classifier"]),
        "fine feature map": (2.4, 3, f"{low} × {fine}²", REFERENCE),
        "conv 1×1 beside": (2.4, 2, f"{classes} × {fine}²", KINDS["classifier"]),
        "add, enlarge": (1.6, 1, f"{classes} × {size}²", KINDS["project"]),
    }
    arrows = (
        ("last feature map", "conv 1×1, ReLU"), ("last feature map", "mean, conv, sigmoid"),
        ("conv 1×1, ReLU", "multiply, enlarge"), ("mean, conv, sigmoid", "multiply, enlarge"),
        ("multiply, enlarge", "conv 1×1"), ("fine feature map", "conv 1×1 beside"), ("conv 1×1", "add, enlarge"),
        ("conv 1×1 beside", "add, enlarge"),
    )  # fmt: skip
    for name, (x, y, shape, colour) in boxes.items():
        axes.add_patch(
            FancyBboxPatch((x - 0.72, y - 0.34), 1.44, 0.68, boxstyle="round,pad=0.01", facecolor="none",
                           edgecolor=colour, linewidth=2)
        )  # fmt: skip
        first, _, rest = name.removesuffix(" beside").partition(", ")
        lines = [f"{first},", rest] if rest else [first]
        axes.annotate("\n".join([*lines, shape]), (x, y), ha="center", va="center", linespacing=1.05)
    for start, end in arrows:
        (x0, y0, *_), (x1, y1, *_) = boxes[start], boxes[end]
        axes.annotate("", (x1, y1 + 0.36), (x0, y0 - 0.36),
                      arrowprops={"arrowstyle": "->", "color": REFERENCE, "linewidth": 1.5})  # fmt: skip
    axes.set(xlim=(-0.78, 3.18), ylim=(0.6, 5.4))
    axes.set_axis_off()
    alt = "; ".join(f"{name.removesuffix(' beside')}: {shape}" for name, (_, _, shape, _) in boxes.items())
    return Drawing(figure, f"The head as a diagram, with channels and sides. {alt}.")


def _verdicts(truth: Tensor, found: Tensor) -> list[Tensor]:
    """Where each of :data:`_VERDICTS` holds."""
    there, said = truth > 0, found > 0
    return [there & (found == truth), there & said & (found != truth), there & ~said, ~there & said]


def _paint(frame: Any, truth: Tensor, found: Tensor) -> dict[str, int]:
    """Draw what became of each pixel, and count."""
    shown = np.zeros((*truth.shape, 4), np.uint8)
    counts = {}
    for (name, colour), where in zip(_VERDICTS.items(), _verdicts(truth, found), strict=True):
        shown[where.numpy()] = (*bytes.fromhex(colour[1:]), 255)
        counts[name] = int(where.sum())
    frame.imshow(shown, interpolation="none")
    return counts


def _legend(figure: Any) -> None:
    figure.legend(
        handles=[Patch(color=colour, label=name) for name, colour in _VERDICTS.items()],
        loc="outside lower center", ncols=2, handlelength=1, columnspacing=1,
    )  # fmt: skip


@in_style
def compared(pixels: Tensor, truth: Tensor, found: Tensor) -> Drawing:
    """An image, and what became of each of its pixels.

    Args:
        pixels: uint8 (3, H, W).
        truth: classes (H, W), 0 for the background.
        found: the same, of a network.
    """
    figure, (left, right) = new_figure(height=2.9, ncols=2)
    left.imshow(pixels.permute(1, 2, 0).numpy())
    counts = _paint(right, truth, found)
    for frame in (left, right):
        frame.set(xticks=[], yticks=[])
        frame.spines[:].set(visible=True, color=REFERENCE, linewidth=0.5)
    _legend(figure)
    words = ", ".join(f"{name} {count:,}" for name, count in counts.items())
    return Drawing(figure, f"A scene beside its mask. Pixels by what became of them: {words}.", counts)


@in_style
def known_every(truth: Tensor, coarse: Tensor, *, step: int, miou: float) -> Drawing:
    """A mask that is known once in a square of ``step`` pixels: what becomes of each pixel of one scene.

    Args:
        truth: classes (H, W).
        coarse: the same after it went through the coarse grid.
        step: side of the squares.
        miou: over many scenes, from 0 to 1, for the title.
    """
    figure, axes = new_figure(height=4.6)
    counts = _paint(axes, truth, coarse)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set(visible=True, color=REFERENCE, linewidth=0.5)
    axes.set_title(f"{truth.shape[0] // step} × {truth.shape[1] // step} positions: mIoU {miou:.2f}")
    _legend(figure)
    wrong = sum(counts.values()) - counts["right digit"]
    alt = f"A mask known once in {step} × {step} pixels: {wrong:,} pixels are wrong; over all scenes, mIoU {miou:.2f}."
    return Drawing(figure, alt, {"wrong": wrong, "miou": miou})


@in_style
def scores(study: Study, variants: Mapping[str, str], *, measure: str, label: str) -> Drawing:
    """A measure of the variants of a study: a dot for each seed, and a line at their mean.

    Args:
        study: with the runs.
        variants: to draw, with what the figure calls them, from the top.
        measure: of the test images, from 0 to 1.
        label: of the axis.
    """
    figure, axes = new_figure(height=0.9 + 0.5 * len(variants))
    words = []
    for at, (variant, name) in enumerate(variants.items()):
        values = study.values(variant, measure)
        mean = fmean(values)
        axes.plot(values, [at] * len(values), "o", color=ACCENT, markersize=6, alpha=0.8)
        axes.plot([mean, mean], [at - 0.25, at + 0.25], color=COLOURS["vermilion"], linewidth=3)
        words.append(f"{name} {mean:.2f} ({min(values):.2f} to {max(values):.2f})")
    axes.set_yticks(range(len(variants)), list(variants.values()))
    axes.set(ylim=(len(variants) - 0.5, -0.5), xlabel=label)
    return Drawing(figure, f"{label} on test images, by seed. {'; '.join(words)}.")
