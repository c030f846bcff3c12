"""The chapter on networks in products: the photograph, what was measured, and figures that say what they draw."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from figures.in_the_wild import (
    cut_out,
    known_every,
    litert,
    photograph,
    prices,
    times,
    told_apart,
    up_and_down,
    work_and_time,
)
from PIL import Image


def test_the_photograph_is_whole() -> None:
    picture = photograph()
    assert picture.size == (512, 512)
    assert picture.mode == "RGB"


def test_litert_s_probabilities_are_those_of_the_crops() -> None:
    boxes, probabilities = litert()
    assert len(boxes) == len(probabilities) == 11
    assert boxes[0] == (0, 0, 512, 512)
    assert all(0 <= left < right <= 512 and 0 <= top < bottom <= 512 for left, top, right, bottom in boxes)
    assert probabilities.shape == (11, 86, 86)
    assert probabilities.dtype == torch.float32


def test_a_person_stays_and_one_colour_takes_the_place_of_the_rest() -> None:
    picture = Image.new("RGB", (64, 32), (200, 10, 10))
    person = torch.zeros(16, 32)
    person[:, :16] = 1
    shown = cut_out(picture, person, backdrop="#0000ff")
    both = np.asarray(Image.open(io.BytesIO(shown.data))).astype(int)
    assert both.shape == (32, 128, 3)
    assert np.abs(both[:, :56] - (200, 10, 10)).max() < 30
    assert np.abs(both[:, 64:88] - (200, 10, 10)).max() < 30
    assert np.abs(both[:, 104:] - (0, 0, 255)).max() < 30
    assert "50% of its pixels kept" in shown.alt


def test_each_line_has_its_probability_beside_it() -> None:
    drawing = told_apart([("one", False, 0.01), ("one", True, 0.99)])
    upright, turned = (axes.images[0].get_array() for axes in drawing.figure.axes)
    assert (upright == turned[::-1, ::-1]).all()
    assert "“one”, upright: 0.01; “one”, upside down: 0.99" in drawing.alt


def test_changes_lead_from_one_price_to_the_other() -> None:
    drawing = prices(("first", 10.0), {"more": 4.0, "less": -6.0}, "last", unit="apples")
    (axes,) = drawing.figure.axes
    assert [(bar.get_x(), bar.get_width()) for bar in axes.patches] == [(0, 10), (10, 4), (14, -6), (0, 8)]
    assert drawing.data["total"] == 8
    assert drawing.alt == "Bars, in apples: first 10; more +4; less −6; last 8."


def test_maps_of_one_size_stand_beside_each_other() -> None:
    drawing = up_and_down([("a", 8, 4), ("b", 4, 6)], [("c", 4, 6), ("d", 8, 4)])
    first, second, third, fourth = drawing.figure.axes[0].patches[:4]
    assert first.get_width() == third.get_width() > second.get_width() == fourth.get_width()
    assert first.get_y() == third.get_y()
    assert "a 8 × 8 × 4, b 4 × 4 × 6, d 8 × 8 × 4, c 4 × 4 × 6" in drawing.alt
    with pytest.raises(ValueError, match="decoder must have the encoder's sides, got 2 beside 4"):
        up_and_down([("a", 8, 4), ("b", 4, 6)], [("c", 2, 6), ("d", 8, 4)])


def test_a_mask_known_everywhere_is_right_and_a_coarse_one_is_wrong_at_the_edge() -> None:
    person = torch.zeros(64, 64)
    person[20:44, 10:50] = 1
    assert known_every(person, 1).data["wrong"] == 0
    coarse = known_every(person, 16)
    assert coarse.data["wrong"] > 50
    shown = coarse.figure.axes[0].images[0].get_array()
    wrong = (shown[..., :3] == (213, 94, 0)).all(-1)
    assert wrong.sum() == coarse.data["wrong"]
    assert not wrong[28:36, 24:36].any()
    assert f"{wrong.mean():.1%} of the pixels on the wrong side" in coarse.alt
    with pytest.raises(ValueError, match="step must be an integer >= 1"):
        known_every(person, 0)


def test_a_group_of_bars_for_each_variant() -> None:
    found = {"a": {"work": 2.0, "x": 1.5, "y": 0.5}, "b": {"work": 1.0, "x": 1.0, "y": 1.0}}
    drawing = work_and_time(found, title="over c")
    assert [bar.get_width() for bar in drawing.figure.axes[0].patches] == [2.0, 1.5, 0.5, 1.0, 1.0, 1.0]
    assert drawing.alt == "Bars of ratios, over c. a: work 2.00, x 1.50, y 0.50; b: work 1.00, x 1.00, y 1.00."


def test_every_variant_was_measured_in_the_same_engines() -> None:
    for product in ("text direction", "portrait"):
        found = times(product)
        assert {tuple(ways) for ways in found.values()} == {("PyTorch", "ONNX Runtime")}
        assert all(low <= ratio <= high for ways in found.values() for ratio, low, high in ways.values())
    assert found["no decoder"]["ONNX Runtime"][2] < 1
    assert "product" not in found
    with pytest.raises(ValueError, match="product must be one of 'text direction', 'portrait', got 'x'"):
        times("x")
