"""The explorer: every number in its table is the library's, and what pages and notebooks show comes from the table."""

from __future__ import annotations

import gzip
import html
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest
import torch
from bs4 import BeautifulSoup
from ledger import Deviation
from reference import calls
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from traitlets import TraitError

from mnv3lib import MobileNetV3, config, cost, facts
from mnv3lib.explore import Explorer, explorer, tables
from mnv3lib.explore import page as pages
from mnv3lib.explore.palette import KINDS

TABLE = tables.explorer_table()
VARIANTS = {name: getattr(config, name) for name in ("large", "small", "large_minimalistic", "small_minimalistic")}
WIDTHS = [step / 20 for step in range(5, 41)]
RESOLUTIONS = [96, 128, 160, 192, 224, 256, 288, 320]
ROUNDINGS = ["torchvision", "paper"]
SWITCH = (False, True)
DEFAULT = Explorer().page_html()


def packed(text: str) -> int:
    """Bytes of ``text`` as a server sends it."""
    return len(gzip.compress(text.encode(), 9))


def look_up(variant: str, rounding: str, tail: bool, dilated: bool, width: int, resolution: int) -> dict[str, Any]:
    """The explorer's one line of arithmetic, written a second time; ``width`` counts the stops."""
    drawn = TABLE["variants"][variant]
    setting = drawn["settings"][f"{rounding}/{tail:d}/{dilated:d}"]
    scale = resolution // 32
    rows = []
    for feature, columns in zip(drawn["features"], setting["columns"], strict=True):
        exp, out, parameters, *macs = (TABLE["series"][column][width] for column in columns)
        growth = [1 if kind in TABLE["fixed"] else scale**2 for kind in feature["kinds"]]
        macs = {k: m * g for k, m, g in zip(feature["kinds"], macs, growth, strict=True)}
        side = feature["side"][dilated] * (1 if feature["kinds"][0] in TABLE["fixed"] else scale)
        fixed = (feature["name"], feature["kernel"], feature["stride"][dilated], feature["dilation"][dilated])
        rows.append((*fixed, exp, out, feature["se"], feature["activation"], side, parameters, macs))
    return {"rows": rows, "peak": 4 * TABLE["series"][setting["peak"]][width] * scale**2}


# --- the table --------------------------------------------------------------------------------------------------------


def test_the_stops_are_those_announced() -> None:
    assert TABLE["widths"] == WIDTHS
    assert TABLE["resolutions"] == RESOLUTIONS
    assert list(TABLE["variants"]) == list(VARIANTS)
    assert json.loads(json.dumps(TABLE)) == TABLE


@pytest.mark.proves(
    "The explorer's table: every stop of every control, each row of the network",
    against="the cost model",
    tolerance=0,
    unit="count",
)
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_stop_of_every_control_is_the_cost_models(variant: str, deviation: Deviation) -> None:
    for rounding, tail, dilated, (index, width) in product(ROUNDINGS, SWITCH, SWITCH, enumerate(WIDTHS)):
        network = VARIANTS[variant](width_mult=width, reduced_tail=tail, dilated=dilated, rounding=rounding)
        for resolution in RESOLUTIONS:
            report = cost.profile(network, resolution)
            found = look_up(variant, rounding, tail, dilated, index, resolution)
            assert found["peak"] == report.peak_memory()
            parameters = sum(row[-2] for row in found["rows"])
            macs = sum(sum(row[-1].values()) for row in found["rows"])
            deviation(abs(parameters - report.parameters) + abs(macs - report.macs))
            assert len(found["rows"]) == len(report.features)
            for row, layers in zip(found["rows"], report.features, strict=True):
                assert row[5] == layers[-1].output[0]
                assert row[8] == layers[-1].output[1]
                assert row[9] == sum(layer.parameters for layer in layers)
                assert sum(row[10].values()) == sum(layer.macs for layer in layers)
                assert row[10].get("depthwise", 0) == sum(x.macs for x in layers if x.kind == "depthwise")
                assert row[10].get("se", 0) == sum(x.macs for x in layers if x.kind in ("squeeze", "excite"))
            for row, block in zip(found["rows"][1:-2], network.rows, strict=True):
                described = (block.kernel, block.conv_stride, block.dilation, block.expanded_channels)
                assert row[1:8] == (*described, block.out_channels, block.use_se, block.activation)
            assert found["rows"][-1][4] == network.last_channel


def test_published_accuracies_are_the_papers_then_tf_slims_and_no_others() -> None:
    large = {(width, side): (top1, where) for width, side, top1, where in TABLE["variants"]["large"]["top1"]}
    assert large[1.0, 224] == (75.2, "paper, Table 9")
    assert large[0.75, 224] == (73.3, "paper, Table 9")
    assert (0.5, 224) in large
    assert (0.6, 224) not in large
    paper = [row for row in facts.published(table="table9") if row["variant"] in ("large", "small")]
    both = [tuple(row[:3]) for name in ("large", "small") for row in TABLE["variants"][name]["top1"]]
    assert sorted(both) == sorted((row["width"], row["resolution"], row["top1"]) for row in paper)
    minimal = TABLE["variants"]["large_minimalistic"]["top1"]
    assert minimal == [[1.0, 224, 72.3, "TF-slim's checkpoint"]]
    for variant in TABLE["variants"].values():
        assert len({tuple(row[:2]) for row in variant["top1"]}) == len(variant["top1"])
        assert all(width in WIDTHS and side in RESOLUTIONS for width, side, *_ in variant["top1"])


def sample() -> Iterator[tuple[str, str, bool, bool, float]]:
    turns = product(VARIANTS, (0.25, 0.35, 0.6, 1.0, 1.3, 2.0), ROUNDINGS, SWITCH, SWITCH)
    return ((variant, rounding, tail, dilated, width) for variant, width, rounding, tail, dilated in turns)


@pytest.mark.parametrize(
    "variant", [pytest.param(name, marks=() if name == "small" else pytest.mark.slow) for name in VARIANTS]
)
def test_rows_are_the_networks_own_counts(variant: str) -> None:
    """Parameters of each built layer at all settings of the sample; multiply-adds as torch counts them at some."""
    settings = [setting for setting in sample() if setting[0] == variant]
    for number, (_, rounding, tail, dilated, width) in enumerate(settings):
        described = VARIANTS[variant](width_mult=width, reduced_tail=tail, dilated=dilated, rounding=rounding)
        with torch.device("meta"):
            network = MobileNetV3(described).eval()
        resolutions = ((128, 224), (96, 320))[number % 2] if number % 7 == 0 else ()
        index = WIDTHS.index(width)
        parts = {f"features.{i}": feature for i, feature in enumerate(network.features)}
        parts["classifier"] = network.classifier
        rows = look_up(variant, rounding, tail, dilated, index, 224)["rows"]
        assert [row[9] for row in rows] == [sum(p.numel() for p in part.parameters()) for part in parts.values()]
        assert [row[5] for row in rows[:-1]] == [feature.out_channels for feature in network.features]
        if resolutions:
            strip(network)
        for resolution in resolutions:
            with FlopCounterMode(display=False, depth=2) as counter, torch.no_grad():
                network(torch.zeros(1, 3, resolution, resolution, device="meta"))
            counts = {name: sum(by.values()) for name, by in counter.get_flop_counts().items()}
            rows = look_up(variant, rounding, tail, dilated, index, resolution)["rows"]
            assert [2 * sum(row[10].values()) for row in rows] == [counts[f"MobileNetV3.{name}"] for name in parts]


def strip(network: nn.Module) -> None:
    """Leave what torch counts: tracing a batch norm without storage is slow."""
    for module in network.modules():
        for name, child in list(module.named_children()):
            if isinstance(child, (nn.BatchNorm2d, nn.Hardswish, nn.Hardsigmoid, nn.ReLU)):
                setattr(module, name, nn.Identity())


def test_the_reference_is_the_same_under_both_channel_rules() -> None:
    for variant in VARIANTS:
        settings = TABLE["variants"][variant]["settings"]
        at = [look_up(variant, rounding, False, False, WIDTHS.index(1.0), 224) for rounding in ROUNDINGS]
        assert at[0] == at[1]
        assert len(settings) == 8


def test_scales_hold_every_stop_of_the_channels() -> None:
    for drawn in TABLE["variants"].values():
        for setting in drawn["settings"].values():
            for row, columns in enumerate(setting["columns"]):
                head = row >= len(drawn["features"]) - 2
                exp, out = (max(TABLE["series"][column]) for column in columns[:2])
                assert exp <= drawn["scales"]["head" if head else "exp"]
                assert out <= drawn["scales"]["head" if head else "out"]
        assert drawn["scales"]["macs"] % 2_000_000 == 0


def test_colours_are_the_palettes() -> None:
    assert {kind: entry["colour"] for kind, entry in TABLE["kinds"].items()} == KINDS
    used = {kind for drawn in TABLE["variants"].values() for feature in drawn["features"] for kind in feature["kinds"]}
    assert used == set(KINDS)


def test_what_a_page_loads_is_small() -> None:
    table, script, style = json.dumps(TABLE, separators=(",", ":")), pages.static_script(), pages.static_style()
    sizes = {"table": packed(table), "script": packed(script), "style": packed(style), "place": packed(DEFAULT)}
    print(sizes)
    assert sizes["table"] <= 60_000
    assert sizes["script"] + sizes["style"] + sizes["place"] <= 150_000


@pytest.mark.slow
def test_the_table_costs_no_more_than_its_profiles() -> None:
    settings = len(config.VARIANTS) * 8 * len(tables.WIDTHS)
    one = calls(lambda: cost.profile(config.large(), 64))
    assert calls(tables.explorer_table.__wrapped__) < 1.5 * 2 * settings * one  # each is profiled at two sizes


# --- the widget in Python ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argument", "value", "range_"),
    [
        ("variant", "huge", "'large', 'small'"),
        ("variant", 1, "'large', 'small'"),
        ("width_mult", 0.33, "0.25, 0.30, 0.35, … 2.00"),
        ("width_mult", 0, "0.25, 0.30"),
        ("width_mult", -1, "0.25, 0.30"),
        ("width_mult", float("nan"), "0.25, 0.30"),
        ("width_mult", "0.5", "0.25, 0.30"),
        ("width_mult", True, "0.25, 0.30"),
        ("width_mult", None, "0.25, 0.30"),
        ("resolution", 0, "a multiple of 32 from 96 to 320"),
        ("resolution", 225, "a multiple of 32 from 96 to 320"),
        ("resolution", "224", "a multiple of 32 from 96 to 320"),
        ("reduced_tail", 1, "True or False"),
        ("dilated", "yes", "True or False"),
        ("rounding", "keras", "'torchvision', 'paper'"),
        ("controls", "width", "width_mult"),
        ("controls", ["width"], "width_mult"),
    ],
)
def test_a_bad_value_names_argument_value_and_range(argument: str, value: Any, range_: str) -> None:
    with pytest.raises(TraitError, match=re.escape(argument)) as caught:
        Explorer(**{argument: value})
    assert range_ in str(caught.value)
    assert repr(value) in str(caught.value) or repr(value[0]) in str(caught.value)
    explorer = Explorer()
    with pytest.raises(TraitError):
        setattr(explorer, argument, value)
    assert explorer.page_html() == DEFAULT


def test_misspelt_and_positional_arguments_are_refused() -> None:
    with pytest.raises(TypeError, match="width"):
        Explorer(width=1.0)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        Explorer("large")  # type: ignore[misc]
    with pytest.raises(TraitError):
        Explorer().table = {}


def test_values_snap_to_the_stops_and_can_be_observed() -> None:
    explorer = Explorer(width_mult=0.1 + 0.2, controls=("rounding", "width_mult"))
    assert explorer.width_mult == 0.3
    assert explorer.controls == ["width_mult", "rounding"]
    seen: list[Any] = []
    explorer.observe(lambda change: seen.append(change["new"]), "width_mult")
    explorer.set_state({"width_mult": 1, "resolution": 96})  # as a front end does
    assert seen == [1.0]
    assert isinstance(explorer.width_mult, float)
    assert explorer.resolution == 96


def test_the_repr_is_fixed() -> None:
    text = (
        "Explorer(variant='small', width_mult=0.5, resolution=224, reduced_tail=False, dilated=True, rounding='paper')"
    )
    explorer = Explorer(variant="small", width_mult=0.5, dilated=True, rounding="paper", controls=())
    assert repr(explorer) == text
    assert eval(text).variant == "small"


def test_the_mime_bundle_has_a_live_view_html_and_text() -> None:
    data, _ = Explorer(variant="small", width_mult=0.75)._repr_mimebundle_() or ({}, {})
    assert set(data) == {"application/vnd.jupyter.widget-view+json", "text/html", "text/plain"}
    again, _ = Explorer(variant="small", width_mult=0.75)._repr_mimebundle_() or ({}, {})
    assert data["text/html"] == again["text/html"]
    assert data["text/plain"] == again["text/plain"]
    assert "<script" not in data["text/html"]
    assert "0x" not in data["text/html"] + data["text/plain"]
    assert len(data["text/html"]) < 6_000


@pytest.mark.parametrize("options", [{}, {"variant": "small", "width_mult": 0.35, "resolution": 96, "dilated": True}])
def test_the_fallback_is_a_table_of_the_librarys_numbers(options: dict[str, Any]) -> None:
    soup = BeautifulSoup(Explorer(**options).page_html(), "html.parser")
    place = soup.find("div")
    assert place is not None
    assert place["class"] == ["mnv3-widget"]
    state = json.loads(html.unescape(str(place["data-state"])))
    assert set(state) == {*explorer.CONTROLS, "controls"}
    assert {**state, **options} == state
    described = VARIANTS[state["variant"]](width_mult=state["width_mult"], dilated=state["dilated"])
    report = cost.profile(described, state["resolution"])
    caption = soup.caption
    assert caption is not None
    numbers = [int(re.sub(r"\D", "", text)) for text in re.findall(r"\d+(?:,\d{3})+", caption.text)]
    assert numbers == [report.parameters, report.macs, report.peak_memory()]
    rows = [[cell.text for cell in row.find_all(["th", "td"])] for row in soup.select("tbody tr")]
    assert len(rows) == len(described.rows) + 3
    assert sum(int(row[-2].replace(",", "")) for row in rows) == report.parameters
    assert sum(int(row[-1].replace(",", "")) for row in rows) == report.macs


def test_importing_explore_stays_light() -> None:
    code = "import sys, mnv3lib.explore as e; assert not {'anywidget', 'torch', 'matplotlib'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code + "; assert e.Explorer and 'torch' not in sys.modules"], check=True)
