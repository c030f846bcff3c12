"""Networks in 8 bits: by hand, the same in every engine, as accurate as before, and clear errors."""

from __future__ import annotations

import copy
import json
import logging
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from ledger import Deviation
from networks import pictures, shaken, short_network, small_network
from reference import assert_same_state, h_swish, same_bits
from torch import Tensor, nn

from mnv3lib import weights
from mnv3lib.blocks import InvertedResidual
from mnv3lib.config import InvertedResidualConfig
from mnv3lib.deploy import FakeQuantized, Unavailable, export, fold_batch_norm, quantize, suited_backend
from mnv3lib.deploy.fastest import TOLERANCES, stray
from mnv3lib.deploy.formats import FORMATS
from mnv3lib.deploy.paths import PATHS
from mnv3lib.deploy.quantization import _quiet, is_quantized, signed
from mnv3lib.recipe import load, overridden
from mnv3lib.training.evaluation import measure, open_dataset

pytest.importorskip("torchao.quantization.pt2e.quantize_pt2e")  # registers the operations
OPS = torch.ops.quantized_decomposed
QUANTISE, DEQUANTISE = OPS.quantize_per_tensor.default, OPS.dequantize_per_tensor.default


class Stub(nn.Module):
    """A bottleneck with everything in it, and a classifier: small enough for a quick test."""

    def __init__(self) -> None:
        super().__init__()
        row = InvertedResidualConfig(4, 3, 8, 4, True, "HS", 1, 1)
        self.block = InvertedResidual(row)
        self.pool, self.last = nn.AdaptiveAvgPool2d(1), nn.Linear(4, 3)
        self.drop = nn.Dropout(0.5)

    def forward(self, images: Tensor) -> Tensor:
        return self.last(self.drop(torch.flatten(self.pool(self.block(images)), 1)))


def stub() -> nn.Module:
    return shaken(Stub()).eval()


def batches(number: int = 3) -> list[Tensor]:
    return [pictures(4, 4, 9, 11, seed=seed) for seed in range(number)]


ONE = batches()[0]


@cache
def quantised_stub(**options: Any) -> nn.Module:
    """Not to be changed."""
    return quantize(stub(), batches(), **options)


def arguments(model: nn.Module, operation: Any) -> list[tuple[Any, ...]]:
    """What the calls of an operation in a graph are given, in their order."""
    return [node.args for node in model.graph.nodes if node.target == operation]


def test_one_layer_by_hand() -> None:
    """Integers, multiplied and added as integers, give what the graph gives."""
    generator = torch.Generator().manual_seed(3)
    conv = nn.Conv2d(3, 5, 1)
    images = torch.rand(2, 3, 4, 4, generator=generator) * 5 - 1
    model = nn.Sequential(conv, nn.Hardswish()).eval()
    graph = quantize(model, [images], observer="minmax")
    (_, scale, zero, low, high, _), (_, out_scale, out_zero, *_), (_, last_scale, last_zero, *_) = arguments(
        graph, QUANTISE
    )
    assert (low, high) == (0, 255)
    assert scale == pytest.approx(float(images.max() - images.min()) / 255)
    assert zero == round(-float(images.min()) / scale)
    ((values, scales, zeros, *_),) = arguments(graph, OPS.dequantize_per_channel.default)
    weight, scales, zeros = (graph.get_buffer(node.target) for node in (values, scales, zeros))
    of_channel = conv.weight.detach().abs().amax((1, 2, 3))
    torch.testing.assert_close(scales, of_channel / 127, rtol=1e-6, atol=0, check_dtype=False)
    assert not zeros.any()
    assert weight.dtype == torch.int8
    assert weight.equal((conv.weight / (of_channel / 127).reshape(-1, 1, 1, 1)).round().to(torch.int8))

    entered = (images / scale + zero).round().clamp(0, 255).long()
    sums = torch.einsum("oi,nihw->nohw", weight[:, :, 0, 0].long(), entered - zero)
    left = sums.double() * scale * scales.reshape(1, -1, 1, 1) + conv.bias.detach().reshape(1, -1, 1, 1)
    rounded = ((left / out_scale + out_zero).round().clamp(0, 255) - out_zero) * out_scale
    activated = ((h_swish(rounded) / last_scale + last_zero).round().clamp(0, 255) - last_zero) * last_scale
    steps = ((graph(images) - activated) / last_scale).abs()
    assert steps.max() < 1.5  # a value between two integers may be rounded to the other one
    assert (steps < 0.01).float().mean() > 0.97


@pytest.mark.parametrize(
    ("backend", "highest", "per_channel"), [("onednn", 255, 1), ("fbgemm", 127, 1), ("qnnpack", 255, 0)]
)
def test_formats_are_those_of_the_backend(backend: str, highest: int, per_channel: int) -> None:
    graph = quantised_stub(backend=backend)
    activations = arguments(graph, QUANTISE)
    assert {values[3:] for values in activations} == {(0, highest, torch.uint8)}
    whole = [values for values in arguments(graph, DEQUANTISE) if values[5] == torch.int8]
    assert {values[3:5] for values in whole} <= {(-127, 127)}
    layers = 6  # expansion, depthwise, two of squeeze-and-excitation, projection, classifier
    assert len(arguments(graph, OPS.dequantize_per_channel.default)) == layers * per_channel
    assert len(whole) == layers * (1 - per_channel)


def test_a_step_of_seven_bits_is_twice_as_wide() -> None:
    eight, seven = (
        [values[1] for values in arguments(quantised_stub(backend=name, observer="minmax"), QUANTISE)]
        for name in ("onednn", "fbgemm")
    )  # fmt: skip
    assert seven == pytest.approx([255 / 127 * scale for scale in eight], rel=0.05)


def check_layers(graph: nn.Module, layers: int) -> None:
    """Every layer reads uint8 values and int8 weights, and all but the last write uint8 values."""
    found = [
        one for one in graph.graph.nodes if one.target in (torch.ops.aten.conv2d.default, torch.ops.aten.linear.default)
    ]
    assert len(found) == layers
    for number, layer in enumerate(found, start=1):
        values, weight = layer.args[:2]
        assert values.target == DEQUANTISE
        assert values.args[5] == torch.uint8
        assert weight.target == OPS.dequantize_per_channel.default
        assert graph.get_buffer(weight.args[0].target).dtype == torch.int8
        (follower,) = layer.users
        if follower.target == torch.ops.aten.relu.default:
            (follower,) = follower.users
        assert (follower.target == QUANTISE) == (number < layers)


def test_all_of_a_bottleneck_is_quantised() -> None:
    model = stub()
    before = copy.deepcopy(model)
    graph = quantize(model, batches())
    check_layers(graph, 6)
    targets = [node.target for node in graph.graph.nodes]
    assert targets.count(torch.ops.aten.hardswish.default) == 2
    for other in (torch.ops.aten.dropout.default, torch.ops.aten.batch_norm.default):
        assert other not in targets
    for operation in (torch.ops.aten.add.Tensor, torch.ops.aten.mul.Tensor):
        ((one, other),) = arguments(graph, operation)
        assert one.target == other.target == DEQUANTISE
    assert_same_state(model, before)
    assert is_quantized(graph)
    assert not is_quantized(model)
    assert not any(parameter.requires_grad for parameter in graph.parameters())


def test_weights_are_those_after_folding() -> None:
    model, graph = stub(), quantised_stub()
    folded = [module.weight for module in fold_batch_norm(model).modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    scales = [graph.get_buffer(values[1].target) for values in arguments(graph, OPS.dequantize_per_channel.default)]
    for weight, scale in zip(folded, scales, strict=True):
        torch.testing.assert_close(scale.float(), weight.detach().abs().flatten(1).amax(1) / 127, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("observer", ["histogram", "minmax"])
def test_logits_stay_close_for_any_number_of_images(observer: str) -> None:
    model, images = stub(), torch.cat(batches())
    graph = quantize(model, [one[:1] for one in batches(8)], observer=observer)  # one image at a time
    expected = model(images)
    assert (graph(images) - expected).abs().max() < 0.25 * expected.std()
    assert 0 < (graph(images) - expected).abs().mean() < 0.06 * expected.std()
    assert graph(images[:1]).shape == (1, 3)


def test_ranges_are_those_of_all_batches() -> None:
    """What lies beyond the images of calibration is cut off."""
    few, many = ([one * scale for one in batches()] for scale in (0.3, 1.0))
    ranges = [arguments(quantize(stub(), seen, observer="minmax"), QUANTISE)[0][1] for seen in
              (few, [*few, *many], [*many, *few])]  # fmt: skip
    assert ranges[0] < 0.5 * ranges[1]
    assert ranges[1] == ranges[2]


def test_signed_activations_are_the_same_numbers() -> None:
    graph = quantised_stub()
    before, images = graph(ONE), ONE
    other = signed(graph)
    torch.testing.assert_close(other(images), graph(images), rtol=1e-5, atol=1e-6)
    assert same_bits(before, graph(images))
    for operation in (QUANTISE, DEQUANTISE):
        for (_, scale, zero, *limits), (_, other_scale, other_zero, *others) in zip(
            arguments(graph, operation), arguments(other, operation), strict=True
        ):
            assert (other_scale, other_zero) == (scale, zero - 128)
            assert (limits, others) == ([0, 255, torch.uint8], [-128, 127, torch.int8])


@pytest.mark.parametrize(
    ("features", "backend"),
    [
        ({"architecture": "x86_64", "avx2": True, "avx512_vnni": False, "avx_vnni": False}, "fbgemm"),
        ({"architecture": "x86_64", "avx2": True, "avx512_vnni": True, "avx_vnni": False}, "onednn"),
        ({"architecture": "x86_64", "avx2": True, "avx512_vnni": False, "avx_vnni": True}, "onednn"),
        ({"architecture": "aarch64"}, "onednn"),
    ],
)
def test_seven_bits_where_sums_of_eight_would_saturate(
    monkeypatch: pytest.MonkeyPatch, features: dict[str, Any], backend: str
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: features, raising=False)
    assert suited_backend() == backend


def test_a_channel_of_zeros_stays_one() -> None:
    model = nn.Sequential(nn.Conv2d(4, 2, 1), nn.Flatten()).eval()
    with torch.no_grad():
        model[0].weight[0].zero_()
        model[0].bias.zero_()
    assert not quantize(model, batches())(ONE)[:, :99].any()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"model": print}, TypeError, "model must be a torch.nn.Module, got builtin_function_or_method"),
        ({"model": Stub()}, ValueError, "model must be in evaluation mode"),
        ({"calibration": []}, ValueError, "calibration must hold one batch of images or more, got none"),
        ({"calibration": ONE}, TypeError, "calibration must be several batches, got one tensor"),
        ({"calibration": [1]}, TypeError, "calibration must hold float32 tensors on the CPU, got int"),
        ({"calibration": [ONE.double()]}, TypeError, "got torch.float64"),
        ({"calibration": [ONE[0]]}, ValueError, r"of the shape \(N, C, H, W\), got \(4, 9, 11\)"),
        ({"calibration": [ONE[:0]]}, ValueError, r"got \(0, 4, 9, 11\)"),
        ({"calibration": [ONE, ONE[..., 1:]]}, ValueError, r"one shape, got \(4, 9, 11\) and \(4, 9, 10\)"),
        ({"calibration": [ONE / 0]}, ValueError, "calibration must hold finite numbers only"),
        ({"backend": "gpu"}, ValueError, "backend must be one of 'onednn', 'fbgemm', 'qnnpack', got 'gpu'"),
        ({"observer": "mean"}, ValueError, "observer must be one of 'histogram', 'minmax', got 'mean'"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_named(change: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        quantize(**{"model": stub(), "calibration": batches(), **change})


def test_nothing_is_quantised_twice() -> None:
    with pytest.raises(TypeError, match="not quantised yet, got GraphModule"):
        quantize(quantised_stub(), batches())
    with pytest.raises(TypeError, match="not quantised yet, got FakeQuantized"):
        quantize(FakeQuantized(stub(), ONE), batches())


def test_torchao_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "mnv3lib.deploy.points", raising=False)
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchao"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "torchao", None)
    with pytest.raises(Unavailable, match="pip install torchao"):
        quantize(stub(), batches())


# -- whole networks ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"padding": "same", "dilated": True}])
def test_every_layer_of_the_network_is_quantised(options: dict[str, Any]) -> None:
    model, images = small_network(**options), pictures(4, 3, 64, 48)
    graph = quantize(model, [images])
    check_layers(graph, sum(isinstance(module, nn.Conv2d | nn.Linear) for module in model.modules()))
    with torch.no_grad():
        expected = model(images)
        assert (graph(images) - expected).abs().mean() < 0.15 * expected.std()


@pytest.mark.slow
@pytest.mark.parametrize("way", [way for way, path in PATHS.items() if "int8" in path.precisions])
@pytest.mark.proves(
    "A network in 8 bits, in ONNX Runtime, OpenVINO and XNNPACK",
    against="its graph of torchao's pt2e in PyTorch",
    tolerance=0.2,
    unit="relative to the spread",
)
def test_engines_compute_what_the_graph_says(way: str, deviation: Deviation) -> None:
    """In the quadratic mean: which values lie so near a border that they are rounded to the other side is chance."""
    model, images = short_network(), pictures(4, 3, 64, 48)
    graph = quantize(model, [images], backend=suited_backend())
    run = PATHS[way].build(graph, images, 1, "int8")
    with torch.no_grad():
        expected = graph(images)
    deviation(stray(run(images), expected, "int8"))


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [form.suffix for form in FORMATS.values() if "int8" in form.precisions])
def test_a_quantised_network_is_written_for_an_engine(suffix: str, tmp_path: Path) -> None:
    images = pictures(3, 3, 64, 48)
    graph = quantize(short_network(), [images], backend=suited_backend())
    done = export(graph, tmp_path / f"model{suffix}", images, precision="int8")
    card = json.loads(done.card.read_text(encoding="utf-8"))
    assert card["precision"] == "int8"
    assert 0 <= card["error"]["quadratic mean"] < card["error"]["allowed"] == TOLERANCES["int8"]
    with pytest.raises(
        ValueError, match="precision must be 'int8' for a quantised model, and for no other, got 'fp32'"
    ):
        export(graph, tmp_path / f"other{suffix}", images)


@pytest.mark.slow
def test_onnx_runtime_has_integer_kernels_for_all_layers(tmp_path: Path) -> None:
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    model, images = short_network(), pictures(1, 3, 64, 48)
    FORMATS["onnx"].write(quantize(model, [images]), images, tmp_path / "model.onnx", "int8", False)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    onnxruntime.InferenceSession(tmp_path / "model.onnx", options, providers=["CPUExecutionProvider"])
    kinds = [node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node]
    convolutions = sum(isinstance(module, nn.Conv2d) for module in model.modules())
    assert kinds.count("QLinearConv") == convolutions
    assert "Conv" not in kinds


@pytest.mark.slow
def test_the_shipped_network_is_as_good_in_8_bits(tmp_path: Path) -> None:
    """At most a point less on 500 test images: the target of the project, met without training."""
    settings = ["data.options.size=300", "data.options.eval_images=500", f"data.options.cache={tmp_path}"]
    recipe = overridden(load("digitscenes"), settings)
    network, images = weights.load_network("shipped:digitscenes_small_050"), open_dataset(recipe, "train")
    batches = [torch.stack([images[number][0] for number in range(first, first + 64)]) for first in (0, 64, 128)]
    before = measure(recipe, network, device="cpu")["top1"]
    for backend in ("onednn", "fbgemm"):
        after = accuracy(quantize(network.eval(), batches, backend=backend), recipe)
        assert before - 0.01 <= after, backend


def accuracy(graph: nn.Module, recipe: Any, to: Callable[[Tensor], Tensor] = lambda logits: logits) -> float:
    images = open_dataset(recipe, "test")
    right = 0
    with torch.no_grad():
        for first in range(0, len(images), 100):
            some, labels = zip(*(images[number] for number in range(first, first + 100)), strict=True)
            right += int((to(graph(torch.stack(some))).argmax(1) == torch.tensor(labels)).sum())
    return right / len(images)


def test_what_pytorch_logs_of_torchao_is_not_shown() -> None:
    log, said = logging.getLogger("torch.utils._pytree"), list[logging.LogRecord]()
    handler = logging.Handler()
    handler.emit = said.append  # type: ignore[method-assign]
    log.addHandler(handler)
    try:
        with _quiet():
            log.warning("an Enum subclass")
        assert said == []
        log.warning("of somebody else")
        assert [record.getMessage() for record in said] == ["of somebody else"]
    finally:
        log.removeHandler(handler)
