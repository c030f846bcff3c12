"""The figures on several processes draw what they are given, and the plan's speed is the one that was measured."""

from __future__ import annotations

import json
from typing import Any

import pytest
from conftest import ROOT
from figures import scaling_out as figures
from matplotlib.patches import Rectangle

from mnv3lib import facts
from mnv3lib.explore.palette import ACCENT, COLOURS


def boxes(frame: Any) -> dict[str, Any]:
    """The boxes that carry a name, by it."""
    found: dict[str, Any] = {}
    for patch in frame.patches:
        if isinstance(patch, Rectangle) and not patch.get_label().startswith("_"):
            found.setdefault(patch.get_label(), []).append(patch)
    return found


def test_the_plan_is_made_with_the_speed_that_was_measured() -> None:
    told = facts.load()["training_speed"]
    lines = json.loads((ROOT / told["file"]).read_text(encoding="utf-8"))["lines"]
    (line,) = [
        line
        for line in lines
        if (line["network"], line["side"], line["against"]) == (told["network"], told["side"], "this loop")
    ]
    assert told["images_per_second"] == pytest.approx(line["images_per_second"], rel=1 / 3)


def test_a_bill_is_as_long_as_its_days() -> None:
    drawing = figures.bill({"a": 979.6, "b": 71.0})
    (frame,) = drawing.figure.axes
    ends = [bar.get_x() + bar.get_width() for bar in frame.containers[0]]
    assert ends == pytest.approx([979.6, 71.0])
    assert [text.get_text() for text in frame.texts] == ["980", "71"]
    assert frame.get_xscale() == "linear"
    assert frame.get_xlim()[0] == 0
    assert [bar.get_x() for bar in frame.containers[0]] == [0, 0]
    assert drawing.alt == "Bars of days: a 980; b 71."
    for days in ({}, {"a": 0.0}, {"a": -1.0}):
        with pytest.raises(ValueError, match="days must be one or more numbers above 0, got"):
            figures.bill(days)


def test_images_are_coloured_by_who_gets_them() -> None:
    deals = {"whole": [[0, 3], [1, 2]], "double": [[0, 1], [1, 3]]}
    drawing = figures.shares(deals, images=4)
    (frame,) = drawing.figure.axes
    found = boxes(frame)
    colours = (ACCENT, COLOURS["orange"])
    for name, parts in deals.items():
        for image in range(4):
            owners = [rank for rank, part in enumerate(parts) if image in part]
            drawn = found.get(f"{name} {image}", [])
            assert [patch.get_facecolor() for patch in drawn] == [_rgba(colours[rank]) for rank in owners]
            assert sum(patch.get_height() for patch in drawn) == pytest.approx(0.8 if owners else 0)
            assert all(image < patch.get_x() < image + 0.1 for patch in drawn)
    crosses = [line for line in frame.lines if line.get_marker() == "x"]
    assert [tuple(line.get_xydata()[0]) for line in crosses] == [(2.5, 1.0)]
    said = "whole: 2, 2 images, 0 twice, 0 missing; double: 2, 2 images, 1 twice, 1 missing"
    assert drawing.alt == f"Boxes for 4 images, coloured by process. {said}."
    for bad in ({}, {"many": [[0]] * 5}):
        with pytest.raises(ValueError, match="deals must hold from 1 to 4 processes, got"):
            figures.shares(bad, images=4)


def _rgba(colour: str) -> Any:
    from matplotlib.colors import to_rgba

    return to_rgba(colour)


def test_relative_errors_and_their_guides() -> None:
    sizes, curves = (2, 8, 32), {"stem": (0.4, 0.2, 0.1), "end": (1.0, 0.9, 0.8)}
    drawing = figures.relative_errors(sizes, curves)
    (frame,) = drawing.figure.axes
    for line, values in zip(frame.lines, curves.values(), strict=False):
        assert tuple(line.get_xdata()) == sizes
        assert tuple(line.get_ydata()) == values
    guides = [line.get_ydata() for line in frame.lines if line.get_linestyle() == ":"]
    assert guides
    for first, last in guides:  # sixteen times the images, a quarter of the error
        assert first / last == pytest.approx(4)
    assert (frame.get_xscale(), frame.get_yscale()) == ("log", "log")
    assert frame.get_ylim() == pytest.approx((0.1 / 1.3, 1.3))
    assert drawing.alt.endswith("over shards of 2 to 32 images: stem from 0.40 to 0.10; end from 1.00 to 0.80.")
    # Drawn to three decimals; the words are rounded once only, as where the chapter prints the same numbers.
    finer = figures.relative_errors(sizes, {"stem": (0.50471, 0.2, 0.1)})
    assert finer.figure.axes[0].lines[0].get_ydata()[0] == 0.505
    assert "stem from 0.50 to 0.10" in finer.alt
    with pytest.raises(ValueError, match="curves must be from 1 to 4, got 0"):
        figures.relative_errors(sizes, {})


def test_a_second_life_repeats_what_was_not_saved() -> None:
    drawing = figures.lives(range(1, 6), range(4, 9), saved=(3, 6, 7), epoch=7)
    (frame,) = drawing.figure.axes
    found = boxes(frame)
    assert set(found) == {*(f"0 {step}" for step in range(1, 6)), *(f"1 {step}" for step in range(4, 9))}
    orange = {name for name, (patch,) in found.items() if patch.get_facecolor() == _rgba(COLOURS["orange"])}
    assert orange == {"1 4", "1 5"}
    marks = [(line.get_marker(), *line.get_xydata()[0]) for line in frame.lines if len(line.get_xydata()) == 1]
    assert [(x, y) for mark, x, y in marks if mark == "^"] == [(3, 0.42), (6, 1.42), (7, 1.42)]
    assert [(x, y) for mark, x, y in marks if mark == "x"] == [(5.45, 0)]
    assert [line.get_xdata()[0] for line in frame.lines if line.get_linestyle() == ":"] == [7]
    assert drawing.alt == (
        "Boxes for the steps of two lives. The first ends after step 5, with checkpoints after 3; the second begins "
        "with step 4, takes 4, 5 again, and ends with step 8."
    )


def test_parts_of_a_step_fill_the_bar() -> None:
    parts = {1: {"computing": 0.5, "moving": 0.0}, 8: {"computing": 0.06, "moving": 0.02}}
    drawing = figures.step_parts(parts)
    (frame,) = drawing.figure.axes
    widths = {}
    for patch in frame.patches:
        widths.setdefault(round(patch.get_y() + 0.35), []).append(patch.get_width())
    assert widths == {0: pytest.approx([100, 0]), 1: pytest.approx([75, 25])}
    assert [text.get_text() for text in frame.texts] == ["500 ms", "80 ms"]
    assert drawing.alt.endswith("1: 500 ms, computing 100%, moving 0%; 8: 80 ms, computing 75%, moving 25%.")


def test_a_plan_on_axes_that_do_not_move() -> None:
    hours = {1: 100.0, 4: 50.0, 16: 40.0}
    drawing = figures.plan_curve(hours, 4)
    (frame,) = drawing.figure.axes
    ideal, real, chosen = frame.lines
    assert list(ideal.get_ydata()) == [100, 25, 6.25]
    assert dict(zip(real.get_xdata(), real.get_ydata(), strict=True)) == hours
    assert [tuple(point) for point in chosen.get_xydata()] == [(4, 50)]
    assert drawing.alt.endswith(
        "communication: 100 with 1 to 40 with 16. 4 devices: 50 h, 200 device-hours, efficiency 50%."
    )
    assert ". 1 device: 100 h" in figures.plan_curve(hours, 1).alt
    assert frame.get_ylim() == figures.plan_curve({1: 5000.0}, 1).figure.axes[0].get_ylim() == (0.5, 20_000)
    assert "5,000 h, 5,000 device-hours, efficiency 100%" in figures.plan_curve({1: 5000.0}, 1).alt
    for bad in ({1: 0.1}, {1: 30_000.0}):
        with pytest.raises(ValueError, match=r"hours must be from 0\.5 to 20,000, got"):
            figures.plan_curve(bad, 1)
    with pytest.raises(ValueError, match="hours must hold 1 and the chosen number of devices, 8, got"):
        figures.plan_curve({1: 5.0}, 8)
    with pytest.raises(ValueError, match="hours must hold 1 and the chosen number of devices, 2, got"):
        figures.plan_curve({2: 5.0}, 2)
