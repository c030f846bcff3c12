"""Data sets by the name that a recipe has for them: what they give, what they are known to hold, what is refused."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from datafiles import OLD_ARRAYS, SmallCIFAR10, cut, is_image, picture, thing
from torchvision import tv_tensors

from mnv3lib.data import BrokenFilesWarning, DigitScenes, catalogue, open_dataset
from mnv3lib.data.catalogue import CATALOGUE, known
from mnv3lib.data.cifar import Cifar10
from mnv3lib.data.coco import Coco
from mnv3lib.data.datasets import OPENERS, check_classes
from mnv3lib.data.folder import Folder
from mnv3lib.data.scene_config import LABELS, SceneOptions
from mnv3lib.data.voc import Voc
from mnv3lib.recipe import Data, load, overridden
from mnv3lib.training import train

pytestmark = pytest.mark.usefixtures("own_cache")


@OLD_ARRAYS
def test_a_recipe_opens_each_of_them(
    animals: Path, voc: Path, coco: Path, cifar: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Cifar10, "reader", SmallCIFAR10)
    both = ("train", "val")
    opened = {
        ("folder", "classification"): [open_dataset(Data(name="folder", root=str(animals)), split) for split in both],
        ("imagenet", "classification"): [
            open_dataset(Data(name="imagenet", root=str(animals)), split) for split in both
        ],
        ("cifar10", "classification"): [
            open_dataset(Data(name="cifar10", root=str(cifar), options={"validation": 4}), split) for split in both
        ],
    }
    for task in ("segmentation", "detection"):
        for name, root in (("voc", voc), ("coco", coco)):
            opened[name, task] = [open_dataset(Data(name=name, root=str(root)), split, task) for split in both]
    for task in ("classification", "segmentation", "detection"):
        data = Data(
            options={"size": 5, "eval_images": 3, "difficulty": 0.5, "cache": False}, train_size=32, eval_size=40
        )
        opened["digitscenes", task] = [open_dataset(data, split, task) for split in both]
        assert [len(dataset) for dataset in opened["digitscenes", task]] == [5, 3]
        assert [dataset[0][0].shape[-1] for dataset in opened["digitscenes", task]] == [32, 40]
    for (name, task), (training, val) in opened.items():
        assert training.classes == val.classes, name
        assert training.num_classes == len(training.classes)
        assert training.broken == []
        for image, target in [*training, *val]:
            is_image(image, *image.shape[-2:])
            size = tuple(image.shape[-2:])
            if task == "classification":
                assert type(target) is int
                assert 0 <= target < training.num_classes
            elif task == "segmentation":
                assert isinstance(target, tv_tensors.Mask)
                assert (target.dtype, tuple(target.shape)) == (torch.uint8, size)
                assert ((target < training.num_classes) | (target == 255)).all()
            else:
                assert list(target)[:3] == ["boxes", "labels", "image_id"]
                assert set(target) <= {"boxes", "labels", "image_id", "iscrowd", "area"}
                assert isinstance(target["boxes"], tv_tensors.BoundingBoxes)
                assert (target["boxes"].dtype, target["labels"].dtype) == (torch.float32, torch.int64)
                assert (target["boxes"].format.name, target["boxes"].canvas_size) == ("XYXY", size)
                assert ((target["labels"] > 0) & (target["labels"] < training.num_classes)).all()
                assert type(target["image_id"]) is int
    both_cropped = open_dataset(Data(options={"cache": False}, eval_size=40, eval_resize=48), "test")
    assert isinstance(both_cropped, DigitScenes)
    assert both_cropped.config.resolution == 48
    doubled = open_dataset(Data(name="folder", root=str(animals)), transform=lambda image, label: (image, 2 * label))
    assert [label for _, label in doubled] == [0, 2, 2, 2, 4, 4]


def test_a_recipe_says_what_it_skips(animals: Path) -> None:
    cut(Path(Folder(animals).paths[0]))
    with pytest.warns(
        BrokenFilesWarning, match=r"train: left out what is broken \(1\), kept 5 image\(s\): .*ant/0.jpg: "
    ) as warned:
        assert len(open_dataset(Data(name="folder", root=str(animals), skip_broken=True))) == 5
    assert len(warned) == 1


@pytest.mark.parametrize(
    ("data", "arguments", "error", "message"),
    [
        (Data(name="folder"), (), ValueError, "recipe.data.root must name the folder of 'folder', got None"),
        (Data(root="x"), (), ValueError, "recipe.data.root must be None for DigitScenes, .* got 'x'"),
        (Data(), ("dev",), ValueError, "split must be one of 'train', 'val', 'test', got 'dev'"),
        (
            Data(name="cifar10", root="x"),
            ("train", "detection"),
            ValueError,
            "task must be one of 'classification' for 'cifar10', got 'detection'",
        ),
        (
            Data(options={"colour": 1}),
            (),
            TypeError,
            "recipe.data.options has no 'colour' for 'digitscenes', only 'size', 'eval_images'",
        ),
        (
            Data(name="voc", root="x", options={"size": 1}),
            ("train", "detection"),
            TypeError,
            "recipe.data.options has no 'size' for 'voc', only 'year'",
        ),
        *(
            (Data(**{**sizes, "options": {"cache": False, **options}}), (split,), error, f"^recipe.data.{said}")
            for sizes, options, split, error, said in (
                (
                    {},
                    {"size": 1},
                    "train",
                    ValueError,
                    "options.size must be an integer >= 2 for training, got 1: batch",
                ),
                ({}, {"size": 1}, "val", ValueError, "options.size must be an integer >= 2 for training, got 1"),
                ({}, {"size": 0}, "train", ValueError, "options.size must be an integer >= 1, got 0"),
                ({}, {"size": "9"}, "train", TypeError, "options.size must be an integer >= 1, got '9'"),
                ({}, {"eval_images": 0}, "val", ValueError, "options.eval_images must be an integer >= 1, got 0"),
                ({}, {"eval_images": 0}, "train", ValueError, "options.eval_images must be an integer >= 1, got 0"),
                (
                    {},
                    {"labels": "red"},
                    "train",
                    ValueError,
                    "options.labels must be one of 'digit', 'parity', 'colour'",
                ),
                ({}, {"difficulty": 2}, "train", ValueError, "options.difficulty must be a number from 0 to 1, got 2"),
                ({}, {"digits": [1, 2]}, "train", ValueError, r"options.digits must be \(1, 1\) for classification"),
                ({}, {"seed": -1}, "train", ValueError, "options.seed must be an integer from 0 to"),
                ({}, {"resolution": 9}, "train", ValueError, "options.resolution must be an integer from 16 to 4096"),
                ({"train_size": 8}, {}, "train", ValueError, "train_size must be an integer from 16 to 4096, got 8"),
                (
                    {"train_size": 10**6},
                    {},
                    "train",
                    ValueError,
                    "train_size must be an integer from 1 to 16384, got 10",
                ),
                (
                    {"train_size": 10**4},
                    {},
                    "train",
                    ValueError,
                    "train_size must be an integer from 16 to 4096, got 10",
                ),
                ({"eval_size": 8}, {}, "val", ValueError, "eval_size must be an integer from 16 to 4096, got 8"),
                (
                    {"eval_resize": 5000},
                    {},
                    "val",
                    ValueError,
                    "eval_resize must be an integer from 16 to 4096, got 5000",
                ),
                (
                    {"eval_resize": 10**6},
                    {},
                    "train",
                    ValueError,
                    "eval_resize must be an integer from 1 to 16384, got",
                ),
            )
        ),
        (
            Data(name="folder", root="x", train_size=10**6),
            (),
            ValueError,
            "recipe.data.train_size must be an integer from 1",
        ),
        (
            Data(name="cifar10", root="x", options={"validation": 50_000}),
            (),
            ValueError,
            "recipe.data.options.validation must leave some of 50000 training images, got 50000",
        ),
        (
            Data(name="voc", root="x", options={"classes": "helmet"}),
            ("train", "detection"),
            TypeError,
            "recipe.data.options.classes must be a list of names, got 'helmet'",
        ),
        (
            Data(name="coco", root="x", options={"keep_empty": 1}),
            ("val", "detection"),
            TypeError,
            "recipe.data.options.keep_empty must be True or False, got 1",
        ),
    ],
)
def test_recipes_that_make_no_sense_are_refused(
    data: Data, arguments: tuple[str, ...], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        open_dataset(data, *arguments)


@pytest.mark.parametrize(
    ("evaluated", "fault"),
    [
        ({1: "cat", 3: "dog"}, None),
        ({1: "cat"}, None),
        ({3: "dog"}, None),
        ({1: "dog", 3: "cat"}, "label 1 is 'dog' in evaluation and 'cat' in training"),
        ({1: "cat", 2: "fox"}, "label 2 is 'fox' in evaluation and 'N/A' in training"),
        ({1: "cat", 4: "fox"}, "label 4 is 'fox' in evaluation and no class in training"),
    ],
)
def test_labels_mean_the_same_in_training_and_in_evaluation(
    tmp_path: Path, evaluated: dict[int, str], fault: str | None
) -> None:
    for split, names in (("train", {1: "cat", 3: "dog"}), ("val", evaluated)):
        picture(tmp_path / f"{split}2017" / "0.jpg")
        image = {"id": 0, "file_name": "0.jpg", "height": 20, "width": 30}
        objects = [thing(i, 0, number, [2, 2, 9, 9]) for i, number in enumerate(names)]
        categories = [{"id": number, "name": name} for number, name in names.items()]
        listing = tmp_path / "annotations" / f"instances_{split}2017.json"
        listing.parent.mkdir(exist_ok=True)
        listing.write_text(json.dumps({"images": [image], "annotations": objects, "categories": categories}))
    sets = Coco(tmp_path, "train"), Coco(tmp_path, "val")
    if fault is None:
        check_classes(*sets)
        return
    with pytest.raises(ValueError, match=f"{fault}: both need the same classes"):
        check_classes(*sets)
    recipe = overridden(load("torchvision-ssdlite"), [f"data.root={tmp_path}"])
    with pytest.raises(ValueError, match=fault):
        train(recipe)


# What is known without reading


def test_every_data_set_of_a_recipe_is_in_the_catalogue_and_can_be_opened() -> None:
    assert list(CATALOGUE) == list(OPENERS)
    for name in CATALOGUE:
        assert Data(name=name).name == name
    with pytest.raises(ValueError, match=re.escape(", ".join(map(repr, CATALOGUE)))):
        Data(name="mnist")


@pytest.mark.parametrize(
    ("name", "made", "others"),
    [
        (
            "digitscenes",
            DigitScenes,
            {"split", "task", "transform", "scene", *SceneOptions.__annotations__, "eval_images"},
        ),
        ("folder", Folder, {"root", "split"}),
        ("imagenet", Folder, {"root", "split"}),
        ("cifar10", Cifar10, {"root", "split", "transform", "skip_broken"}),
        ("voc", Voc, {"root", "split", "task", "evaluation"}),
        ("coco", Coco, {"root", "split", "task", "evaluation"}),
    ],
)
def test_options_are_those_of_what_is_opened(name: str, made: Any, others: set[str]) -> None:
    parameters = set(inspect.signature(made).parameters)
    if "options" in parameters:
        parameters |= {"cache", "upright"}
    assert set(CATALOGUE[name].options) - others == parameters - others - {"options"}


@OLD_ARRAYS
def test_sizes_are_known_as_they_are_found(cifar: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The 30 and 6 images of the test's CIFAR-10 stand for the 50,000 and 10,000."""
    monkeypatch.setattr(Cifar10, "reader", SmallCIFAR10)
    monkeypatch.setattr(catalogue, "_CIFAR_IMAGES", {"train": 30, "test": 6})
    for validation in (4, 20):
        data = Data(name="cifar10", root=str(cifar), options={"validation": validation})
        for split in ("train", "val", "test"):
            opened = open_dataset(data, split)
            assert known(data, split) == (len(opened), opened.num_classes)
    for task in ("classification", "segmentation", "detection"):
        for labels in LABELS:
            for options in ({}, {"size": 7, "eval_images": 3}):
                data = Data(options={"labels": labels, **options, "cache": False})
                for split in ("train", "val", "test"):
                    opened = open_dataset(data, split, task)
                    assert known(data, split, task) == (len(opened), opened.num_classes)


@pytest.mark.parametrize(
    ("name", "options", "split", "task", "expected"),
    [
        ("folder", {}, "train", "classification", (None, None)),
        ("imagenet", {}, "train", "classification", (1_281_167, 1000)),
        ("imagenet", {}, "val", "classification", (50_000, 1000)),
        ("imagenet", {}, "test", "classification", (None, 1000)),
        ("cifar10", {}, "train", "classification", (45_000, 10)),
        ("cifar10", {}, "val", "classification", (5_000, 10)),
        ("cifar10", {}, "test", "classification", (10_000, 10)),
        ("cifar10", {"validation": 0}, "train", "classification", (50_000, 10)),
        ("digitscenes", {"labels": "colour"}, "train", "classification", (10_000, 6)),
        ("digitscenes", {"labels": "parity"}, "val", "detection", (2_000, 3)),
        ("voc", {}, "train", "segmentation", (1_464, 21)),
        ("voc", {}, "val", "segmentation", (1_449, 21)),
        ("voc", {}, "train", "detection", (5_717, 21)),
        ("voc", {"year": 2007}, "train", "segmentation", (209, 21)),
        ("voc", {"year": 2007}, "val", "segmentation", (213, 21)),
        ("voc", {"year": "2007"}, "test", "segmentation", (210, 21)),
        ("voc", {"year": "2007"}, "train", "detection", (2_501, 21)),
        ("voc", {"year": "2007"}, "val", "detection", (2_510, 21)),
        ("voc", {"year": "2007"}, "test", "detection", (4_952, 21)),
        ("voc", {"year": "2010"}, "train", "detection", (None, 21)),
        ("voc", {"image_set": "trainval"}, "train", "segmentation", (2_913, 21)),
        ("voc", {"image_set": "trainval"}, "train", "detection", (11_540, 21)),
        ("voc", {"image_set": "mine"}, "train", "segmentation", (None, 21)),
        ("voc", {"classes": ["head", "helmet"]}, "train", "detection", (None, 3)),
        ("coco", {}, "train", "detection", (117_266, 91)),
        ("coco", {}, "val", "detection", (5_000, 91)),
        ("coco", {"keep_empty": True}, "train", "detection", (118_287, 91)),
        ("coco", {"keep_empty": False}, "val", "detection", (None, 91)),
        ("coco", {}, "train", "segmentation", (None, 21)),
        ("coco", {"year": 2014}, "val", "segmentation", (40_504, 21)),
        ("coco", {"year": 2014}, "train", "detection", (None, 91)),
        ("coco", {"year": ""}, "train", "detection", (None, None)),
    ],
)
def test_sizes_are_known_as_they_were_published(
    name: str, options: dict[str, Any], split: str, task: str, expected: tuple[int | None, int | None]
) -> None:
    assert known(Data(name=name, options=options), split, task) == expected


def test_published_lists_of_voc_add_up() -> None:
    for counts in catalogue._VOC_IMAGES.values():
        assert counts["train"] + counts["val"] == counts["trainval"]


def test_the_catalogue_loads_without_torch() -> None:
    heavy = "{'torch', 'PIL', 'pycocotools'}"
    code = f"import sys, mnv3lib.data.catalogue, mnv3lib.data.listing; assert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
