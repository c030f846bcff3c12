"""Tables that nobody printed: one channel, stages at any place, widths beyond what Python keeps as one object."""

from __future__ import annotations

import inspect
from dataclasses import FrozenInstanceError, replace

import pytest

from mnv3lib import config, cost
from mnv3lib.config import SMALL, InvertedResidualConfig, MobileNetV3Config


@pytest.mark.parametrize("left_out", range(4))
def test_all_of_the_last_stage_is_dilated_wherever_it_begins(left_out: int) -> None:
    rows = SMALL[left_out:]
    last = 8 - left_out
    assert rows[last].stride == 2
    for policy, first in (("torchvision", 2), ("paper", 1)):
        made = MobileNetV3Config.from_rows(rows, last_channel=1024, dilated=True, dilation_policy=policy)
        assert [row.dilation for row in made.rows] == [1] * last + [first, 2, 2]
    halved = MobileNetV3Config.from_rows(rows, last_channel=1024, reduced_tail=True)
    assert [row.out_channels for row in halved.rows] == [*(row.out_channels for row in rows[:last]), 48, 48, 48]
    assert [row.input_channels for row in halved.rows[last:]] == [48, 48, 48]
    assert [row.expanded_channels for row in halved.rows[last:]] == [288, 288, 288]


def test_one_channel_has_no_half() -> None:
    row = InvertedResidualConfig(1, 3, 1, 1, False, "RE", 2)
    made = MobileNetV3Config.from_rows((row, replace(row, stride=1)), last_channel=1, width_mult=16, reduced_tail=True)
    assert [(row.input_channels, row.expanded_channels, row.out_channels) for row in made.rows] == [(16, 16, 16)] * 2
    assert made.last_channel == 16


def test_equal_widths_are_equal_however_they_came_about() -> None:
    widths = [int(text) for text in ("1000", "1000", "1000")]  # three objects
    assert widths[0] is not widths[1]
    row = InvertedResidualConfig(widths[0], 3, widths[1], widths[2], False, "RE", 1)
    assert not row.use_expansion
    assert row.use_shortcut


@pytest.mark.parametrize("name", ["large", "small", "large_minimalistic", "small_minimalistic"])
def test_every_variant_shows_its_keywords(name: str) -> None:
    shown = inspect.signature(getattr(config, name)).parameters
    assert list(shown) == list(config.Options.__annotations__)
    assert shown["width_mult"].default == 1.0


def test_a_report_adds_up_its_layers_in_whole_numbers() -> None:
    report = cost.profile(config.small(), 64)
    for total in ("parameters", "macs", "activations"):
        counts = [getattr(layer, total) for layer in report.layers]
        assert getattr(report, total) == sum(counts)
        assert {type(count) for count in counts} == {int}
    assert report.receptive_field == report.layers[-1].receptive_field > 64
    assert report.macs_by_feature == tuple(sum(layer.macs for layer in group) for group in report.features)
    assert report.peak_memory(bytes_per_value=2) == 2 * report.peak_activations
    with pytest.raises(FrozenInstanceError):
        report.peak_activations = 0  # type: ignore[misc]
    with pytest.raises(AttributeError):
        report.layers[0].macs = 0  # type: ignore[misc]
    pointwise = ("squeeze", "excite", "pool", "hidden", "logits", "expand", "project")
    assert {layer.kernel for layer in report.layers if layer.kind in pointwise} == {1}
    assert {layer.stride for layer in report.layers if layer.kind in pointwise} == {1}
