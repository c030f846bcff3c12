"""Drawing one scene of DigitScenes: handwriting, warped and inked, on a crop of a photograph.

A scene is a pure function of (parameters, split, seed, index). Its random numbers are the raw output of a Philox
counter, which NumPy keeps the same over its versions, keyed by seed and split and counted by index: no scene depends on
another, on their order or on a process. Its parameters are made with +, −, × and ÷ of doubles alone, which IEEE 754
rounds in one way only, and its pixels with whole numbers: no library function, sum or processor can round otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import cos, pi, sin, tan
from typing import TYPE_CHECKING

import numpy as np

from mnv3lib.data.scene_config import COLOURS, SceneConfig, record_type
from mnv3lib.data.sources import GLYPH_SIDE, GLYPH_STEP, SPLITS, Sources, sources

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["COLOURS", "NOTHING", "VERSION", "render"]

#: Raised whenever the same parameters give other pixels; a cache of another version is not used.
VERSION = 1

#: The colours of the inks, in the order of their names.
_INK = ((255, 0, 0), (255, 255, 0), (0, 255, 0), (0, 255, 255), (0, 0, 255), (255, 0, 255))

#: Stands for the digit and the colour where a scene has fewer digits than there is room for.
NOTHING = 255

_CROP = (48, 100)  # least and most side of a crop in pixels of the photograph
_FIXED = 1 << 16  # one, in fixed-point numbers


def _pick(numbers: Iterator[float], low: float, high: float) -> float:
    return low + (high - low) * next(numbers)


def _background(numbers: Iterator[float], photos: tuple[NDArray[np.uint8], ...], side: int) -> NDArray[np.int32]:
    """A crop of one of the photographs, resized bilinearly and perhaps mirrored, as (3, side, side)."""
    photo = photos[int(next(numbers) * len(photos))]
    _, height, width = photo.shape
    crop = _pick(numbers, _CROP[0], min(_CROP[1], height, width) - 1)
    places: list[NDArray[np.int64]] = []
    parts: list[NDArray[np.int32]] = []
    for length in (height, width):
        start = int(_pick(numbers, 0, length - 1 - crop) * _FIXED)
        at = start + np.arange(side, dtype=np.int64) * int(crop * _FIXED / side)
        places.append(at >> 16)
        parts.append((at >> 8 & 255).astype(np.int32))
    (rows, columns), (down, right) = places, parts
    strip = photo[:, :, columns[0] : columns[-1] + 2].astype(np.int32)
    lines: NDArray[np.int32] = strip[:, rows] * (256 - down)[:, None] + strip[:, rows + 1] * down[:, None]
    columns = columns - columns[0]
    values: NDArray[np.int32] = lines[:, :, columns] * (256 - right) + lines[:, :, columns + 1] * right
    values = (values + (1 << 15)) >> 16
    return values[:, :, ::-1].copy() if next(numbers) < 0.5 else values


def _cells(numbers: Iterator[float], count: int, side: int) -> list[tuple[float, float, float, float]]:
    """Divide the image into as many rectangles (left, top, right, bottom), always the largest in two."""
    cells = [(0.0, 0.0, float(side), float(side))]
    for _ in range(count - 1):
        left, top, right, bottom = cells.pop(max(range(len(cells)), key=lambda i: _area(cells[i])))
        part, upright = _pick(numbers, 0.4, 0.6), next(numbers) < 0.5
        if right - left > bottom - top or (right - left == bottom - top and upright):
            cut = left + part * (right - left)
            cells += [(left, top, cut, bottom), (cut, top, right, bottom)]
        else:
            cut = top + part * (bottom - top)
            cells += [(left, top, right, cut), (left, cut, right, bottom)]
    return cells


def _area(cell: tuple[float, float, float, float]) -> float:
    return (cell[2] - cell[0]) * (cell[3] - cell[1])


def _coverage(
    glyph: NDArray[np.uint8], inverse: tuple[float, float, float, float], centre: tuple[float, float], side: int
) -> tuple[slice, slice, NDArray[np.int32]]:
    """Where a warped glyph lies in the image, as rows and columns, and how far it covers each pixel there, 0 to 255.

    Args:
        inverse: the matrix ((a, b), (c, d)) that turns a step in the image into one in the glyph.
        centre: of the glyph in the image, (x, y).
    """
    a, b, c, d = inverse
    determinant = a * d - b * c
    reach = GLYPH_STEP * 4.5  # from the centre of a glyph to beyond its last ink
    slices = []
    for middle, extent in zip(centre, ((abs(d) + abs(b)), (abs(c) + abs(a))), strict=True):
        half = reach * extent / abs(determinant)
        slices.append(slice(max(int(middle - half), 0), min(int(middle + half) + 2, side)))
    columns, rows = slices
    x = np.arange(columns.stop - columns.start, dtype=np.int32)
    y = np.arange(rows.stop - rows.start, dtype=np.int32)[:, None]
    from_centre = (columns.start + 0.5 - centre[0], rows.start + 0.5 - centre[1])
    # One less than the last pixel: it and its neighbours are blank, so what lies outside is blank as well.
    ends = (0, (GLYPH_SIDE - 1) * _FIXED - 1)
    places, parts = [], []
    for along, across in ((a, b), (c, d)):
        start = GLYPH_SIDE / 2 - 0.5 + along * from_centre[0] + across * from_centre[1]
        at = (x * int(along * _FIXED) + int(start * _FIXED)) + y * int(across * _FIXED)
        np.clip(at, *ends, out=at)
        places.append(at >> 16)
        parts.append(at >> 8 & 255)
    place = places[1] * GLYPH_SIDE + places[0]
    flat = glyph.ravel().astype(np.int32)
    upper, lower = flat.take(place), flat.take(place + GLYPH_SIDE)
    upper = (upper << 8) + (flat.take(place + 1) - upper) * parts[0]
    lower = (lower << 8) + (flat.take(place + GLYPH_SIDE + 1) - lower) * parts[0]
    return rows, columns, ((upper << 8) + (lower - upper) * parts[1] + (1 << 15)) >> 16


def _write_digit(
    numbers: Iterator[float],
    config: SceneConfig,
    origin: Sources,
    cell: tuple[float, float, float, float],
    values: NDArray[np.int32],
    instances: NDArray[np.uint8],
    number: int,
) -> tuple[int, int]:
    """Draw a digit into its cell of ``values`` and ``instances``, and return the digit and its colour."""
    digit, colour = int(next(numbers) * 10), int(next(numbers) * len(COLOURS))
    chosen = origin.of_class[digit]
    glyph = origin.glyphs[chosen[int(next(numbers) * len(chosen))]]
    left, top, right, bottom = cell
    size = max(_pick(numbers, *config.scale) * min(right - left, bottom - top), 8.0)
    centre = (_pick(numbers, left + size / 2, right - size / 2), _pick(numbers, top + size / 2, bottom - size / 2))

    # With t the tangent of half the angle, (1 − t²) / (1 + t²) is its cosine and 2t / (1 + t²) its sine: no library's
    # sine, which may be another on another machine. The tangent of the limit is rounded for the same reason.
    limit = round(tan(config.rotation * pi / 360), 6)
    t = _pick(numbers, -limit, limit)
    cosine, sine = (1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)
    shear, width = _pick(numbers, -config.warp, config.warp), 1 + _pick(numbers, -config.warp, config.warp)
    step = 8 * GLYPH_STEP / size
    inverse = (
        step * (cosine / width + shear * -sine),
        step * (sine / width + shear * cosine),
        step * -sine,
        step * cosine,
    )
    rows, columns, coverage = _coverage(glyph, inverse, centre, config.resolution)

    behind = values[:, rows, columns]
    red, green, blue = (int(channel[::2, ::2].sum(dtype=np.int64)) for channel in behind)
    light = 77 * red + 150 * green + 29 * blue < (112 << 8) * behind[0, ::2, ::2].size
    strength, opacity = next(numbers), int(_pick(numbers, *config.contrast) * 256)
    # A light ink on dark ground is 50 to 65 % of the way from white to the colour, a dark one has 30 to 45 % of it.
    part = int(256 * (0.5 + 0.15 * strength)) if light else int(256 * (0.3 + 0.15 * strength))
    ink = [255 - ((255 - full) * part >> 8) if light else full * part >> 8 for full in _INK[colour]]
    mixed = np.array(ink, dtype=np.int32)[:, None, None] - behind
    mixed *= coverage * opacity
    mixed += 255 * 128
    mixed //= 255 * 256
    behind += mixed
    instances[rows, columns][coverage >= 128] = number
    return digit, colour


def _faded(values: NDArray[np.int32], saturation: float) -> NDArray[np.int32]:
    """Colours moved towards the grey of their brightness, with the weights of ITU-R BT.601 in 1/256."""
    red, green, blue = values
    grey = (77 * red + 150 * green + 29 * blue + 128) >> 8
    return grey + ((int(saturation * 256) * (values - grey) + 128) >> 8)


def _turn_colours(values: NDArray[np.int32], degrees: float) -> NDArray[np.int32]:
    """Turn all colours about the grey axis; the matrix is rounded to 1/4096, so that every machine has the same."""
    c, s = cos(degrees * pi / 180), sin(degrees * pi / 180)
    entries = [c + (1 - c) / 3, (1 - c) / 3 - s / 3**0.5, (1 - c) / 3 + s / 3**0.5]
    same, after, before = (round(4096 * entry) for entry in entries)
    red, green, blue = values
    turned = [
        same * x + after * y + before * z for x, y, z in ((red, green, blue), (green, blue, red), (blue, red, green))
    ]
    return np.clip((np.stack(turned) + 2048) >> 12, 0, 255)


def _blurred(values: NDArray[np.int32], passes: int) -> NDArray[np.int32]:
    """Filter with (1, 2, 1) / 4 along both axes so many times; each adds 1/2 to the variance."""
    for _ in range(passes):
        for axis in (1, 2):
            rim = [(0, 0), (0, 0), (0, 0)]
            rim[axis] = (1, 1)
            wide = np.pad(values, rim, mode="edge")
            before, after = (wide[:, :-2], wide[:, 2:]) if axis == 1 else (wide[:, :, :-2], wide[:, :, 2:])
            values = (before + 2 * values + after + 2) >> 2
    return values


def _noise(words: NDArray[np.uint64], count: int, deviation: float) -> NDArray[np.int32]:
    """So many values of about normal noise: each is the sum of four random bytes, of which eight make a word."""
    half, mask = len(words) // 2, np.uint64(0x00FF00FF00FF00FF)
    eight = np.uint64(8)
    first, second = words[:half], words[half:]
    sums = (first & mask) + ((first >> eight) & mask) + (second & mask) + ((second >> eight) & mask)
    four = sums.astype("<u8", copy=False).view("<u2")[:count].astype(np.int32)
    spread = (4 * (256**2 - 1) / 12) ** 0.5  # the square root, too, is rounded in one way only
    return ((four - 510) * int(deviation * 255 / spread * _FIXED) + _FIXED // 2) >> 16


def render(config: SceneConfig, split: str, seed: int, index: int) -> NDArray[np.void]:
    """One scene as a record of :func:`record_type`.

    Args:
        split: ``"train"``, ``"val"`` or ``"test"``.
        seed: from 0 to 2⁶³ − 1.
        index: from 0, without end: how many images a data set has makes no difference to any of them.

    Raises:
        ValueError: if ``split`` is none of these.
    """
    origin = sources(split)
    side, (fewest, most) = config.resolution, config.digits
    numbers_needed = 7 + 2 * (most - 1) + 11 * most  # of the scene, of its cells, of its digits
    # Four bytes for each value, eight bytes a word, two words at a time for four values.
    words_needed = 2 * -(-3 * side * side // 4) if config.noise else 0
    stream = np.random.Philox(key=[seed, SPLITS.index(split)], counter=[0, 0, 0, index])
    words = stream.random_raw(numbers_needed + words_needed)
    numbers = iter(((words[:numbers_needed] >> np.uint64(11)) * 2.0**-53).tolist())

    scene = np.zeros((), dtype=record_type(config))
    scene["digits"] = scene["colours"] = NOTHING
    instances = scene["instances"]
    count = fewest + int(next(numbers) * (most - fewest + 1))
    blur = config.blur * next(numbers)
    values = _background(numbers, origin.photos, side)
    if config.saturation < 1:
        values = _faded(values, config.saturation)
    for j, cell in enumerate(_cells(numbers, count, side)):
        digit, colour = _write_digit(numbers, config, origin, cell, values, instances, j + 1)
        scene["digits"][j], scene["colours"][j] = digit, colour
    for j in range(count):
        own = instances == j + 1
        for axis, (low, high) in ((0, (0, 2)), (1, (1, 3))):
            (places,) = own.any(axis).nonzero()
            scene["boxes"][j, [low, high]] = places[0], places[-1] + 1
    values = _blurred(values, int(2 * (blur * side) * (blur * side) + 0.5))
    if config.hue % 360:
        values = _turn_colours(values, config.hue)
    if config.noise:
        values = values + _noise(words[numbers_needed:], values.size, config.noise).reshape(values.shape)
    scene["image"] = np.clip(values, 0, 255)
    return scene
