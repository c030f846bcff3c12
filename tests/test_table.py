"""A latency table knows every part of a network, builds what the network builds, and adds up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from reference import same_bits
from torch import nn

from mnv3lib import MobileNetV3
from mnv3lib.config import large, small
from mnv3lib.deploy.latency import Comparison
from mnv3lib.deploy.table import LatencyTable, Part, measure_table, parts, passes, tabulated


@pytest.mark.parametrize("variant", [large, small])
@pytest.mark.parametrize("options", [{}, {"width_mult": 0.35, "dilated": True, "padding": "same"}])
def test_parts_one_after_the_other_are_the_network(variant: Any, options: dict[str, Any]) -> None:
    """With the network's weights in them they give the network's logits."""
    torch.manual_seed(0)
    network = MobileNetV3(variant(num_classes=7, **options)).eval()
    found = parts(network.config, (64, 49))
    theirs: list[nn.Module] = [*network.features, network.classifier]
    x = images = torch.randn(1, 3, 64, 49)
    for part, module in zip(found, theirs, strict=True):
        built, example = part.build()
        assert example.shape == x.shape
        built.load_state_dict(dict(zip(built.state_dict(), module.state_dict().values(), strict=True)))
        with torch.no_grad():
            x = built(x)
    with torch.no_grad():
        assert same_bits(x, network(images))


def test_networks_of_a_family_share_parts() -> None:
    one, other = parts(large(), 224), parts(large(reduced_tail=True), 224)
    assert one[:13] == other[:13]
    assert one[13:16] != other[13:16]
    # Bottlenecks that Table 1 repeats.
    assert (one[5], one[9], one[14]) == (one[6], one[10], one[15])
    assert len(set(one)) == len(one) - 3


def test_a_prediction_is_the_sum() -> None:
    found = parts(small(), 160)
    table = LatencyTable({part: 0.001 * (number + 1) for number, part in enumerate(dict.fromkeys(found))}, start=5.0)
    assert table.predict(small(), 160) == pytest.approx(5.0 + sum(table.seconds[part] for part in found))
    with pytest.raises(ValueError, match=r"the table lacks 14 of the 14 parts, first Part\(kind='stem'"):
        table.predict(small(), 224)


def test_a_table_is_kept_in_a_file(tmp_path: Path) -> None:
    table = LatencyTable(dict.fromkeys(parts(small(), 96), 0.5), start=0.25, made={"cpu": "one", "threads": 1})
    table.save(tmp_path / "table.json")
    again = LatencyTable.load(tmp_path / "table.json")
    assert again == table
    assert json.loads((tmp_path / "table.json").read_text())["cpu"] == "one"
    for text in ("[]", "{}", '{"parts": [{"seconds": 1}]}', "no"):
        (tmp_path / "other.json").write_text(text)
        with pytest.raises(ValueError, match=r"other\.json' is no latency table"):
            LatencyTable.load(tmp_path / "other.json")


def test_every_part_is_measured_once() -> None:
    wanted = [*parts(small(width_mult=0.25), 32), *parts(small(width_mult=0.25), 32)]
    table = measure_table(wanted, rounds=5, made={"threads": 1})
    assert set(table.seconds) == set(wanted)
    assert all(seconds > 0 for seconds in table.seconds.values())
    assert table.made == {"threads": 1}
    with pytest.raises(ValueError, match="wanted must be one part or more"):
        measure_table([])


def test_what_an_empty_pass_takes_is_counted_once() -> None:
    found = parts(small(), 96)
    seconds = {name: [0.003] * 5 for name in passes(found)} | {str(found[1]): [0.007] * 5, "an empty pass": [0.002] * 5}
    table = tabulated(Comparison(seconds, str(found[0]), [0.003] * 5, 1), found)
    assert table.start == 0.002
    assert table.seconds[found[0]] == pytest.approx(0.001)
    assert table.seconds[found[1]] == pytest.approx(0.005)
    assert table.predict(small(), 96) == pytest.approx(0.002 + 0.001 * (len(found) - 1) + 0.005)


def test_a_part_says_all_that_its_time_depends_on() -> None:
    part = parts(large(), 224)[4]
    assert part == Part("block", (24, 40, 72), (56, 56), "RE", "symmetric", 5, 2, 1, 1)


def test_a_part_runs_on_an_input_that_has_just_been_written() -> None:
    """Writing it changes nothing."""
    run, empty = passes(parts(small(width_mult=0.35), 64)[:1]).values()
    assert same_bits(empty(), empty.images)
    before, version = run.images.clone(), run.images._version
    run.write()
    assert run.images._version == version + 1
    assert same_bits(run.images, before)
