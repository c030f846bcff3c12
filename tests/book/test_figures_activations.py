"""The figures on activations: their words are the numbers they draw, and those are what is true of the functions."""

from __future__ import annotations

from math import exp, log, sqrt
from typing import Any

import numpy as np
import pytest
import torch
from figures import activations as figures
from torch.nn import functional


def axes_of(drawing: Any) -> Any:
    return drawing.figure.axes


def line(frame: Any, label: str) -> tuple[Any, Any]:
    """What a line shows, by its label."""
    (found,) = [drawn for drawn in frame.lines if drawn.get_label() == label]
    x, y = found.get_data()
    return np.asarray(x), np.asarray(y)


@pytest.mark.parametrize(
    ("panel", "label", "reference"),
    [
        (0, "sigmoid", torch.sigmoid),
        (0, "h-sigmoid", functional.hardsigmoid),
        (1, "swish", functional.silu),
        (1, "h-swish", functional.hardswish),
    ],
)
def test_the_curves_are_those_of_pytorch(panel: int, label: str, reference: Any) -> None:
    x, y = line(axes_of(figures.soft_and_hard())[panel], label)
    assert {-3.0, 3.0} <= set(x)  # the corners are drawn as corners
    np.testing.assert_allclose(y, reference(torch.tensor(x)).numpy(), atol=1e-12)


def test_the_lowest_points_are_said() -> None:
    alt = figures.soft_and_hard().alt
    assert "h-swish has -0.375 at -1.50" in alt
    assert "lowest point, -0.278, at -1.28" in alt


def test_the_largest_differences_are_those_derived_on_paper() -> None:
    drawing = figures.hard_against_soft(3)
    peak, corner = 1 / (2 * sqrt(3)) - log(2 + sqrt(3)) / 6, 3 / (1 + exp(3))
    assert f"from sigmoid by up to {peak:.3f}, at ±{log(2 + sqrt(3)):.2f}" in drawing.alt
    assert f"from swish by up to {corner:.3f}, at ±3.00" in drawing.alt
    for label, largest in (("from sigmoid", peak), ("from swish", corner)):
        assert line(axes_of(drawing)[1], label)[1].max() == pytest.approx(largest, abs=1e-3)


@pytest.mark.parametrize("saturation", [2.0, 2.5, 3.25, 4.0])
def test_scales_stay_and_the_ramp_moves(saturation: float) -> None:
    drawing = figures.hard_against_soft(saturation)
    reference = figures.hard_against_soft()
    assert [f.get_ylim() for f in axes_of(drawing)] == [f.get_ylim() for f in axes_of(reference)]
    assert axes_of(drawing)[1].get_xlim() == axes_of(reference)[1].get_xlim()
    x, y = line(axes_of(drawing)[0], "hard")
    np.testing.assert_allclose(y, np.clip(0.5 + x / (2 * saturation), 0, 1), atol=1e-12)
    assert f"±{saturation:g}," in drawing.alt


@pytest.mark.parametrize(
    ("saturation", "error"), [(0, ValueError), (-3, ValueError), (6.5, ValueError), ("3", TypeError), (True, TypeError)]
)
def test_saturation_points_that_make_no_sense(saturation: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="saturation must be a number above 0 and up to 6"):
        figures.hard_against_soft(saturation)


def test_the_best_saturation_point_is_marked_and_said() -> None:
    drawing = figures.errors_by_saturation([2.5, 2.75, 3.0], {"sigmoid": [0.3, 0.1, 0.2], "swish": [0.4, 0.3, 0.25]})
    assert "from sigmoid it is smallest, 0.100, at saturation point 2.75" in drawing.alt
    assert "from swish it is smallest, 0.250, at saturation point 3.00" in drawing.alt
    marks = [mark for mark in axes_of(drawing)[0].lines if mark.get_marker() in "so"]
    assert [(m.get_xdata()[0], m.get_ydata()[0]) for m in marks] == [(2.75, 0.1), (3.0, 0.25)]


def test_quantised_values_that_are_off_are_counted() -> None:
    drawing = figures.quantised_errors([-1, 0, 1, 2], {"rough": [0, 1, -2, 0], "fine": [0, 0, 0, 0]})
    assert "each of 4 quantised inputs: rough is off at 2, by at most 2; fine is off at 0, by at most 0." in drawing.alt
    assert [f.get_title(loc="left") for f in axes_of(drawing)] == ["rough: 2 off", "fine: 0 off"]
    assert [list(f.lines[0].get_ydata()) for f in axes_of(drawing)] == [[0, 1, -2, 0], [0, 0, 0, 0]]


def test_the_values_of_the_bars_and_their_share() -> None:
    drawing = figures.values_by_feature([4000, 1000, 2000, 1000, 1000, 1000], [True, False, False, True, True, True])
    assert "0.01 million in all. 70 % of them" in drawing.alt
    assert "The tallest bar, the stem, has 4 thousand." in drawing.alt
    bars = {round(b.get_x() + b.get_width() / 2): b.get_height() for b in axes_of(drawing)[0].patches}
    assert bars == {0: 4, 1: 1, 2: 2, 3: 1, 4: 1, 5: 1}


def test_what_is_traded_is_said_and_drawn() -> None:
    drawing = figures.traded({"ReLU": (50.5, 74.5), "late": (51.4, 75.2), "early": (53.5, 75.4)})
    (axes,) = drawing.figure.axes
    assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in axes.lines] == [
        (50.5, 74.5),
        (51.4, 75.2),
        (53.5, 75.4),
    ]
    assert [text.get_ha() for text in axes.texts] == ["left", "left", "right"]
    assert "ReLU 74.5 % in 50.5 ms; late 75.2 % in 51.4 ms; early 75.4 % in 53.5 ms" in drawing.alt
