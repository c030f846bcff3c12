"""1×1 convolutions as matrix products: the same sums in another order, and on a CPU often in two thirds of the time.

Where the channels of a pixel lie side by side (``torch.channels_last``), a feature map is a matrix of pixels by
channels, and a 1×1 convolution is its product with the weights. PyTorch's matrix product is better at that than its
convolution.
"""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["PointwiseConv2d", "with_matrix_products"]

M = TypeVar("M", bound=nn.Module)


class PointwiseConv2d(nn.Conv2d):
    """A 1×1 convolution that is computed as a matrix product.

    Args:
        in_channels, out_channels, bias: as in ``torch.nn.Conv2d``.

    Shape:
        (N, in_channels, H, W), fastest in ``torch.channels_last``, to (N, out_channels, H, W), channels last.
    """

    def __init__(self, in_channels: int, out_channels: int, *, bias: bool = False) -> None:
        super().__init__(in_channels, out_channels, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        # Both with the channels last, so that the weight's gradient is laid out as the weight, which several processes
        # that train together count on.
        pixels, weight = x.permute(0, 2, 3, 1), self.weight.permute(0, 2, 3, 1).flatten(1)
        return F.linear(pixels, weight, self.bias).permute(0, 3, 1, 2)


def with_matrix_products(model: M) -> M:
    """A copy of ``model`` in ``torch.channels_last`` whose 1×1 convolutions are matrix products.

    Names, weights and their initialisation stay. Results differ in the last bits from those before.
    """
    model = copy.deepcopy(model).to(memory_format=torch.channels_last)
    for parent in list(model.modules()):
        for name, conv in list(parent.named_children()):
            if type(conv) is nn.Conv2d and _is_pointwise(conv):
                made = PointwiseConv2d(conv.in_channels, conv.out_channels, bias=conv.bias is not None)
                made.weight, made.bias, made.training = conv.weight, conv.bias, conv.training
                setattr(parent, name, made)
    return model


def _is_pointwise(conv: nn.Conv2d) -> bool:
    return (conv.kernel_size, conv.stride, conv.groups) == ((1, 1), (1, 1), 1) and conv.padding in (
        (0, 0),
        "valid",
        "same",
    )
