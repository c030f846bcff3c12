"""CIFAR-10 from its Python version."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch.utils.data import Dataset
from torchvision import datasets as vision
from torchvision import tv_tensors
from torchvision.datasets.utils import check_integrity

from mnv3lib._checks import boolean, non_negative_int, one_of
from mnv3lib.data.catalogue import VALIDATION
from mnv3lib.data.errors import BrokenFileError, needed_folder

__all__ = ["Cifar10"]


class Cifar10(Dataset[Any]):
    """CIFAR-10, 32×32 pixels, from its Python version in ``root/cifar-10-batches-py``; all of it is kept in memory.

    Args:
        split: ``"test"`` is the 10,000 test images; ``"val"`` the last ``validation`` of the 50,000 training images and
            ``"train"`` the others.
        validation: how many; 0 for none.
        skip_broken: refused if True: what is damaged here is 10,000 images in a file.

    Attributes:
        classes: names by label.
        num_classes: how many.
        broken: always empty; data sets of files have it.
        skipped: likewise.
        fingerprint: SHA-256 of the classes and all labels.

    Raises:
        BrokenFileError: naming the file that is missing or does not have the published MD5.
    """

    reader: ClassVar[type[vision.CIFAR10]] = vision.CIFAR10

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str = "train",
        *,
        validation: int = VALIDATION,
        transform: Callable[[Any, Any], Any] | None = None,
        skip_broken: bool = False,
    ) -> None:
        if boolean("skip_broken", skip_broken):
            raise ValueError("skip_broken must be False for CIFAR-10: each of its files holds 10,000 images")
        non_negative_int("validation", validation)
        one_of("split", split, ("train", "val", "test"))
        self.title = f"CIFAR-10 {split}"
        folder = Path(root).expanduser() / self.reader.base_folder
        needed_folder(folder, f"the files of {self.reader.filename}, from {self.reader.url}")
        listed = [
            *self.reader.train_list,
            *self.reader.test_list,
            (self.reader.meta["filename"], self.reader.meta["md5"]),
        ]
        for name, digest in listed:
            path = folder / name
            if not check_integrity(path, digest):
                reason = f"does not have the MD5 {digest}" if path.is_file() else "there is no such file"
                raise BrokenFileError(
                    f"{self.title}: {path}: {reason}. Unpack {self.reader.filename} again.", str(path), reason
                )
        found = self.reader(os.fspath(folder.parent), train=split != "test")
        images = torch.from_numpy(found.data).permute(0, 3, 1, 2).contiguous()
        labels = list(found.targets)
        if split != "test":
            rest = len(labels) - validation
            if rest < 1:
                raise ValueError(f"validation must leave some of {len(labels)} training images, got {validation}")
            part = slice(rest) if split == "train" else slice(rest, None)
            images, labels = images[part].clone(), labels[part]
        if not labels:
            raise ValueError("split must be 'train' or 'test' for CIFAR-10 with validation=0, got 'val'")
        self.images, self.labels = images, labels
        self.classes = tuple(found.classes)
        self.num_classes = len(self.classes)
        self.transform = transform
        self.broken: list[tuple[str, str]] = []
        self.skipped: list[tuple[str, str]] = []

    @cached_property
    def fingerprint(self) -> str:
        return hashlib.sha256(repr((self.classes, self.labels)).encode()).hexdigest()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        image, target = tv_tensors.Image(self.images[index].clone()), int(self.labels[index])
        return (image, target) if self.transform is None else self.transform(image, target)
