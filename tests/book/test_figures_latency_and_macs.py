"""The figures of the chapter on latency and multiply-adds show what was measured, and say it in words."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
from conftest import ROOT
from figures import families as others
from figures import latency_and_macs as figures
from figures import speed

from mnv3lib import cost
from mnv3lib.config import large, small
from mnv3lib.deploy.roofline import Ceilings

CEILINGS = Ceilings(60e9, 45e9, 200e9, 120e9, 80e9, 12e9)


def lines_of(frame: Any) -> list[list[tuple[float, float]]]:
    """The points of every line of a frame."""
    return [list(zip(line.get_xdata(), line.get_ydata(), strict=True)) for line in frame.get_lines()]


def claim(variant: str, ratio: list[float], macs: float = 0.9) -> dict[str, Any]:
    return {"variant": variant, "ratio": ratio, "macs_ratio": macs}


@pytest.fixture
def claims() -> dict[str, Any]:
    """Two ways, one of which cannot run the second variant."""
    one, two = claim("narrow", [2.0, 1.9, 2.2]), claim("flat", [0.8, 0.7, 0.85], 0.75)
    return {
        "cpu": "A processor",
        "results": [
            {"network": "small", "way": "This", "lines": [one, two]},
            {"network": "small", "way": "That", "lines": [claim("narrow", [1.1, 1.0, 1.3])]},
            {"network": "large", "way": "This", "lines": [claim("narrow", [0.5, 0.4, 0.6]), two]},
        ],
    }


def test_changes_have_a_dot_an_interval_and_what_the_count_says(claims: dict[str, Any]) -> None:
    drawing = figures.changes(claims, {"narrow": "thin", "flat": "level"}, ("small", "large"))
    upper, lower = drawing.figure.axes
    assert drawing.data["small, narrow, That"] == (1.1, 1.0, 1.3)
    assert "small, flat, That" not in drawing.data
    drawn = [{x for x, _ in line} for line in lines_of(upper)]
    assert all(ends in drawn for ends in ({1.9, 2.2}, {2.0}, {1.0, 1.3}, {0.9}, {0.7, 0.85}, {0.75}))
    assert "Small, thin: This 2.00, That 1.10; multiply-adds 0.90. Small, level: This 0.80;" in drawing.alt
    assert "on A processor" in drawing.alt
    assert upper.get_xlim() == lower.get_xlim()
    assert upper.get_xlim()[0] <= 0.4
    assert upper.get_xlim()[1] >= 2.2
    words = [text.get_text() for text in drawing.figure.legends[0].get_texts()]
    assert words == ["This", "That", "multiply-adds"]


def test_a_result_that_is_not_there_is_refused(claims: dict[str, Any]) -> None:
    assert list(figures.ways(claims, network="small")) == ["This", "That"]
    with pytest.raises(ValueError, match=r"wanted must be what was measured on A processor, got .*huge"):
        figures.ways(claims, network="huge")


def test_fractions_stand_in_pairs() -> None:
    drawing = figures.fractions({"a": 0.9, "b": 0.1}, {"b": 0.6, "c": 0.4}, title="It", cpu="A processor")
    (frame,) = drawing.figure.axes
    counted, timed = ([bar.get_width() for bar in bars] for bars in (frame.patches[::2], frame.patches[1::2]))
    assert counted == pytest.approx([10, 0])
    assert timed == pytest.approx([60, 40])
    assert "b 10 % of the multiply-adds and 60 % of the time; c 0 %" in drawing.alt


def test_every_kind_that_counts_has_a_name_in_the_breakdown() -> None:
    kinds = {layer.kind for config in (small(), large()) for layer in cost.profile(config).layers if layer.macs}
    assert kinds == set(figures.BOX)
    (measured, *_) = speed.load("claims")
    assert all(set(figures.BOX.values()) <= set(one["fractions"]) for one in measured["breakdowns"])


@pytest.mark.parametrize(("maps", "batch"), [("L2 cache", 1), ("L2 cache", 8), ("memory", 1)])
def test_every_layer_lies_under_the_roofs(maps: str, batch: int) -> None:
    report = cost.profile(small())
    drawing = figures.roofline(report, CEILINGS, batch=batch, maps=maps, name="Small")
    dots = [dot for some in drawing.data["dots"].values() for dot in some]
    assert len(dots) == drawing.data["layers"] == sum(layer.macs > 0 for layer in report.layers)
    bandwidths = (CEILINGS.third, CEILINGS.second if maps == "L2 cache" else CEILINGS.memory)
    for intensity, rate in dots:
        slopes = [intensity * bandwidth / 4 / 1e9 for bandwidth in bandwidths]
        assert min(60, *slopes) * 0.999 <= rate <= min(60, max(slopes)) * 1.001
    for roof, bandwidth in zip(lines_of(drawing.figure.axes[0])[:2], reversed(bandwidths), strict=True):
        (left, low), (ridge, corner), (_, end) = roof
        assert low / left == pytest.approx(bandwidth / 4 / 1e9)
        assert corner / ridge == pytest.approx(bandwidth / 4 / 1e9)
        assert corner == end == pytest.approx(60)
    limited = sum(rate < 60 * (1 - 1e-9) for _, rate in dots)
    assert drawing.data["limited"] == limited
    assert f"traffic limits {limited} of {len(dots)} layers" in drawing.alt
    assert drawing.figure.axes[0].get_title(loc="left") == f"traffic limits {limited} of {len(dots)} layers"


def test_the_roofs_axes_stand_still_and_hold_every_stop() -> None:
    frames = []
    for config in (small(), large()):
        for batch in (1, 8, 32):
            for maps in ("L2 cache", "memory"):
                (measured, *_) = speed.load("inference")
                drawing = figures.roofline(
                    cost.profile(config), Ceilings(**measured["ceilings"]), batch=batch, maps=maps, name="It"
                )
                (frame,) = drawing.figure.axes
                frames.append((frame.get_xlim(), frame.get_ylim()))
                (left, right), (low, high) = frames[-1]
                dots = [dot for some in drawing.data["dots"].values() for dot in some]
                assert all(left < x < right and low < y < high for x, y in dots)
    assert len(set(frames)) == 1
    with pytest.raises(ValueError, match=r"maps must be one of .*L2 cache.*'disk'"):
        figures.roofline(cost.profile(small()), CEILINGS, batch=1, maps="disk", name="It")


def families() -> dict[str, Any]:
    (measured, *_) = speed.load("families")
    return deepcopy(measured)


@pytest.mark.parametrize("batch", [1, 8])
@pytest.mark.parametrize("way", ["PyTorch", "ONNX Runtime", "OpenVINO", "engine"])
def test_no_network_is_lost_from_time_over_multiply_adds(way: str, batch: int) -> None:
    measured = families()
    drawing = others.time_over_macs(measured, way, batch, (0.1, 0.004))
    (frame,) = drawing.figure.axes
    (left, right), (low, high) = frame.get_xlim(), frame.get_ylim()
    drawn = {dot for line in lines_of(frame)[1:] for dot in line}
    for network, dot in drawing.data.items():
        inside = left < dot[0] < right and low < dot[1] < high
        assert (dot in drawn) == inside, network
        assert inside or others._name(network) in drawing.alt
    assert f"{len(drawn)} dots" in drawing.alt
    assert "starts at 0.10 and rises by 0.40 for 100 million" in drawing.alt
    assert (frame.get_xlim(), frame.get_ylim()) == ((0, 460), (0, 2.6))


def test_top1_stands_beside_the_networks_that_have_one() -> None:
    measured = families()
    drawing = others.time_over_macs(measured, "PyTorch", 1, (0.3, 0.003))
    shown = [text.get_text() for text in drawing.figure.axes[0].texts]
    top1 = {one["network"]: one["top1"] for one in measured["networks"] if "top1" in one}
    inside = {name for name in top1 if not name.startswith(("alexnet", "resnet"))}
    assert sorted(shown[:-1]) == sorted(f"{top1[name]:.0f}" for name in inside)
    assert shown[-1].startswith("beyond: AlexNet 714")


def test_orders_are_places() -> None:
    columns = {"work": {"a": 1.0, "b": 3.0, "c": 2.0}, "time": {"a": 9.0, "b": 1.0, "c": 5.0}}
    drawing = others.orders(columns, highlight=("b",))
    assert drawing.data == {"work": {"a": 0, "c": 1, "b": 2}, "time": {"b": 0, "c": 1, "a": 2}}
    assert drawing.alt.endswith("work: a, c, b; time: b, c, a.")
    ys = [[y for _, y in line] for line in lines_of(drawing.figure.axes[0])]
    assert ys == [[0, 2], [2, 0], [1, 1]]


def test_the_phones_lines_are_those_given() -> None:
    rows = [
        {"variant": "large", "resolution": 224, "macs": {"printed": 200}, "pixel1": 50.0},
        {"variant": "large", "resolution": 128, "macs": {"printed": 70}, "pixel1": 18.0},
    ]
    drawing = others.phone(rows, {"large": (5.0, 0.2)})
    line, widths, resolutions = lines_of(drawing.figure.axes[0])
    assert line == [(0, 5.0), (200, 45.0)]
    assert (widths, resolutions) == ([(200, 50.0)], [(70, 18.0)])
    assert "Large: 2 networks, 5.0 ms and 0.20 ms for each million" in drawing.alt


def test_predictions_hold_every_pair_and_say_the_worst() -> None:
    drawing = figures.predictions({"one": [(2.0, 1.0), (4.0, 6.0)], "two": [(2.0, 2.0)]}, cpu="A processor")
    assert "one: from 0.50 to 1.50 times the measured time; two: from 1.00 to 1.00" in drawing.alt
    assert lines_of(drawing.figure.axes[0])[1] == [(2.0, 1.0), (4.0, 6.0)]
    with pytest.raises(ValueError, match=r"panels\['one'\] must hold finite numbers"):
        figures.predictions({"one": [(2.0, float("nan"))]}, cpu="A processor")


def test_the_published_table_says_where_it_is_from_and_compares_like_with_like() -> None:
    head = (ROOT / "book" / "_data" / "peers.csv").read_text(encoding="utf-8").partition("model,")[0]
    assert all(word in head for word in ("Apache License 2.0", "pytorch-image-models", "commit ", "Changed: "))
    rows = others.peers()
    assert len(rows) == len({row["model"].split(".")[0] for row in rows}) > 50
    for row in rows:
        assert row["params_m"] < 13
        assert min(row["i7_12700h"], row["i9_10940x"], row["gmacs"], row["px"]) > 0
        assert 50 < row["top1"] < 90
