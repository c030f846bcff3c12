"""The benchmark runs, and its ratios are those of its candidates within a round."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT
from scripts import load_script
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mnv3lib import config, cost
from mnv3lib.deploy import Comparison
from mnv3lib.deploy.table import parts
from mnv3lib.pointwise import PointwiseConv2d
from mnv3lib.recipe import Recipe, load, overridden
from mnv3lib.training.loop import Training
from mnv3lib.training.memory import keep_freed_memory, return_freed_memory

BENCHMARKS, SPEED = ROOT / "benchmarks", ROOT / "book" / "_data" / "speed"
SCRIPT = load_script(BENCHMARKS / "training_step.py")
INFERENCE, FAMILIES, CLAIMS, PREDICTOR, STEPS, WILD = (
    load_script(BENCHMARKS / f"{name}.py")
    for name in ("inference", "families", "claims", "predictor", "kernel_steps", "products")
)
CANDIDATES = {"this loop", "this loop, memory not kept", "this loop, torchvision's network",
              "plain loop, torchvision's network"}  # fmt: skip
PRODUCTS = "this loop, matrix products"


@pytest.mark.slow
def test_a_short_benchmark(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "short.json"
    short = ["--rounds", "2", "--networks", "mobilenet_v3_small", "--sides", "64", "--out", str(out)]
    assert SCRIPT.main(short) == 0
    found = json.loads(out.read_text())
    by_name = {line["against"]: line for line in found["lines"]}
    assert set(by_name) == CANDIDATES | {PRODUCTS}
    assert (by_name["this loop"]["faster_by"], by_name["this loop"]["quartiles"]) == (1, [1, 1])
    assert by_name["plain loop, torchvision's network"]["speedup"] == [1, 1, 1]
    assert all(line["images_per_second"] > 0 for line in found["lines"])
    assert "times the plain loop" in capsys.readouterr().out


def test_a_candidate_is_what_it_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[Recipe, nn.Module]] = []

    class Watched(Training):
        """The loop, which says what it was made for."""

        def __init__(self, recipe: Recipe, *sets: Any, **options: Any) -> None:
            super().__init__(recipe, *sets, **options)
            made.append((recipe, self.model))

    monkeypatch.setattr(SCRIPT, "Training", Watched)
    recipe = overridden(load("digitscenes"), ["batch_size=32", "epochs=3"])
    images = SCRIPT.Noise(32)
    turns = SCRIPT.candidates(recipe, images)
    assert set(turns) == CANDIDATES | {PRODUCTS}
    assert [one.precision.matrix_products for one, _ in made] == [False, True, False]
    kinds = [any(isinstance(module, PointwiseConv2d) for module in model.modules()) for _, model in made]
    assert kinds == [False, True, False]
    assert [memory for _, memory in turns.values()] == [keep_freed_memory] * 2 + [
        return_freed_memory,
        keep_freed_memory,
        return_freed_memory,
    ]
    made.clear()
    assert set(SCRIPT.compiled(recipe, images)) == {"this loop, compiled", f"{PRODUCTS}, compiled"}
    assert [one.precision.matrix_products for one, _ in made] == [False, True]
    assert all(model._compiled_call_impl is not None for _, model in made)


@pytest.mark.slow
@pytest.mark.usefixtures("core")
def test_a_short_benchmark_of_inference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "short.json"
    short = ["--rounds", "5", "--networks", "mobilenet_v3_small", "--sides", "64", "--ways", "PyTorch", "engine"]
    assert INFERENCE.main([*short, "--out", str(out)]) == 0
    found = json.loads(out.read_text())
    (result,) = found["results"]
    by_name = {line["way"]: line for line in result["lines"]}
    assert by_name["PyTorch"]["ratio"] == [1, 1, 1]
    assert by_name["engine"]["milliseconds"] > 0
    assert found["cpu"]
    assert found["ceilings"]["multiply_adds"] > 0
    assert "the floor is" in capsys.readouterr().out
    assert INFERENCE.main([*short, "--threads", "2", "--out", str(out)]) == 0
    found = json.loads(out.read_text())
    assert found["threads"] == 2
    assert "ceilings" not in found
    assert "share_of_floor" not in found["results"][0]["lines"][0]


@pytest.fixture
def core() -> Iterator[None]:
    """The benchmarks keep to one core, and what is freed; the tests after them do as they like."""
    before = os.sched_getaffinity(0)
    yield
    os.sched_setaffinity(0, before)
    return_freed_memory()


@pytest.mark.slow
@pytest.mark.usefixtures("core")
def test_a_short_benchmark_of_families(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FAMILIES, "WIDTHS", (0.35, 1.0))
    monkeypatch.setattr(FAMILIES, "OTHERS", {"squeezenet1_1": "IMAGENET1K_V1"})
    monkeypatch.setattr(FAMILIES, "PAIR", ("squeezenet1_1", "mobilenet_v3_small"))
    out = tmp_path / "short.json"
    short = ["--rounds", "5", "--side", "64", "--batches", "2", "--ways", "PyTorch", "engine", "--out", str(out)]
    assert FAMILIES.main(short) == 0
    found = json.loads(out.read_text())
    described = {line["network"]: line for line in found["networks"]}
    assert described["squeezenet1_1"]["top1"] == 58.178
    large = described["mobilenet_v3_large"]
    assert (large["macs"], large["parameters"]) == (cost.profile(config.large(), 64).macs, 5_483_032)
    eager, engine = found["results"]
    assert {line["network"] for line in eager["lines"]} == set(described)
    assert next(line for line in eager["lines"] if line["network"] == "mobilenet_v3_large")["ratio"] == [1, 1, 1]
    assert set(engine["refused"]) == {"squeezenet1_1"}
    assert eager["pair"]["to"] == "mobilenet_v3_small"
    assert eager["pair"]["ratio"][1] <= eager["pair"]["ratio"][0] <= eager["pair"]["ratio"][2]
    assert "pair" not in engine


@pytest.mark.slow
@pytest.mark.usefixtures("core")
def test_a_short_benchmark_of_claims(tmp_path: Path) -> None:
    out = tmp_path / "short.json"
    short = ["--rounds", "5", "--side", "64", "--sizes", "small", "--ways", "PyTorch", "engine", "--out", str(out)]
    assert CLAIMS.main(short) == 0
    found = json.loads(out.read_text())
    (where,) = found["breakdowns"]
    assert sum(where["fractions"].values()) > 0.99  # the clock around each layer takes time, too
    eager, engine = found["results"]
    work = {line["variant"]: line["macs_ratio"] for line in eager["lines"]}
    plain = cost.profile(config.small(), 64).macs
    assert work["as it is"] == work["ReLU everywhere"] == work["naive h-swish"] == 1
    assert work["reduced tail"] == round(cost.profile(config.small(reduced_tail=True), 64).macs / plain, 4) < 1
    assert work["old last stage"] > 1.1
    assert 0.9 < work["1 channel fewer"] < 1
    assert "old last stage" in engine["refused"]


def test_variants_are_what_they_are_called() -> None:
    found = CLAIMS.variants("small")
    plain = found["as it is"].config
    assert {row.activation for row in found["h-swish everywhere"].config.rows} == {"HS"}
    assert found["ReLU everywhere"].config.activation == "RE"
    assert not any(row.use_se for row in found["without SE"].config.rows)
    widths = [row.expanded_channels for row in found["1 channel fewer"].config.rows]
    assert widths == [row.expanded_channels - 1 for row in plain.rows]
    assert found["stem of 32 filters"].config.stem_channels == 32
    x = torch.linspace(-5, 5, 101)
    assert torch.allclose(CLAIMS.NaiveHardswish()(x), torch.nn.functional.hardswish(x), atol=1e-6)
    kinds = {name: {type(module).__name__ for module in model.modules()} for name, model in found.items()}
    assert "Hardswish" in kinds["as it is"]
    assert "Hardswish" not in kinds["naive h-swish"] | kinds["swish"]


def test_networks_mixed_from_the_grid_have_only_its_parts() -> None:
    known = {part for config, side in PREDICTOR.grid().values() for part in parts(config, side)}
    mixed = PREDICTOR.mixed(10)
    assert len(mixed) == 10
    grid = {config for config, _ in PREDICTOR.grid().values()}
    for config_, side in mixed.values():
        assert set(parts(config_, side)) <= known
        assert config_ not in grid


@pytest.mark.slow
@pytest.mark.usefixtures("core")
def test_a_short_benchmark_of_the_predictor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PREDICTOR, "WIDTHS", (0.35,))
    monkeypatch.setattr(PREDICTOR, "SIDES", (64, 96))
    monkeypatch.setattr(PREDICTOR, "mixed", lambda number: {})
    out = tmp_path / "short.json"
    assert PREDICTOR.main(["--rounds", "5", "--out", str(out)]) == 0
    lines = json.loads(out.read_text())["lines"]
    assert [line["network"] for line in lines] == [f"{size} ×0.35, {side} px" for size in ("large", "small")
                                                   for side in (64, 96)]  # fmt: skip
    assert all(line["milliseconds"] > 0 and line["predicted"] > 0 for line in lines)
    assert lines[0]["macs"] == cost.profile(config.large(width_mult=0.35), 64).macs


@pytest.mark.slow
@pytest.mark.usefixtures("core")
def test_a_short_benchmark_of_the_steps_of_a_kernel(tmp_path: Path) -> None:
    out = tmp_path / "short.json"
    assert STEPS.main(["--rounds", "5", "--out", str(out)]) == 0
    found = json.loads(out.read_text())
    expand, depth = found["results"]
    assert (expand["kind"], expand["macs"], depth["kind"]) == ("expand", 7_526_400, "depthwise")
    by_step = {line["step"]: line for line in expand["lines"]}
    assert list(by_step) == ["PyTorch", *STEPS.steps.POINTWISE, *STEPS.OPTIONS]
    assert by_step["PyTorch"]["ratio"] == [1, 1, 1]
    for line in depth["lines"]:
        assert line["share_of_floor"] == pytest.approx(depth["floor_ms"] / line["milliseconds"], rel=0.05)
    assert found["lanes"] in (4, 8, 16)


@pytest.mark.slow
@pytest.mark.usefixtures("core")
def test_a_short_benchmark_of_the_products(tmp_path: Path) -> None:
    out = tmp_path / "short.json"
    assert WILD.main(["--rounds", "5", "--ways", "PyTorch", "--out", str(out)]) == 0
    found = json.loads(out.read_text())
    assert [(result["product"], result["way"]) for result in found["results"]] == [
        ("text direction", "PyTorch"),
        ("portrait", "PyTorch"),
    ]
    for result in found["results"]:
        assert result["lines"][0]["variant"] == "product"
        assert result["lines"][0]["ratio"] == [1, 1, 1]


def test_a_variant_of_a_product_differs_in_what_it_is_named_after() -> None:
    networks = WILD.portrait()
    macs = {name: multiply_adds_of(network, torch.rand(1, 3, 256, 256)) for name, network in networks.items()}
    product = macs.pop("product")
    assert macs["gates x/6 + ½"] == product
    assert macs["no expansion in block 1"] == product - 16 * 16 * 128**2
    assert macs["no decoder"] < product < macs["40 and 48 channels"] < macs["LR-ASPP Small"]
    networks = WILD.text_direction()
    macs = {name: multiply_adds_of(network, torch.rand(1, 3, 48, 192)) for name, network in networks.items()}
    assert macs["gates x/6 + ½"] == macs["product"] > macs["no expansion in block 1"]
    assert macs["strides (2, 2)"] < 0.2 * macs["product"]


def multiply_adds_of(network: nn.Module, images: Tensor) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(images)
    return counter.get_total_flops() // 2


@pytest.mark.parametrize("path", sorted(SPEED.glob("*.json")), ids=lambda path: path.stem)
def test_measured_files_say_what_they_were_made_with(path: Path) -> None:
    kept = json.loads(path.read_text())
    assert len(kept["commit"]) == 40, "made from code that is in no commit"
    assert {"torch", "torchvision", "python", "mnv3lib"} <= set(kept["versions"])
    name, _, processor = path.stem.partition("_")
    assert re.sub(r"[^a-z0-9]+", "-", kept["cpu"].lower()).strip("-") == processor
    assert name in ("training", "families", "claims", "predictor", "products", "steps", "inference",
                    "inference-2-threads")  # fmt: skip
    assert kept["rounds"] >= (9 if name == "training" else 15)


def test_an_engine_is_compared_with_the_best_of_the_others_in_its_precision() -> None:
    seconds = {"PyTorch": 0.010, "ONNX Runtime": 0.005, "OpenVINO": 0.004, "OpenVINO, bf16": 0.002, "engine": 0.003,
               "engine, bf16": 0.001}  # fmt: skip
    found = Comparison({name: [value] * 5 for name, value in seconds.items()}, "PyTorch", [0.010] * 5, 1)
    by_name = {line["way"]: line for line in INFERENCE.lines(found, 0.0015)}
    assert (by_name["engine"]["against"], by_name["engine"]["ratio_to_it"]) == ("OpenVINO", [0.75] * 3)
    assert (by_name["engine, bf16"]["against"], by_name["engine, bf16"]["ratio_to_it"]) == ("OpenVINO, bf16", [0.5] * 3)
    assert "against" not in by_name["OpenVINO"]
    assert by_name["engine"]["share_of_floor"] == 0.5
    assert by_name["OpenVINO"]["ratio"] == [0.4] * 3


def test_ratios_are_taken_within_a_round() -> None:
    """A candidate that is twice as slow in every round, on a machine whose speed changes all the time."""
    clock = iter([0.0, 1.0, 0.0, 2.0, 0.0, 5.0, 0.0, 10.0])

    def nothing() -> None:
        pass

    times = SCRIPT.measure({"a": (nothing, nothing), "b": (nothing, nothing)}, 2, "", clock=lambda: next(clock))
    assert times == {"a": [1.0, 5.0], "b": [2.0, 10.0]}


@pytest.mark.parametrize("path", sorted(SPEED.glob("training_*.json")), ids=lambda path: path.stem)
def test_the_file_of_training_is_complete(path: Path) -> None:
    """The first one is older than matrix products."""
    lines = json.loads(path.read_text())["lines"]
    measured = {(line["network"], line["side"], line["against"]) for line in lines}
    networks = ("mobilenet_v3_small", "mobilenet_v3_large")
    assert measured >= {(name, side, one) for name in networks for side in (64, 224) for one in CANDIDATES}
    assert all((PRODUCTS in {line["against"] for line in lines}) == ("speedup" in line) for line in lines)
