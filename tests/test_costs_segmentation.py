"""What LR-ASPP and DeepLabV3 cost, by formula: parameters, multiply-adds, shapes and activations as they are built."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
import torch
from dense import build, on_meta, ran
from ledger import Deviation
from test_cost import kept, watch, without_the_uncounted
from torch import Tensor, nn

from mnv3lib import cost
from mnv3lib.config import MobileNetV3Config
from mnv3lib.heads import DeepLabV3Config, LRASPPConfig, deeplabv3, lraspp
from mnv3lib.rows import InvertedResidualConfig

Config = LRASPPConfig | DeepLabV3Config
CASES: dict[str, Config] = {
    "lraspp": lraspp("large"),
    "lraspp small": lraspp("small", width_mult=0.35, reduced_tail=True, num_classes=3),
    "lraspp os32": lraspp("small", dilated=False, in_channels=4, inter_channels=24),
    "paper": lraspp("large", form="paper", num_classes=19),
    "paper small": lraspp("small", form="paper", num_classes=19, width_mult=0.5, dilated=False),
    "deeplabv3": deeplabv3("large"),
    "deeplabv3 aux": deeplabv3("small", aux_loss=True, width_mult=0.75, atrous_rates=(6, 12)),
    "r-aspp": deeplabv3("small", atrous_rates=(), dilated=False),
    "minimalistic": deeplabv3("large_minimalistic", aux_loss=True, width_mult=0.25, num_classes=1),
    "minimalistic lraspp": lraspp("small_minimalistic", width_mult=0.25, form="paper", num_classes=2),
}
#: Layers whose module does more: pooling before, resizing after. The number is that of the rates, and one.
POOLED = {f"classifier.0.convs.{number}" for number in (1, 3, 4)}
SIZES = ((95, 160), 33, (1, 7), (900, 801))


@pytest.mark.proves(
    "Parameters, multiply-adds and shapes of segmentation networks by formula, each at four sizes, odd and tiny",
    against="`numel` of the built network, torch's FLOP counter, and the modules as they run",
    tolerance=0,
    unit="count",
)
@pytest.mark.parametrize("name", CASES)
def test_costs_equal_torch_s(name: str, deviation: Deviation) -> None:
    config = CASES[name]
    network = on_meta(config)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    network = without_the_uncounted(network)
    modules = dict(network.named_modules())
    for size in SIZES:
        sides = size if isinstance(size, tuple) else (size, size)
        report = cost.profile(config, size)
        images = torch.zeros(1, config.backbone.in_channels, *sides, device="meta")
        scores, seen, flops, total = ran(network, images, (nn.Module,))
        deviation(abs(report.parameters - parameters))
        deviation(abs(2 * report.macs - total))
        for layer in report.layers:
            if layer.kind == "resize":
                assert (layer.parameters, layer.macs) == (0, 0)
                continue
            assert 2 * layer.macs == flops.get(f"{type(network).__name__}.{layer.name}", 0), layer.name
            if layer.name in POOLED:
                continue
            before, after = ((*tensor.shape[1:], 1, 1)[:3] for tensor in seen[layer.name][-1])
            assert (layer.input, layer.output) == (before, after), layer.name
        assert {layer.output for layer in report.layers if layer.name in ("resize", "aux_classifier.resize")} == {
            tuple(score.shape[1:]) for score in scores.values()
        }
        heads = {layer.feature for layer in report.layers if not layer.name.startswith("backbone")}
        assert heads == {len(config.backbone.rows) + 2}
    assert {layer.name for layer in report.layers if layer.kind != "resize"} <= set(modules)


@pytest.mark.proves(
    "Bytes of activations that a training step of a segmentation network keeps",
    against="the tensors that PyTorch's autograd saves",
    tolerance=0,
    unit="count",
)
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("images", "sides"), [pytest.param(2, (64, 64), marks=pytest.mark.slow), (3, (33, 70))])
def test_the_activations_are_those_that_autograd_saves(
    name: str, images: int, sides: tuple[int, int], deviation: Deviation
) -> None:
    config = CASES[name]
    torch.manual_seed(0)
    network = build(config).train()

    class Scores(nn.Module):
        """All scores as one number; which keeps nothing."""

        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([scores.sum() for scores in self.network(x).values()]).sum()

    found = kept(Scores(), torch.randn(images, config.backbone.in_channels, *sides))
    deviation(abs(found - 4 * cost.profile(config, sides).saved_activations(images)))


def test_peak_of_the_activations() -> None:
    """Scores in the image's size, beside those in the finer map's, are the most that LR-ASPP holds at a time."""
    assert cost.profile(lraspp("large"), 520).peak_activations == 21 * (65 * 65 + 520 * 520)
    # Of one pixel it is the pyramid, before and after its branches are joined, and the finer map that waits.
    for described in (deeplabv3("small", width_mult=0.25, aux_loss=aux) for aux in (False, True)):
        waiting = described.low_channels if described.aux_loss else 0
        assert cost.profile(described, 1).peak_activations == 2 * 5 * described.channels + waiting
    # Of a wider backbone it is the last map and its means, beside four branches.
    assert cost.profile(deeplabv3("large"), 1).peak_activations == 2 * 960 + 4 * 256


ROWS = (
    InvertedResidualConfig(8, 3, 8, 8, False, "RE", 2),
    InvertedResidualConfig(8, 3, 16, 30, False, "RE", 2),
    InvertedResidualConfig(30, 3, 40, 30, True, "HS", 1),
    InvertedResidualConfig(30, 3, 31, 6, False, "HS", 1),
    InvertedResidualConfig(6, 3, 100, 8, True, "HS", 2),
)


@pytest.mark.parametrize("form", ["torchvision", "paper"])
@pytest.mark.parametrize("widest", [16, 40, 100, 300])
@pytest.mark.parametrize("place", range(5))
def test_the_finer_map_waits_in_the_backbone(form: str, widest: int, place: int) -> None:
    """The widest row may come before, at, and after the map that the head needs; tensors are told apart by identity."""
    rows = list(ROWS)
    rows[place] = replace(rows[place], expanded_channels=widest)
    config = LRASPPConfig(
        backbone=MobileNetV3Config(tuple(rows), 4, 1),
        form=form,
        num_classes=1,
        inter_channels=1,  # type: ignore[arg-type]
    )
    network = on_meta(config)
    most, waiting, low = 0, {}, {}
    tapped = f"backbone.{config.low}" + (".block.1" if form == "paper" else "")

    def note(name: str, module: nn.Module, before: Tensor, after: Tensor) -> None:
        nonlocal most
        if re.fullmatch(r"backbone\.\d+", name):
            waiting.clear()
        if re.fullmatch(r"backbone\.0|backbone\.\d+\.block\.\d|backbone\.6", name):
            alive = {id(tensor): tensor for tensor in (*waiting.values(), *low.values(), before, after)}
            most = max(most, sum(tensor.numel() for tensor in alive.values()))
        if name == tapped:
            low[name] = after

    def start(module: Any, inputs: tuple[Tensor, ...]) -> None:
        if module.use_res_connect:
            waiting[0] = inputs[0]

    for block in list(network.backbone.values())[1:-1]:  # type: ignore[operator, union-attr]
        block.register_forward_pre_hook(start)
    with watch(network, (nn.Module,), note), torch.no_grad():
        network(torch.zeros(1, 3, 64, 64, device="meta"))
    assert cost.profile(config, 64).peak_activations == most
    assert config.low == (2 if form == "torchvision" else 4)
