"""The map and the figures of Part II: what is drawn, and that the words beside it say the same."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
import torch
from figures import configs, network, width_and_resolution

from mnv3lib import cost
from mnv3lib.config import LARGE, MobileNetV3Config, large, make_divisible, small
from mnv3lib.explore.drawing import Drawing
from mnv3lib.explore.netmap import NetworkMap
from mnv3lib.explore.palette import ACCENT, KINDS

SVG = "{http://www.w3.org/2000/svg}"


def shapes(text: str, tag: str) -> list[ElementTree.Element]:
    """Elements of an SVG, by their tags without its namespace."""
    return list(ElementTree.fromstring(text).iter(f"{{http://www.w3.org/2000/svg}}{tag}"))


# The map -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [large(), small(), small(width_mult=0.5, dilated=True), large(reduced_tail=True)])
def test_the_map_draws_the_configuration(config: MobileNetV3Config) -> None:
    drawn = NetworkMap(config, highlight=(1, 2), name="the network")
    columns = shapes(drawn.svg, "rect")
    assert len(columns) == len(config.rows) + 3
    assert [column.get("fill") == ACCENT for column in columns] == [i in (1, 2) for i in range(len(columns))]
    dots = [dot for dot in shapes(drawn.svg, "circle") if dot.get("fill") == KINDS["se"]]
    assert len(dots) == sum(row.use_se for row in config.rows)
    words = [text.text for text in shapes(drawn.svg, "text")]
    assert words[: len(config.rows)] == [str(row.kernel) for row in config.rows]
    sides = [group[-1].output[1] for group in cost.profile(config).features]
    heights = [float(column.get("height", "nan")) for column in columns]
    assert sorted(range(len(sides)), key=lambda i: (sides[i], i)) == sorted(
        range(len(sides)), key=lambda i: (heights[i], i)
    ), "the taller, the larger the map"


def test_the_map_says_what_it_shows() -> None:
    drawn = NetworkMap(small(), highlight=(0, 4, 5, 6, 12, 13), name="Small")
    assert shapes(drawn.svg, "svg")[0].get("aria-label") == drawn.alt == repr(drawn)
    assert "11 bottlenecks" in drawn.alt
    assert "9 bottlenecks have squeeze-and-excitation, 8 use h-swish" in drawn.alt
    assert "feature maps shrink from 112² through 56², 28², 14² to 7²" in drawn.alt
    assert drawn.alt.endswith("Highlighted: stem, blocks 4 to 6, last convolution, classifier.")


def test_the_map_fits_a_phone() -> None:
    svg = NetworkMap(large(), name="Large").svg
    assert {text.get("x", "")[-1] for text in shapes(svg, "text")} == {"%"}, "places in per cent, letters in pixels"
    assert re.search(r'font-size="(\d+)"', svg)[1] == "11"


@pytest.mark.parametrize("highlight", [(14,), (-1, 2)])
def test_the_map_refuses_what_the_network_has_not(highlight: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"highlight must hold integers from 0 to 13, got (14|-1)"):
        NetworkMap(small(), highlight=highlight, name="Small")


# The figures ---------------------------------------------------------------------------------------------------------


def test_a_drawing_follows_the_theme_and_is_the_same_each_time() -> None:
    html = configs.rounding_staircase()._repr_svg_()
    assert html == configs.rounding_staircase()._repr_svg_()
    assert "currentColor" in html
    assert "DejaVu" not in html
    assert not re.search(r"#010203|<metadata|Date", html)
    opening = html[: html.index(">")]
    assert 'role="img"' in opening
    assert f'aria-label="{configs.rounding_staircase().alt}"' in opening


def test_the_staircase_is_make_divisible() -> None:
    drawn = configs.rounding_staircase(40)
    stairs = drawn.figure.axes[0].lines[1]
    assert list(stairs.get_ydata()) == [make_divisible(channels) for channels in range(1, 41)]
    assert "1 to 40 channels" in drawn.alt
    assert "9 gains most (it becomes 16) and 35 loses most (it becomes 32)" in drawn.alt


def test_a_drawing_may_be_shown_larger_than_it_is_drawn() -> None:
    figure = configs.rounding_staircase().figure
    plain, large_one = (Drawing(figure, "A staircase, drawn twice.", scale=scale) for scale in (1.0, 1.5))
    sizes = [re.search(r'viewBox="([^"]*)" width="(\d+)" height="(\d+)"', d._repr_svg_()) for d in (plain, large_one)]
    assert sizes[0][1] == sizes[1][1], "the same drawing"
    assert [int(side) for side in sizes[1].groups()[1:]] == [round(1.5 * 480), round(1.5 * 326.4)]
    assert large_one._repr_png_()[1]["width"] == round(1.5 * 480)
    with pytest.raises(ValueError, match="scale must be a finite number > 0, got 0"):
        Drawing(figure, "Nothing.", scale=0)


def heights(drawn: Drawing, panel: int = 0, series: int = 0) -> list[float]:
    return [bar.get_height() for bar in drawn.figure.axes[panel].containers[series]]


def test_bars_of_multiply_adds_are_the_cost_models() -> None:
    thin, full = cost.profile(small(width_mult=0.5)), cost.profile(small())
    drawn = configs.macs_by_feature({"thin": thin.macs_by_feature, "full": full.macs_by_feature}, ceiling=9)
    for series, report in enumerate((thin, full)):
        assert heights(drawn, 0, series) == pytest.approx([macs / 1e6 for macs in report.macs_by_feature])
        assert f"{report.macs / 1e6:.3g} in all" in drawn.alt
    assert "most (6.29) in block 10" in drawn.alt
    assert drawn.figure.axes[0].get_ylim() == (0, 9)


def test_a_shorter_network_keeps_its_ends_at_the_right() -> None:
    short = cost.profile(MobileNetV3Config(LARGE[:3], last_conv=96, last_channel=64)).macs_by_feature
    drawn = configs.macs_by_feature({"short": short, "full": cost.profile(small()).macs_by_feature})
    places = [round(bar.get_x() + bar.get_width() / 2) for bar in drawn.figure.axes[0].containers[0]]
    assert places == [0, 1, 2, 3, 12, 13]


def test_parameters_and_work_have_their_panels() -> None:
    report = cost.profile(large())
    drawn = configs.parameters_and_macs(report)
    assert heights(drawn, 0) == pytest.approx([n / 1e6 for n in report.parameters_by_feature])
    assert heights(drawn, 1) == pytest.approx([n / 1e6 for n in report.macs_by_feature])
    assert "most parameters, 46 % of them, are in the classifier" in drawn.alt
    assert "most multiply-adds, 14 % of them, are in block 12" in drawn.alt


def test_lines_are_what_was_given() -> None:
    drawn = width_and_resolution.power_law(
        [0.5, 1, 2], {"cost": [0.3, 1, 3.5]}, xlabel="width", exponents={"square": 2}
    )
    curve, square = drawn.figure.axes[0].lines
    assert list(curve.get_ydata()) == [0.3, 1, 3.5]
    assert list(square.get_ydata()) == [0.25, 1, 4]
    assert drawn.alt == "Lines on logarithmic axes over width from 0.5 to 2, relative to 1.0: cost from 0.30 to 3.50."


def test_points_of_accuracy_are_sorted_by_work() -> None:
    drawn = width_and_resolution.accuracy_against_macs({"Large, width": [(217, 75.2), (40, 64.2)]})
    assert [list(data) for data in drawn.figure.axes[0].lines[0].get_data()] == [[40, 217], [64.2, 75.2]]
    assert "Large, width rises from 64.2 % at 40 M to 75.2 % at 217 M" in drawn.alt


def test_each_dial_is_a_curve_over_work_and_over_time() -> None:
    points = {(1.0, 224): (217.0, 51.2, 75.2), (0.5, 224): (69.0, 21.7, 68.8), (1.0, 128): (73.0, 17.8, 68.4)}
    drawn = width_and_resolution.dials(points)
    for axes, column in zip(drawn.figure.axes, (0, 1), strict=True):
        width, resolution = ([list(data) for data in line.get_data()] for line in axes.lines)
        assert width == [[points[0.5, 224][column], points[1.0, 224][column]], [68.8, 75.2]]
        assert resolution == [[points[1.0, 128][column], points[1.0, 224][column]], [68.4, 75.2]]
        assert [text.get_text() for text in axes.texts] == ["×0.5", "128"]
    assert "width: ×0.5 68.8 in 21.7 ms, ×1 75.2 in 51.2 ms" in drawn.alt


def test_maps_are_channel_means() -> None:
    maps = [torch.arange(24.0).reshape(2, 3, 4) - 12, torch.ones(5, 2, 2)]
    drawn = network.stage_maps(torch.rand(3, 6, 8), maps)
    shown = [frame.images[0].get_array() for frame in drawn.figure.axes[1:3]]
    assert shown[0].tolist() == maps[0].abs().mean(0).tolist()
    assert shown[1].tolist() == [[1, 1], [1, 1]]
    assert "A photograph of 6×8 pixels" in drawn.alt
    assert "3×4 with 2 channels, 2×2 with 5 channels" in drawn.alt


def test_errors_are_drawn_by_their_powers_of_ten() -> None:
    drawn = network.errors_left({"counts": 0.5, "one": 1e-6, "two": 3.14e-7, "all": 0.0})
    axes = drawn.figure.axes[0]
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([7.69897, 2, 1.49693, 0], abs=1e-5)
    assert [text.get_text() for text in axes.texts] == ["0.5", "10⁻⁶", "3.1·10⁻⁷", "0, bit for bit"]
    assert "counts: 0.5; one: 10⁻⁶; two: 3.1·10⁻⁷; all: 0, bit for bit" in drawn.alt
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["10⁻⁶", "10⁻³", "1"]
