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
from torchvision import tv_tensors

from mnv3lib._checks import boolean, one_of
from mnv3lib.data.catalogue import VOC_CLASSES
from mnv3lib.data.errors import broken, needed_folder
from mnv3lib.data.files import FileImages
from mnv3lib.data.listing import read_listing

__all__ = ["VOC_CATEGORIES", "Coco"]

#: The COCO category of each of Pascal VOC's 21 classes, in VOC's order; 0 is the background.
VOC_CATEGORIES = (0, 5, 2, 16, 9, 44, 6, 3, 17, 62, 21, 67, 18, 19, 4, 1, 64, 20, 63, 7, 72)

#: What COCO calls them where it has another word than VOC.
_OTHER_WORDS = {
    "aeroplane": "airplane",
    "diningtable": "dining table",
    "motorbike": "motorcycle",
    "pottedplant": "potted plant",
    "sofa": "couch",
    "tvmonitor": "tv",
}

#: Pixels that objects must cover for an image to be trained on with masks.
_LEAST_AREA = 1000


class Coco(FileImages):
    """COCO from ``root/<split><year>`` and ``root/annotations/instances_<split><year>.json``.

    Detection: labels are the listing's own category numbers, in COCO 1 to 90 with gaps (named ``"N/A"``), as
    torchvision's checkpoints have them. Boxes are clipped to the image, those without area are left out. Crowds are
    left out of what is trained on and kept in what is evaluated on, where a detection that lies in one counts neither
    way: these targets also have ``iscrowd``, bool (N,), and ``area``, float32 (N,), of the object in square pixels.
    Segmentation: the 20 classes that VOC has too; where two objects overlap the pixel is 255, no class.

    A listing of one's own works for detection if it has COCO's form (:func:`~mnv3lib.data.listing.read_listing` says
    what is checked). Ids of images are integers: pycocotools takes a text for a list of ids, and finds no object.

    Args:
        split: ``"train"`` or ``"val"``.
        task: ``"segmentation"`` or ``"detection"``.
        year: that the names end with; "" for none.
        keep_empty: keep images without an object to learn from: no box that is more than a pixel wide and high;
            for masks, objects of VOC's classes on less than 1,000 pixels. None keeps them except in ``train``.
        evaluation: give detection targets crowds, ``iscrowd`` and ``area``; None does except in ``train``.
        options: as of :class:`~mnv3lib.data.files.FileImages`. ``skip_broken`` also leaves out images whose entry, or
            that of one of their objects, is broken.

    Attributes:
        coco: the annotations as pycocotools has them, crowds included, e.g. for its evaluation.

    Raises:
        FileNotFoundError: for a missing folder or annotation file.
        BrokenFileError: if the listing is broken; for segmentation also if its categories are not COCO's.
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
        self.task = one_of("task", task, ("segmentation", "detection"))
        self.evaluation = split != "train" if evaluation is None else boolean("evaluation", evaluation)
        keep = split != "train" if keep_empty is None else boolean("keep_empty", keep_empty)
        name = f"{split}{year}"
        layout = f"{root}/{name}/*.jpg and {root}/annotations/instances_{name}.json"
        self._folder = needed_folder(Path(root).expanduser() / name, layout)
        listing = self._folder.parent / "annotations" / f"instances_{name}.json"
        if not listing.is_file():
            raise FileNotFoundError(f"there is no file {listing}. Expected: {layout}")
        found = read_listing(listing, masks_of=VOC_CATEGORIES if task == "segmentation" else None)
        names = found.categories
        if task == "segmentation":
            _must_be_cocos(listing, names)
            classes: tuple[str, ...] = VOC_CLASSES
        else:
            classes = ("background", *(names.get(number, "N/A") for number in range(1, max(names) + 1)))
        self._images, self._listed, self._listing = found.images, found.objects, listing
        self.coco = _indexed(found.images, found.objects, names)
        self.ids: list[int] = [number for number in sorted(found.images) if keep or self._is_worth_it(number)]

        def files(item: int) -> list[Path]:
            return [self._path(item)] if item else [self._path(item), listing]

        super().__init__(
            f"COCO {name}, {task}",
            classes,
            [f"{found.digest} {number} {found.images[number]['file_name']}" for number in self.ids],
            files,
            broken=[(os.fspath(listing), fault) for fault in found.faults],
            skipped=[(os.fspath(listing), reason) for reason in found.skipped],
            **options,
        )

    def _objects(self, number: int) -> list[dict[str, Any]]:
        found = self._listed[number]
        return found if self.task == "detection" else [x for x in found if x["category_id"] in VOC_CATEGORIES]

    def _is_worth_it(self, number: int) -> bool:
        objects = self._objects(number)
        if self.task == "detection":
            return any(min(entry["bbox"][2:]) > 1 for entry in objects)
        return bool(sum(entry["area"] for entry in objects) > _LEAST_AREA)

    def _path(self, item: int) -> Path:
        return self._folder / self._images[self.ids[item]]["file_name"]

    def load(self, item: int) -> tuple[tv_tensors.Image, Any]:
        path, about = self._path(item), self._images[self.ids[item]]
        image = self.read_image(path)
        size, listed = (image.shape[-2], image.shape[-1]), (about["height"], about["width"])
        if size != listed:
            turned = ", as if it lay on its side; see upright" if size == listed[::-1] else ""
            raise broken(path, f"is of {size} pixels, its annotations of {listed}{turned}")
        objects = self._objects(self.ids[item])
        if self.task == "detection":
            return image, self._boxes(objects, size, item)
        try:
            return image, self._mask(objects, size)
        except Exception as error:  # of what may be in a polygon in place of numbers
            raise broken(self._listing, f"the objects of {path.name}: {type(error).__name__}: {error}") from error

    def _boxes(self, objects: list[dict[str, Any]], size: tuple[int, int], item: int) -> dict[str, Any]:
        wanted = [entry for entry in objects if self.evaluation or not entry["iscrowd"]]
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
            target["iscrowd"] = torch.tensor([bool(entry["iscrowd"]) for entry in wanted], dtype=torch.bool)[here]
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


def _must_be_cocos(listing: Path, names: dict[int, str]) -> None:
    """Masks have VOC's classes, found by COCO's numbers: those of another listing would mean something else."""
    for number, name in zip(VOC_CATEGORIES[1:], VOC_CLASSES[1:], strict=True):
        words = {name, _OTHER_WORDS.get(name, name)}
        if number in names and names[number].lower() not in words:
            raise broken(
                listing,
                f"category {number} is {names[number]!r}, in COCO it is {_OTHER_WORDS.get(name, name)!r}: masks are "
                "made of COCO's categories only",
            )


def _indexed(images: dict[int, Any], objects: dict[int, list[Any]], names: dict[int, str]) -> Any:
    from pycocotools.coco import COCO

    coco = COCO()
    coco.dataset = {
        "info": {},
        "images": list(images.values()),
        "annotations": [entry for found in objects.values() for entry in found],
        "categories": [{"id": number, "name": name} for number, name in names.items()],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco
