"""Batch norm folded into the convolution in front of it changes no output, and nothing else of the network."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from ledger import Deviation
from networks import TASKS, pictures, shaken
from reference import assert_same_state, relative_error
from torch import nn

from mnv3lib import mobilenet_v3_large, mobilenet_v3_small
from mnv3lib.deploy import fold_batch_norm
from mnv3lib.deploy.fold import folded


def test_one_channel_by_hand() -> None:
    conv, norm = nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1, eps=1.0).eval()
    conv.load_state_dict({"weight": torch.full((1, 1, 1, 1), 3.0), "bias": torch.tensor([5.0])})
    statistics = {"running_mean": 1.0, "running_var": 3.0, "weight": 4.0, "bias": 7.0}
    norm.load_state_dict({name: torch.tensor([value]) for name, value in statistics.items()}, strict=False)
    weight, bias = folded(conv, norm)
    assert weight.item() == 6.0  # 4 / √(3 + 1) · 3
    assert bias.item() == 15.0  # 4 / √(3 + 1) · (5 − 1) + 7


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_any_convolution_is_folded(affine: bool, bias: bool) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(6, 9, 3, stride=2, padding=1, groups=3, bias=bias).double()
    norm = nn.BatchNorm2d(9, affine=affine).double()
    norm.load_state_dict({name: torch.rand_like(value.double()) + 0.1 for name, value in norm.state_dict().items()})
    model, images = nn.Sequential(conv, norm).eval(), torch.randn(2, 6, 7, 8, dtype=torch.float64)
    one = fold_batch_norm(model)
    assert [type(module) for module in one] == [nn.Conv2d, nn.Identity]
    torch.testing.assert_close(one(images), model(images), rtol=1e-12, atol=1e-12)


@pytest.mark.proves(
    "Batch norm folded into the convolutions: both variants, in float64",
    against="the network as it was",
    tolerance=1e-12,
    unit="relative to the spread",
)
@pytest.mark.parametrize("build", [mobilenet_v3_large, mobilenet_v3_small])
@pytest.mark.parametrize("options", [{}, {"width_mult": 0.35, "dilated": True, "padding": "same"}])
def test_a_folded_network_gives_the_same(build: Any, options: dict[str, Any], deviation: Deviation) -> None:
    model = shaken(build(num_classes=10, **options)).double().eval()
    before, images = copy.deepcopy(model), pictures(2, 3, 48, 61).double()
    one = fold_batch_norm(model)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in one.modules())
    with torch.no_grad():
        deviation(relative_error(one(images), model(images)))
    assert_same_state(model, before)


def test_networks_of_other_tasks_are_folded() -> None:
    model, images = shaken(TASKS["lraspp_mobilenet_v3_large"]()).double().eval(), pictures(1, 3, 96, 64).double()
    one = fold_batch_norm(model)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in one.modules())
    with torch.no_grad():
        torch.testing.assert_close(one(images)["out"], model(images)["out"], rtol=1e-9, atol=1e-9)
    detector = fold_batch_norm(TASKS["ssdlite320_mobilenet_v3_large"]().eval())
    assert not any(isinstance(module, nn.BatchNorm2d) for module in detector.modules())


def test_what_cannot_be_folded_is_refused() -> None:
    with pytest.raises(ValueError, match=r"evaluation mode, call model.eval\(\)"):
        fold_batch_norm(mobilenet_v3_small(width_mult=0.25))
    with pytest.raises(ValueError, match="running statistics"):
        folded(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, track_running_stats=False))
    with pytest.raises(ValueError, match="norm must have 4 channels like conv, got 5"):
        folded(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(5))


def test_frozen_weights_stay_frozen() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).eval().requires_grad_(False)
    assert not any(parameter.requires_grad for parameter in fold_batch_norm(model).parameters())
