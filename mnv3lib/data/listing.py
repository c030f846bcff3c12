"""A COCO listing of images, objects and categories, read with every entry checked; no torch.

pycocotools indexes what it is given: of two entries with one id the last wins, for both images. So nothing goes there
that has not been looked at.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from mnv3lib.data.errors import broken

__all__ = ["LARGEST_CATEGORY", "Listing", "read_listing"]

#: A category's number is its label, and a network has an output for every number up to the largest.
LARGEST_CATEGORY = 65_535

Entry = dict[str, Any]


@dataclass(frozen=True)
class Listing:
    """What a listing holds that can be used.

    Attributes:
        images: entries by id, in the listing's order.
        objects: for each of these ids its objects, in the listing's order, all with ``iscrowd`` and ``area``.
        categories: names by number, from 1.
        faults: in words, what is wrong with each broken entry. An image with one is not in ``images``.
        skipped: in words, what is left out and breaks nothing.
        digest: SHA-256 of the file.
    """

    images: dict[int, Entry]
    objects: dict[int, list[Entry]]
    categories: dict[int, str]
    faults: list[str]
    skipped: list[str]
    digest: str


def read_listing(path: Path, *, masks_of: Collection[int] | None = None) -> Listing:
    """Read a listing in COCO's form, UTF-8 or UTF-16, with or without a byte order mark.

    An image is left out, and told of in ``faults``, if its entry or that of one of its objects is broken:

    * an image needs an integer ``id`` and a ``file_name`` that no other has, and ``width`` and ``height`` in pixels;
    * an object needs an integer ``id`` that no other has, the ``image_id`` of an image, the ``category_id`` of a
      category, and a ``bbox`` of finite numbers [left, top, width, height], none of the sizes below 0, that lies at
      least in part within the image if it has an area. ``iscrowd`` is 0 if it is missing, ``area`` that of the box.

    Args:
        masks_of: categories whose objects need a ``segmentation``, polygons or run lengths, instead of the box; None
            if boxes are asked for.

    Raises:
        BrokenFileError: naming the file, if it is no listing, or its categories are not integers from 1 to
            ``LARGEST_CATEGORY`` with names, none of them twice. 0 is the background's: a category 0 is left out if it
            has no object, as tools write it, and refused if it has.
    """
    try:
        data = path.read_bytes()
        content = json.loads(data)
    except MemoryError:
        raise
    except Exception as error:  # of the disk, of the encoding, of the parser or of its depth
        raise broken(path, error) from error
    if not isinstance(content, dict):
        raise broken(path, f"is not a listing with images, annotations and categories, but {_short(content)}")
    for part in ("images", "annotations", "categories"):
        if part not in content:
            raise broken(path, f"has no {part!r}")
        if not isinstance(content[part], list):
            raise broken(path, f"{part!r} must be a list, got {_short(content[part])}")
    images, annotations = content["images"], content["annotations"]
    used = {
        entry.get("category_id") for entry in annotations if isinstance(entry, dict) and _is_int(entry, "category_id")
    }
    categories, skipped = _categories(path, content["categories"], used)
    good, faults = _images(images)
    objects = _objects(annotations, images, good, categories, masks_of, faults)
    return Listing(good, objects, categories, faults, skipped, hashlib.sha256(data).hexdigest())


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _is_int(entry: Entry, name: str) -> bool:
    value = entry.get(name)
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and isfinite(value)


def _must(entry: Entry, name: str, what: str) -> str:
    return f"{name} must be {what}, got {_short(entry[name])}" if name in entry else f"has no {name!r}"


def _categories(path: Path, entries: list[Any], used: set[Any]) -> tuple[dict[int, str], list[str]]:
    names: dict[int, str] = {}
    skipped = []
    for place, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise broken(path, f"category entry {place} must have an id and a name, got {_short(entry)}")
        if not _is_int(entry, "id") or not 0 <= entry["id"] <= LARGEST_CATEGORY:
            what = f"an integer from 1 to {LARGEST_CATEGORY}"
            raise broken(path, f"category entry {place}: {_must(entry, 'id', what)}")
        number, name = entry["id"], entry.get("name")
        if not isinstance(name, str) or not name:
            raise broken(path, f"category {number}: {_must(entry, 'name', 'text')}")
        if number == 0:
            if 0 in used:
                raise broken(
                    path,
                    f"category 0 is {name!r}, but 0 is the label of the background: number the categories from 1, "
                    "and the objects' category_id likewise",
                )
            skipped.append(f"category 0, {name!r}: it has no objects, and 0 is the background")
            continue
        if number in names:
            raise broken(path, f"category {number} is {names[number]!r} and {name!r}")
        names[number] = name
    for name, count in Counter(names.values()).items():
        if count > 1:
            numbers = " and ".join(str(number) for number, other in names.items() if other == name)
            raise broken(path, f"categories {numbers} are both {name!r}")
    if not names:
        raise broken(path, "has no category")
    return names, skipped


def _images(entries: list[Any]) -> tuple[dict[int, Entry], list[str]]:
    """The sound entries by id, and what is wrong with the others."""
    faults = []
    sound: list[Entry] = []
    for place, entry in enumerate(entries):
        fault = _image_fault(entry)
        if fault is None:
            sound.append(entry)
        else:
            faults.append(f"image {_title(entry, place)}: {fault}")
    numbers, files = Counter(entry["id"] for entry in sound), Counter(entry["file_name"] for entry in sound)
    for name, counted in (("id", numbers), ("file_name", files)):
        for value, count in counted.items():
            if count > 1:
                other = "file_name" if name == "id" else "id"
                having = ", ".join(_short(entry[other]) for entry in sound if entry[name] == value)
                faults.append(f"{count} images have the {name} {_short(value)}: {other} {having}")
    return {e["id"]: e for e in sound if numbers[e["id"]] == files[e["file_name"]] == 1}, faults


def _title(entry: Any, place: int) -> str:
    """What an entry is called: by its id, or by its position in the listing if it has none."""
    return str(entry["id"]) if isinstance(entry, dict) and _is_int(entry, "id") else f"entry {place}"


def _image_fault(entry: Any) -> str | None:
    if not isinstance(entry, dict):
        return f"must have an id, a file_name, width and height, got {_short(entry)}"
    if not _is_int(entry, "id"):
        return _must(entry, "id", "an integer")
    if not isinstance(entry.get("file_name"), str) or not entry["file_name"]:
        return _must(entry, "file_name", "text")
    for side in ("height", "width"):
        if not _is_int(entry, side) or entry[side] < 1:
            return _must(entry, side, "an integer >= 1")
    return None


def _objects(
    entries: list[Any],
    listed: list[Any],
    images: dict[int, Entry],
    categories: dict[int, str],
    masks_of: Collection[int] | None,
    faults: list[str],
) -> dict[int, list[Entry]]:
    """The objects of each image; images with a broken one leave ``images``, and ``faults`` says why."""
    known = {entry["id"] for entry in listed if isinstance(entry, dict) and _is_int(entry, "id")}
    times = Counter(entry["id"] for entry in entries if isinstance(entry, dict) and _is_int(entry, "id"))
    objects: dict[int, list[Entry]] = {number: [] for number in images}
    spoilt: set[int] = set()
    for place, entry in enumerate(entries):
        title = f"annotation {_title(entry, place)}"
        if not isinstance(entry, dict) or not _is_int(entry, "image_id"):
            if isinstance(entry, dict):
                faults.append(f"{title}: {_must(entry, 'image_id', 'an integer')}")
            else:
                faults.append(f"{title} must have an image_id, got {_short(entry)}")
            continue
        number = entry["image_id"]
        image = images.get(number)
        if image is None:
            if number not in known:
                faults.append(f"{title}: there is no image {number}")
            continue  # the image's own entry is broken, and told of
        fault = _object_fault(entry, image, times, categories, masks_of)
        if fault is None:
            entry.setdefault("iscrowd", 0)
            if "area" not in entry:
                entry["area"] = entry["bbox"][2] * entry["bbox"][3]
            objects[number].append(entry)
        else:
            faults.append(f"{title}, of image {image['file_name']}: {fault}")
            spoilt.add(number)
    for number in spoilt:
        del images[number], objects[number]
    return objects


def _object_fault(
    entry: Entry, image: Entry, times: Counter[int], categories: dict[int, str], masks_of: Collection[int] | None
) -> str | None:
    if not _is_int(entry, "id"):
        return _must(entry, "id", "an integer")
    if times[entry["id"]] > 1:
        return f"{times[entry['id']]} annotations have the id {entry['id']}"
    if not _is_int(entry, "category_id"):
        return _must(entry, "category_id", "an integer")
    if entry["category_id"] not in categories:
        return f"there is no category {entry['category_id']}"
    if entry.get("iscrowd", 0) not in (0, 1) or isinstance(entry.get("iscrowd", 0), float):
        return _must(entry, "iscrowd", "0 or 1")
    if "area" in entry and not (_is_number(entry["area"]) and entry["area"] >= 0):
        return _must(entry, "area", "a finite number >= 0")
    if masks_of is None or "area" not in entry:
        fault = _box_fault(entry, image)
        if fault is not None:
            return fault
    if masks_of is not None and entry["category_id"] in masks_of:
        return _segmentation_fault(entry, image)
    return None


def _box_fault(entry: Entry, image: Entry) -> str | None:
    box = entry.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)) or min(box[2:]) < 0:
        return _must(entry, "bbox", "four finite numbers, left, top, width >= 0 and height >= 0")
    left, top, width, height = box
    across, down = image["width"], image["height"]
    if width and height and (left >= across or top >= down or left + width <= 0 or top + height <= 0):
        return f"bbox {box} lies outside of the image of {across}×{down} pixels"
    return None


def _is_polygon(part: object) -> bool:
    return isinstance(part, list) and len(part) >= 6 and len(part) % 2 == 0


def _segmentation_fault(entry: Entry, image: Entry) -> str | None:
    outline = entry.get("segmentation")
    if isinstance(outline, dict):
        if outline.get("size") != [image["height"], image["width"]]:
            wanted = [image["height"], image["width"]]
            return f"segmentation must have the size {wanted}, got {_short(outline.get('size'))}"
        return None if outline.get("counts") else _must(entry, "segmentation", "run lengths with counts")
    if isinstance(outline, list) and outline and all(map(_is_polygon, outline)):
        return None
    return _must(entry, "segmentation", "polygons of three points or more, or run lengths")
