"""The figures of chapter 08 draw the field, the taps and the layers they are given, and say them in words."""

from __future__ import annotations

import io
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from figures import tail_and_dilation as figures
from matplotlib.patches import Rectangle
from PIL import Image
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import mobilenet_v2

from mnv3lib import cost, facts
from mnv3lib.config import large
from mnv3lib.explore.drawing import Drawing

PHOTO = torch.rand(427, 640, generator=torch.Generator().manual_seed(0))
CHAINS: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "plain": ((1, 1), (1, 2)),
    "authors": ((1, 2), (1, 1)),
    "torchvision": ((2, 2), (1, 1)),
}


def field(side: int, stride: int) -> Drawing:
    return figures.field_on_photo(PHOTO, name="block 4", receptive_field=side, output_stride=stride)


@pytest.mark.parametrize(("side", "stride"), [(3, 2), (35, 8), (211, 16), (659, 16), (595, 32)])
def test_the_square_is_the_field_around_the_middle_dot(side: int, stride: int) -> None:
    drawing = field(side, stride)
    (axes,) = drawing.figure.axes
    squares = sorted((patch for patch in axes.patches if isinstance(patch, Rectangle)), key=Rectangle.get_width)
    assert {square.get_width() for square in squares} == {side, 224}
    own = next(square for square in squares if square.get_width() == side)
    dots = np.asarray(axes.collections[0].get_offsets())
    middle = dots.mean(0)
    assert own.get_center() == pytest.approx(middle)
    assert (middle - 0.5) % 32 == pytest.approx(0), "the pixel is a position of every feature map"
    assert all(step == stride for step in np.diff(np.unique(dots[:, 0])))
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    assert left <= own.get_x() <= own.get_x() + side <= right
    assert top <= own.get_y() <= own.get_y() + side <= bottom
    assert f"{side} pixels a side" in drawing.alt
    assert f"{stride} pixels apart" in drawing.alt
    assert axes.get_title(loc="left") == f"block 4 sees {side} px, one value every {stride}"


def test_nothing_moves_but_the_square_and_the_dots() -> None:
    views = {(axes.get_xlim(), axes.get_ylim()) for axes in (field(3, 2).figure.axes[0], field(595, 32).figure.axes[0])}
    assert len(views) == 1
    images = [field(3, stride).figure.axes[0].images[0].get_array() for stride in (2, 32)]
    assert np.array_equal(*images)


def test_the_photograph_is_a_jpeg_and_its_squares_lie_around_one_pixel() -> None:
    assert "data:image/jpeg;base64," in field(35, 8)._repr_svg_()
    photo = np.zeros((427, 640, 3), np.uint8)
    shown = figures.fields_on_photo(photo, {"block 4": 35, "block 15": 595}, half=190)
    picture = np.asarray(Image.open(io.BytesIO(shown.data)).convert("RGB")).astype(int)
    assert picture.shape[1] == round(1.5 * 640)
    assert picture.shape[0] > 1.5 * 595, "the largest square fits"
    orange = picture[..., 0] - picture[..., 2] > 150
    rows = np.flatnonzero(orange.sum(1) > 1.4 * 595)
    columns = np.flatnonzero(orange.sum(0) > 1.4 * 595)
    for lines in (rows, columns):
        assert lines[-1] - lines[0] == pytest.approx(1.5 * 595, abs=6)
    assert (columns[0] + columns[-1]) / 2 == pytest.approx(1.5 * 320, abs=3)
    assert "block 4 35, block 15 595 pixels; dashed 190" in shown.alt


def test_no_name_covers_the_dotted_line() -> None:
    shown = figures.fields_on_photo(np.zeros((427, 640, 3), np.uint8), {"block 10": 211, "block 15": 595}, half=190)
    picture = np.asarray(Image.open(io.BytesIO(shown.data)).convert("RGB")).astype(int)
    red, green, blue = (picture[..., colour] for colour in range(3))
    names = np.flatnonzero(((green > 190) & (blue < 120)).any(1))
    dotted = np.flatnonzero((blue - red > 60).sum(1) > 100)
    assert names.max() < dotted.min() - 3


@pytest.mark.parametrize(
    ("side", "words"),
    [(35, "1,225 of the photograph's 273,280 pixels"), (595, "higher than the"), (659, "larger than the photograph")],
)
def test_the_field_is_compared_with_the_photograph(side: int, words: str) -> None:
    assert words in field(side, 16).alt


def test_half_of_an_even_gradient_is_half_of_the_area() -> None:
    sides = np.arange(1, 596, 2)
    even, early = (sides / 595) ** 2, np.minimum(1, sides / 200)
    drawing = figures.gradient_mass({"even": even.tolist(), "early": early.tolist()}, receptive_field=595)
    reference, first, second, _ = drawing.figure.axes[0].lines
    assert np.interp(sides, reference.get_xdata(), reference.get_ydata()) == pytest.approx(even)
    assert (list(first.get_xdata()), list(second.get_ydata())) == (sides[::4].tolist(), early[::4].tolist())
    assert "even: half within about 420 pixels, 95 % within 580" in drawing.alt
    assert "early: half within about 100 pixels, 95 % within 190" in drawing.alt
    assert "half would take 421 pixels" in drawing.alt


def convolved(rates: tuple[int, ...], spacings: tuple[int, ...]) -> set[int]:
    """The positions that the value in the middle depends on, by the gradient of real convolutions."""
    line = torch.ones(1, 1, 65, requires_grad=True)
    x: Any = line
    for rate, (spacing, then) in zip(rates, pairwise((*spacings, spacings[-1])), strict=True):
        stride = then // spacing
        x = nn.functional.conv1d(x, torch.ones(1, 1, 3), padding=rate, stride=stride, dilation=rate)
    x[0, 0, x.shape[-1] // 2].backward()
    assert line.grad is not None
    return {place - 32 for place in line.grad[0, 0].nonzero().flatten().tolist()}


@pytest.mark.parametrize("name", CHAINS)
def test_the_taps_are_those_of_real_convolutions(name: str) -> None:
    rates, spacings = CHAINS[name]
    layers = figures.reached(rates, spacings)
    assert {read for _, read in layers[-1]} == convolved(rates, spacings)
    drawing = figures.taps({name: CHAINS[name]})
    lines = [tuple(map(int, line.get_xdata())) for line in drawing.figure.axes[0].lines]
    assert lines == [pair for layer in layers for pair in layer]
    read = {read for _, read in layers[-1]}
    assert f"{name} reads {len(read)} positions from −{max(read)} to {max(read)}" in drawing.alt


def test_the_authors_taps_are_the_plain_ones_and_torchvisions_are_not() -> None:
    plain, authors, theirs = (figures.reached(*chain) for chain in CHAINS.values())
    assert plain == authors != theirs


def test_bars_are_the_layers_on_one_scale() -> None:
    networks = {"Old": {"a": 20_000_000, "b": 400_000}, "New": {"a": 7_500_000}}
    drawing = figures.layer_bars(networks)
    assert len({axes.get_xlim() for axes in drawing.figure.axes}) == 1
    for axes, (name, layers) in zip(drawing.figure.axes, networks.items(), strict=True):
        widths = [bar.get_width() for bar in axes.patches if isinstance(bar, Rectangle)]
        assert widths == [macs / 1e6 for macs in layers.values()]
        assert max(widths) < axes.get_xlim()[1]
        assert axes.get_title(loc="left") == f"{name}: {sum(widths):.1f} million"
    assert drawing.data == {"Old": {"in all": 20.4, "a": 20.0, "b": 0.4}, "New": {"in all": 7.5, "a": 7.5}}
    assert drawing.alt.endswith("each. Old, 20.4 in all: a 20.0, b 0.4; New, 7.5 in all: a 7.5.")


def macs(module: nn.Module, *shape: int) -> int:
    with FlopCounterMode(display=False) as counter:
        module.to("meta").eval()(torch.empty(shape, device="meta"))
    return counter.get_total_flops() // 2


def test_the_fact_file_says_what_the_redesign_saves() -> None:
    entries = [line for line in facts.load()["redesign"] if line["source"] == "paper"]
    tail = large()
    new = [layer.macs for layer in cost.profile(tail).layers if layer.kind in ("last conv", "hidden")]
    stage, stem = (line["computed"] for line in entries)
    assert round((macs(mobilenet_v2().features[17:], 1, 160, 7, 7) - sum(new)) / 1e6, 1) == stage
    # Only the stem and row 1's two convolutions see the stem's width.
    thin = [layer.macs for group in cost.profile(tail).features[:2] for layer in group]
    assert round(sum(thin) / 1e6, 1) == stem, "twice the width costs these once more"
    assert all(round(line["macs"], -1) == round(line["computed"], -1) for line in entries)
