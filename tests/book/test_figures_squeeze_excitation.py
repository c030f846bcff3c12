"""The figures of chapter 03 say in words what they draw, and refuse what they cannot."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from figures import squeeze_excitation as figures
from PIL import Image

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
    assert f"{gated} of {len(config.rows)} blocks have one" in drawing.alt
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
    assert shown == pytest.approx([0.5, 0], abs=1 / 30 + 1e-6)  # half a level of 15
    assert shown[1] == 0
    assert [frame.images[0].get_clim() for frame in (on, off)] == [(0, 1), (0, 1)], "one scale of grey for all"
    assert [frame.get_title(loc="left") for frame in (on, off)] == ["on × 0.50", "off × 0.00"]
    assert drawing.data == {"cat, on": (pytest.approx(0.4), 0.5), "cat, off": (pytest.approx(0.4), 0.0)}
    assert "cat, on channel of mean 0.400 times a gate of 0.50; cat, off channel of mean 0.400 times" in drawing.alt
    with pytest.raises(ValueError, match="gates must hold one factor for each of 1"):
        figures.gated_photos({"cat": (photo, {"on": channel}, [0.5, 0.0])}, ceiling=0.4)


def test_edges_and_warmth_of_a_photograph_that_fits_on_paper() -> None:
    photo = torch.zeros(3, 2, 3)
    photo[:, 0, 1] = 0.9  # white beside black
    photo[0, 0, 2] = 0.6  # red
    edges, warm = figures.edges_and_warmth(photo)
    assert torch.allclose(edges, torch.tensor([[0.9, 0.7 + 0.9]])), "to the right plus down"
    assert torch.allclose(warm, torch.tensor([[0.0, 0.0]])), "the last column has no right neighbour"
    assert torch.allclose(figures.edges_and_warmth(photo.flip(2))[1], torch.tensor([[0.6, 0.0]]))


def test_the_sun_covers_what_it_says_and_leaves_the_photograph_alone() -> None:
    photo = torch.zeros(3, 20, 20)
    painted = figures.with_sun(photo, 9)
    assert (painted[0] == 1).sum() == 36
    assert (painted[0, :6, -6:] == 1).all()
    assert photo.sum() == 0
    assert figures.with_sun(photo, 0).sum() == 0


def test_gated_photographs_are_as_bright_as_their_gates() -> None:
    photo = torch.rand(3, 41, 61)
    shown = figures.gated_photographs({"a": (photo, {"edges": 1.0}), "b": (photo, {"edges": 0.5})}, ceiling=1, width=60)
    picture = np.asarray(Image.open(io.BytesIO(shown.data)).convert("L"), dtype=float)
    assert picture.shape == (2 * 40 + 8, 2 * 60 + 8)
    above, below = picture[:40, 68:], picture[48:, 68:]
    assert below.mean() / above.mean() == pytest.approx(0.5, abs=0.05)
    assert (
        shown._repr_jpeg_()[1]["alt"]
        == "Photographs and their channels: a, its edges times 1.00; b, its edges times 0.50."
    )
