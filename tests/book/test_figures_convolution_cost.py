"""The figures of the chapter on convolutions: what they draw, what they say, and that both are the cost model's."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from bs4 import BeautifulSoup
from figures.convolution_cost import (
    connections,
    grouped_and_separable,
    intensities,
    pairs_replaced,
    savings,
    shares,
)
from torch import nn

from mnv3lib import cost
from mnv3lib.config import large, small


def weights(layer: nn.Conv2d) -> int:
    return layer.weight.numel()


@pytest.mark.parametrize(("kernel", "outputs", "groups", "side"), list(product((1, 3, 5), (8, 512), (1, 8), (14, 56))))
def test_bars_are_the_weights_of_torchs_layers(kernel: int, outputs: int, groups: int, side: int) -> None:
    drawn = grouped_and_separable(kernel, outputs, groups, side)
    one = weights(nn.Conv2d(32, outputs, kernel, groups=groups, bias=False))
    other = weights(nn.Conv2d(32, 32, kernel, groups=32, bias=False)) + weights(nn.Conv2d(32, outputs, 1, bias=False))
    page = BeautifulSoup(drawn._repr_svg_(), "html.parser")
    expected = [side**2 * one, side**2 * other, one, other]
    # An axis starts at 1,000 multiply-adds or 10 parameters and takes 28 units for a power of ten.
    starts = (1e3, 1e3, 10, 10)
    widths = [float(str(bar["width"])) for bar in page.find_all("rect")]
    read = [start * 10 ** (width / 28) for start, width in zip(starts, widths, strict=True)]
    assert read == pytest.approx(expected, rel=0.01)
    assert f"is {one / other:.3g}." in drawn.alt
    assert f"ratio {one / other:.3g}" in page.get_text()
    assert page.svg is not None
    assert page.svg["aria-label"] == drawn.alt == repr(drawn)
    assert [*drawn.data["multiply-adds"].values(), *drawn.data["parameters"].values()] == expected
    assert drawn.data["ratio"] == one / other


def test_the_words_are_those_of_the_bars() -> None:
    drawn = grouped_and_separable(5, 512, 8, 56)
    assert str(drawn.alt).endswith(
        "kernels, 32 channels in, 512 out, 56×56 positions: 8 groups 161 M multiply-adds and 51.2 k parameters, "
        "separable 53.9 M and 17.2 k; the first over the second is 2.98."
    )


def test_axes_stand_still_and_everything_fits() -> None:
    still = set()
    for kernel, outputs, groups, side in product((1, 3, 5), (8, 512), (1, 8), (14, 56)):
        page = BeautifulSoup(grouped_and_separable(kernel, outputs, groups, side)._repr_svg_(), "html.parser")
        still.add(tuple(str(line["d"]) for line in page.find_all("path")))
        for bar in page.find_all("rect"):
            assert 0 < float(str(bar["width"])) < 200  # its count stands to the right, in 330 units
    assert len(still) == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"groups": 3}, "groups must divide 32 inputs and 8 outputs, got 3"),
        ({"groups": 16}, "groups must divide 32 inputs and 8 outputs, got 16"),
        ({"groups": 0}, "groups"),
        ({"kernel": 0}, "kernel"),
        ({"side": -1}, "side"),
    ],
)
def test_what_cannot_be_built_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        grouped_and_separable(**({"kernel": 3, "outputs": 8, "groups": 1, "side": 7} | changes))


def test_cells_are_the_kernels_of_torchs_layers() -> None:
    drawn = connections(8, groups=4)
    for frame, (name, groups) in zip(
        drawn.figure.axes, {"standard": 1, "4 groups": 4, "depthwise": 8}.items(), strict=True
    ):
        kernels = nn.Conv2d(8, 8, 3, groups=groups).weight[:, :, 0, 0].numel()
        assert sum(len(row.get_paths()) for row in frame.collections) == kernels
        assert f"{name}: {kernels} of 64 kernels" in drawn.alt
    with pytest.raises(ValueError, match="groups must divide 8"):
        connections(8, groups=3)


def test_eight_to_nine_holds_for_six_rows_of_large_and_none_of_small() -> None:
    rows = {build.__name__: [(row.kernel, row.out_channels) for row in build().rows] for build in (large, small)}
    drawn = savings((3, 5), rows)
    assert "6 of the 15 blocks of large lie between 8 and 9; 0 of the 11 blocks of small" in drawn.alt
    for points, build in zip(drawn.figure.axes[0].lines[2:], (large, small), strict=True):
        layers = cost.profile(build()).layers
        looks, mixes = ([x for x in layers if x.kind == kind] for kind in ("depthwise", "project"))
        times = [a.macs * b.output[0] / (a.macs + b.macs) for a, b in zip(looks, mixes, strict=True)]
        assert list(points.get_ydata()) == pytest.approx(times)
    assert drawn.figure.axes[0].get_ylim() == (0, 25)


def test_shares_are_all_of_the_work() -> None:
    reports = {"Large": cost.profile(large()), "Small": cost.profile(small())}
    drawn = shares(reports)
    assert list(drawn.data) == list(reports)
    bars = [bar.get_width() for bar in drawn.figure.axes[0].patches]
    assert bars == pytest.approx([share for shares in drawn.data.values() for share in shares.values()])
    for network, report in reports.items():
        assert sum(drawn.data[network].values()) == pytest.approx(100)
        depthwise = sum(layer.macs for layer in report.layers if layer.kind == "depthwise")
        assert drawn.data[network]["depthwise"] == pytest.approx(100 * depthwise / report.macs)
    assert "Large: expansion 1×1 " in drawn.alt
    assert "depthwise 8.5 %" in drawn.alt
    assert "depthwise 13.2 %" in drawn.alt


def test_intensities_are_work_over_traffic() -> None:
    drawn = intensities({"depthwise": [(900, 200), (1800, 1000)], "expand": [(6400, 100)]})
    points = [height for group in drawn.figure.axes[0].collections for _, height in group.get_offsets()]
    assert points == [4.5, 1.8, 64.0]
    assert drawn.alt.endswith("depthwise from 1.8 to 4.5; expansion 1×1 from 64.0 to 64.0.")


def test_replaced_pairs_are_torchs_standard_convolutions() -> None:
    report = cost.profile(large())
    drawn = pairs_replaced(report)
    standard, as_is = ([bar.get_height() for bar in bars] for bars in drawn.figure.axes[0].containers)
    assert as_is == pytest.approx([macs / 1e6 for macs in report.macs_by_feature[1:-2]])
    for place, (row, block) in enumerate(zip(large().rows, report.features[1:-2], strict=True)):
        look = next(layer for layer in block if layer.kind == "depthwise")
        layer = nn.Conv2d(look.input[0], row.out_channels, row.kernel, bias=False, device="meta")
        dense = layer.weight.numel() * look.output[1] * look.output[2]
        rest = sum(layer.macs for layer in block if layer.kind not in ("depthwise", "project"))
        assert standard[place] == pytest.approx((rest + dense) / 1e6)
    assert drawn.data["as it is"] == report.macs
    assert drawn.data["standard"] - report.macs == pytest.approx(1e6 * (sum(standard) - sum(as_is)))
    assert "217 million in the whole network against 1,332" in drawn.alt
