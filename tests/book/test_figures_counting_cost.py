"""The figures of the chapter on counting say in words what they draw; and what it says about memory is real memory."""

from __future__ import annotations

import functools
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from itertools import product
from typing import Any

import nbformat
import pytest
import torch
from conftest import ROOT
from figures import counting_cost as figures
from ledger import Deviation

from mnv3lib import cost, mobilenet_v3_small
from mnv3lib.config import MobileNetV3Config, large, small


def widths(frame: Any) -> list[list[float]]:
    """Of each bar, from left to right, one list a row of a stacked figure; the bars lie end to end."""
    rows: dict[int, list[float]] = {}
    for bar in frame.patches:
        row = rows.setdefault(round(bar.get_y() + bar.get_height() / 2), [])
        assert bar.get_x() == pytest.approx(sum(row))
        row.append(bar.get_width())
    return [rows[place] for place in sorted(rows)]


@pytest.mark.parametrize("config", [large(), small(), small(width_mult=0.5)])
def test_shares_are_those_of_the_profile_and_leave_no_kind_out(config: MobileNetV3Config) -> None:
    report = cost.profile(config)
    drawing = figures.where_it_is({"It": report})
    (frame,) = drawing.figure.axes
    assert [sum(row) for row in widths(frame)] == pytest.approx([100, 100, 100])
    for row, field in zip(widths(frame), ("parameters", "macs", "activations"), strict=True):
        total = sum(getattr(layer, field) for layer in report.layers)
        depthwise = sum(getattr(layer, field) for layer in report.layers if layer.kind == "depthwise")
        classifier = sum(getattr(layer, field) for layer in report.features[-1])
        assert (row[1], row[-1]) == pytest.approx((100 * depthwise / total, 100 * classifier / total))
    words = [label.get_text() for label in drawing.figure.legends[0].get_texts()]
    assert list(drawing.data) == ["It, parameters", "It, multiply-adds", "It, outputs"]
    assert [list(shares.values()) for shares in drawing.data.values()] == [pytest.approx(row) for row in widths(frame)]
    assert [list(shares) for shares in drawing.data.values()] == [words] * 3


def test_shares_are_said_in_whole_per_cent() -> None:
    said = figures.where_it_is({"Small": cost.profile(small())}).alt
    assert said.startswith("Bars of shares by kind of layer. Small, parameters: expansion 7 %, depthwise 2 %, SE 18 %,")


def test_each_network_has_a_panel_and_the_legend_is_not_repeated() -> None:
    drawing = figures.where_it_is({"Large": cost.profile(large()), "Small": cost.profile(small())})
    assert [frame.get_title(loc="left") for frame in drawing.figure.axes] == ["Large", "Small"]
    assert len(drawing.figure.legends[0].get_texts()) == 6


def test_parts_fill_their_bars() -> None:
    totals = {"operations": {"a": 30.0, "b": 10.0}, "values": {"a": 1.0, "b": 4.0}}
    drawing = figures.counted_and_not(totals)
    (frame,) = drawing.figure.axes
    assert widths(frame) == [pytest.approx([75, 25]), pytest.approx([20, 80])]
    assert "operations: a 75.0 %, b 25.0 %; values: a 20.0 %, b 80.0 %" in drawing.alt
    assert [label.get_text() for label in frame.get_yticklabels()] == list(totals)


def test_what_is_kept_stands_behind_what_is_handed_on() -> None:
    drawing = figures.kept_by_feature([3e6, 5e6, 1e6, 5e5], [1e6, 2e6, 5e5, 1e5])
    (frame,) = drawing.figure.axes
    kept, outputs = ([bar.get_height() for bar in bars] for bars in frame.containers)
    assert (kept, outputs) == ([3, 5, 1, 0.5], [1, 2, 0.5, 0.1])
    assert "keeps 9.5 MB in all, most in block 1 with 5.0 MB; the blocks pass on 3.6 MB" in drawing.alt
    assert "most in the stem with" in figures.kept_by_feature([9e6, 1e6, 1e6, 1e6], [1e6] * 4).alt
    with pytest.raises(ValueError, match="outputs must hold one size for each of 3 features, got 2"):
        figures.kept_by_feature([1e6] * 3, [1e6] * 2)


@pytest.mark.parametrize("size", [1e5, 15.6e6, 2e9, 1e10])
def test_bars_end_at_their_sizes_on_an_axis_that_stands_still(size: float) -> None:
    drawing = figures.training_memory({"weights": 4e6, "activations, training": size}, total=("weights",))
    (frame,) = drawing.figure.axes
    ends = [bar.get_window_extent().transformed(frame.transData.inverted()).x1 for bar in frame.patches]
    assert ends == pytest.approx([4, size / 1e6])
    assert (frame.get_xlim(), frame.get_xscale()) == ((0.1, 200_000), "log")
    assert frame.get_title(loc="left") == "training: 4 MB"
    shown = [text.get_text() for text in frame.texts]
    assert f"weights: {shown[0]}; activations, training: {shown[1]}. weights: 4 MB." in drawing.alt


@pytest.mark.parametrize(
    ("size", "said"), [(5.617e6, "5.62 MB"), (517.5e6, "518 MB"), (999.6e6, "1 GB"), (2.0698e9, "2.07 GB")]
)
def test_sizes_have_three_digits(size: float, said: str) -> None:
    drawing = figures.training_memory({"it": size}, total=("it",))
    assert drawing.figure.axes[0].texts[0].get_text() == said
    assert drawing.alt.endswith(f"it: {said}. it: {said}.")


def test_sizes_outside_of_the_axis_are_refused() -> None:
    for size in (9e4, 1.1e10):
        with pytest.raises(ValueError, match=r"sizes must be from 0\.1 MB to 10 GB, got .* bytes of it"):
            figures.training_memory({"it": size}, total=("it",))


MEASURE = """
import torch
from mnv3lib import mobilenet_v3_small
torch.set_num_threads(1)
net, x = mobilenet_v3_small(width_mult={width}).train(), torch.zeros({batch}, 3, {side}, {side})
net(x)
with torch.autograd.profiler.profile(use_kineto=False, profile_memory=True) as seen:
    logits = net(x)
print(sum(event.self_cpu_memory_usage for event in seen.function_events) - 4 * logits.numel() + 4 * x.numel())
"""


@pytest.mark.slow
@pytest.mark.proves(
    "Bytes that training keeps for the backward pass, by chapter 9's formula",
    against="what PyTorch's allocator did not get back after a forward pass",
    tolerance=0,
    unit="count",
)
@pytest.mark.parametrize(("width", "batch", "side"), [(1.0, 2, 224), (0.5, 3, 97)])
def test_what_hooks_say_is_kept_is_what_the_allocator_did_not_get_back(
    width: float, batch: int, side: int, deviation: Deviation
) -> None:
    """Chapter 09 checks its formula with hooks. Here PyTorch's allocator says what a forward pass has left behind.

    The image is kept as well but was there before; the logits are left behind but not kept.
    """
    code = MEASURE.format(width=width, batch=batch, side=side)
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    deviation(abs(int(run.stdout) - kept_bytes()(small(width_mult=width), side, batch)))


@pytest.mark.parametrize("images", [1, 3])
def test_what_each_feature_keeps_adds_up_to_the_formula(images: int) -> None:
    with torch.device("meta"):
        sizes = figures.saved_by_feature(mobilenet_v3_small(width_mult=0.5), torch.empty(images, 3, 96, 96))
    assert len(sizes) == 14
    assert sum(sizes) == kept_bytes()(small(width_mult=0.5), 96, images)
    assert sizes[-1] == 4 * images * (288 + 3 * 512)


@functools.cache
def kept_bytes() -> Callable[..., int]:
    """The function of that name in chapter 9, from its cells."""
    notebook = nbformat.read(ROOT / "book" / "09_counting_cost.ipynb", as_version=4)
    sources = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    kinds = [line for source in sources for line in source.splitlines() if line.startswith("CONVS = ")]
    cells = [source for source in sources if "def kept_values(" in source or "def kept_bytes(" in source]
    names: dict[str, Any] = {"Counter": Counter, "cost": cost}
    exec("\n".join(kinds + cells), names)
    return names["kept_bytes"]


def test_the_axes_hold_every_stop_of_the_chapters_sliders() -> None:
    for batch, side in product((1, 128), (112, 256)):
        sizes = {
            "kept": kept_bytes()(small(), side, batch),
            "peak": batch * cost.profile(small(), side).peak_memory(),
        }
        figures.training_memory(sizes, total=("kept",))
