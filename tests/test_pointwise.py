"""1×1 convolutions as matrix products give the same outputs, gradients and statistics, under the same names."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from ledger import Deviation
from networks import TASKS, pictures, shaken
from reference import relative_error, same_bits
from torch import nn

from mnv3lib import mobilenet_v3_large, mobilenet_v3_small
from mnv3lib.pointwise import PointwiseConv2d, with_matrix_products


def pointwise(model: nn.Module) -> list[nn.Conv2d]:
    return [module for module in model.modules() if isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1)]


@pytest.mark.proves(
    "1×1 convolutions as matrix products: logits, gradients and running statistics, in float64",
    against="the network as it was",
    tolerance=1e-10,
    unit="relative to the spread",
)
@pytest.mark.parametrize("build", [mobilenet_v3_large, mobilenet_v3_small])
def test_matrix_products_change_nothing_but_the_last_bits(build: Any, deviation: Deviation) -> None:
    model = shaken(build(num_classes=10, width_mult=0.5)).double().train()
    other, images = with_matrix_products(model), pictures(4, 3, 40, 52).double()
    assert list(other.state_dict()) == list(model.state_dict())
    outputs = []
    for network in (model, other):
        torch.manual_seed(0)  # dropout
        output = network(images)
        output.square().mean().backward()
        outputs.append(output)
    deviation(relative_error(outputs[1], outputs[0]))
    for (name, mine), theirs in zip(other.named_parameters(), model.parameters(), strict=True):
        scale = theirs.grad.abs().max()
        assert (mine.grad - theirs.grad).abs().max() <= 1e-9 * scale + 1e-15, name
    for mine, theirs in zip(other.buffers(), model.buffers(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-12)


def test_all_of_them_are_replaced_and_nothing_else() -> None:
    model = mobilenet_v3_large()
    other = with_matrix_products(model)
    assert all(isinstance(conv, PointwiseConv2d) for conv in pointwise(other))
    assert not any(isinstance(conv, PointwiseConv2d) for conv in pointwise(model))
    kept = [module for module in other.modules() if type(module) is nn.Conv2d]
    assert [conv.groups > 1 for conv in kept] == [False] + [True] * 15  # the stem, and a depthwise one in each block
    strided = nn.Sequential(nn.Conv2d(3, 4, 1, stride=2), nn.Conv2d(4, 4, 1, groups=2), nn.Conv2d(4, 4, 1, padding=1))
    assert not any(isinstance(module, PointwiseConv2d) for module in with_matrix_products(strided))


def test_the_weights_are_copied() -> None:
    model = mobilenet_v3_small(num_classes=3, width_mult=0.25)
    other = with_matrix_products(model)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    assert all(conv.weight.abs().sum() > 0 for conv in pointwise(model))


def test_a_map_stays_channels_last_and_any_layout_is_taken() -> None:
    torch.manual_seed(0)
    conv = PointwiseConv2d(5, 7, bias=True)
    images = torch.randn(2, 5, 6, 4)
    given = conv(images.to(memory_format=torch.channels_last))
    assert given.is_contiguous(memory_format=torch.channels_last)
    assert same_bits(conv(images), given)
    torch.testing.assert_close(given, nn.functional.conv2d(images, conv.weight, conv.bias))


def test_frozen_and_evaluating_modules_stay_so() -> None:
    model = mobilenet_v3_small(num_classes=3, width_mult=0.25).eval()
    model.features.requires_grad_(False)
    other = with_matrix_products(model)
    assert not any(module.training for module in other.modules())
    assert {name for name, p in other.named_parameters() if p.requires_grad} == {
        name for name, p in model.named_parameters() if p.requires_grad
    }


def test_networks_of_other_tasks_are_taken() -> None:
    model = TASKS["lraspp_mobilenet_v3_large"]().eval()
    images = pictures(1, 3, 64, 48)
    with torch.no_grad():
        torch.testing.assert_close(
            with_matrix_products(model)(images)["out"], model(images)["out"], rtol=1e-3, atol=1e-5
        )
