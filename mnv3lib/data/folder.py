"""Images in folders that are named after their classes."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Any

from torchvision import tv_tensors
from torchvision.datasets.folder import IMG_EXTENSIONS

from mnv3lib.data.errors import needed_folder
from mnv3lib.data.files import FileImages

__all__ = ["Folder"]

#: What operating systems and archives leave in folders besides hidden files; compared in lower case.
_CLUTTER_FOLDERS = ("__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found")
_CLUTTER_FILES = ("thumbs.db", "desktop.ini")

_Skipped = list[tuple[str, str]]


class Folder(FileImages):
    """Images in folders that are named after their classes: ``root/train/<class>/*.jpg``, ``root/val/…``.

    Labels follow the sorted names in ``root/train`` for every split, so that a split may lack a class. ImageNet has the
    same layout. Images may lie in folders within their class; their names end in ``.jpg``, ``.jpeg``, ``.png``,
    ``.ppm``, ``.bmp``, ``.pgm``, ``.tif``, ``.tiff`` or ``.webp``, in capitals or not.

    What does not belong to the data set is in ``skipped`` and warned of: hidden folders such as ``.ipynb_checkpoints``,
    and those of archives and systems such as ``__MACOSX``; hidden images; files whose names do not end as above; images
    beside the class folders; and links to folders that are in the data set anyway, which would double their images.
    ``.DS_Store`` and other hidden files, ``Thumbs.db`` and ``desktop.ini`` are not worth a word. Links to files, and to
    folders elsewhere, are followed.

    Args:
        root: folder of the splits.
        split: folder of this one.
        upright: turn photographs as cameras say in their EXIF data; False for the pixels as they are stored, as
            torchvision reads them.
        options: as of :class:`~mnv3lib.data.files.FileImages`.

    Attributes:
        paths: of the images.
        labels: of the images, broken ones included.

    Raises:
        FileNotFoundError: if the folders or the images are not there.
        ValueError: if a split has a class that ``train`` does not have, if two classes are links to one folder, or if
            the name of a class is not UTF-8.
    """

    def __init__(
        self, root: str | os.PathLike[str], split: str = "train", *, upright: bool = True, **options: Any
    ) -> None:
        layout = f"{root}/train/<class>/*.jpg, and the same for val and test"
        folder = needed_folder(Path(root).expanduser() / split, layout)
        train = folder.parent / "train"
        skipped: _Skipped = []
        own = _class_folders(folder, layout, skipped)
        classes = own if not train.is_dir() or train == folder else _class_folders(train, layout, [])
        unknown = [name for name in own if name not in classes]
        if unknown:
            raise ValueError(f"{folder} has classes that {train} does not have: {', '.join(unknown[:8])}")
        self.paths: list[str] = []
        self.labels: list[int] = []
        seen: set[str] = set()
        for name in own:
            found = _images(os.path.join(folder, name), os.path.realpath(folder), seen, skipped)
            self.paths += found
            self.labels += [classes.index(name)] * len(found)
        if split == "train":
            there = set(self.labels)
            empty = [name for label, name in enumerate(classes) if label not in there]
            if empty:
                raise FileNotFoundError(f"{folder} has no image of {', '.join(empty[:8])}. Expected: {layout}")
        super().__init__(
            f"{folder}",
            classes,
            [os.path.relpath(path, folder) for path in self.paths],
            lambda item: [self.paths[item]],
            skipped=skipped,
            upright=upright,
            **options,
        )

    def load(self, item: int) -> tuple[tv_tensors.Image, Any]:
        return self.read_image(self.paths[item]), self.labels[item]


def _is_image(name: str) -> bool:
    return name.lower().endswith(IMG_EXTENSIONS)


def _file_is_skipped(path: str, skipped: _Skipped, place: str = "") -> bool:
    """Whether a file is not an image of the data set; ``skipped`` says why, if that is worth a word."""
    name = os.path.basename(path)
    hidden = name.startswith(".")
    if _is_image(name):
        if hidden or place:
            skipped.append((path, "it is hidden" if hidden else place))
        return hidden or bool(place)
    if not hidden and name.lower() not in _CLUTTER_FILES:
        skipped.append((path, f"its name is not that of an image ({', '.join(IMG_EXTENSIONS)})"))
    return True


def _folder_is_skipped(path: str, skipped: _Skipped) -> bool:
    name = os.path.basename(path)
    if name.startswith(".") or name.lower() in _CLUTTER_FOLDERS:
        skipped.append((path, "it is hidden" if name.startswith(".") else "it is no class, but left by a system"))
        return True
    return False


def _class_folders(folder: Path, layout: str, skipped: _Skipped) -> list[str]:
    """The sorted names of the class folders."""
    with os.scandir(folder) as listed:
        entries = sorted(listed, key=lambda entry: entry.name)
    names: dict[str, str] = {}
    for entry in entries:
        if not entry.is_dir():
            _file_is_skipped(entry.path, skipped, "it is in no class folder")
        elif not _folder_is_skipped(entry.path, skipped):
            try:
                entry.name.encode()
            except UnicodeEncodeError:
                raise ValueError(f"the name of the class folder {entry.path!r} must be UTF-8: rename it") from None
            names[entry.name] = os.path.join(os.path.realpath(entry.path), "")
    for one, other in itertools.permutations(names, 2):
        if names[one].startswith(names[other]):
            raise ValueError(f"the class folders {one!r} and {other!r} in {folder} hold the same images, by a link")
    if not names:
        raise FileNotFoundError(f"there is no class folder in {folder}. Expected: {layout}")
    return list(names)


def _images(top: str, split: str, seen: set[str], skipped: _Skipped) -> list[str]:
    """The images below a class folder in the order of torchvision: by folder, then by name.

    Args:
        split: the real path of the split's folder; what is in it needs no link to be found.
        seen: real paths of the folders that were walked already; grows.
    """
    found: list[str] = []
    for folder, folders, files in os.walk(top, followlinks=True):
        seen.add(os.path.realpath(folder))
        kept = []
        for name in sorted(folders):
            path = os.path.join(folder, name)
            if _folder_is_skipped(path, skipped):
                continue
            real = os.path.realpath(path)
            around = os.path.join(split, "").startswith(os.path.join(real, ""))
            within = os.path.join(real, "").startswith(os.path.join(split, ""))
            if real in seen or (os.path.islink(path) and (around or within)):
                skipped.append((path, f"it is a link to {real}, which is in the data set already"))
            else:
                kept.append(name)
        folders[:] = kept
        for name in files:
            path = os.path.join(folder, name)
            if not _file_is_skipped(path, skipped):
                found.append(path)
    return sorted(found, key=os.path.split)
