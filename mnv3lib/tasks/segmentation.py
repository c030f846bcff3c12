"""Segmentation: one class a pixel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision import tv_tensors
from torchvision.transforms import v2

from mnv3lib._checks import positive_int
from mnv3lib.heads import SEGMENTATION
from mnv3lib.tasks.builders import build, describe
from mnv3lib.tasks.metrics import IGNORE_INDEX, IntersectionOverUnion, Metric, pixel_losses
from mnv3lib.tasks.task import Task

__all__ = ["Segmentation"]

#: Weight of an auxiliary head's loss, as in torchvision's reference training.
_AUXILIARY = 0.5


class Segmentation(Task):
    """Cross-entropy, and the mean intersection over union of the classes.

    The loss of an image is the mean over its labelled pixels; 0.5 times that of an auxiliary head, if there is one, is
    added.

    Args:
        num_classes: of the data, background included.
        name: of a network, a key of ``mnv3lib.heads.SEGMENTATION``.
        options: its keywords, those of :func:`mnv3lib.heads.lraspp` or :func:`mnv3lib.heads.deeplabv3`; and
            ``weights_backbone``, the weights of a classification network to start from.

    Raises:
        TypeError, ValueError: for an unknown name or option, naming the nearest, for a value out of its range, or a
            number of classes in ``options`` that is not ``num_classes``.
    """

    measure = "miou"

    def __init__(self, num_classes: int, name: str, options: Mapping[str, Any] | None = None) -> None:
        self.num_classes = positive_int("num_classes", num_classes)
        self.config, self.weights_backbone = describe(
            SEGMENTATION, name, options or {}, self.num_classes, task="segmentation"
        )

    def build_model(self) -> nn.Module:
        return build(self.config)

    def backbone(self, model: nn.Module) -> nn.Module:
        return model.get_submodule("backbone")

    def head(self, model: nn.Module) -> list[nn.Module]:
        auxiliary = getattr(model, "aux_classifier", None)
        return [model.get_submodule("classifier"), *([] if auxiliary is None else [auxiliary])]

    @staticmethod
    def train_geometry(
        size: int,
        *,
        crop_scale: tuple[float, float] | None = None,
        sides: tuple[int, int] | None = None,
    ) -> list[v2.Transform]:
        """A square of ``size``: of a random part of the image, or after a resize.

        With ``sides`` the shorter side is drawn from the first to the second, and then a square is cut out, filled up
        with black, and in masks with :data:`IGNORE_INDEX`, where the image is smaller.
        """
        if sides is not None:
            low, high = sides
            crop = v2.RandomCrop(size, pad_if_needed=True, fill={tv_tensors.Mask: IGNORE_INDEX, "others": 0})
            # The upper bound of torchvision's RandomResize is never drawn.
            return [v2.RandomResize(low, high + 1), crop]
        return [v2.RandomResizedCrop(size, scale=crop_scale) if crop_scale else v2.Resize((size, size))]

    @staticmethod
    def eval_geometry(size: int, resize: int | None = None) -> list[v2.Transform]:
        """The shorter side becomes ``size``; nothing is cut off, whatever ``resize`` says."""
        return [v2.Resize(size)]

    @staticmethod
    def to_tensors(mean: Sequence[float], std: Sequence[float]) -> list[v2.Transform]:
        # Masks are classes, of the type that the loss wants.
        types = {tv_tensors.Image: torch.float32, tv_tensors.Mask: torch.int64, "others": None}
        return [v2.ToImage(), v2.ToDtype(types, scale=True), v2.Normalize(mean, std)]

    def collate(self, samples: list[tuple[Any, Any]]) -> tuple[Tensor, Tensor]:
        """Make a batch; smaller images are filled up at the bottom and right, by pixels that count nowhere.

        Raises:
            ValueError: for a class that there is not.
        """
        height, width = (max(image.shape[axis] for image, _ in samples) for axis in (-2, -1))
        images = samples[0][0].new_zeros(len(samples), 3, height, width).as_subclass(Tensor)
        masks = torch.full((len(samples), height, width), IGNORE_INDEX, dtype=torch.int64)
        for place, (image, mask) in enumerate(samples):
            images[place, :, : image.shape[-2], : image.shape[-1]] = image
            masks[place, : image.shape[-2], : image.shape[-1]] = mask.squeeze(0) if mask.ndim == 3 else mask
        strange = masks[((masks < 0) | (masks >= self.num_classes)) & (masks != IGNORE_INDEX)]
        if strange.numel():
            raise ValueError(
                f"masks must hold classes from 0 to {self.num_classes - 1}, and {IGNORE_INDEX} for none, "
                f"got {strange[0].item()}"
            )
        return images, masks

    def loss(self, model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        outputs = model(images)
        loss = pixel_losses(outputs["out"], targets).mean()
        return loss + _AUXILIARY * pixel_losses(outputs["aux"], targets).mean() if "aux" in outputs else loss

    def metric(self) -> Metric:
        return IntersectionOverUnion(self.num_classes)
