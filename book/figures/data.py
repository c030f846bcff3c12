"""Looking at a data set: its images in rows, with what is to be learnt about each written above or drawn into it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from figures.jpeg import Photographs
from matplotlib.colors import ListedColormap
from matplotlib.patches import Rectangle

from mnv3lib._checks import positive_int
from mnv3lib.explore.drawing import Drawing, in_style, new_figure
from mnv3lib.explore.palette import ACCENT, COLOURS, REFERENCE

__all__ = ["contact_sheet", "panels", "split_scores"]

_INKS = [colour for name, colour in COLOURS.items() if name != "black"]
_IGNORED = 255


@in_style
def contact_sheet(dataset: Any, n: int = 12, *, columns: int = 6, first: int = 0) -> Drawing:
    """The first images of a data set with their targets: classes above, boxes or a mask in the image.

    Args:
        dataset: of :mod:`mnv3lib.data`, without a transform that changes the form of its items.
        n: how many images; fewer if the data set ends before.
        columns: in a row.
        first: index of the first.

    Returns:
        The drawing; its words count the classes that are shown, and give the sizes of DigitScenes' digits.
    """
    positive_int("n", n)
    positive_int("columns", columns)
    chosen = range(first, min(first + n, len(dataset)))
    if not chosen:
        raise ValueError(f"first must be an index of {len(dataset)} images, got {first!r}")
    rows = -(-len(chosen) // columns)
    figure, axes = new_figure(height=5.8 * rows / columns, nrows=rows, ncols=columns, squeeze=False)
    seen: Counter[str] = Counter()
    kind = "class"
    for frame in axes.flat:
        frame.axis("off")
    for index, frame in zip(chosen, axes.flat, strict=False):
        image, target = dataset[index]
        frame.imshow(np.asarray(image).transpose(1, 2, 0), interpolation="none")
        if isinstance(target, int):
            names = [dataset.classes[target]]
        elif isinstance(target, dict):
            kind = "box"
            names = _draw_boxes(frame, target, dataset.classes)
        else:
            kind = "mask"
            names = _draw_mask(frame, np.asarray(target), dataset.classes)
        seen.update(names)
        frame.set_title(" ".join(names), pad=2)
    counts = ", ".join(f"{seen[name]} of {name}" for name in sorted(seen))
    words = {"class": "with their classes above", "box": "with boxes", "mask": "with masks over them"}[kind]
    unit = {"class": "images", "box": "boxes", "mask": "images that show it,"}[kind]
    low, high = dataset.config.scale if hasattr(dataset, "config") else (0, 0)
    size = f", digits from {low:.3g} to {high:.3g} of the frame" if high else ""
    return Photographs(figure, f"{len(chosen)} images {words}{size}; {unit} by class: {counts or 'none'}.")


@in_style
def panels(pictures: Mapping[str, Any], *, columns: int = 5, what: str = "pictures") -> Drawing:
    """Pictures side by side under their names.

    Args:
        pictures: by name; (H, W) from 0, drawn black, to 1, or (3, H, W) from 0 to 255.
        columns: in a row.
        what: they are, for the words.

    Returns:
        The drawing; its words give the brightness of each, black being 0 and white 100 %.
    """
    if not pictures:
        raise ValueError("pictures must not be empty")
    positive_int("columns", columns)
    rows = -(-len(pictures) // columns)
    figure, axes = new_figure(height=5.8 * rows / columns, nrows=rows, ncols=columns, squeeze=False)
    said = []
    for frame in axes.flat:
        frame.axis("off")
    for (name, picture), frame in zip(pictures.items(), axes.flat, strict=False):
        values = np.asarray(picture, dtype=float)
        if values.ndim == 3:
            values = np.clip(values, 0, 255).round().transpose(1, 2, 0) / 255
        frame.imshow(values, cmap="gray", vmin=0, vmax=1, interpolation="none")
        frame.set_title(name, pad=2)
        said.append(f"{' '.join(name.split())}, {values.mean():.0%} bright")
    return Photographs(figure, f"{len(pictures)} {what}: {'; '.join(said)}.")


@in_style
def split_scores(scores: Mapping[str, tuple[float, float]], *, chance: float = 0.1) -> Drawing:
    """Accuracies after each way to split, with true labels and with labels that mean nothing.

    Args:
        scores: by the way to split: (with true labels, with random labels), from 0 to 1.
        chance: accuracy of guessing, a dotted line.
    """
    if not scores:
        raise ValueError("scores must not be empty")
    figure, frame = new_figure(height=0.9 + 0.8 * len(scores))
    places = np.arange(len(scores))
    said = []
    for shift, (label, colour) in zip((-0.19, 0.19), (("true", ACCENT), ("random", COLOURS["orange"])), strict=True):
        values = [pair[shift > 0] for pair in scores.values()]
        bars = frame.barh(places + shift, values, height=0.36, color=colour, label=f"{label} labels")
        frame.bar_label(bars, [f"{value:.0%}" for value in values], padding=10)
    for name, (true, drawn) in scores.items():
        said.append(f"{' '.join(name.split())} {true:.0%} and {drawn:.0%}")
    frame.axvline(chance, color=REFERENCE, linestyle=":", label="guessing")
    frame.set_yticks(places, list(scores))
    frame.invert_yaxis()
    frame.set_xlim(0, 1.22)
    frame.set_xticks([0, 0.5, 1], ["0", "50 %", "100 %"])
    figure.legend(loc="outside lower center", ncols=2)
    words = "; ".join(said)
    return Drawing(figure, f"Accuracy with true and with random labels: {words}. Dotted: guessing, {chance:.0%}.")


def _draw_boxes(frame: Any, target: dict[str, Any], classes: Sequence[str]) -> list[str]:
    names = [classes[label] for label in target["labels"].tolist()]
    for left, top, right, bottom in target["boxes"].tolist():
        # The centre of the first pixel is at 0, its edge half a pixel before.
        frame.add_patch(
            Rectangle((left - 0.5, top - 0.5), right - left, bottom - top, fill=False, edgecolor=COLOURS["vermilion"])
        )
    return names


def _draw_mask(frame: Any, mask: Any, classes: Sequence[str]) -> list[str]:
    here = [int(value) for value in np.unique(mask) if value not in (0, _IGNORED)]
    inks = ListedColormap([_INKS[value % len(_INKS)] for value in here] or ["none"])
    places = np.searchsorted(here, mask) if here else np.zeros_like(mask)
    shown = np.ma.masked_where((mask == 0) | (mask == _IGNORED), places)
    frame.imshow(shown, cmap=inks, vmin=0, vmax=max(len(here) - 1, 1), alpha=0.6, interpolation="none")
    return [classes[value] for value in here]
