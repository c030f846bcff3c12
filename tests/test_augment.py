"""Transforms: evaluation is torchvision's to the bit, and masks and boxes go where their image goes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from ledger import Deviation, worst
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors
from torchvision.models import MobileNet_V3_Large_Weights
from torchvision.models.segmentation import LRASPP_MobileNet_V3_Large_Weights
from torchvision.transforms import v2

from mnv3lib.recipe import Augment, Data, Recipe, Task, load, names
from mnv3lib.tasks import IGNORE_INDEX
from mnv3lib.training import augment as room
from mnv3lib.training.augment import batch_transform, eval_transform, train_transform

MEAN, STD = torch.tensor([0.485, 0.456, 0.406])[:, None, None], torch.tensor([0.229, 0.224, 0.225])[:, None, None]
SAME: dict[str, Any] = {"mean": (0, 0, 0), "std": (1, 1, 1)}


def picture(height: int = 90, width: int = 120) -> Image.Image:
    """A smooth coloured picture, with some noise."""
    y, x = np.mgrid[:height, :width]
    noise = np.random.default_rng(0).integers(-20, 20, (height, width, 3))
    values = np.stack([255 * y / height, 255 * x / width, 127 + 127 * np.sin(x / 9)], axis=-1) + noise
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))


def forms() -> dict[str, Any]:
    """The same picture in every form an image may come in."""
    tensor = v2.functional.pil_to_tensor(picture())
    return {"pil": picture(), "tensor": tensor, "image": tv_tensors.Image(tensor)}


PRESETS = [
    ("torchvision-v1", MobileNet_V3_Large_Weights.IMAGENET1K_V1),
    ("torchvision-v2-style", MobileNet_V3_Large_Weights.IMAGENET1K_V2),
    ("torchvision-lraspp", LRASPP_MobileNet_V3_Large_Weights.COCO_WITH_VOC_LABELS_V1),
]


def evaluated(name: str, image: Any) -> Tensor:
    recipe = load(name)
    transform = eval_transform(recipe.augment, recipe.data, recipe.task)
    target = tv_tensors.Mask(torch.zeros(90, 120, dtype=torch.uint8)) if recipe.task == "segmentation" else 7
    found, same = transform(image, target)
    assert recipe.task == "segmentation" or same == 7
    return found.as_subclass(Tensor)


@pytest.mark.proves(
    "Evaluation's preprocessing of Pillow images",
    against="the transforms of torchvision's ImageNet weights (V1, V2) and of its segmentation weights",
    tolerance=1e-6,
    unit="absolute",
)
@pytest.mark.parametrize(("name", "weights"), PRESETS)
def test_evaluation_is_torchvisions(name: str, weights: Any, deviation: Deviation) -> None:
    deviation(worst(evaluated(name, picture()), weights.transforms()(picture())))


@pytest.mark.parametrize("form", ["tensor", "image"])
@pytest.mark.parametrize(("name", "weights"), PRESETS)
def test_of_tensors_too_but_for_a_rounding(name: str, weights: Any, form: str) -> None:
    """Version 2 of the transforms resizes bytes as bytes: a value may be one level of 255 off."""
    image = forms()[form]
    levels = (evaluated(name, image) - weights.transforms()(image)).abs() * STD * 255
    assert levels.max() < 1.001


def test_training_sizes_and_ranges_of_the_recipes() -> None:
    for name in names():
        recipe = load(name)
        torch.manual_seed(0)
        for _ in range(5):
            image, target = sample(recipe.task, 900, 1200)
            image, _ = train_transform(recipe.augment, recipe.data, recipe.task)(image, target)
            assert image.dtype == torch.float32
            if recipe.task == "detection":
                assert 0 <= image.min() <= image.max() <= 1
            else:
                assert image.shape == (3, recipe.data.train_size, recipe.data.train_size)
                assert image.abs().max() < 3
                assert image.unique().numel() > 1


def sample(task: Task, height: int = 96, width: int = 128) -> tuple[Any, Any]:
    """A white rectangle on black, and where it is."""
    top, left, bottom, right = height // 4, width // 8, 3 * height // 4, width // 2
    image = torch.zeros(3, height, width, dtype=torch.uint8)
    image[:, top:bottom, left:right] = 255
    mask = tv_tensors.Mask((image[0] > 0).to(torch.uint8))
    boxes = tv_tensors.BoundingBoxes(
        torch.tensor([[left, top, right, bottom]], dtype=torch.float32), format="XYXY", canvas_size=(height, width)
    )  # type: ignore[call-overload]
    target: dict[Task, Any] = {
        "classification": 3,
        "segmentation": mask,
        "detection": {"boxes": boxes, "labels": torch.tensor([5]), "image_id": 9},
    }
    return tv_tensors.Image(image), target[task]


@pytest.mark.parametrize("as_pil", [False, True])
@pytest.mark.parametrize(
    "augment",
    [
        Augment(flip=1, **SAME),
        Augment(flip=0.5, scale_range=(0.5, 2), **SAME),
        Augment(flip=0.5, crop_scale=(0.2, 1), **SAME),
    ],
)
def test_masks_go_where_their_image_goes(augment: Augment, as_pil: bool) -> None:
    transform = train_transform(augment, Data(train_size=64, eval_size=64), "segmentation")
    torch.manual_seed(0)
    seen = set()
    for _ in range(20):
        image, mask = sample("segmentation")
        image, mask = transform(v2.functional.to_pil_image(image) if as_pil else image, mask)
        assert (image.shape, mask.shape, mask.dtype) == ((3, 64, 64), (64, 64), torch.int64)
        white, inside = image[0] > 0.5, mask == 1
        assert set(mask.unique().tolist()) <= {0, 1, IGNORE_INDEX}
        # Images are resized smoothly and masks are not: an edge may be a pixel off.
        edges = torch.nn.functional.max_pool2d(white[None].float(), 3, 1, 1) - (
            1 - torch.nn.functional.max_pool2d(1 - white[None].float(), 3, 1, 1)
        )
        assert not ((white != inside) & (edges[0] == 0)).any()
        seen.add(int(inside.sum()))
    assert len(seen) > (1 if augment.flip != 1 else 0)


def test_outside_of_a_small_image_nothing_is_labelled() -> None:
    transform = train_transform(
        Augment(scale_range=(0.5, 0.5), **SAME), Data(train_size=64, eval_size=64), "segmentation"
    )
    image, mask = transform(tv_tensors.Image(torch.full((3, 40, 40), 255, dtype=torch.uint8)),
                            tv_tensors.Mask(torch.ones(40, 40, dtype=torch.uint8)))  # fmt: skip
    assert (mask == 1).sum() == 32 * 32
    assert torch.equal(mask == IGNORE_INDEX, image[0] == 0)


def test_the_shorter_side_is_drawn_from_the_whole_range() -> None:
    data = Data(train_size=1, eval_size=10)
    resize = train_transform(Augment(scale_range=(0.5, 2)), data, "segmentation").transforms[0]
    torch.manual_seed(0)
    sides = {tuple(resize(torch.zeros(3, 8, 8, dtype=torch.uint8)).shape[-2:]) for _ in range(400)}
    assert sides == {(side, side) for side in range(5, 21)}


@pytest.mark.parametrize("augment", [Augment(flip=1), Augment(iou_crop=True, flip=0.5)])
@pytest.mark.parametrize("as_pil", [False, True])
def test_boxes_go_where_their_image_goes(augment: Augment, as_pil: bool) -> None:
    transform = train_transform(augment, Data(), "detection")
    torch.manual_seed(0)
    sizes = set()
    for _ in range(30):
        image, target = sample("detection")
        image, target = transform(v2.functional.to_pil_image(image) if as_pil else image, target)
        height, width = image.shape[-2:]
        sizes.add((height, width))
        assert target["image_id"] == 9
        assert len(target["boxes"]) == len(target["labels"]) <= 1
        assert isinstance(target["boxes"], tv_tensors.BoundingBoxes)
        if len(target["boxes"]):
            y, x = torch.where(image[0] > 0.5)
            seen = torch.stack([x.min(), y.min(), x.max() + 1, y.max() + 1]).float()
            assert torch.allclose(target["boxes"][0].as_subclass(Tensor), seen, atol=1)
            assert target["labels"].tolist() == [5]
    assert (len(sizes) > 5) == augment.iou_crop


def test_a_box_that_a_crop_emptied_goes_with_its_label() -> None:
    """Of many small objects a crop keeps some; every one that is kept still has its own label and area."""
    corners = torch.tensor([[x, y, x + 8, y + 8] for x in range(0, 120, 12) for y in range(0, 90, 12)]).float()
    labels = torch.arange(len(corners))
    image = torch.zeros(3, 96, 128, dtype=torch.uint8)
    for label, (left, top, right, bottom) in zip(labels.tolist(), corners.int().tolist(), strict=True):
        image[:, top:bottom, left:right] = label + 100
    boxes = tv_tensors.BoundingBoxes(corners, format="XYXY", canvas_size=(96, 128))  # type: ignore[call-overload]
    transform = train_transform(Augment(iou_crop=True), Data(), "detection")
    torch.manual_seed(1)
    kept = []
    for _ in range(20):
        area = torch.full((len(labels),), 64.0)
        out, target = transform(tv_tensors.Image(image), {"boxes": boxes, "labels": labels, "area": area})
        kept.append(len(target["labels"]))
        assert len(target["boxes"]) == len(target["labels"]) == len(target["area"])
        for (left, top, right, bottom), label in zip(target["boxes"].tolist(), target["labels"].tolist(), strict=True):
            inside = out[0, int(top) : int(bottom), int(left) : int(right)]
            assert torch.equal((255 * inside).round(), torch.full_like(inside, label + 100))
    assert min(kept) < len(labels)
    assert max(kept) > 0


def test_detection_is_neither_resized_nor_normalised() -> None:
    image, target = sample("detection")
    for transform in (train_transform, eval_transform):
        found, same = transform(Augment(), Data(train_size=8, eval_size=8), "detection")(image, target)
        assert torch.equal(found.as_subclass(Tensor), image.as_subclass(Tensor) / 255)
        assert torch.equal(same["boxes"], target["boxes"])


def steps(augment: Augment, task: Task = "classification") -> list[str]:
    return [type(step).__name__ for step in train_transform(augment, Data(), task).transforms]


def test_the_order_is_torchvisions() -> None:
    recipe = load("torchvision-v1")
    transform = train_transform(recipe.augment, recipe.data, recipe.task)
    assert [type(step).__name__ for step in transform.transforms] == [
        "RandomResizedCrop", "RandomHorizontalFlip", "AutoAugment", "ToImage", "ToDtype", "Normalize", "ToPureTensor",
        "RandomErasing",
    ]  # fmt: skip
    crop, flip, policy, *_, erase = transform.transforms
    assert (crop.size, crop.scale) == ((224, 224), (0.08, 1.0))
    assert (flip.p, erase.p) == (0.5, 0.2)
    assert policy.policy is v2.AutoAugmentPolicy.IMAGENET
    assert policy.interpolation is v2.InterpolationMode.BILINEAR


@pytest.mark.parametrize(
    ("augment", "name"),
    [
        (Augment(), "Resize"),
        (Augment(policy="autoaugment"), "AutoAugment"),
        (Augment(policy="randaugment"), "RandAugment"),
        (Augment(policy="trivialaugment"), "TrivialAugmentWide"),
        (Augment(colour=(0.1, 0.2, 0.3, 0.4)), "ColorJitter"),
        (Augment(erase=1), "RandomErasing"),
    ],
)
def test_what_is_asked_for_is_there_and_does_something(augment: Augment, name: str) -> None:
    assert name in steps(augment)
    assert sum(name == step for step in steps(Augment())) == (name == "Resize")
    transform, plain = (
        train_transform(augment, Data(), "classification"),
        train_transform(Augment(), Data(), "classification"),
    )
    torch.manual_seed(0)
    seen = [transform(picture(), 0)[0] for _ in range(8)]
    assert any(not torch.equal(image, plain(picture(), 0)[0]) for image in seen) == (name != "Resize")
    torch.manual_seed(0)
    assert all(torch.equal(image, transform(picture(), 0)[0]) for image in seen), "not of torch's generator alone"


def test_colour_changes_are_the_recipes() -> None:
    jitter = train_transform(load("paper").augment, load("paper").data, "classification").transforms[2]
    assert (jitter.brightness, jitter.saturation) == (pytest.approx((1 - 32 / 255, 1 + 32 / 255), abs=1e-5), (0.5, 1.5))
    assert (jitter.contrast, jitter.hue) == (None, None)


def test_images_of_the_size_are_only_normalised() -> None:
    image = torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8)
    for transform in (train_transform, eval_transform):
        found, _ = transform(Augment(), Data(), "classification")(tv_tensors.Image(image), 1)
        assert type(found) is Tensor
        assert torch.allclose(found, (image / 255 - MEAN) / STD, atol=1e-6)


def test_evaluation_is_not_random() -> None:
    augment = Augment(flip=1, crop_scale=(0.1, 0.2), policy="autoaugment", erase=1)
    state = torch.get_rng_state()
    found, _ = eval_transform(augment, Data(), "classification")(picture(), 0)
    plain, _ = eval_transform(Augment(), Data(), "classification")(picture(), 0)
    assert torch.equal(found, plain)
    assert torch.equal(state, torch.get_rng_state())


def test_batches_are_mixed_as_asked() -> None:
    images, labels = torch.rand(6, 3, 8, 8), torch.arange(6) % 3
    assert batch_transform(Augment(), 3) is None
    kinds = set()
    for augment in (Augment(mixup=0.2), Augment(cutmix=1), Augment(mixup=0.2, cutmix=1)):
        mix = batch_transform(augment, 3)
        assert mix is not None
        torch.manual_seed(0)
        for _ in range(20):
            mixed, targets = mix(images, labels)
            assert (mixed.shape, targets.shape) == (images.shape, (6, 3))
            assert torch.allclose(targets.sum(1), torch.ones(6))
            # CutMix leaves whole pixels as they were, mixup changes them all.
            untouched = (mixed == images).flatten(1).float().mean().item()
            kinds.add((augment.mixup > 0, augment.cutmix > 0, untouched > 0))
            share = targets[range(6), labels]
            if untouched:
                # What was pasted is the part of the target that is the other image's.
                same = (labels == labels.roll(1)).tolist()
                assert all(
                    value >= untouched - 1e-6 for value, twin in zip(share.tolist(), same, strict=True) if not twin
                )
    assert {(True, False, False), (True, True, True), (True, True, False)} <= kinds
    mixup = batch_transform(Augment(mixup=0.2, cutmix=1), 3)
    assert isinstance(mixup, v2.RandomChoice)
    assert mixup.p == [0.5, 0.5]
    with pytest.raises(ValueError, match="num_classes must be an integer >= 1, got 0"):
        batch_transform(Augment(), 0)


@pytest.mark.parametrize("alpha", [0.2, 4.0])
def test_the_parameter_of_mixing_is_the_recipes(alpha: float) -> None:
    """Of Beta(α, α), from which mixup draws an image's share, the mean square distance from 1/2 is 1 / (8α + 4)."""
    mixup, cutmix = batch_transform(Augment(mixup=alpha), 2), batch_transform(Augment(cutmix=alpha), 2)
    assert mixup.alpha == cutmix.alpha == alpha  # type: ignore[union-attr]
    torch.manual_seed(0)
    images, labels = torch.zeros(2, 3, 8, 8), torch.arange(2)
    shares = torch.stack([mixup(images, labels)[1][0, 0] for _ in range(300)])  # type: ignore[misc]
    # Of 300 draws the estimate is within a quarter, and the two α are a factor of 6 apart.
    assert (shares - 0.5).square().mean().item() == pytest.approx(1 / (8 * alpha + 4), rel=0.25)


@pytest.mark.parametrize("task", ["classification", "segmentation", "detection"])
def test_workers_can_have_them(task: Task) -> None:
    """Transforms go to the processes that load images; those are started anew on some systems."""
    import pickle

    recipe = Recipe(name="a", task=task)
    transform = pickle.loads(pickle.dumps(train_transform(recipe.augment, recipe.data, task)))
    transform(*sample(task))
    for name in names():
        pickle.dumps(train_transform(load(name).augment, load(name).data, load(name).task))


def test_what_is_exported_is_there() -> None:
    assert all(hasattr(room, name) for name in room.__all__)
