"""What DigitScenes is made from: handwriting and photographs that ship with scikit-learn, split before anything else.

The digits are the 1,797 of E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning
Repository, 1998: 8×8 counts from 0 to 16, written by 13 people. The two photographs, "china.jpg" and "flower.jpg", are
of 427×640 pixels (CC BY 2.0; authors in scikit-learn's ``datasets/images/README.txt``).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["GLYPH_SIDE", "GLYPH_STEP", "MARGIN", "REGIONS", "SPLITS", "WRITING", "Sources", "fingerprint", "sources"]

SPLITS = ("train", "val", "test")

#: First and last (excluded) digit of each split, in scikit-learn's order. The labels show that everybody filled in the
#: same form of about 128 digits ("0123456789" three times, then "0955650989…"); the cuts are where a form begins, so
#: no form is in two splits: 9, 2 and 3 of the 14 forms.
WRITING = {"train": (0, 1157), "val": (1157, 1415), "test": (1415, 1797)}

#: Pixels of a photograph that belong to no split, between each two regions.
MARGIN = 24

#: Rows and columns (top, bottom, left, right) of each photograph in each split: china is cut by columns, flower by
#: rows, so that each part of each has something to see.
REGIONS = {
    "train": ((0, 427, 0, 352), (0, 171, 0, 640)),
    "val": ((0, 427, 376, 496), (195, 299, 0, 640)),
    "test": ((0, 427, 520, 640), (323, 427, 0, 640)),
}

#: A glyph has this many pixels for each of the 8×8, and a rim of one of those that is empty.
GLYPH_STEP = 8
GLYPH_SIDE = GLYPH_STEP * 10


@dataclass(frozen=True, slots=True)
class Sources:
    """Handwriting and photographs of one split.

    Attributes:
        glyphs: (n, GLYPH_SIDE, GLYPH_SIDE) uint8, coverage by ink, 0 to 255.
        labels: (n,) uint8, the digit that was written.
        of_class: for each digit, which of ``glyphs`` show it.
        photos: two arrays (3, height, width) uint8.
    """

    glyphs: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    of_class: tuple[NDArray[np.intp], ...]
    photos: tuple[NDArray[np.uint8], ...]


def _catmull_rom() -> NDArray[np.int64]:
    """Weights (GLYPH_SIDE, 8) of the cubic interpolation of eight values, times 8192: whole numbers, so exact."""
    weights = np.zeros((GLYPH_SIDE, 8), dtype=np.int64)
    for place in range(GLYPH_SIDE):
        # The centre of this pixel, in sixteenths of one of the 8×8, from the centre of the first.
        sixteenths = 2 * (place - GLYPH_STEP) + 1 - GLYPH_STEP
        first, t = divmod(sixteenths, 16)
        cubic = (
            -(t**3) + 32 * t**2 - 256 * t,
            3 * t**3 - 80 * t**2 + 8192,
            -3 * t**3 + 64 * t**2 + 256 * t,
            t**3 - 16 * t**2,
        )
        for offset, weight in enumerate(cubic, start=-1):
            if 0 <= first + offset < 8:  # around the 8×8 there is no ink
                weights[place, first + offset] += weight
    return weights


def _glyphs(digits: NDArray[Any]) -> NDArray[np.uint8]:
    """Smooth glyphs from (n, 8, 8) counts of 0 to 16, made crisper: coverage below 1/4 is none, above 3/4 full."""
    weights = _catmull_rom()
    smooth = weights @ digits.astype(np.int64) @ weights.T
    full = 16 * 8192**2
    return np.clip((smooth * 2 - full // 2) * 255 // full, 0, 255).astype(np.uint8)


@cache
def _everything() -> tuple[NDArray[np.uint8], NDArray[np.uint8], tuple[NDArray[np.uint8], ...]]:
    from sklearn.datasets import load_digits, load_sample_images

    digits = load_digits()
    if digits.images.shape != (1797, 8, 8):
        raise RuntimeError(f"scikit-learn's digits should be 1797 of 8×8, these are {digits.images.shape}")
    photos = tuple(np.ascontiguousarray(photo.transpose(2, 0, 1)) for photo in load_sample_images().images)
    if [photo.shape for photo in photos] != [(3, 427, 640)] * 2:
        raise RuntimeError(f"scikit-learn's photographs should be two of 427×640, got {[p.shape for p in photos]}")
    return digits.images.astype(np.uint8), digits.target.astype(np.uint8), photos


@cache
def fingerprint() -> str:
    """SHA-256 of all source pixels: photographs that another JPEG decoder rounds otherwise are another source."""
    digits, labels, photos = _everything()
    total = hashlib.sha256()
    for array in (digits, labels, *photos):
        total.update(array.tobytes())
    return total.hexdigest()


@cache
def sources(split: str) -> Sources:
    """Handwriting and photographs of a split; made once in a process.

    Raises:
        ValueError: if ``split`` is not one of ``SPLITS``.
        ModuleNotFoundError: without scikit-learn.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(map(repr, SPLITS))}, got {split!r}")
    digits, labels, photos = _everything()
    first, last = WRITING[split]
    own = labels[first:last]
    regions = zip(photos, REGIONS[split], strict=True)
    return Sources(
        glyphs=_glyphs(digits[first:last]),
        labels=own,
        of_class=tuple(np.flatnonzero(own == digit) for digit in range(10)),
        photos=tuple(np.ascontiguousarray(p[:, top:bottom, left:right]) for p, (top, bottom, left, right) in regions),
    )
