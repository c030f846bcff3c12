"""Layers and networks that nobody printed: strides beyond a kernel, a last row that widens."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from mnv3lib import MobileNetV3, cost
from mnv3lib.blocks import ConvNormActivation, SamePaddedConv2d, activation_layer
from mnv3lib.config import SMALL, MobileNetV3Config
from mnv3lib.network import FeatureTaps


@pytest.mark.parametrize("name", ["RE", "HS"])
def test_activations_take_no_memory_of_their_own(name: str) -> None:
    values = torch.tensor([-4.0, 1.0])
    activated = activation_layer(name)(values)
    assert activated.data_ptr() == values.data_ptr()


@pytest.mark.parametrize(
    ("kernel", "stride", "by_size"),
    [
        (1, 1, False),
        (1, 2, False),
        (3, 1, False),
        (3, 2, True),
        (3, 3, True),
        (3, 4, True),
        (5, 1, False),
        (5, 2, True),
    ],
)
def test_zeros_depend_on_the_size_only_beside_a_kernel_that_takes_strides(
    kernel: int, stride: int, by_size: bool
) -> None:
    layer = ConvNormActivation(2, 2, kernel_size=kernel, stride=stride, padding="same")
    assert isinstance(layer[0], SamePaddedConv2d) == by_size
    plain = ConvNormActivation(2, 2, kernel_size=kernel, stride=stride)
    assert type(plain[0]) is nn.Conv2d


def test_the_last_convolution_takes_what_the_last_row_gives() -> None:
    rows = (*SMALL[:3], replace(SMALL[3], out_channels=56))
    assert len({row.out_channels for row in rows[-2:]}) == 2
    config = MobileNetV3Config(rows, 96, 64, num_classes=5)
    network = MobileNetV3(config).eval()
    assert network(torch.zeros(1, 3, 32, 32)).shape == (1, 5)
    assert sum(weight.numel() for weight in network.parameters()) == cost.profile(config).parameters


@pytest.mark.parametrize("rows", [3, 4])
def test_taps_reach_the_last_feature_and_not_beyond(rows: int) -> None:
    config = MobileNetV3Config(SMALL[:rows], 96, 64, num_classes=5)
    last = rows + 1
    taps = FeatureTaps(MobileNetV3(config), (0, last)).eval()
    found = taps(torch.zeros(1, 3, 32, 32))
    assert [each.shape[1] for each in found] == [16, 96]
    assert taps.channels == (16, 96)
    with pytest.raises(ValueError, match=f"from 0 to {last}, got"):
        FeatureTaps(MobileNetV3(config), (0, last + 1))
