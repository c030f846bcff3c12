"""The chapter on detection: boxes that are counted by hand, and figures that say what they draw."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from figures.anchors import anchors, best_overlap, default_boxes, overlaps, positions
from figures.detection import (
    boxes_over,
    crowded,
    found_in,
    learning,
    many_digits,
    maps_over,
    precision_over_recall,
    published_over_time,
    scenes,
)
from figures.measured import Run, Study
from matplotlib.colors import to_hex
from PIL import Image
from torch import Tensor

from mnv3lib import facts
from mnv3lib.detectors import ssdlite
from mnv3lib.explore.palette import COLOURS


def _data(axes: Any) -> list[tuple[list[float], list[float]]]:
    """What the lines of a figure are drawn from: x and y of each."""
    return [tuple(np.asarray(values).tolist() for values in line.get_data()) for line in axes.lines]


def test_scenes_are_those_that_the_network_is_tested_on() -> None:
    (image, target), *_ = scenes(1)
    assert image.shape == (3, 160, 160)
    assert 0 <= image.min() < image.max() <= 1
    assert len(target["boxes"]) == len(target["labels"]) == 4


def test_many_digits_are_small_and_inside() -> None:
    image, boxes = many_digits()
    assert image.shape == (3, 320, 320)
    assert boxes.shape == (9, 4)
    assert ((boxes >= 0) & (boxes <= 320)).all()
    assert (boxes[:, 2:] - boxes[:, :2]).max() <= 32


def test_a_digit_is_drawn_once_more() -> None:
    (*_, (image, target)) = scenes(3)
    both, more = crowded()
    assert more["labels"].tolist() == [*target["labels"].tolist(), target["labels"][1]]
    assert (more["boxes"][-1] - more["boxes"][1]).tolist() == [25, 0, 25, 0]
    left, top, right, bottom = more["boxes"][-1].int().tolist()
    changed = (both != image).any(0)
    assert changed[top:bottom, left:right].any()
    changed[top:bottom, left:right] = False
    assert not changed.any()


def test_anchors_stand_a_stride_apart_and_have_their_sizes() -> None:
    found = anchors([(32,), (64,)], (16, 32), side=64)
    assert len(found) == 3 * (16 + 4)
    square = found[1]  # of ratios ½, 1 and 2
    assert (square[2:] - square[:2]).tolist() == [32, 32]
    assert (found[3] - found[0]).tolist() == [16, 0, 16, 0]


def test_default_boxes_are_as_many_as_the_positions_have() -> None:
    assert len(default_boxes(ssdlite("small", size=160))) == 6 * (100 + 25 + 9 + 4 + 1 + 1)
    assert len(default_boxes(ssdlite("large", fewer_boxes=True))) == 2034
    first = default_boxes(ssdlite("large"))[0]
    assert (first[2:] - first[:2]).tolist() == pytest.approx([64, 64], abs=1e-3)


def test_positions_fill_one_period_evenly() -> None:
    boxes = positions(10, period=8, steps=4, start=16)
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    assert sorted(set(middle[:, 0].tolist())) == sorted(set(middle[:, 1].tolist())) == [17, 19, 21, 23]
    assert len(boxes) == 16
    assert (boxes[:, 2:] - boxes[:, :2] == 10).all()


def test_overlaps_are_fractions_of_the_positions() -> None:
    everywhere = positions(32)  # an anchor at each position
    half = everywhere[: len(everywhere) // 2]
    assert overlaps(everywhere, (32,), least=0.999) == {32: 1.0}
    assert overlaps(half, (32,), least=0.999) == {32: 0.5}
    assert overlaps(everywhere, (8,)) == {8: 0.0}


def test_maps_are_drawn_as_grids_over_the_scene() -> None:
    image, box = torch.zeros(3, 40, 40), torch.tensor([[10.0, 10, 20, 20]])
    shown = maps_over(image, box, {"one": (2, 1), "other": (4,)})
    picture = np.asarray(Image.open(io.BytesIO(shown.data)).convert("L")).astype(int)
    assert picture.shape == (2 * 520, 800)
    middle = picture[120 + 300, :]  # below the object, between the lines
    lines = [place for place in (100, 200, 300, 600) if middle[place - 3 : place + 4].max() > 60]
    assert lines == [200]  # a grid of 2×2 beside one of 1×1
    assert shown.alt == "A scene with 1 small objects below grids. one: 2×2, 1×1 positions; other: 4×4 positions."


def test_right_and_wrong_detections_have_their_colours() -> None:
    target = {"boxes": torch.tensor([[10.0, 10, 30, 30]]), "labels": torch.tensor([1])}
    found = {"boxes": torch.tensor([[10.0, 10, 30, 30], [10.0, 10, 30, 30]]), "labels": torch.tensor([1, 2]),
             "scores": torch.tensor([0.9, 0.8])}  # fmt: skip
    blue, orange = ({**found, **{name: values[place] for name, values in found.items()}} for place in ([0], [1]))
    pictures = []
    for one in (blue, orange):
        shown = found_in([(torch.zeros(3, 40, 40), target)], {"a way": [one]}, ("none", "a", "b"))
        assert "1 digits with detections: a way 1 boxes" in shown.alt
        pictures.append(np.asarray(Image.open(io.BytesIO(shown.data)).convert("RGB")).astype(int))
    edge = [picture[120 + 200, 99:104].sum(0) for picture in pictures]  # the left side of the box
    assert edge[0][2] > edge[0][0]
    assert edge[1][0] > edge[1][2]


def test_boxes_are_drawn_where_they_are() -> None:
    groups = {"some": torch.tensor([[1.0, 2, 5, 8], [0.0, 0, 4, 4]]), "none": torch.zeros(0, 4)}
    drawing = boxes_over(torch.rand(3, 16, 16), groups, title="A title", grid=4, objects=torch.tensor([[3.0, 3, 9, 9]]))
    axes: Any = drawing.figure.axes[0]
    corners = [(*box.get_xy(), box.get_width(), box.get_height()) for box in axes.patches]
    assert corners == [(1, 2, 4, 6), (0, 0, 4, 4), (3, 3, 6, 6)]
    assert to_hex(axes.patches[0].get_edgecolor()).upper() == COLOURS["sky"]
    assert drawing.alt == "A title. Boxes over a scene: some 2, none 0."
    assert drawing.data == {"some": 2, "none": 0}
    assert axes.images[0].get_array().shape == (8, 8)
    with pytest.raises(ValueError, match="groups must be up to 3, got 4"):
        boxes_over(torch.rand(3, 16, 16), dict.fromkeys("abcd", groups["none"]), title="")


def test_overlaps_are_drawn_and_said() -> None:
    drawing = best_overlap({"one": {16: 0.0, 32: 0.25}, "two": {16: 0.5, 32: 1.0}})
    (axes,) = drawing.figure.axes
    assert [ys for _, ys in _data(axes)] == [[0, 25], [50, 100]]
    assert axes.get_xscale() == "log"
    assert "one: 0% at 16, 25% at 32; two: 50% at 16, 100% at 32" in drawing.alt


def test_what_average_precision_averages_is_the_best_from_there_on() -> None:
    drawing = precision_over_recall([(0.5, 1.0), (0.5, 0.5), (1.0, 2 / 3)], 0.83)
    assert drawing.data["best"] == [1.0, 2 / 3, 2 / 3]
    assert "0.50, 1.00; 0.50, 0.50; 1.00, 0.67. Average precision 0.83" in drawing.alt


def test_published_detectors_are_all_there() -> None:
    rows = facts.load()["detection"]["rows"]
    drawing = published_over_time(rows)
    points = _data(drawing.figure.axes[0])
    assert [(xs[0], ys[0]) for xs, ys in points] == [(r["latency"], r["map"]) for r in rows]
    assert "Large, reduced tail 22.0 at 119 ms" in drawing.alt


def _study() -> Study:
    def run(variant: str, seed: int, end: float) -> Run:
        return Run(variant=variant, seed=seed, assignments=(), test={"ap": end}, best={}, parameters=1, macs=1,
                   seconds=1.0, epochs={"epoch": (1, 2), "ema_ap": (end / 2, end)}, made={})  # fmt: skip

    runs = (run("a", 1, 0.5), run("b", 1, 0.625), run("a", 2, 0.25), run("b", 2, 0.75))
    return Study(name="it", about="", command="", recipe="", runs=runs)


def test_every_run_is_a_line() -> None:
    drawing = learning(_study(), {"a": "the first", "b": "the second"})
    assert [ys for _, ys in _data(drawing.figure.axes[0])] == [[25, 50], [12.5, 25], [31.25, 62.5], [37.5, 75]]
    assert "the first: 25 to 50 at the end; the second: 62 to 75 at the end" in drawing.alt


def test_a_half_of_the_pixels_is_enough_for_a_background() -> None:
    image = Tensor([[[0.0, 1.0], [1.0, 0.0]]]).expand(3, 2, 2)
    drawing = boxes_over(image, {"none": torch.zeros(0, 4)}, title="A background")
    axes: Any = drawing.figure.axes[0]
    assert axes.images[0].get_array().tolist() == [[4 * 255 // 7]]
