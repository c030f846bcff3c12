"""Pascal VOC, and data sets of one's own in its layout."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from datafiles import ANNOTATION, cut, is_image, picture, voc_object
from torchvision import tv_tensors
from torchvision.transforms import v2

from mnv3lib.data import BrokenFileError, BrokenFilesWarning, SkippedFilesWarning
from mnv3lib.data.catalogue import VOC_CLASSES
from mnv3lib.data.reading import read_mask
from mnv3lib.data.voc import Voc

pytestmark = pytest.mark.usefixtures("own_cache")


def test_voc_masks_are_classes(voc: Path) -> None:
    dataset = Voc(voc, "train")
    assert len(dataset) == 2
    assert dataset.num_classes == 21
    assert dataset.classes[12] == "dog"
    image, mask = dataset[0]
    is_image(image, 20, 30)
    assert int(image.max()) == pytest.approx(40, abs=2)  # the order is the list's
    assert isinstance(mask, tv_tensors.Mask)
    assert (mask.dtype, tuple(mask.shape)) == (torch.uint8, (20, 30))
    assert mask.unique().tolist() == [0, 12, 255]
    assert (mask[3:12, 5:15] == 12).all()
    assert (mask == 12).sum() == 90


def test_voc_boxes_are_in_pixels_from_the_edge(voc: Path) -> None:
    dataset = Voc(voc, "train", "detection")
    image, target = dataset[1]
    is_image(image, 20, 30)
    boxes, labels = target["boxes"], target["labels"]
    assert isinstance(boxes, tv_tensors.BoundingBoxes)
    assert (boxes.format.name, boxes.canvas_size, boxes.dtype) == ("XYXY", (20, 30), torch.float32)
    assert [dataset.classes[label] for label in labels.tolist()] == ["dog", "person"]
    assert boxes.tolist() == [[5, 2, 15, 12], [0, 0, 30, 20]]
    assert (labels.dtype, target["image_id"]) == (torch.int64, 1)
    left, top, right, bottom = boxes[0].int().tolist()
    _, mask = Voc(voc, "train")[1]
    rows, columns = (mask != 0).nonzero(as_tuple=True)
    assert (left, top, right, bottom) == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)

    _, empty = dataset[0]  # its only object is difficult
    assert tuple(empty["boxes"].shape) == (0, 4)
    assert tuple(empty["labels"].shape) == (0,)
    _, kept = Voc(voc, "train", "detection", difficult=True)[0]
    assert kept["boxes"].tolist() == [[1.5, 2, 9, 9]]
    assert kept["labels"].tolist() == [VOC_CLASSES.index("cat")]
    _, none = Voc(voc, "val", "detection")[0]
    assert len(none["boxes"]) == 0
    assert set(kept) == {"boxes", "labels", "image_id"}
    (flipped, moved) = Voc(voc, "train", "detection", transform=v2.RandomHorizontalFlip(p=1))[1]
    assert moved["boxes"][0].tolist() == [15, 2, 25, 12]
    assert torch.equal(flipped, image.flip(-1))


def test_voc_is_evaluated_with_its_difficult_objects_that_count_neither_way(voc: Path) -> None:
    lists = voc / "VOCdevkit/VOC2012/ImageSets/Main"
    (lists / "val.txt").write_text("2007_000002\n2007_000001\n2007_000003\n")
    found = [target for _, target in Voc(voc, "val", "detection")]
    assert [target["labels"].tolist() for target in found] == [[8], [12, 15], []]
    assert [target["iscrowd"].tolist() for target in found] == [[True], [False, False], []]
    assert [target["area"].tolist() for target in found] == [[7.5 * 7], [100, 600], []]
    assert found[0]["boxes"].tolist() == [[1.5, 2, 9, 9]]
    assert (found[2]["iscrowd"].dtype, found[2]["area"].dtype) == (torch.bool, torch.float32)
    (lists / "trainval.txt").write_text("2007_000002\n")
    assert set(Voc(voc, "trainval", "detection")[0][1]) == {"boxes", "labels", "image_id"}
    plain = Voc(voc, "val", "detection", difficult=True)[0][1]
    assert (plain["labels"].tolist(), plain["iscrowd"].tolist()) == ([8], [False])
    assert set(Voc(voc, "val", "detection", evaluation=False)[1][1]) == {"boxes", "labels", "image_id"}
    assert Voc(voc, "train", "detection", evaluation=True)[0][1]["iscrowd"].tolist() == [True]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("<annotation><object>", "no element found"),
        (
            ANNOTATION.format(name="x", objects=voc_object("unicorn", 1, 1, 5, 5)),
            "class 'unicorn' is not among aeroplane, bicycle, .*see the argument classes",
        ),
        (
            ANNOTATION.format(name="x", objects=voc_object("cat", 31, 1, 35, 5)),
            "a box, of a cat, is empty within the image of 30×20",
        ),
        (ANNOTATION.format(name="x", objects="<object><name>cat</name></object>"), "has no 'bndbox'"),
        ("<html></html>", "begins with <html>"),
    ],
)
def test_voc_annotations_that_cannot_be_used_are_named(voc: Path, content: str, reason: str) -> None:
    path = voc / "VOCdevkit/VOC2012/Annotations/2007_000001.xml"
    path.write_text(content)
    with pytest.raises(BrokenFileError, match=f"VOC 2012 train, detection: {path}: .*({reason})"):
        Voc(voc, "train", "detection")[1]
    with pytest.warns(BrokenFilesWarning, match=r"left out what is broken \(1\), kept 1 ") as told:
        dataset = Voc(voc, "train", "detection", skip_broken=True)
    assert told[0].filename == __file__, "the line is the caller's"
    assert len(dataset) == 1
    assert dataset[0][1]["image_id"] == 0


def annotate(voc: Path, objects: str, name: str = "2007_000001") -> Path:
    path = voc / f"VOCdevkit/VOC2012/Annotations/{name}.xml"
    path.write_text(ANNOTATION.format(name=name, objects=objects))
    return path


@pytest.mark.parametrize(
    ("said", "difficult"),
    [
        ("<difficult>1</difficult>", True),
        ("<difficult> True </difficult>", True),
        ("<difficult>0</difficult>", False),
        ("<difficult>false</difficult>", False),
        ("<difficult>Unspecified</difficult>", False),
        ("<difficult></difficult>", False),
        ("<difficult/>", False),
        ("", False),
    ],
)
def test_an_object_is_difficult_only_if_somebody_said_so(voc: Path, said: str, difficult: bool) -> None:
    annotate(voc, voc_object("cat", 2, 3, 9, 9, difficult=said))
    assert len(Voc(voc, "train", "detection")[1][1]["labels"]) == (not difficult)
    assert Voc(voc, "train", "detection", evaluation=True)[1][1]["iscrowd"].tolist() == [difficult]
    assert Voc(voc, "train", "detection", evaluation=True, difficult=True)[1][1]["iscrowd"].tolist() == [False]


def test_truncated_objects_are_like_all_others(voc: Path) -> None:
    for said in ("0", "1", "Unspecified"):
        annotate(voc, voc_object("cat", 2, 3, 9, 9).replace("<truncated>0", f"<truncated>{said}"))
        assert len(Voc(voc, "train", "detection")[1][1]["labels"]) == 1


BOX = "<bndbox><xmin>2</xmin><ymin>3</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"


@pytest.mark.parametrize(
    ("objects", "reason"),
    [
        (
            voc_object("cat", 2, 3, 9, 9, difficult="<difficult>2</difficult>"),
            "'difficult' must be 0, 1 or Unspecified",
        ),
        (f"<object>{BOX}</object>", "an object has no 'name'"),
        (f"<object><name/>{BOX}</object>", "class '' is not among"),
        (f"<object><name>background</name>{BOX}</object>", "class 'background' is not among"),
        (f"<object><name>cat</name>{BOX.replace('9</ymax>', 'nine</ymax>')}</object>", "'ymax' of a cat .* got 'nine'"),
        (
            f"<object><name>cat</name>{BOX.replace('<xmin>2</xmin>', '')}</object>",
            "'xmin' of a cat .* got None",
        ),
        (f"<object><name>cat</name>{BOX.replace('2</xmin>', '</xmin>')}</object>", "'xmin' of a cat .* got ''"),
        (f"<object><name>cat</name>{BOX.replace('2</xmin>', 'nan</xmin>')}</object>", "'xmin' of a cat .* got 'nan'"),
        (f"<object><name>cat</name>{BOX.replace('3</ymin>', '-inf</ymin>')}</object>", "'ymin' of a cat .* got '-inf'"),
        (voc_object("cat", 9, 3, 2, 9), "a box, of a cat, is empty within"),
        (voc_object("cat", 2, 9, 9, 3), "a box, of a cat, is empty within"),
        (voc_object("cat", 2, 21, 9, 25), "a box, of a cat, is empty within"),
        (voc_object("cat", -9, 3, 0, 9), "a box, of a cat, is empty within"),
    ],
)
@pytest.mark.parametrize("difficult", ["0", "1"])
def test_objects_that_cannot_be_used_are_named(voc: Path, objects: str, reason: str, difficult: str) -> None:
    """Also among difficult objects, which training leaves out: what is broken is the same in every split."""
    if "<difficult>0" in objects:
        objects = objects.replace("<difficult>0", f"<difficult>{difficult}")
    path = annotate(voc, voc_object("dog", 6, 3, 15, 12) + objects)
    with pytest.raises(BrokenFileError, match=f"{path}: {reason}.*skip_broken"):
        Voc(voc, "train", "detection")[1]
    with pytest.warns(BrokenFilesWarning, match=rf"broken \(1\), kept 1 .*{path}: {reason}"):
        dataset = Voc(voc, "train", "detection", skip_broken=True)
    assert dataset.broken[0][0] == str(path)
    assert [target["image_id"] for _, target in dataset] == [0]


def test_boxes_are_clipped_to_the_image(voc: Path) -> None:
    annotate(voc, voc_object("cat", 0, -3, 9, 9) + voc_object("cat", 20.5, 10, 31, 99))
    _, target = Voc(voc, "train", "detection")[1]
    assert target["boxes"].tolist() == [[0, 0, 9, 9], [19.5, 9, 30, 20]]


@pytest.mark.parametrize(
    ("width", "height", "reason"),
    [
        ("30", "21", "30×21"),
        ("30", "19", "30×19"),
        ("31", "20", "31×20"),
        ("29", "20", "29×20"),
        ("20", "30", "20×30"),
        ("x", "20", "could not convert"),
    ],
)
def test_an_annotation_of_another_size_is_refused(voc: Path, width: str, height: str, reason: str) -> None:
    path = annotate(voc, voc_object("cat", 2, 3, 9, 9))
    size = "<size><width>30</width><height>20</height><depth>3</depth></size>"
    text = path.read_text()
    assert size in text
    path.write_text(text.replace(size, f"<size><width>{width}</width><height>{height}</height></size>"))
    with pytest.raises(BrokenFileError, match=f"{path}: .*{reason}"):
        Voc(voc, "train", "detection")[1]
    for unknown in ("", "<size><width>0</width><height>0</height></size>", "<size/>"):
        path.write_text(text.replace(size, unknown))
        assert len(Voc(voc, "train", "detection")[1][1]["labels"]) == 1


def test_own_classes_are_numbered_in_their_order(voc: Path) -> None:
    annotate(voc, voc_object(" helmet ", 6, 3, 15, 12) + voc_object("head", 1, 1, 30, 20))
    annotate(voc, voc_object("head", 1, 1, 30, 20), "2007_000002")
    dataset = Voc(voc, "train", "detection", classes=["helmet", "head"])
    assert (dataset.classes, dataset.num_classes) == (("background", "helmet", "head"), 3)
    assert [target["labels"].tolist() for _, target in dataset] == [[2], [1, 2]]
    with pytest.raises(BrokenFileError, match="class 'head' is not among helmet; for others see the argument classes"):
        Voc(voc, "train", "detection", classes=["helmet"])[0]
    with pytest.raises(BrokenFileError, match="class 12 in a mask of classes 0 to 2 and 255"):
        Voc(voc, "train", classes=["helmet", "head"])[0]


def test_findings_depend_on_the_classes(voc: Path) -> None:
    annotate(voc, voc_object("helmet", 6, 3, 15, 12))
    with pytest.warns(BrokenFilesWarning, match="helmet"):
        assert len(Voc(voc, "train", "detection", skip_broken=True)) == 1
    assert len(Voc(voc, "train", "detection", skip_broken=True, classes=["cat", "helmet"])) == 2


@pytest.mark.parametrize(
    ("classes", "error"),
    [
        ("helmet", TypeError),
        ([1, 2], TypeError),
        (5, TypeError),
        ([], ValueError),
        (["a", "a"], ValueError),
        (["a", " a"], ValueError),
        (["background", "a"], ValueError),
        (["a", ""], ValueError),
    ],
)
def test_own_classes_are_different_names(voc: Path, classes: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"classes must be .*, got " + re.escape(repr(classes))):
        Voc(voc, classes=classes)


@pytest.mark.parametrize(
    "text",
    [
        "2007_000002\r\n2007_000001\r\n",
        "\n2007_000002\n\n2007_000001",
        "2007_000002\n2007_000001\n\n \n\t\n",
        "\ufeff2007_000002\n2007_000001\n",
        "  2007_000002 \n2007_000001\t\n",
    ],
)
def test_lists_may_have_blank_lines_and_a_byte_order_mark(voc: Path, text: str) -> None:
    expected = Voc(voc, "train").fingerprint
    path = voc / "VOCdevkit/VOC2012/ImageSets/Segmentation/train.txt"
    path.write_bytes(text.encode())
    dataset = Voc(voc, "train")
    assert len(list(dataset)) == 2
    assert dataset.fingerprint == expected
    assert dataset.skipped == []


def test_lists_that_are_not_utf_8_or_empty_are_named(voc: Path) -> None:
    path = voc / "VOCdevkit/VOC2012/ImageSets/Segmentation/train.txt"
    path.write_text("2007_000002\n", encoding="utf-16")
    with pytest.raises(BrokenFileError, match=f"{path}: is not UTF-8: .*codec can't decode"):
        Voc(voc, "train")
    path.write_text("\n")
    with pytest.raises(FileNotFoundError, match="VOC 2012 train, segmentation: there is no image in it"):
        Voc(voc, "train")


def test_an_image_that_is_listed_twice_is_taken_once_and_told(voc: Path) -> None:
    path = voc / "VOCdevkit/VOC2012/ImageSets/Segmentation/train.txt"
    path.write_text("2007_000002\n2007_000001\n2007_000002\n")
    with pytest.warns(
        SkippedFilesWarning, match=rf"left out .* \(1\): {path}: '2007_0{{5}}2' is listed 2 times"
    ) as told:
        dataset = Voc(voc, "train")
    assert [one.filename for one in told] == [__file__], "the line is the caller's"
    assert dataset.skipped == [(str(path), "'2007_000002' is listed 2 times")]
    assert [int(image.max()) // 30 for image, _ in dataset] == [1, 0], "in the order of the list"


def test_an_annotation_may_begin_with_a_byte_order_mark(voc: Path) -> None:
    path = annotate(voc, voc_object("cat", 2, 3, 9, 9))
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert Voc(voc, "train", "detection")[1][1]["labels"].tolist() == [8]
    path.write_bytes(b"")
    with pytest.raises(BrokenFileError, match=f"{path}: no element found"):
        Voc(voc, "train", "detection")[1]


@pytest.mark.parametrize("year", ["2006", "2013", "2007-test", 12])
def test_there_was_no_such_year(voc: Path, year: Any) -> None:
    with pytest.raises(ValueError, match=f"year must be one of '2007', .*'2012', got '{year}'"):
        Voc(voc, year=year)


def test_years_are_folders_as_they_were_published(tmp_path: Path) -> None:
    for year, place in ((2007, "VOCdevkit/VOC2007"), (2011, "TrainVal/VOCdevkit/VOC2011")):
        with pytest.raises(FileNotFoundError, match=f"no folder .*{place}"):
            Voc(tmp_path, year=year)


def test_voc_masks_that_cannot_be_used_are_named(voc: Path, tmp_path: Path) -> None:
    path = voc / "VOCdevkit/VOC2012/SegmentationClass/2007_000001.png"
    for spoil, reason in (
        (lambda: picture(path, mode="RGB"), "a mask has a palette or grey values, not mode RGB"),
        (lambda: picture(path, height=19, mode="L"), r"the mask is of \(19, 30\) pixels, its image of \(20, 30\)"),
        (lambda: picture(path, value=21, mode="L"), "class 21 in a mask of classes 0 to 20 and 255"),
        (lambda: cut(path), "cannot be identified"),
        (path.unlink, "No such file"),
    ):
        spoil()
        with pytest.raises(BrokenFileError, match=f"{path}: .*({reason})"):
            Voc(voc, "train")[1]
    grey = picture(tmp_path / "grey.png", value=20, mode="L")
    assert (read_mask(grey, 21, (20, 30)) == 20).all()


def test_voc_folders_are_named(voc: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no list .*ImageSets/Segmentation/trainval.txt"):
        Voc(voc, "trainval")
    with pytest.raises(FileNotFoundError, match=r"no folder .*VOCdevkit/VOC2007; .*VOCdevkit has VOC2012"):
        Voc(voc, year="2007")
    with pytest.raises(ValueError, match="task must be one of 'segmentation', 'detection', got 'classification'"):
        Voc(voc, task="classification")
    assert len(Voc(voc, "train", image_set="val")) == 1
