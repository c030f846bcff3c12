"""MediaPipe's portrait segmenter, "selfie segmentation": eight rows of Small, LR-ASPP's gate, and a decoder.

It gives each pixel the probability that it belongs to a person. What is written here was read from the published graph
(``selfie_segmentation.tflite``); the card ``shipped/portrait.md`` says where that is.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import starmap
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mnv3lib.blocks import ConvNormActivation
from mnv3lib.config import SMALL
from mnv3lib.rows import InvertedResidualConfig, connected
from mnv3lib.wild.pieces import ExpandedResidual, filled, squeeze_excitation
from mnv3lib.wild.pixels import pixels_of, resized

__all__ = ["PORTRAIT_ROWS", "PORTRAIT_SIZE", "PortraitSegmenter", "portrait_segmenter", "prepare_portrait"]

#: Height and width that the segmenter was trained with.
PORTRAIT_SIZE = (256, 256)

#: Small's first eight rows. The first three are as printed; after them 40 and 48 channels are 32, and the expansions
#: are a multiple of that, 4 or 3.
PORTRAIT_ROWS = connected(
    (
        *SMALL[:3],
        InvertedResidualConfig(24, 5, 96, 32, True, "HS", 2),
        InvertedResidualConfig(32, 5, 128, 32, True, "HS", 1),
        InvertedResidualConfig(32, 5, 128, 32, True, "HS", 1),
        InvertedResidualConfig(32, 5, 96, 32, True, "HS", 1),
        InvertedResidualConfig(32, 5, 96, 32, True, "HS", 1),
    )
)

#: What the decoder takes up again, from coarse to fine: the output of row 3, of row 1, of the stem (row 0).
_SKIPS = (3, 1, 0)
_STEM = PORTRAIT_ROWS[0].input_channels
_HEAD = 128
#: Pixels that one value of the coarsest feature map stands for.
_OUTPUT_STRIDE = 16


class _PortraitBlock(ExpandedResidual):
    """The core's block with an expansion in every row, SAME padding, biases for batch norm, and a sigmoid as the gate.

    The squeeze widths are those of the core.
    """

    def __init__(self, row: InvertedResidualConfig) -> None:
        super().__init__(row, norm=nn.Identity, padding="same")
        if row.use_se:
            self.block[2] = squeeze_excitation(row.expanded_channels, row.squeeze_channels, nn.Sigmoid())


class _GatedHead(nn.Module):
    """LR-ASPP's coarse branch in torchvision's form (:class:`mnv3lib.tasks.LRASPPHead`), without its classifiers.

    Shape:
        (N, in_channels, H, W) to (N, channels, H, W).
    """

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.cbr = ConvNormActivation(in_channels, channels, activation="RE", norm=nn.Identity)
        self.scale = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(in_channels, channels, 1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        return self.cbr(x) * self.scale(x)


class _Merge(nn.Module):
    """One step of the decoder: twice the size, and what the encoder had at that size, weighed by a gate.

    The gate is squeeze-and-excitation's, of as many channels between; it is computed from the sum of both feature maps
    and weighs the encoder's. A 1×1 convolution and a depthwise one with a shortcut follow.

    Shape:
        coarse (N, in_channels, h, w) and skip (N, channels, H, W) to (N, channels, H, W).
    """

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.thin = nn.Conv2d(in_channels, channels, 1)
        self.gate = squeeze_excitation(channels, channels, nn.Sigmoid())
        self.fuse = ConvNormActivation(channels, channels, activation="RE", norm=nn.Identity)
        self.refine = ConvNormActivation(
            channels, channels, kernel_size=3, groups=channels, activation="RE", norm=nn.Identity
        )

    def forward(self, coarse: Tensor, skip: Tensor) -> Tensor:
        up = self.thin(F.interpolate(coarse, size=skip.shape[-2:], mode="bilinear", align_corners=False))
        fused = self.fuse(skip * self.gate.gate(skip + up) + up)
        return fused + self.refine(fused)


class PortraitSegmenter(nn.Module):
    """MediaPipe's portrait segmenter, with fresh weights; :func:`portrait_segmenter` has the trained ones.

    It is Small (:func:`mnv3lib.config.small`) with these differences:

    ==================  ===================================  ==========================================
    what                Small                                here
    ==================  ===================================  ==========================================
    rows                eleven, output stride 32             the first eight, output stride 16
    channels            40 and 48 in rows 4 to 8             32
    expansion           not in row 1, where nothing widens   in every row
    gate                h-sigmoid, x / 6 + ½                 sigmoid
    padding             symmetric                            TensorFlow's SAME
    batch norm          a layer                              folded: convolutions have a bias
    head                convolution, mean, two layers        LR-ASPP's gate, 128 channels, and a decoder
    ==================  ===================================  ==========================================

    The decoder enlarges three times, to 1/8, 1/4 and 1/2 of the image, each time with the encoder's feature map of that
    size; a transposed convolution of stride 2 makes one channel of the whole size, and a sigmoid its probabilities.

    Images are RGB from 0 to 1, as :func:`mnv3lib.wild.prepare_portrait` makes them; what comes out is the probability
    of "person". H and W are multiples of 16; the weights were trained with 256 × 256.

    Shape:
        (N, 3, H, W) to (N, 1, H, W).

    Args:
        rows: of the encoder; three of them have stride 2, where those of the product have it.

    Raises:
        ValueError: for images of another shape, when it is called.

    Attributes:
        features: stem and bottlenecks; index them as the rows are numbered, from 1.
    """

    def __init__(self, rows: Sequence[InvertedResidualConfig] = PORTRAIT_ROWS) -> None:
        super().__init__()
        self.features = nn.Sequential(
            ConvNormActivation(3, _STEM, kernel_size=3, stride=2, activation="HS", norm=nn.Identity, padding="same"),
            *map(_PortraitBlock, rows),
        )
        self.head = _GatedHead(rows[-1].out_channels, _HEAD)
        widths = [_STEM, *(row.out_channels for row in rows)]
        skips = [widths[index] for index in _SKIPS]
        self.decoder = nn.ModuleList(starmap(_Merge, zip([_HEAD, *skips[:-1]], skips, strict=True)))
        self.last = nn.ConvTranspose2d(skips[-1], 1, 2, stride=2)
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and module.bias is None:
                module.bias = nn.Parameter(torch.zeros(module.out_channels))

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != 4 or x.shape[1] != 3 or any(side < 1 or side % _OUTPUT_STRIDE for side in x.shape[2:]):
            raise ValueError(
                f"x must have the shape (N, 3, H, W), H and W multiples of {_OUTPUT_STRIDE}, got {tuple(x.shape)}"
            )
        maps = []
        for layer in self.features:
            x = layer(x)
            maps.append(x)
        x = self.head(x)
        for merge, index in zip(self.decoder, _SKIPS, strict=True):
            x = merge(x, maps[index])
        return self.last(x).sigmoid()


def portrait_segmenter() -> PortraitSegmenter:
    """MediaPipe's portrait segmenter with its trained weights, in evaluation mode.

    The weights are under the Apache License 2.0, copyright the MediaPipe authors. They equal those of the published
    file, number for number: float16, computed with in float32, as on a CPU there.
    ``mnv3lib/wild/shipped/portrait.md`` has their origin and their limits.

    Raises:
        ImportError: without safetensors.
    """
    return filled(PortraitSegmenter(), "portrait")


def prepare_portrait(image: Any) -> Tensor:
    """A picture as an input of :class:`mnv3lib.wild.PortraitSegmenter`: 256 × 256, RGB from 0 to 1.

    Its proportions are not kept, as MediaPipe does not keep them. The resizing is bilinear without smoothing.

    Args:
        image: a Pillow image, or an array (H, W, 3) of bytes, RGB.

    Returns:
        (1, 3, 256, 256), float32.

    Raises:
        TypeError, ValueError: for an array of another shape or type, or without pixels.
    """
    return resized(pixels_of(image), PORTRAIT_SIZE) / 255
