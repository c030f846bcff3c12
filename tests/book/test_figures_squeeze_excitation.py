"""The figures of chapter 03 say in words what they draw, and refuse what they cannot."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from figures import squeeze_excitation as figures

from mnv3lib import cost
from mnv3lib.blocks import SqueezeExcitation
from mnv3lib.config import MobileNetV3Config, large, small


def size(channels: int, squeeze: int) -> int:
    return sum(p.numel() for p in SqueezeExcitation(channels, squeeze).parameters())


@pytest.mark.parametrize(("config", "gated"), [(large(), 8), (small(), 9)])
def test_bars_and_words_agree_with_the_built_layers(config: MobileNetV3Config, gated: int) -> None:
    drawing = figures.parameters_of_gates({"It": config})
    (frame,) = drawing.figure.axes
    totals, gates = ([bar.get_height() for bar in bars] for bars in frame.containers)
    assert totals == pytest.approx([n / 1e3 for n in cost.profile(config).parameters_by_feature[1:-2]])
    built = [size(r.expanded_channels, r.squeeze_channels) / 1e3 if r.use_se else 0 for r in config.rows]
    assert gates == pytest.approx(built)
    assert f"{gated} of {len(config.rows)} rows have one" in drawing.alt
    assert f"{sum(gates):.0f} of {sum(totals):.0f} thousand" in drawing.alt


@pytest.mark.parametrize("expanded", [16, 96, 960])
@pytest.mark.parametrize("divided_by", [1, 4, 16])
def test_the_chosen_point_is_the_size_of_the_layer(expanded: int, divided_by: int) -> None:
    drawing = figures.squeeze_cost(expanded=expanded, divided_by=divided_by, rest=1000)
    own, chosen = (np.asarray(points.get_offsets())[0].tolist() for points in drawing.figure.axes[0].collections)
    assert own[0] == SqueezeExcitation(expanded).fc1.out_channels
    assert chosen[1] == size(expanded, int(chosen[0]))
    assert own == chosen or divided_by != 4
    assert f"squeeze width {chosen[0]:.0f}, {chosen[1]:,.0f} parameters" in drawing.alt


def test_its_axes_stand_still_and_hold_every_point() -> None:
    limits = set()
    for expanded in (16, 960):
        for divided_by in (1, 16):
            axes = figures.squeeze_cost(expanded=expanded, divided_by=divided_by, rest=1000).figure.axes[0]
            limits.add((axes.get_xlim(), axes.get_ylim()))
    assert len(limits) == 1
    with pytest.raises(ValueError, match="divided_by must be"):
        figures.squeeze_cost(expanded=96, divided_by=0, rest=1000)


def test_ranges_run_from_the_lowest_gate_to_the_highest() -> None:
    layers = [torch.tensor([0.1, 0.5, 0.6]), torch.tensor([0.2, 0.3, 0.9])]
    drawing = figures.gate_ranges({"cat": layers, "dog": layers[::-1]})
    axes = drawing.figure.axes[0]
    assert axes.get_ylim() == (0, 1)
    whole = [np.asarray(path.vertices)[:, 1].tolist() for path in axes.collections[0].get_paths()]
    assert whole == [pytest.approx([0.1, 0.6]), pytest.approx([0.2, 0.9])]
    assert "cat from 0.10 to 0.90; dog from 0.10 to 0.90" in drawing.alt


def test_a_closed_gate_leaves_black_and_titles_give_the_gates() -> None:
    photo, channel = torch.rand(3, 4, 6), torch.full((3, 5), 0.4)
    drawing = figures.gated_photos({"cat": (photo, {"on": channel, "off": channel}, [0.5, 0.0])}, ceiling=0.4)
    _, on, off = drawing.figure.axes
    shown = [np.asarray(frame.images[0].get_array()).max() for frame in (on, off)]
    assert shown == pytest.approx([0.5, 0], abs=1 / 31)
    assert shown[1] == 0
    assert [frame.images[0].get_clim() for frame in (on, off)] == [(0, 1), (0, 1)], "one scale of grey for all"
    assert [frame.get_title() for frame in (on, off)] == ["on × 0.50", "off × 0.00"]
    assert drawing.data == {"cat, on": (pytest.approx(0.4), 0.5), "cat, off": (pytest.approx(0.4), 0.0)}
    assert "cat, on channel of mean 0.400 times a gate of 0.50; cat, off channel of mean 0.400 times" in drawing.alt
    with pytest.raises(ValueError, match="gates must hold one factor for each of 1"):
        figures.gated_photos({"cat": (photo, {"on": channel}, [0.5, 0.0])}, ceiling=0.4)
