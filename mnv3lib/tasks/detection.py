"""Detection: boxes and their classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision import tv_tensors
from torchvision.transforms import v2

from mnv3lib._checks import positive_int
from mnv3lib.detectors import DETECTION
from mnv3lib.tasks.boxes import check_labels
from mnv3lib.tasks.builders import build, describe
from mnv3lib.tasks.metrics import AveragePrecision, Metric
from mnv3lib.tasks.task import Task

__all__ = ["Detection"]

#: What torchvision has otherwise in detectors whose backbone has learnt elsewhere.
_LEARNT_SSDLITE = {"reduced_tail": False}
_LEARNT_FASTERRCNN = {"frozen_norm": True, "trainable_layers": 3}


class Detection(Task):
    """The network's own loss, and COCO's average precision.

    Args:
        num_classes: of the data, background included.
        name: of a network, a key of ``mnv3lib.detectors.DETECTION``.
        options: its keywords, those of :func:`mnv3lib.detectors.ssdlite` or :func:`mnv3lib.detectors.fasterrcnn`; and
            ``weights_backbone``, the weights of a classification network to start from. Where these are named, other
            defaults hold, as in torchvision: SSDLite has the whole last stage; Faster R-CNN's batch norm is fixed, and
            three stages of its backbone learn.

    Raises:
        TypeError, ValueError: for an unknown name or option, naming the nearest, for a value out of its range, or a
            number of classes in ``options`` that is not ``num_classes``.
    """

    measure = "ap"

    def __init__(self, num_classes: int, name: str, options: Mapping[str, Any] | None = None) -> None:
        self.num_classes = positive_int("num_classes", num_classes)
        learnt = _LEARNT_SSDLITE if name.startswith("ssdlite") else _LEARNT_FASTERRCNN
        self.config, self.weights_backbone = describe(
            DETECTION, name, options or {}, self.num_classes, task="detection", learnt=learnt
        )

    def build_model(self) -> nn.Module:
        return build(self.config)

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
        """Make a batch, of lists, because images have sizes of their own.

        Raises:
            ValueError: for a class that there is not; the background is none of a box.
        """
        images, targets = zip(*samples, strict=True)
        check_labels(targets, self.num_classes)
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
