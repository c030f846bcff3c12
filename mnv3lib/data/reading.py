"""What all data sets made of files share: reading an image, and what happens when a file cannot be read."""

from __future__ import annotations

import hashlib
import os
import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from operator import index as as_index
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.transforms.v2.functional import pil_to_tensor

from mnv3lib.data.cache import remembered

__all__ = ["BrokenFileError", "BrokenFilesWarning", "FileImages", "needed_folder", "read_image", "read_mask"]

Transform = Callable[[Any, Any], Any]

_AT_A_TIME = 512  # items handed to the threads that read them; a million at once would fill the memory


class BrokenFileError(RuntimeError):
    """A file of a data set is missing, damaged or not what it should be; the message names it.

    Attributes:
        path: of the file.
        reason: what is wrong with it.
    """

    # With one argument only: a loader makes an exception of a worker process anew from its message.
    def __init__(self, message: str, path: str = "", reason: str = "") -> None:
        super().__init__(message)
        self.path = path
        self.reason = reason or message


class BrokenFilesWarning(UserWarning):
    """Files were left out because they cannot be read, as ``skip_broken`` asks."""


def broken(path: str | os.PathLike[str], reason: object) -> BrokenFileError:
    """An error that names a file; the data set adds its own name and what to do."""
    said = reason.strerror if isinstance(reason, OSError) and reason.strerror else str(reason) or type(reason).__name__
    return BrokenFileError(f"{path}: {said}", str(path), said)


def needed_folder(path: Path, layout: str) -> Path:
    """Return ``path`` if it is a folder, and otherwise say what is expected there."""
    if not path.is_dir():
        there = ", ".join(sorted(entry.name for entry in path.parent.iterdir())[:8]) if path.parent.is_dir() else ""
        beside = f"; {path.parent} has {there}" if there else ""
        raise FileNotFoundError(f"there is no folder {path}{beside}. Expected: {layout}")
    return path


def _decoded(path: Path, mode: str | None) -> Image.Image:
    try:
        with Image.open(path) as picture:
            if mode is not None:
                return picture.convert(mode)
            picture.load()
            return picture.copy()
    except MemoryError:
        raise
    except UnidentifiedImageError as error:
        raise broken(path, "cannot be identified as an image") from error
    except Exception as error:  # Pillow's decoders raise many kinds for damaged files, SyntaxError among them
        raise broken(path, error) from error


def read_image(path: str | os.PathLike[str]) -> tv_tensors.Image:
    """The image in a file as uint8 (3, H, W); grey, palette and CMYK become RGB.

    Raises:
        BrokenFileError: if it is missing or cannot be decoded to its end.
    """
    return tv_tensors.Image(pil_to_tensor(_decoded(Path(path), "RGB")))


def read_mask(path: str | os.PathLike[str], classes: int, size: Sequence[int]) -> tv_tensors.Mask:
    """The class of each pixel in a file of grey or palette values as uint8 (H, W), 255 where there is none.

    Args:
        classes: how many, the background included.
        size: (H, W) that it must have.

    Raises:
        BrokenFileError: if it cannot be decoded, has other values, another size, or colours instead of classes.
    """
    picture = _decoded(Path(path), None)
    if picture.mode not in ("P", "L"):
        raise broken(path, f"a mask has a palette or grey values, not mode {picture.mode}")
    values = np.array(picture)
    if values.shape != tuple(size):
        raise broken(path, f"the mask is of {values.shape} pixels, its image of {tuple(size)}")
    wrong = values[(values >= classes) & (values != 255)]
    if wrong.size:
        raise broken(path, f"class {wrong[0]} in a mask of classes 0 to {classes - 1} and 255")
    return tv_tensors.Mask(torch.from_numpy(values))


class FileImages(Dataset[Any]):
    """A data set whose items are read from files when they are asked for.

    Args:
        title: what it is, for messages, e.g. ``"VOC 2012 train"``.
        classes: names by label.
        items: how many there are on disk.
        files: for an item, the files that it is read from.
        transform: called as ``transform(image, target)``; returns both.
        skip_broken: leave out items with a file that cannot be read. Every file is then read once, when the data set
            is opened, so that its length and order are known and the same in every process: they are those of the
            readable items. What is found is kept in ``cache`` until a file changes.
        cache: folder for that, as of :class:`~mnv3lib.data.scenes.DigitScenes`.

    Attributes:
        num_classes: number of ``classes``.
        broken: (path, what is wrong) of each item left out; empty without ``skip_broken``.

    Raises:
        BrokenFileError: by ``dataset[i]``, naming the file, if it cannot be read.
    """

    def __init__(
        self,
        title: str,
        classes: Sequence[str],
        items: int,
        files: Callable[[int], Iterable[str | os.PathLike[str]]],
        *,
        transform: Transform | None = None,
        skip_broken: bool = False,
        cache: str | os.PathLike[str] | None = None,
    ) -> None:
        self.title = title
        self.classes = tuple(classes)
        self.num_classes = len(self.classes)
        self.transform = transform
        self.broken: list[tuple[str, str]] = []
        self._items: Sequence[int] = range(items)
        if skip_broken:
            self._leave_out_broken(files, cache)
        if not len(self):
            raise FileNotFoundError(f"{title}: there is no image in it" + " that can be read" * bool(self.broken))

    @abstractmethod
    def load(self, item: int) -> tuple[tv_tensors.Image, Any]:
        """Image and target of an item on disk, or :class:`BrokenFileError`."""

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        place = as_index(index)
        if not -len(self) <= place < len(self):
            raise IndexError(f"index {place} is outside of {len(self)} images")
        try:
            image, target = self.load(int(self._items[place]))
        except BrokenFileError as error:
            raise BrokenFileError(
                f"{self.title}: {error.path}: {error.reason}. Restore the file, or leave out what cannot be read "
                "with skip_broken=True.",
                error.path,
                error.reason,
            ) from error
        return (image, target) if self.transform is None else self.transform(image, target)

    def _leave_out_broken(
        self, files: Callable[[int], Iterable[str | os.PathLike[str]]], cache: str | os.PathLike[str] | None
    ) -> None:
        digest = hashlib.sha256()
        for item in self._items:
            for path in files(item):
                try:
                    about = os.stat(path)
                    digest.update(f"{os.fspath(path)}\0{about.st_size}\0{about.st_mtime_ns}\0".encode())
                except OSError:
                    digest.update(f"{os.fspath(path)}\0missing\0".encode())
        key = {"title": self.title, "files": digest.hexdigest()}
        found = remembered(cache, "readable", key, self._scan)
        if found:
            self.broken = [(path, reason) for _, path, reason in found]
            out = {item for item, _, _ in found}
            self._items = np.array([item for item in self._items if item not in out], dtype=np.int64).tolist()
            first = "; ".join(f"{path}: {reason}" for path, reason in self.broken[:3])
            more = f"; and {len(found) - 3} more" if len(found) > 3 else ""
            warnings.warn(
                f"{self.title}: {len(found)} of {len(found) + len(self)} images are left out, they cannot be read: "
                f"{first}{more}",
                BrokenFilesWarning,
                stacklevel=4,
            )

    def _scan(self) -> list[tuple[int, str, str]]:
        """Read every item, and return number, path and reason of those that cannot be read."""
        from tqdm import tqdm

        def fault(item: int) -> tuple[int, str, str] | None:
            try:
                self.load(item)
            except BrokenFileError as error:
                return item, error.path, error.reason
            return None

        found: list[tuple[int, str, str]] = []
        with (
            ThreadPoolExecutor(min(os.cpu_count() or 1, 16)) as pool,
            tqdm(total=len(self._items), desc=f"reading {self.title}", unit="image", disable=None) as bar,
        ):
            for first in range(0, len(self._items), _AT_A_TIME):
                some = self._items[first : first + _AT_A_TIME]
                found += filter(None, pool.map(fault, some))
                bar.update(len(some))
        return found
