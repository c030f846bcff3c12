"""DeepLabV3, segmentation from convolutions that look around at several distances at once.

Paper: Chen et al., arXiv:1706.05587. Names, order, random numbers, outputs and gradients of
:func:`deeplabv3_mobilenet_v3_large` are torchvision's, bit for bit (float32, CPU, one thread).
"""

# Without `from __future__ import annotations`, as in mnv3lib.blocks.

from typing import Unpack

import torch
from torch import Tensor, nn

from mnv3lib.heads import DeepLabV3Config, DeepLabV3Options, deeplabv3
from mnv3lib.tasks.taps import Backbone, enlarged, keywords_of

__all__ = ["ASPP", "DeepLabV3", "deeplabv3_mobilenet_v3_large", "deeplabv3_mobilenet_v3_small"]


def _branch(in_channels: int, out_channels: int, *, kernel_size: int = 1, dilation: int = 1) -> list[nn.Module]:
    """A convolution that keeps the size, batch norm with PyTorch's ε and momentum, and ReLU."""
    zeros = (kernel_size - 1) // 2 * dilation
    return [
        nn.Conv2d(in_channels, out_channels, kernel_size, padding=zeros, dilation=dilation, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    ]


class _Pooling(nn.Sequential):
    """The mean of all positions, through a convolution, at every position."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(nn.AdaptiveAvgPool2d(1), *_branch(in_channels, out_channels))

    def forward(self, x: Tensor) -> Tensor:
        means = x
        for layer in self:
            means = layer(means)
        return enlarged(means, like=x)


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling: what is here, around at several distances, and everywhere, side by side.

    A 1×1 convolution, a 3×3 one of each dilation rate and a pooling over all positions read the same feature map.
    Their channels are joined and mixed by a 1×1 convolution (``project``).

    Args:
        in_channels, out_channels: C and D, widths; each branch is D wide.
        rates: dilation rates of the 3×3 convolutions, integers of at least 1.

    Shape:
        (N, C, H, W) to (N, D, H, W). In training the pooled means need a batch of two or more, for batch norm.
    """

    def __init__(self, in_channels: int, out_channels: int, rates: tuple[int, ...]) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            [
                nn.Sequential(*_branch(in_channels, out_channels)),
                *(nn.Sequential(*_branch(in_channels, out_channels, kernel_size=3, dilation=rate)) for rate in rates),
                _Pooling(in_channels, out_channels),
            ]
        )
        self.project = nn.Sequential(*_branch(len(self.convs) * out_channels, out_channels), nn.Dropout(0.5))

    def forward(self, x: Tensor) -> Tensor:
        return self.project(torch.cat([conv(x) for conv in self.convs], dim=1))


class DeepLabV3(nn.Module):
    """MobileNetV3 with a DeepLabV3 head.

    Args:
        config: from :func:`mnv3lib.heads.deeplabv3`, or with a backbone of your own.

    Raises:
        TypeError: if ``config`` is no :class:`mnv3lib.heads.DeepLabV3Config`.

    Shape:
        (N, in_channels, H, W), any H and W of at least 1, to ``{"out": scores}`` with scores (N, num_classes, H, W);
        with an auxiliary head also ``"aux"``, of the same shape, in training and in evaluation.

    Attributes:
        config: the configuration it was built from.
        classes: names of the classes, the background first; None where nobody gave them.
        backbone: the classification network's ``features``, under their numbers.
        classifier: pyramid, 3×3 convolution, and a 1×1 convolution to the classes.
        aux_classifier: a smaller head on the finer feature map, or None.
    """

    def __init__(self, config: DeepLabV3Config) -> None:
        super().__init__()
        if not isinstance(config, DeepLabV3Config):
            raise TypeError(f"config must be a DeepLabV3Config, got {config!r}")
        self.config = config
        self.classes: tuple[str, ...] | None = None
        self.backbone = Backbone(config)
        # Drawn first, but registered last: torchvision's order of random numbers and of names.
        auxiliary = None
        if config.aux_loss:
            auxiliary = nn.Sequential(
                *_branch(config.low_channels, config.aux_channels, kernel_size=3),
                nn.Dropout(0.1),
                nn.Conv2d(config.aux_channels, config.num_classes, 1),
            )
        self.classifier = nn.Sequential(
            ASPP(config.backbone.last_conv, config.channels, config.atrous_rates),
            *_branch(config.channels, config.channels, kernel_size=3),
            nn.Conv2d(config.channels, config.num_classes, 1),
        )
        self.aux_classifier = auxiliary

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        low, high = self.backbone(x)
        scores = {"out": enlarged(self.classifier(high), like=x)}
        if self.aux_classifier is not None:
            scores["aux"] = enlarged(self.aux_classifier(low), like=x)
        return scores


@keywords_of(deeplabv3)
def deeplabv3_mobilenet_v3_large(**options: Unpack[DeepLabV3Options]) -> DeepLabV3:
    """DeepLabV3 on MobileNetV3-Large with fresh weights; the keywords are those of :func:`mnv3lib.heads.deeplabv3`.

    >>> sum(p.numel() for p in deeplabv3_mobilenet_v3_large(aux_loss=True).parameters())
    11029328
    """
    return DeepLabV3(deeplabv3("large", **options))


@keywords_of(deeplabv3)
def deeplabv3_mobilenet_v3_small(**options: Unpack[DeepLabV3Options]) -> DeepLabV3:
    """DeepLabV3 on MobileNetV3-Small with fresh weights; the keywords are those of :func:`mnv3lib.heads.deeplabv3`.

    >>> sum(p.numel() for p in deeplabv3_mobilenet_v3_small(num_classes=5).parameters())
    6125605
    """
    return DeepLabV3(deeplabv3("small", **options))
