"""Classification: one class an image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.transforms import v2

from mnv3lib._checks import fraction
from mnv3lib.config import MobileNetV3Config
from mnv3lib.network import MobileNetV3
from mnv3lib.tasks.metrics import Accuracy, Metric
from mnv3lib.tasks.task import Task

__all__ = ["Classification"]


class Classification(Task):
    """Cross-entropy, and how often the right class is the first or among the first five.

    Args:
        config: of the network; its ``num_classes`` are those of the data.
        label_smoothing: part of the target that is spread evenly over all classes.
    """

    measure = "top1"

    def __init__(self, config: MobileNetV3Config, *, label_smoothing: float = 0.0) -> None:
        self.config, self.num_classes = config, config.num_classes
        self.label_smoothing = fraction("label_smoothing", label_smoothing)

    def build_model(self) -> nn.Module:
        return MobileNetV3(self.config)

    def backbone(self, model: nn.Module) -> nn.Module:
        return model.get_submodule("features")

    def head(self, model: nn.Module) -> list[nn.Module]:
        return [model.get_submodule("classifier")]

    @staticmethod
    def train_geometry(size: int, *, crop_scale: tuple[float, float] | None = None) -> list[v2.Transform]:
        """A square: of a random part of the image, from ``crop_scale`` of its area, or of all of it."""
        return [v2.RandomResizedCrop(size, scale=crop_scale) if crop_scale else v2.Resize((size, size))]

    @staticmethod
    def eval_geometry(size: int, resize: int | None = None) -> list[v2.Transform]:
        return [v2.Resize((size, size))] if resize is None else [v2.Resize(resize), v2.CenterCrop(size)]

    @staticmethod
    def to_tensors(mean: Sequence[float], std: Sequence[float]) -> list[v2.Transform]:
        return [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std), v2.ToPureTensor()]

    def collate(self, samples: list[tuple[Any, Any]]) -> tuple[Tensor, Tensor]:
        images, targets = zip(*samples, strict=True)
        return torch.stack([image.as_subclass(Tensor) for image in images]), torch.as_tensor(targets)

    def loss(self, model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        return functional.cross_entropy(model(images), targets, label_smoothing=self.label_smoothing)

    def metric(self) -> Metric:
        return Accuracy()
