"""The figures on transfer show the numbers that they are given, and say them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from figures import transfer_learning as figures

from mnv3lib.explore.palette import REFERENCE

TRAINED = [0.1, 0.2, 0.55, 0.7, 0.65]
RANDOM = [0.12, 0.11, 0.1, 0.09, 0.1]


def marks(frame: Any) -> list[tuple[list[float], list[float]]]:
    """The points of all lines of a frame, rounded."""
    return [
        tuple(np.round(np.asarray(values, float), 6).tolist() for values in line.get_data()) for line in frame.lines
    ]


def test_depth_is_drawn_on_axes_that_do_not_move() -> None:
    drawing = figures.accuracy_by_depth({"trained": TRAINED, "random": RANDOM}, chance=0.1, question="which digit?")
    (frame,) = drawing.figure.axes
    dashed, trained, random = marks(frame)
    assert dashed[1] == [10, 10]
    assert [line.get_label() for line in frame.lines] == ["guessing", "trained", "random"]
    assert trained == ([0, 1, 2, 3, 4], [10, 20, 55, 70, 65])
    assert random[1] == [12, 11, 10, 9, 10]
    assert frame.get_ylim() == (0, 100)
    other = figures.accuracy_by_depth({"trained": RANDOM}, chance=0.5, question="odd?")
    assert other.figure.axes[0].get_ylim() == frame.get_ylim()
    assert other.figure.axes[0].get_xlim() == frame.get_xlim()


def test_depth_in_words_names_the_best_place() -> None:
    alt = figures.accuracy_by_depth({"trained": TRAINED, "random": RANDOM}, chance=0.1, question="which digit?").alt
    assert "'which digit?', guessing gets 10%" in alt
    assert "trained: 10 % after the stem, 65 % at the end, best 70 % after block 3" in alt
    assert "random: 12 % after the stem, 10 % at the end, best 12 % after the stem" in alt
    rising = figures.accuracy_by_depth({"a": [0.1, 0.2, 0.3]}, chance=0.1, question="?").alt
    assert "best 30 % after the last convolution" in rising


def test_ticks_are_rows() -> None:
    (frame,) = figures.accuracy_by_depth({"a": [0.5] * 13}, chance=0.1, question="?").figure.axes
    shown = [label.get_text() for label in frame.get_xticklabels()]
    assert shown == ["stem", "3", "6", "9", "last"]
    assert frame.get_xticks().tolist() == [0, 3, 6, 9, 12]


@pytest.mark.parametrize("curves", [{}, {"a": [0.1, 0.2], "b": [0.1]}, {"a": [0.5]}, dict.fromkeys("abcd", TRAINED)])
def test_curves_that_do_not_go_together_are_refused(curves: dict[str, list[float]]) -> None:
    with pytest.raises(ValueError, match="curves must be one to 3 of one length"):
        figures.accuracy_by_depth(curves, chance=0.1, question="?")


CURVES = {"from scratch": {50: [0.1, 0.2], 1000: [0.3, 0.5]}, "all weights": {50: [0.6, 0.7], 1000: [0.8, 0.9]}}


def test_every_seed_is_a_mark_and_lines_go_through_their_means() -> None:
    drawing = figures.accuracy_over_images({"Turned": CURVES, "Colour": {"backbone frozen": {50: [0.2]}}})
    above, below = drawing.figure.axes
    assert above.get_xscale() == "log"
    assert (above.get_ylim(), below.get_ylim()) == ((0, 100), (0, 100))
    scratch, few, many, whole = marks(above)[:4]
    assert scratch == ([50, 1000], [15, 40])
    assert few == ([50, 50], [10, 20])
    assert many == ([1000, 1000], [30, 50])
    assert whole[1] == [65, 85]
    assert above.lines[0].get_color() == REFERENCE
    assert "Turned, from scratch: 15 with 50, 40 with 1,000" in drawing.alt
    assert "Colour, backbone frozen: 20 with 50" in drawing.alt
    assert [text.get_text() for text in drawing.figure.legends[0].get_texts()] == [*CURVES, "backbone frozen"]
    with pytest.raises(ValueError, match=r"strategies must be among 'from scratch', .*, got 'magic'"):
        figures.accuracy_over_images({"x": {"magic": {50: [0.1]}}})


def test_what_needs_no_labels_is_a_line_across() -> None:
    levels = {"Turned": {"unchanged": 0.81, "guessing": 0.1}}
    drawing = figures.accuracy_over_images({"Turned": CURVES}, levels=levels)
    *_, unchanged, guessing = drawing.figure.axes[0].lines
    assert [set(line.get_ydata()) for line in (unchanged, guessing)] == [{81}, {10}]
    assert [line.get_linestyle() for line in (unchanged, guessing)] == ["--", ":"]
    assert drawing.alt.endswith("Turned, unchanged: 81. Turned, guessing: 10.")
    assert [text.get_text() for text in drawing.figure.legends[0].get_texts()] == [*CURVES, "unchanged", "guessing"]


def test_pairs_are_joined() -> None:
    rows = {"fog": (0.26, 0.87), "noise": (0.8, 0.79)}
    drawing = figures.before_and_after(rows, names=("old statistics", "new ones"), reference=0.88)
    (frame,) = drawing.figure.axes
    dashed, *lines = marks(frame)
    assert dashed[0] == [88, 88]
    assert lines[:3] == [([26, 87], [0, 0]), ([26], [0]), ([87], [0])]
    assert lines[3][0] == [80, 79]
    assert [label.get_text() for label in frame.get_yticklabels()] == ["fog", "noise"]
    assert frame.get_xlim() == (0, 100)
    assert drawing.alt == (
        "Accuracies with old statistics and with new ones. fog: 26% and 87%; noise: 80% and 79%. "
        "The dashed line is at 88%."
    )
