"""Random tables: the network, torchvision's and the paper's written out by hand agree on rows nobody thought of."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ledger import Deviation, worst, worst_of
from reference import (
    ACTIVATIONS,
    assert_same_gradients,
    assert_same_state,
    batch,
    calibrate,
    logits,
    relative_error,
    same_bits,
    shapes,
    tables,
    torchvision_twin,
)
from torch import nn
from torchvision.models._utils import _make_divisible

from mnv3lib import MobileNetV3
from mnv3lib.config import InvertedResidualConfig, MobileNetV3Config

#: The same examples on every machine and every day.
repeatable = settings(
    deadline=None,
    derandomize=True,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)  # the ledger collects over all examples
sides = st.tuples(st.integers(5, 40), st.integers(5, 40))
Rows = list[InvertedResidualConfig]


def ours_and_theirs(rows: Rows, last_channel: int, width: float, num_classes: int) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    described = MobileNetV3Config.from_rows(rows, last_channel=last_channel, width_mult=width, num_classes=num_classes)
    ours = MobileNetV3(described)
    state = torch.get_rng_state()
    torch.manual_seed(0)
    theirs = torchvision_twin(rows, _make_divisible(last_channel * width, 8), width, num_classes=num_classes)
    assert torch.equal(state, torch.get_rng_state())
    return ours, theirs


@pytest.mark.proves(
    "Networks of random tables, widths and sides: weights, logits, gradients, statistics",
    against="torchvision 0.29.2 of the same rows under the same seed",
    tolerance=0,
    unit="absolute",
)
@repeatable
@given(
    rows=tables(widest=60),
    last_channel=st.integers(1, 50),
    width=st.floats(0.1, 2.2),
    num_classes=st.integers(1, 9),
    side=sides,
)
def test_any_table_is_what_torchvision_builds(
    deviation: Deviation, rows: Rows, last_channel: int, width: float, num_classes: int, side: tuple[int, int]
) -> None:
    ours, theirs = ours_and_theirs(rows, last_channel, width, num_classes)
    assert_same_state(ours, theirs)
    images = batch(2, 3, *side)
    with torch.no_grad():
        assert same_bits(ours.eval()(images), theirs.eval()(images))
        deviation(worst(ours(images), theirs(images)))
    outputs = []
    for network in (ours.train(), theirs.train()):
        torch.manual_seed(1)
        outputs.append(network(images))
        outputs[-1].square().sum().backward()
    assert same_bits(*outputs)
    deviation(worst(*outputs))
    assert_same_gradients(ours, theirs)
    assert_same_state(ours, theirs)
    deviation(worst_of(ours.state_dict(), theirs.state_dict()))


@st.composite
def configs(draw: Any) -> MobileNetV3Config:
    """Rows as they are, unrounded, and every other argument."""
    return MobileNetV3Config(
        rows=tuple(draw(tables())),
        last_conv=draw(st.integers(1, 70)),
        last_channel=draw(st.integers(1, 40)),
        num_classes=draw(st.integers(2, 9)),
        in_channels=draw(st.integers(1, 5)),
        dropout=draw(st.sampled_from((0.0, 0.2, 0.7))),
        activation=draw(st.sampled_from(("HS", "RE"))),
        norm_eps=draw(st.sampled_from((0.001, 0.001, 1e-5, 0.3))),
        norm_momentum=draw(st.sampled_from((0.01, 0.01, 0.1, 1.0))),
        padding=draw(st.sampled_from(("symmetric", "same"))),
        stochastic_depth=draw(st.sampled_from((0.0, 0.0, 0.5, 1.0))),
    )


@pytest.mark.proves(
    "Networks of random rows, in evaluation and in training",
    against="the network written a second time, from the paper alone",
    tolerance=0,
    unit="absolute",
)
@repeatable
@given(described=configs(), side=sides)
def test_any_rows_are_what_the_paper_describes(
    deviation: Deviation, described: MobileNetV3Config, side: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    network = MobileNetV3(described)
    assert {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()} == shapes(described)
    assert list(network.state_dict()) == list(shapes(described))

    images = batch(3, described.in_channels, *side)
    calibrate(network, images)
    with torch.no_grad():
        expected = logits(described, network.state_dict(), images)
        assert same_bits(network(images), expected)
        deviation(worst(network(images), expected))

    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    network.train()
    torch.manual_seed(1)
    with torch.no_grad():
        output = network(images)
        torch.manual_seed(1)
        expected = logits(described, state, images, training=True)
        assert same_bits(output, expected)
        deviation(worst(output, expected))
    for name, moved in network.state_dict().items():
        if "running" in name:
            assert same_bits(moved, state[name])


@pytest.mark.proves(
    "Gradients of networks of random rows, in double precision",
    against="the paper's formulas, differentiated step by step",
    tolerance=1e-7,
    unit="relative to the largest",
)
@repeatable
@given(described=configs(), side=sides)
def test_gradients_are_the_paper_s(deviation: Deviation, described: MobileNetV3Config, side: tuple[int, int]) -> None:
    """Of the formulas as printed, whose derivatives torch works out step by step: nearly equal, not in every bit."""
    torch.manual_seed(0)
    images = batch(3, described.in_channels, *side).double()
    network = MobileNetV3(described).double()
    calibrate(network, images)
    names = [name for name, _ in network.named_parameters()]
    state = network.state_dict(keep_vars=True)
    found = torch.autograd.grad(network(images).square().sum(), [state[name] for name in names])
    expected = torch.autograd.grad(logits(described, state, images).square().sum(), [state[name] for name in names])
    largest = max(gradient.abs().max() for gradient in expected)
    for name, ours, theirs in zip(names, found, expected, strict=True):
        assert (ours - theirs).abs().max() <= 1e-7 * largest, name
        deviation(worst(ours, theirs) / float(largest) if largest else 0.0)


@pytest.mark.parametrize("name", ["HS", "RE"])
def test_activations_are_the_paper_s(name: str) -> None:
    from mnv3lib.blocks import activation_layer

    x = torch.linspace(-8, 8, 4001)
    assert same_bits(activation_layer(name)(x.clone()), ACTIVATIONS[name](x))


# --- the yardstick ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ["large", "small"])
def test_untrained_logits_are_no_test(architecture: str) -> None:
    """Without calibration two unrelated networks agree to any tolerance in use; with it they do not."""
    import mnv3lib

    images = batch(4, 3, 96, 96)
    outputs: dict[bool, list[torch.Tensor]] = {False: [], True: []}
    for seed in (0, 1):
        torch.manual_seed(seed)
        network = getattr(mnv3lib, f"mobilenet_v3_{architecture}")(num_classes=100).eval()
        with torch.no_grad():
            outputs[False].append(network(images))
            outputs[True].append(calibrate(network, images)(images))
    assert outputs[False][0].abs().max() < 1e-6
    assert torch.allclose(*outputs[False], atol=1e-6), "the naive comparison is happy with the wrong network"
    assert outputs[True][0].abs().max() > 1e-2
    assert relative_error(*outputs[True]) > 1
    assert relative_error(*outputs[False]) > 1, "relative to the spread, even these differ"


def test_calibration_gives_the_batch_its_own_statistics() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5, momentum=0.01), nn.Dropout(0.5))
    images = batch(6, 3, 9, 9)
    state = torch.get_rng_state()
    output = calibrate(network, images)(images)
    assert torch.equal(state, torch.get_rng_state()), "dropout was on"
    assert not network.training
    assert network[1].momentum == 0.01
    assert torch.allclose(output.mean((0, 2, 3)), torch.zeros(5), atol=1e-5)
    assert torch.allclose(output.std((0, 2, 3)), torch.ones(5), atol=1e-2)


def test_same_bits_is_strict() -> None:
    assert same_bits(torch.tensor([1.0, float("nan")]), torch.tensor([1.0, float("nan")]))
    assert not same_bits(torch.tensor(0.0), torch.tensor(-0.0))
    assert not same_bits(torch.tensor(1.0), torch.tensor(1.0, dtype=torch.float64))
    assert not same_bits(torch.ones(2), torch.ones(1, 2))
    assert not same_bits(torch.tensor(1.0), torch.tensor(1.0).nextafter(torch.tensor(2.0)))
