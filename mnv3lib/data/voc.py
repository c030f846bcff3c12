"""Pascal VOC, and data sets of one's own in its layout."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import torch
from torchvision import datasets as vision
from torchvision import tv_tensors
from torchvision.datasets.voc import ET_parse

from mnv3lib._checks import boolean, one_of
from mnv3lib.data.catalogue import voc_classes
from mnv3lib.data.errors import broken, needed_folder
from mnv3lib.data.files import FileImages
from mnv3lib.data.reading import read_mask

__all__ = ["Voc"]

#: What ``difficult`` may say; where nobody said anything, an object is not difficult.
_DIFFICULT = {"0": False, "1": True, "": False, "unspecified": False, "false": False, "true": True}


class Voc(FileImages):
    """Pascal VOC from ``root/VOCdevkit/VOC<year>``, 20 classes and a background.

    Masks are uint8 with 255 for VOC's white rims, which belong to no class. VOC counts pixels from 1 and includes the
    last; boxes here go from the left edge of the first pixel to the right edge of the last, and are clipped to the
    image.

    By VOC's rules an object that is marked as difficult is not asked for, and a detection of it counts neither way. So
    difficult objects are left out of what is trained on; where detection is evaluated, the targets have them, and also
    ``iscrowd``, bool (N,), true for them, and ``area``, float32 (N,), of the box in square pixels. An object whose
    ``difficult`` is missing, empty or ``Unspecified`` is not difficult.

    A list of images is UTF-8, with or without a byte order mark, a name a line; blank lines are none. A name that comes
    twice is taken once, and in ``skipped``.

    Args:
        split: name of the list of images, e.g. ``"train"``, ``"val"`` or ``"trainval"``.
        task: ``"segmentation"`` or ``"detection"``.
        year: ``"2007"`` to ``"2012"``.
        image_set: another list than ``split``'s.
        difficult: treat difficult objects like all others.
        classes: names of the classes if they are not VOC's, e.g. ``["head", "helmet"]``, without the background. Their
            order is that of the labels, from 1, and of the values in masks.
        evaluation: give detection targets ``iscrowd`` and ``area``; None does except in ``train`` and ``trainval``.
        options: as of :class:`~mnv3lib.data.files.FileImages`.

    Raises:
        FileNotFoundError: for a missing folder or list.
        BrokenFileError: if the list is not UTF-8; by ``dataset[i]`` naming the annotation, if it is no XML, of an image
            of another size, or has an object of an unknown class or without a box that is in the image.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str = "train",
        task: str = "segmentation",
        *,
        year: str | int = "2012",
        image_set: str | None = None,
        difficult: bool = False,
        classes: Sequence[str] | None = None,
        evaluation: bool | None = None,
        **options: Any,
    ) -> None:
        self.task = one_of("task", task, ("segmentation", "detection"))
        self.difficult = boolean("difficult", difficult)
        self.evaluation = (
            split not in ("train", "trainval") if evaluation is None else boolean("evaluation", evaluation)
        )
        year = one_of("year", str(year), [str(number) for number in range(2007, 2013)])
        chosen = image_set or split
        folder = Path(root).expanduser() / vision.voc.DATASET_YEAR_DICT[year]["base_dir"]
        needed_folder(folder, "JPEGImages, ImageSets, Annotations and SegmentationClass in it")
        kind = "Segmentation" if task == "segmentation" else "Main"
        listing = folder / "ImageSets" / kind / f"{chosen}.txt"
        if not listing.is_file():
            raise FileNotFoundError(f"there is no list {listing} of the images of {chosen!r}")
        names, skipped = _read_list(listing)
        self._folder = folder
        super().__init__(
            f"VOC {year} {chosen}, {task}" + ", difficult objects too" * difficult,
            voc_classes(classes),
            names,
            lambda item: [self._image(item), self._target(item)],
            skipped=skipped,
            **options,
        )

    def _image(self, item: int) -> Path:
        return self._folder / "JPEGImages" / f"{self._names[item]}.jpg"

    def _target(self, item: int) -> Path:
        name = self._names[item]
        if self.task == "segmentation":
            return self._folder / "SegmentationClass" / f"{name}.png"
        return self._folder / "Annotations" / f"{name}.xml"

    def load(self, item: int) -> tuple[tv_tensors.Image, Any]:
        image = self.read_image(self._image(item))
        path = self._target(item)
        size = (image.shape[-2], image.shape[-1])
        if self.task == "segmentation":
            return image, read_mask(path, self.num_classes, size)
        try:
            root = ET_parse(path).getroot()
            labels, boxes, marked = self._objects(root, size)
        except Exception as error:  # of the parser, or of _objects
            raise broken(path, error) from error
        corners = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
        target = {
            "boxes": tv_tensors.BoundingBoxes(corners, format="XYXY", canvas_size=size),
            "labels": torch.tensor(labels, dtype=torch.int64),
            "image_id": item,
        }
        if self.evaluation:
            target["iscrowd"] = torch.tensor(marked, dtype=torch.bool)
            target["area"] = (corners[:, 2:] - corners[:, :2]).prod(1)
        return image, target

    def _objects(self, root: Element, size: tuple[int, int]) -> tuple[list[int], list[list[float]], list[bool]]:
        """Label, box and whether it is a difficult one, of each object to learn or to evaluate."""
        if root.tag != "annotation":
            raise ValueError(f"is no annotation, but begins with <{root.tag}>")
        listed = tuple(_text(root, f"size/{side}") or "0" for side in ("height", "width"))
        # Some tools write 0 for a size that they do not know.
        if "0" not in listed and tuple(map(float, listed)) != size:
            raise ValueError(f"is of an image of {'×'.join(listed[::-1])} pixels, the image has {size[1]}×{size[0]}")
        labels, boxes, marked = [], [], []
        for entry in root.findall("object"):
            name = _text(entry, "name")
            if name is None:
                raise ValueError("an object has no 'name'")
            if name not in self.classes[1:]:
                known = ", ".join(self.classes[1:])
                raise ValueError(f"class {name!r} is not among {known}; for others see the argument classes")
            said = _text(entry, "difficult") or ""
            if said.lower() not in _DIFFICULT:
                raise ValueError(f"'difficult' must be 0, 1 or Unspecified, got {said!r}")
            difficult = _DIFFICULT[said.lower()] and not self.difficult
            box = _box(entry, name, size)
            if self.evaluation or not difficult:
                labels.append(self.classes.index(name))
                boxes.append(box)
                marked.append(difficult)
        return labels, boxes, marked


def _text(entry: Element, path: str) -> str | None:
    found = entry.findtext(path)
    return None if found is None else found.strip()


def _box(entry: Element, name: str, size: tuple[int, int]) -> list[float]:
    """Left, top, right and bottom edge in the image."""
    if entry.find("bndbox") is None:
        raise ValueError(f"a {name} has no 'bndbox'")
    values = []
    for side in ("xmin", "ymin", "xmax", "ymax"):
        said = _text(entry, f"bndbox/{side}")
        try:
            value = float(said or "")
        except ValueError:
            value = float("nan")
        if not isfinite(value):
            raise ValueError(f"'{side}' of a {name} must be a number, got {said!r}")
        values.append(value)
    left, top, right, bottom = values[0] - 1, values[1] - 1, values[2], values[3]
    box = [max(left, 0.0), max(top, 0.0), min(right, float(size[1])), min(bottom, float(size[0]))]
    if box[0] >= box[2] or box[1] >= box[3]:
        raise ValueError(f"a box, of a {name}, is empty within the image of {size[1]}×{size[0]} pixels: {values}")
    return box


def _read_list(listing: Path) -> tuple[list[str], list[tuple[str, str]]]:
    """The names in a list of images, and those that it has more than once."""
    try:
        text = listing.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise broken(listing, f"is not UTF-8: {error}") from error
    counted = Counter(filter(None, map(str.strip, text.splitlines())))
    twice = [f"{name!r} is listed {count} times" for name, count in counted.items() if count > 1]
    return list(counted), [(os.fspath(listing), said) for said in twice]
