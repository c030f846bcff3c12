"""What networks for segmentation share: a backbone that gives two feature maps, and the way back to pixels."""

# Without `from __future__ import annotations`, as in mnv3lib.blocks.

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

import torch.nn.functional as F
from torch import Tensor, nn

from mnv3lib.blocks import InvertedResidual
from mnv3lib.heads import SegmentationConfig
from mnv3lib.network import MobileNetV3

__all__ = ["Backbone", "enlarged", "keywords_of"]

B = TypeVar("B", bound=Callable[..., nn.Module])


class Backbone(nn.ModuleDict):
    """The ``features`` of a classification network, giving a fine feature map besides the last one.

    Its layers are called "0", "1" and so on, as in torchvision's networks for segmentation.

    Args:
        config: says which classification network, and which feature map.

    Shape:
        (N, in_channels, H, W) to the fine feature map and the last one.
    """

    def __init__(self, config: SegmentationConfig) -> None:
        # The classifier is drawn and thrown away, as torchvision does: the head's weights depend on it.
        network = MobileNetV3(config.backbone)
        super().__init__({str(index): layer for index, layer in enumerate(network.features)})
        self.low = config.low
        self.step = int(config.backbone.rows[config.low - 1].use_expansion) if config.low_inside else None

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        low = x
        for index, layer in enumerate(self.values()):
            if index != self.low:
                x = layer(x)
            elif self.step is None:
                x = low = layer(x)
            else:
                assert isinstance(layer, InvertedResidual)
                y = x
                for step, part in enumerate(layer.block):
                    y = part(y)
                    if step == self.step:
                        low = y
                x = y + x if layer.use_res_connect else y
        return low, x


def enlarged(x: Tensor, like: Tensor, *, align_corners: bool = False) -> Tensor:
    """A feature map brought to the height and width of another one by bilinear interpolation.

    >>> enlarged(Tensor([[[[0.0, 1.0]]]]), like=Tensor(1, 1, 1, 4)).tolist()
    [[[[0.0, 0.25, 0.75, 1.0]]]]
    """
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=align_corners)


def keywords_of(described: Callable[..., Any]) -> Callable[[B], B]:
    """Show the keywords of what describes a network, all but the variant, in the signature of what builds it."""

    def show(builder: B) -> B:
        first, *keywords = inspect.signature(described).parameters.values()
        assert first.name == "variant"
        untyped: Any = builder  # a function has the attribute only once it is set
        untyped.__signature__ = inspect.signature(builder).replace(parameters=keywords)
        return builder

    return show
