"""The data sets that a recipe can name: their tasks, their options, and their numbers of images and classes.

What opens them is in :mod:`mnv3lib.data.datasets`; here is no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from mnv3lib._checks import boolean, non_negative_int, one_of, positive_int
from mnv3lib.data.scene_config import LABELS, SIZE, SceneOptions

if TYPE_CHECKING:
    from mnv3lib.recipe import Data

__all__ = ["CATALOGUE", "EVAL_IMAGES", "LARGEST_SIDE", "VALIDATION", "VOC_CLASSES", "Entry", "Known", "entry", "known",
           "naming_fields", "voc_classes"]  # fmt: skip

#: Images of DigitScenes in ``val`` and in ``test``, and CIFAR-10's training images in ``val``, unless an option says.
EVAL_IMAGES, VALIDATION = 2_000, 5_000

#: Pixels that no side of an image is beyond.
LARGEST_SIDE = 16_384

#: Pascal VOC's 20 classes in its own, alphabetical order, after the background.
VOC_CLASSES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)

#: Images of Pascal VOC's lists by year and task, as its pages count them.
_VOC_IMAGES = {
    ("2007", "segmentation"): {"train": 209, "val": 213, "trainval": 422, "test": 210},
    ("2007", "detection"): {"train": 2_501, "val": 2_510, "trainval": 5_011, "test": 4_952},
    ("2012", "segmentation"): {"train": 1_464, "val": 1_449, "trainval": 2_913},
    ("2012", "detection"): {"train": 5_717, "val": 5_823, "trainval": 11_540},
}
#: Images of COCO by year, with those that have no object.
_COCO_IMAGES = {"2014": {"train": 82_783, "val": 40_504}, "2017": {"train": 118_287, "val": 5_000}}
#: Those of 2017 with an object to detect.
_COCO_WITH_OBJECTS = 117_266
#: COCO's category numbers go up to 90.
_COCO_LABELS = 91
_IMAGENET_IMAGES = {"train": 1_281_167, "val": 50_000}
_IMAGENET_CLASSES = 1_000
_CIFAR_IMAGES = {"train": 50_000, "test": 10_000}


class Known(NamedTuple):
    """Numbers of images and of classes, the background included where the task has one; None if nobody knows."""

    images: int | None
    classes: int | None


@dataclass(frozen=True)
class Entry:
    """A data set: its tasks, the names of its options, and its size for options, split and task."""

    tasks: tuple[str, ...]
    options: tuple[str, ...]
    size: Callable[[Mapping[str, Any], str, str], Known]


def voc_classes(classes: Sequence[str] | None) -> tuple[str, ...]:
    """The background and Pascal VOC's classes, or those of one's own.

    Raises:
        TypeError, ValueError: naming ``classes``, unless they are different names, without the background.
    """
    if classes is None:
        return VOC_CLASSES
    if isinstance(classes, str) or not isinstance(classes, Sequence) or not all(isinstance(c, str) for c in classes):
        raise TypeError(f"classes must be a list of names, got {classes!r}")
    names = [name.strip() for name in classes]
    if not names or len({*names, "", "background"}) != len(names) + 2:
        raise ValueError(f"classes must be one or more different names, without 'background', got {classes!r}")
    return ("background", *names)


def _digitscenes(options: Mapping[str, Any], split: str, task: str) -> Known:
    size = positive_int("size", options.get("size", SIZE))
    if size == 1:
        raise ValueError("size must be an integer >= 2 for training, got 1: batch norm learns from more than one image")
    evaluated = positive_int("eval_images", options.get("eval_images", EVAL_IMAGES))
    names = LABELS[one_of("labels", options.get("labels", "digit"), LABELS)]
    return Known(size if split == "train" else evaluated, len(names) + (task != "classification"))


def _folder(options: Mapping[str, Any], split: str, task: str) -> Known:
    return Known(None, None)


def _imagenet(options: Mapping[str, Any], split: str, task: str) -> Known:
    return Known(_IMAGENET_IMAGES.get(split), _IMAGENET_CLASSES)


def _cifar10(options: Mapping[str, Any], split: str, task: str) -> Known:
    held_out = non_negative_int("validation", options.get("validation", VALIDATION))
    if held_out >= _CIFAR_IMAGES["train"]:
        raise ValueError(f"validation must leave some of {_CIFAR_IMAGES['train']} training images, got {held_out}")
    images = {"train": _CIFAR_IMAGES["train"] - held_out, "val": held_out, "test": _CIFAR_IMAGES["test"]}
    return Known(images[split], 10)


def _voc(options: Mapping[str, Any], split: str, task: str) -> Known:
    own = options.get("classes")
    lists = _VOC_IMAGES.get((str(options.get("year", "2012")), task), {})
    chosen = options.get("image_set") or split
    return Known(lists.get(chosen) if own is None else None, len(voc_classes(own)))


def _coco(options: Mapping[str, Any], split: str, task: str) -> Known:
    year, keep = str(options.get("year", "2017")), options.get("keep_empty")
    every = _COCO_IMAGES.get(year, {}).get(split)
    classes = len(VOC_CLASSES) if task == "segmentation" else _COCO_LABELS if year in _COCO_IMAGES else None
    if split != "train" if keep is None else boolean("keep_empty", keep):
        return Known(every, classes)
    with_objects = {("2017", "train", "detection"): _COCO_WITH_OBJECTS}
    return Known(with_objects.get((year, split, task)), classes)


_FILES = ("cache", "upright")
_SCENES = ("size", "eval_images", "resolution", "difficulty", "seed", "labels", "progress", "cache")
CATALOGUE: dict[str, Entry] = {
    "digitscenes": Entry(
        ("classification", "segmentation", "detection"), (*_SCENES, *SceneOptions.__annotations__), _digitscenes
    ),
    "folder": Entry(("classification",), _FILES, _folder),
    "imagenet": Entry(("classification",), _FILES, _imagenet),
    "cifar10": Entry(("classification",), ("validation",), _cifar10),
    "voc": Entry(("segmentation", "detection"), ("year", "image_set", "difficult", "classes", *_FILES), _voc),
    "coco": Entry(("segmentation", "detection"), ("year", "keep_empty", *_FILES), _coco),
}


def entry(data: Data, split: str, task: str) -> Entry:
    """The entry of the data set that a recipe names, once it is sure that this split, task and options make sense.

    Raises:
        TypeError, ValueError: naming the argument or the field.
    """
    found = CATALOGUE[data.name]
    one_of("split", split, ("train", "val", "test"))
    if task not in found.tasks:
        raise ValueError(f"task must be one of {', '.join(map(repr, found.tasks))} for {data.name!r}, got {task!r}")
    strange = sorted(set(data.options) - set(found.options))
    if strange:
        raise TypeError(
            f"recipe.data.options has no {', '.join(map(repr, strange))} for {data.name!r}, "
            f"only {', '.join(map(repr, found.options))}"
        )
    for name in ("train_size", "eval_size", "eval_resize"):
        side = getattr(data, name)
        if side is not None and side > LARGEST_SIDE:
            raise ValueError(f"recipe.data.{name} must be an integer from 1 to {LARGEST_SIDE}, got {side}")
    return found


def known(data: Data, split: str = "train", task: str = "classification") -> Known:
    """How many images and classes the data set of a recipe has, as far as that is known without reading it.

    >>> from mnv3lib.recipe import Data
    >>> known(Data(name="cifar10")), known(Data(name="voc", options={"year": 2007}), "val", "detection")
    (Known(images=45000, classes=10), Known(images=2510, classes=21))

    Raises:
        TypeError, ValueError: naming the field, if the options make no sense.
    """
    found = entry(data, split, task)
    with naming_fields({name: f"recipe.data.options.{name}" for name in found.options}):
        return found.size(data.options, split, task)


@contextmanager
def naming_fields(fields: Mapping[str, str]) -> Iterator[None]:
    """Let an error about an argument name the field of the recipe that it comes from."""
    try:
        yield
    except (TypeError, ValueError) as error:
        name, _, rest = str(error).partition(" ")
        if name not in fields:
            raise
        raise (TypeError if isinstance(error, TypeError) else ValueError)(f"{fields[name]} {rest}") from error
