"""PaddleOCR's text direction classifier: MobileNetV3-Small at width 0.35, changed for lines of text.

It says whether a line is upright or upside down; in PaddleOCR and RapidOCR it looks at every line before the line is
read. What is written here was read from the published graph (``ch_ppocr_mobile_v2.0_cls_infer.onnx``); the card
``shipped/text_direction.md`` says where that is.
"""

from __future__ import annotations

from torch import Tensor, nn

from mnv3lib.blocks import ConvNormActivation
from mnv3lib.config import small
from mnv3lib.rows import InvertedResidualConfig
from mnv3lib.wild.pieces import ExpandedResidual, HardSigmoid, filled, squeeze_excitation

__all__ = ["TextDirection", "text_direction"]

#: Widths, kernels, activations and the rows with a gate are the family's.
_ROWS = small(width_mult=0.35).rows
#: The one linear layer takes what the last convolution gives: 0.35 · 576, rounded, like the last rows' expansions.
_LAST_CONV = _ROWS[-1].expanded_channels


class _LineBlock(ExpandedResidual):
    """The core's block with four differences: an expansion in every row, and a statement for each of the others."""

    def __init__(self, row: InvertedResidualConfig) -> None:
        # 1. Batch norm with ε 1e-5, which is PyTorch's default, not 0.001.
        super().__init__(row, norm=nn.BatchNorm2d)
        width = row.expanded_channels
        # 2. Only the height is halved: a line of text is low and wide, and along it the letters stand close.
        depthwise: nn.Conv2d = self.block[1][0]  # type: ignore[index]
        depthwise.stride = (row.conv_stride, 1)
        # 3. A gate of slope 0.2, and a quarter of the width before it that is not rounded to a multiple of 8.
        if row.use_se:
            self.block[2] = squeeze_excitation(width, width // 4, HardSigmoid(0.2))


class TextDirection(nn.Module):
    """PaddleOCR's text direction classifier, with fresh weights; :func:`text_direction` has the trained ones.

    It is Small at width 0.35 (:func:`mnv3lib.config.small`) with these differences:

    ==================  ===================================  ==========================================
    what                Small at width 0.35                  here
    ==================  ===================================  ==========================================
    stride of a block   2 in both directions                 2 in height, 1 in width; the stem keeps 2
    expansion           not in row 1, where nothing widens   in every row
    gate                h-sigmoid, x / 6 + ½                 0.2 · x + ½ (:class:`.HardSigmoid`)
    squeeze width       a quarter, to a multiple of 8        a quarter, rounded down
    batch norm          ε 0.001                              ε 0.00001
    last convolution    192 channels                         200
    pooling             mean                                 maximum of 2×2, then the mean
    classifier          192 → 360, h-swish, dropout, linear  one linear layer, 200 → 2
    ==================  ===================================  ==========================================

    The published graph ends in a softmax; here the logits are given, as the core does. It was trained with 48 × 192
    pixels, BGR from -1 to 1, as :func:`mnv3lib.wild.prepare_line` gives them. From a picture that is less than 33 high
    or 3 wide nothing is left to pool, and PyTorch raises a RuntimeError.

    Shape:
        (N, 3, H, W), H at least 33 and W at least 3, to logits (N, 2).

    Attributes:
        classes: names of the two logits, in their order.
        features: stem, the bottlenecks, last convolution; index them as the rows are numbered, from 1.
    """

    classes = ("upright", "upside down")

    def __init__(self) -> None:
        super().__init__()
        stem, last = _ROWS[0].input_channels, _ROWS[-1].out_channels
        self.features = nn.Sequential(
            ConvNormActivation(3, stem, kernel_size=3, stride=2, activation="HS", norm=nn.BatchNorm2d),
            *map(_LineBlock, _ROWS),
            ConvNormActivation(last, _LAST_CONV, activation="HS", norm=nn.BatchNorm2d),
        )
        self.maxpool = nn.MaxPool2d(2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(_LAST_CONV, len(self.classes))

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.avgpool(self.maxpool(self.features(x)))
        return self.classifier(pooled.flatten(1))


def text_direction() -> TextDirection:
    """PaddleOCR's text direction classifier with its trained weights, in evaluation mode.

    The weights are under the Apache License 2.0, copyright the PaddlePaddle authors. They equal those of the published
    file, number for number; ``mnv3lib/wild/shipped/text_direction.md`` has their origin and their limits.

    Raises:
        ImportError: without safetensors.
    """
    return filled(TextDirection(), "text_direction")
