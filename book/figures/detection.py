"""The chapter on detection: its scenes, and figures of boxes over a scene."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from figures.jpeg import jpeg
from figures.measured import Study
from IPython.display import Image as Shown
from matplotlib.font_manager import findfont
from matplotlib.patches import Rectangle
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torchvision.ops import box_iou

from mnv3lib.data import DigitScenes
from mnv3lib.data.scene_config import SceneOptions
from mnv3lib.explore.drawing import Drawing, in_style, new_figure
from mnv3lib.explore.palette import ACCENT, COLOURS, REFERENCE

__all__ = ["boxes_over", "crowded", "found_in", "learning", "many_digits", "maps_over", "precision_over_recall",
           "published_over_time", "scenes"]  # fmt: skip

#: Colours of boxes over a scene in shades of grey.
_OVER = (COLOURS["sky"], COLOURS["orange"], COLOURS["vermilion"])
_PANEL = 400  # pixels of the side of a panel


def scenes(size: int, *, split: str = "test") -> list[tuple[Tensor, dict[str, Tensor]]]:
    """The first scenes that the trained network is tested on: (3, 160, 160) from 0 to 1, boxes and labels."""
    dataset = DigitScenes(split, size=size, resolution=160, difficulty=0.4, task="detection", cache=False)
    return [(image.as_subclass(Tensor) / 255, target) for image, target in map(dataset.__getitem__, range(size))]


def many_digits() -> tuple[Tensor, Tensor]:
    """A scene of nine small digits: (3, 320, 320) from 0 to 1, and their boxes."""
    small: SceneOptions = {"digits": (9, 9), "scale": (0.2, 0.35), "noise": 0.0}
    scene = DigitScenes("test", size=3, resolution=320, seed=3, task="detection", cache=False, **small)
    image, target = scene[2]
    return image.as_subclass(Tensor) / 255, target["boxes"].as_subclass(Tensor)


def crowded(number: int = 2, place: int = 1, *, apart: int = 25) -> tuple[Tensor, dict[str, Tensor]]:
    """A scene of :func:`scenes` in which one digit is drawn once more, as the last of its objects.

    Args:
        number: of the scene.
        place: of the digit among the scene's.
        apart: pixels from the digit to its copy, to the right.
    """
    image, target = scenes(number + 1)[number]
    masks = DigitScenes("test", size=number + 1, resolution=160, difficulty=0.4, task="segmentation", cache=False)
    box, label = target["boxes"][place].as_subclass(Tensor), target["labels"][place]
    left, top, right, bottom = box.int().tolist()
    ink = torch.zeros(160, 160, dtype=torch.bool)
    ink[top:bottom, left:right] = (torch.as_tensor(masks[number][1]) == label)[top:bottom, left:right]
    there = ink.roll(apart, 1)
    both = image.clone()
    both[:, there] = image.roll(apart, 2)[:, there]
    shift = torch.tensor([apart, 0, apart, 0])
    boxes = torch.cat([target["boxes"].as_subclass(Tensor), (box + shift)[None]])
    return both, {"boxes": boxes, "labels": torch.cat([target["labels"], label[None]])}


# Pictures ------------------------------------------------------------------------------------------------------------


def _picture(image: Tensor, side: int) -> Image.Image:
    """An image from 0 to 1, enlarged to a square."""
    values = (image * 255).round().byte().permute(1, 2, 0).numpy()
    return Image.fromarray(values).resize((side, side), Image.Resampling.BICUBIC)


def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(findfont("DejaVu Sans"), size)


def _sheet(rows: Mapping[str, Sequence[tuple[str, Image.Image]]]) -> Image.Image:
    """Rows of panels, white on black: above each row its name, above each panel its title."""
    strip, font, columns = 60, _font(42), max(map(len, rows.values()))
    sheet = Image.new("RGB", (columns * _PANEL, len(rows) * (_PANEL + 2 * strip)), "black")
    pen = ImageDraw.Draw(sheet)
    for row, (name, line) in enumerate(rows.items()):
        top = row * (_PANEL + 2 * strip)
        pen.text((sheet.width / 2, top + strip / 2), name, "white", font, anchor="mm")
        for column, (title, panel) in enumerate(line):
            left = column * _PANEL
            pen.text((left + _PANEL / 2, top + 1.5 * strip), title, "white", font, anchor="mm")
            sheet.paste(panel, (left, top + 2 * strip))
    return sheet


def maps_over(image: Tensor, boxes: Tensor, pyramids: Mapping[str, Sequence[int]]) -> Shown:
    """The grids of feature maps over a scene, a row of panels for each pyramid, as a JPEG.

    Args:
        image: (3, S, S) from 0 to 1.
        boxes: of its objects, (N, 4).
        pyramids: sides of the feature maps of each, in positions.
    """
    scale, rows, words = _PANEL / image.shape[-1], {}, []
    for name, sides in pyramids.items():
        line = []
        for side in sides:
            panel = _picture(image, _PANEL)
            pen = ImageDraw.Draw(panel)
            for at in range(side + 1):
                place = min(round(at * _PANEL / side), _PANEL - 1)
                pen.line([(place, 0), (place, _PANEL)], COLOURS["sky"])
                pen.line([(0, place), (_PANEL, place)], COLOURS["sky"])
            for box in boxes:
                pen.rectangle((box * scale).tolist(), outline=COLOURS["orange"], width=3)
            line.append((f"{side}×{side}", panel))
        rows[name] = line
        words.append(f"{name}: {', '.join(f'{side}×{side}' for side in sides)} positions")
    return jpeg(_sheet(rows), f"A scene with {len(boxes)} small objects below grids. {'; '.join(words)}.")


def found_in(
    pictures: Sequence[tuple[Tensor, dict[str, Tensor]]],
    ways: Mapping[str, Sequence[dict[str, Tensor]]],
    classes: Sequence[str],
) -> Shown:
    """Detections over scenes, a row of panels for each way to choose them, as a JPEG.

    A detection is right, blue, if it has the label of an object and an IoU of 0.5 or more with it; otherwise orange.

    Args:
        pictures: scenes with their targets, as :func:`scenes` gives them.
        ways: detections of each scene, with ``boxes``, ``labels`` and ``scores``.
        classes: names of the labels.
    """
    font, rows, words = _font(40), {}, []
    for name, detections in ways.items():
        line, counts = [], []
        for (image, target), found in zip(pictures, detections, strict=True):
            scale, panel = _PANEL / image.shape[-1], _picture(image, _PANEL)
            pen = ImageDraw.Draw(panel)
            right = _right(found, target)
            for box, label, fits in zip(found["boxes"], found["labels"], right, strict=True):
                corners = (box * scale).tolist()
                colour = COLOURS["sky"] if fits else COLOURS["orange"]
                pen.rectangle(corners, outline=colour, width=3)
                if len(found["boxes"]) <= 2 * len(target["boxes"]):
                    place = (corners[0] + 5, max(corners[1], 40) - 2)
                    pen.text(place, classes[label], colour, font, anchor="ls", stroke_width=2, stroke_fill="black")
            counts.append(f"{len(right)}")
            line.append((f"{len(right)} boxes", panel))
        rows[name] = line
        words.append(f"{name} {', '.join(counts)} boxes")
    objects = ", ".join(str(len(target["boxes"])) for _, target in pictures)
    return jpeg(_sheet(rows), f"{len(pictures)} scenes of {objects} digits with detections: {'; '.join(words)}.")


def _right(found: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> Tensor:
    """(N,) whether a detection lies on an object of its label."""
    same = found["labels"][:, None] == target["labels"]
    return ((box_iou(found["boxes"], target["boxes"].as_subclass(Tensor)) >= 0.5) & same).any(1)


# Drawings ------------------------------------------------------------------------------------------------------------


def _grey(image: Tensor) -> np.ndarray[Any, Any]:
    """(S / 2, S / 2) in eight shades: a background for boxes that takes few bytes."""
    small = torch.nn.functional.avg_pool2d(image.mean(0)[None], 2)[0]
    return (small * 7).round().mul(255 / 7).byte().numpy()


@in_style
def boxes_over(
    image: Tensor, groups: Mapping[str, Tensor], *, title: str, grid: int | None = None, objects: Tensor | None = None
) -> Drawing:
    """Boxes over a scene in shades of grey, each group in a colour of its own.

    Args:
        image: (3, S, S) from 0 to 1.
        groups: up to three, by name; (N, 4) each.
        title: what this picture shows; the words begin with it.
        grid: side of a feature map whose grid is drawn.
        objects: boxes, dashed.
    """
    if len(groups) > len(_OVER):
        raise ValueError(f"groups must be up to {len(_OVER)}, got {len(groups)}")
    side = image.shape[-1]
    figure, axes = new_figure(height=4.6)
    axes.imshow(_grey(image), cmap="gray", vmin=0, vmax=255, extent=(0, side, side, 0), interpolation="none")
    for at in range(1, grid or 1):
        for draw in (axes.axvline, axes.axhline):
            draw(at * side / grid, color=REFERENCE, linewidth=0.6)  # type: ignore[operator]
    for (name, boxes), colour in zip(groups.items(), _OVER, strict=False):
        for number, box in enumerate(boxes.tolist()):
            _outline(axes, box, edgecolor=colour, linewidth=2, label=None if number else name)
    for box in () if objects is None else objects.tolist():
        _outline(axes, box, edgecolor=COLOURS["yellow"], linewidth=2, linestyle="--")
    axes.set(xticks=[], yticks=[], xlim=(0, side), ylim=(side, 0))
    axes.set_title(title)
    # Also where a group is empty, so that the picture keeps its place when the reader moves on.
    for name, colour in zip(groups, _OVER, strict=False):
        axes.plot([], [], color=colour, label=f"{name}: {len(groups[name])}")
    handles = axes.get_legend_handles_labels()[0][-len(groups) :]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(groups), handlelength=1)
    counts = ", ".join(f"{name} {len(boxes)}" for name, boxes in groups.items())
    return Drawing(figure, f"{title}. Boxes over a scene: {counts}.", {name: len(b) for name, b in groups.items()})


def _outline(axes: Any, box: Sequence[float], **style: Any) -> None:
    left, top, right, bottom = box
    axes.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, **style))


@in_style
def precision_over_recall(points: Sequence[tuple[float, float]], average: float) -> Drawing:
    """Precision over recall as detections are taken in one after the other, and the area that COCO counts.

    Args:
        points: recall and precision after each detection.
        average: the average precision.
    """
    figure, axes = new_figure(height=3.0)
    recall, precision = (list(values) for values in zip(*points, strict=True))
    best = [max(precision[at:]) for at in range(len(precision))]
    axes.fill_between([0, *recall], [best[0], *best], step="pre", color=ACCENT, alpha=0.25, linewidth=0)
    axes.step([0, *recall], [best[0], *best], where="pre", color=ACCENT)
    axes.plot(recall, precision, "o", color=COLOURS["orange"])
    for number, point in enumerate(points, start=1):
        axes.annotate(f"{number}", point, (0, -16), textcoords="offset points", ha="center")
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.08), ylim=(0, 1.12))
    said = "; ".join(f"{r:.2f}, {p:.2f}" for r, p in points)
    return Drawing(figure, f"Recall and precision after each detection: {said}. Average precision {average:.2f}.",
                   {"best": best})  # fmt: skip


@in_style
def published_over_time(rows: Sequence[Mapping[str, Any]]) -> Drawing:
    """The paper's detectors: average precision over the time of a phone, those on MobileNetV3 in the accent colour.

    Args:
        rows: with ``latency`` in ms, ``map`` in %, and the name of a ``network`` or a ``variant``.
    """
    figure, axes = new_figure(height=3.4)
    words = []
    for row in rows:
        name = _name(row)
        axes.plot(row["latency"], row["map"], "o" if "variant" in row else "s",
                  color=ACCENT if "variant" in row else REFERENCE)  # fmt: skip
        words.append(f"{name} {row['map']} at {row['latency']} ms")
        if "variant" in row and not row["halved"]:
            continue
        if row["latency"] < 100 and "variant" not in row:
            offset, side = (7, -4), "left"
        else:  # those at the top stand close to each other
            offset, side = (0, -18 if name == "MobileNetV2" else 7), "center"
        axes.annotate(name.partition(",")[0], (row["latency"], row["map"]), offset, textcoords="offset points", ha=side)
    axes.set(xlabel="time on a Pixel 1, ms", ylabel="AP on COCO, %", xlim=(0, 275), ylim=(12, 25))
    return Drawing(figure, f"Points of average precision over time: {'; '.join(words)}.")


def _name(row: Mapping[str, Any]) -> str:
    if "variant" not in row:
        return str(row["network"])
    return f"{row['variant'].capitalize()}{', reduced tail' if row['halved'] else ''}"


@in_style
def learning(study: Study, variants: Mapping[str, str], *, column: str = "ema_ap") -> Drawing:
    """Average precision on the validation images over the epochs, a line for each run.

    Args:
        study: with the runs.
        variants: of the study, with the words for each.
        column: of the table of epochs.
    """
    figure, axes = new_figure(height=3.3)
    words = []
    for (variant, name), colour in zip(variants.items(), (COLOURS["orange"], ACCENT), strict=True):
        runs = study.of(variant)
        for number, run in enumerate(runs):
            axes.plot(run.epochs["epoch"], [100 * ap for ap in run.epochs[column]], ".-", color=colour, linewidth=1.5,
                      label=None if number else name)  # fmt: skip
        ends = [100 * run.epochs[column][-1] for run in runs]
        words.append(f"{name}: {min(ends):.0f} to {max(ends):.0f} at the end")
    axes.set(xlabel="epoch", ylabel="AP, %", ylim=(0, None))
    figure.legend(loc="outside upper center", ncols=2, handlelength=1.5)
    return Drawing(figure, f"Lines of average precision over the epochs, one for each seed. {'; '.join(words)}.")
