"""Image files as people have them: of every mode, damaged, turned, empty."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datafiles import cut, is_image, picture
from PIL import Image

from mnv3lib.data import BrokenFileError
from mnv3lib.data.reading import read_image, read_mask

GREY16 = np.array([[0, 255, 256, 257, 32_768, 65_535]], dtype=np.uint16)
GREY8 = [0, 1, 1, 1, 128, 255]


@pytest.mark.parametrize(
    ("name", "mode"), [("a.jpg", "L"), ("a.jpg", "CMYK"), ("a.png", "RGBA"), ("a.png", "L"), ("a.webp", "RGB")]
)
def test_every_kind_of_image_becomes_rgb(tmp_path: Path, name: str, mode: str) -> None:
    is_image(read_image(picture(tmp_path / name, 7, 9, 130, mode)), 7, 9)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV"])
def test_every_mode_of_pillow_has_the_colours_that_pillow_shows(tmp_path: Path, mode: str) -> None:
    values = np.random.default_rng(0).integers(0, 255, (7, 9, 3), dtype=np.uint8)
    path = tmp_path / ("a.png" if mode in ("1", "L", "LA", "P", "RGBA") else "a.tif")
    if mode == "HSV":
        path = tmp_path / "a.png"
        Image.fromarray(values).convert("HSV").convert("RGB").save(path)
    elif mode == "LAB":
        Image.frombytes("LAB", (9, 7), values.tobytes()).save(path)
    else:
        Image.fromarray(values).convert(mode).save(path)
    with Image.open(path) as kept:
        expected = np.asarray(kept.convert("RGB"))
    assert np.array_equal(read_image(path).permute(1, 2, 0), expected)


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.pgm", "big-endian.tif"])
def test_sixteen_bits_of_grey_are_scaled_to_eight(tmp_path: Path, name: str) -> None:
    """Pillow's conversion to RGB would make everything above 255 white."""
    path = tmp_path / name
    if name == "a.pgm":
        path.write_bytes(b"P5 6 1 65535\n" + GREY16.astype(">u2").tobytes())
    elif name == "big-endian.tif":
        Image.frombytes("I;16B", (6, 1), GREY16.astype(">u2").tobytes()).save(path)
    else:
        Image.fromarray(GREY16).save(path)
    image = read_image(path)
    is_image(image, 1, 6)
    assert image[:, 0].tolist() == [GREY8] * 3


def png16(colour: int, values: np.ndarray) -> bytes:
    """A PNG of 16 bits a channel, which Pillow cannot write: colour 2 is RGB."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = values.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_sixteen_bits_of_colour_are_scaled_to_eight(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png16(2, np.array([[[0, 32_896, 65_535], [2570, 257, 514]]], dtype=np.uint16)))
    assert read_image(path)[:, 0].T.tolist() == [[0, 128, 255], [10, 1, 2]]


@pytest.mark.parametrize("mode", ["I", "F"])
def test_values_without_a_white_are_refused(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "a.tif"
    Image.new(mode, (6, 4), 70_000).save(path)
    with pytest.raises(BrokenFileError, match=rf"{path}: 32-bit values \(mode {mode}\) have no fixed white: st"):
        read_image(path)


def test_transparency_is_ignored_without_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putdata([0, 1])
    image.save(path, transparency=b"\x00\x80")
    assert read_image(path)[:, 0].T.tolist() == [[10, 20, 30], [40, 50, 60]]
    Image.new("RGBA", (1, 1), (1, 2, 3, 0)).save(path)
    assert read_image(path).flatten().tolist() == [1, 2, 3]


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.tif", "a.webp"])
def test_the_first_of_several_frames_is_read(tmp_path: Path, name: str) -> None:
    frames = [Image.new("RGB", (8, 6), colour) for colour in ((250, 0, 0), (0, 250, 0))]
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
    image = read_image(tmp_path / name)
    is_image(image, 6, 8)
    assert image[0].min() > 240
    assert image[1].max() < 10


#: What is to be done to an image that is stored so to see it as it was taken, by EXIF 2.32, tag 0x0112.
TURNS = {
    1: lambda a: a,
    2: lambda a: a.flip(-1),
    3: lambda a: a.rot90(2, (-2, -1)),
    4: lambda a: a.flip(-2),
    5: lambda a: a.transpose(-2, -1),
    6: lambda a: a.rot90(-1, (-2, -1)),
    7: lambda a: a.rot90(2, (-2, -1)).transpose(-2, -1),
    8: lambda a: a.rot90(1, (-2, -1)),
}


@pytest.mark.parametrize("orientation", TURNS)
def test_cameras_orientation_is_followed_if_asked(tmp_path: Path, orientation: int) -> None:
    values = np.random.default_rng(0).integers(0, 255, (3, 4, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "a.png"
    Image.fromarray(values).save(path, exif=exif)
    stored = torch.from_numpy(values).permute(2, 0, 1)
    assert torch.equal(read_image(path), stored)
    assert torch.equal(read_image(path, upright=True), TURNS[orientation](stored))


def test_sixteen_bits_are_scaled_when_turned_too(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(GREY16).save(tmp_path / "a.png", exif=exif)
    assert read_image(tmp_path / "a.png", upright=True)[0, :, 0].tolist() == GREY8


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data:UserWarning")
@pytest.mark.parametrize("data", [b"MM\0*\0\0\0\x08\xff\xff\x01\x12no orientation", b"no TIFF file", b""])
def test_damaged_exif_data_turn_nothing(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.jpg"
    Image.new("RGB", (4, 3)).save(path, exif=b"Exif\0\0" + data)
    is_image(read_image(path, upright=True), 3, 4)


def a_pointer(path: Path) -> None:
    path.write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 12345\n")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda path: path.unlink(), "No such file"),
        (lambda path: path.write_bytes(b""), "is empty"),
        (lambda path: path.write_text("<html>404</html>"), "cannot be identified as an image"),
        (a_pointer, "is Git LFS's pointer to an image, not the image: fetch it with `git lfs pull`"),
        (cut, "truncated|Truncated"),
        (lambda path: (path.unlink(), path.mkdir()), "Is a directory"),
        (lambda path: (path.unlink(), os.symlink("nowhere", path)), "No such file"),
    ],
)
@pytest.mark.parametrize("upright", [False, True])
def test_files_that_are_no_whole_image_are_named(tmp_path: Path, spoil: Any, reason: str, upright: bool) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)).save(path)
    spoil(path)
    with pytest.raises(BrokenFileError, match=f"^{path}: .*({reason})") as raised:
        read_image(path, upright=upright)
    assert raised.value.path == str(path)


def test_an_image_that_would_fill_the_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)
    with pytest.raises(BrokenFileError, match=r"a.png: Image size \(42 pixels\) exceeds limit of 40 pixels"):
        read_image(picture(tmp_path / "a.png", 6, 7))


@pytest.mark.parametrize("value", [0, 1, 3, 255])
def test_masks_have_classes_and_255(tmp_path: Path, value: int) -> None:
    mask = read_mask(picture(tmp_path / "a.png", 5, 4, value, "L"), 4, (5, 4))
    assert (mask.dtype, tuple(mask.shape), mask.unique().tolist()) == (torch.uint8, (5, 4), [value])


@pytest.mark.parametrize("value", [4, 254])
def test_masks_have_no_other_values(tmp_path: Path, value: int) -> None:
    with pytest.raises(BrokenFileError, match=f"class {value} in a mask of classes 0 to 3 and 255"):
        read_mask(picture(tmp_path / "a.png", 5, 4, value, "L"), 4, (5, 4))


def test_masks_are_not_turned(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("L", (4, 5), 1).save(tmp_path / "a.png", exif=exif)
    assert tuple(read_mask(tmp_path / "a.png", 4, (5, 4)).shape) == (5, 4)
