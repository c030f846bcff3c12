"""The figures of the chapter on measuring say in words what they draw, and its machine does what it says."""

from __future__ import annotations

import statistics

import pytest
from figures import measuring_latency as figures
from figures.measuring_latency import DESIGNS, Machine


def test_bars_start_at_one_and_end_at_the_ratios() -> None:
    drawing = figures.ratios_to_one({"work": [0.7], "time": [1.4, 1.3, 1.5]}, title="B / A")
    (axes,) = drawing.figure.axes
    ends = [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in axes.patches]
    assert ends[0] == pytest.approx((1, 0.7))
    assert ends[1] == pytest.approx((1, 1.4))
    assert [label.get_text() for label in axes.get_yticklabels()] == ["work", "time"]
    intervals = [list(line.get_xdata()) for line in axes.lines if len(set(line.get_ydata())) == 1]
    assert intervals == [[1.3, 1.5]]
    assert drawing.alt == "Bars from 1 to ratios. B / A: work 0.70, time 1.40."
    assert drawing.data["ratios"] == {"work": [0.7], "time": [1.4, 1.3, 1.5]}


def test_a_machine_without_jitter_is_what_its_drift_makes_it() -> None:
    machine = Machine(truth=0.9, drift=0.3, jitter=0)
    after = machine.measure("one after the other", 2)
    assert after.seconds["A"] == pytest.approx([1.0, 1.1])
    assert after.seconds["B"] == pytest.approx([0.9 * 1.2, 0.9 * 1.3])
    turns = machine.measure("in turns", 2)
    assert turns.seconds["A"] == pytest.approx([1.0, 1.2])
    assert turns.seconds["B"] == pytest.approx([0.9 * 1.1, 0.9 * 1.3])


def test_without_drift_both_designs_find_the_truth() -> None:
    for design in DESIGNS:
        assert Machine(truth=0.8, seed=1).measure(design, 50).ratio("B").median == pytest.approx(0.8, abs=0.02)


def test_jitter_has_the_spread_that_is_asked_for() -> None:
    times = Machine(jitter=0.05).measure("in turns", 500).seconds["A"]
    assert statistics.stdev(times) == pytest.approx(0.05, abs=0.005)
    assert Machine(seed=1).measure("in turns", 5).seconds != Machine(seed=2).measure("in turns", 5).seconds


def test_points_are_drawn_in_the_order_of_the_calls() -> None:
    machine = Machine(drift=0.4)
    for design, first in (("one after the other", [0, 1, 2]), ("in turns", [0, 2, 4])):
        drawing = figures.measured_rounds(machine, design, 3)
        a, b = drawing.figure.axes[0].lines
        assert list(a.get_xdata()) == [20 * call for call in first]
        assert sorted([*a.get_xdata(), *b.get_xdata()]) == [0, 20, 40, 60, 80, 100]
        found = machine.measure(design, 3)
        assert list(b.get_ydata()) == found.seconds["B"]
        assert f"{found.ratio('B').median:.2f} of A's time" in drawing.alt
        assert "slower by 40%" in drawing.alt


@pytest.mark.parametrize("drift", [0, 0.4])
def test_axes_hold_all_points_and_do_not_move(drift: float) -> None:
    limits = set()
    for calls in (5, 50):
        axes = figures.measured_rounds(Machine(drift=drift), DESIGNS[0], calls).figure.axes[0]
        limits.add((axes.get_xlim(), axes.get_ylim()))
        for line in axes.lines:
            assert max(line.get_ydata()) < axes.get_ylim()[1]
            assert max(line.get_xdata()) < axes.get_xlim()[1]
    assert len(limits) == 1


def test_the_middle_of_the_drawn_medians() -> None:
    drawing = figures.resampled([0.8, 0.9, 1.0, 1.1, 1.2], draws=400)
    low, high = drawing.data["low"], drawing.data["high"]
    assert 0.8 <= low < 1.0 < high <= 1.2
    assert f"between {low:.2f} and {high:.2f}" in drawing.alt
    counted = sum(bar.get_height() for bar in drawing.figure.axes[0].patches)
    assert counted == 400


def test_what_a_machine_cannot_be() -> None:
    with pytest.raises(ValueError, match="design must be one of 'one after the other', 'in turns', got 'both'"):
        Machine().measure("both", 5)
    with pytest.raises(ValueError, match="drift"):
        Machine(drift=-0.1)
    with pytest.raises(ValueError, match="truth"):
        Machine(truth=0)


def test_more_calls_lower_the_minimum_and_leave_the_median() -> None:
    times = [12.0, 11.0, *[10.0] * 9, 9.0, *[10.0] * 88]
    drawing = figures.minimum_and_median(times)
    assert (drawing.data["median"][0], drawing.data["minimum"][0]) == (10, 10)
    assert (drawing.data["median"][-1], drawing.data["minimum"][-1]) == (10, 9)
    (axes,) = drawing.figure.axes
    assert [list(line.get_ydata()) for line in axes.lines] == [drawing.data["median"], drawing.data["minimum"]]
    assert axes.lines[0].get_xdata()[[0, -1]].tolist() == [10, 100]
    assert "10 to 100: the median goes from 10.0 to 10.0 ms; the minimum goes from 10.0 to 9.0 ms" in drawing.alt
