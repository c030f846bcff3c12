"""What all data sets made of files share: their items, and what happens to those that cannot be used."""

from __future__ import annotations

import hashlib
import json
import os
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from operator import index as as_index
from typing import Any, Literal

import numpy as np
from torch.utils.data import Dataset
from torchvision import tv_tensors

from mnv3lib._checks import boolean
from mnv3lib.data import reading
from mnv3lib.data.cache import checked_folder, remembered
from mnv3lib.data.errors import BrokenFileError, BrokenFilesWarning, SkippedFilesWarning, tell

__all__ = ["FileImages", "Transform"]

Transform = Callable[[Any, Any], Any]

_AT_A_TIME = 512  # items handed to the threads that read them; a million at once would fill the memory


def _encoded(path: str | os.PathLike[str]) -> bytes:
    """Also of names that are not UTF-8, which Python has as lone surrogates."""
    return os.fspath(path).encode("utf-8", "surrogatepass")


class FileImages(Dataset[Any]):
    """A data set whose items are read from files when they are asked for.

    Args:
        title: what it is, for messages, e.g. ``"VOC 2012 train"``.
        classes: names by label.
        names: of the items on disk, each with all that makes it this item, but not the folder of the data set.
        files: for an item, the files that it is read from.
        broken: (path, what is wrong) of entries that are found broken already and have no item.
        skipped: (path, why) of what does not belong to the data set.
        transform: called as ``transform(image, target)``; returns both.
        skip_broken: leave out items that cannot be read. Every file is then read once, when the data set is opened, so
            that its length and order are known and the same in every process: they are those of the readable items.
            What is found is kept in ``cache`` until a file's size or time of change is another.
        upright: turn images as their EXIF orientation says, see :func:`~mnv3lib.data.reading.read_image`.
        cache: folder for that, as of :class:`~mnv3lib.data.scenes.DigitScenes`; False to keep nothing.

    Attributes:
        num_classes: number of ``classes``.
        broken: (path, what is wrong) of each entry left out; empty without ``skip_broken``. There is one warning for
            all.
        skipped: (path, why) of each file and folder that does not belong to the data set. There is one warning for all.

    Raises:
        BrokenFileError: naming the file, by ``dataset[i]`` if it cannot be read, and without ``skip_broken`` at once if
            ``broken`` is not empty.
    """

    def __init__(
        self,
        title: str,
        classes: Sequence[str],
        names: Sequence[str],
        files: Callable[[int], Iterable[str | os.PathLike[str]]],
        *,
        broken: Sequence[tuple[str, str]] = (),
        skipped: Sequence[tuple[str, str]] = (),
        transform: Transform | None = None,
        skip_broken: bool = False,
        upright: bool = False,
        cache: str | os.PathLike[str] | Literal[False] | None = None,
    ) -> None:
        self.title = title
        self.classes = tuple(classes)
        self.num_classes = len(self.classes)
        self.transform = transform
        self.upright = boolean("upright", upright)
        self.broken: list[tuple[str, str]] = list(broken)
        self.skipped: list[tuple[str, str]] = list(skipped)
        self._names = names
        self._items: Sequence[int] = range(len(names))
        checked_folder(cache)
        if self.skipped:
            said = f"{title}: left out what does not belong to it ({len(self.skipped)})"
            tell(SkippedFilesWarning, said, self.skipped, stacklevel=3)
        if boolean("skip_broken", skip_broken):
            self._leave_out_broken(files, cache)
        elif self.broken:
            path, reason = self.broken[0]
            more = f"; and {len(self.broken) - 1} more broken entries" if len(self.broken) > 1 else ""
            raise BrokenFileError(
                f"{title}: {path}: {reason}{more}. Correct the file, or leave out what is broken with "
                "skip_broken=True.",
                path,
                reason,
            )
        if not len(self):
            raise FileNotFoundError(f"{title}: there is no image in it" + " that can be read" * bool(self.broken))

    @abstractmethod
    def load(self, item: int) -> tuple[tv_tensors.Image, Any]:
        """Image and target of an item on disk, or :class:`BrokenFileError`."""

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the classes and of what the items are called, in their order.

        It is another when an image or a class is added, removed or renamed, and stays when the folder moves. What is
        in the images is not in it.
        """
        total = hashlib.sha256(json.dumps(self.classes).encode())
        for item in self._items:
            total.update(_encoded(self._names[item]) + b"\0")
        return total.hexdigest()

    def read_image(self, path: str | os.PathLike[str]) -> tv_tensors.Image:
        """The image in a file, as this data set wants it."""
        return reading.read_image(path, upright=self.upright)

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
        self,
        files: Callable[[int], Iterable[str | os.PathLike[str]]],
        cache: str | os.PathLike[str] | Literal[False] | None,
    ) -> None:
        if cache is False:
            found = self._scan()
        else:
            key = {
                "version": reading.VERSION,
                "title": self.title,
                "classes": list(self.classes),
                "upright": self.upright,
                "files": self._state_of(files),
            }
            found = remembered(cache, "readable", key, self._scan)
        self.broken += [(path, reason) for _, path, reason in found]
        if self.broken:
            out = {item for item, _, _ in found}
            self._items = np.array([item for item in self._items if item not in out], dtype=np.int64).tolist()
            said = f"{self.title}: left out what is broken ({len(self.broken)}), kept {len(self)} image(s)"
            tell(BrokenFilesWarning, said, self.broken, stacklevel=4)

    def _state_of(self, files: Callable[[int], Iterable[str | os.PathLike[str]]]) -> str:
        """SHA-256 of the names, sizes and times of all files."""
        total = hashlib.sha256()
        for item in self._items:
            for path in files(item):
                total.update(_encoded(path))
                try:
                    about = os.stat(path)
                    total.update(f"\0{about.st_size}\0{about.st_mtime_ns}\0".encode())
                except (OSError, ValueError):  # a name with a zero byte is a ValueError
                    total.update(b"\0missing\0")
        return total.hexdigest()

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
