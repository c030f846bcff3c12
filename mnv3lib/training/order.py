"""Which images come when, in which process, and with which random numbers: all of it a function of the position.

An epoch is a shuffle of all images that depends on the seed and the epoch alone. It is cut into steps, a step into
pieces, one for each process and accumulated batch, and both cuts are as even as they can be: no image is left out or
comes twice. Batch norm cannot learn from a batch of one, and the cut avoids it where it can (:func:`steps_per_epoch`).
Augmentation draws its random numbers from the seed, the epoch and the number of the image, so that an image looks the
same whichever process or worker prepares it. Where training stands is therefore two integers, epoch and step; there is
no state of a generator to lose.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch.utils.data import Dataset, Sampler

from mnv3lib._checks import positive_int

__all__ = ["Order", "Position", "Reproducible", "batch_norm_explained", "derive", "reseed", "steps_per_epoch"]

#: Which image, in which epoch.
Key = tuple[int, int]


def derive(*key: int | str) -> int:
    """Return a seed of 64 bits that depends on all of ``key``, the same on every machine.

    >>> derive(0, "order", 1) == derive(0, "order", 1) != derive(0, "order", 2)
    True
    """
    return int.from_bytes(hashlib.blake2b(repr(key).encode(), digest_size=8).digest(), "big")


def reseed(*key: int | str) -> None:
    """Seed Python's, NumPy's and torch's generators, those of the GPUs included, with :func:`derive`."""
    import numpy as np

    seed = derive(*key)
    random.seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)
    torch.default_generator.manual_seed(seed)  # torch.manual_seed is a hundred times slower, too slow for every image
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.manual_seed_all(seed)


def steps_per_epoch(images: int, batch_size: int, accumulate: int = 1) -> int:
    """How many steps an epoch is cut into: as few as ``batch_size`` allows.

    If that left an accumulated batch with a single image although ``batch_size`` gives each two or more, there are
    fewer, and some are larger than ``batch_size``: 3 images in batches of 2 make one step of 3, 5 make steps of 2 and
    3. The processes do not count, so that a run goes on with any number of them; each takes its part of every batch.
    """
    steps = -(-images // batch_size)
    if batch_size >= 2 * accumulate and images // steps < 2 * accumulate:
        return max(1, images // (2 * accumulate))
    return steps


@contextmanager
def batch_norm_explained(images: int) -> Iterator[None]:
    """Let batch norm's error about a batch of ``images`` say what helps."""
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise ValueError(
            f"batch norm has one value a channel to learn from, in a batch of {images} image(s): take more images, a "
            "larger batch_size, fewer parts (accumulate) or processes, or larger images (data.train_size)"
        ) from error


class Position(NamedTuple):
    """Where training stands: so many steps of an epoch are done, both counted from 0."""

    epoch: int
    step: int


@dataclass(frozen=True, kw_only=True)
class Order:
    """The order of the training images, and the part of it that one process takes.

    Args:
        images: number of training images.
        batch_size: most images in a step, over all processes and accumulated batches; see :func:`steps_per_epoch`.
        seed: of the shuffles.
        accumulate: batches a process handles one after the other before a step.
        rank: number of this process.
        world: number of processes.

    Raises:
        TypeError, ValueError: naming the argument, the value and the range; also if a step would leave a process
            without an image.
    """

    images: int
    batch_size: int
    seed: int = 0
    accumulate: int = 1
    rank: int = 0
    world: int = 1

    def __post_init__(self) -> None:
        for name in ("images", "batch_size", "accumulate", "world"):
            positive_int(name, getattr(self, name))
        if not 0 <= self.rank < self.world:
            raise ValueError(f"rank must be an integer from 0 to {self.world - 1}, got {self.rank!r}")
        if self.images // self.steps < self.pieces:
            raise ValueError(
                f"batch_size must leave every process an image at every step: {self.images} images in {self.steps} "
                f"steps are too few for {self.world} process(es) with {self.accumulate} batch(es) each, "
                f"got {self.batch_size}"
            )

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return steps_per_epoch(self.images, self.batch_size, self.accumulate)

    @property
    def pieces(self) -> int:
        """Batches that a step is made of, over all processes."""
        return self.world * self.accumulate

    def shuffled(self, epoch: int) -> list[int]:
        """All images in the order of an epoch."""
        generator = torch.Generator().manual_seed(derive(self.seed, "order", epoch))
        return torch.randperm(self.images, generator=generator).tolist()

    def bounds(self, step: int) -> tuple[int, int]:
        """Where in the epoch a step begins and ends."""
        return step * self.images // self.steps, (step + 1) * self.images // self.steps

    def size(self, step: int) -> int:
        """Images of a step, over all processes."""
        start, end = self.bounds(step)
        return end - start

    def batches(self, start: Position, epochs: int) -> Iterator[list[Key]]:
        """The batches of this process from a position to the end of training, ``accumulate`` of them a step."""
        for epoch in range(start.epoch, epochs):
            shuffled = self.shuffled(epoch)
            for step in range(start.step if epoch == start.epoch else 0, self.steps):
                first, end = self.bounds(step)
                for piece in range(self.rank * self.accumulate, (self.rank + 1) * self.accumulate):
                    low, high = (first + (end - first) * edge // self.pieces for edge in (piece, piece + 1))
                    yield [(epoch, image) for image in shuffled[low:high]]

    def sampler(self, start: Position, epochs: int) -> Sampler[list[Key]]:
        """The same for a :class:`~torch.utils.data.DataLoader`, as its ``batch_sampler``."""
        return _Batches(self, start, epochs)

    def of(self, rank: int) -> Order:
        """The part that another process takes."""
        return replace(self, rank=rank)


class _Batches(Sampler[list[Key]]):
    def __init__(self, order: Order, start: Position, epochs: int) -> None:
        self.order, self.start, self.epochs = order, start, epochs

    def __iter__(self) -> Iterator[list[Key]]:
        return self.order.batches(self.start, self.epochs)

    def __len__(self) -> int:
        done = self.start.epoch * self.order.steps + self.start.step
        return (self.epochs * self.order.steps - done) * self.order.accumulate


class Reproducible(Dataset[Any]):
    """A data set that is asked for ``(epoch, image)`` and draws all random numbers of an image from these two.

    Args:
        dataset: the images; its transforms may use Python's, NumPy's and torch's global generators.
        seed: of the random numbers.
    """

    def __init__(self, dataset: Any, seed: int) -> None:
        self.dataset, self.seed = dataset, seed

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: Key) -> Any:
        epoch, image = key
        reseed(self.seed, "image", epoch, image)
        return self.dataset[image]
