"""Metrics: by hand, against scikit-learn, and COCO's average precision against COCO's own tool and annotation file."""

from __future__ import annotations

import contextlib
import io
import json
import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ledger import Deviation
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor, nn
from torch.nn import functional

from mnv3lib.data.coco import Coco
from mnv3lib.recipe import Recipe
from mnv3lib.tasks import Detection
from mnv3lib.tasks.metrics import Accuracy, AveragePrecision, IntersectionOverUnion, pixel_losses
from mnv3lib.training.distributed import Processes
from mnv3lib.training.evaluation import evaluate


def test_accuracy_by_hand() -> None:
    metric = Accuracy()
    logits = torch.full((4, 10), -1.0)
    logits[0, 3] = 1  # right
    logits[1, :6] = torch.arange(6.0)  # class 1 is the fifth of them
    logits[2, :6] = torch.arange(6.0)  # class 0 is the sixth
    logits[3, 9] = 2
    targets = torch.tensor([3, 1, 0, 9])
    metric.update(logits[:3], targets[:3])
    metric.update(logits[3:], targets[3:])
    found = metric.compute()
    assert found["top1"] == 2 / 4
    assert found["top5"] == 3 / 4
    assert found["loss"] == pytest.approx(functional.cross_entropy(logits, targets).item())


@pytest.mark.proves(
    "Mean intersection over union, over batches, with pixels that count nowhere and a class that is nowhere",
    against="scikit-learn's jaccard_score",
    tolerance=1e-12,
    unit="absolute",
)
def test_intersection_over_union(deviation: Deviation) -> None:
    from sklearn.metrics import jaccard_score

    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(6, 5, 8, 8, generator=generator)
    logits[:, 4] = -9  # class 4 is neither there nor found
    masks = torch.randint(0, 4, (6, 8, 8), generator=generator)
    masks[torch.rand(6, 8, 8, generator=generator) < 0.2] = 255
    metric = IntersectionOverUnion(5)
    for part in (slice(0, 4), slice(4, 6)):
        metric.update({"out": logits[part]}, masks[part])
    found = metric.compute()
    counted = masks != 255
    right, guess = masks[counted].numpy(), logits.argmax(1)[counted].numpy()
    deviation(abs(found["miou"] - jaccard_score(right, guess, average="macro")))
    deviation(abs(found["pixel_accuracy"] - (right == guess).mean()))


def predictions(*classes: int, known: int = 4) -> Tensor:
    """Logits (1, known, 1, W) by which each pixel of a row is of the class that is given."""
    return functional.one_hot(torch.tensor(classes), known).T[None, :, None, :].float()


@pytest.mark.parametrize(
    ("found", "right", "miou"),
    [
        ((0, 0, 1, 1), (0, 0, 1, 1), 1.0),
        ((0, 0, 0, 1), (0, 0, 1, 1), (2 / 3 + 1 / 2) / 2),  # the background counts like the others
        ((0, 0, 1, 2), (0, 0, 1, 1), (1 + 1 / 2 + 0) / 3),  # what was found and is not there counts, too
        ((0, 0, 0, 0), (0, 0, 0, 3), (3 / 4 + 0) / 2),  # and what is there and was not found
        ((0, 3, 1, 1), (0, 255, 1, 1), 1.0),  # not what was found where nobody knows
    ],
)
def test_a_class_counts_if_it_is_there_or_was_found(
    found: tuple[int, ...], right: tuple[int, ...], miou: float
) -> None:
    metric = IntersectionOverUnion(4)
    metric.update({"out": predictions(*found)}, torch.tensor([[right]]))
    assert metric.compute()["miou"] == pytest.approx(miou)


def test_the_loss_of_segmentation_is_a_mean_over_images() -> None:
    """Of one with four pixels and one with a single one that is labelled, in two batches."""
    metric = IntersectionOverUnion(4)
    even, half = torch.zeros(1, 4, 1, 4), torch.zeros(1, 4, 1, 4)
    half[:, 0] = math.log(3)  # a share of 3 / (3 + 1 + 1 + 1) for class 0
    metric.update({"out": even}, torch.tensor([[[0, 1, 2, 3]]]))
    metric.update({"out": half}, torch.tensor([[[0, 255, 255, 255]]]))
    assert metric.compute()["loss"] == pytest.approx((math.log(4) + math.log(2)) / 2)


def test_no_class_but_255_is_left_out() -> None:
    """With many classes there are some above it, too."""
    losses = pixel_losses(torch.zeros(1, 300, 1, 3), torch.tensor([[[299, 255, 0]]]))
    assert losses.tolist() == pytest.approx([math.log(300)])


def test_average_precision_of_the_right_and_the_wrong() -> None:
    def measure(moved: float, label: int) -> dict[str, float]:
        metric = AveragePrecision()
        box = torch.tensor([[10.0, 10.0, 50.0, 50.0]])
        for _ in range(2):
            target = {"boxes": box, "labels": torch.tensor([1])}
            found = {"boxes": box + moved, "labels": torch.tensor([label]), "scores": torch.tensor([0.9])}
            metric.update([found], [target])
        return metric.compute()

    assert measure(0, 1) == pytest.approx({"ap": 1, "ap50": 1, "ap75": 1, "ap_medium": 1})
    # An IoU of 36² / (2 · 40² − 36²) = 0.68 is above four of the ten thresholds from 0.5 to 0.95.
    assert measure(4, 1) == pytest.approx({"ap": 0.4, "ap50": 1, "ap75": 0, "ap_medium": 0.4})
    assert measure(0, 2) == pytest.approx({"ap": 0, "ap50": 0, "ap75": 0, "ap_medium": 0})
    empty = AveragePrecision()
    nothing = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    empty.update([{**nothing, "scores": torch.zeros(0)}], [nothing])
    assert empty.compute() == {"ap": 0.0, "ap50": 0.0, "ap75": 0.0}


def test_every_image_that_was_looked_at_has_its_boxes() -> None:
    """Targets beyond the outputs, or outputs beyond the targets, would otherwise be left out in silence."""
    target = {"boxes": torch.tensor([[1.0, 1.0, 5.0, 5.0]]), "labels": torch.tensor([1])}
    found = {**target, "scores": torch.tensor([0.5])}
    for outputs, targets in (([found], [target, target]), ([found, found], [target])):
        with pytest.raises(ValueError, match="zip"):
            AveragePrecision().update(outputs, targets)


# -- COCO's rules ------------------------------------------------------------------------------------------------------


def entry(number: int, image: int, category: int, box: list[float], **more: Any) -> dict[str, Any]:
    """An annotation as COCO's files have it."""
    about = {"id": number, "image_id": image, "category_id": category, "bbox": box, "area": box[2] * box[3]}
    return {**about, "iscrowd": 0, "segmentation": [], **more}


def written(root: Path, images: int, annotations: list[dict[str, Any]]) -> Coco:
    """A folder of COCO with images of 160×120 pixels and ids 3, 6, 9 …; its images to evaluate on."""
    (root / "val2017").mkdir(parents=True)
    about = [{"id": 3 * n, "file_name": f"{n}.jpg", "height": 120, "width": 160} for n in range(images, 0, -1)]
    for one in about:
        Image.new("RGB", (160, 120)).save(root / "val2017" / str(one["file_name"]))
    listing = root / "annotations" / "instances_val2017.json"
    listing.parent.mkdir()
    categories = [{"id": number, "name": f"thing {number}"} for number in (1, 2, 5)]
    listing.write_text(json.dumps({"images": about, "annotations": annotations, "categories": categories}))
    return Coco(root, "val")


def cocos_own(root: Path, found: dict[int, dict[str, Tensor]]) -> list[float]:
    """What pycocotools says, given the annotation file and the detections of each image."""
    results = [
        {"image_id": image, "category_id": int(label), "score": float(score),
         "bbox": [float(x), float(y), float(right - x), float(bottom - y)]}
        for image, one in found.items()
        for (x, y, right, bottom), score, label in zip(one["boxes"], one["scores"], one["labels"], strict=True)
    ]  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(root / "annotations" / "instances_val2017.json"))
        evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [float(value) for value in evaluation.stats[:6]]


def detections(boxes: list[list[float]], labels: list[int], scores: list[float]) -> dict[str, Tensor]:
    """Of an image, as torchvision's detectors give them."""
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "labels": torch.tensor(labels, dtype=torch.int64),
        "scores": torch.tensor(scores),
    }


NUMBERS = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")


def test_a_detection_in_a_crowd_counts_neither_way(tmp_path: Path) -> None:
    """And its crowd is not asked for: one true box that is found is all there is."""
    images = written(
        tmp_path, 1, [entry(1, 3, 1, [10, 10, 30, 30]), entry(2, 3, 1, [60, 20, 90, 80], iscrowd=1, segmentation={
            "size": [120, 160], "counts": [120 * 160]})],
    )  # fmt: skip
    found = {3: detections([[70, 30, 90, 50], [10, 10, 40, 40]], [1, 1], [0.9, 0.8])}
    metric = AveragePrecision()
    metric.update([found[3]], [images[0][1]])
    assert metric.compute()["ap"] == pytest.approx(1.0)
    assert cocos_own(tmp_path, found)[0] == pytest.approx(1.0)


class Given(nn.Module):
    """A detector that was told what to find: an image's one value is its place in the list."""

    def __init__(self, found: list[dict[str, Tensor]]) -> None:
        super().__init__()
        self.found = found

    def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        return [self.found[round(float(image.max()))] for image in images]


class Placed:
    """Images of nothing but their place, with the targets of a data set."""

    def __init__(self, images: Coco) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, place: int) -> tuple[Tensor, Any]:
        return torch.full((3, 2, 2), float(place)), self.images[place][1]


def together(world: int, measure: Callable[[Processes], dict[str, float]]) -> dict[str, float]:
    """What the last of several processes computes, which are played one after the other."""
    sent: list[bytes] = []

    class Member(Processes):
        def gather(self, value: Any) -> list[Any]:
            sent.append(pickle.dumps(value))
            return [pickle.loads(one) for one in sent]

    measures = [measure(Member(rank, world)) for rank in range(world)]
    assert len(sent) == world
    return measures[-1]


@pytest.mark.proves(
    "COCO's six average precisions, with crowds, areas of masks, equal scores and 1 to 3 processes",
    against="pycocotools, given the annotation file",
    tolerance=0,
    unit="absolute",
)
@pytest.mark.parametrize("seed", [0, 1])
def test_average_precision_is_cocos(tmp_path: Path, seed: int, deviation: Deviation) -> None:
    """Boxes and jitter are whole numbers: no overlap lies within a rounding of a threshold."""
    draw = np.random.default_rng(seed)
    annotations: list[dict[str, Any]] = []
    found: dict[int, dict[str, Tensor]] = {}
    for image in range(3, 33, 3):
        guesses = []
        for _ in range(int(draw.integers(0, 6))):
            x, y = (int(draw.integers(0, high)) for high in (100, 70))
            width, height = (int(draw.integers(8, 50)) for _ in range(2))
            label, area = int(draw.choice([1, 2, 5])), float(draw.choice([500, 5000, 20000]))
            crowd = draw.random() < 0.25
            mask = {"iscrowd": 1, "segmentation": {"size": [120, 160], "counts": [120 * 160]}} if crowd else {}
            annotations.append(entry(len(annotations) + 1, image, label, [x, y, width, height], area=area, **mask))
            for _ in range(int(draw.integers(0, 3))):
                left, top = x + int(draw.integers(-3, 4)), y + int(draw.integers(-3, 4))
                guesses.append(([left, top, left + width, top + height], label, float(draw.choice([0.25, 0.5, 0.75]))))
        found[image] = detections(*([list(part) for part in zip(*guesses, strict=True)] if guesses else ([], [], [])))
    images = written(tmp_path, 10, annotations)
    assert sum(one["iscrowd"] for one in annotations) > 2
    theirs = cocos_own(tmp_path, found)
    assert len({round(value, 3) for value in theirs}) > 3, "a test of little"
    network, task, recipe = (
        Given([found[number] for number in images.ids]),
        Detection(6, "ssdlite320_mobilenet_v3_large"),
        Recipe(name="a", task="detection", batch_size=3),
    )
    for world in (1, 2, 3):
        ours = together(world, lambda member: evaluate(recipe, network, Placed(images), task=task, processes=member))
        for name, value in zip(NUMBERS, theirs, strict=True):
            deviation(abs(ours[name] - value))


def test_sizes_are_those_of_the_annotations(tmp_path: Path) -> None:
    """A box of 40×40 pixels is of medium size; a thing that covers 500 pixels of it is small."""
    images = written(tmp_path, 1, [entry(1, 3, 1, [10, 10, 40, 40], area=500)])
    metric = AveragePrecision()
    metric.update([detections([[10, 10, 50, 50]], [1], [0.9])], [images[0][1]])
    found = metric.compute()
    assert found["ap_small"] == pytest.approx(1.0)
    assert not {"ap_medium", "ap_large"} & set(found), "there is nothing of this size"


def test_metrics_of_parts_add_up() -> None:
    """In any split over processes: the sums are the same."""
    logits, labels = torch.randn(7, 6), torch.arange(7) % 6
    whole = Accuracy()
    whole.update(logits, labels)
    for cut in (1, 4):
        one, other = Accuracy(), Accuracy()
        one.update(logits[:cut], labels[:cut])
        other.update(logits[cut:], labels[cut:])
        one.merge(other)
        assert one.compute() == pytest.approx(whole.compute())
    maps, masks = torch.randn(5, 4, 3, 3), torch.randint(0, 4, (5, 3, 3))
    full, first, second = (IntersectionOverUnion(4) for _ in range(3))
    full.update({"out": maps}, masks)
    first.update({"out": maps[:2]}, masks[:2])
    second.update({"out": maps[2:]}, masks[2:])
    first.merge(second)
    assert first.compute() == pytest.approx(full.compute())
