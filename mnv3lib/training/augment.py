"""What happens to images on their way to the network: torchvision's transforms (v2), put together by a recipe.

Boxes and masks move with their image. All random numbers come from torch's global generator, so that its state is all
that a resumed run needs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import AutoAugment, AutoAugmentPolicy, InterpolationMode, RandAugment, TrivialAugmentWide

from mnv3lib._checks import positive_int
from mnv3lib.recipe import Augment, Data, Task

__all__ = ["IGNORED", "batch_transform", "eval_transform", "train_transform"]

#: Value of a mask where there is no image, or nobody said what it shows; losses and metrics leave it out.
IGNORED = 255

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
    size, steps = data.train_size, list[v2.Transform]()
    if augment.scale_range is not None:
        low, high = (max(1, round(part * data.eval_size)) for part in augment.scale_range)
        # The upper bound of torchvision's RandomResize is never drawn.
        steps += [v2.RandomResize(low, high + 1), _crop(size)]
    elif augment.crop_scale is not None:
        steps.append(v2.RandomResizedCrop(size, scale=augment.crop_scale))
    elif task != "detection":
        steps.append(v2.Resize((size, size)))
    if augment.iou_crop:
        steps += [v2.RandomIoUCrop(), v2.SanitizeBoundingBoxes(labels_getter=_labels)]
    if augment.flip:
        steps.append(v2.RandomHorizontalFlip(augment.flip))
    if augment.colour is not None:
        brightness, contrast, saturation, hue = augment.colour
        steps.append(v2.ColorJitter(brightness, contrast, saturation, hue))
    if augment.policy is not None:
        steps.append(_POLICIES[augment.policy]())
    steps += _to_numbers(augment, task)
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
    size, steps = data.eval_size, list[v2.Transform]()
    if task == "classification":
        if data.eval_resize is None:
            steps.append(v2.Resize((size, size)))
        else:
            steps += [v2.Resize(data.eval_resize), v2.CenterCrop(size)]
    elif task == "segmentation":
        steps.append(v2.Resize(size))
    return v2.Compose([*steps, *_to_numbers(augment, task)])


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


def _crop(size: int) -> v2.Transform:
    """A random square, filled up with black, and in masks with :data:`IGNORED`, where the image is smaller."""
    return v2.RandomCrop(size, pad_if_needed=True, fill={tv_tensors.Mask: IGNORED, "others": 0})


def _to_numbers(augment: Augment, task: Task) -> list[v2.Transform]:
    types = {tv_tensors.Image: torch.float32, "others": None}
    if task == "segmentation":
        types[tv_tensors.Mask] = torch.int64  # classes, as the loss wants them
    # Until here a PIL image stays one: Pillow resizes a little differently, and published accuracies are with Pillow.
    steps: list[v2.Transform] = [v2.ToImage(), v2.ToDtype(types, scale=True)]
    if task != "detection":
        steps.append(v2.Normalize(augment.mean, augment.std))
    return [*steps, v2.ToPureTensor()] if task == "classification" else steps


def _labels(sample: Any) -> Any:
    """What loses an entry with every box that is removed; torchvision takes masks along by itself."""
    return tuple(sample[1][name] for name in ("labels", "area", "iscrowd") if name in sample[1])
