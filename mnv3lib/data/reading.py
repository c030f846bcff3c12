"""Images and masks from files, as uint8 tensors."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torchvision import tv_tensors
from torchvision.transforms.v2.functional import pil_to_tensor

from mnv3lib.data.errors import broken

__all__ = ["VERSION", "read_image", "read_mask"]

#: Raised when other files than before can be read, or the same give other pixels.
VERSION = 2

#: Modes of 16-bit grey values, in either order of bytes.
_SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N")


def read_image(path: str | os.PathLike[str], *, upright: bool = False) -> tv_tensors.Image:
    """The image in a file as uint8 (3, H, W), of several frames or pages the first.

    Grey, palette and CMYK become RGB, transparency is ignored as torchvision ignores it, 16 bits a channel become 8 by
    scaling.

    Args:
        upright: turn the image as its EXIF orientation says, as viewers do; False for the pixels as they are stored,
            which published accuracies were measured on. An orientation that cannot be read turns nothing.

    Raises:
        BrokenFileError: if it is missing or cannot be decoded to its end, has more than Pillow's limit of pixels
            (``PIL.Image.MAX_IMAGE_PIXELS``, twice), or holds 32-bit values, of which nobody knows which is white.
    """
    file = Path(path)
    picture = _decoded(file, upright)
    if picture.mode in _SIXTEEN_BITS or (picture.mode == "I" and picture.format in ("PNG", "PPM")):
        # 65,535 is white; Pillow's own conversion cuts off at 255.
        grey = (np.asarray(picture).astype(np.uint32) * 255 + 32_767) // 65_535
        picture = Image.fromarray(grey.astype(np.uint8))
    elif picture.mode in ("I", "F"):
        raise broken(file, f"32-bit values (mode {picture.mode}) have no fixed white: store it with 8 or 16 bits")
    elif "transparency" in picture.info:
        picture = picture.convert("RGBA")  # otherwise Pillow warns of some palettes
    try:
        return tv_tensors.Image(pil_to_tensor(picture.convert("RGB")))
    except ValueError as error:  # of a mode that has no colours
        raise broken(file, error) from error


def read_mask(path: str | os.PathLike[str], classes: int, size: Sequence[int]) -> tv_tensors.Mask:
    """The class of each pixel in a file of grey or palette values as uint8 (H, W), 255 where there is none.

    Args:
        classes: how many, the background included.
        size: (H, W) that it must have.

    Raises:
        BrokenFileError: if it cannot be decoded, has other values, another size, or colours instead of classes.
    """
    picture = _decoded(Path(path), upright=False)
    if picture.mode not in ("P", "L"):
        raise broken(path, f"a mask has a palette or grey values, not mode {picture.mode}")
    values = np.array(picture)
    if values.shape != tuple(size):
        raise broken(path, f"the mask is of {values.shape} pixels, its image of {tuple(size)}")
    wrong = values[(values >= classes) & (values != 255)]
    if wrong.size:
        raise broken(path, f"class {wrong[0]} in a mask of classes 0 to {classes - 1} and 255")
    return tv_tensors.Mask(torch.from_numpy(values))


def _decoded(path: Path, upright: bool) -> Image.Image:
    try:
        with Image.open(path) as picture:
            picture.load()
            found = _turned(picture) if upright else picture.copy()
            found.format = picture.format
            return found
    except MemoryError:
        raise
    except UnidentifiedImageError as error:
        raise broken(path, _no_image(path)) from error
    except Exception as error:  # Pillow's decoders raise many kinds for damaged files, SyntaxError among them
        raise broken(path, error) from error


def _turned(picture: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(picture)
    except Exception:  # damaged EXIF in a sound image
        return picture.copy()


def _no_image(path: Path) -> str:
    with path.open("rb") as stream:
        start = stream.read(64)
    if not start:
        return "is empty"
    if start.startswith(b"version https://git-lfs."):
        return "is Git LFS's pointer to an image, not the image: fetch it with `git lfs pull`"
    return "cannot be identified as an image"
