"""What a recipe's data are: DigitScenes, image folders, ImageNet, CIFAR-10, Pascal VOC or COCO, opened by name.

All give images and targets in one form, and errors that name the file. Nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch.utils.data import Dataset

from mnv3lib.data.catalogue import EVAL_IMAGES, entry, known, naming_fields
from mnv3lib.data.cifar import Cifar10
from mnv3lib.data.coco import Coco
from mnv3lib.data.folder import Folder
from mnv3lib.data.scene_config import SIZE
from mnv3lib.data.scenes import DigitScenes
from mnv3lib.data.voc import Voc

if TYPE_CHECKING:
    from mnv3lib.recipe import Data

__all__ = ["OPENERS", "check_classes", "open_dataset"]


def _digit_scenes(data: Data, split: str, **options: Any) -> DigitScenes:
    if data.root is not None:
        raise ValueError(f"root must be None for DigitScenes, which has no folder of images, got {data.root!r}")
    sizes = {"train": options.pop("size", SIZE)}
    evaluated = options.pop("eval_images", EVAL_IMAGES)
    given = options.pop("resolution", None)
    side = data.train_size if split == "train" else data.eval_resize or data.eval_size
    return DigitScenes(split, size=sizes.get(split, evaluated), resolution=given or side, **options)


def _image_net(root: str, split: str, *, upright: bool = False, **options: Any) -> Folder:
    """Published accuracies are those of the pixels as they are stored."""
    return Folder(root, split, upright=upright, **options)


def _from_files(make: Callable[..., Dataset[Any]]) -> Callable[..., Dataset[Any]]:
    def opened(data: Data, split: str, **options: Any) -> Dataset[Any]:
        if data.root is None:
            raise ValueError(f"root must name the folder of {data.name!r}, got None")
        return make(data.root, split, skip_broken=data.skip_broken, **options)

    return opened


#: What opens each data set of the catalogue, for a recipe's data, a split and options.
OPENERS: dict[str, Callable[..., Dataset[Any]]] = {
    "digitscenes": _digit_scenes,
    "folder": _from_files(Folder),
    "imagenet": _from_files(_image_net),
    "cifar10": _from_files(Cifar10),
    "voc": _from_files(Voc),
    "coco": _from_files(Coco),
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
            ``"cifar10"`` takes ``validation``; ``"voc"`` takes ``year``, ``image_set``, ``difficult`` and ``classes``;
            ``"coco"`` takes ``year`` and ``keep_empty``; all but CIFAR-10 take ``cache``, and those of files
            ``upright``, which is True for ``"folder"`` unless said otherwise and False for the others.
        split: ``"train"``, ``"val"`` or ``"test"``.
        task: ``"classification"``, ``"segmentation"`` or ``"detection"``.
        transform: called as ``transform(image, target)``; returns both.

    Returns:
        A data set with a length, items as those of DigitScenes, and as attributes

        * ``classes``, names by label, and ``num_classes``;
        * ``broken``, (path, what is wrong) of each entry that ``skip_broken`` left out;
        * ``skipped``, (path, why) of each file and folder that does not belong to it;
        * ``fingerprint``, 64 hexadecimal digits, other ones when images or classes are added, removed or renamed.

    Raises:
        TypeError, ValueError: for an unknown name or option, or a task that the data set has no targets for, naming
            the field.
        FileNotFoundError, BrokenFileError: naming the folder or file.
    """
    found = entry(data, split, task)
    known(data, split, task)
    options = dict(data.options)
    if len(found.tasks) > 1:
        options["task"] = task
    fields = {name: f"recipe.data.options.{name}" for name in found.options}
    side = "train_size" if split == "train" else "eval_size" if data.eval_resize is None else "eval_resize"
    fields |= {"root": "recipe.data.root", "skip_broken": "recipe.data.skip_broken"}
    if "resolution" not in options:
        fields["resolution"] = f"recipe.data.{side}"
    with naming_fields(fields):
        return OPENERS[data.name](data, split, transform=transform, **options)


def check_classes(train: Any, evaluated: Any) -> None:
    """Make sure that a label means the same where a network learns and where it is measured.

    Splits of one folder agree by themselves; listings of COCO's form, which each have their own categories, need not.

    Raises:
        ValueError: naming the first class of ``evaluated`` that ``train`` does not have under the same label.
    """
    for label, name in enumerate(evaluated.classes):
        learnt = train.classes[label] if label < len(train.classes) else None
        if name not in (learnt, "N/A"):
            what = f"{learnt!r} in training" if learnt else "no class in training"
            raise ValueError(f"label {label} is {name!r} in evaluation and {what}: both need the same classes")
