"""The fastest way that gives a network's logits is chosen, and the report says what came of the others."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, NoReturn

import pytest
import torch
from networks import pictures, shaken, short_network
from reference import relative_error, same_bits
from torch import Tensor, nn

from mnv3lib import mobilenet_v3_small
from mnv3lib.deploy import Comparison, Engine, ExportError, Unavailable, formats, optimize, packages
from mnv3lib.deploy.fastest import TOLERANCES
from mnv3lib.deploy.formats import FORMATS
from mnv3lib.deploy.paths import PATHS, Path, Run
from mnv3lib.deploy.quantization import is_quantized

ONE = pictures(2, 3, 40, 33)


def small() -> nn.Module:
    return shaken(mobilenet_v3_small(num_classes=9, width_mult=0.35)).eval()


@pytest.fixture
def ways(monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """The model as it is, and what a test adds."""
    found = {"PyTorch": PATHS["PyTorch"]}
    monkeypatch.setattr("mnv3lib.deploy.fastest.PATHS", found)
    return found


def takes(monkeypatch: pytest.MonkeyPatch, **seconds: float) -> None:
    """What a comparison finds; speeds of the machine that runs the tests decide nothing."""

    def compared(runs: Any, **options: Any) -> Comparison:
        assert set(runs) == set(seconds)
        return Comparison({name: [seconds[name]] * 5 for name in runs}, next(iter(runs)), [seconds["PyTorch"]] * 5, 1)

    monkeypatch.setattr("mnv3lib.deploy.fastest.compare", compared)


@pytest.mark.parametrize("way", ["PyTorch", "folded, channels last", "matrix products", "engine"])
def test_every_way_gives_the_logits(way: str) -> None:
    model = small()
    run = PATHS[way].build(model, ONE, 1, "fp32")
    with torch.no_grad():
        assert relative_error(run(ONE), model(ONE)) < 1e-4
        assert relative_error(run(ONE.flip(0)), model(ONE.flip(0))) < 1e-4
    assert not run(ONE).requires_grad
    before = run(ONE)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert same_bits(run(ONE), before)  # later changes of the model are not seen


def test_the_fastest_is_chosen(ways: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    ways["slow"] = ways["PyTorch"]
    ways["engine"] = PATHS["engine"]
    ways["matrix products"] = PATHS["matrix products"]
    takes(monkeypatch, **{"PyTorch": 0.010, "slow": 0.020, "engine": 0.003, "matrix products": 0.007})
    made = optimize(small(), ONE)
    assert made.name == "engine"
    assert [one.name for one in made.report] == ["engine", "matrix products", "PyTorch", "slow"]
    assert [one.ratio.median for one in made.report if one.ratio] == pytest.approx([0.3, 0.7, 1.0, 2.0])
    assert same_bits(made(ONE), Engine(small())(ONE))
    assert "matrix products" in str(made)
    takes(monkeypatch, **{"PyTorch": 0.010, "slow": 0.020, "engine": 0.030, "matrix products": 0.007})
    assert optimize(small(), ONE).name == "matrix products"


def test_a_way_whose_logits_stray_is_refused(ways: dict[str, Path]) -> None:
    ways["zeros"] = Path(lambda *a: lambda images: torch.zeros(len(images), 9))
    ways["nothing"] = Path(lambda *a: lambda images: torch.full((len(images), 9), torch.nan))
    made = optimize(small(), ONE, rounds=5)
    assert made.name == "PyTorch"
    refused = {one.name: one.refused for one in made.report if one.refused}
    assert set(refused) == {"zeros", "nothing"}
    assert all("stray" in str(why) for why in refused.values())


def test_what_is_not_here_is_named(ways: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(packages, "import_module", missing)
    for name in ("ONNX Runtime", "OpenVINO", "ExecuTorch"):
        ways[name] = PATHS[name]
    said = str(optimize(small(), ONE, rounds=5))
    for package in ("onnxruntime", "openvino", "executorch"):
        assert f"pip install {package}" in said


def test_a_network_that_the_engine_does_not_know_runs_otherwise(ways: dict[str, Path]) -> None:
    ways["engine"] = PATHS["engine"]
    made = optimize(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.LazyLinear(2)).eval(), ONE, rounds=5)
    assert made.name == "PyTorch"
    assert "MobileNetV3 for classification" in str(made)


def test_bfloat16_is_tried_where_it_is_asked_for(ways: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    takes(monkeypatch, PyTorch=0.010)  # on cores that others use, two threads wait for each other a hundred times
    seen = []

    def build(model: nn.Module, example: Tensor, threads: int, precision: str) -> Run:
        seen.append((precision, threads))
        raise Unavailable("not today")

    ways["half"] = Path(build, ("fp32", "bf16"))
    assert "half, bf16" not in str(optimize(small(), ONE, threads=2))
    assert seen == [("fp32", 2)]
    assert "half, bf16" in str(optimize(small(), ONE, "bf16"))
    assert seen[1:] == [("fp32", 1), ("bf16", 1)]


def test_only_the_example_s_shape_is_taken(ways: dict[str, Path]) -> None:
    made = optimize(small(), ONE, rounds=5)
    with pytest.raises(ValueError, match=r"shape \(2, 3, 40, 33\) it was made for, got \(1, 3, 40, 33\)"):
        made(ONE[:1])
    with pytest.raises(TypeError, match=r"float32 tensor, got torch.float64"):
        made(ONE.double())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((print, ONE), "model must be a torch.nn.Module, got builtin_function_or_method"),
        ((mobilenet_v3_small(width_mult=0.25), ONE), "evaluation mode"),
        ((small(), ONE.double()), "example must be a float32 tensor on the CPU, got torch.float64"),
        ((small(), ONE[0]), r"example must have the shape \(N, C, H, W\), got \(3, 40, 33\)"),
        ((small(), ONE[:, :2]), r"example must be images that the model takes, \(2, 2, 40, 33\) are not"),
        ((small(), ONE[:0]), r"got \(0, 3, 40, 33\)"),
        ((small(), ONE, "fp64"), "precision must be one of 'fp32', 'bf16', 'int8', got 'fp64'"),
        ((small(), ONE, "int8"), "calibration must be batches of images, or the quantised model, for 'int8', got None"),
    ],
)
def test_wrong_arguments_are_named(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        optimize(*arguments)


@pytest.mark.parametrize("way", ["AOTInductor", "torch.compile"])
def test_compiled_code_is_packed_for_the_threads_that_it_runs_with(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With others it packs in every pass; that Large at 224 pixels took three times as long."""
    seen: list[int] = []

    def write(*arguments: Any) -> None:
        seen.append(torch.get_num_threads())

    def compiled(model: nn.Module, **options: Any) -> nn.Module:
        model.register_forward_pre_hook(write)
        return model

    stands_in = FORMATS["pt2"]._replace(write=write, read=lambda path, threads, precision: small())
    monkeypatch.setitem(FORMATS, "pt2", stands_in)
    monkeypatch.setattr(torch, "compile", compiled)
    monkeypatch.setattr(formats.shutil, "which", lambda name: "/usr/bin/c++")
    before = torch.get_num_threads()
    PATHS[way].build(small(), ONE, before + 2, "fp32")
    assert seen == [before + 2]
    assert torch.get_num_threads() == before


def test_without_a_compiler_the_ways_that_need_one_are_left_out(
    ways: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formats.shutil, "which", lambda name: None)
    ways.update({name: PATHS[name] for name in ("torch.compile", "AOTInductor")})
    made = optimize(small(), ONE, "bf16", rounds=5)
    refused = {one.name: str(one.refused) for one in made.report if one.refused}
    assert set(refused) == {"torch.compile", "AOTInductor", "AOTInductor, bf16"}
    assert all("it needs a C++ compiler" in why for why in refused.values())


def test_what_an_exporter_cannot_take_runs_otherwise(ways: dict[str, Path]) -> None:
    def cannot(*arguments: Any) -> Run:
        raise ExportError("ONNX cannot write this network: no")

    ways["ONNX Runtime"] = Path(cannot)
    assert "refused: ONNX cannot write this network: no" in str(optimize(small(), ONE, rounds=5))


def test_executorch_computes_with_one_thread_only() -> None:
    with pytest.raises(Unavailable, match="with one thread, and 2 are asked for"):
        PATHS["ExecuTorch"].build(small(), ONE, 2, "fp32")


#: One image, and three of another size; what compiles for half a minute sees only the three.
BATCHES = [pictures(1, 3, 40, 33), pictures(3, 3, 33, 47)]
COMPILED = ("torch.compile", "AOTInductor")
EVERY = [(way, precision) for way, path in PATHS.items() for precision in path.precisions if precision != "int8"]


def plain() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 8, 3), nn.Hardswish(), nn.Conv2d(8, 8, 3), nn.Flatten(), nn.Linear(8 * 36 * 29, 50)
    return nn.Sequential(*layers).eval().requires_grad_(False)


@pytest.mark.parametrize(("backend", "highest"), [("onednn", 255), ("fbgemm", 127)])
def test_8_bits_are_tried_where_they_are_asked_for(
    ways: dict[str, Path], monkeypatch: pytest.MonkeyPatch, backend: str, highest: int
) -> None:
    """The graph of the model in 8 bits is what such a way is given; the report tells the error against the model."""
    model = plain()
    given = []

    def build(one: nn.Module, example: Tensor, threads: int, precision: str) -> Run:
        given.append(one)
        return PATHS["PyTorch"].build(one, example, threads, precision)

    monkeypatch.setattr("mnv3lib.deploy.fastest.suited_backend", lambda: backend)
    ways["integers"] = Path(build, ("int8",))
    takes(monkeypatch, **{"PyTorch": 0.010, "integers, int8": 0.002})
    made = optimize(model, ONE, "int8", calibration=[ONE[:1], ONE[1:]])
    assert made.name == "integers, int8"
    (graph,) = given
    quantise = torch.ops.quantized_decomposed.quantize_per_tensor.default
    assert is_quantized(graph)
    assert {node.args[4] for node in graph.graph.nodes if node.target == quantise} == {highest}
    assert same_bits(made(ONE), graph(ONE))
    expected = model(ONE)
    assert made.report[0].error == pytest.approx(float((graph(ONE) - expected).abs().max() / expected.std()))
    assert 0 < made.report[0].error < 0.2
    again = optimize(model, ONE, "int8", calibration=graph)
    assert given[1] is graph
    assert again.report[0].error == made.report[0].error
    takes(monkeypatch, **{"PyTorch": 0.010, "integers, int8": 0.020})
    assert optimize(model, ONE, "int8", calibration=graph).name == "PyTorch"


def test_8_bits_that_are_not_the_graph_s_are_refused(ways: dict[str, Path]) -> None:
    """Although they are near the model's own logits, as those of another calibration can be."""
    model = plain()
    ways["floats"] = Path(lambda *_: PATHS["PyTorch"].build(model, ONE, 1, "fp32"), ("int8",))
    made = optimize(model, ONE, "int8", calibration=[ONE * 0.1], rounds=5)
    assert made.name == "PyTorch"
    (refused,) = [one for one in made.report if one.refused]
    assert (refused.name, refused.error) == ("floats, int8", 0.0)
    assert "stray" in str(refused.refused)


@pytest.mark.parametrize(
    ("precision", "calibration", "message"),
    [
        ("int8", [], "calibration must hold one batch of images or more, got none"),
        ("int8", [ONE[..., 1:]], r"the example's shape \(3, 40, 33\), got \(3, 40, 32\)"),
        ("int8", nn.Identity(), "calibration must be a quantised model, or batches of images, got Identity"),
        ("fp32", [ONE], "calibration must be None for the precision 'fp32', got list"),
        ("bf16", [ONE], "calibration must be None for the precision 'bf16', got list"),
    ],
)
def test_wrong_calibration_is_named(precision: str, calibration: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        optimize(small(), ONE, precision, calibration=calibration)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("way", "precision", "images"),
    [(way, precision, images) for way, precision in EVERY for images in BATCHES[way in COMPILED :]],
    ids=lambda value: str(len(value)) if isinstance(value, Tensor) else value,
)
def test_every_way_in_every_precision_gives_the_logits(
    way: str, precision: str, images: Tensor, elsewhere: Callable[[str], NoReturn]
) -> None:
    model = short_network()
    try:
        run = PATHS[way].build(model, images, 1, precision)
    except Unavailable as problem:  # a processor without bfloat16; all packages are pinned, and CI has a compiler
        if precision == "fp32" and os.environ.get("CI"):
            raise
        elsewhere(str(problem))
    with torch.no_grad():
        for batch in (images, images.flip(0, 3)):
            assert relative_error(run(batch), model(batch)) < TOLERANCES[precision]
            assert not run(batch).requires_grad
    before = run(images).clone()
    run(images.flip(3))
    assert same_bits(run(images), before)
