"""Data sets on disk in the form that DigitScenes has: image folders, ImageNet, CIFAR-10 and Pascal VOC.

Which files there are is torchvision's to know (:mod:`torchvision.datasets`); here they become images and targets, and
errors that name the file. COCO is in :mod:`mnv3lib.data.coco`. Nothing is downloaded.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch.utils.data import Dataset
from torchvision import datasets as vision
from torchvision import tv_tensors
from torchvision.datasets.folder import IMG_EXTENSIONS, find_classes, make_dataset
from torchvision.datasets.utils import check_integrity
from torchvision.datasets.voc import ET_parse

from mnv3lib._checks import boolean, one_of
from mnv3lib.data.coco import VOC_CLASSES, Coco
from mnv3lib.data.reading import BrokenFileError, FileImages, broken, needed_folder, read_image, read_mask
from mnv3lib.data.scenes import DigitScenes, SceneOptions

if TYPE_CHECKING:
    from mnv3lib.recipe import Data

__all__ = ["BrokenFileError", "Cifar10", "Folder", "Voc", "open_dataset"]


class Folder(FileImages):
    """Images in folders that are named after their classes: ``root/train/<class>/*.jpg``, ``root/val/…``.

    Labels follow the sorted names in ``root/train`` for every split. ImageNet has the same layout.

    Args:
        root: folder of the splits.
        split: folder of this one.
        options: as of :class:`~mnv3lib.data.reading.FileImages`.

    Raises:
        FileNotFoundError: if the folders or the images are not there.
        ValueError: if a split has a class that ``train`` does not have.
    """

    def __init__(self, root: str | os.PathLike[str], split: str = "train", **options: Any) -> None:
        layout = f"{root}/train/<class>/*.jpg, and the same for val and test"
        folder = needed_folder(Path(root).expanduser() / split, layout)
        train = folder.parent / "train"
        try:
            classes, labels = find_classes(train if train.is_dir() else folder)
            unknown = set(find_classes(folder)[0]) - set(classes)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{error} Expected: {layout}") from error
        if unknown:
            raise ValueError(f"{folder} has classes that {train} does not have: {', '.join(sorted(unknown)[:8])}")
        samples = make_dataset(folder, labels, IMG_EXTENSIONS, allow_empty=split != "train")
        self.paths = [path for path, _ in samples]
        self.labels = [label for _, label in samples]
        super().__init__(f"{folder}", classes, len(samples), lambda item: [self.paths[item]], **options)

    def load(self, item: int) -> tuple[tv_tensors.Image, Any]:
        return read_image(self.paths[item]), self.labels[item]


class Cifar10(Dataset[Any]):
    """CIFAR-10, 32×32 pixels, from its Python version in ``root/cifar-10-batches-py``; all of it is kept in memory.

    Args:
        split: ``"test"`` is the 10,000 test images; ``"val"`` the last ``validation`` of the 50,000 training images and
            ``"train"`` the others.
        validation: how many; 0 for none.
        skip_broken: refused if True: what is damaged here is 10,000 images in a file.

    Raises:
        BrokenFileError: naming the file that is missing or does not have the published MD5.
    """

    reader: ClassVar[type[vision.CIFAR10]] = vision.CIFAR10

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str = "train",
        *,
        validation: int = 5_000,
        transform: Callable[[Any, Any], Any] | None = None,
        skip_broken: bool = False,
    ) -> None:
        if skip_broken:
            raise ValueError("skip_broken must be False for CIFAR-10: each of its files holds 10,000 images")
        if isinstance(validation, bool) or not isinstance(validation, int) or validation < 0:
            raise ValueError(f"validation must be an integer >= 0, got {validation!r}")
        one_of("split", split, ("train", "val", "test"))
        self.title = f"CIFAR-10 {split}"
        folder = Path(root).expanduser() / self.reader.base_folder
        needed_folder(folder, f"the files of {self.reader.filename}, from {self.reader.url}")
        listed = [
            *self.reader.train_list,
            *self.reader.test_list,
            (self.reader.meta["filename"], self.reader.meta["md5"]),
        ]
        for name, digest in listed:
            path = folder / name
            if not check_integrity(path, digest):
                reason = f"does not have the MD5 {digest}" if path.is_file() else "there is no such file"
                raise BrokenFileError(
                    f"{self.title}: {path}: {reason}. Unpack {self.reader.filename} again.", str(path), reason
                )
        found = self.reader(os.fspath(folder.parent), train=split != "test")
        images = torch.from_numpy(found.data).permute(0, 3, 1, 2).contiguous()
        labels = list(found.targets)
        if split != "test":
            rest = len(labels) - validation
            if rest < 1:
                raise ValueError(f"validation must leave some of {len(labels)} training images, got {validation}")
            part = slice(rest) if split == "train" else slice(rest, None)
            images, labels = images[part].clone(), labels[part]
        if not labels:
            raise ValueError("split must be 'train' or 'test' for CIFAR-10 with validation=0, got 'val'")
        self.images, self.labels = images, labels
        self.classes = tuple(found.classes)
        self.num_classes = len(self.classes)
        self.transform = transform
        self.broken: list[tuple[str, str]] = []

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        image, target = tv_tensors.Image(self.images[index].clone()), int(self.labels[index])
        return (image, target) if self.transform is None else self.transform(image, target)


class Voc(FileImages):
    """Pascal VOC from ``root/VOCdevkit/VOC<year>``, 20 classes and a background.

    Masks are uint8 with 255 for VOC's white rims, which belong to no class. VOC counts pixels from 1 and includes the
    last; boxes here go from the left edge of the first pixel to the right edge of the last.

    By VOC's rules an object that is marked as difficult is not asked for, and a detection of it counts neither way. So
    difficult objects are left out of what is trained on; where detection is evaluated, the targets have them, and also
    ``iscrowd``, bool (N,), true for them, and ``area``, float32 (N,), of the box in square pixels.

    Args:
        split: name of the list of images, e.g. ``"train"``, ``"val"`` or ``"trainval"``.
        task: ``"segmentation"`` or ``"detection"``.
        year: ``"2007"`` to ``"2012"``.
        image_set: another list than ``split``'s.
        difficult: treat difficult objects like all others.
        evaluation: give detection targets ``iscrowd`` and ``area``; None does except in ``train`` and ``trainval``.
        options: as of :class:`~mnv3lib.data.reading.FileImages`.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str = "train",
        task: str = "segmentation",
        *,
        year: str = "2012",
        image_set: str | None = None,
        difficult: bool = False,
        evaluation: bool | None = None,
        **options: Any,
    ) -> None:
        self.evaluation = (
            split not in ("train", "trainval") if evaluation is None else boolean("evaluation", evaluation)
        )
        one_of("task", task, ("segmentation", "detection"))
        boolean("difficult", difficult)
        make = vision.VOCSegmentation if task == "segmentation" else vision.VOCDetection
        chosen, year = image_set or split, str(year)
        place = vision.voc.DATASET_YEAR_DICT.get(year, {}).get("base_dir", f"VOCdevkit/VOC{year}")
        folder = Path(root).expanduser() / place
        needed_folder(folder, "JPEGImages, ImageSets, Annotations and SegmentationClass in it")
        listing = folder / "ImageSets" / make._SPLITS_DIR / f"{chosen}.txt"
        if not listing.is_file():
            raise FileNotFoundError(f"there is no list {listing} of the images of {chosen!r}")
        self._set = make(os.fspath(Path(root).expanduser()), year=year, image_set=chosen)
        self.task, self.difficult = task, difficult
        super().__init__(
            f"VOC {year} {chosen}, {task}" + ", difficult objects too" * difficult,
            VOC_CLASSES,
            len(self._set),
            lambda item: [self._set.images[item], self._set.targets[item]],
            **options,
        )

    def load(self, item: int) -> tuple[tv_tensors.Image, Any]:
        image = read_image(self._set.images[item])
        path = self._set.targets[item]
        size = (image.shape[-2], image.shape[-1])
        if self.task == "segmentation":
            return image, read_mask(path, self.num_classes, size)
        try:
            tree = vision.VOCDetection.parse_voc_xml(ET_parse(path).getroot())
            objects = tree["annotation"].get("object", [])
            marked = [not self.difficult and int(entry.get("difficult", 0)) != 0 for entry in objects]
            kept = [entry for entry, out in zip(objects, marked, strict=True) if self.evaluation or not out]
            labels = [self.classes.index(entry["name"]) for entry in kept]
            boxes = [[float(entry["bndbox"][side]) for side in ("xmin", "ymin", "xmax", "ymax")] for entry in kept]
        except Exception as error:  # of the parser, or a part that is not there
            what = f"has no {error}" if isinstance(error, KeyError) else error
            raise broken(path, what) from error
        corners = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4) - torch.tensor([1.0, 1.0, 0.0, 0.0])
        corners = corners.clamp(min=0).minimum(torch.tensor([size[1], size[0]]).repeat(2))
        if (corners[:, 2:] <= corners[:, :2]).any():
            raise broken(path, f"a box is empty within the image of {size[1]}×{size[0]} pixels")
        target = {
            "boxes": tv_tensors.BoundingBoxes(corners, format="XYXY", canvas_size=size),
            "labels": torch.tensor(labels, dtype=torch.int64),
            "image_id": item,
        }
        if self.evaluation:
            target["iscrowd"] = torch.tensor(marked, dtype=torch.bool)
            target["area"] = (corners[:, 2:] - corners[:, :2]).prod(1)
        return image, target


def _digit_scenes(
    data: Data,
    split: str,
    *,
    size: int = 10_000,
    eval_images: int = 2_000,
    resolution: int | None = None,
    **options: Any,
) -> DigitScenes:
    if data.root is not None:
        raise ValueError(f"root must be None for DigitScenes, which has no folder of images, got {data.root!r}")
    side = data.train_size if split == "train" else data.eval_resize or data.eval_size
    number = size if split == "train" else eval_images
    return DigitScenes(split, size=number, resolution=resolution or side, **options)


def _from_files(make: Callable[..., Dataset[Any]]) -> Callable[..., Dataset[Any]]:
    def opened(data: Data, split: str, **options: Any) -> Dataset[Any]:
        if data.root is None:
            raise ValueError(f"root must name the folder of {data.name!r}, got None")
        return make(data.root, split, skip_broken=data.skip_broken, **options)

    return opened


_SCENES = ("size", "eval_images", "resolution", "difficulty", "seed", "labels", "progress")
#: For each name: what opens it, its tasks, and the options it understands.
_OPENERS: dict[str, tuple[Callable[..., Dataset[Any]], tuple[str, ...], tuple[str, ...]]] = {
    "digitscenes": (
        _digit_scenes,
        ("classification", "segmentation", "detection"),
        (*_SCENES, "cache", *SceneOptions.__annotations__),
    ),
    "folder": (_from_files(Folder), ("classification",), ("cache",)),
    "imagenet": (_from_files(Folder), ("classification",), ("cache",)),
    "cifar10": (_from_files(Cifar10), ("classification",), ("validation",)),
    "voc": (_from_files(Voc), ("segmentation", "detection"), ("year", "image_set", "difficult", "cache")),
    "coco": (_from_files(Coco), ("segmentation", "detection"), ("year", "keep_empty", "cache")),
}


def open_dataset(
    data: Data,
    split: str = "train",
    task: str = "classification",
    transform: Callable[[Any, Any], Any] | None = None,
) -> Any:
    """Open the data set that a recipe names.

    Args:
        data: which, where, and its own options. ``"digitscenes"`` takes those of
            :class:`~mnv3lib.data.scenes.DigitScenes` and ``eval_images``, the number in ``val`` and ``test`` (2,000);
            ``"cifar10"`` takes ``validation``; ``"voc"`` takes ``year``, ``image_set`` and ``difficult``; ``"coco"``
            takes ``year`` and ``keep_empty``; all but CIFAR-10 take ``cache``.
        split: ``"train"``, ``"val"`` or ``"test"``.
        task: ``"classification"``, ``"segmentation"`` or ``"detection"``.
        transform: called as ``transform(image, target)``; returns both.

    Returns:
        A data set with ``classes``, ``num_classes``, ``broken`` and items as those of DigitScenes.

    Raises:
        TypeError, ValueError: for an unknown name or option, or a task that the data set has no targets for.
        FileNotFoundError, BrokenFileError: naming the folder or file.
    """
    opener, tasks, known = _OPENERS[data.name]
    one_of("split", split, ("train", "val", "test"))
    if task not in tasks:
        raise ValueError(f"task must be one of {', '.join(map(repr, tasks))} for {data.name!r}, got {task!r}")
    unknown = sorted(set(data.options) - set(known))
    if unknown:
        raise TypeError(f"{data.name!r} has no option {', '.join(map(repr, unknown))}, only {', '.join(known)}")
    options = dict(data.options)
    if len(tasks) > 1:
        options["task"] = task
    return opener(data, split, transform=transform, **options)
