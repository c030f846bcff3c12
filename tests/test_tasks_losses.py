"""Losses and batches of the tasks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision import tv_tensors

from mnv3lib import config
from mnv3lib.tasks import Classification, Detection, Segmentation

LRASPP = "lraspp_mobilenet_v3_large"


class Given(nn.Module):
    """A network that gives what it gets."""

    def forward(self, outputs: Any, *_: Any) -> Any:
        return outputs


def test_smoothing_spreads_a_part_evenly_over_all_classes() -> None:
    """Of a class, and of the two classes of a mixed image alike."""
    task = Classification(config.small(num_classes=4), label_smoothing=0.2)
    logits = torch.tensor([[2.0, 0.0, -1.0, 1.0]])
    logarithms = logits[0].log_softmax(0)

    def smooth(*shares: float) -> float:
        return -sum((0.8 * share + 0.05) * float(value) for share, value in zip(shares, logarithms, strict=True))

    single, mixed = torch.tensor([2]), torch.tensor([[0.3, 0.0, 0.7, 0.0]])
    assert task.loss(Given(), logits, single).item() == pytest.approx(smooth(0, 0, 1, 0), rel=1e-6)
    assert task.loss(Given(), logits, mixed).item() == pytest.approx(smooth(0.3, 0, 0.7, 0), rel=1e-6)


def test_the_loss_of_pixels_is_a_mean_over_images() -> None:
    """So that the losses of two parts of a batch add up to that of the batch."""
    task = Segmentation(3, LRASPP)
    logits, masks = torch.randn(4, 3, 5, 5), torch.randint(0, 3, (4, 5, 5))
    whole = task.loss(Given(), {"out": logits}, masks)
    assert whole.item() == pytest.approx(functional.cross_entropy(logits, masks).item(), rel=1e-6)
    masks[0, :3] = 255
    masks[3] = 255
    whole = task.loss(Given(), {"out": logits}, masks)
    each = [
        functional.cross_entropy(one[None], mask[None], ignore_index=255).item()
        for one, mask in zip(logits, masks, strict=True)
    ]
    assert whole.item() == pytest.approx(sum(each[:3]) / 4, rel=1e-6), "an image without labels has no loss"
    parts = [task.loss(Given(), {"out": logits[part]}, masks[part]) for part in (slice(0, 1), slice(1, 4))]
    assert whole.item() == pytest.approx((parts[0] + 3 * parts[1]).item() / 4, rel=1e-6)


def test_an_auxiliary_head_counts_half() -> None:
    """As in torchvision's reference training."""
    task = Segmentation(3, LRASPP)
    out, aux, masks = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4), torch.randint(0, 3, (2, 4, 4))
    first, second = (functional.cross_entropy(logits, masks).item() for logits in (out, aux))
    assert task.loss(Given(), {"out": out, "aux": aux}, masks).item() == pytest.approx(first + second / 2, rel=1e-6)


def test_the_loss_of_a_detector_is_the_sum_of_its_own() -> None:
    losses = {"classification": torch.tensor(1.5), "bbox_regression": torch.tensor(0.25)}
    task = Detection(3, "ssdlite320_mobilenet_v3_large")
    assert task.loss(Given(), losses, []).item() == 1.75  # type: ignore[arg-type]


def test_images_of_several_sizes_are_filled_up() -> None:
    task = Segmentation(3, LRASPP)
    samples = [(torch.ones(3, 4, 6), torch.ones(4, 6)), (torch.ones(3, 5, 3), torch.ones(1, 5, 3, dtype=torch.uint8))]
    images, masks = task.collate(samples)
    assert images.shape == (2, 3, 5, 6)
    assert masks.shape == (2, 5, 6)
    assert masks.dtype == torch.int64
    assert [int((mask == 255).sum()) for mask in masks] == [30 - 24, 30 - 15]
    assert [float(image.sum()) for image in images] == [3 * 24, 3 * 15]


def test_an_image_alone_is_a_batch() -> None:
    images, masks = Segmentation(3, LRASPP).collate([(torch.ones(3, 2, 4), torch.ones(2, 4))])
    assert images.equal(torch.ones(1, 3, 2, 4))
    assert masks.tolist() == [[[1] * 4] * 2]


def test_targets_of_boxes_keep_what_is_no_tensor() -> None:
    """The number of an image is needed where its boxes are measured."""
    task = Detection(3, "ssdlite320_mobilenet_v3_large")
    boxes = tv_tensors.BoundingBoxes([[1, 1, 5, 5]], format="XYXY", canvas_size=(8, 8))  # type: ignore[call-overload]
    sample = torch.rand(3, 8, 8), {"boxes": boxes, "labels": torch.tensor([2]), "image_id": 71}
    images, (target,) = task.move(task.collate([sample]), torch.device("cpu"), torch.channels_last)
    assert images[0].equal(sample[0])
    assert target["image_id"] == 71
    assert target["labels"].tolist() == [2]


def test_images_of_a_batch_are_laid_out_as_asked() -> None:
    task = Classification(config.small(num_classes=4))
    batch = task.collate([(torch.rand(3, 4, 4), 1), (tv_tensors.Image(torch.rand(3, 4, 4)), 2)])
    for layout in (torch.channels_last, torch.contiguous_format):
        images, labels = task.move(batch, torch.device("cpu"), layout)
        assert type(images) is Tensor
        assert images.is_contiguous(memory_format=layout)
        assert labels.tolist() == [1, 2]
