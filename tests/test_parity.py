"""Equal to torchvision bit for bit: weights, names, random numbers drawn, outputs and gradients.

Both are computed in one process with one thread; on another kind of processor both have other bits.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
from ledger import Deviation, worst, worst_of
from reference import (
    assert_same_gradients,
    assert_same_state,
    batch,
    bottleneck,
    convolution,
    same_bits,
    squeeze_and_excitation,
)
from torch import nn
from torchvision import models
from torchvision.models.mobilenetv3 import InvertedResidual as TheirBlock
from torchvision.models.mobilenetv3 import InvertedResidualConfig as TheirRow
from torchvision.ops.misc import SqueezeExcitation as TheirGate

import mnv3lib
from mnv3lib.blocks import ConvNormActivation, InvertedResidual, SqueezeExcitation, norm_layer
from mnv3lib.config import LARGE, SMALL, InvertedResidualConfig

ARCHITECTURES = ("large", "small")
WIDTHS = (0.25, 0.35, 0.5, 0.6, 0.75, 0.9, 1.0, 1.25, 1.3, 1.5, 2.0)
QUICK = {("large", 1.0, False, False), ("small", 1.0, False, False), ("small", 0.35, True, True)}
GRID = [
    pytest.param(
        *point, marks=() if point in QUICK else pytest.mark.slow, id="{}-{}-tail{:d}-dilated{:d}".format(*point)
    )
    for point in product(ARCHITECTURES, WIDTHS, (False, True), (False, True))
]


def both(architecture: str, **options: Any) -> tuple[nn.Module, nn.Module]:
    """Ours and torchvision's under the same seed; the random numbers drawn are compared on the way."""
    torch.manual_seed(0)
    ours = getattr(mnv3lib, f"mobilenet_v3_{architecture}")(**options)
    state = torch.get_rng_state()
    torch.manual_seed(0)
    theirs = getattr(models, f"mobilenet_v3_{architecture}")(**options)
    assert torch.equal(state, torch.get_rng_state()), "another number of random numbers drawn"
    return ours, theirs


def assert_same_network(ours: nn.Module, theirs: nn.Module, images: torch.Tensor, deviation: Deviation) -> None:
    """Equal weights, then equal results in evaluation, and in training with its gradients and its statistics.

    The deviation is measured before the bits are compared, so that a difference is noted as the number that it is.
    """
    deviation(worst_of(ours.state_dict(), theirs.state_dict()))
    assert_same_state(ours, theirs)
    with torch.no_grad():
        logits = ours.eval()(images), theirs.eval()(images)
    deviation(worst(*logits))
    assert same_bits(*logits)
    outputs, states = [], []
    for network in (ours.train(), theirs.train()):
        torch.manual_seed(1)
        output = network(images)
        output.square().mean().backward()
        outputs.append(output)
        states.append(torch.get_rng_state())
    deviation(worst(*outputs))
    assert same_bits(*outputs)
    assert torch.equal(*states)
    gradients = [{name: value.grad for name, value in network.named_parameters()} for network in (ours, theirs)]
    deviation(worst_of(*gradients))
    assert_same_gradients(ours, theirs)
    deviation(worst_of(ours.state_dict(), theirs.state_dict()))
    assert_same_state(ours, theirs)


@pytest.mark.proves(
    "The network: initial weights, logits in evaluation and in training, gradients and running statistics",
    against="torchvision 0.29.2 under the same seed, 2 variants × 11 widths × tail × dilation",
    tolerance=0,
    unit="absolute",
)
@pytest.mark.parametrize(("architecture", "width", "tail", "dilated"), GRID)
def test_equal_to_torchvision(architecture: str, width: float, tail: bool, dilated: bool, deviation: Deviation) -> None:
    options = {"num_classes": 50, "width_mult": width, "reduced_tail": tail, "dilated": dilated}
    ours, theirs = both(architecture, **options)
    assert_same_network(ours, theirs, batch(2, 3, 64, 64), deviation)


def test_the_grid_is_whole() -> None:
    assert len(GRID) == 88
    assert sum(not parameters.marks for parameters in GRID) == len(QUICK)


@pytest.mark.proves(
    "Another dropout rate, and images that are neither square nor a multiple of 32",
    against="torchvision 0.29.2 under the same seed",
    tolerance=0,
    unit="absolute",
)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_dropout_rate_is_theirs(architecture: str, deviation: Deviation) -> None:
    ours, theirs = both(architecture, num_classes=7, width_mult=0.25, dropout=0.6)
    assert_same_network(ours, theirs, batch(3, 3, 33, 40), deviation)
    assert [type(module) for module in ours.classifier] == [type(module) for module in theirs.classifier]
    assert (ours.classifier[2].p, ours.classifier[2].inplace) == (0.6, theirs.classifier[2].inplace)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_batch_norm_is_theirs(architecture: str) -> None:
    ours, theirs = both(architecture)
    norms = [
        [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)] for network in (ours, theirs)
    ]
    assert [(norm.eps, norm.momentum) for norm in norms[0]] == [(norm.eps, norm.momentum) for norm in norms[1]]
    assert {(norm.eps, norm.momentum) for norm in norms[0]} == {(0.001, 0.01)}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_weights_move_between_the_two(architecture: str) -> None:
    theirs = getattr(models, f"mobilenet_v3_{architecture}")(num_classes=12)
    ours = getattr(mnv3lib, f"mobilenet_v3_{architecture}")(num_classes=12)
    assert str(ours.load_state_dict(theirs.state_dict(), strict=True)) == "<All keys matched successfully>"
    images = batch(2, 3, 50, 41)
    with torch.no_grad():
        assert same_bits(ours.eval()(images), theirs.eval()(images))
    assert str(theirs.load_state_dict(ours.state_dict(), strict=True)) == "<All keys matched successfully>"


# --- block by block ---------------------------------------------------------------------------------------------------


def shaken(module: nn.Module, seed: int = 0) -> nn.Module:
    """All parameters and statistics moved away from where they start, so that each of them shows."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if tensor.is_floating_point():
                noise = torch.rand(tensor.shape, generator=generator)
                tensor.copy_(noise + 0.5 if "var" in name else 2 * noise - 1)
    return module


@pytest.mark.proves(
    "Convolution, batch norm and activation, in evaluation and in training",
    against="the paper's formulas written out with torch's functions",
    tolerance=0,
    unit="absolute",
)
@pytest.mark.parametrize("activation", ["RE", "HS", None])
@pytest.mark.parametrize("shape", [(3, 1, 1), (3, 2, 1), (5, 2, 1), (5, 1, 2), (7, 1, 3), (1, 2, 1)])
@pytest.mark.parametrize("training", [False, True])
def test_convolution_is_the_paper_s(
    activation: str | None, shape: tuple[int, int, int], training: bool, deviation: Deviation
) -> None:
    kernel, stride, dilation = shape
    module = shaken(
        ConvNormActivation(6, 6, kernel_size=kernel, stride=stride, dilation=dilation, groups=6, activation=activation)
    ).train(training)
    state = {f"conv.{name}": tensor.clone() for name, tensor in module.state_dict().items()}
    images = batch(2, 6, 21, 16) - 0.5
    expected = convolution(
        images, state, "conv", activation, stride=stride, dilation=dilation, groups=6, training=training
    )
    found = module(images)
    deviation(worst(found, expected))
    assert same_bits(found, expected)
    assert expected.shape[2:] == (-(-21 // stride), -(-16 // stride))
    for name in ("1.running_mean", "1.running_var"):
        assert same_bits(module.state_dict()[name], state[f"conv.{name}"])


@pytest.mark.proves(
    "Squeeze-and-excitation with a hard gate",
    against="torchvision 0.29.2's, and the paper's formulas",
    tolerance=0,
    unit="absolute",
)
@pytest.mark.parametrize(("channels", "squeezed"), [(16, 8), (72, 24), (96, 24), (240, 64), (672, 168), (3, 8)])
def test_gate_is_theirs_and_the_paper_s(channels: int, squeezed: int, deviation: Deviation) -> None:
    ours = shaken(SqueezeExcitation(channels))
    theirs = TheirGate(channels, squeezed, scale_activation=nn.Hardsigmoid)
    assert [name for name, _ in ours.named_children()] == [name for name, _ in theirs.named_children()]
    theirs.load_state_dict(ours.state_dict(), strict=True)
    images = 4 * batch(2, channels, 9, 7) - 2
    for expected in (theirs(images), squeeze_and_excitation(images, ours.state_dict(), "")):
        deviation(worst(ours(images), expected))
        assert same_bits(ours(images), expected)
    gate = ours.gate(images)
    assert gate.shape == (2, channels, 1, 1)
    assert ((gate >= 0) & (gate <= 1)).all()
    assert same_bits(ours(images), gate * images)


def test_gate_is_hard() -> None:
    """Beyond ±3 the gate is shut or open altogether, which a sigmoid never is."""
    gate = SqueezeExcitation(1, 1)
    with torch.no_grad():
        for parameter in gate.parameters():
            parameter.fill_(1.0)
        for bias, expected in ((-3.0, 0.0), (-1.5, 0.25), (0.0, 0.5), (1.5, 0.75), (3.0, 1.0), (9.0, 1.0)):
            gate.fc1.bias.fill_(-9.0)  # nothing passes the squeeze: the second bias alone decides
            gate.fc2.bias.fill_(bias)
            assert gate.gate(torch.ones(1, 1, 2, 2)).item() == expected


BLOCKS = [
    *{(*row_fields,) for row_fields in ((r.input_channels, r.kernel, r.expanded_channels, r.out_channels, r.use_se,
                                         r.activation, r.stride, 1) for r in (*LARGE, *SMALL))},
    (48, 5, 48, 48, True, "HS", 1, 2),
    (48, 5, 96, 48, True, "HS", 2, 2),
    (48, 7, 24, 48, False, "RE", 1, 1),
]  # fmt: skip


@pytest.mark.proves(
    "Every different row of Tables 1 and 2, and three rows nobody printed",
    against="torchvision 0.29.2's block, and the paper's written out",
    tolerance=0,
    unit="absolute",
)
@pytest.mark.parametrize("fields", sorted(BLOCKS), ids=str)
def test_block_is_theirs_and_the_paper_s(fields: tuple[Any, ...], deviation: Deviation) -> None:
    row = InvertedResidualConfig(*fields)
    ours = shaken(InvertedResidual(row)).eval()
    theirs = TheirBlock(TheirRow(*fields, 1.0), norm_layer=norm_layer).eval()
    theirs.load_state_dict(ours.state_dict(), strict=True)
    images = 2 * batch(1, row.input_channels, 11, 8) - 1
    with torch.no_grad():
        expected = theirs(images)
        for found in (ours(images), bottleneck(images, ours.state_dict(), "block.", row)):
            deviation(worst(found, expected))
            assert same_bits(found, expected)
    assert (ours.use_res_connect, ours.out_channels) == (theirs.use_res_connect, theirs.out_channels)
