"""The ladder draws a bar a way, in the precision that is asked for, and says in words what it draws."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from figures import speed
from figures.faster_inference import calls, ladder, layouts

from mnv3lib.deploy.paths import PATHS, label


def result(**ratios: float) -> dict[str, Any]:
    lines = [
        {"way": way, "milliseconds": 10 * ratio, "ratio": [ratio, ratio - 0.01, ratio + 0.02]}
        for way, ratio in {"PyTorch": 1.0, **ratios}.items()
    ]
    return {"network": "one", "batch": 1, "floor_ms": 1.5, "lines": lines}


MIXED = {"OpenVINO": 0.4, "OpenVINO, bf16": 0.3, "engine": 0.2, "engine, bf16": 0.1, "folded, channels last": 0.8}


def test_float32_leaves_the_other_precisions_out() -> None:
    drawing = ladder(result(**MIXED))
    (axes,) = drawing.figure.axes
    assert drawing.data["ratios"] == {"PyTorch": 1, "OpenVINO": 0.4, "engine": 0.2, "folded, channels last": 0.8}
    assert [bar.get_width() for bar in axes.patches] == [1, 0.4, 0.2, 0.8]
    assert [text.get_text() for text in axes.get_yticklabels()][-1] == "folded,\nchannels last"
    assert drawing.alt == (
        "Bars of times as fractions of eager PyTorch's, batch 1: PyTorch 1.00, OpenVINO 0.40, engine 0.20, folded, "
        "channels last 0.80. The floor of this processor in float32 is 0.15."
    )


def test_bfloat16_stands_beside_eager_pytorch() -> None:
    drawing = ladder(result(**MIXED), precision="bf16")
    assert drawing.data["ratios"] == {"PyTorch": 1, "OpenVINO, bf16": 0.3, "engine, bf16": 0.1}


def test_nothing_below_the_ladder_moves_with_the_precision() -> None:
    drawings = [ladder(result(**MIXED), precision=precision) for precision in ("fp32", "bf16", "int8")]
    assert len({drawing.figure.get_size_inches()[1] for drawing in drawings}) == 1
    assert {drawing.figure.axes[0].get_ylim() for drawing in drawings} == {(3.5, -0.5)}


def test_kinds_of_ways_have_colours_of_their_own() -> None:
    axes = ladder(result(**MIXED)).figure.axes[0]
    eager, other, ours, folded = (bar.get_facecolor() for bar in axes.patches)
    assert eager == folded
    assert len({eager, other, ours}) == 3
    axes = ladder(result(**MIXED), precision="bf16").figure.axes[0]
    assert [bar.get_facecolor() for bar in axes.patches] == [eager, other, ours]


def test_intervals_and_the_floor_are_where_they_were_measured() -> None:
    axes = ladder(result(engine=0.2)).figure.axes[0]
    first, second, floor = (list(line.get_xdata()) for line in axes.lines)
    assert first == pytest.approx([0.99, 1.02])
    assert second == pytest.approx([0.19, 0.22])
    assert floor == pytest.approx([0.15, 0.15])


def test_every_measured_result_fits_the_axis() -> None:
    """And has the ways that the library knows."""
    for measured in speed.load("inference"):
        for found in measured["results"]:
            for precision in ("fp32", "bf16"):
                drawing = ladder(found, precision=precision)
                assert max(drawing.data["ratios"].values()) < drawing.figure.axes[0].get_xlim()[1]
            known = {label(way, kind) for way, path in PATHS.items() for kind in path.precisions}
            assert {line["way"] for line in found["lines"]} <= known


def test_calls_that_folding_removes_are_bars_of_no_length() -> None:
    drawing = calls({"relu": 5, "batch_norm": 34, "conv2d": 52}, {"conv2d": 52, "relu": 5})
    (axes,) = drawing.figure.axes
    assert [text.get_text() for text in axes.get_yticklabels()] == ["conv2d", "batch_norm", "relu"]
    assert [bar.get_width() for bar in axes.patches] == [52, 34, 5, 52, 0, 5]
    assert drawing.alt.endswith("conv2d 52 and 52, batch_norm 34 and 0, relu 5 and 5.")


def test_the_layouts_are_those_of_pytorch() -> None:
    drawing = layouts(3, 4, 3)
    values = torch.arange(12).reshape(1, 3, 2, 2)  # its value is its place by default: 4 times the channel + position
    for order, format in zip(
        drawing.data["orders"].values(), (torch.contiguous_format, torch.channels_last), strict=True
    ):
        stored = values.contiguous(memory_format=format).as_strided((12,), (1,))
        assert [4 * channel + position for channel, position in order] == stored.tolist()
    assert (
        "channels last: position after position, first channel 0 at position 0, channel 1 at position 0" in drawing.alt
    )
