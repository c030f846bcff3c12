"""COCO in the form that DigitScenes has: boxes as they are, masks with Pascal VOC's classes.

What is left out and what becomes of crowds follows torchvision's reference scripts, under which its checkpoints were
trained (``references/detection/coco_utils.py``, ``references/segmentation/coco_utils.py``).
"""

from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchvision import datasets as vision
from torchvision import tv_tensors

from mnv3lib._checks import boolean, one_of
from mnv3lib.data.reading import FileImages, broken, needed_folder, read_image

__all__ = ["VOC_CATEGORIES", "VOC_CLASSES", "Coco"]

#: Pascal VOC's 20 classes in its own, alphabetical order, after the background.
VOC_CLASSES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)

#: The COCO category of each of Pascal VOC's 21 classes, in VOC's order; 0 is the background.
VOC_CATEGORIES = (0, 5, 2, 16, 9, 44, 6, 3, 17, 62, 21, 67, 18, 19, 4, 1, 64, 20, 63, 7, 72)

#: Pixels that objects must cover for an image to be trained on with masks.
_LEAST_AREA = 1000


class Coco(FileImages):
    """COCO from ``root/<split><year>`` and ``root/annotations/instances_<split><year>.json``.

    Detection: labels are COCO's own category numbers, 1 to 90 with gaps (named ``"N/A"``), as torchvision's
    checkpoints have them. Boxes are clipped to the image, those without area are left out. Crowds are left out of what
    is trained on and kept in what is evaluated on, where a detection that lies in one counts neither way: these targets
    also have ``iscrowd``, bool (N,), and ``area``, float32 (N,), of the object in square pixels.
    Segmentation: the 20 classes that VOC has too; where two objects overlap the pixel is 255, no class.

    Args:
        split: ``"train"`` or ``"val"``.
        task: ``"segmentation"`` or ``"detection"``.
        year: that the names end with; "" for none.
        keep_empty: keep images without an object to learn from: no box that is more than a pixel wide and high;
            for masks, objects of VOC's classes on less than 1,000 pixels. None keeps them except in ``train``.
        evaluation: give detection targets crowds, ``iscrowd`` and ``area``; None does except in ``train``.
        options: as of :class:`~mnv3lib.data.reading.FileImages`.

    Attributes:
        coco: the annotations as pycocotools has them, crowds included, e.g. for its evaluation.

    Raises:
        FileNotFoundError: for a missing folder or annotation file.
        BrokenFileError: if the annotations cannot be read.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str = "train",
        task: str = "detection",
        *,
        year: str | int = "2017",
        keep_empty: bool | None = None,
        evaluation: bool | None = None,
        **options: Any,
    ) -> None:
        self.evaluation = split != "train" if evaluation is None else boolean("evaluation", evaluation)
        self.task = one_of("task", task, ("segmentation", "detection"))
        name = f"{split}{year}"
        layout = f"{root}/{name}/*.jpg and {root}/annotations/instances_{name}.json"
        folder = needed_folder(Path(root).expanduser() / name, layout)
        listing = folder.parent / "annotations" / f"instances_{name}.json"
        if not listing.is_file():
            raise FileNotFoundError(f"there is no file {listing}. Expected: {layout}")
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                self._set = vision.CocoDetection(os.fspath(folder), os.fspath(listing))
            names = {category["id"]: category["name"] for category in self._set.coco.dataset["categories"]}
        except Exception as error:  # whatever the parser makes of a damaged file
            what = f"has no {error}" if isinstance(error, KeyError) else error
            raise broken(listing, what) from error
        self.coco = self._set.coco
        if task == "segmentation":
            classes = VOC_CLASSES
        else:
            classes = ("background", *(names.get(number, "N/A") for number in range(1, max(names, default=0) + 1)))
        keep = keep_empty if keep_empty is not None else split != "train"
        self.ids: list[int] = [number for number in self._set.ids if keep or self._is_worth_it(number)]
        self._listing = listing

        def files(item: int) -> list[Path]:
            return [self._path(item)] if item else [self._path(item), listing]

        super().__init__(f"COCO {name}, {task}", classes, len(self.ids), files, **options)

    def _objects(self, number: int) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.coco.loadAnns(self.coco.getAnnIds(number))
        return found if self.task == "detection" else [x for x in found if x["category_id"] in VOC_CATEGORIES]

    def _is_worth_it(self, number: int) -> bool:
        objects = self._objects(number)
        if self.task == "detection":
            return any(min(entry["bbox"][2:]) > 1 for entry in objects)
        return sum(entry["area"] for entry in objects) > _LEAST_AREA

    def _about(self, item: int) -> dict[str, Any]:
        found: dict[str, Any] = self.coco.loadImgs(self.ids[item])[0]
        return found

    def _path(self, item: int) -> Path:
        return Path(self._set.root) / self._about(item)["file_name"]

    def load(self, item: int) -> tuple[tv_tensors.Image, Any]:
        path, about = self._path(item), self._about(item)
        image = read_image(path)
        size = (image.shape[-2], image.shape[-1])
        if size != (about["height"], about["width"]):
            raise broken(path, f"is of {size} pixels, its annotations of {(about['height'], about['width'])}")
        objects = self._objects(self.ids[item])
        try:
            target = self._mask(objects, size) if self.task == "segmentation" else self._boxes(objects, size, item)
        except Exception as error:  # of what may be in a JSON file in place of a box or a polygon
            raise broken(self._listing, f"the objects of {path.name}: {type(error).__name__}: {error}") from error
        return image, target

    def _boxes(self, objects: list[dict[str, Any]], size: tuple[int, int], item: int) -> dict[str, Any]:
        wanted = [entry for entry in objects if self.evaluation or not entry.get("iscrowd", 0)]
        corners = torch.tensor([entry["bbox"] for entry in wanted], dtype=torch.float32).reshape(-1, 4)
        corners[:, 2:] += corners[:, :2]
        corners[:, 0::2].clamp_(min=0, max=size[1])
        corners[:, 1::2].clamp_(min=0, max=size[0])
        here = (corners[:, 2:] > corners[:, :2]).all(1)
        target = {
            "boxes": tv_tensors.BoundingBoxes(corners[here], format="XYXY", canvas_size=size),
            "labels": torch.tensor([entry["category_id"] for entry in wanted], dtype=torch.int64)[here],
            "image_id": self.ids[item],
        }
        if self.evaluation:
            target["iscrowd"] = torch.tensor([bool(entry.get("iscrowd", 0)) for entry in wanted], dtype=torch.bool)[
                here
            ]
            target["area"] = torch.tensor([entry["area"] for entry in wanted], dtype=torch.float32)[here]
        return target

    def _mask(self, objects: list[dict[str, Any]], size: tuple[int, int]) -> tv_tensors.Mask:
        mask = np.zeros(size, dtype=np.uint8)
        covered = np.zeros(size, dtype=np.int64)
        for entry in objects:
            own = self.coco.annToMask(entry).astype(bool)
            mask[own] = np.maximum(mask[own], VOC_CATEGORIES.index(entry["category_id"]))
            covered += own
        mask[covered > 1] = 255
        return tv_tensors.Mask(torch.from_numpy(mask))
