"""Metrics: they gather batch by batch, take in what others gathered, and compute at the end.

A metric is plain data that can be pickled. Several processes that share the images of an evaluation send each other
theirs, and each merges all of them in the same order.
"""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from contextlib import redirect_stdout
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["IGNORE_INDEX", "Accuracy", "AveragePrecision", "IntersectionOverUnion", "Metric", "pixel_losses"]

#: Value of a mask where there is no image, or nobody said what it shows; losses and metrics leave it out.
IGNORE_INDEX = 255


class Metric(ABC):
    """Gathers what a measure needs, batch by batch."""

    @abstractmethod
    def update(self, outputs: Any, targets: Any) -> None:
        """Take in a batch: what the network gave in evaluation mode, and what is right."""

    @abstractmethod
    def merge(self, other: Self) -> None:
        """Take in what another metric gathered from other images."""

    @abstractmethod
    def compute(self) -> dict[str, float]:
        """Measure over all images."""


class Accuracy(Metric):
    """Top-1 and top-5 accuracy, 0 to 1, and the mean cross-entropy without label smoothing.

    With fewer than five classes all of them are among the first five.
    """

    def __init__(self) -> None:
        self.sums = torch.zeros(3, dtype=torch.float64)
        self.images = 0

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Take in logits (N, K) and classes (N,)."""
        ranked = outputs.topk(min(5, outputs.shape[1])).indices == targets[:, None]
        loss = functional.cross_entropy(outputs.float(), targets, reduction="sum")
        self.sums += torch.stack([loss, ranked[:, 0].sum(), ranked.sum()]).cpu()
        self.images += len(targets)

    def merge(self, other: Self) -> None:
        self.sums += other.sums
        self.images += other.images

    def compute(self) -> dict[str, float]:
        loss, first, five = self.sums.tolist()
        return {"loss": loss / self.images, "top1": first / self.images, "top5": five / self.images}


def pixel_losses(logits: Tensor, masks: Tensor) -> Tensor:
    """Cross-entropy of each image, (N,): the mean over its labelled pixels, 0 if it has none.

    Args:
        logits: (N, K, H, W).
        masks: classes, (N, H, W); :data:`IGNORE_INDEX` for pixels that do not count.
    """
    losses = functional.cross_entropy(logits, masks, ignore_index=IGNORE_INDEX, reduction="none")
    return losses.sum((1, 2)) / (masks != IGNORE_INDEX).sum((1, 2)).clamp(min=1)


class IntersectionOverUnion(Metric):
    """Mean IoU over the classes that are there or were found, and the part of the pixels that is right.

    Args:
        num_classes: number of classes, background included; it counts like the others.
    """

    def __init__(self, num_classes: int) -> None:
        self.confusion = torch.zeros(num_classes, num_classes, dtype=torch.int64)
        self.loss, self.images = 0.0, 0

    def update(self, outputs: dict[str, Tensor], targets: Tensor) -> None:
        """Take in logits (N, K, H, W), as ``outputs["out"]``, and masks (N, H, W)."""
        logits, classes = outputs["out"].float(), len(self.confusion)
        self.loss += float(pixel_losses(logits, targets).sum())
        self.images += len(targets)
        labelled = targets != IGNORE_INDEX
        pairs = targets[labelled] * classes + logits.argmax(1)[labelled]
        self.confusion += torch.bincount(pairs, minlength=classes**2).reshape(classes, classes).cpu()

    def merge(self, other: Self) -> None:
        self.confusion += other.confusion
        self.loss += other.loss
        self.images += other.images

    def of_classes(self) -> Tensor:
        """IoU of each class, (K,) float64; NaN for one that neither is there nor was found."""
        right = self.confusion.diagonal().double()
        return right / (self.confusion.sum(0) + self.confusion.sum(1) - right)

    def compute(self) -> dict[str, float]:
        confusion = self.confusion.double()
        return {
            "loss": self.loss / self.images,
            "miou": float(self.of_classes().nanmean()),
            "pixel_accuracy": float(confusion.diagonal().sum() / confusion.sum()),
        }


class _Boxes(NamedTuple):
    """An image: its objects as (x, y, width, height, class, area, crowd), and those found as (…, score, class)."""

    image_id: Any
    objects: list[list[float]]
    found: list[list[float]]


class AveragePrecision(Metric):
    """COCO's average precision by pycocotools: over IoU 0.5 to 0.95 (``ap``), at 0.5 and 0.75, and by size of object.

    Sizes are COCO's, by area: below 32² square pixels (``ap_small``), below 96², and above; where there is no object of
    a size, its number is left out. A crowd is not asked for, and a detection that lies in one counts neither way.
    """

    def __init__(self) -> None:
        self.images: list[_Boxes] = []

    def update(self, outputs: list[dict[str, Tensor]], targets: list[dict[str, Any]]) -> None:
        """Take in the images of a batch.

        Args:
            outputs: of each image ``boxes`` (M, 4), two corners each, ``labels`` (M,) and ``scores`` (M,).
            targets: of each image ``boxes`` (N, 4) and ``labels`` (N,); ``area`` (N,) of the objects, by default that
                of their boxes; ``iscrowd`` (N,), by default none; and ``image_id``, by which images are put in order,
                so that equal scores rank the same however images are spread over batches and processes.
        """
        for found, target in zip(outputs, targets, strict=True):
            boxes, labels = _x_y_width_height(target["boxes"]), target["labels"].double()
            area = target.get("area", boxes[:, 2:].prod(1))
            crowd = target.get("iscrowd", torch.zeros_like(labels))
            objects = torch.column_stack([boxes, labels, area, crowd])
            detections = torch.column_stack([_x_y_width_height(found["boxes"]), found["scores"], found["labels"]])
            self.images.append(_Boxes(target.get("image_id"), objects.tolist(), detections.tolist()))

    def merge(self, other: Self) -> None:
        self.images += other.images

    def compute(self) -> dict[str, float]:
        import numpy as np
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval

        images = self.images
        if all(image.image_id is not None for image in images):
            images = sorted(images, key=lambda image: image.image_id)
        objects = [(number, *one) for number, image in enumerate(images) for one in image.objects]
        found = np.array([(number, *one) for number, image in enumerate(images) for one in image.found])
        if not len(found) or all(crowd for *_, crowd in objects):
            return {"ap": 0.0, "ap50": 0.0, "ap75": 0.0}
        truth = COCO()
        truth.dataset = {
            "info": {},
            "images": [{"id": number} for number in range(len(images))],
            "categories": [{"id": label} for label in sorted({int(one[5]) for one in objects})],
            "annotations": [
                {"id": place, "image_id": number, "category_id": int(label), "bbox": box, "area": area,
                 "iscrowd": int(crowd)}
                for place, (number, *box, label, area, crowd) in enumerate(objects, start=1)
            ],
        }  # fmt: skip
        with redirect_stdout(io.StringIO()):
            truth.createIndex()
            evaluation = COCOeval(truth, truth.loadRes(found), "bbox")
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        names = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")
        return {name: float(value) for name, value in zip(names, evaluation.stats, strict=False) if value >= 0}


def _x_y_width_height(boxes: Tensor) -> Tensor:
    """(N, 4) of two corners to one corner, width and height, in float64."""
    plain = boxes.as_subclass(Tensor).double()
    return torch.column_stack([plain[:, :2], plain[:, 2:] - plain[:, :2]])
