"""The chapter on segmentation: its scenes, and figures that say what they draw."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from figures.measured import Run, Study
from figures.segmentation import block_diagram, compared, gridded, known_every, scenes, scores
from PIL import Image

from mnv3lib.heads import lraspp
from mnv3lib.recipe import load, overridden
from mnv3lib.training.evaluation import open_dataset

RECIPE = load("digitscenes-lraspp")
TRUTH = torch.tensor([[0, 1, 1, 0], [0, 2, 2, 0]])
FOUND = torch.tensor([[0, 1, 2, 3], [0, 2, 0, 0]])


def test_scenes_are_those_that_training_evaluates_on() -> None:
    pixels, images, masks = scenes(RECIPE, 3)
    data = open_dataset(overridden(RECIPE, ["data.options.eval_images=3"]), "test")
    for at in range(3):
        image, mask = data[at]
        assert torch.allclose(images[at], image.as_subclass(torch.Tensor), atol=1e-6)
        assert torch.equal(masks[at], mask.as_subclass(torch.Tensor))
    assert pixels.dtype == torch.uint8
    assert pixels.shape == images.shape == (3, 3, 160, 160)


def test_a_grid_lies_over_the_picture_and_the_mask_beside_it() -> None:
    picture = Image.new("RGB", (64, 64), (10, 10, 10))
    mask = torch.zeros(16, 16, dtype=torch.bool)
    mask[:, :8] = True
    shown = gridded(picture, mask, positions=4, backdrop="#0000ff")
    both = np.asarray(Image.open(io.BytesIO(shown.data)).convert("RGB")).astype(int)
    assert both.shape == (64, 128, 3)
    bright = np.flatnonzero(both[8, :64].mean(1) > 90)
    assert {round(at / 16) for at in bright} == {1, 2, 3}
    assert both[32, 70].min() > 220
    assert np.abs(both[32, 120] - (0, 0, 255)).max() < 30
    assert shown.alt == "A picture under a grid of 4 by 4, and a mask of 50% of its pixels."


def test_the_diagram_has_the_networks_channels_and_sides() -> None:
    alt = block_diagram(lraspp("small", width_mult=0.5, num_classes=11), 160).alt
    for shape in ("288 × 10²", "128 × 10²", "128 × 1²", "128 × 20²", "16 × 20²", "11 × 20²", "11 × 160²"):
        assert shape in alt


def test_every_pixel_has_one_verdict() -> None:
    drawing = compared(torch.zeros(3, 2, 4, dtype=torch.uint8), TRUTH, FOUND)
    assert drawing.data == {"right digit": 2, "wrong digit": 1, "missed": 1, "invented": 1}
    assert "wrong digit 1, missed 1, invented 1" in drawing.alt


def test_a_coarse_mask_is_counted() -> None:
    drawing = known_every(TRUTH, FOUND, step=2, miou=0.25)
    assert drawing.data == {"wrong": 3, "miou": 0.25}
    assert drawing.alt == "A mask known once in 2 × 2 pixels: 3 pixels are wrong; over all scenes, mIoU 0.25."
    assert "1 × 2 positions: mIoU 0.25" in drawing._repr_svg_()


def test_scores_are_the_seeds_and_their_mean() -> None:
    def run(variant: str, seed: int, miou: float) -> Run:
        return Run(variant, seed, (), {"miou": miou}, {}, 1, 1, 1.0, {}, {})

    runs = (run("a", 1, 0.5), run("b", 1, 0.8), run("a", 2, 0.7), run("b", 2, 0.8))
    drawing = scores(Study("x", "", "", "", runs), {"b": "second", "a": "first"}, measure="miou", label="mIoU")
    assert drawing.alt == "mIoU on test images, by seed. second 0.80 (0.80 to 0.80); first 0.60 (0.50 to 0.70)."
    with pytest.raises(ValueError, match="variant must be one of"):
        scores(Study("x", "", "", "", runs), {"c": "third"}, measure="miou", label="mIoU")
