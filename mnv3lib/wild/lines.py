"""From a picture of a line of text to what the text direction classifier takes, as PaddleOCR prepares it."""

from __future__ import annotations

from math import ceil
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

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
    pixels = np.array(image.convert("RGB") if hasattr(image, "convert") else image)
    if pixels.dtype != np.uint8:
        raise TypeError(f"image must be an image or an array of bytes (uint8), got {pixels.dtype}")
    if pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
        raise ValueError(f"image must have the shape (H, W, 3), H and W >= 1, got {pixels.shape}")
    height, widest = LINE_SIZE
    width = min(ceil(height * (pixels.shape[1] / pixels.shape[0])), widest)
    bgr = torch.from_numpy(pixels[..., ::-1].copy()).permute(2, 0, 1)[None].float()
    resized = F.interpolate(bgr, size=(height, width), mode="bilinear", align_corners=False).round()
    prepared = torch.zeros(1, 3, height, widest)
    prepared[..., :width] = (resized / 255 - 0.5) / 0.5
    return prepared
