"""Training and evaluation of the dense tasks on images and targets with hardly anything in them, or far too much."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from reference import batch
from torch import Tensor, nn
from torchvision import tv_tensors

from mnv3lib.tasks import IGNORE_INDEX, Detection, Segmentation, Task

CPU = torch.device("cpu")
TINY = {"width_mult": 0.25}
SEGMENTATION = [("lraspp_mobilenet_v3_small", {}), ("lraspp_mobilenet_v3_small", {"form": "paper"}),
                ("deeplabv3_mobilenet_v3_small", {"aux_loss": True})]  # fmt: skip
DETECTION = [("ssdlite320_mobilenet_v3_small", {"size": 64}),
             ("fasterrcnn_mobilenet_v3_small_fpn", {"min_size": 32, "max_size": 64, "proposals": 50})]  # fmt: skip


def learns(task: Task, model: nn.Module, samples: list[tuple[Any, Any]]) -> float:
    """A loss of the samples; its gradients are finite."""
    images, targets = task.move(task.collate(samples), CPU, torch.channels_last)
    loss = task.loss(model.train(), images, targets)
    loss.backward()  # type: ignore[no-untyped-call]
    grads = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    assert grads
    assert all(grad.isfinite().all() for grad in grads)
    return loss.item()


def measured(task: Task, model: nn.Module, samples: list[tuple[Any, Any]]) -> dict[str, float]:
    """The measures of the samples, each in a batch of its own."""
    metric = task.metric()
    with torch.no_grad():
        for sample in samples:
            images, targets = task.move(task.collate([sample]), CPU, torch.channels_last)
            metric.update(model.eval()(images), targets)
    return metric.compute()


# --- masks ------------------------------------------------------------------------------------------------------------


def masked(height: int, width: int, value: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    mask = torch.full((height, width), value, dtype=torch.int64)
    return tv_tensors.Image(batch(3, height, width, seed=seed)), tv_tensors.Mask(mask)


@pytest.mark.parametrize(("name", "options"), SEGMENTATION, ids=lambda one: str(one))
@pytest.mark.parametrize("sides", [((1, 1), (1, 1)), ((1, 40), (33, 2)), ((31, 47), (64, 20))])
def test_any_sizes_of_images_are_segmented(name: str, options: dict[str, Any], sides: Any) -> None:
    """One pixel, one line, odd and different ones; those that are filled up count nowhere."""
    torch.manual_seed(0)
    task = Segmentation(3, name, {**TINY, **options})
    model, samples = task.build_model(), [masked(*side, index + 1) for index, side in enumerate(sides)]
    assert learns(task, model, samples) > 0
    found = measured(task, model, samples)
    assert 0 <= found["miou"] <= 1
    assert found["loss"] > 0


def test_masks_without_anything_in_them() -> None:
    """All background is learnt; where nobody said what there is, nothing is, and it does not spoil the others."""
    torch.manual_seed(0)
    task = Segmentation(3, "lraspp_mobilenet_v3_small", TINY)
    model, background, nothing = task.build_model(), masked(32, 32, 0), masked(32, 32, IGNORE_INDEX, seed=1)
    assert learns(task, model, [background, background]) > 0
    assert learns(task, model, [nothing, nothing]) == 0
    both = measured(task, model, [background, nothing])
    assert both["miou"] == measured(task, model, [background])["miou"]
    assert math.isnan(measured(task, model, [nothing])["miou"])


@pytest.mark.parametrize("value", [3, 254, -1, 256])
def test_classes_that_there_are_not_are_refused_in_masks(value: int) -> None:
    task, image = Segmentation(3, "lraspp_mobilenet_v3_small", TINY), masked(8, 9, 2)
    strange = masked(8, 9, 2)
    strange[1][4, 5] = value
    with pytest.raises(ValueError, match=rf"masks must hold classes from 0 to 2, and 255 for none, got {value}$"):
        task.collate([image, strange])
    strange[1][4, 5] = IGNORE_INDEX
    assert task.collate([image, strange])[1].max() == IGNORE_INDEX


def test_255_is_no_class_of_256() -> None:
    """A network may have as many classes as a mask has values but one."""
    task = Segmentation(255, "lraspp_mobilenet_v3_small", TINY)
    assert task.collate([masked(4, 4, 254)])[1].max() == 254


# --- boxes ------------------------------------------------------------------------------------------------------------


def boxed(height: int, width: int, boxes: Tensor, label: int = 1, seed: int = 0) -> tuple[Tensor, dict[str, Any]]:
    return tv_tensors.Image(batch(3, height, width, seed=seed)), {
        "boxes": tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=(height, width)),  # type: ignore[call-overload]
        "labels": torch.full((len(boxes),), label),
        "image_id": seed,
    }


def many(number: int, height: int, width: int) -> Tensor:
    """Boxes with an area anywhere in an image."""
    generator = torch.Generator().manual_seed(number)
    corners = torch.rand(number, 2, generator=generator) * 0.8
    sizes = 0.05 + torch.rand(number, 2, generator=generator) * 0.15
    return torch.cat([corners, corners + sizes], dim=1) * torch.tensor([width, height] * 2)


NO_BOX = torch.zeros(0, 4)


@pytest.mark.parametrize(("name", "options"), DETECTION, ids=lambda one: str(one))
def test_any_number_of_boxes(name: str, options: dict[str, Any]) -> None:
    """An image without any beside one with a thousand, and batches of nothing but the first kind."""
    torch.manual_seed(0)
    task = Detection(3, name, {**TINY, **options})
    model = task.build_model()
    none, thousand = boxed(40, 56, NO_BOX), boxed(40, 56, many(1000, 40, 56), seed=1)
    assert learns(task, model, [none, thousand]) > 0
    # SSD learns from three times as many cells without an object as there are with one; a proposal, from any.
    assert (learns(task, model, [none, none]) > 0) == name.startswith("fasterrcnn")
    found = measured(task, model, [none, thousand])
    assert 0 <= found["ap"] <= 1
    assert measured(task, model, [none, boxed(40, 56, NO_BOX, seed=2)]) == {"ap": 0, "ap50": 0, "ap75": 0}


@pytest.mark.parametrize(("name", "options"), DETECTION, ids=lambda one: str(one))
@pytest.mark.parametrize("sides", [((1, 1), (1, 1)), ((1, 2), (33, 2)), ((31, 47), (64, 20))])
def test_any_sizes_of_images_with_boxes(name: str, options: dict[str, Any], sides: Any) -> None:
    torch.manual_seed(0)
    task = Detection(3, name, {**TINY, **options})
    samples = [boxed(*side, torch.tensor([[0.0, 0, side[1], side[0]]]), seed=seed) for seed, side in enumerate(sides)]
    model = task.build_model()
    assert learns(task, model, samples) > 0
    assert 0 <= measured(task, model, samples)["ap"] <= 1


def test_an_image_too_long_to_be_brought_to_a_size_is_named() -> None:
    task = Detection(3, *DETECTION[1])
    model = task.build_model()
    with pytest.raises(ValueError, match=r"images\[1\] must have sides of a ratio of at most 64, .* got 1×200"):
        model.eval()([batch(3, 20, 30), batch(3, 1, 200)])


@pytest.mark.parametrize(("name", "options"), DETECTION, ids=lambda one: str(one))
@pytest.mark.parametrize("label", [0, 3, -1])
def test_classes_that_there_are_not_are_refused_in_boxes(name: str, options: dict[str, Any], label: int) -> None:
    """In a task, for training and evaluation alike; and by a network that is trained without one."""
    task = Detection(3, name, {**TINY, **options})
    good, wrong = boxed(20, 20, many(1, 20, 20)), boxed(20, 20, many(2, 20, 20), label)
    words = rf"labels of targets\[1\] must be integers from 1 to 2, got {label}$"
    with pytest.raises(ValueError, match=words):
        task.collate([good, wrong])
    with pytest.raises(ValueError, match=words):
        task.build_model().train()([good[0], wrong[0]], [good[1], wrong[1]])


@pytest.mark.parametrize(("name", "options"), DETECTION, ids=lambda one: str(one))
def test_boxes_without_an_area_are_refused(name: str, options: dict[str, Any]) -> None:
    task = Detection(3, name, {**TINY, **options})
    flat = boxed(20, 20, torch.tensor([[3.0, 5, 3, 9]]))
    images, targets = task.collate([flat, flat])
    with pytest.raises((AssertionError, ValueError), match="All bounding boxes should have positive height and width"):
        task.loss(task.build_model().train(), images, targets)
