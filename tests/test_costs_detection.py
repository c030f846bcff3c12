"""What SSDLite and Faster R-CNN cost, by formula: parameters, multiply-adds, shapes, activations, as they are built."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from dense import build, on_meta, ran
from ledger import Deviation
from test_cost import kept, without_the_uncounted
from torch import Tensor, nn

from mnv3lib import cost
from mnv3lib.config import MobileNetV3Config, small
from mnv3lib.detectors import DetectionConfig, SSDLiteConfig, fasterrcnn, ssdlite
from mnv3lib.rows import InvertedResidualConfig
from mnv3lib.tasks import FasterRCNN, SSDLite


class Layers(nn.Module):
    """A detector without what resizes, matches and chooses; Faster R-CNN reads as many regions as it may."""

    def __init__(self, network: SSDLite | FasterRCNN) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        net: Any = self.network
        maps = list(net.backbone(x).values())
        if isinstance(net, SSDLite):
            return torch.stack([found.sum() for found in net.head(maps).values()]).sum()
        scores, boxes = net.rpn.head(maps)
        side, number = net.config.region, net.config.proposals
        regions = net.roi_heads.box_head(x.new_zeros(number, net.config.channels, side, side))
        return torch.stack([found.sum() for found in (*scores, *boxes, *net.roi_heads.box_predictor(regions))]).sum()


CASES: dict[str, DetectionConfig] = {
    "ssdlite": ssdlite("large"),
    "ssdlite-small-fewer": ssdlite("small", width_mult=0.35, reduced_tail=False, fewer_boxes=True, num_classes=3),
    "ssdlite-minimalistic": ssdlite("large_minimalistic", width_mult=0.5, dilated=True, num_classes=3),
    "fasterrcnn": fasterrcnn("large", num_classes=3, proposals=20),
    "fasterrcnn-full": fasterrcnn("small", width_mult=0.5, full_pyramid=True, frozen_norm=True, proposals=7),
}


@pytest.mark.proves(
    "Parameters, multiply-adds and shapes of detectors by formula, each at three sizes, odd and tiny",
    against="`numel` of the built network, torch's FLOP counter, and the modules as they run",
    tolerance=0,
    unit="count",
)
@pytest.mark.parametrize("name", CASES)
def test_costs_equal_torch_s(name: str, deviation: Deviation) -> None:
    config = CASES[name]
    layers = Layers(on_meta(config))
    parameters = sum(parameter.numel() for parameter in layers.parameters())
    layers = without_the_uncounted(layers)  # type: ignore[arg-type]
    for sides in ((95, 160), (320, 320), (1, 7)):
        report = cost.profile(config, sides)
        kinds = (nn.Conv2d, nn.Linear, nn.Sequential)
        _, seen, flops, total = ran(layers, torch.zeros(1, 3, *sides, device="meta"), kinds, layers.network)
        deviation(abs(report.parameters - parameters))
        deviation(abs(2 * report.macs - total))
        named: dict[str, list[cost.Layer]] = {}
        for layer in report.layers:
            named.setdefault(layer.name, []).append(layer)
        for key, found in named.items():
            if found[0].kind in ("resize", "pool"):
                assert sum(layer.macs + layer.parameters for layer in found) == 0
                continue
            assert 2 * sum(layer.macs for layer in found) == flops.get(f"Layers.network.{key}", 0), key
            for layer, shapes in zip(found, seen[key], strict=True):
                if key.startswith("roi_heads"):
                    expected = tuple((tensor.shape[1], tensor.shape[0], 1) for tensor in shapes)
                else:
                    expected = tuple(tuple(tensor.shape[1:]) for tensor in shapes)
                assert (layer.input, layer.output) == expected, key
        heads = {layer.feature for layer in report.layers if not layer.name.startswith("backbone")}
        assert heads == {len(config.backbone.rows) + 2}


@pytest.mark.proves(
    "Bytes of activations that a training step of SSDLite keeps, its loss left out",
    against="the tensors that PyTorch's autograd saves",
    tolerance=0,
    unit="count",
)
@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("ssdlite")])
def test_the_activations_are_those_that_autograd_saves(name: str, deviation: Deviation) -> None:
    config = CASES[name]
    torch.manual_seed(0)
    found = kept(Layers(build(config).train()), torch.randn(3, 3, 33, 70))  # type: ignore[arg-type]
    deviation(abs(found - 4 * cost.profile(config, (33, 70)).saved_activations(3)))


def test_peak_of_the_activations() -> None:
    """Of one pixel it is SSDLite's last prediction, with what it reads, beside six maps and all other predictions."""
    config: DetectionConfig = ssdlite("large")
    assert isinstance(config, SSDLiteConfig)
    predictions = sum(numbers * boxes for numbers in (4, config.num_classes) for boxes in config.boxes)
    found = cost.profile(config, 1).peak_activations
    assert found == sum(config.map_channels) + predictions + config.map_channels[-1]
    # Otherwise it is in the backbone's second row, where nothing waits yet, or the regions and what reads them first.
    assert cost.profile(ssdlite("large"), 320).peak_activations == (16 + 64) * 160**2
    config = fasterrcnn("large", proposals=1000)
    assert cost.profile(config, 320).peak_activations == 1000 * (256 * 49 + 1024)


def test_the_default_resolution_is_that_of_the_network() -> None:
    for config, side in ((ssdlite("small", size=96), 96), (fasterrcnn("small", min_size=64), 64), (small(), 224)):
        assert cost.profile(config) == cost.profile(config, side)  # type: ignore[arg-type]


@pytest.mark.parametrize("wide", [8, 4000])
def test_the_first_map_waits_in_the_backbone(wide: int) -> None:
    """While the last convolution runs, and the first extra one after it, C4's expansion is alive."""
    rows = (InvertedResidualConfig(8, 3, wide, 8, True, "HS", 2), InvertedResidualConfig(8, 3, 9, 8, False, "RE", 1))
    if wide == 8:
        with pytest.raises(ValueError, match=r"backbone must have an expansion in its last row of stride 2"):
            SSDLiteConfig(backbone=MobileNetV3Config(rows, 2000, 1))
        return
    config = SSDLiteConfig(backbone=MobileNetV3Config(rows, 2000, 1), num_classes=1, fewer_boxes=True)
    # Of one pixel: the tapped map, beside the depthwise convolution's and the gated copy of it.
    assert cost.profile(config, 1).peak_activations == 3 * wide
