"""DigitScenes: the data set that comes with the book, made on the reader's machine from what scikit-learn ships.

Real handwriting on real photographs, with labels, boxes and masks from one generator. Writing and photographs are split
before anything is drawn (:mod:`mnv3lib.data.sources`): what the test shows, training never saw.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from functools import cached_property
from operator import index as as_index
from typing import TYPE_CHECKING, Any, Literal, Unpack

import numpy as np
import torch
from torch.utils.data import Dataset
from torchvision import tv_tensors

from mnv3lib._checks import one_of, positive_int
from mnv3lib.data import cache as store
from mnv3lib.data.render import NOTHING, VERSION, render
from mnv3lib.data.scene_config import COLOURS, LABELS, SIZE, SceneConfig, SceneOptions, record_type
from mnv3lib.data.sources import SPLITS, fingerprint

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["DigitScenes"]

Task = Literal["classification", "segmentation", "detection"]
Labels = Literal["digit", "parity", "colour"]


class DigitScenes(Dataset[Any]):
    """Handwritten digits on photographs.

    Image i of a split depends on the split, the seed, i and the parameters, and on nothing else: not on ``size``, the
    task, the order, the process or the number of workers. With the same source pixels (``sources.fingerprint()``: the
    photographs are JPEG files, and another decoder may round otherwise) the bytes are the same on every machine.

    Args:
        split: ``"train"``, ``"val"`` or ``"test"``; each has writing and photograph regions of its own.
        size: number of images.
        resolution: side of an image in pixels, from 16 to 4096.
        difficulty: from 0 (large, clear digits) to 1 (small, faint, turned and noisy ones).
        seed: from 0 to 2⁶³ − 1.
        task: decides the target, see below.
        labels: what the classes are: the ten digits, even or odd, or the six colours of ink.
        cache: folder for the images, which are made once; None for the one that the environment variable
            ``MNV3LIB_CACHE`` names or the system's own for caches; False to make each image whenever it is asked for.
        transform: called as ``transform(image, target)``, as transforms v2 of torchvision are, and returns both.
        progress: show a bar while the cache is made; None for one on a terminal only.
        scene: parameters that do not follow the difficulty, as in :class:`~mnv3lib.data.scene_config.SceneConfig`.
            ``digits`` is by default (1, 1) for classification, which must have one digit, and (1, 4) otherwise.

    ``dataset[i]`` is an image, ``tv_tensors.Image`` uint8 (3, H, W), and a target:

    * classification: the class as an int;
    * segmentation: ``tv_tensors.Mask`` uint8 (H, W), 0 for the photograph, k + 1 for class k;
    * detection: ``boxes`` (``tv_tensors.BoundingBoxes`` float32 (N, 4), XYXY in pixels), ``labels`` int64 (N,), k + 1
      for class k, and ``image_id``, which is i.

    Attributes:
        classes: names by label; for segmentation and detection the first is ``"background"``.
        num_classes: how many names.
        broken: always empty; data sets of files have it.
        skipped: likewise.
        fingerprint: SHA-256 of all that decides the scenes and their classes.
        config: all parameters of the scenes.
        records: (size,) the scenes as they are stored, see :func:`~mnv3lib.data.scene_config.record_type`; None if
            ``cache`` is False.

    Raises:
        TypeError, ValueError: for a parameter outside its range, naming it.
        OSError: if the cache cannot be written, naming the file.
    """

    def __init__(
        self,
        split: str = "train",
        *,
        size: int = SIZE,
        resolution: int = 64,
        difficulty: float = 0.0,
        seed: int = 0,
        task: Task = "classification",
        labels: Labels = "digit",
        cache: str | os.PathLike[str] | Literal[False] | None = None,
        transform: Callable[[Any, Any], Any] | None = None,
        progress: bool | None = None,
        **scene: Unpack[SceneOptions],
    ) -> None:
        self.split = one_of("split", split, SPLITS)
        self.size = positive_int("size", size)
        self.task = one_of("task", task, ("classification", "segmentation", "detection"))
        self.labels = one_of("labels", labels, LABELS)
        self.transform = transform
        if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)):
            raise TypeError(f"seed must be an integer from 0 to 2**63 - 1, got {seed!r}")
        if not 0 <= seed < 2**63:
            raise ValueError(f"seed must be an integer from 0 to 2**63 - 1, got {seed!r}")
        self.seed = int(seed)
        store.checked_folder(cache)
        if self.task != "classification":
            scene.setdefault("digits", (1, 4))
        self.config = SceneConfig.from_difficulty(difficulty, resolution=resolution, **scene)
        if self.task == "classification" and self.config.digits != (1, 1):
            raise ValueError(f"digits must be (1, 1) for classification, got {self.config.digits}")
        if self.labels == "colour" and self.config.hue % 60:
            raise ValueError(f"hue must be a multiple of 60 for colours to keep names, got {self.config.hue:g}")

        names = LABELS[self.labels]
        self.classes = names if self.task == "classification" else ("background", *names)
        self.num_classes = len(self.classes)
        self.broken: list[tuple[str, str]] = []
        self.skipped: list[tuple[str, str]] = []
        self._class_of = self._table()
        self._kind = record_type(self.config)
        self.records: NDArray[np.void] | None = None
        self._path = None
        if cache is not False:
            self.records, self._path = store.records(
                cache,
                f"digitscenes-{split}",
                self._key(),
                self._kind,
                self.size,
                self._make,
                progress=progress,
            )

    def _key(self) -> dict[str, Any]:
        """All that decides the scenes."""
        return {
            "version": VERSION,
            "sources": fingerprint(),
            "split": self.split,
            "seed": self.seed,
            "size": self.size,
            **self.config.as_dict(),
        }

    @cached_property
    def fingerprint(self) -> str:
        about = {**self._key(), "task": self.task, "classes": self.classes}
        return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()

    def _table(self) -> NDArray[np.uint8]:
        """The class of each digit in each colour, (10, 6)."""
        digits, colours = np.indices((10, len(COLOURS)), dtype=np.uint8)
        turned = (colours + round(self.config.hue / 60)) % len(COLOURS)  # the colour as it is seen
        return {"digit": digits, "parity": digits % 2, "colour": turned}[self.labels].astype(np.uint8)

    def _make(self, index: int) -> NDArray[np.void]:
        return render(self.config, self.split, self.seed, index)

    def __len__(self) -> int:
        return self.size

    def scene(self, index: int) -> Any:
        """The scene as it is stored: image, instances, digits, colours and boxes."""
        place = as_index(index)
        if not -self.size <= place < self.size:
            raise IndexError(f"index {place} is outside of {self.size} images")
        place %= self.size
        return self._make(place) if self.records is None else self.records[place]

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        scene = self.scene(index)
        image = tv_tensors.Image(torch.from_numpy(np.array(scene["image"])))
        target = self._target(scene, as_index(index) % self.size)
        return (image, target) if self.transform is None else self.transform(image, target)

    def _target(self, scene: Any, image_id: int) -> Any:
        here = scene["digits"] != NOTHING
        classes = self._class_of[scene["digits"][here], scene["colours"][here]]
        if self.task == "classification":
            return int(classes[0])
        labels = classes + 1
        if self.task == "segmentation":
            of_instance = np.concatenate([np.zeros(1, dtype=np.uint8), labels])
            return tv_tensors.Mask(torch.from_numpy(of_instance[scene["instances"]]))
        side = self.config.resolution
        boxes = torch.from_numpy(scene["boxes"][here].astype(np.float32))
        return {
            "boxes": tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=(side, side)),
            "labels": torch.from_numpy(labels.astype(np.int64)),
            "image_id": image_id,
        }

    def __getstate__(self) -> dict[str, Any]:
        """A worker process maps the file again instead of getting a copy of all images."""
        return {**self.__dict__, "records": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self._path is not None:
            self.records = store.open_records(self._path, self._kind, self.size)
