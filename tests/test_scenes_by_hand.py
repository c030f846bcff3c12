"""A second renderer, in floating point: the scenes of DigitScenes composed again from the same random numbers.

The library computes with whole numbers and without sines. This one has sines, a matrix inverse and means that are
weighted in doubles, and shares no line with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mnv3lib.data import DigitScenes
from mnv3lib.data.scene_config import SceneConfig
from mnv3lib.data.sources import Sources, sources

Floats = NDArray[np.float64]

INK = np.array([(255, 0, 0), (255, 255, 0), (0, 255, 0), (0, 255, 255), (0, 0, 255), (255, 0, 255)])


def draws(index: int, *, seed: int = 0, split: int = 0) -> Iterator[float]:
    """The numbers of a scene with one digit, from 0 up to 1."""
    stream = np.random.Philox(key=[seed, split], counter=[0, 0, 0, index])
    return iter(((stream.random_raw(18) >> np.uint64(11)) * 2.0**-53).tolist())


def between(low: float, high: float, numbers: Iterator[float]) -> float:
    return low + (high - low) * next(numbers)


def bilinear(image: Floats, y: Floats, x: Floats) -> Floats:
    """Values between four pixels, their mean weighted by nearness."""
    top, left = np.floor(y).astype(int), np.floor(x).astype(int)
    v, u = y - top, x - left
    above = (1 - u) * image[..., top, left] + u * image[..., top, left + 1]
    below = (1 - u) * image[..., top + 1, left] + u * image[..., top + 1, left + 1]
    mean: Floats = (1 - v) * above + v * below
    return mean


def background(numbers: Iterator[float], photos: tuple[Any, ...], side: int) -> Floats:
    photo = photos[int(next(numbers) * len(photos))].astype(float)
    crop = between(48, 99, numbers)
    y, x = (between(0, length - 1 - crop, numbers) for length in photo.shape[1:])
    steps = np.arange(side) * crop / side
    values = bilinear(photo, y + steps[:, None], x + steps)
    return values[..., ::-1] if next(numbers) < 0.5 else values


def warped(numbers: Iterator[float], glyph: Any, config: SceneConfig) -> tuple[Floats, tuple[slice, slice]]:
    """How far the glyph covers each pixel, and the rows and columns around it."""
    side = config.resolution
    size = between(*config.scale, numbers) * side
    centre = [between(size / 2, side - size / 2, numbers) for _ in "xy"]
    limit = np.tan(np.radians(config.rotation) / 2)
    angle = 2 * np.arctan(between(-limit, limit, numbers))
    shear = between(-config.warp, config.warp, numbers)
    width = 1 + between(-config.warp, config.warp, numbers)
    c, s = np.cos(angle), np.sin(angle)
    step = 64 / size * np.array([[1 / width, shear], [0, 1]]) @ [[c, s], [-s, c]]
    y, x = np.mgrid[:side, :side] + 0.5
    u, v = np.tensordot(step, [x - centre[0], y - centre[1]], 1) + 39.5
    cover = bilinear(glyph / 255, v.clip(0, 78.9), u.clip(0, 78.9))
    reach = np.abs(np.linalg.inv(step)).sum(1) * 36
    columns, rows = (slice(max(int(m - r), 0), min(int(m + r) + 2, side)) for m, r in zip(centre, reach, strict=True))
    return cover, (rows, columns)


def ink_for(numbers: Iterator[float], colour: int, ground: Floats) -> Floats:
    """Light on dark ground, dark on light ground."""
    luminance = ground[:, ::2, ::2].mean((1, 2)) @ [77, 150, 29] / 256
    part = 0.15 * next(numbers)
    ink: Floats = 255 - (255 - INK[colour]) * (0.5 + part) if luminance < 112 else INK[colour] * (0.3 + part)
    return ink


def compose(index: int, config: SceneConfig, origin: Sources) -> tuple[Floats, Floats, int]:
    """The image without noise, how far ink covers each of its pixels, and the digit."""
    numbers = draws(index)
    next(numbers), next(numbers)  # how many digits, how much blur
    photo = background(numbers, origin.photos, config.resolution)
    digit, colour = int(next(numbers) * 10), int(next(numbers) * 6)
    chosen = origin.of_class[digit]
    glyph = origin.glyphs[chosen[int(next(numbers) * len(chosen))]]
    cover, (rows, columns) = warped(numbers, glyph, config)
    ink = ink_for(numbers, colour, photo[:, rows, columns])
    a = cover * between(*config.contrast, numbers)
    return (1 - a) * photo + a * ink[:, None, None], cover, digit


@pytest.mark.parametrize("difficulty", [0.0, 1.0])
def test_another_program_makes_the_same_scenes(difficulty: float) -> None:
    made = DigitScenes(size=60, cache=False, difficulty=difficulty, noise=0.0, blur=0.0)
    train = sources("train")
    for index in range(len(made)):
        scene, (image, cover, digit) = made.scene(index), compose(index, made.config, train)
        assert digit == scene["digits"][0]
        assert np.abs(image - scene["image"]).max() < 3  # of 255
        assert ((cover >= 0.5) != scene["instances"].astype(bool)).sum() <= 2  # of 4,096 pixels
