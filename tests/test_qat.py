"""Training that rounds as 8 bits do: the same numbers as the network in 8 bits, resumable, and clear errors."""

from __future__ import annotations

import copy
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from ledger import Deviation
from networks import shaken
from reference import assert_same_state, same_bits
from runs import SIDE, Noise, differing, noise, same_files, tiny
from test_loop import start, steps
from test_quantize import DEQUANTISE, ONE, OPS, QUANTISE, arguments, batches, check_layers, stub
from torch import Tensor, nn

from mnv3lib import mobilenet_v3_small, weights
from mnv3lib.deploy import FakeQuantized, fold_batch_norm
from mnv3lib.deploy.quantization import is_quantized
from mnv3lib.recipe import Recipe
from mnv3lib.training import quantised
from mnv3lib.training.checkpoint import read
from mnv3lib.training.errors import CheckpointError, Interrupted
from mnv3lib.training.loop import Training
from mnv3lib.training.run import train


def rounding(number: int = 3, **options: Any) -> FakeQuantized:
    """The stub after a few batches in training mode."""
    model = FakeQuantized(stub(), ONE, **options)
    for batch in batches(number):
        model(batch)
    return model


def step(model: nn.Module, images: Tensor, lr: float = 0.1) -> None:
    model(images).square().mean().backward()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter -= lr * parameter.grad
            parameter.grad = None


@pytest.mark.proves(
    "What a network computes while it is trained for 8 bits",
    against="the network in 8 bits afterwards",
    tolerance=0,
    unit="absolute",
)
@pytest.mark.parametrize("backend", ["onednn", "fbgemm", "qnnpack"])
def test_training_sees_what_integers_give(backend: str, deviation: Deviation) -> None:
    model = rounding(backend=backend)
    step(model, ONE)  # moves the weights after their ranges were taken
    graph = model.quantized()
    assert is_quantized(graph)
    with torch.no_grad():
        deviation(float((graph(ONE) - model.eval()(ONE)).abs().max()))


def test_the_graph_is_that_of_calibration() -> None:
    graph = rounding().quantized()
    check_layers(graph, 6)
    for operation in (QUANTISE, DEQUANTISE):
        assert {values[3:] for values in arguments(graph, operation)} == {(0, 255, torch.uint8)}


def test_it_starts_from_the_folded_weights() -> None:
    network = stub()
    before, model = copy.deepcopy(network), FakeQuantized(network, ONE)
    assert_same_state(network, before)
    folded = dict(fold_batch_norm(network).named_parameters())
    trained = {name.removeprefix("graph."): parameter for name, parameter in model.named_parameters()}
    assert set(trained) == set(folded)
    assert all(trained[name].equal(folded[name]) for name in folded)
    assert all(parameter.requires_grad for parameter in trained.values())


def test_gradients_pass_the_rounding() -> None:
    """Those of the network that does not round, nearly; without a gradient of the rounding they were zero."""
    model, plain = rounding(), fold_batch_norm(stub())
    for one in (model, plain):
        one(ONE).square().mean().backward()
    found, expected = (
        torch.cat([parameter.grad.flatten() for parameter in one.parameters()]) for one in (model, plain)
    )
    assert torch.nn.functional.cosine_similarity(found, expected, dim=0) > 0.9


def ranges(model: FakeQuantized) -> list[float]:
    return [float(one.scale) for one in model._activations()]


def test_ranges_are_moving_averages_in_training_only() -> None:
    model = FakeQuantized(stub(), ONE)
    model(ONE)
    scale = ranges(model)[0]
    assert scale == pytest.approx(float(ONE.max() - ONE.min().clamp(max=0)) / 255, rel=1e-5)
    model.eval()
    model(ONE * 3)
    assert ranges(model)[0] == scale
    model.train()
    model(ONE * 3)
    assert ranges(model)[0] == pytest.approx(scale * (1 + 0.01 * 2), rel=1e-5)
    model.hold_ranges()
    held = ranges(model)
    model(ONE * 30)
    model.eval().train()
    model(ONE * 30)
    assert ranges(model) == held
    model.hold_ranges(False)
    model(ONE * 30)
    assert ranges(model) != held


def test_the_range_of_a_weight_is_that_of_the_weight() -> None:
    model = rounding().eval()
    model.hold_ranges()
    with torch.no_grad():
        model.graph.last.weight.mul_(3)
    graph = model.quantized()
    *_, (values, scales, *_) = arguments(graph, OPS.dequantize_per_channel.default)
    weight = model.graph.last.weight.detach()
    torch.testing.assert_close(
        graph.get_buffer(scales.target), weight.abs().amax(1) / 127, rtol=1e-6, atol=0, check_dtype=False
    )
    assert graph.get_buffer(values.target).abs().max() == 127


def test_a_state_is_everything() -> None:
    model, other = rounding(), FakeQuantized(stub(), ONE)
    step(model, ONE)
    model(ONE)
    other.load_state_dict(dict(model.state_dict()))  # a checkpoint keeps no metadata
    assert not differing(dict(other.state_dict()), dict(model.state_dict()))
    assert same_bits(other.eval()(ONE), model.eval()(ONE))
    assert same_bits(other.quantized()(ONE), model.quantized()(ONE))


def test_ranges_must_be_known() -> None:
    with pytest.raises(ValueError, match="must have seen a batch in training mode before it is quantised, got none"):
        FakeQuantized(stub(), ONE).eval().quantized()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": stub().train()}, "model must be in evaluation mode"),
        ({"example": ONE[0]}, r"example must hold images of the shape \(N, C, H, W\), got \(4, 9, 11\)"),
        ({"backend": "x86"}, "backend must be one of 'onednn', 'fbgemm', 'qnnpack', got 'x86'"),
    ],
)
def test_wrong_arguments_are_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FakeQuantized(**{"model": stub(), "example": ONE, **change})


# -- in the loop -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of weights for the tiny recipe."""
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    weights.save(shaken(mobilenet_v3_small(width_mult=0.25, num_classes=10)), path)
    return path


def recipe(trained: Path, *more: str) -> Recipe:
    return tiny(f"model.weights={trained}", "quantisation.observer_epochs=1", "optimiser.lr=0.001", *more)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("quantisation.norm_epochs=3", r"quantisation\.norm_epochs must be 0 with .*: batch norm is folded .*; got 3"),
        ("model.freeze=norm", r"model\.freeze must be 'nothing' with recipe\.quantisation"),
        ("averaging.ema_decay=0.9", r"averaging\.ema_decay must be 0 with recipe\.quantisation"),
        ("averaging.checkpoints=2", r"averaging\.checkpoints must be 0 with"),
        ("precision.autocast=bfloat16", r"precision\.autocast must be None with .*; got 'bfloat16'"),
        ("model.weights=null", r"model\.weights must name trained weights with recipe\.quantisation, got None"),
    ],
)
def test_what_does_not_go_with_rounding_is_named(setting: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        start(tiny("model.weights=a.pt", "quantisation.norm_epochs=0", setting))


def test_one_process_only() -> None:
    with pytest.raises(ValueError, match="must be None in several processes, of which there are 2"):
        quantised.check(tiny("quantisation.norm_epochs=0"), processes=2, pretrained=False)


@pytest.mark.slow
def test_the_loop_trains_it(trained: Path) -> None:
    training = start(recipe(trained))
    assert isinstance(training.model, FakeQuantized)
    losses = steps(training, 2)
    first = ranges(training.model)
    losses += steps(training, 1)
    assert ranges(training.model) == first  # held since the second epoch
    assert all(loss > 0 for loss in losses)
    fresh = Training(recipe(trained), *noise(), pretrained=False)
    fresh.load_state_dict(copy.deepcopy(training.state_dict()))
    assert steps(fresh, 2) == steps(training, 2)


@pytest.mark.slow
def test_a_run_goes_on_and_leaves_the_network(trained: Path, tmp_path: Path) -> None:
    whole = train(recipe(trained), tmp_path / "whole", datasets=noise(), device="cpu")
    assert isinstance(whole.model, FakeQuantized)
    assert not (tmp_path / "whole" / "model.safetensors").exists()

    class Stopping(Noise):
        """Asks for a stop in the second epoch."""

        def __getitem__(self, index: int) -> tuple[Tensor, int]:
            if len(self.asked) == 70:
                os.kill(os.getpid(), signal.SIGTERM)
            return super().__getitem__(index)

    stopping = Stopping(50), noise()[1]
    with pytest.raises(Interrupted):
        train(recipe(trained), tmp_path / "parts", datasets=stopping, device="cpu")
    assert read(tmp_path / "parts" / "last.pt")["position"] not in ([0, 0], [3, 0])
    parts = train(recipe(trained), tmp_path / "parts", datasets=noise(), device="cpu")
    assert same_files(tmp_path / "parts", tmp_path / "whole", "last.pt") == []
    assert parts.best == whole.best

    images = torch.randn(3, 3, SIDE, SIDE)
    read_back = quantised.load(tmp_path / "whole" / "best.pt")
    with torch.no_grad():
        assert same_bits(read_back(images), whole.model(images))
        assert same_bits(read_back.quantized()(images), whole.model.quantized()(images))
    plain = train(tiny("epochs=1"), tmp_path / "plain", datasets=noise(), device="cpu")
    assert not isinstance(plain.model, FakeQuantized)
    with pytest.raises(CheckpointError, match=r"a run without recipe\.quantisation"):
        quantised.load(tmp_path / "plain" / "best.pt")
    with pytest.raises(FileNotFoundError):
        quantised.load(tmp_path / "none.pt")
