"""What networks in the wild have in other forms than the core, and how the weights that come with them are read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from torch import Tensor, nn

from mnv3lib import weights
from mnv3lib._checks import positive_real
from mnv3lib.blocks import ConvNormActivation, InvertedResidual, SqueezeExcitation
from mnv3lib.rows import InvertedResidualConfig, Padding

__all__ = ["ExpandedResidual", "HardSigmoid", "filled", "squeeze_excitation"]

N = TypeVar("N", bound=nn.Module)

_SHIPPED = Path(__file__).resolve().with_name("shipped")


class HardSigmoid(nn.Module):
    """A straight line through (0, ½) in place of a sigmoid, cut off at 0 and 1: min(max(slope · x + ½, 0), 1).

    MobileNetV3's own, ReLU6(x + 3) / 6, has the slope 1/6 (``torch.nn.Hardsigmoid``). Paddle's and Keras' before 3 have
    0.2, cut off at ±2.5: weights that were trained with one give other numbers with the other.

    Args:
        slope: of the line, above 0.

    Shape:
        any, to the same.
    """

    def __init__(self, slope: float) -> None:
        super().__init__()
        self.slope = positive_real("slope", slope)

    def forward(self, x: Tensor) -> Tensor:
        return (x * self.slope + 0.5).clamp(0, 1)

    def extra_repr(self) -> str:
        return f"slope={self.slope:g}"


class ExpandedResidual(InvertedResidual):
    """The core's block with an expansion in every row, also where it widens nothing.

    The positions of its layers in ``block`` are fixed: expansion, depthwise convolution, squeeze-and-excitation if the
    row has one, projection.

    Args:
        row, norm, padding: as in :class:`mnv3lib.blocks.InvertedResidual`.
    """

    def __init__(
        self, row: InvertedResidualConfig, *, norm: Callable[[int], nn.Module], padding: Padding = "symmetric"
    ) -> None:
        super().__init__(row, norm=norm, padding=padding)
        if not row.use_expansion:
            width = row.expanded_channels
            self.block.insert(0, ConvNormActivation(width, width, activation=row.activation, norm=norm))


def squeeze_excitation(channels: int, squeeze_channels: int, gate: nn.Module) -> SqueezeExcitation:
    """The core's squeeze-and-excitation with another function as its gate."""
    block = SqueezeExcitation(channels, squeeze_channels)
    block.scale_activation = gate  # type: ignore[assignment]
    return block


def filled(network: N, name: str) -> N:
    """The network with the weights that come with the library under ``name``, in evaluation mode.

    Raises:
        WeightsError: if they are damaged or not the network's.
    """
    weights.load(network, _SHIPPED / f"{name}.safetensors")
    return network.eval()
