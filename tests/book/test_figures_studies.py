"""Figures of studies: every run is drawn, and the words are the numbers of the runs."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest
from figures import studies as figures
from figures.measured import Run, Study


def run(variant: str, seed: int, epochs: tuple[float, ...]) -> Run:
    return Run(
        variant=variant,
        seed=seed,
        assignments=(),
        test={"top1": epochs[-1]},
        best={},
        parameters=1,
        macs=1,
        seconds=1.0,
        epochs={"epoch": tuple(range(1, len(epochs) + 1)), "last_top1": epochs},
        made={},
    )


STUDY = Study(
    name="made up",
    about="",
    command="",
    recipe="",
    runs=(
        run("bare", 1, (0.1, 0.5, 0.6)),
        run("whole", 1, (0.3, 0.7, 0.8)),
        run("bare", 2, (0.2, 0.4, 0.7)),
        run("whole", 2, (0.2, 0.8, 0.9)),
    ),
)


def points(frame: Any) -> list[list[tuple[float, float]]]:
    return [[(float(x), float(y)) for x, y in line.get_xydata()] for line in frame.lines]


def test_every_run_is_a_line_on_one_scale() -> None:
    drawing = figures.epoch_curves(STUDY, ["bare", "whole"])
    (frame,) = drawing.figure.axes
    assert points(frame)[1] == [(1, 20), (2, 40), (3, 70)]
    expected = [run.epochs["last_top1"] for variant in ("bare", "whole") for run in STUDY.of(variant)]
    assert [[y for _, y in line] for line in points(frame)] == [[100 * value for value in run] for run in expected]
    assert frame.lines[0].get_color() == frame.lines[1].get_color() != frame.lines[2].get_color()
    assert frame.get_ylim() == (0, 100)
    assert "bare: 10 to 20 after the first epoch, 60 to 70 at the end; whole: 20 to 30 after" in drawing.alt
    assert "test images" not in drawing.alt
    with pytest.raises(ValueError, match="variant must be one of"):
        figures.epoch_curves(STUDY, ["other"])
    for count in (0, 6):
        with pytest.raises(ValueError, match=f"variants must be from 1 to 5, got {count}"):
            figures.epoch_curves(STUDY, ["bare"] * count)


def test_accuracy_on_the_test_images_stands_after_the_last_epoch() -> None:
    drawing = figures.epoch_curves(STUDY, ["bare", "whole"], tested=True)
    (frame,) = drawing.figure.axes
    marks = [line for line in frame.lines if line.get_marker() == "D"]
    assert [[tuple(map(float, point)) for point in mark.get_xydata()] for mark in marks] == [
        [(3.5, 60), (3.5, 70)],
        [(3.5, 80), (3.5, 90)],
    ]
    assert [mark.get_color() for mark in marks] == [frame.lines[0].get_color(), frame.lines[3].get_color()]
    assert "60 to 70 at the end, 60 to 70 on the test images; whole: 20 to 30 after" in drawing.alt


def test_gains_are_dots_and_their_mean() -> None:
    panels = {"here": {"warm-up": (3.0, -1.0, 4.0), "smoothing": (0.5, 0.5, 0.5)}, "there": {"averages": (0.2,)}}
    drawing = figures.gains(panels)
    here, there = drawing.figure.axes
    assert points(here)[0] == [(3, 0), (-1, 0), (4, 0)]
    assert {x for x, _ in points(here)[1]} == {2.0}
    assert points(there)[0] == [(pytest.approx(0.2), 0)]
    assert here.get_xlim() == there.get_xlim()
    assert [text.get_text() for text in here.texts] == ["warm-up: +2.0", "smoothing: +0.5"]
    low, high = here.get_ylim()
    assert low > high, "the first step is on top"
    assert "here: warm-up +2.0 (-1.0 to +4.0), smoothing +0.5 (+0.5 to +0.5). there: averages +0.2." in drawing.alt
    for nothing in ({}, {"here": {}}):
        with pytest.raises(ValueError, match="one or more steps each"):
            figures.gains(nothing)


def test_accuracy_is_drawn_over_multiply_adds_with_every_seed() -> None:
    small = {1.0: (4.0, (80.0, 81.0, 83.0)), 0.5: (1.0, (70.0, 74.0))}
    drawing = figures.accuracy_over_work({"here": {"Small": small, "Large": {1.0: (20.0, (85.0, 85.0))}}})
    (frame,) = drawing.figure.axes
    assert frame.get_xscale() == "log"
    assert points(frame)[0] == [(1, 72), (4, 81)], "the medians"
    assert points(frame)[1:3] == [[(1, 70), (1, 74)], [(4, 80), (4, 81), (4, 83)]]
    assert [text.get_text() for text in frame.texts] == ["0.5", "1", "1"]
    assert "here, Small: 0.5 with 1 M 72.0, 1 with 4 M 81.0. here, Large: 1 with 20 M 85.0." in drawing.alt
    assert [text.get_text() for text in frame.get_xticklabels()] == ["1", "2", "5", "10", "20"]


def test_a_network_has_one_colour_in_all_panels() -> None:
    small, large = {1.0: (4.0, (80.0,))}, {1.0: (20.0, (90.0,))}
    drawing = figures.accuracy_over_work(
        {"here": {"Small": small, "Large": large}, "there": {"Large": large, "Small": small}}
    )
    here, there = ([(line.get_ydata()[0], line.get_color()) for line in frame.lines] for frame in drawing.figure.axes)
    assert here == there
    assert dict(here)[80.0] != dict(here)[90.0]


def test_panels_of_other_networks_are_refused() -> None:
    one = {1.0: (4.0, (80.0,))}
    with pytest.raises(ValueError, match=r"panels must hold one or more, got none"):
        figures.accuracy_over_work({})
    with pytest.raises(ValueError, match=r"networks \['Small'\], got \['Large'\] in 'there'"):
        figures.accuracy_over_work({"here": {"Small": one}, "there": {"Large": one}})
    with pytest.raises(ValueError, match=r"curves must be of one or two networks, got 3"):
        figures.accuracy_over_work({"here": dict.fromkeys("abc", one)})


CURVES = {
    "Small": {1.0: (4.0, (60.0, 81.0, 82.0)), 0.5: (1.0, (70.0, 74.0))},
    "Large": {1.0: (20.0, (85.0, 85.0)), 0.25: (1.5, (75.0, 79.0))},
}


@pytest.mark.parametrize(
    ("budget", "best", "point"),
    [
        (1, "Small ×0.5: 72.0 %", (1, 72)),
        (1.5, "Large ×0.25: 77.0 %", (1.5, 77)),
        (19.9, "Small ×1: 81.0 %", (4, 81)),
        (100, "Large ×1: 85.0 %", (20, 85)),
    ],
)
def test_the_best_network_within_a_budget_is_ringed(budget: float, best: str, point: tuple[float, float]) -> None:
    drawing = figures.within_budget(CURVES, budget)
    (frame,) = drawing.figure.axes
    assert points(frame)[-1] == [point]
    assert frame.get_title(loc="left") == best
    network, _, middle = best.removesuffix(" %").partition(": ")
    said = f"at most {budget:g} million multiply-adds, {network} is the best: {middle} % with {point[0]:g}."
    assert said in drawing.alt
    limits = frame.get_xlim(), frame.get_ylim()
    (other,) = figures.within_budget(CURVES, 2, unit="million parameters").figure.axes
    assert (other.get_xlim(), other.get_ylim()) == limits, "nothing moves but the ring and the shade"
    assert other.get_xlabel() == "million parameters"


def test_a_budget_that_buys_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match=r"budget must be at least the least cost, 1, got 0\.5"):
        figures.within_budget(CURVES, 0.5)


def test_runs_that_need_no_colours_are_on_the_diagonal() -> None:
    groups = {"before": [(60.0, 58.0), (90.0, 20.0), (70.0, 66.0)], "after": [(88.0, 15.0)]}
    drawing = figures.without_colours(groups)
    (frame,) = drawing.figure.axes
    diagonal, *drawn = points(frame)
    assert diagonal == [(0, 0), (100, 100)]
    assert drawn == [[(grey, seen) for seen, grey in pairs] for pairs in groups.values()]
    assert frame.get_xlim() == frame.get_ylim() == (0, 100)
    assert len({(line.get_marker(), line.get_color()) for line in frame.lines}) == 3
    assert "before: 2 of 3 lose less than 5 points, reaching 60 to 70. after: 0 of 1 lose" in drawing.alt
    for bad in ({}, {"none": []}, {name: [(1.0, 1.0)] for name in "abcd"}):
        with pytest.raises(ValueError, match="groups must be from 1 to 3 with one or more runs each"):
            figures.without_colours(bad)


def test_axes_of_hue_come_round() -> None:
    low = {0: 80.0, 60: 40.0, 120: 10.0}
    drawing = figures.along_axes({"one axis": [low], "two": [{0: 70.0, 120: 60.0}, {0: 75.0, 120: 90.0}]})
    (frame,) = drawing.figure.axes
    assert points(frame) == [
        [(0, 80), (60, 40), (120, 10), (180, 80)], [(0, 70), (120, 60), (180, 70)], [(0, 75), (120, 90), (180, 75)]
    ]  # fmt: skip
    colours = [line.get_color() for line in frame.lines]
    assert colours[0] != colours[1] == colours[2]
    assert "one axis: 10 to 10 on the worst axis, 80 to 80 on the best" in drawing.alt
    assert "two: 60 to 75 on the worst axis, 70 to 90 on the best." in drawing.alt
    for bad in ({}, {"none": []}, {name: [low] for name in "abc"}):
        with pytest.raises(ValueError, match="groups must be one or two with a network or more each"):
            figures.along_axes(bad)


def test_labels_of_widths_do_not_lie_on_each_other() -> None:
    """The widths of chapter 11 and of Table 9, which are near each other where networks are small."""
    widths = (0.35, 0.5, 0.75, 1.0, 1.25)
    costs = {"Small": (12, 21, 44, 57, 91), "Large": (40, 69, 155, 217, 356)}
    top1 = {"Small": (49.8, 58.0, 65.4, 67.4, 70.4), "Large": (64.2, 68.8, 73.3, 75.2, 76.6)}
    curves = {
        name: {width: (x, (y,)) for width, x, y in zip(widths, costs[name], top1[name], strict=True)} for name in costs
    }
    figure = figures.accuracy_over_work({"there": curves}).figure
    figure.draw_without_rendering()
    labels = [text for text in figure.axes[0].texts if text.get_text()]
    assert len(labels) == 10
    boxes = [label.get_window_extent() for label in labels]
    touching = [
        (one.get_text(), other.get_text())
        for (one, here), (other, there) in combinations(zip(labels, boxes, strict=True), 2)
        if here.overlaps(there)
    ]
    assert touching == []
