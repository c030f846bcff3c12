"""LR-ASPP, segmentation at the cost of a classification: a gated feature map and a finer one beside it.

Paper: Howard et al., arXiv:1905.02244v5, Section 6.4 and Figure 10. Names, order, random numbers, outputs and gradients
of :func:`lraspp_mobilenet_v3_large` are torchvision's, bit for bit (float32, CPU, one thread).
"""

# Without `from __future__ import annotations`, as in mnv3lib.blocks.

from typing import Unpack

import torch.nn.functional as F
from torch import Tensor, nn

from mnv3lib.heads import LRASPPConfig, LRASPPOptions, lraspp
from mnv3lib.tasks.taps import Backbone, enlarged, keywords_of

__all__ = ["LRASPP", "LRASPPHead", "WindowPool2d", "lraspp_mobilenet_v3_large", "lraspp_mobilenet_v3_small"]


class WindowPool2d(nn.Module):
    """Means over large windows a few steps apart; a window reaches no further than the feature map does.

    Args:
        kernel: height and width of a window.
        stride: steps down and across.

    Shape:
        (N, C, H, W) to (N, C, ⌊(H - h) / stride⌋ + 1, …) with h = min(kernel, H): 1×1 if the feature map is no larger.
    """

    def __init__(self, kernel: tuple[int, int], stride: tuple[int, int]) -> None:
        super().__init__()
        self.kernel = kernel
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        return F.avg_pool2d(x, (min(self.kernel[0], height), min(self.kernel[1], width)), self.stride)

    def extra_repr(self) -> str:
        return f"kernel={self.kernel}, stride={self.stride}"


class LRASPPHead(nn.Module):
    """From a fine feature map and a coarse one to the scores of the classes, at the size of the fine one.

    A 1×1 convolution (``cbr``) thins the coarse one, which is weighed by a gate from pooled means (``scale``), much
    as squeeze-and-excitation does, then enlarged. A 1×1 convolution on each of the two gives scores, which are
    added. Batch norm has PyTorch's ε and momentum, not the backbone's.

    Args:
        config: widths and form.

    Shape:
        low (N, config.low_channels, h, w) and high (N, config.backbone.last_conv, H, W) to (N, num_classes, h, w).
    """

    def __init__(self, config: LRASPPConfig) -> None:
        super().__init__()
        high, inter = config.backbone.last_conv, config.inter_channels
        self.paper = config.form == "paper"
        self.cbr = nn.Sequential(
            nn.Conv2d(high, inter, 1, bias=False),
            nn.BatchNorm2d(inter),
            nn.ReLU(inplace=True),
        )
        kernel = config.pool_kernel
        self.scale = nn.Sequential(
            nn.AdaptiveAvgPool2d(1) if kernel is None else WindowPool2d(kernel, config.pool_stride),
            nn.Conv2d(high, inter, 1, bias=self.paper),
            nn.Hardsigmoid() if self.paper else nn.Sigmoid(),
        )
        self.low_classifier = nn.Conv2d(config.low_channels, config.num_classes, 1)
        self.high_classifier = nn.Conv2d(inter, config.num_classes, 1)

    def forward(self, low: Tensor, high: Tensor) -> Tensor:
        gate = self.scale(high)
        if self.paper:  # one gate a window, not one for all positions
            gate = enlarged(gate, like=high, align_corners=True)
        weighed = enlarged(self.cbr(high) * gate, like=low, align_corners=self.paper)
        return self.low_classifier(low) + self.high_classifier(weighed)


class LRASPP(nn.Module):
    """MobileNetV3 with an LR-ASPP head.

    Args:
        config: from :func:`mnv3lib.heads.lraspp`, or with a backbone of your own.

    Raises:
        TypeError: if ``config`` is no :class:`mnv3lib.heads.LRASPPConfig`.

    Shape:
        (N, in_channels, H, W), any H and W of at least 1, to ``{"out": scores}`` with scores (N, num_classes, H, W).

    Attributes:
        config: the configuration it was built from.
        classes: names of the classes, the background first; None where nobody gave them.
        backbone: the classification network's ``features``, under their numbers.
        classifier: the head.
    """

    def __init__(self, config: LRASPPConfig) -> None:
        super().__init__()
        if not isinstance(config, LRASPPConfig):
            raise TypeError(f"config must be an LRASPPConfig, got {config!r}")
        self.config = config
        self.classes: tuple[str, ...] | None = None
        self.backbone = Backbone(config)
        self.classifier = LRASPPHead(config)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        low, high = self.backbone(x)
        return {"out": enlarged(self.classifier(low, high), like=x, align_corners=self.classifier.paper)}


@keywords_of(lraspp)
def lraspp_mobilenet_v3_large(**options: Unpack[LRASPPOptions]) -> LRASPP:
    """LR-ASPP on MobileNetV3-Large with fresh weights; the keywords are those of :func:`mnv3lib.heads.lraspp`.

    >>> sum(p.numel() for p in lraspp_mobilenet_v3_large().parameters())
    3221538
    """
    return LRASPP(lraspp("large", **options))


@keywords_of(lraspp)
def lraspp_mobilenet_v3_small(**options: Unpack[LRASPPOptions]) -> LRASPP:
    """LR-ASPP on MobileNetV3-Small with fresh weights; the keywords are those of :func:`mnv3lib.heads.lraspp`.

    >>> sum(p.numel() for p in lraspp_mobilenet_v3_small(form="paper", num_classes=19).parameters())
    468830
    """
    return LRASPP(lraspp("small", **options))
