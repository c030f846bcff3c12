"""The chapter on quantisation: weights are rounded to what integers can hold, and figures say what they draw."""

from __future__ import annotations

from html import escape
from typing import Any

import pytest
import torch
from figures import measured, quantization
from figures.quantization import (
    Summary,
    accuracy,
    channel_ranges,
    digits,
    file_sizes,
    histogram,
    is_depthwise,
    layers,
    logits,
    steps_used,
    text_lines,
    times_in_8_bits,
    top1,
    with_rounded_weights,
)
from torch import nn

from mnv3lib import mobilenet_v3_small


def pair() -> nn.Module:
    """A depthwise and a pointwise convolution, with channels of very different size."""
    network = nn.Sequential(nn.Conv2d(2, 2, 1, groups=2), nn.Conv2d(2, 2, 1)).eval()
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([7.0, 0.6]).reshape(2, 1, 1, 1))
        network[1].weight.copy_(torch.tensor([[7.0, -3.2], [0.6, 0.2]]).reshape(2, 2, 1, 1))
    return network


def test_one_scale_leaves_small_channels_a_step_or_nothing() -> None:
    rounded = with_rounded_weights(pair(), 4, per_channel=False)
    assert rounded[0].weight.flatten().tolist() == [7, 1]
    assert rounded[1].weight.flatten().tolist() == [7, -3, 1, 0]


def test_a_scale_for_each_channel_keeps_its_largest_weight() -> None:
    rounded = with_rounded_weights(pair(), 4, per_channel=True)
    assert rounded[0].weight.flatten().tolist() == pytest.approx([7, 0.6])
    assert rounded[1].weight.flatten().tolist() == pytest.approx([7, -3, 0.6, 2 * 0.6 / 7])


def test_only_the_layers_that_were_asked_for_are_rounded_and_the_network_is_not_changed() -> None:
    network = pair()
    rounded = with_rounded_weights(network, 4, per_channel=False, only=is_depthwise)
    assert rounded[0].weight.flatten().tolist() == [7, 1]
    assert torch.equal(rounded[1].weight, network[1].weight)
    assert network[0].weight.flatten().tolist() == pytest.approx([7, 0.6])


def test_one_bit_is_refused() -> None:
    with pytest.raises(ValueError, match="bits must be 2 or more, got 1"):
        with_rounded_weights(pair(), 1, per_channel=True)


def test_depthwise_layers_are_those_of_the_blocks() -> None:
    found = [layer for layer in layers(mobilenet_v3_small(num_classes=2)) if is_depthwise(layer)]
    assert len(found) == 11
    assert {layer.kernel_size for layer in found} == {(3, 3), (5, 5)}
    assert not is_depthwise(nn.Conv2d(1, 1, 3))


def test_top1_counts_images_over_all_batches() -> None:
    images = torch.eye(3).repeat(2, 1)
    labels = torch.tensor([0, 1, 2, 0, 1, 0])
    assert torch.equal(logits(nn.Identity(), images, batch=4), images)
    assert top1(nn.Identity(), images, labels) == pytest.approx(5 / 6)


def test_digits_are_normalised_images_of_the_split() -> None:
    images, labels = digits("test", 3)
    assert images.shape == (3, 3, 64, 64)
    assert images.dtype == torch.float32
    assert images.min() < 0 < images.max()
    assert labels.shape == (3,)
    assert not torch.equal(images, digits("val", 3)[0])


def test_lines_are_the_seed_s_and_stand_both_ways() -> None:
    images, labels = text_lines(12)
    again, same = text_lines(12)
    assert torch.equal(images, again)
    assert torch.equal(labels, same)
    assert images.shape == (12, 3, 48, 192)
    assert set(labels.tolist()) == {0, 1}
    assert not torch.equal(images, text_lines(12, seed=1)[0])


def test_a_line_of_the_accuracies_for_each_way() -> None:
    found = {"each": {8: 0.94, 4: 0.9}, "one": {8: 0.93, 4: 0.7}}
    drawing = accuracy(found, 0.94, 0.1)
    each, one, *_ = drawing.figure.axes[0].lines
    assert list(each.get_ydata()) == [0.94, 0.9]
    assert list(one.get_ydata()) == [0.93, 0.7]
    assert drawing.alt == (
        "Top-1 over bits. each: 8 bits 94%, 4 bits 90%; one: 8 bits 93%, 4 bits 70%. float32 94%, guessing 10%."
    )


def test_errors_are_of_rounding_inside_the_range_and_of_cutting_outside() -> None:
    values = torch.tensor([-1.0, 0.0, 0.3, 1.0])
    spread = values.double().std(correction=0).item()
    whole = histogram(values, 0.5, 2, 0, 4)
    assert whole.data["cut"] == whole.data["outside"] == 0
    assert whole.data["rounding"] == whole.data["both"] == pytest.approx(0.2 / 2 / spread)
    narrow = histogram(values, 0.1, 5, 0, 10)
    assert narrow.data["rounding"] == pytest.approx(0, abs=1e-6)
    assert narrow.data["cut"] == pytest.approx((0.5**2 / 2) ** 0.5 / spread)
    assert narrow.data["outside"] == 0.5
    assert "11 integers" in narrow.alt
    assert "zero point 5" in narrow.alt


def test_a_bar_for_each_channel_and_a_line_for_each_level() -> None:
    drawing = channel_ranges(torch.tensor([0.6, 7.0, 1.4, 1.6]).reshape(4, 1, 1, 1), bits=4)
    (axes,) = drawing.figure.axes
    assert [bar.get_height() for bar in axes.patches] == pytest.approx([7, 1.6, 1.4, 0.6])
    assert [line.get_ydata()[0] for line in axes.lines] == pytest.approx([1, 2, 3, 4, 5, 6, 7])
    assert drawing.data["few"] == 2


def test_steps_stand_beside_their_bars() -> None:
    drawing = steps_used({"block 4": 7.4, "block 5": 11}, {"block 4": 3})
    left, right = drawing.figure.axes
    assert [bar.get_width() for bar in left.patches] == [7.4, 11]
    assert [bar.get_width() for bar in right.patches] == [3]
    assert drawing.alt == (
        "Bars of steps out of 255. h-swish below 0: block 4 7, block 5 11; mean of a channel: block 4 3."
    )


def test_times_are_those_of_the_same_engine_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    def result(network: str, **ratios: float) -> dict[str, Any]:
        lines = [{"way": way.replace("_int8", ", int8"), "ratio": [ratio, 0, 9]} for way, ratio in ratios.items()]
        return {"network": network, "batch": 1, "lines": lines}

    files = [
        {"results": [result("a", x=0.5)]},
        {"results": [result("b", x=1, x_int8=9), result("a", y=0.4, x=0.5, x_int8=0.25)]},
    ]
    monkeypatch.setattr(quantization.speed, "load", lambda name: files)
    assert times_in_8_bits("a") == {"x": 0.5}
    with pytest.raises(ValueError, match="measured in 8 bits, got 'c' and 1"):
        times_in_8_bits("c")


def test_the_table_has_what_was_measured() -> None:
    study, times, sizes = measured.load("quantization"), times_in_8_bits(), file_sizes()
    table = Summary({"float32": "plain", "onednn": "b", "qnnpack": "c < d"})
    head, float32, onednn, qnnpack = table.rows
    assert head == ("", "top-1, %", "ONNX file, MB", *times)
    assert float32[:2] == ("plain", f"{100 * study.mean('float32'):.1f}")
    values = [100 * value for value in study.values("onednn")]
    assert onednn[1] == f"{sum(values) / 3:.1f} ({min(values):.1f}–{max(values):.1f})"
    assert onednn[2] == f"{sizes['onednn'] / 1e6:.2f}"
    assert onednn[3:] == tuple(f"{ratio:.2f}" for ratio in times.values())
    assert float32[3:] == ("1.00",) * len(times)
    assert qnnpack[3:] == ("–",) * len(times)
    shown = table._repr_html_()
    assert all(f">{escape(cell)}</" in shown for row in table.rows for cell in row)
    assert shown.count("<tr>") == len(table.rows) == len(repr(table).splitlines())


def test_sizes_are_those_of_the_first_seed() -> None:
    sizes = file_sizes()
    assert set(sizes) == set(measured.load("quantization").variants)
    assert max(sizes, key=sizes.__getitem__) == "float32"
