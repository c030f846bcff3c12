"""SSDLite, detection in one pass: classes and boxes at every cell of six feature maps, by separable convolutions.

Papers: Liu et al., arXiv:1512.02325 (SSD); Sandler et al., arXiv:1801.04381, Section 6.2; Howard et al.,
arXiv:1905.02244v5, Section 6.3. Default boxes, matching, losses and non-maximum suppression are torchvision's; names,
order, random numbers, outputs and gradients of :func:`ssdlite320_mobilenet_v3_large` equal those of torchvision's
network without any file, bit for bit (float32, CPU, one thread).
"""

# Without `from __future__ import annotations`, as in mnv3lib.blocks.

from functools import partial
from itertools import pairwise
from typing import Any, Unpack

import torch
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.ssd import SSD

from mnv3lib.blocks import ConvNormActivation, InvertedResidual
from mnv3lib.blocks import norm_layer as batch_norm
from mnv3lib.detectors import SSDLiteConfig, SSDLiteOptions, ssdlite
from mnv3lib.tasks.boxes import Target, check_labels, features_of
from mnv3lib.tasks.taps import keywords_of

__all__ = [
    "DefaultBoxes",
    "SSDLite",
    "SSDLiteBackbone",
    "SSDLiteHead",
    "ssdlite320_mobilenet_v3_large",
    "ssdlite320_mobilenet_v3_small",
]

#: Default boxes are between these parts of the image's side.
_SCALES = (0.2, 0.95)
#: The smallest box, of the authors' three on the first feature map.
_SMALLEST = 0.1


def _draw(module: nn.Module) -> None:
    """Draw all convolutions anew, in their order, with standard deviation 0.03; biases are zero."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, std=0.03)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def _convolution(config: SSDLiteConfig, in_channels: int, out_channels: int, **options: Any) -> ConvNormActivation:
    """Convolution, batch norm as in the backbone, ReLU6."""
    backbone = config.backbone
    norm = partial(batch_norm, eps=backbone.norm_eps, momentum=backbone.norm_momentum)
    layers = ConvNormActivation(in_channels, out_channels, norm=norm, padding=backbone.padding, **options)
    layers.append(nn.ReLU6(inplace=True))
    return layers


class SSDLiteBackbone(nn.Module):
    """The layers of a classification network and four blocks more, giving six feature maps.

    Args:
        config: says which classification network.

    Shape:
        (N, 3, H, W) to feature maps (N, config.map_channels[i], …) under ``"0"`` to ``"5"``: at output stride 16,
        inside the first block of the last stage; at 32; and each half as high and wide as the one before.

    Attributes:
        features: the layers up to that expansion, and those behind it.
        extra: a 1×1 convolution to half the width, a depthwise one of stride 2, and a 1×1 convolution.
    """

    def __init__(self, config: SSDLiteConfig) -> None:
        super().__init__()
        layers, c4 = features_of(config, initialise=_draw), config.c4
        split = layers[c4]
        assert isinstance(split, InvertedResidual)
        self.features = nn.Sequential(
            nn.Sequential(*layers[:c4], split.block[0]), nn.Sequential(split.block[1:], *layers[c4 + 1 :])
        )
        self.extra = nn.ModuleList(
            nn.Sequential(
                _convolution(config, before, after // 2),
                _convolution(config, after // 2, after // 2, kernel_size=3, stride=2, groups=after // 2),
                _convolution(config, after // 2, after),
            )
            for before, after in pairwise(config.map_channels[1:])
        )
        _draw(self.extra)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        maps = {}
        for index, layer in enumerate((*self.features, *self.extra)):
            maps[str(index)] = x = layer(x)
        return maps


class _Predictions(nn.Module):
    """Numbers for each default box, from each feature map: a depthwise 3×3 convolution and a 1×1 convolution."""

    def __init__(self, config: SSDLiteConfig, numbers: int) -> None:
        super().__init__()
        self.numbers = numbers
        self.module_list = nn.ModuleList(
            nn.Sequential(
                _convolution(config, channels, channels, kernel_size=3, groups=channels),
                nn.Conv2d(channels, numbers * boxes, 1),
            )
            for channels, boxes in zip(config.map_channels, config.boxes, strict=True)
        )
        _draw(self.module_list)

    def forward(self, maps: list[Tensor]) -> Tensor:
        found = []
        for layer, x in zip(self.module_list, maps, strict=True):
            # (N, boxes · numbers, H, W) to (N, H · W · boxes, numbers), the order of the default boxes
            y = layer(x).unflatten(1, (-1, self.numbers)).permute(0, 3, 4, 1, 2)
            found.append(y.flatten(1, 3))
        return torch.cat(found, dim=1)


class SSDLiteHead(nn.Module):
    """Scores of the classes and corrections of the default boxes, each from layers of its own.

    Args:
        config: widths, boxes and classes.

    Shape:
        Feature maps (N, config.map_channels[i], Hᵢ, Wᵢ) to ``"cls_logits"`` (N, A, num_classes) and
        ``"bbox_regression"`` (N, A, 4), with A = Σ config.boxes[i] · Hᵢ · Wᵢ.
    """

    def __init__(self, config: SSDLiteConfig) -> None:
        super().__init__()
        self.classification_head = _Predictions(config, config.num_classes)
        self.regression_head = _Predictions(config, 4)

    def forward(self, maps: list[Tensor]) -> dict[str, Tensor]:
        return {"bbox_regression": self.regression_head(maps), "cls_logits": self.classification_head(maps)}


class DefaultBoxes(DefaultBoxGenerator):
    """Torchvision's default boxes; on the first feature map the authors' three where the configuration has so.

    These are a square of a tenth of the image's side, and boxes of ratio 2 and 1 / 2 with the area of a square of a
    fifth (TensorFlow's object detection, ``reduce_boxes_in_lowest_layer``).

    Args:
        config: how many boxes each feature map has.
    """

    def __init__(self, config: SSDLiteConfig) -> None:
        least, most = _SCALES
        self.boxes = list(config.boxes)
        super().__init__([[2, 3] for _ in config.boxes], min_ratio=least, max_ratio=most)

    def num_anchors_per_location(self) -> list[int]:
        return self.boxes

    def _generate_wh_pairs(self, *args: Any, **options: Any) -> list[Tensor]:
        pairs: list[Tensor] = super()._generate_wh_pairs(*args, **options)
        if self.boxes[0] == 3:
            side, long = _SCALES[0], 2**0.5
            pairs[0] = pairs[0].new_tensor(
                [[_SMALLEST, _SMALLEST], [side * long, side / long], [side / long, side * long]]
            )
        return pairs


class SSDLite(SSD):
    """MobileNetV3 with an SSDLite head: torchvision's ``torchvision.models.detection.ssd.SSD`` on our layers.

    In training it takes images and targets, and gives ``"classification"`` and ``"bbox_regression"``, its losses;
    otherwise it takes images, and gives for each a dictionary of ``"boxes"``, ``"labels"`` and ``"scores"``.

    Args:
        config: from :func:`mnv3lib.detectors.ssdlite`, or with a backbone of your own.

    Raises:
        TypeError: if ``config`` is no :class:`mnv3lib.detectors.SSDLiteConfig`.
        ValueError: in training, for a label that is not from 1 to ``num_classes - 1``.

    Shape:
        images (3, H, W) from 0 to 1, each of its own size; targets are dictionaries of ``"boxes"`` (N, 4), left, top,
        right and bottom in pixels, and ``"labels"`` (N,). N may be 0.

    Attributes:
        config: the configuration it was built from.
        classes: names of the classes, the background first; None where nobody gave them.
        backbone: layers that give six feature maps.
        head: what reads them.
    """

    def __init__(self, config: SSDLiteConfig) -> None:
        if not isinstance(config, SSDLiteConfig):
            raise TypeError(f"config must be an SSDLiteConfig, got {config!r}")
        super().__init__(
            SSDLiteBackbone(config),
            DefaultBoxes(config),
            (config.size, config.size),
            config.num_classes,
            image_mean=[0.5] * 3,
            image_std=[0.5] * 3,
            head=SSDLiteHead(config),
            score_thresh=0.001,
            nms_thresh=0.55,
            detections_per_img=300,
            topk_candidates=300,
        )
        self.config = config
        self.classes: tuple[str, ...] | None = None

    def forward(self, images: list[Tensor], targets: list[Target] | None = None) -> Any:
        if self.training:
            check_labels(targets, self.config.num_classes)
        return super().forward(images, targets)


@keywords_of(ssdlite)
def ssdlite320_mobilenet_v3_large(**options: Unpack[SSDLiteOptions]) -> SSDLite:
    """SSDLite on MobileNetV3-Large with fresh weights; the keywords are those of :func:`mnv3lib.detectors.ssdlite`.

    >>> sum(p.numel() for p in ssdlite320_mobilenet_v3_large().parameters())
    3440060
    """
    return SSDLite(ssdlite("large", **options))


@keywords_of(ssdlite)
def ssdlite320_mobilenet_v3_small(**options: Unpack[SSDLiteOptions]) -> SSDLite:
    """SSDLite on MobileNetV3-Small with fresh weights; the keywords are those of :func:`mnv3lib.detectors.ssdlite`."""
    return SSDLite(ssdlite("small", **options))
