"""Pictures as arrays, checked once for all networks in the wild."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["pixels_of", "resized"]


def pixels_of(image: Any) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A Pillow image, or an array (H, W, 3) of bytes, as such an array, RGB.

    Raises:
        TypeError, ValueError: for an array of another shape or type, or without pixels.
    """
    pixels = np.array(image.convert("RGB") if hasattr(image, "convert") else image)
    if pixels.dtype != np.uint8:
        raise TypeError(f"image must be an image or an array of bytes (uint8), got {pixels.dtype}")
    if pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
        raise ValueError(f"image must have the shape (H, W, 3), H and W >= 1, got {pixels.shape}")
    return pixels


def resized(pixels: np.ndarray[Any, np.dtype[np.uint8]], size: tuple[int, int]) -> Tensor:
    """Bytes (H, W, 3) at another height and width, (1, 3, height, width) in float32, rounded to whole levels.

    Bilinear without smoothing, like OpenCV's, which computes it in fixed point, so that a pixel can differ by a level.
    """
    image = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float()
    return F.interpolate(image, size=size, mode="bilinear", align_corners=False).round()
