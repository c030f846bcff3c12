"""From a picture of a line of text to what the text direction classifier takes, as PaddleOCR prepares it."""

from __future__ import annotations

from math import ceil
from typing import Any

import torch
from torch import Tensor

from mnv3lib.wild.pixels import pixels_of, resized

__all__ = ["LINE_SIZE", "prepare_line"]

#: Height and width that the classifier was trained with.
LINE_SIZE = (48, 192)


def prepare_line(image: Any) -> Tensor:
    """A picture of a line as an input of :class:`mnv3lib.wild.TextDirection`.

    It is made 48 pixels high, as wide as its proportions say and 192 at most: a longer line is squeezed, the right of
    a shorter one is filled with the middle grey, which is 0. Then BGR, as OpenCV reads files, and (x / 255 - ½) / ½.
    The resizing is bilinear without smoothing, like OpenCV's, which computes it in fixed point, so that a pixel can
    differ by a grey level.

    Args:
        image: a Pillow image, or an array (H, W, 3) of bytes, RGB.

    Returns:
        (1, 3, 48, 192), float32, from -1 to 1.

    Raises:
        TypeError, ValueError: for an array of another shape or type, or without pixels.
    """
    pixels = pixels_of(image)
    height, widest = LINE_SIZE
    width = min(ceil(height * (pixels.shape[1] / pixels.shape[0])), widest)
    prepared = torch.zeros(1, 3, height, widest)
    prepared[..., :width] = (resized(pixels[..., ::-1], (height, width)) / 255 - 0.5) / 0.5
    return prepared
