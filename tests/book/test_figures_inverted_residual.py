"""The figures on what ReLU loses in few channels: their words are the numbers they draw."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from figures import inverted_residual as figures

from mnv3lib.explore.drawing import Drawing
from mnv3lib.explore.palette import ACCENT, REFERENCE

TURN = np.linspace(0.05, 1, 40)
SPIRAL = TURN * np.stack([np.cos(9 * TURN), np.sin(9 * TURN)])


def axes_of(drawing: Drawing) -> Any:
    return drawing.figure.axes


def through(T: Any) -> tuple[Any, Any]:
    seen = np.maximum(T @ SPIRAL, 0)
    return np.linalg.pinv(T) @ seen, (seen > 0).sum(0) < 2


def test_the_spiral_frame_says_how_much_is_lost_and_how_large_the_rest_is() -> None:
    returned, lost = through(np.eye(2))  # keeps the first quadrant only
    assert lost.sum() == ((SPIRAL <= 0).any(0)).sum() > 0
    drawing = figures.spiral_and_return(SPIRAL, returned, lost, channels=2)
    size = np.linalg.norm(returned) / np.linalg.norm(SPIRAL)
    assert f"{100 * lost.mean():.0f} % of its points are lost" in drawing.alt
    assert f"is {size:.2f} of the spiral's." in drawing.alt
    left, right = axes_of(drawing)
    assert left.get_title(loc="left") == f"in: {100 * lost.mean():.0f} % lost"
    for frame, curve in ((left, SPIRAL), (right, returned)):
        grey, dotted, solid = frame.lines
        assert grey.get_color() == REFERENCE
        assert np.array_equal(grey.get_xydata().T, SPIRAL)
        assert np.array_equal(dotted.get_xydata()[lost], curve.T[lost])
        assert np.array_equal(solid.get_xydata()[~lost], curve.T[~lost])
        assert np.isnan(dotted.get_xdata()).sum() == (~lost & ~np.roll(lost, 1)).sum()


def test_the_frame_stands_still_and_owns_up_to_what_leaves_it() -> None:
    limits = set()
    for scale in (1, 5):
        drawing = figures.spiral_and_return(SPIRAL, scale * SPIRAL, TURN > 2, channels=9)
        limits |= {(frame.get_xlim(), frame.get_ylim()) for frame in axes_of(drawing)}
        beyond = int((np.abs(scale * SPIRAL) > 1.1).any(0).sum())
        assert (f"{beyond} of 40 points leave the frame" in drawing.alt) == (scale == 5)
    assert limits == {((-1.1, 1.1), (-1.1, 1.1))}


@pytest.mark.parametrize(
    ("returned", "lost"), [(SPIRAL[:, 1:], TURN > 2), (SPIRAL, TURN[1:] > 2), (SPIRAL[0], TURN > 2)]
)
def test_shapes_that_do_not_fit_are_refused(returned: Any, lost: Any) -> None:
    with pytest.raises(ValueError, match=r"points and returned must be \(2, P\)"):
        figures.spiral_and_return(SPIRAL, returned, lost, channels=2)


def test_the_loss_by_formula_is_the_loss_by_counting() -> None:
    rng = np.random.default_rng(0)
    measured = [np.mean([through(rng.standard_normal((n, 2)))[1].mean() for _ in range(400)]) for n in (2, 5)]
    formula = [(1 + n) / 2**n for n in (2, 5)]
    assert measured == pytest.approx(formula, abs=0.05)
    drawing = figures.loss_by_width((2, 5), measured, formula, (1.0, 0.5))
    above, below = axes_of(drawing)
    assert [bar.get_height() for bar in above.patches] == pytest.approx([100 * share for share in measured])
    assert np.allclose(above.collections[0].get_offsets()[:, 1], [75, 18.75])
    assert list(below.lines[0].get_ydata()) == [1.0, 0.5]
    assert f"2 channels {100 * measured[0]:.1f} %, 1.00; 5 channels {100 * measured[1]:.1f} %, 0.50" in drawing.alt


def test_hourglasses_are_as_wide_as_their_maps_and_joined_where_the_ends_agree() -> None:
    blocks = {"classic": (256, 64, 64, 256), "inverted": (64, 256, 256, 64), "none": (16, 64, 64, 24)}
    drawing = figures.block_widths(blocks)
    for frame, widths in zip(axes_of(drawing), blocks.values(), strict=True):
        assert tuple(bar.get_width() for bar in frame.patches) == widths
        assert len(frame.lines) == (widths[0] == widths[-1])
    assert "inverted: 64 → 256 → 256 → 64 channels, the shortcut keeps 64" in drawing.alt
    assert drawing.alt.endswith("none: 16 → 64 → 64 → 24 channels, there is no shortcut.")
    with pytest.raises(ValueError, match="must hold 4 widths"):
        figures.block_widths({"odd": (1, 2, 3)})


def test_growth_and_memory_name_their_ends() -> None:
    growth = figures.gradient_growth((1, 32), {"with": (1.7, 26.6), "without": (1.4, 84_218.0)})
    assert (
        "with, 1.7 times after 1, more than 20 after 32; without, 1.4 times after 1, more than 80,000 after 32"
        in growth.alt
    )
    assert [list(line.get_ydata()) for line in axes_of(growth)[0].lines] == [[1.7, 26.6], [1.4, 84_218.0]]

    memory = figures.shortcut_memory((1, 3), (802_816, 301_056), (802_816, 903_168))
    bars = axes_of(memory)[0].patches
    assert [bar.get_height() for bar in bars] == pytest.approx([802.816, 301.056, 802.816, 903.168])
    assert bars[0].get_facecolor() != bars[2].get_facecolor()
    for said in ("1,104 kB over all of them", "1,706 kB", "block 3, from 301 to 903 kB"):
        assert said in memory.alt
    assert ACCENT in memory._repr_svg_().upper()


def test_the_spirals_lose_what_a_count_of_positive_sums_says() -> None:
    points = np.random.default_rng(5).uniform(-0.7, 0.7, (2, 200))
    drawn = figures.spirals(points, (2, 30), seed=4)
    for channels, fraction in drawn.data["lost"].items():
        weights = np.random.default_rng(4).standard_normal((channels, 2))
        alive = [sum(row @ point > 0 for row in weights) for point in points.T]
        assert fraction == sum(number < 2 for number in alive) / 200
        assert f"{100 * fraction:.0f} % of its points are lost in {channels}" in drawn.alt
    assert drawn.data["lost"][2] > 0.5
    assert drawn.data["lost"][30] == 0
