"""The page on choosing: who wins within a limit, who is beaten, and a figure that says so."""

from __future__ import annotations

import pytest
from figures import choose
from figures.choose import beaten_by, best, front, is_v3, under_a_limit
from figures.families import peers


def row(model: str, top1: float, i7: float, i9: float) -> dict[str, object]:
    return {"model": model, "top1": top1, "i7_12700h": i7, "i9_10940x": i9}


ROWS = (row("mobilenetv3_a.x", 70, 200, 100), row("b.x", 75, 250, 50), row("c.x", 70, 200, 125), row("d.x", 90, 10, 10))


def test_the_best_within_a_limit_is_the_most_accurate_that_keeps_it() -> None:
    assert best(ROWS, "i7-12700H", 4)["model"] == "b.x"  # type: ignore[index]
    assert best(ROWS, "i9-10940X", 10)["model"] == "mobilenetv3_a.x"  # type: ignore[index]
    assert best(ROWS, "i9-10940X", 100)["model"] == "d.x"  # type: ignore[index]
    assert best(ROWS, "i7-12700H", 1) is None
    with pytest.raises(ValueError, match="processor must be one of 'i7-12700H', 'i9-10940X', got 'i5'"):
        best(ROWS, "i5", 4)
    with pytest.raises(ValueError, match="milliseconds must be"):
        best(ROWS, "i7-12700H", 0)


def test_a_network_is_beaten_by_what_is_nowhere_worse() -> None:
    assert beaten_by(ROWS[0], ROWS) == ["c.x"]
    assert beaten_by(ROWS[3], ROWS) == [], "it does not beat itself"
    assert beaten_by(ROWS[2], ROWS[:1]) == [], "a MobileNetV3 is no other network"


def test_a_front_gains_with_each_step() -> None:
    rows = [{"cost": 2, "top1": 5}, {"cost": 1, "top1": 5}, {"cost": 3, "top1": 4}, {"cost": 4, "top1": 9}]
    assert front(rows, "cost") == [rows[1], rows[3]]


@pytest.mark.parametrize("processor", choose.PROCESSORS)
def test_the_figure_rings_the_winners_and_names_them(processor: str) -> None:
    drawing = under_a_limit(processor, 5)
    (frame,) = drawing.figure.axes
    dots = {line.get_label(): len(line.get_xdata()) for line in frame.get_lines()}
    ours = sum(map(is_v3, peers()))
    assert (dots["MobileNetV3"], dots["others"]) == (ours, len(peers()) - ours)
    winner = best(peers(), processor, 5)
    assert winner is not None
    assert drawing.data["best"] == winner["model"]
    rings = [line for line in frame.get_lines() if line.get_markersize() == 12]
    assert rings[0].get_ydata()[0] == winner["top1"]
    assert f"best: {winner['model'].partition('.')[0]}, {winner['top1']:.1f} %" in drawing.alt
    low, high = frame.get_xlim()
    assert all(low < 1000 / row[choose.PROCESSORS[processor]] < high for row in peers())


def test_where_nothing_is_fast_enough_the_figure_says_none() -> None:
    assert "Within 1 ms, best: none; V3: none." in under_a_limit("i7-12700H", 1).alt
