"""Detection: boxes and their classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision import tv_tensors
from torchvision.transforms import v2

from mnv3lib._checks import positive_int
from mnv3lib.tasks import builders
from mnv3lib.tasks.metrics import AveragePrecision, Metric
from mnv3lib.tasks.task import Task

__all__ = ["Detection"]


class Detection(Task):
    """The network's own loss, and COCO's average precision.

    Args:
        num_classes: of the data, background included.
        name: of a torchvision builder, one of ``BUILDERS``.
        options: its keywords.

    Raises:
        TypeError, ValueError: for an unknown name or option, naming the nearest, or a number of classes in ``options``
            that is not ``num_classes``.
    """

    measure = "ap"
    BUILDERS = (
        "ssdlite320_mobilenet_v3_large",
        "fasterrcnn_mobilenet_v3_large_fpn",
        "fasterrcnn_mobilenet_v3_large_320_fpn",
    )

    def __init__(self, num_classes: int, name: str, options: Mapping[str, Any] | None = None) -> None:
        self.num_classes = positive_int("num_classes", num_classes)
        self.name = builders.check_name(name, self.BUILDERS, "detection")
        self.options = builders.check_options(name, options or {}, num_classes)

    def build_model(self, *, pretrained: bool = True) -> nn.Module:
        return builders.build(self.name, self.options, pretrained=pretrained)

    def backbone(self, model: nn.Module) -> nn.Module:
        # Torchvision's `backbone` has fresh layers too: the extra ones of SSDLite, the pyramid of Faster R-CNN.
        return model.get_submodule("backbone.features" if _is_ssd(model) else "backbone.body")

    def head(self, model: nn.Module) -> list[nn.Module]:
        parts = ("backbone.extra", "head") if _is_ssd(model) else ("backbone.fpn", "rpn", "roi_heads")
        return [model.get_submodule(part) for part in parts]

    @staticmethod
    def train_geometry(size: int, *, iou_crop: bool = False) -> list[v2.Transform]:
        """Nothing, because detection networks resize themselves; or a crop that keeps objects, as for SSD.

        Boxes that a crop emptied are removed with their labels.
        """
        return [v2.RandomIoUCrop(), v2.SanitizeBoundingBoxes(labels_getter=_per_box)] if iou_crop else []

    @staticmethod
    def eval_geometry(size: int, resize: int | None = None) -> list[v2.Transform]:
        """Nothing: images keep their size, and the networks resize themselves."""
        return []

    @staticmethod
    def to_tensors(mean: Sequence[float], std: Sequence[float]) -> list[v2.Transform]:
        """Values from 0 to 1; the networks normalise themselves."""
        return [v2.ToImage(), v2.ToDtype({tv_tensors.Image: torch.float32, "others": None}, scale=True)]

    def collate(self, samples: list[tuple[Any, Any]]) -> tuple[list[Tensor], list[dict[str, Any]]]:
        images, targets = zip(*samples, strict=True)
        return [image.as_subclass(Tensor) for image in images], list(targets)

    def move(self, batch: tuple[Any, Any], device: torch.device, memory_format: torch.memory_format) -> tuple[Any, Any]:
        """Bring a batch to a device; images have sizes of their own, so the network lays out their batch."""
        images, targets = batch
        there = [
            {name: value.to(device) if isinstance(value, Tensor) else value for name, value in target.items()}
            for target in targets
        ]
        return [image.to(device, non_blocking=True) for image in images], there

    def loss(self, model: nn.Module, images: list[Tensor], targets: list[dict[str, Any]]) -> Tensor:
        return torch.stack(list(model(images, targets).values())).sum()

    def metric(self) -> Metric:
        return AveragePrecision()


def _is_ssd(model: nn.Module) -> bool:
    return hasattr(model.get_submodule("backbone"), "extra")


def _per_box(sample: Any) -> Any:
    """What loses an entry with every box that is removed; torchvision takes masks along by itself."""
    return tuple(sample[1][name] for name in ("labels", "area", "iscrowd") if name in sample[1])
