"""COCO, and listings of one's own in its form."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from datafiles import OLD_ARRAYS, cut, is_image, picture
from ledger import Deviation
from pycocotools import mask as coco_mask
from torchvision import tv_tensors
from torchvision.models.detection import FasterRCNN_MobileNet_V3_Large_FPN_Weights
from torchvision.models.segmentation import LRASPP_MobileNet_V3_Large_Weights

from mnv3lib.data import BrokenFileError, BrokenFilesWarning
from mnv3lib.data.catalogue import VOC_CLASSES
from mnv3lib.data.coco import VOC_CATEGORIES, Coco

pytestmark = pytest.mark.usefixtures("own_cache")


def test_coco_boxes(coco: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train, val = Coco(coco, "train"), Coco(coco, "val")
    assert capsys.readouterr().out == ""
    assert train.ids == [7, 11, 42]  # not what is empty or a pixel wide
    assert val.ids == [7, 8, 9, 11, 42]
    assert train.num_classes == 63
    assert [train.classes[i] for i in (0, 1, 2, 3, 18)] == ["background", "person", "N/A", "car", "dog"]
    image, target = train[2]
    is_image(image, 50, 60)
    boxes = target["boxes"]
    assert isinstance(boxes, tv_tensors.BoundingBoxes)
    assert (boxes.format.name, boxes.canvas_size, boxes.dtype) == ("XYXY", (50, 60), torch.float32)
    assert boxes.tolist() == [[10, 10, 45, 45], [30, 5, 55.5, 35], [0, 0, 20, 20]]  # the crowd is not among them
    assert target["labels"].tolist() == [18, 1, 27]
    assert target["labels"].dtype == torch.int64
    assert target["image_id"] == 42
    assert set(target) == {"boxes", "labels", "image_id"}
    _, clipped = train[0]
    assert clipped["boxes"].tolist() == [[50, 40, 60, 50]]
    assert clipped["labels"].tolist() == [3]  # without that of the box without width
    _, empty = val[1]
    assert tuple(empty["boxes"].shape) == (0, 4)
    assert (empty["image_id"], tuple(empty["labels"].shape)) == (8, (0,))
    assert len(Coco(coco, "train", keep_empty=True)) == 5
    assert len(Coco(coco, "val", keep_empty=False)) == 3
    assert len(val.coco.getAnnIds(42)) == 4  # with the crowd


def test_coco_is_evaluated_with_its_crowds_and_areas(coco: Path) -> None:
    """A crowd's box is no box to learn, and no box to miss: torchvision trains without, pycocotools matches with it."""
    _, target = Coco(coco, "val")[4]
    assert target["boxes"].tolist() == [[10, 10, 45, 45], [30, 5, 55.5, 35], [0, 0, 20, 20], [0, 30, 60, 50]]
    assert target["labels"].tolist() == [18, 1, 27, 1]
    assert (target["iscrowd"].dtype, target["iscrowd"].tolist()) == (torch.bool, [False, False, False, True])
    assert (target["area"].dtype, target["area"].tolist()) == (torch.float32, [35 * 35, 25.5 * 30, 400, 1200])
    _, other = Coco(coco, "val")[0]
    assert (other["labels"].tolist(), other["iscrowd"].tolist(), other["area"].tolist()) == ([3], [False], [900])
    _, empty = Coco(coco, "val")[1]
    assert {name: tuple(empty[name].shape) for name in ("boxes", "labels", "iscrowd", "area")} == {
        "boxes": (0, 4), "labels": (0,), "iscrowd": (0,), "area": (0,)
    }  # fmt: skip
    for dataset, index, keys in (
        (Coco(coco, "train"), 2, {"boxes", "labels", "image_id"}),
        (Coco(coco, "train", evaluation=True), 2, {"boxes", "labels", "image_id", "iscrowd", "area"}),
        (Coco(coco, "val", evaluation=False), 4, {"boxes", "labels", "image_id"}),
    ):
        _, found = dataset[index]
        assert set(found) == keys
        assert len(found["labels"]) == 3 + ("iscrowd" in keys)
    with pytest.raises(TypeError, match="evaluation must be True or False, got 1"):
        Coco(coco, evaluation=1)


@pytest.mark.parametrize(
    ("box", "clipped"),
    [
        ([-5, 3, 20, 9], [0, 3, 15, 12]),
        ([3, -5, 9, 20], [3, 0, 12, 15]),
        ([50, 3, 20, 9], [50, 3, 60, 12]),
        ([3, 40, 9, 20], [3, 40, 12, 50]),
        ([-1, -1, 99, 99], [0, 0, 60, 50]),
    ],
)
def test_boxes_are_clipped_to_the_image_on_every_side(coco: Path, box: list[int], clipped: list[int]) -> None:
    path = coco / "annotations" / "instances_train2017.json"
    content = json.loads(path.read_text())
    content["annotations"][4]["bbox"] = box
    path.write_text(json.dumps(content))
    assert Coco(coco)[0][1]["boxes"].tolist() == [clipped]


def test_boxes_are_clipped_to_an_upright_image_too(coco: Path) -> None:
    path = coco / "annotations" / "instances_train2017.json"
    content = json.loads(path.read_text())
    content["images"][1] |= {"height": 60, "width": 40}
    content["annotations"][4]["bbox"] = [-1, -1, 99, 99]
    path.write_text(json.dumps(content))
    picture(coco / "train2017" / "000000000007.jpg", 60, 40)
    assert Coco(coco)[0][1]["boxes"].tolist() == [[0, 0, 40, 60]]


def test_what_is_told_of_objects_stays_with_them_when_others_are_left_out(coco: Path) -> None:
    path = coco / "annotations" / "instances_val2017.json"
    content = json.loads(path.read_text())
    content["annotations"][4] |= {"bbox": [5, 5, 0, 9], "iscrowd": 1, "area": 7}
    content["annotations"][5] |= {"bbox": [5, 5, 10, 9], "area": 8, "category_id": 1}
    path.write_text(json.dumps(content))
    _, target = Coco(coco, "val")[0]
    assert [target[name].tolist() for name in ("labels", "iscrowd", "area")] == [[1], [False], [8]]


@pytest.mark.parametrize(("area", "kept"), [(1000, []), (1001, [42])])
def test_masks_are_learnt_from_more_than_a_thousand_pixels(coco: Path, area: int, kept: list[int]) -> None:
    path = coco / "annotations" / "instances_train2017.json"
    content = json.loads(path.read_text())
    for place, part in enumerate((area - 300, 200, 5000, 100)):  # the third is no class of VOC
        content["annotations"][place]["area"] = part
    path.write_text(json.dumps(content))
    if kept:
        assert Coco(coco, "train", "segmentation").ids == kept
    else:
        with pytest.raises(FileNotFoundError, match="there is no image in it"):
            Coco(coco, "train", "segmentation")


def reference_mask(objects: list[dict[str, Any]], height: int, width: int) -> Any:
    """Masks as torchvision's reference script makes them, in its own order of steps."""
    masks, classes = [], []
    for entry in objects:
        if entry["category_id"] in VOC_CATEGORIES:
            codes = coco_mask.frPyObjects(entry["segmentation"], height, width)
            decoded = torch.as_tensor(coco_mask.decode(codes))
            masks.append((decoded if decoded.ndim == 3 else decoded[..., None]).any(2))
            classes.append(VOC_CATEGORIES.index(entry["category_id"]))
    if not masks:
        return torch.zeros((height, width), dtype=torch.uint8)
    stack = torch.stack(masks)
    target, _ = (stack * torch.tensor(classes)[:, None, None]).max(0)
    target[stack.sum(0) > 1] = 255
    return target.to(torch.uint8)


@pytest.mark.proves(
    "COCO's objects become Pascal VOC's classes, crowds, overlaps and all",
    against="the steps of torchvision's reference script",
    tolerance=0,
    unit="count",
)
@OLD_ARRAYS
def test_coco_masks(coco: Path, deviation: Deviation) -> None:
    train, val = Coco(coco, "train", "segmentation"), Coco(coco, "val", "segmentation")
    assert train.ids == [42]  # objects of VOC's classes on more than 1,000 pixels
    assert val.ids == [7, 8, 9, 11, 42]
    assert train.classes == VOC_CLASSES
    for index, number in enumerate(val.ids):
        image, mask = val[index]
        is_image(image, 50, 60)
        assert isinstance(mask, tv_tensors.Mask)
        assert (mask.dtype, tuple(mask.shape)) == (torch.uint8, (50, 60))
        objects = val.coco.loadAnns(val.coco.getAnnIds(number))
        deviation(int((mask != reference_mask(objects, 50, 60)).sum()))
    _, mask = train[0]
    assert mask.unique().tolist() == [0, 12, 15, 255]
    assert mask[12, 12] == VOC_CLASSES.index("dog")
    assert mask[8, 40] == mask[48, 2] == VOC_CLASSES.index("person")
    assert mask[20, 35] == 255
    assert mask[2, 2] == 0  # the backpack


def test_coco_and_voc_number_the_same_classes() -> None:
    """By the words that torchvision's checkpoints of the two have."""
    coco = FasterRCNN_MobileNet_V3_Large_FPN_Weights.DEFAULT.meta["categories"]
    voc = LRASPP_MobileNet_V3_Large_Weights.DEFAULT.meta["categories"]
    assert list(VOC_CLASSES[1:]) == voc[1:]
    other = {"aeroplane": "airplane", "diningtable": "dining table", "motorbike": "motorcycle",
             "pottedplant": "potted plant", "sofa": "couch", "tvmonitor": "tv"}  # fmt: skip
    assert [coco[number] for number in VOC_CATEGORIES] == [other.get(name, name) for name in voc]


def test_coco_files_are_named(coco: Path) -> None:
    path = coco / "train2017" / "000000000042.jpg"
    cut(path)
    with pytest.raises(BrokenFileError, match=rf"COCO train2017, detection: {path}: .*skip_broken"):
        Coco(coco)[2]
    with pytest.warns(BrokenFilesWarning, match=r"left out what is broken \(1\), kept 2 ") as told:
        assert [target["image_id"] for _, target in Coco(coco, skip_broken=True)] == [7, 11]
    assert told[0].filename == __file__, "the line is the caller's"
    picture(path, 50, 61)
    with pytest.raises(BrokenFileError, match=rf"{path}: is of \(50, 61\) pixels, its annotations of \(50, 60\)"):
        Coco(coco)[2]
    listing = coco / "annotations" / "instances_train2017.json"
    listing.unlink()
    with pytest.raises(FileNotFoundError, match=rf"no file {listing}. Expected: "):
        Coco(coco)
    with pytest.raises(FileNotFoundError, match=r"no folder .*train2014; .*has annotations, train2017, val2017"):
        Coco(coco, year=2014)
