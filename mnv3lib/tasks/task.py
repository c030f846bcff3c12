"""What a task is asked for, by a loop that does not know which one it is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torchvision.transforms import v2

from mnv3lib.tasks.metrics import Metric

__all__ = ["Task"]


class Task(ABC):
    """A kind of learning, with one network and one set of classes.

    A loss is a mean over images, so that batches of any sizes add up to the loss of all their images when each counts
    by its images. (Detection's is divided by the boxes of a batch, as in torchvision; there that holds only roughly.)

    Attributes:
        measure: name of the number, among a metric's, by which epochs are compared; higher is better.
        num_classes: number of classes, the background of segmentation and detection included.
        config: of the network, as :func:`mnv3lib.cost.profile` takes it.
        weights_backbone: what :func:`mnv3lib.weights.load` is to fill the backbone from; None for fresh weights.
    """

    measure: ClassVar[str]
    num_classes: int
    config: Any
    weights_backbone: str | None = None

    # -- network -------------------------------------------------------------------------------------------------------

    @abstractmethod
    def build_model(self) -> nn.Module:
        """The network, with fresh weights."""

    @abstractmethod
    def backbone(self, model: nn.Module) -> nn.Module:
        """The part of a network that is a classification network's, and can come with its weights."""

    @abstractmethod
    def head(self, model: nn.Module) -> list[nn.Module]:
        """All other parts that have parameters."""

    # -- images and targets --------------------------------------------------------------------------------------------

    @staticmethod
    @abstractmethod
    def train_geometry(*args: Any, **kwargs: Any) -> list[v2.Transform]:
        """Transforms that bring a training image, and its target, to the size of training.

        Called with the size in pixels, and with keywords of the task for what is random about it.
        """

    @staticmethod
    @abstractmethod
    def eval_geometry(size: int, resize: int | None = None) -> list[v2.Transform]:
        """Transforms that bring a test image to ``size`` pixels; ``resize`` is the shorter side before a crop."""

    @staticmethod
    @abstractmethod
    def to_tensors(mean: Sequence[float], std: Sequence[float]) -> list[v2.Transform]:
        """Transforms from an image, of PIL or of bytes, to float32 in the network's range, and of its target."""

    @abstractmethod
    def collate(self, samples: list[tuple[Any, Any]]) -> tuple[Any, Any]:
        """Make a batch of images and targets."""

    def move(self, batch: tuple[Any, Any], device: torch.device, memory_format: torch.memory_format) -> tuple[Any, Any]:
        """Bring a batch to a device and its images into a memory layout."""
        images, targets = batch
        images = images.to(device, non_blocking=True, memory_format=memory_format)
        return images, targets.to(device, non_blocking=True)

    # -- loss and metric -----------------------------------------------------------------------------------------------

    @abstractmethod
    def loss(self, model: nn.Module, images: Any, targets: Any) -> Tensor:
        """The mean loss of a batch, of a network in training mode."""

    @abstractmethod
    def metric(self) -> Metric:
        """A fresh metric."""
