"""Listings in COCO's form, in every way in which they can be broken: refused, or skipped with their image and told."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from datafiles import OLD_ARRAYS, cut, is_image
from PIL import Image

from mnv3lib.data import BrokenFileError, BrokenFilesWarning, SkippedFilesWarning
from mnv3lib.data.coco import Coco

pytestmark = pytest.mark.usefixtures("own_cache")


def change(root: Path, edit: Callable[[dict[str, Any]], Any], split: str = "train") -> Path:
    """Edit a listing, and return its path."""
    path = root / "annotations" / f"instances_{split}2017.json"
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))
    return path


def put(part: str, place: int, **values: Any) -> Callable[[dict[str, Any]], Any]:
    """An edit that sets values of an entry; ... removes one."""

    def edit(content: dict[str, Any]) -> None:
        entry = content[part][place]
        entry |= values
        for name in [name for name, value in values.items() if value is ...]:
            del entry[name]

    return edit


def replace(part: str, place: int, value: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda content: content[part].__setitem__(place, value)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "Expecting value"),
        (b'{"images": [', "Expecting value"),
        (b"\xff\xfe\x00", ".* codec can't decode"),
        (b"[" * 100_000, ".*recursion"),
        (b"[]", r"is not a listing with images, annotations and categories, but \[\]"),
        (b'{"images": [], "annotations": []}', "has no 'categories'"),
        (b'{"annotations": [], "categories": []}', "has no 'images'"),
        (b'{"images": [], "categories": []}', "has no 'annotations'"),
        (b'{"images": {}, "annotations": [], "categories": []}', "'images' must be a list, got {}"),
        (b'{"images": [], "annotations": null, "categories": []}', "'annotations' must be a list, got None"),
        (b'{"images": [], "annotations": [], "categories": []}', "has no category"),
    ],
)
@pytest.mark.parametrize("skip_broken", [False, True])
def test_a_file_that_is_no_listing_is_refused(coco: Path, data: bytes, reason: str, skip_broken: bool) -> None:
    path = coco / "annotations" / "instances_train2017.json"
    path.write_bytes(data)
    with pytest.raises(BrokenFileError, match=f"{path}: {reason}"):
        Coco(coco, skip_broken=skip_broken)


def test_a_byte_order_mark_changes_nothing(coco: Path) -> None:
    path = coco / "annotations" / "instances_train2017.json"
    text = path.read_text()
    for encoding in ("utf-8-sig", "utf-16"):
        path.write_text(text, encoding=encoding)
        assert Coco(coco).ids == [7, 11, 42]


CATEGORIES: list[tuple[Callable[[dict[str, Any]], Any], str]] = [
    (replace("categories", 0, "dog"), "category entry 0 must have an id and a name, got 'dog'"),
    (put("categories", 1, id=...), "category entry 1: has no 'id'"),
    (put("categories", 1, id="3"), "category entry 1: id must be an integer from 1 to 65535, got '3'"),
    (put("categories", 1, id=True), "category entry 1: id must be an integer from 1 to 65535, got True"),
    (put("categories", 1, id=-1), "category entry 1: id must be .* got -1"),
    (put("categories", 1, id=65536), "category entry 1: id must be .* got 65536"),
    (put("categories", 1, name=...), "category 3: has no 'name'"),
    (put("categories", 1, name=None), "category 3: name must be text, got None"),
    (put("categories", 1, name=""), "category 3: name must be text, got ''"),
    (put("categories", 1, id=1), "category 1 is 'person' and 'car'"),
    (put("categories", 1, name="person"), "categories 1 and 3 are both 'person'"),
]


@pytest.mark.parametrize(("edit", "reason"), CATEGORIES)
def test_categories_that_make_no_labels_are_refused(coco: Path, edit: Any, reason: str) -> None:
    path = change(coco, edit)
    for skip_broken in (False, True):
        with pytest.raises(BrokenFileError, match=f"{path}: {reason}"):
            Coco(coco, skip_broken=skip_broken)


def test_the_label_of_the_background_is_no_category(coco: Path) -> None:
    """Listings that count from 0 would train their first class as background."""

    def from_zero(content: dict[str, Any]) -> None:
        for entry in content["categories"]:
            entry["id"] -= 1
        for entry in content["annotations"]:
            entry["category_id"] -= 1

    path = change(coco, from_zero)
    with pytest.raises(BrokenFileError, match=f"{path}: category 0 is 'person', but 0 is the label of the back"):
        Coco(coco, skip_broken=True)


def test_a_category_0_without_objects_is_left_out_and_told(coco: Path) -> None:
    change(coco, lambda content: content["categories"].append({"id": 0, "name": "animals", "supercategory": "none"}))
    with pytest.warns(SkippedFilesWarning, match=r"train2017.*left out .* \(1\).*'animals': it has"):
        dataset = Coco(coco)
    assert dataset.classes[:4] == ("background", "person", "N/A", "car")
    assert [reason for _, reason in dataset.skipped] == [
        "category 0, 'animals': it has no objects, and 0 is the background"
    ]


#: What is done to the listing, which images it costs, and what is said. Of the annotations, 0 to 3 are of image 42,
#: which is entry 0; 4 and 5 of 7, entry 1; 7 of 11, entry 3.
ENTRIES: list[tuple[Callable[[dict[str, Any]], Any], set[int], str]] = [
    (replace("images", 1, None), {7}, "image entry 1: must have an id, a file_name, width and height, got None"),
    (put("images", 1, id=...), {7}, "image entry 1: has no 'id'"),
    (put("images", 1, id="000007"), {7}, "image entry 1: id must be an integer, got '000007'"),
    (put("images", 1, id=7.0), {7}, "image entry 1: id must be an integer, got 7.0"),
    (put("images", 1, file_name=...), {7}, "image 7: has no 'file_name'"),
    (put("images", 1, file_name=7), {7}, "image 7: file_name must be text, got 7"),
    (put("images", 1, file_name=""), {7}, "image 7: file_name must be text, got ''"),
    (put("images", 1, height=...), {7}, "image 7: has no 'height'"),
    (put("images", 1, width=0), {7}, "image 7: width must be an integer >= 1, got 0"),
    (put("images", 1, width="60"), {7}, "image 7: width must be an integer >= 1, got '60'"),
    (put("images", 1, id=42), {42, 7}, "2 images have the id 42: file_name '0{10}42.jpg', '0{11}7.jpg'"),
    (put("images", 1, file_name="000000000042.jpg"), {42, 7}, "2 images have the file_name '0{10}42.jpg': id 42, 7"),
    (replace("annotations", 4, []), set(), r"annotation entry 4 must have an image_id, got \[\]"),
    (put("annotations", 4, image_id=...), set(), "annotation 5: has no 'image_id'"),
    (put("annotations", 4, image_id="7"), set(), "annotation 5: image_id must be an integer, got '7'"),
    (put("annotations", 4, image_id=70), set(), "annotation 5: there is no image 70"),
    (put("annotations", 4, id=...), {7}, "annotation entry 4, of image 000000000007.jpg: has no 'id'"),
    (put("annotations", 4, id="5"), {7}, "annotation entry 4, of .*: id must be an integer, got '5'"),
    (put("annotations", 4, id=1), {42, 7}, "annotation 1, of image 000000000042.jpg: 2 annotations have the id 1"),
    (put("annotations", 4, category_id=...), {7}, "annotation 5, of image 000000000007.jpg: has no 'category_id'"),
    (put("annotations", 4, category_id="car"), {7}, "annotation 5, .*: category_id must be an integer, got 'car'"),
    (put("annotations", 4, category_id=True), {7}, "annotation 5, .*: category_id must be an integer, got True"),
    (put("annotations", 4, category_id=2), {7}, "annotation 5, of image 000000000007.jpg: there is no category 2"),
    (put("annotations", 4, bbox=...), {7}, "annotation 5, of image 000000000007.jpg: has no 'bbox'"),
    *(
        (put("annotations", 4, bbox=box), {7}, "annotation 5, .*: bbox must be four finite numbers, left, top, wid")
        for box in ([], None, [1, 2, 3], [1, 2, 3, 4, 5], {"x": 1}, "1234", [1, 2, "3", 4], [1, 2, None, 4],
                    [1, 2, float("nan"), 4], [float("inf"), 2, 3, 4], [1, 2, -3, 4], [1, 2, 3, -4], [True, 2, 3, 4])
    ),
    (put("annotations", 4, bbox=[60, 5, 9, 9]), {7}, r"annotation 5, .*: bbox \[60, 5, 9, 9\] lies out.* 60×50"),
    (put("annotations", 4, bbox=[5, 50, 9, 9]), {7}, r"annotation 5, .*: bbox \[5, 50, 9, 9\] lies outside"),
    (put("annotations", 4, bbox=[-9, 5, 9, 9]), {7}, r"annotation 5, .*: bbox \[-9, 5, 9, 9\] lies outside"),
    (put("annotations", 4, bbox=[5, -9, 9, 9]), {7}, r"annotation 5, .*: bbox \[5, -9, 9, 9\] lies outside"),
    (put("annotations", 4, iscrowd=2), {7}, "annotation 5, .*: iscrowd must be 0 or 1, got 2"),
    (put("annotations", 4, iscrowd=None), {7}, "annotation 5, .*: iscrowd must be 0 or 1, got None"),
    (put("annotations", 4, iscrowd=1.0), {7}, "annotation 5, .*: iscrowd must be 0 or 1, got 1.0"),
    (put("annotations", 4, area="9"), {7}, "annotation 5, .*: area must be a finite number >= 0, got '9'"),
    (put("annotations", 4, area=-1), {7}, "annotation 5, .*: area must be a finite number >= 0, got -1"),
    (put("annotations", 4, area=float("nan")), {7}, "annotation 5, .*: area must be a finite number >= 0, got nan"),
]  # fmt: skip


@pytest.mark.parametrize(("edit", "lost", "reason"), ENTRIES)
def test_broken_entries_are_refused_or_skipped_with_their_image(
    coco: Path, edit: Any, lost: set[int], reason: str
) -> None:
    path = change(coco, edit, "val")
    with pytest.raises(BrokenFileError, match=f"COCO val2017, detection: {path}: {reason}.*skip_broken=True") as raised:
        Coco(coco, "val")
    assert raised.value.path == str(path)
    with pytest.warns(BrokenFilesWarning, match=f"broken .* kept {5 - len(lost)} .*{path}: {reason}") as told:
        dataset = Coco(coco, "val", skip_broken=True)
    assert len(told) == 1
    kept = [number for number in (7, 8, 9, 11, 42) if number not in lost]
    assert dataset.ids == kept
    assert {name for name, _ in dataset.broken} == {str(path)}
    assert re.search(reason, dataset.broken[0][1])
    labels = {7: [3], 8: [], 9: [62], 11: [27], 42: [18, 1, 27, 1]}
    if "annotation" in reason and not lost:
        labels[7] = []  # its only object with an area is of no image
    assert [(target["image_id"], target["labels"].tolist()) for _, target in dataset] == [(n, labels[n]) for n in kept]


def test_all_broken_entries_are_counted(coco: Path) -> None:
    def edit(content: dict[str, Any]) -> None:
        for entry in content["annotations"][:3]:
            entry["id"] = 1
        content["annotations"][7]["bbox"] = []

    path = change(coco, edit)
    with pytest.raises(BrokenFileError, match=f"{path}: annotation 1, .* id 1; and 3 more broken entries. Correct"):
        Coco(coco)
    with pytest.warns(BrokenFilesWarning, match=r"broken \(4\), kept 1 .*; and 1 more$"):
        dataset = Coco(coco, skip_broken=True)
    assert dataset.ids == [7]
    assert len(dataset.broken) == 4
    assert sorted(dataset.coco.imgs) == [7, 8, 9], "nor does pycocotools see them"


def test_entries_and_files_that_are_broken_are_told_together(coco: Path) -> None:
    path = change(coco, put("annotations", 4, bbox=[]))
    image = coco / "train2017" / "000000000042.jpg"
    cut(image)
    with pytest.warns(BrokenFilesWarning, match=rf"broken \(2\), kept 1 .*{path}: .*bbox.*; {image}: ") as told:
        dataset = Coco(coco, skip_broken=True)
    assert len(told) == 1
    assert dataset.ids == [11, 42]
    assert [target["image_id"] for _, target in dataset] == [11]


def test_objects_need_neither_crowd_nor_area(coco: Path) -> None:
    def edit(content: dict[str, Any]) -> None:
        for entry in content["annotations"]:
            if entry["id"] != 4:
                del entry["iscrowd"], entry["area"]

    change(coco, edit, "val")
    plain = [target for _, target in Coco(coco, "val")]
    assert plain[4]["iscrowd"].tolist() == [False, False, False, True]
    assert plain[4]["area"].tolist() == [35 * 35, 25.5 * 30, 400, 1200]
    assert all(entry["area"] >= 0 and entry["iscrowd"] in (0, 1) for entry in Coco(coco, "val").coco.anns.values())


@OLD_ARRAYS
@pytest.mark.parametrize(
    ("outline", "reason"),
    [
        (..., "has no 'segmentation'"),
        (None, "segmentation must be polygons of three points or more, or run lengths, got None"),
        ([], r"segmentation must be polygons .*, got \[\]"),
        ([[]], r"segmentation must be polygons .*, got \[\[\]\]"),
        ([[1, 2, 3, 4]], "segmentation must be polygons"),
        ([[1, 2, 3, 4, 5, 6, 7]], "segmentation must be polygons"),
        ([1, 2, 3, 4, 5, 6], "segmentation must be polygons"),
        ({"counts": [0, 3000]}, r"segmentation must have the size \[50, 60\], got None"),
        ({"size": [60, 50], "counts": [0, 3000]}, r"segmentation must have the size \[50, 60\], got \[60, 50\]"),
        ({"size": [50, 60]}, "segmentation must be run lengths with counts"),
    ],
)
def test_outlines_that_make_no_mask_are_refused_where_masks_are_asked_for(
    coco: Path, outline: Any, reason: str
) -> None:
    path = change(coco, put("annotations", 4, segmentation=outline), "val")
    with pytest.raises(BrokenFileError, match=f"{path}: annotation 5, of image 000000000007.jpg: {reason}"):
        Coco(coco, "val", "segmentation")
    with pytest.warns(BrokenFilesWarning, match=r"broken \(1\), kept 4 "):
        assert len(list(Coco(coco, "val", "segmentation", skip_broken=True))) == 4
    assert len(Coco(coco, "val")) == 5, "boxes need none"


@OLD_ARRAYS
def test_an_outline_without_numbers_is_named_with_its_image(coco: Path) -> None:
    path = change(coco, put("annotations", 4, segmentation=[["a", "b", "c", "d", "e", "f"]]), "val")
    with pytest.raises(BrokenFileError, match=f"{path}: the objects of 000000000007.jpg: "):
        Coco(coco, "val", "segmentation")[0]
    with pytest.warns(BrokenFilesWarning, match="the objects of 000000000007.jpg"):
        assert len(Coco(coco, "val", "segmentation", skip_broken=True)) == 4


@OLD_ARRAYS
def test_findings_are_asked_for_anew_for_another_listing_and_for_another_task(coco: Path) -> None:
    assert len(Coco(coco, "val", "segmentation", skip_broken=True)) == 5
    change(coco, put("annotations", 4, segmentation=[["a", "b", "c", "d", "e", "f"]]), "val")
    assert len(Coco(coco, "val", "detection", skip_broken=True)) == 5
    with pytest.warns(BrokenFilesWarning, match="the objects of 000000000007.jpg"):
        assert len(Coco(coco, "val", "segmentation", skip_broken=True)) == 4


@OLD_ARRAYS
def test_masks_need_a_box_only_for_want_of_an_area(coco: Path) -> None:
    change(coco, put("annotations", 0, bbox=...))
    assert Coco(coco, "train", "segmentation").ids == [42]
    change(coco, put("annotations", 0, area=...))
    with pytest.raises(BrokenFileError, match=r"annotation 1, .*: has no 'bbox'"):
        Coco(coco, "train", "segmentation")


def test_masks_are_made_of_cocos_categories_only(coco: Path) -> None:
    """A listing of one's own has other classes under COCO's numbers."""
    path = change(coco, put("categories", 1, name="helmet"))
    with pytest.raises(BrokenFileError, match=f"{path}: category 3 is 'helmet', in COCO it is 'car': masks are"):
        Coco(coco, "train", "segmentation")
    assert Coco(coco).classes[3] == "helmet"
    for name in ("tv", "tvmonitor"):
        change(coco, put("categories", 1, id=72, name=name))
        change(coco, put("annotations", 4, category_id=72))
        change(coco, put("annotations", 5, category_id=72))
        Coco(coco, "train", "segmentation")


def on_its_side(path: Path) -> Path:
    """Write an image of 50×60 pixels as a camera does that was held upright."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (50, 60)).save(path, exif=exif)
    return path


def test_an_image_on_its_side_is_named_with_the_way_out(coco: Path) -> None:
    path = on_its_side(coco / "train2017" / "000000000007.jpg")
    with pytest.raises(BrokenFileError, match=rf"{path}: is of \(60, 50\) pixels.* on its side; see upright"):
        Coco(coco)[0]
    is_image(Coco(coco, upright=True)[0][0], 50, 60)


def test_findings_are_asked_for_anew_when_an_option_decides_what_is_broken(coco: Path) -> None:
    cut(coco / "train2017" / "000000000042.jpg")
    for options, kept in (({}, 2), ({"keep_empty": True}, 4), ({}, 2)):
        with pytest.warns(BrokenFilesWarning, match=rf"broken \(1\), kept {kept} "):
            Coco(coco, skip_broken=True, **options)
    on_its_side(coco / "train2017" / "000000000042.jpg")
    for options, kept in (({}, [7, 11]), ({"upright": True}, [7, 11, 42])):
        with warnings.catch_warnings(record=True):
            warnings.simplefilter("always")
            dataset = Coco(coco, skip_broken=True, **options)
        assert [target["image_id"] for _, target in dataset] == kept


def test_coco_is_told_apart_by_its_fingerprint(coco: Path, tmp_path: Path) -> None:
    first = Coco(coco).fingerprint
    assert first == Coco(coco).fingerprint
    assert len({first, Coco(coco, keep_empty=True).fingerprint, Coco(coco, "val", keep_empty=False).fingerprint}) == 2
    moved = coco.rename(tmp_path / "moved")
    assert Coco(moved).fingerprint == first
    change(moved, put("annotations", 4, category_id=1))
    assert Coco(moved).fingerprint != first
