"""One row of the paper's tables, and the tables: the bottlenecks of MobileNetV3-Large and -Small as data.

Sources: Howard et al., "Searching for MobileNetV3", arXiv:1905.02244v5, Tables 1 and 2; the minimalistic variants are
in the authors' TF-slim code only.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal, get_args

from mnv3lib._checks import boolean, one_of, positive_int, positive_real

__all__ = ["ACTIVATIONS", "LARGE", "PADDINGS", "SMALL", "Activation", "InvertedResidualConfig", "Padding", "connected",
           "make_divisible", "minimalistic"]  # fmt: skip

Activation = Literal["RE", "HS"]
Padding = Literal["symmetric", "same"]

ACTIVATIONS: tuple[Activation, ...] = get_args(Activation)
PADDINGS: tuple[Padding, ...] = get_args(Padding)


def make_divisible(channels: float, divisor: int = 8) -> int:
    """Round a channel count to the nearest multiple of ``divisor`` that keeps at least 90 % of it.

    Halves round up, and the result is never below ``divisor``. The rule comes with MobileNetV2's TF-slim code.

    >>> [make_divisible(c) for c in (3, 12, 16 * 0.75, 18, 60)]
    [8, 16, 16, 24, 64]
    """
    positive_real("channels", channels)
    positive_int("divisor", divisor)
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded if rounded >= 0.9 * channels else rounded + divisor


@dataclass(frozen=True, slots=True)
class InvertedResidualConfig:
    """One bottleneck row of the paper's Table 1 or 2.

    Args:
        input_channels: channels entering the block.
        kernel: side of the square depthwise kernel, odd.
        expanded_channels: channels of the depthwise convolution (the paper's "exp size").
        out_channels: channels leaving the block.
        use_se: whether a squeeze-and-excitation sits after the depthwise convolution.
        activation: ``"RE"`` for ReLU, ``"HS"`` for h-swish (the paper's column NL).
        stride: 1 or 2, as the table prints it.
        dilation: rate of the depthwise kernel; above 1 the stride is not taken.

    Raises:
        TypeError, ValueError: naming the field, the value and the range.
    """

    input_channels: int
    kernel: int
    expanded_channels: int
    out_channels: int
    use_se: bool
    activation: Activation
    stride: int
    dilation: int = 1

    def __post_init__(self) -> None:
        for name in ("input_channels", "kernel", "expanded_channels", "out_channels", "dilation"):
            object.__setattr__(self, name, positive_int(name, getattr(self, name)))  # plain, also of NumPy's
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel must be an odd integer >= 1, got {self.kernel!r}")
        boolean("use_se", self.use_se)
        one_of("activation", self.activation, ACTIVATIONS)
        one_of("stride", self.stride, (1, 2))
        object.__setattr__(self, "stride", positive_int("stride", self.stride))

    @property
    def conv_stride(self) -> int:
        """The stride the depthwise convolution really takes, 1 where dilation replaces it."""
        return 1 if self.dilation > 1 else self.stride

    @property
    def use_expansion(self) -> bool:
        """Whether there is a 1×1 expansion; it is left out where it would not widen anything."""
        return self.expanded_channels != self.input_channels

    @property
    def use_shortcut(self) -> bool:
        """Whether input and output are added, which takes stride 1 *in the table* and equal widths."""
        return self.stride == 1 and self.input_channels == self.out_channels

    @property
    def squeeze_channels(self) -> int:
        """Width of the squeeze-and-excitation bottleneck, a quarter of the expansion, rounded to a multiple of 8."""
        return make_divisible(max(1, self.expanded_channels // 4))


def _table(*lines: tuple[int, int, int, int, bool, Activation, int]) -> tuple[InvertedResidualConfig, ...]:
    return tuple(InvertedResidualConfig(*line) for line in lines)


SE, __ = True, False

# fmt: off
#: Table 1 of the paper, the fifteen bottlenecks of MobileNetV3-Large.
LARGE = _table(
    # in    k   exp  out  SE   NL   s       input
    (16,    3,   16,  16, __, "RE", 1),  # 112² × 16
    (16,    3,   64,  24, __, "RE", 2),  # 112² × 16
    (24,    3,   72,  24, __, "RE", 1),  #  56² × 24
    (24,    5,   72,  40, SE, "RE", 2),  #  56² × 24
    (40,    5,  120,  40, SE, "RE", 1),  #  28² × 40
    (40,    5,  120,  40, SE, "RE", 1),  #  28² × 40
    (40,    3,  240,  80, __, "HS", 2),  #  28² × 40
    (80,    3,  200,  80, __, "HS", 1),  #  14² × 80
    (80,    3,  184,  80, __, "HS", 1),  #  14² × 80
    (80,    3,  184,  80, __, "HS", 1),  #  14² × 80
    (80,    3,  480, 112, SE, "HS", 1),  #  14² × 80
    (112,   3,  672, 112, SE, "HS", 1),  #  14² × 112
    (112,   5,  672, 160, SE, "HS", 2),  #  14² × 112
    (160,   5,  960, 160, SE, "HS", 1),  #   7² × 160
    (160,   5,  960, 160, SE, "HS", 1),  #   7² × 160
)
# fmt: on

# fmt: off
#: Table 2 of the paper, the eleven bottlenecks of MobileNetV3-Small.
SMALL = _table(
    # in    k   exp  out  SE   NL   s       input
    (16,    3,   16,  16, SE, "RE", 2),  # 112² × 16
    (16,    3,   72,  24, __, "RE", 2),  #  56² × 16
    (24,    3,   88,  24, __, "RE", 1),  #  28² × 24
    (24,    5,   96,  40, SE, "HS", 2),  #  28² × 24
    (40,    5,  240,  40, SE, "HS", 1),  #  14² × 40
    (40,    5,  240,  40, SE, "HS", 1),  #  14² × 40
    (40,    5,  120,  48, SE, "HS", 1),  #  14² × 40
    (48,    5,  144,  48, SE, "HS", 1),  #  14² × 48
    (48,    5,  288,  96, SE, "HS", 2),  #  14² × 48
    (96,    5,  576,  96, SE, "HS", 1),  #   7² × 96
    (96,    5,  576,  96, SE, "HS", 1),  #   7² × 96
)
# fmt: on


def minimalistic(rows: Iterable[InvertedResidualConfig]) -> tuple[InvertedResidualConfig, ...]:
    """The same widths and strides without what some accelerators dislike: 3×3 kernels, ReLU, no SE (TF-slim)."""
    return tuple(replace(row, kernel=3, use_se=False, activation="RE") for row in rows)


def connected(rows: Iterable[InvertedResidualConfig]) -> tuple[InvertedResidualConfig, ...]:
    """The rows as a tuple, if there is one or more and each takes what the one above gives."""
    if not isinstance(rows, Iterable):
        raise TypeError(f"rows must be a sequence of InvertedResidualConfig, got {rows!r}")
    rows = tuple(rows)
    if not rows:
        raise ValueError("rows must hold at least 1 InvertedResidualConfig, got 0")
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, InvertedResidualConfig):
            raise TypeError(f"rows must hold InvertedResidualConfig, got {row!r} as row {number}")
    for number, (above, row) in enumerate(pairwise(rows), start=2):
        if row.input_channels != above.out_channels:
            raise ValueError(
                f"rows must connect: row {number} has input_channels {row.input_channels}, "
                f"it must be {above.out_channels}, the out_channels of row {number - 1}"
            )
    return rows
