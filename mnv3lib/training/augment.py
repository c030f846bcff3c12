"""What happens to images on their way to the network: torchvision's transforms (v2), put together by a recipe.

Boxes and masks move with their image. All random numbers come from torch's global generator, so that its state is all
that a resumed run needs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import AutoAugment, AutoAugmentPolicy, InterpolationMode, RandAugment, TrivialAugmentWide

from mnv3lib._checks import positive_int
from mnv3lib.recipe import Augment, Data, Task
from mnv3lib.tasks import TASKS

__all__ = ["batch_transform", "eval_transform", "train_transform"]

_POLICIES: dict[str, Callable[[], v2.Transform]] = {
    "autoaugment": lambda: AutoAugment(AutoAugmentPolicy.IMAGENET, InterpolationMode.BILINEAR),
    "randaugment": lambda: RandAugment(interpolation=InterpolationMode.BILINEAR),
    "trivialaugment": lambda: TrivialAugmentWide(interpolation=InterpolationMode.BILINEAR),
}


def train_transform(augment: Augment, data: Data, task: Task) -> v2.Transform:
    """The transform of a training image and its target.

    Args:
        augment: of the recipe.
        data: of the recipe, for the sizes.
        task: what the target is.

    Returns:
        To be called with an image, or with an image and its target, the class as an int, the mask as a
        ``tv_tensors.Mask`` or a mapping with ``boxes`` (``tv_tensors.BoundingBoxes``) and ``labels``. The image is a
        PIL image or a uint8 tensor (3, H, W) and comes out as float32 (3, ``train_size``, ``train_size``), normalised.
        For detection it keeps its size and stays between 0 and 1, because detection networks resize and normalise
        themselves; boxes that a crop emptied are removed with their labels.
    """
    kind, geometry = TASKS[task], dict[str, Any]()
    if augment.scale_range is not None:
        low, high = (max(1, round(part * data.eval_size)) for part in augment.scale_range)
        geometry["sides"] = low, high
    elif augment.crop_scale is not None:
        geometry["crop_scale"] = augment.crop_scale
    if augment.iou_crop:
        geometry["iou_crop"] = True
    steps = kind.train_geometry(data.train_size, **geometry)
    if augment.flip:
        steps.append(v2.RandomHorizontalFlip(augment.flip))
    if augment.colour is not None:
        brightness, contrast, saturation, hue = augment.colour
        steps.append(v2.ColorJitter(brightness, contrast, saturation, hue))
    if augment.policy is not None:
        steps.append(_POLICIES[augment.policy]())
    # Until here a PIL image stays one: Pillow resizes a little differently, and published accuracies are with Pillow.
    steps += kind.to_tensors(augment.mean, augment.std)
    if augment.erase:
        steps.append(v2.RandomErasing(augment.erase))
    return v2.Compose(steps)


def eval_transform(augment: Augment, data: Data, task: Task) -> v2.Transform:
    """The transform of a test image and its target; nothing in it is random.

    Args, and what it is called with, as in :func:`train_transform`.

    Returns:
        Images for classification come out as (3, ``eval_size``, ``eval_size``), cropped from the middle if there is an
        ``eval_resize``. For segmentation the shorter side becomes ``eval_size`` and nothing is cut off, for detection
        images keep their size.
    """
    kind = TASKS[task]
    geometry = kind.eval_geometry(data.eval_size, data.eval_resize)
    return v2.Compose([*geometry, *kind.to_tensors(augment.mean, augment.std)])


def batch_transform(augment: Augment, num_classes: int) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None:
    """Mixup (arXiv:1710.09412) and CutMix (arXiv:1905.04899), one of the two for each batch, or None for neither.

    Args:
        augment: of the recipe.
        num_classes: K.

    Returns:
        To be called with images (N, 3, H, W) and classes (N,); gives images, and targets (N, K) that add up to 1.
    """
    positive_int("num_classes", num_classes)
    choices: list[Any] = []
    if augment.mixup:
        choices.append(v2.MixUp(alpha=augment.mixup, num_classes=num_classes))
    if augment.cutmix:
        choices.append(v2.CutMix(alpha=augment.cutmix, num_classes=num_classes))
    if not choices:
        return None
    return v2.RandomChoice(choices) if len(choices) > 1 else choices[0]
