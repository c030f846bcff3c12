"""What differs between classification, segmentation and detection: network, batches, loss and measure.

The loop knows none of the three; it asks a :class:`Task`. A loss is a mean over images, so that batches of any sizes
add up to the loss of all their images when each counts by its images. (Detection's is divided by the boxes of a batch,
as in torchvision; there that holds only roughly.)
"""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from contextlib import redirect_stdout
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from mnv3lib.network import MobileNetV3
from mnv3lib.recipe import Recipe
from mnv3lib.training.augment import IGNORED
from mnv3lib.training.distributed import Processes

__all__ = ["TASKS", "Classification", "Detection", "Metric", "Segmentation", "Task"]


class Metric(ABC):
    """Gathers what a measure needs, batch by batch."""

    @abstractmethod
    def update(self, outputs: Any, targets: Any) -> None:
        """Take in a batch: what the network gave in evaluation mode, and what is right."""

    @abstractmethod
    def compute(self, processes: Processes) -> dict[str, float]:
        """Measure over all batches of all processes; every process calls it and gets the same."""


class Task(ABC):
    """A kind of learning, for one recipe and one set of classes.

    Args:
        recipe: of the run.
        classes: number of classes, the background of segmentation and detection included.

    Attributes:
        measure: name of the number, among a metric's, by which epochs are compared; higher is better.
    """

    measure: ClassVar[str]
    #: The part of the network that ``model.freeze: backbone`` holds.
    backbone: ClassVar[str] = "backbone"

    def __init__(self, recipe: Recipe, classes: int) -> None:
        self.recipe, self.classes = recipe, classes

    @abstractmethod
    def build_model(self) -> nn.Module:
        """The network of the recipe with fresh weights."""

    @abstractmethod
    def loss(self, model: nn.Module, images: Any, targets: Any) -> Tensor:
        """The mean loss of a batch, of a network in training mode."""

    @abstractmethod
    def metric(self) -> Metric:
        """A fresh measure."""

    def collate(self, samples: list[tuple[Any, Any]]) -> tuple[Any, Any]:
        """Make a batch of images and targets."""
        images, targets = zip(*samples, strict=True)
        return torch.stack([image.as_subclass(Tensor) for image in images]), torch.as_tensor(targets)

    def move(self, batch: tuple[Any, Any], device: torch.device) -> tuple[Any, Any]:
        """Bring a batch to a device, in the recipe's memory layout."""
        images, targets = batch
        layout = torch.channels_last if self.recipe.precision.channels_last else torch.contiguous_format
        images = images.to(device, non_blocking=True, memory_format=layout)
        return images, targets.to(device, non_blocking=True)


class Classification(Task):
    """One class an image: cross-entropy, and how often the right class is the first or among the first five."""

    measure = "top1"
    backbone = "features"

    def build_model(self) -> nn.Module:
        return MobileNetV3(self.recipe.model.config(num_classes=self.classes))

    def loss(self, model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        return functional.cross_entropy(model(images), targets, label_smoothing=self.recipe.label_smoothing)

    def metric(self) -> Metric:
        return Accuracy()


class Accuracy(Metric):
    """Top-1 and top-5 accuracy, 0 to 1, and the mean cross-entropy without label smoothing."""

    def __init__(self) -> None:
        self.sums = torch.zeros(3, dtype=torch.float64)
        self.images = 0

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        ranked = outputs.topk(min(5, outputs.shape[1])).indices == targets[:, None]
        loss = functional.cross_entropy(outputs.float(), targets, reduction="sum")
        self.sums += torch.stack([loss, ranked[:, 0].sum(), ranked.sum()]).cpu()
        self.images += len(targets)

    def compute(self, processes: Processes) -> dict[str, float]:
        sums = torch.cat([self.sums, self.sums.new_tensor([self.images])])
        loss, first, five, images = processes.all_reduce(sums.to(processes.device)).tolist()
        return {"loss": loss / images, "top1": first / images, "top5": five / images}


class Segmentation(Task):
    """One class a pixel: cross-entropy, and the mean intersection over union of the classes.

    The loss of an image is the mean over its labelled pixels; 0.5 times that of an auxiliary head, if there is one, is
    added, as in torchvision's reference training.
    """

    measure = "miou"
    BUILDERS = ("lraspp_mobilenet_v3_large", "deeplabv3_mobilenet_v3_large")

    def build_model(self) -> nn.Module:
        return _torchvision(self, self.BUILDERS)

    def collate(self, samples: list[tuple[Any, Any]]) -> tuple[Tensor, Tensor]:
        """Make a batch; smaller images are filled up at the bottom and right, by pixels that count nowhere."""
        height, width = (max(image.shape[axis] for image, _ in samples) for axis in (-2, -1))
        images = samples[0][0].new_zeros(len(samples), 3, height, width).as_subclass(Tensor)
        masks = torch.full((len(samples), height, width), IGNORED, dtype=torch.int64)
        for place, (image, mask) in enumerate(samples):
            images[place, :, : image.shape[-2], : image.shape[-1]] = image
            masks[place, : image.shape[-2], : image.shape[-1]] = mask.squeeze(0) if mask.ndim == 3 else mask
        return images, masks

    def loss(self, model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        outputs = model(images)
        loss = _pixel_loss(outputs["out"], targets).mean()
        return loss + 0.5 * _pixel_loss(outputs["aux"], targets).mean() if "aux" in outputs else loss

    def metric(self) -> Metric:
        return IntersectionOverUnion(self.classes)


def _pixel_loss(logits: Tensor, masks: Tensor) -> Tensor:
    losses = functional.cross_entropy(logits, masks, ignore_index=IGNORED, reduction="none")
    return losses.sum((1, 2)) / (masks != IGNORED).sum((1, 2)).clamp(min=1)


class IntersectionOverUnion(Metric):
    """Mean IoU over the classes that are there or were found, and the part of the pixels that is right."""

    def __init__(self, classes: int) -> None:
        self.confusion = torch.zeros(classes, classes, dtype=torch.int64)
        self.loss = torch.zeros(2, dtype=torch.float64)

    def update(self, outputs: dict[str, Tensor], targets: Tensor) -> None:
        logits, classes = outputs["out"].float(), len(self.confusion)
        self.loss += torch.tensor([float(_pixel_loss(logits, targets).sum()), len(targets)])
        labelled = targets != IGNORED
        pairs = targets[labelled] * classes + logits.argmax(1)[labelled]
        self.confusion += torch.bincount(pairs, minlength=classes**2).reshape(classes, classes).cpu()

    def compute(self, processes: Processes) -> dict[str, float]:
        confusion = processes.all_reduce(self.confusion.to(processes.device)).cpu().double()
        loss, images = processes.all_reduce(self.loss.to(processes.device)).tolist()
        right = confusion.diagonal()
        union = confusion.sum(0) + confusion.sum(1) - right
        return {
            "loss": loss / images,
            "miou": float((right / union)[union > 0].mean()),
            "pixel_accuracy": float(right.sum() / confusion.sum()),
        }


class Detection(Task):
    """Boxes and their classes: the network's own loss, and COCO's average precision."""

    measure = "ap"
    BUILDERS = (
        "ssdlite320_mobilenet_v3_large",
        "fasterrcnn_mobilenet_v3_large_fpn",
        "fasterrcnn_mobilenet_v3_large_320_fpn",
    )

    def build_model(self) -> nn.Module:
        return _torchvision(self, self.BUILDERS)

    def collate(self, samples: list[tuple[Any, Any]]) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
        images, targets = zip(*samples, strict=True)
        return [image.as_subclass(Tensor) for image in images], list(targets)

    def move(self, batch: tuple[Any, Any], device: torch.device) -> tuple[Any, Any]:
        images, targets = batch
        kept = [
            {name: value.to(device) for name, value in target.items() if isinstance(value, Tensor)}
            for target in targets
        ]
        return [image.to(device, non_blocking=True) for image in images], kept

    def loss(self, model: nn.Module, images: list[Tensor], targets: list[dict[str, Tensor]]) -> Tensor:
        return torch.stack(list(model(images, targets).values())).sum()

    def metric(self) -> Metric:
        return AveragePrecision()


class AveragePrecision(Metric):
    """COCO's average precision: over IoU 0.5 to 0.95, and at 0.5; by pycocotools."""

    def __init__(self) -> None:
        #: For each image its boxes (x, y, width, height) with their classes, and those found with scores too.
        self.images: list[tuple[list[list[float]], list[list[float]]]] = []

    def update(self, outputs: list[dict[str, Tensor]], targets: list[dict[str, Tensor]]) -> None:
        for found, target in zip(outputs, targets, strict=True):
            right = torch.column_stack([_width_height(target["boxes"]), target["labels"]])
            parts = [_width_height(found["boxes"]), found["scores"], found["labels"]]
            self.images.append((right.cpu().tolist(), torch.column_stack(parts).cpu().tolist()))

    def compute(self, processes: Processes) -> dict[str, float]:
        import numpy as np
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval

        images = [image for part in processes.gather(self.images) for image in part]
        right = [(number, *box) for number, (boxes, _) in enumerate(images) for box in boxes]
        found = np.array([(number, *box) for number, (_, boxes) in enumerate(images) for box in boxes])
        if not right or not len(found):
            return {"ap": 0.0, "ap50": 0.0}
        truth = COCO()
        truth.dataset = {
            "info": {},
            "images": [{"id": number} for number in range(len(images))],
            "categories": [{"id": label} for label in sorted({int(box[-1]) for box in right})],
            "annotations": [
                {"id": place, "image_id": number, "category_id": int(label), "bbox": [x, y, width, height],
                 "area": width * height, "iscrowd": 0}
                for place, (number, x, y, width, height, label) in enumerate(right, start=1)
            ],
        }  # fmt: skip
        with redirect_stdout(io.StringIO()):
            truth.createIndex()
            evaluation = COCOeval(truth, truth.loadRes(found), "bbox")
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        return {"ap": float(evaluation.stats[0]), "ap50": float(evaluation.stats[1])}


def _width_height(boxes: Tensor) -> Tensor:
    """(N, 4) of two corners to one corner, width and height."""
    plain = boxes.as_subclass(Tensor)
    return torch.column_stack([plain[:, :2], plain[:, 2:] - plain[:, :2]])


def _torchvision(task: Task, builders: tuple[str, ...]) -> nn.Module:
    from torchvision import models

    wanted = task.recipe.model.name
    if wanted not in builders:
        raise ValueError(
            f"recipe.model.name must be one of {', '.join(map(repr, builders))} for {task.recipe.task}, got {wanted!r}"
        )
    nothing = {"weights": None, "weights_backbone": None}  # torchvision's own default is to fetch the backbone
    return models.get_model(wanted, **{**nothing, "num_classes": task.classes, **task.recipe.model.options})


TASKS: dict[str, type[Task]] = {
    "classification": Classification,
    "segmentation": Segmentation,
    "detection": Detection,
}
