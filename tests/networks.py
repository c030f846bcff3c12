"""Networks with weights that show mistakes, and what is expected of a load that is refused."""

from __future__ import annotations

import copy
from functools import cache, partial
from typing import Any

import pytest
import torch
from reference import batch, calibrate, same_bits
from torch import Tensor, nn
from torchvision import models

from mnv3lib import MobileNetV3, mobilenet_v3_small, weights
from mnv3lib.config import InvertedResidualConfig, MobileNetV3Config
from mnv3lib.weights import WeightsError, load

__all__ = ["PLAIN", "TASKS", "pictures", "refused", "shaken", "short_network", "small_network", "snapshot"]


PLAIN = {"weights": None, "weights_backbone": None}
TASKS = {
    "lraspp_mobilenet_v3_large": partial(models.segmentation.lraspp_mobilenet_v3_large, **PLAIN),
    "deeplabv3_mobilenet_v3_large": partial(models.segmentation.deeplabv3_mobilenet_v3_large, aux_loss=True, **PLAIN),
    "ssdlite320_mobilenet_v3_large": partial(models.detection.ssdlite320_mobilenet_v3_large, **PLAIN),
    "fasterrcnn_mobilenet_v3_large_fpn": partial(models.detection.fasterrcnn_mobilenet_v3_large_fpn, **PLAIN),
    "fasterrcnn_mobilenet_v3_large_320_fpn": partial(models.detection.fasterrcnn_mobilenet_v3_large_320_fpn, **PLAIN),
}


def pictures(*shape: int, seed: int = 5) -> Tensor:
    """Images with coarse patches and noise, each of another contrast, so that maps differ from image to image."""
    generator = torch.Generator().manual_seed(seed)
    number, channels, *side = shape
    patches = nn.functional.interpolate(torch.rand(number, channels, 5, 5, generator=generator), side, mode="bilinear")
    return 2 * patches * torch.rand(number, channels, 1, 1, generator=generator) + 0.3 * batch(*shape, seed=seed)


def shaken(network: nn.Module, seed: int = 0, backbone: nn.Module | None = None) -> nn.Module:
    """Random weights and statistics, all away from where they start; maps stay of moderate size, and ε shows.

    Channels differ in size by up to 30, so that variances come near ε. The statistics are those of random images,
    randomly off; ``backbone`` is what takes images in, if the network as a whole does not.
    """
    generator = torch.Generator().manual_seed(seed)

    def drawn(like: Tensor, low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(like.shape, generator=generator)

    backbone = network if backbone is None else backbone
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.weight.copy_(drawn(module.weight, -1, 1) * (3 / module.weight[0].numel()) ** 0.5)
                if module.bias is None:
                    module.weight.mul_(10 ** drawn(module.weight[:, :1, :1, :1], -1.5, 0))
                else:
                    module.bias.copy_(drawn(module.bias, -0.5, 0.5))
            elif isinstance(module, nn.BatchNorm2d):
                module.weight.copy_(drawn(module.weight, 0.5, 1.5))
                module.bias.copy_(drawn(module.bias, -0.5, 0.5))
        first = next(module for module in backbone.modules() if isinstance(module, nn.Conv2d))
        calibrate(backbone, pictures(8, first.in_channels, 128, 128, seed=seed))
        for module in backbone.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.add_(drawn(module.running_mean, -0.3, 0.3) * module.running_var.sqrt())
                module.running_var.mul_(drawn(module.running_var, 0.7, 1.4))
                module.num_batches_tracked.fill_(7)
    return network.eval()


@cache
def _small_network(seed: int, **options: Any) -> MobileNetV3:
    made = shaken(mobilenet_v3_small(**{"width_mult": 0.25, "num_classes": 4, **options}), seed)
    assert isinstance(made, MobileNetV3)
    return made


def small_network(seed: int = 0, **options: Any) -> MobileNetV3:
    """A shaken Small at quarter width with 4 classes, of one's own."""
    return copy.deepcopy(_small_network(seed, **options))


@cache
def _short_network(**options: Any) -> MobileNetV3:
    rows = (
        InvertedResidualConfig(16, 3, 24, 16, True, "RE", 1, 1),
        InvertedResidualConfig(16, 5, 24, 24, False, "HS", 2, 1),
    )
    made = shaken(MobileNetV3(MobileNetV3Config.from_rows(rows, last_channel=32, **{"num_classes": 50, **options})))
    assert isinstance(made, MobileNetV3)
    return made


def short_network(**options: Any) -> MobileNetV3:
    """Two rows with a shortcut, a gate, both activations, both kernels and a stride: quick to export."""
    return copy.deepcopy(_short_network(**options))


def snapshot(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def refused(network: nn.Module, source: Any, *words: str, **options: Any) -> weights.Report:
    """``load`` raises with all ``words`` in its message, and leaves the network and the random numbers as they were."""
    before, state = snapshot(network), torch.get_rng_state()
    with pytest.raises(WeightsError) as caught:
        load(network, source, **options)
    for word in words:
        assert word in str(caught.value), f"no {word!r} in {caught.value}"
    assert all(same_bits(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())
    report = caught.value.report
    assert report is not None
    assert not report.fits
    return report
