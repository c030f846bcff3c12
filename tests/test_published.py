"""The book's fact data: well formed, and every published count is either reproduced or known not to be."""

from __future__ import annotations

from dataclasses import replace
from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal
from importlib import import_module
from itertools import product
from typing import Any

import pytest
from ledger import Deviation

from mnv3lib import config, cost, facts

VARIANTS = {name: getattr(config, name) for name in ("large", "small", "large_minimalistic", "small_minimalistic")}
DOCUMENT = facts.load()
OURS = [row for row in facts.published() if "variant" in row]
CELLS = [(row, metric) for row in OURS for metric in ("macs", "params")]
REPRODUCED = [cell for cell in CELLS if cell[0][cell[1]]["reproduced"] != "no"]
MISSING = [cell for cell in CELLS if cell[0][cell[1]]["reproduced"] == "no"]
UNITS = {"one": 1, "millions": 10**6, "billions": 10**9}


def cell_id(row: dict[str, Any], metric: str) -> str:
    bits = "-8bit" if "bits" in row else ""
    return f"{row['table']}-{row['variant']}{bits}-{row['width']}-{row['resolution']}-{metric}"


def count(row: dict[str, Any], metric: str, *, rounding: str = "torchvision", head: int | None = None) -> int:
    """What ``cost`` says of the network in ``row``, under a rounding rule and width of the hidden layer."""
    described = VARIANTS[row["variant"]](width_mult=row["width"], rounding=rounding)
    if head is not None:
        described = replace(described, last_channel=head)
    report = cost.profile(described, row["resolution"])
    return {"macs": report.macs, "params": report.parameters}[metric]


def as_printed(number: int, table: str, metric: str) -> dict[str, Decimal]:
    """The number rounded, and cut off, to the digits of the table."""
    about = facts.table(table)
    scaled = Decimal(number) / UNITS[about["units"][metric]]
    step = Decimal(1).scaleb(-about["digits"][metric])
    return {"exact": scaled.quantize(step, ROUND_HALF_UP), "truncated": scaled.quantize(step, ROUND_DOWN)}


@pytest.mark.proves(
    "Published counts that are said to be reproduced, to the last printed digit",
    against="Tables 3 and 9 of the paper, TF-slim's README, torchvision's metadata",
    tolerance=0,
    unit="count",
)
@pytest.mark.parametrize(("row", "metric"), REPRODUCED, ids=[cell_id(*cell) for cell in REPRODUCED])
def test_every_other_published_count_is_reproduced(row: dict[str, Any], metric: str, deviation: Deviation) -> None:
    cell = row[metric]
    printed = Decimal(str(cell["printed"]))
    options = {key: cell[key] for key in ("rounding", "head") if key in cell}
    found = as_printed(count(row, metric, **options), row["table"], metric)
    deviation(float(abs(found[cell["reproduced"]] - printed)))
    if cell["reproduced"] == "truncated":
        assert found["exact"] != printed, "rounds to what is printed: say exact"
    if row["width"] == 1.0:
        assert "rounding" not in cell, "at width 1 the rules coincide"
    if cell.get("rounding") == "paper":
        plain = as_printed(count(row, metric), row["table"], metric)
        assert printed not in plain.values() or metric == "params", "torchvision's rule gives it too"


@pytest.mark.parametrize(("row", "metric"), MISSING, ids=[cell_id(*cell) for cell in MISSING])
def test_a_count_is_not_reproduced_only_if_no_known_rule_gives_it(row: dict[str, Any], metric: str) -> None:
    cell = row[metric]
    printed = Decimal(str(cell["printed"]))
    assert len(cell["reason"]) > 20
    published_head = {"large": 1280, "small": 1024}[row["variant"].partition("_")[0]]
    for rounding, head in product(config.ROUNDINGS, (None, published_head)):
        found = as_printed(count(row, metric, rounding=rounding, head=head), row["table"], metric)
        assert printed not in found.values(), f"reproduced after all, with rounding={rounding!r}, head={head}"
    if "explained_by" in cell:
        found = as_printed(count(row, metric, **cell["explained_by"]), row["table"], metric)
        assert found["exact"] == printed


def test_the_list_of_what_is_not_reproduced_is_short() -> None:
    missing = [cell_id(*cell) for cell in MISSING]
    unexplained = [cell_id(*cell) for cell in CELLS if "explained_by" not in cell[0][cell[1]]]
    assert len(missing) == 14
    assert {name for name in missing if name in unexplained} == {
        "table3-large-1.0-224-macs",
        "table9-large-0.35-224-macs",
        "table9-large-0.35-224-params",
        "tf-slim-small-1.0-224-macs",
        "tf-slim-small-8bit-1.0-224-macs",
        "tf-slim-small_minimalistic-1.0-224-macs",
    }


def test_table_9_is_whole_and_its_gap_is_flagged() -> None:
    rows = facts.published(table="table9")
    widths = [(width, 224) for width in (1.25, 1.0, 0.75, 0.5, 0.35)]
    points = {*widths, *((1.0, side) for side in (256, 192, 160, 128, 96))}
    for variant in ("large", "small"):
        assert {(row["width"], row["resolution"]) for row in rows if row["variant"] == variant} == points
    assert len(rows) == 20
    (gap,) = [row for row in rows if "gap" in row]
    assert (gap["variant"], gap["resolution"], gap["source"]) == ("small", 192, "paper-early")


def test_entries_have_their_fields_and_known_sources() -> None:
    known = set(DOCUMENT["sources"])
    for entry in DOCUMENT["sources"].values():
        assert {"title", "authors", "year", "url", "trust"} <= set(entry)
    for section in ("tables", "specifications"):
        assert all(entry["source"] in known for entry in DOCUMENT[section].values())
    for row in facts.published():
        assert row["source"] in known
        assert ("variant" in row) != ("network" in row)
        assert set(row) - {"table", "variant", "network", "width", "resolution", "source", "gap", "note", "bits",
                           "weights"} == set(facts.table(row["table"])["units"])  # fmt: skip
    for row, metric in CELLS:
        cell = row[metric]
        assert cell["reproduced"] in ("exact", "truncated", "no")
        assert set(cell) <= {"printed", "reproduced", "rounding", "head", "reason", "explained_by"}
        assert ("reason" in cell) == (cell["reproduced"] == "no")
    for entry in facts.errata():
        assert set(entry) == {"id", "claim", "where", "source", "truth"}
        assert entry["source"] in known
    for section in (facts.errata(), facts.load()["history"]):
        assert all(entry["source"] in known for entry in section)
    assert len({entry["id"] for entry in facts.errata()}) == len(facts.errata())
    dates = [entry["date"] for entry in DOCUMENT["history"]]
    assert dates == sorted(dates)


def test_access_functions() -> None:
    assert facts.source("paper")["arxiv"] == "1905.02244v5"
    assert {row["variant"] for row in facts.published(table="table9", variant="small")} == {"small"}
    assert all(row["table"] == "table3" for row in facts.published(table="table3"))
    assert facts.published(variant="no such") == []
    with pytest.raises(KeyError, match="tables has no entry 'table99'"):
        facts.published(table="table99")
    with pytest.raises(KeyError, match="sources has no entry"):
        facts.source("hearsay")
    facts.load()["errata"].clear()
    facts.published(table="table9")[0]["macs"]["printed"] = 0
    assert facts.errata()
    assert facts.published(table="table9")[0]["macs"]["printed"] == 356


def test_torchvision_says_so_itself() -> None:
    models = import_module("torchvision").models
    rows = facts.published(table="torchvision")
    for row in rows:
        meta = models.get_weight(row["weights"]).meta
        metrics = meta["_metrics"]["ImageNet-1K"]
        assert (metrics["acc@1"], metrics["acc@5"]) == (row["top1"], row["top5"])
        assert (meta["num_params"], meta["_ops"]) == (row["params"]["printed"], row["macs"]["printed"])
    assert "mobilenet_v3_small" in models.list_models()
    assert len(rows) == sum(len(models.get_model_weights(f"mobilenet_v3_{size}")) for size in ("large", "small"))


def test_the_sketch_is_as_heavy_as_we_say() -> None:
    torch = import_module("torch")
    nn = torch.nn
    from torch.utils.flop_counter import FlopCounterMode

    def conv(inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> list[Any]:
        layer = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        return [layer, nn.BatchNorm2d(outputs)]

    class Gate(nn.Module):
        def __init__(self, channels: int) -> None:
            super().__init__()
            self.down = nn.Linear(channels, channels // 4, bias=False)
            self.up = nn.Linear(channels // 4, channels, bias=False)

        def forward(self, x: Any) -> Any:
            return x * torch.sigmoid(self.up(torch.relu(self.down(x.mean((2, 3)))))[:, :, None, None])

    def sketch(num_classes: int) -> Any:
        layers = conv(3, 16, 3, 2)
        for inputs, expanded, outputs, stride, gated in (
            (16, 16, 16, 1, True),
            (16, 72, 24, 2, False),
            (24, 88, 24, 1, False),
            (24, 96, 40, 2, True),
            (40, 240, 40, 1, True),
        ):
            layers += conv(inputs, expanded) if expanded != inputs else []
            layers += conv(expanded, expanded, 3, stride, expanded)
            layers += [Gate(expanded)] if gated else []
            layers += conv(expanded, outputs)
        layers += [*conv(40, 96), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(96, num_classes)]
        return nn.Sequential(*layers)

    numbers = DOCUMENT["sketch"]
    with torch.device("meta"):
        big, little, image = sketch(1000).eval(), sketch(10), torch.empty(1, 3, 224, 224)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            big(image)
    assert sum(p.numel() for p in big.parameters()) == numbers["parameters"]
    assert sum(p.numel() for p in little.parameters()) == numbers["parameters_10_classes"]
    assert counter.get_total_flops() == 2 * numbers["macs"]
    assert big[:-3](image).shape[-1] == numbers["last_map"]

    real = config.small()
    assert numbers["real"] == {
        "blocks": len(real.rows),
        "last_map": cost.profile(real).features[-2][-1].output[-1],
        "parameters": cost.profile(real).parameters,
        "parameters_10_classes": cost.profile(config.small(num_classes=10)).parameters,
        "macs": cost.profile(real).macs,
    }
    assert numbers["macs"] / numbers["real"]["macs"] == pytest.approx(1.4, abs=0.005)
