"""Small folders in the real formats of data sets: image folders, CIFAR-10, Pascal VOC and COCO."""

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
from PIL import Image
from torchvision import datasets as vision
from torchvision import tv_tensors

from mnv3lib.data.cifar import Cifar10

#: pycocotools 2.0.11 hands its masks to NumPy in the way of NumPy 1.
OLD_ARRAYS = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


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


def make_animals(tmp_path: Path) -> Path:
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


def make_cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
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


OBJECT = """<object><name>{name}</name><pose>Left</pose><truncated>0</truncated>{difficult}
<bndbox><xmin>{xmin}</xmin><ymin>{ymin}</ymin><xmax>{xmax}</xmax><ymax>{ymax}</ymax></bndbox>{part}</object>"""
ANNOTATION = """<annotation><folder>VOC2012</folder><filename>{name}.jpg</filename>
<size><width>30</width><height>20</height><depth>3</depth></size><segmented>1</segmented>{objects}</annotation>"""
PART = "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>"


def voc_object(name: str, *box: float, difficult: str = "<difficult>0</difficult>", part: str = "") -> str:
    sides = dict(zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
    return OBJECT.format(name=name, difficult=difficult, part=part, **sides)


def make_voc(tmp_path: Path) -> Path:
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


def square(left: float, top: float, side: float) -> list[list[float]]:
    return [[left, top, left + side, top, left + side, top + side, left, top + side]]


def thing(number: int, image: int, category: int, box: list[float], **changes: Any) -> dict[str, Any]:
    left, top, width, height = box
    outline = [[left, top, left + width, top, left + width, top + height, left, top + height]]
    about = {"id": number, "image_id": image, "category_id": category, "bbox": box, "area": width * height}
    return {**about, "iscrowd": 0, "segmentation": outline, **changes}


def make_coco(tmp_path: Path) -> Path:
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
