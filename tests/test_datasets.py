"""Data sets on disk, in small folders of the real formats: items in one form, and errors that name the file."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from ledger import Deviation
from PIL import Image
from pycocotools import mask as coco_mask
from torch.utils.data import DataLoader
from torchvision import datasets as vision
from torchvision import tv_tensors
from torchvision.transforms import v2

from mnv3lib.data import BrokenFileError, DigitScenes, open_dataset
from mnv3lib.data.coco import VOC_CATEGORIES, VOC_CLASSES, Coco
from mnv3lib.data.datasets import Cifar10, Folder, Voc
from mnv3lib.data.reading import BrokenFilesWarning, read_image, read_mask
from mnv3lib.recipe import Data


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test leaves anything in the reader's cache."""
    monkeypatch.setenv("MNV3LIB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def picture(path: Path, height: int = 20, width: int = 30, value: int = 0, mode: str = "RGB") -> Path:
    """Write an image whose pixels are all ``value``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    channels = {"RGB": (3,), "L": (), "RGBA": (4,), "CMYK": (4,)}[mode]
    Image.fromarray(np.full((height, width, *channels), value, dtype=np.uint8), mode=None).convert(mode).save(path)
    return path


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def is_image(image: Any, height: int, width: int) -> None:
    assert isinstance(image, tv_tensors.Image)
    assert (image.dtype, tuple(image.shape)) == (torch.uint8, (3, height, width))


#: pycocotools 2.0.11 hands its masks to NumPy in the way of NumPy 1.
OLD_ARRAYS = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


# Folders


@pytest.fixture
def animals(tmp_path: Path) -> Path:
    """Three classes in train, two of them in val."""
    root = tmp_path / "animals"
    for number, (split, name, count) in enumerate(
        [("train", "cat", 3), ("train", "dog", 2), ("train", "ant", 1), ("val", "dog", 2), ("val", "cat", 1)]
    ):
        for index in range(count):
            noise = np.random.default_rng(10 * number + index).integers(0, 255, (40, 60, 3), dtype=np.uint8)
            path = root / split / name / f"{index}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(noise).save(path)
    return root


def test_folders_are_classes(animals: Path) -> None:
    train, val = Folder(animals, "train"), Folder(animals, "val")
    assert train.classes == val.classes == ("ant", "cat", "dog")
    assert [label for _, label in train] == [0, 1, 1, 1, 2, 2]
    assert [label for _, label in val] == [1, 2, 2]  # numbered as in train, although val has no ant
    image, label = train[0]
    is_image(image, 40, 60)
    assert type(label) is int
    with Image.open(animals / "train/ant/0.jpg") as expected:
        assert np.array_equal(image.permute(1, 2, 0), np.asarray(expected))
    assert torch.equal(train[-6][0], image)
    with pytest.raises(IndexError, match="index 6 is outside of 6 images"):
        train[6]
    assert train.broken == []


@pytest.mark.parametrize(
    ("name", "mode"), [("a.jpg", "L"), ("a.jpg", "CMYK"), ("a.png", "RGBA"), ("a.png", "L"), ("a.webp", "RGB")]
)
def test_every_kind_of_image_becomes_rgb(tmp_path: Path, name: str, mode: str) -> None:
    is_image(read_image(picture(tmp_path / name, 7, 9, 130, mode)), 7, 9)


def test_folders_that_are_not_as_expected_are_named(animals: Path, tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"no folder .*animals/test; .*animals has train, val. Expected: .*<class>"
    ):
        Folder(animals, "test")
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere/train"):
        Folder(tmp_path / "nowhere")
    picture(animals / "val" / "fox" / "0.jpg")
    with pytest.raises(ValueError, match=r"animals/val has classes that .*animals/train does not have: fox"):
        Folder(animals, "val")
    (animals / "train" / "gnu").mkdir()
    with pytest.raises(FileNotFoundError, match="no valid file for the classes gnu"):
        Folder(animals, "train")
    flat = tmp_path / "flat"
    picture(flat / "val" / "0.jpg")  # ImageNet's validation images as they come
    with pytest.raises(FileNotFoundError, match=r"class folder in .*flat/val.*Expected: .*<class>"):
        Folder(flat, "val")
    (tmp_path / "bare" / "train" / "a").mkdir(parents=True)
    (tmp_path / "bare" / "val" / "a").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="bare/val: there is no image in it"):
        Folder(tmp_path / "bare", "val")


# Files that cannot be read


def test_a_file_that_cannot_be_read_is_named(animals: Path) -> None:
    dataset = Folder(animals)
    damaged, text, gone = (Path(dataset.paths[i]) for i in (1, 2, 3))
    cut(damaged)
    text.write_text("<html>404</html>")
    gone.unlink()
    for index, path, reason in (
        (1, damaged, "truncated"),
        (2, text, "cannot be identified as an image"),
        (3, gone, "No such file"),
    ):
        with pytest.raises(BrokenFileError, match=f"animals/train: {path}: .*{reason}.* skip_broken=True") as raised:
            dataset[index]
        assert raised.value.path == str(path)
        assert reason in raised.value.reason
        assert raised.value.__cause__ is not None
    is_image(dataset[0][0], 40, 60)


def test_a_worker_passes_the_name_on(animals: Path) -> None:
    dataset = Folder(animals)
    cut(Path(dataset.paths[1]))
    with pytest.raises(BrokenFileError, match=str(dataset.paths[1])):
        list(DataLoader(dataset, batch_size=2, num_workers=1))
    error = pickle.loads(pickle.dumps(BrokenFileError("what", "where", "why")))
    assert str(error) == "what"


def test_skipping_leaves_out_and_reports(animals: Path) -> None:
    paths = Folder(animals).paths
    cut(Path(paths[1]))
    Path(paths[4]).write_text("no image")
    message = (
        rf"animals/train: 2 of 6 images are left out, they cannot be read: {paths[1]}: .*truncated.*; {paths[4]}: "
    )
    with pytest.warns(BrokenFilesWarning, match=message):
        dataset = Folder(animals, skip_broken=True)
    assert [path for path, _ in dataset.broken] == [paths[1], paths[4]]
    assert "truncated" in dataset.broken[0][1]
    assert len(dataset) == len(list(dataset)) == 4
    assert [label for _, label in dataset] == [0, 1, 1, 2]
    for index, item in enumerate((0, 2, 3, 5)):
        assert torch.equal(dataset[index][0], read_image(paths[item]))
    assert torch.equal(dataset[-1][0], read_image(paths[5]))
    with pytest.raises(IndexError, match="outside of 4 images"):
        dataset[4]
    labels = torch.cat([labels for _, labels in DataLoader(dataset, batch_size=3, num_workers=2)])
    assert labels.tolist() == [0, 1, 1, 2]


def test_skipping_reads_everything_once_until_a_file_changes(animals: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [Path(path) for path in Folder(animals).paths]
    whole = paths[1].read_bytes()
    cut(paths[1])
    scans = []
    scan = Folder._scan
    monkeypatch.setattr(Folder, "_scan", lambda self: scans.append(1) or scan(self))
    for _ in range(2):
        with pytest.warns(BrokenFilesWarning, match="1 of 6"):
            assert len(Folder(animals, skip_broken=True)) == 5
    assert len(scans) == 1
    paths[1].write_bytes(whole)
    assert len(Folder(animals, skip_broken=True)) == 6  # and no warning
    paths[2].unlink()  # not listed any more
    assert len(Folder(animals, skip_broken=True)) == 5
    assert len(scans) == 3


def test_many_broken_files_are_counted_and_none_left_is_an_error(animals: Path) -> None:
    paths = Folder(animals).paths
    for path in paths[:5]:
        cut(Path(path))
    with pytest.warns(BrokenFilesWarning, match=rf"5 of 6 .*{paths[2]}: [^;]*; and 2 more$"):
        Folder(animals, skip_broken=True)
    cut(Path(paths[5]))
    with (
        pytest.warns(BrokenFilesWarning, match="6 of 6"),
        pytest.raises(FileNotFoundError, match="there is no image in it that can be read"),
    ):
        Folder(animals, skip_broken=True)


# CIFAR-10


class SmallCIFAR10(vision.CIFAR10):
    """torchvision's reader with all its checks, for files of six images whose sums the test fills in."""

    train_list: ClassVar[list[list[str]]] = []
    test_list: ClassVar[list[list[str]]] = []
    meta: ClassVar[dict[str, str]] = {}


class AsPython2(pickle._Pickler):
    """Pickles byte strings as Python 2 did, in which CIFAR-10 was published."""

    dispatch: ClassVar[dict[type, Any]] = dict(pickle._Pickler.dispatch)

    def save_string(self, data: bytes) -> None:
        self.write(pickle.BINSTRING + len(data).to_bytes(4, "little") + data)
        self.memoize(data)

    dispatch[bytes] = save_string


class SmallCifar10(Cifar10):
    reader = SmallCIFAR10


NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


@pytest.fixture
def cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """CIFAR-10's Python version, as its authors pickled it: rows of 3,072 values, red first."""
    folder = tmp_path / "cifar" / "cifar-10-batches-py"
    folder.mkdir(parents=True)

    def write(name: str, content: dict[bytes, Any]) -> list[str]:
        stream = io.BytesIO()
        AsPython2(stream, protocol=2).dump(content)
        data = stream.getvalue()
        (folder / name).write_bytes(data)
        return [name, hashlib.md5(data).hexdigest()]

    def batch(name: str, seed: int) -> list[str]:
        rng = np.random.default_rng(seed)
        data = rng.integers(0, 255, (6, 3072), dtype=np.uint8)
        names = [f"{seed}_{i}.png".encode() for i in range(6)]
        labels = rng.integers(0, 10, 6).tolist()
        label = f"training batch {seed}".encode()
        return write(name, {b"batch_label": label, b"labels": labels, b"data": data, b"filenames": names})

    monkeypatch.setattr(SmallCIFAR10, "train_list", [batch(f"data_batch_{i}", i) for i in range(1, 6)])
    monkeypatch.setattr(SmallCIFAR10, "test_list", [batch("test_batch", 6)])
    name, digest = write("batches.meta", {b"num_cases_per_batch": 6, b"label_names": [n.encode() for n in NAMES]})
    monkeypatch.setattr(SmallCIFAR10, "meta", {"filename": name, "key": "label_names", "md5": digest})
    return tmp_path / "cifar"


def test_cifar_is_read_and_split(cifar: Path) -> None:
    train, val, test = (SmallCifar10(cifar, split, validation=8) for split in ("train", "val", "test"))
    assert (len(train), len(val), len(test)) == (22, 8, 6)
    assert train.classes == tuple(NAMES)
    assert train.num_classes == 10
    everything = [*train, *val, *test]
    rng = np.random.default_rng(2)  # the second batch
    data = rng.integers(0, 255, (6, 3072), dtype=np.uint8)
    labels = rng.integers(0, 10, 6).tolist()
    for row in range(6):
        image, label = everything[6 + row]
        is_image(image, 32, 32)
        assert np.array_equal(image.numpy().ravel(), data[row])
        assert type(label) is int
        assert label == labels[row]
    everything[0][0].zero_()
    assert train[0][0].any(), "an item is a copy"
    assert torch.equal(train[-1][0], everything[21][0])
    assert len(SmallCifar10(cifar, "train", validation=0)) == 30


def test_cifar_names_what_is_missing_or_damaged(cifar: Path) -> None:
    path = cifar / "cifar-10-batches-py" / "data_batch_4"
    data = path.read_bytes()
    path.write_bytes(data[:-1] + b"x")
    with pytest.raises(BrokenFileError, match=rf"{path}: does not have the MD5 [0-9a-f]{{32}}. Unpack cifar-10-python"):
        SmallCifar10(cifar)
    path.unlink()
    with pytest.raises(BrokenFileError, match=f"{path}: there is no such file") as raised:
        SmallCifar10(cifar)
    assert raised.value.path == str(path)
    with pytest.raises(FileNotFoundError, match=r"cifar-10-batches-py.*cifar-10-python.tar.gz, from https://"):
        Cifar10(cifar / "elsewhere")
    path.write_bytes(data)
    with pytest.raises(BrokenFileError, match="does not have the MD5 c99cafc152244af753f735de768cd75f"):
        Cifar10(cifar)  # the published sums hold for the published files


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"skip_broken": True}, "skip_broken must be False for CIFAR-10"),
        ({"validation": 30}, "validation must leave some of 30 training images, got 30"),
        ({"validation": -1}, "validation must be an integer >= 0"),
        ({"validation": True}, "validation must be an integer >= 0"),
        ({"split": "val", "validation": 0}, "split must be 'train' or 'test' for CIFAR-10 with validation=0"),
        ({"split": "all"}, "split must be one of"),
    ],
)
def test_cifar_refuses_what_it_cannot_do(cifar: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SmallCifar10(cifar, **{"validation": 5, **options})


# Pascal VOC


OBJECT = """<object><name>{name}</name><pose>Left</pose><truncated>0</truncated>{difficult}
<bndbox><xmin>{xmin}</xmin><ymin>{ymin}</ymin><xmax>{xmax}</xmax><ymax>{ymax}</ymax></bndbox>{part}</object>"""
ANNOTATION = """<annotation><folder>VOC2012</folder><filename>{name}.jpg</filename>
<size><width>30</width><height>20</height><depth>3</depth></size><segmented>1</segmented>{objects}</annotation>"""
PART = "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>"


def voc_object(name: str, *box: float, difficult: str = "<difficult>0</difficult>", part: str = "") -> str:
    sides = dict(zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
    return OBJECT.format(name=name, difficult=difficult, part=part, **sides)


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """Three images of 20×30 pixels with palette masks and annotations, in VOC 2012's layout."""
    base = tmp_path / "voc" / "VOCdevkit" / "VOC2012"
    objects = {
        "2007_000001": voc_object("dog", 6, 3, 15, 12) + voc_object("person", 1, 1, 30, 20, part=PART),
        "2007_000002": voc_object("cat", 2.5, 3, 9, 9, difficult="<difficult>1</difficult>"),
        "2007_000003": "",
    }
    for number, (name, content) in enumerate(objects.items()):
        picture(base / "JPEGImages" / f"{name}.jpg", value=40 * number)
        values = np.zeros((20, 30), dtype=np.uint8)
        values[2:12, 5:15] = 12  # the dog's box, in pixels from 0
        values[2, 5:15] = 255
        mask = Image.fromarray(values).convert("P")
        mask.putdata(values.ravel().tolist())
        mask.putpalette(np.random.default_rng(0).integers(0, 255, 768, dtype=np.uint8).tolist())
        (base / "SegmentationClass").mkdir(exist_ok=True)
        mask.save(base / "SegmentationClass" / f"{name}.png")
        (base / "Annotations").mkdir(exist_ok=True)
        (base / "Annotations" / f"{name}.xml").write_text(ANNOTATION.format(name=name, objects=content))
    for kind in ("Segmentation", "Main"):
        (base / "ImageSets" / kind).mkdir(parents=True)
        (base / "ImageSets" / kind / "train.txt").write_text("2007_000002\n2007_000001\n")
        (base / "ImageSets" / kind / "val.txt").write_text("2007_000003\n")
    return tmp_path / "voc"


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
    plain = Voc(voc, "val", "detection", difficult=True)[0][1]
    assert (plain["labels"].tolist(), plain["iscrowd"].tolist()) == ([8], [False])
    assert set(Voc(voc, "val", "detection", evaluation=False)[1][1]) == {"boxes", "labels", "image_id"}
    assert Voc(voc, "train", "detection", evaluation=True)[0][1]["iscrowd"].tolist() == [True]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("<annotation><object>", "no element found"),
        (ANNOTATION.format(name="x", objects=voc_object("unicorn", 1, 1, 5, 5)), "unicorn|not in tuple"),
        (
            ANNOTATION.format(name="x", objects=voc_object("cat", 31, 1, 35, 5)),
            "a box is empty within the image of 30×20",
        ),
        (ANNOTATION.format(name="x", objects="<object><name>cat</name></object>"), "has no 'bndbox'"),
        ("<html></html>", "has no 'annotation'"),
    ],
)
def test_voc_annotations_that_cannot_be_used_are_named(voc: Path, content: str, reason: str) -> None:
    path = voc / "VOCdevkit/VOC2012/Annotations/2007_000001.xml"
    path.write_text(content)
    with pytest.raises(BrokenFileError, match=f"VOC 2012 train, detection: {path}: .*({reason})"):
        Voc(voc, "train", "detection")[1]
    with pytest.warns(BrokenFilesWarning, match="1 of 2"):
        dataset = Voc(voc, "train", "detection", skip_broken=True)
    assert len(dataset) == 1
    assert dataset[0][1]["image_id"] == 0


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


# COCO


def square(left: float, top: float, side: float) -> list[list[float]]:
    return [[left, top, left + side, top, left + side, top + side, left, top + side]]


def thing(number: int, image: int, category: int, box: list[float], **changes: Any) -> dict[str, Any]:
    left, top, width, height = box
    outline = [[left, top, left + width, top, left + width, top + height, left, top + height]]
    about = {"id": number, "image_id": image, "category_id": category, "bbox": box, "area": width * height}
    return {**about, "iscrowd": 0, "segmentation": outline, **changes}


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """Five images of 50×60 pixels, listed out of order, with crowds, overlaps, slivers and nothing at all."""
    root = tmp_path / "coco"
    crowd = np.zeros((50, 60), dtype=np.uint8, order="F")
    crowd[30:50, 0:60] = 1
    counts, last = [0], 0  # of zeros, of ones, of zeros, and so on down the columns
    for value in crowd.ravel(order="F").tolist():
        counts += [0] * (value != last)
        counts[-1] += 1
        last = value
    rle = {"size": [50, 60], "counts": counts}
    annotations = [
        thing(1, 42, 18, [10, 10, 35, 35]),  # dog
        thing(2, 42, 1, [30, 5, 25.5, 30]),  # person, over the dog
        thing(3, 42, 27, [0, 0, 20, 20]),  # backpack, which VOC does not have
        thing(4, 42, 1, [0, 30, 60, 20], iscrowd=1, segmentation=rle, area=1200),
        thing(5, 7, 3, [50, 40, 30, 30]),  # car, beyond the edge
        thing(6, 7, 3, [5, 5, 0, 9]),  # without width
        thing(7, 9, 62, [5, 5, 1, 40]),  # chair, a pixel wide
        thing(8, 11, 27, [5, 5, 40, 40]),  # backpack alone
    ]
    images = [
        {"id": number, "file_name": f"{number:012d}.jpg", "height": 50, "width": 60} for number in (42, 7, 9, 11, 8)
    ]
    names = {1: "person", 3: "car", 18: "dog", 27: "backpack", 62: "chair"}
    categories = [{"id": number, "name": name} for number, name in names.items()]
    for split in ("train", "val"):
        for about in images:
            picture(root / f"{split}2017" / str(about["file_name"]), 50, 60, int(str(about["id"])))
        listing = root / "annotations" / f"instances_{split}2017.json"
        listing.parent.mkdir(exist_ok=True)
        listing.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return root


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
    pairs = {
        1: "person",
        18: "dog",
        3: "car",
        62: "chair",
        17: "cat",
        72: "tvmonitor",
        5: "aeroplane",
        64: "pottedplant",
    }
    assert len(VOC_CATEGORIES) == len(VOC_CLASSES) == 21
    for category, name in pairs.items():
        assert VOC_CLASSES[VOC_CATEGORIES.index(category)] == name


def test_coco_files_are_named(coco: Path) -> None:
    path = coco / "train2017" / "000000000042.jpg"
    cut(path)
    with pytest.raises(BrokenFileError, match=rf"COCO train2017, detection: {path}: .*skip_broken"):
        Coco(coco)[2]
    with pytest.warns(BrokenFilesWarning, match="1 of 3"):
        assert [target["image_id"] for _, target in Coco(coco, skip_broken=True)] == [7, 11]
    picture(path, 50, 61)
    with pytest.raises(BrokenFileError, match=rf"{path}: is of \(50, 61\) pixels, its annotations of \(50, 60\)"):
        Coco(coco)[2]
    listing = coco / "annotations" / "instances_train2017.json"
    content = json.loads(listing.read_text())
    content["annotations"][4]["bbox"] = [1, 2, 3]
    listing.write_text(json.dumps(content))
    with pytest.raises(BrokenFileError, match=rf"{listing}: the objects of 000000000007.jpg: "):
        Coco(coco)[0]
    listing.write_text('{"images": [')
    with pytest.raises(BrokenFileError, match=rf"{listing}: Expecting value"):
        Coco(coco, skip_broken=True)
    listing.write_text('{"images": [], "annotations": []}')
    with pytest.raises(BrokenFileError, match=rf"{listing}: has no 'categories'"):
        Coco(coco)
    listing.unlink()
    with pytest.raises(FileNotFoundError, match=rf"no file {listing}. Expected: "):
        Coco(coco)
    with pytest.raises(FileNotFoundError, match=r"no folder .*train2014; .*has annotations, train2017, val2017"):
        Coco(coco, year=2014)


# By recipe


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
    for (name, task), (train, val) in opened.items():
        assert train.classes == val.classes, name
        assert train.num_classes == len(train.classes)
        assert train.broken == []
        for image, target in [*train, *val]:
            is_image(image, *image.shape[-2:])
            size = tuple(image.shape[-2:])
            if task == "classification":
                assert type(target) is int
                assert 0 <= target < train.num_classes
            elif task == "segmentation":
                assert isinstance(target, tv_tensors.Mask)
                assert (target.dtype, tuple(target.shape)) == (torch.uint8, size)
                assert ((target < train.num_classes) | (target == 255)).all()
            else:
                assert list(target)[:3] == ["boxes", "labels", "image_id"]
                assert set(target) <= {"boxes", "labels", "image_id", "iscrowd", "area"}
                assert isinstance(target["boxes"], tv_tensors.BoundingBoxes)
                assert (target["boxes"].dtype, target["labels"].dtype) == (torch.float32, torch.int64)
                assert (target["boxes"].format.name, target["boxes"].canvas_size) == ("XYXY", size)
                assert ((target["labels"] > 0) & (target["labels"] < train.num_classes)).all()
                assert type(target["image_id"]) is int
    both_cropped = open_dataset(Data(options={"cache": False}, eval_size=40, eval_resize=48), "test")
    assert isinstance(both_cropped, DigitScenes)
    assert both_cropped.config.resolution == 48
    doubled = open_dataset(Data(name="folder", root=str(animals)), transform=lambda image, label: (image, 2 * label))
    assert [label for _, label in doubled] == [0, 2, 2, 2, 4, 4]


def test_a_recipe_says_what_it_skips(animals: Path) -> None:
    cut(Path(Folder(animals).paths[0]))
    with pytest.warns(BrokenFilesWarning, match="1 of 6") as warned:
        assert len(open_dataset(Data(name="folder", root=str(animals), skip_broken=True))) == 5
    assert len(warned) == 1


@pytest.mark.parametrize(
    ("data", "arguments", "error", "message"),
    [
        (Data(name="folder"), (), ValueError, "root must name the folder of 'folder', got None"),
        (Data(root="x"), (), ValueError, "root must be None for DigitScenes, .* got 'x'"),
        (Data(), ("dev",), ValueError, "split must be one of 'train', 'val', 'test', got 'dev'"),
        (
            Data(name="cifar10", root="x"),
            ("train", "detection"),
            ValueError,
            "task must be one of 'classification' for 'cifar10', got 'detection'",
        ),
        (Data(options={"colour": 1}), (), TypeError, "'digitscenes' has no option 'colour', only size, eval_images"),
        (
            Data(name="voc", root="x", options={"size": 1}),
            ("train", "detection"),
            TypeError,
            "'voc' has no option 'size'",
        ),
    ],
)
def test_recipes_that_make_no_sense_are_refused(
    data: Data, arguments: tuple[str, ...], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        open_dataset(data, *arguments)
