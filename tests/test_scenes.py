"""DigitScenes: splits that share nothing, the same bytes everywhere, labels and masks that agree, a whole cache."""

from __future__ import annotations

import colorsys
import errno
import hashlib
import itertools
import json
import os
import pickle
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ledger import Deviation
from PIL import Image
from scipy.ndimage import map_coordinates, maximum_filter
from torch.utils.data import DataLoader
from torchvision import tv_tensors
from torchvision.transforms import v2

from mnv3lib._files import cache_folder
from mnv3lib.data import DigitScenes, SceneConfig, cache, render, scenes, sources
from mnv3lib.data.render import COLOURS, NOTHING

EASY = SceneConfig.from_difficulty(0)
HARD = SceneConfig.from_difficulty(1, digits=(1, 6), resolution=96)
FINGERPRINT = "b979fa394e72200bc2e23d7c355a9708cb87445c19a21383345247a44483faf9"

#: SHA-256 of the first 20 scenes of each split, seed 0.
DIGESTS = {
    ("easy", "train"): "0f125c28cbe24a2d1fb039d9204c2417f4860d7c00b8aa5cb6908d9bc559c1e2",
    ("easy", "val"): "2386a2c99a05f30bc9ad62dd20098d5130194286c9b07468d072985ed6a69acb",
    ("easy", "test"): "9dc06ff03f62e39b4481a1dd798780a82eae74ad58c34ce891cf017b2eb852ae",
    ("hard", "train"): "ccbacd68028ea9881a4e8bd7221cb50327edc7a401f5dedfdbd9cfec7c86e72f",
    ("hard", "val"): "50b61ca17653db7787900890f198a069871c7af56d7f90a05757b5b8f11dd6be",
    ("hard", "test"): "e0b46883bf9c41333fd036081821292f6ceffc541a0e4a33ef01e994d203d064",
}


def digest(config: SceneConfig, split: str, indices: Any = range(20)) -> str:
    total = hashlib.sha256()
    for index in indices:
        total.update(render.render(config, split, 0, index).tobytes())
    return total.hexdigest()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


# What is split


def test_no_digit_and_no_pixel_is_in_two_splits() -> None:
    spans = list(sources.WRITING.values())
    assert [place for span in spans for place in span] == [0, 1157, 1157, 1415, 1415, 1797]
    for first, second in itertools.combinations(sources.SPLITS, 2):
        for one, other in zip(sources.REGIONS[first], sources.REGIONS[second], strict=True):
            apart = max(one[0] - other[1], other[0] - one[1], one[2] - other[3], other[2] - one[3])
            assert apart >= sources.MARGIN, (first, second)


def test_each_split_begins_with_a_form_of_its_own() -> None:
    from sklearn.datasets import load_digits

    written = "".join(map(str, load_digits().target))
    form = "0123456789" * 3 + "0955650989"
    for first, _ in sources.WRITING.values():
        assert written[first : first + 40] == form


@pytest.fixture
def marked(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Sources in which every region has one colour, and train has blots where the others have dots."""
    _, labels, photos = sources._everything()
    digits = np.full((1797, 8, 8), 16, dtype=np.uint8)
    dot = np.zeros((8, 8), dtype=np.uint8)
    dot[3:5, 3:5] = 16
    digits[1157:] = dot
    painted = []
    for number, photo in enumerate(photos):
        photo = np.full_like(photo, 255)
        for value, split in enumerate(sources.SPLITS):
            top, bottom, left, right = sources.REGIONS[split][number]
            photo[:, top:bottom, left:right] = 50 + 50 * value
        painted.append(photo)
    monkeypatch.setattr(sources, "_everything", lambda: (digits, labels, tuple(painted)))
    sources.sources.cache_clear()
    yield
    sources.sources.cache_clear()


@pytest.mark.proves(
    "no background pixel of one split is seen in another",
    against="photographs painted by split: pixels of another split's colour in 600 scenes",
    tolerance=0,
    unit="count",
)
def test_backgrounds_come_from_their_own_region(marked: None, deviation: Deviation) -> None:
    bare = SceneConfig(contrast=(1e-6, 1e-6), noise=0, rotation=0)
    for value, split in enumerate(sources.SPLITS):
        images = np.stack([render.render(bare, split, 3, index)["image"] for index in range(200)])
        deviation(int((images != 50 + 50 * value).sum()))


def test_handwriting_comes_from_its_own_split(marked: None) -> None:
    plain = SceneConfig(scale=(0.8, 0.8), rotation=0, warp=0)
    for split in sources.SPLITS:
        areas = [(render.render(plain, split, 3, index)["instances"] > 0).sum() for index in range(100)]
        full = (0.8 * 64) ** 2
        assert (min(areas) > 0.9 * full) if split == "train" else (max(areas) < 0.2 * full)


# The same bytes everywhere


def test_the_sources_are_those_that_the_digests_belong_to() -> None:
    assert sources.fingerprint() == FINGERPRINT


@pytest.mark.parametrize(("name", "split"), DIGESTS)
def test_scenes_have_the_bytes_they_always_had(name: str, split: str) -> None:
    """If this is meant to change, raise render.VERSION."""
    assert digest({"easy": EASY, "hard": HARD}[name], split) == DIGESTS[name, split]


SCRIPT = """
import hashlib, sys
from mnv3lib.data.render import render
from mnv3lib.data.scene_config import SceneConfig
configs = {"easy": SceneConfig.from_difficulty(0), "hard": SceneConfig.from_difficulty(1, digits=(1, 6), resolution=96)}
for split in ("test", "val", "train"):
    for name, config in configs.items():
        scenes = {index: render(config, split, 0, index).tobytes() for index in reversed(range(20))}
        print(name, split, hashlib.sha256(b"".join(scenes[index] for index in range(20))).hexdigest())
assert "torch" not in sys.modules
"""


@pytest.mark.slow
@pytest.mark.proves(
    "images are the same bytes in every process, with and without the processor's vector instructions",
    against="SHA-256 of 120 scenes of two difficulties, made in another order",
    tolerance=0,
    unit="count",
)
@pytest.mark.parametrize("features", ["all", "fewest"])
def test_other_processes_make_the_same_bytes(features: str, deviation: Deviation) -> None:
    from numpy._core import _multiarray_umath as built  # which vector instructions this build may choose from

    optional = [name for name in built.__cpu_dispatch__ if built.__cpu_features__.get(name)]
    assert optional
    environment = {
        **os.environ,
        "PYTHONHASHSEED": "4711",
        **({"NPY_DISABLE_CPU_FEATURES": " ".join(optional)} if features == "fewest" else {}),
    }
    command = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    found = {tuple(line.split()[:2]): line.split()[2] for line in done.stdout.splitlines()}
    assert found.keys() == DIGESTS.keys()
    deviation(sum(found[name] != DIGESTS[name] for name in DIGESTS))


def test_a_scene_depends_on_its_index_seed_and_split_alone() -> None:
    forwards = [render.render(EASY, "train", 5, index).tobytes() for index in range(8)]
    np.random.seed(1)
    state = np.random.get_state()[1].copy()
    backwards = [render.render(EASY, "train", 5, index).tobytes() for index in reversed(range(8))]
    assert forwards == backwards[::-1]
    assert np.array_equal(np.random.get_state()[1], state)
    others = [render.render(EASY, *which).tobytes() for which in (("val", 5, 0), ("train", 6, 0), ("train", 5, 10**9))]
    assert len({*forwards, *others}) == 11


def test_size_task_labels_and_cache_change_no_image(folder: Path) -> None:
    options: dict[str, Any] = {"digits": (1, 1), "seed": 2}
    reference = [DigitScenes(size=4, cache=False, **options)[i][0] for i in range(4)]
    for changed in (
        {"size": 7, "cache": folder},
        {"size": 4, "task": "detection"},
        {"size": 4, "task": "segmentation"},
        {"size": 4, "labels": "colour"},
    ):
        dataset = DigitScenes(**{"cache": False, **options, **changed})
        assert all(torch.equal(dataset[i][0], reference[i]) for i in range(4)), changed


def test_noise_and_blur_move_no_digit() -> None:
    for changed in ({"noise": 0.0}, {"noise": 0.1}, {"blur": 0.05}, {"hue": 77.0}, {"saturation": 0.5}):
        other = SceneConfig.from_difficulty(0, **changed)
        for index in range(5):
            one, two = (render.render(config, "train", 0, index) for config in (EASY, other))
            assert np.array_equal(one["instances"], two["instances"])
            assert not np.array_equal(one["image"], two["image"])


# What is drawn


@pytest.mark.proves(
    "glyphs are the handwriting, interpolated by the cubic of Catmull and Rom",
    against="Pillow's bicubic resize in float32",
    tolerance=1.01,  # of 255: ours is rounded down
    unit="absolute",
)
def test_glyphs_are_smooth_handwriting(deviation: Deviation) -> None:
    from sklearn.datasets import load_digits

    images = load_digits().images
    glyphs = sources.sources("test").glyphs
    for number in range(0, 382, 19):
        padded = np.pad(images[1415 + number] / 16, 3).astype(np.float32)
        large = np.asarray(Image.fromarray(padded).resize((112, 112), Image.Resampling.BICUBIC))[16:-16, 16:-16]
        deviation(np.abs(np.clip(2 * large - 0.5, 0, 1) * 255 - glyphs[number]).max())


@pytest.mark.proves(
    "digits are warped as the matrix says",
    against="SciPy's map_coordinates in float64 on 200 random matrices",
    tolerance=1,  # of 255: coordinates are rounded to 1/256 of a pixel of the glyph
    unit="absolute",
)
def test_coverage_is_the_warped_glyph(deviation: Deviation) -> None:
    rng = np.random.default_rng(0)
    glyphs = sources.sources("train").glyphs
    y, x = np.mgrid[:64, :64] + 0.5
    for number in range(200):
        inverse = tuple((np.eye(2) * rng.uniform(1, 4) + rng.uniform(-1, 1, (2, 2))).ravel().tolist())
        centre = tuple(rng.uniform(10, 54, 2).tolist())
        rows, columns, coverage = render._coverage(glyphs[number], inverse, centre, 64)
        found = np.zeros((64, 64))
        found[rows, columns] = coverage
        a, b, c, d = inverse
        across, down = a * (x - centre[0]) + b * (y - centre[1]), c * (x - centre[0]) + d * (y - centre[1])
        expected = map_coordinates(glyphs[number].astype(float), [down + 39.5, across + 39.5], order=1)
        deviation(np.abs(found - expected).max())


def test_digits_are_turned_sheared_and_stretched_within_the_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    coverage = render._coverage

    def watched(glyph: Any, inverse: Any, centre: Any, side: int) -> Any:
        seen.append((np.array(inverse).reshape(2, 2), centre))
        return coverage(glyph, inverse, centre, side)

    monkeypatch.setattr(render, "_coverage", watched)
    turned = SceneConfig(scale=(0.5, 0.5), rotation=20, warp=0)
    for index in range(200):
        render.render(turned, "train", 0, index)
    step = sources.GLYPH_STEP * 8 / 32
    angles = []
    for inverse, (x, y) in seen:
        assert np.allclose(inverse @ inverse.T, step**2 * np.eye(2))
        assert np.linalg.det(inverse) > 0
        angles.append(np.degrees(np.arctan2(inverse[0, 1], inverse[0, 0])))
        assert 16 <= x <= 48
        assert 16 <= y <= 48
    assert -20 <= min(angles) < -18
    assert 18 < max(angles) <= 20

    seen.clear()
    warped = SceneConfig(scale=(0.5, 0.5), rotation=0, warp=0.3)
    for index in range(200):
        render.render(warped, "train", 0, index)
    inverses = np.stack([inverse for inverse, _ in seen]) / step
    assert (inverses[:, 1] == [0, 1]).all()
    widths, shears = 1 / inverses[:, 0, 0], inverses[:, 0, 1]
    for values, middle in ((widths, 1), (shears, 0)):
        assert middle - 0.3 <= values.min() < middle - 0.28
        assert middle + 0.28 < values.max() <= middle + 0.3


@pytest.mark.parametrize("config", [EASY, HARD, SceneConfig(resolution=16, scale=(0.1, 0.1), warp=0.5, rotation=90)])
def test_boxes_and_instances_agree(config: SceneConfig) -> None:
    counts = set()
    for index in range(300):
        scene = render.render(config, "train", 1, index)
        count = int((scene["digits"] != NOTHING).sum())
        counts.add(count)
        assert (scene["digits"][:count] < 10).all()
        assert (scene["colours"][:count] < 6).all()
        assert (scene["colours"][count:] == NOTHING).all()
        assert not scene["boxes"][count:].any()
        assert set(np.unique(scene["instances"])) == set(range(count + 1))
        for j, (left, top, right, bottom) in enumerate(scene["boxes"][:count].tolist()):
            assert 0 <= left < right <= config.resolution
            assert 0 <= top < bottom <= config.resolution
            own = scene["instances"] == j + 1
            assert own.sum() == own[top:bottom, left:right].sum()
            inner = own[top:bottom, left:right]
            assert inner[0].any() and inner[-1].any() and inner[:, 0].any() and inner[:, -1].any()  # noqa: PT018
    low, high = config.digits
    assert counts == set(range(low, high + 1))


def test_every_glyph_leaves_ink_at_the_smallest_size() -> None:
    for split in sources.SPLITS:
        for glyph in sources.sources(split).glyphs:
            _, _, coverage = render._coverage(glyph, (8.0, 0.0, 0.0, 8.0), (8.3, 7.9), 16)
            assert (coverage >= 128).sum() >= 5


def test_a_digit_keeps_its_part_of_the_frame_and_its_place_in_it() -> None:
    config = SceneConfig(resolution=128, scale=(0.5, 0.5), rotation=0, warp=0)
    boxes = np.stack([render.render(config, "train", 0, index)["boxes"][0] for index in range(200)])
    heights = boxes[:, 3] - boxes[:, 1]
    assert np.percentile(heights, 90) == pytest.approx(64, abs=6)  # the writing fills the 8×8 from top to bottom
    assert heights.max() <= 72
    middles = (boxes[:, :2] + boxes[:, 2:]) / 2
    assert middles.min() < 40
    assert middles.max() > 88


def test_classes_colours_and_both_photographs_come_up() -> None:
    drawn = [render.render(EASY, "train", 0, index) for index in range(600)]
    digits = np.bincount([scene["digits"][0] for scene in drawn], minlength=10)
    colours = np.bincount([scene["colours"][0] for scene in drawn], minlength=6)
    assert digits.min() > 35
    assert colours.min() > 65


def flat(monkeypatch: pytest.MonkeyPatch, value: int) -> None:
    """Replace the photographs by one grey."""
    own = sources.sources("train")
    grey = tuple(np.full_like(photo, value) for photo in own.photos)
    plain = sources.Sources(glyphs=own.glyphs, labels=own.labels, of_class=own.of_class, photos=grey)
    monkeypatch.setattr(render, "sources", lambda split: plain)


@pytest.mark.proves(
    "noise has the standard deviation that was asked for",
    against="the sample of 1.2 million values of a grey scene",
    tolerance=0.005,
    unit="relative to the largest",
)
@pytest.mark.parametrize("noise", [0.03, 0.1])
def test_noise_is_as_strong_as_it_says(noise: float, monkeypatch: pytest.MonkeyPatch, deviation: Deviation) -> None:
    flat(monkeypatch, 128)
    config = SceneConfig(noise=noise, contrast=(1e-6, 1e-6))
    values = np.stack([render.render(config, "train", 0, index)["image"] for index in range(100)]).astype(float)
    # Rounding to whole levels adds 1/12 to the variance.
    deviation(abs((values.var() - 1 / 12) ** 0.5 / (255 * noise) - 1))
    assert values.mean() == pytest.approx(128, abs=0.1)
    pairs = np.corrcoef([values[:, c, :, 1:].ravel() for c in range(3)] + [values[:, 0, :, :-1].ravel()])
    assert np.abs(pairs - np.eye(4)).max() < 0.01


@pytest.mark.parametrize(("grey", "brighter"), [(40, True), (220, False)])
def test_ink_stands_out_from_the_ground(grey: int, brighter: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    flat(monkeypatch, grey)
    config = SceneConfig(noise=0, contrast=(1, 1), digits=(1, 1))
    weights = np.array([0.299, 0.587, 0.114])[:, None]
    for index in range(60):
        scene = render.render(config, "train", 0, index)
        ink = scene["image"][:, scene["instances"] > 0]
        luminance = float((weights * ink).sum(0).mean())
        assert luminance > grey + 30 if brighter else luminance < grey - 50
        away = np.abs(scene["image"].astype(float) - grey).max(0)
        inked = scene["instances"] > 0  # where the ink covers half of the pixel, but for the rounding
        assert inked[away > 0.52 * away.max()].all()
        assert not inked[away < 0.48 * away.max()].any()
        name = COLOURS[scene["colours"][0]]
        strong = {"red": "r", "yellow": "rg", "green": "g", "cyan": "gb", "blue": "b", "magenta": "rb"}[name]
        means = dict(zip("rgb", ink.mean(1), strict=True))
        assert min(means[c] for c in strong) > max(means[c] for c in "rgb" if c not in strong) + 20
    faint = SceneConfig(noise=0, contrast=(0.5, 0.5))
    ratio = [np.abs(render.render(c, "train", 0, 4)["image"].astype(float) - grey).max() for c in (faint, config)]
    assert ratio[0] / ratio[1] == pytest.approx(0.5, abs=0.02)


def test_backgrounds_are_crops_in_proportion(monkeypatch: pytest.MonkeyPatch) -> None:
    ramp = np.broadcast_to(np.arange(250, dtype=np.uint8), (3, 300, 250)).copy()
    slopes, flipped = [], 0
    for index in range(200):
        numbers = iter(np.random.default_rng(index).random(5).tolist())
        values = render._background(numbers, (ramp,), 64)
        line = values[0, 0] if values[0, 0, -1] > values[0, 0, 0] else values[0, 0, ::-1]
        flipped += line is not values[0, 0] and values[0, 0, 0] > values[0, 0, -1]
        assert (values == values[0, 0]).all()
        assert np.abs(line - np.linspace(line[0], line[-1], 64)).max() <= 1
        slopes.append((int(line[-1]) - int(line[0])) * 64 / 63)
    assert 46 < min(slopes) < 55
    assert 92 < max(slopes) < 101
    assert 70 < flipped < 130


def test_hue_turns_colours() -> None:
    bare = SceneConfig(noise=0)
    image = render.render(bare, "train", 0, 0)["image"].astype(int)
    turned = {hue: render.render(SceneConfig(noise=0, hue=hue), "train", 0, 0)["image"] for hue in (120, 240, 360, 60)}
    assert np.array_equal(turned[360], image)
    assert np.array_equal(turned[120], image[[2, 0, 1]])  # what was red is green
    assert np.array_equal(turned[240], image[[1, 2, 0]])
    greyish = (image.max(0) - image.min(0) < 40) & (image.min(0) > 40) & (image.max(0) < 215)  # away from the clipping
    assert greyish.sum() > 100
    assert np.abs(turned[60].astype(int).mean(0) - image.mean(0))[greyish].max() < 1
    plain = [DigitScenes(size=30, labels="colour", cache=False)[i][1] for i in range(30)]
    shifted = DigitScenes(size=30, labels="colour", cache=False, hue=120)
    assert [shifted[i][1] for i in range(30)] == [(colour + 2) % 6 for colour in plain]


def test_inks_are_the_pure_colours() -> None:
    """Six sixths around the circle of hues, red first."""
    around = [colorsys.hsv_to_rgb(sixth / 6, 1, 1) for sixth in range(len(COLOURS))]
    assert [tuple(part / 255 for part in ink) for ink in render._INK] == around


def test_black_stays_black_and_white_stays_white() -> None:
    """Whatever the hue and the saturation; red, green and blue have 29.9, 58.7 and 11.4 % of white's brightness."""
    ends = np.array([[0, 255]] * 3, dtype=np.int32)[:, None]
    for hue in (60, 120, 77):
        assert np.array_equal(render._turn_colours(ends, hue), ends)
    for saturation in (0.0, 0.5, 1.0):
        assert np.array_equal(render._faded(ends, saturation), ends)
    colours = 255 * np.eye(3, dtype=np.int32)[:, None]
    assert np.abs(render._faded(colours, 0.0) - 255 * np.array([0.299, 0.587, 0.114])).max() < 1


def test_saturation_fades_the_photograph_alone() -> None:
    options = {"noise": 0.0, "contrast": (1, 1), "rotation": 0.0, "warp": 0.0}
    for index in range(5):
        scenes = {s: render.render(SceneConfig(saturation=s, **options), "train", 0, index) for s in (1.0, 0.5, 0.0)}
        images = {s: scene["image"].astype(int) for s, scene in scenes.items()}
        here = scenes[1.0]["instances"] > 0
        behind = render.render(SceneConfig(**options), "train", 0, index)["image"][:, ~here].T.reshape(-1, 1, 3)
        grey = np.asarray(Image.fromarray(np.ascontiguousarray(behind)).convert("L"), dtype=int)[:, 0]
        far = ~maximum_filter(here, 17)[~here]  # where ink ends, it is mixed with what is behind it
        assert far.sum() > 300
        assert np.abs(images[0.0][:, ~here] - grey)[:, far].max() <= 1
        half = (images[1.0][:, ~here] + grey) / 2
        assert np.abs(images[0.5][:, ~here] - half)[:, far].max() <= 1.5
        solid = (images[1.0] == images[0.0]).all(0) & here
        assert solid.sum() > 30
        ink = images[0.0][:, solid]
        assert (ink.max(0) - ink.min(0)).min() > 60


def test_blur_adds_the_variance_it_says() -> None:
    point = np.zeros((1, 41, 41), dtype=np.int32)
    point[0, 20, 20] = 1 << 20
    spread = render._blurred(point, 6)[0]
    places = np.arange(41) - 20
    assert (spread.sum(0) * places**2).sum() / spread.sum() == pytest.approx(3, rel=0.01)
    assert (spread.sum(1) * places**2).sum() / spread.sum() == pytest.approx(3, rel=0.01)


def test_difficulty_is_a_straight_line_with_exceptions() -> None:
    assert SceneConfig.from_difficulty(0) == SceneConfig()
    half = SceneConfig.from_difficulty(0.5, noise=0.2)
    assert (half.scale, half.contrast, half.rotation, half.noise) == ((0.45, 0.85), (0.575, 0.95), 22.5, 0.2)
    hard = SceneConfig.from_difficulty(1)
    assert hard.scale[0] < half.scale[0] < 0.6
    assert json.loads(json.dumps(hard.as_dict())) == hard.as_dict()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"split": "validation"}, ValueError, "split must be one of 'train', 'val', 'test', got 'validation'"),
        ({"size": 0}, ValueError, "size must be an integer >= 1, got 0"),
        ({"resolution": 15}, ValueError, "resolution must be an integer from 16 to 4096, got 15"),
        ({"resolution": 4097}, ValueError, "resolution must be an integer from 16 to 4096, got 4097"),
        ({"difficulty": 1.5}, ValueError, "difficulty must be a number from 0 to 1, got 1.5"),
        ({"seed": -1}, ValueError, "seed must be an integer from 0"),
        ({"seed": 1.0}, TypeError, "seed must be an integer from 0"),
        ({"task": "depth"}, ValueError, "task must be one of"),
        ({"labels": "writer"}, ValueError, "labels must be one of 'digit', 'parity', 'colour', got 'writer'"),
        ({"cache": True}, TypeError, "cache must be a folder"),
        ({"digits": (1, 2)}, ValueError, r"digits must be \(1, 1\) for classification"),
        ({"digits": (0, 2), "task": "detection"}, ValueError, "digits must be an integer >= 1, got 0"),
        ({"digits": (1, 17), "task": "detection"}, ValueError, "highest <= 16 at a resolution of 64"),
        ({"digits": 3, "task": "detection"}, TypeError, "digits must be two integers"),
        ({"scale": (0.9, 0.3)}, ValueError, "scale must be two numbers with 0 < lowest <= highest <= 1"),
        ({"scale": 0.9}, TypeError, "scale must be two numbers"),
        ({"contrast": (0, 1)}, ValueError, "contrast must be two numbers with 0 < lowest"),
        ({"noise": float("nan")}, ValueError, "noise must be a number from 0 to 1"),
        ({"blur": "1"}, TypeError, "blur must be a number from 0 to 0.1"),
        ({"rotation": 91}, ValueError, "rotation must be a number from 0 to 90"),
        ({"saturation": 1.1}, ValueError, "saturation must be a number from 0 to 1"),
        ({"hue": 50, "labels": "colour"}, ValueError, "hue must be a multiple of 60"),
        ({"colour": "red"}, TypeError, "there is no 'colour', only resolution, digits"),
    ],
)
def test_bad_parameters_are_named(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        DigitScenes(**{"cache": False, "size": 3, **options})


# The data set


def test_classification_gives_an_image_and_a_class() -> None:
    dataset = DigitScenes("val", size=5, resolution=40, cache=False)
    image, label = dataset[3]
    assert isinstance(image, tv_tensors.Image)
    assert (image.dtype, tuple(image.shape)) == (torch.uint8, (3, 40, 40))
    assert type(label) is int
    assert label == dataset.scene(3)["digits"][0]
    assert (dataset.classes, dataset.num_classes) == (tuple("0123456789"), 10)
    assert (dataset.broken, dataset.skipped) == ([], [])
    assert len(list(dataset)) == len(dataset) == 5
    assert torch.equal(dataset[-2][0], image)
    assert torch.equal(dataset[np.int64(3)][0], image)
    for index in (5, -6):
        with pytest.raises(IndexError, match=f"index {index} is outside of 5 images"):
            dataset[index]
    parity = DigitScenes("val", size=5, resolution=40, cache=False, labels="parity")
    assert [parity[i][1] for i in range(5)] == [dataset[i][1] % 2 for i in range(5)]


def test_the_fingerprint_is_that_of_all_that_decides_the_scenes(folder: Path) -> None:
    plain: dict[str, Any] = {"size": 3, "resolution": 32, "cache": False}
    changes: list[dict[str, Any]] = [
        {},
        {"split": "val"},
        {"seed": 1},
        {"size": 4},
        {"resolution": 33},
        {"noise": 0.1},
        {"hue": 60},
        {"labels": "parity"},
        {"labels": "colour"},
        {"task": "segmentation", "digits": (1, 1)},
    ]
    assert len({DigitScenes(**{**plain, **change}).fingerprint for change in changes}) == len(changes)
    assert DigitScenes(**plain).fingerprint == DigitScenes(**{**plain, "cache": folder}).fingerprint


def test_segmentation_and_detection_tell_of_the_same_scene() -> None:
    options: dict[str, Any] = {"size": 40, "resolution": 80, "cache": False, "digits": (2, 6)}
    masks, boxes = (DigitScenes(task=task, **options) for task in ("segmentation", "detection"))
    assert masks.classes == boxes.classes == ("background", *"0123456789")
    for index in range(40):
        (image, mask), (same, target) = masks[index], boxes[index]
        assert torch.equal(image, same)
        assert isinstance(mask, tv_tensors.Mask)
        assert (mask.dtype, tuple(mask.shape)) == (torch.uint8, (80, 80))
        assert set(target) == {"boxes", "labels", "image_id"}
        found, labels = target["boxes"], target["labels"]
        assert isinstance(found, tv_tensors.BoundingBoxes)
        assert (found.format.name, found.canvas_size, found.dtype) == ("XYXY", (80, 80), torch.float32)
        assert labels.dtype == torch.int64
        assert target["image_id"] == index
        assert 2 <= len(labels) == len(found) <= 6
        assert [boxes.classes[label] for label in labels.tolist()] == [
            str(digit) for digit in boxes.scene(index)["digits"].tolist() if digit != NOTHING
        ]
        assert set(mask.unique().tolist()) == {0, *labels.tolist()}
        inside = torch.zeros(80, 80, dtype=torch.bool)
        for (left, top, right, bottom), label in zip(found.int().tolist(), labels.tolist(), strict=True):
            assert (mask[top:bottom, left:right] == label).any()
            inside[top:bottom, left:right] = True
        assert not mask[~inside].any()


def test_transforms_see_image_and_target_together() -> None:
    turn = v2.Compose([v2.RandomHorizontalFlip(p=1), v2.ToDtype(torch.float32, scale=True)])
    plain, turned = (
        DigitScenes(size=3, task="detection", cache=False, transform=transform) for transform in (None, turn)
    )
    (image, before), (flipped, after) = plain[1], turned[1]
    assert torch.allclose(flipped, image.flip(-1) / 255)
    assert torch.equal(after["boxes"][:, 0], 64 - before["boxes"][:, 2])
    masks = DigitScenes(size=3, task="segmentation", cache=False, transform=v2.RandomHorizontalFlip(p=1))
    plain_masks = DigitScenes(size=3, task="segmentation", cache=False)
    assert torch.equal(masks[1][1], plain_masks[1][1].flip(-1))
    both = DigitScenes(size=3, cache=False, transform=lambda image, target: (image.sum(), target + 100))
    assert both[0][1] >= 100


def test_workers_read_the_same_from_the_cache(folder: Path) -> None:
    dataset = DigitScenes(size=24, cache=folder)
    assert len(pickle.dumps(dataset)) < 5_000
    copy = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(copy[7][0], dataset[7][0])
    batches = list(DataLoader(dataset, batch_size=6, num_workers=2))
    assert torch.equal(torch.cat([images for images, _ in batches]), torch.stack([image for image, _ in dataset]))
    assert torch.cat([labels for _, labels in batches]).tolist() == [label for _, label in dataset]


def test_what_is_read_from_the_cache_can_be_written_to(folder: Path) -> None:
    dataset = DigitScenes(size=2, cache=folder)
    before = dataset[0][0].clone()
    dataset[0][0].zero_()
    assert torch.equal(dataset[0][0], before)
    assert dataset.records is not None
    assert not dataset.records.flags.writeable


# The cache


def only_file(folder: Path) -> Path:
    (path,) = folder.glob("*.records")
    return path


def make(folder: Path, **options: Any) -> DigitScenes:
    return DigitScenes(**{"size": 12, "resolution": 32, "cache": folder, **options})


def test_images_are_made_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = make(folder)
    monkeypatch.setattr(scenes, "render", lambda *_: pytest.fail("made again"))
    assert np.array_equal(make(folder).records, first.records)
    assert np.array_equal(make(folder, task="segmentation", digits=(1, 1)).records, first.records)
    header = only_file(folder).read_bytes()[: cache.HEADER_BYTES]
    key = json.loads(header.partition(b"\n")[2])["key"]
    assert key["sources"] == sources.fingerprint()
    assert (key["split"], key["seed"], key["size"], key["noise"]) == ("train", 0, 12, 0.03)
    assert only_file(folder).stat().st_mode & 0o777 == 0o666 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_other_parameters_are_another_file(folder: Path) -> None:
    changes: list[dict[str, Any]] = [
        {},
        {"split": "val"},
        {"seed": 1},
        {"size": 13},
        {"resolution": 33},
        {"noise": 0.1},
        {"hue": 60},
        {"saturation": 0.0},
        {"difficulty": 0.5},
    ]
    for change in changes:
        make(folder, **change)
    assert len(list(folder.glob("*.records"))) == len(changes)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1000] ^= 1
    path.write_bytes(data)


def spoil_the_header(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data.replace(b": ", b"} ", 1))


def other_parameters(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data.replace(b'"noise": 0.03', b'"noise": 0.04', 1))


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (cut, "bytes long instead of"),
        (flip_a_bit, "changed since it was written"),
        (spoil_the_header, "damaged in its header"),
        (other_parameters, "made with other parameters"),
        (empty, "not a file of records"),
    ],
)
def test_a_damaged_cache_is_found_out_and_made_anew(folder: Path, damage: Callable[[Path], None], said: str) -> None:
    make(folder)
    path = only_file(folder)
    whole = path.read_bytes()
    damage(path)
    assert path.read_bytes() != whole
    with pytest.warns(UserWarning, match=f"{said}.*: it is made anew"):
        make(folder)
    assert path.read_bytes() == whole


def test_a_worker_refuses_a_file_that_was_cut_or_is_gone(folder: Path) -> None:
    sent = pickle.dumps(make(folder))
    cut(only_file(folder))
    with pytest.raises(OSError, match=r"bytes long instead of .* delete it"):
        pickle.loads(sent)
    only_file(folder).unlink()
    with pytest.raises(FileNotFoundError):
        pickle.loads(sent)


BUILD = """
import pathlib, sys, time
from mnv3lib.data.cache import records
from mnv3lib.data.render import render
from mnv3lib.data.scene_config import SceneConfig, record_type
folder, size = sys.argv[1], int(sys.argv[2])
easy, made = SceneConfig.from_difficulty(0), []
def make(index):
    made.append(index)
    return render(easy, "train", 0, index)
render(easy, "train", 0, 0)  # loads the sources
print("ready", flush=True)
sys.stdin.readline()
found, path = records(folder, "some", {"size": size}, record_type(easy), size, make)
print(len(found), len(made), path.name)
"""


@pytest.mark.slow
def test_processes_that_build_at_once_end_with_one_whole_file(folder: Path) -> None:
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    command = [sys.executable, "-W", "error", "-c", BUILD, str(folder), "300"]
    started = [subprocess.Popen(command, **pipes) for _ in range(3)]
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in started:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.communicate()[0].split() for process in started]
    assert [process.returncode for process in started] == [0] * 3
    assert [(found, name) for found, _, name in said] == [("300", only_file(folder).name)] * 3
    assert sorted(int(made) for _, made, _ in said) == [0, 0, 300], "one makes them, the others wait"
    assert list(folder.glob(".*.tmp")) == []
    kind = render.record_type(EASY)
    made, _ = cache.records(folder, "some", {"size": 300}, kind, 300, lambda _: pytest.fail("not whole"))
    assert all(made[i].tobytes() == render.render(EASY, "train", 0, i).tobytes() for i in (0, 150, 299))


@pytest.mark.slow
def test_a_killed_build_leaves_nothing_that_is_taken_for_whole(folder: Path) -> None:
    command = [sys.executable, "-c", BUILD, str(folder), "20000"]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 50
    while not any(path.stat().st_size > 1 << 20 for path in folder.glob(".*.tmp")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert list(folder.glob("*.records")) == []
    (left,) = folder.glob(".*.tmp")
    kind = np.dtype([("number", "u1")])
    made, path = cache.records(folder, "some", {"size": 20_000}, kind, 3, lambda _: np.zeros((), dtype=kind))
    assert len(made) == 3
    assert left.name.startswith(f".{path.name}.")  # the same file, and what was left of it is gone:
    assert list(folder.glob(".*.tmp")) == []


def test_an_interrupted_build_leaves_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(config: SceneConfig, split: str, seed: int, index: int) -> Any:
        if index == 5:
            raise KeyboardInterrupt
        return render.render(config, split, seed, index)

    monkeypatch.setattr(scenes, "render", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make(folder)
    assert [path.name for path in folder.iterdir() if path.suffix != ".lock"] == []


def test_a_full_disk_is_said_before_and_while_writing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(folder.parent)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10_000))
        with pytest.raises(OSError, match=r"no room for .* bytes .*MNV3LIB_CACHE.*digitscenes-train") as raised:
            make(folder)
    assert raised.value.errno == errno.ENOSPC
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(OSError, match=r"no room for .* bytes .*MNV3LIB_CACHE"):
            make(folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.name for path in folder.iterdir() if path.suffix != ".lock"] == []
    make(folder)


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"cannot write to the cache .*MNV3LIB_CACHE.*file/below"):
        make(tmp_path / "file" / "below")


def test_where_the_cache_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("MNV3LIB_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert cache_folder() == tmp_path / ".cache" / "mnv3lib"
    monkeypatch.setenv("MNV3LIB_CACHE", str(tmp_path / "named"))
    assert cache_folder() == tmp_path / "named"
    assert cache_folder("~/here") == tmp_path / "here"
    DigitScenes(size=2, resolution=16)
    assert only_file(tmp_path / "named").name.startswith("digitscenes-train-")
    DigitScenes(size=2, resolution=16, cache=False)
    assert len(list((tmp_path / "named").iterdir())) == 2  # the file and its lock


def test_progress_is_shown_if_asked(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(folder)
    assert capsys.readouterr().err == ""
    make(folder, seed=1, progress=True)
    assert "digitscenes-train" in (shown := capsys.readouterr().err)
    assert "12/12" in shown


def test_findings_are_remembered_until_the_question_changes(folder: Path) -> None:
    asked = []

    def find() -> list[int]:
        asked.append(1)
        return [len(asked)]

    assert [cache.remembered(folder, "what", {"a": a}, find) for a in (1, 1, 2, 1)] == [[1], [1], [2], [1]]
    for spoilt in ("{", '{"key": {"a": 9}, "found": [0]}', "[]"):
        for path in folder.glob("*.json"):
            path.write_text(spoilt)
        before = len(asked)
        assert cache.remembered(folder, "what", {"a": 1}, find) == [before + 1]
