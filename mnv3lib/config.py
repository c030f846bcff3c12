"""A network as data: rows and two ends, and the rules that widen, thin and dilate them.

Nothing here knows about tensors. The torch network (:mod:`mnv3lib.network`) is built from a
:class:`MobileNetV3Config`, the cost model (:mod:`mnv3lib.cost`) adds it up and the explorer draws it; because they
read the same rows they cannot disagree.

The rows are in :mod:`mnv3lib.rows`, and their names can be imported from here. Source: Howard et al., "Searching for
MobileNetV3", arXiv:1905.02244v5; channel rules as in torchvision and TF-slim.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypedDict, TypeVar, Unpack

from mnv3lib._checks import boolean, fraction, one_of, positive_int, positive_real
from mnv3lib.rows import (
    ACTIVATIONS,
    LARGE,
    SMALL,
    Activation,
    InvertedResidualConfig,
    connected,
    make_divisible,
    minimalistic,
)

__all__ = [
    "DILATION_POLICIES",
    "LARGE",
    "ROUNDINGS",
    "SMALL",
    "InvertedResidualConfig",
    "MobileNetV3Config",
    "Options",
    "large",
    "large_minimalistic",
    "make_divisible",
    "minimalistic",
    "small",
    "small_minimalistic",
]

Policy = Literal["torchvision", "paper"]

F = TypeVar("F", bound=Callable[..., Any])

ROUNDINGS: tuple[Policy, ...] = ("torchvision", "paper")
DILATION_POLICIES: tuple[Policy, ...] = ("torchvision", "paper")


@dataclass(frozen=True, slots=True)
class MobileNetV3Config:
    """A whole network as data, every width final: what is written here is what is built.

    Args:
        rows: the bottlenecks, each taking what the one before gives; the first row's input is the stem's width.
        last_conv: channels of the 1×1 convolution after the last bottleneck.
        last_channel: width of the classifier's hidden layer.
        num_classes: logits.
        in_channels: channels of the image.
        dropout: rate in front of the last linear layer, 0 to 1.
        activation: ``"HS"`` or ``"RE"``, for the stem, the last convolution and the classifier.

    Raises:
        TypeError, ValueError: naming the argument, the value and the range.
    """

    rows: tuple[InvertedResidualConfig, ...]
    last_conv: int
    last_channel: int
    num_classes: int = 1000
    in_channels: int = 3
    dropout: float = 0.2
    activation: Activation = "HS"

    def __post_init__(self) -> None:
        object.__setattr__(self, "rows", connected(self.rows))
        for name in ("last_conv", "last_channel", "num_classes", "in_channels"):
            positive_int(name, getattr(self, name))
        object.__setattr__(self, "dropout", fraction("dropout", self.dropout))
        one_of("activation", self.activation, ACTIVATIONS)

    @property
    def stem_channels(self) -> int:
        """Channels of the first convolution."""
        return self.rows[0].input_channels

    @property
    def stages(self) -> tuple[int, ...]:
        """Indices into the network's ``features`` of the last map at each resolution, from fine to coarse.

        The stem is 0, the rows count from 1 and the last convolution comes after them.
        """
        ends = [index for index, row in enumerate(self.rows) if row.conv_stride > 1]
        return (*ends, len(self.rows) + 1)

    @classmethod
    def from_rows(
        cls,
        rows: Iterable[InvertedResidualConfig],
        *,
        last_channel: int,
        width_mult: float = 1.0,
        reduced_tail: bool = False,
        dilated: bool = False,
        rounding: Policy = "torchvision",
        dilation_policy: Policy = "torchvision",
        num_classes: int = 1000,
        in_channels: int = 3,
        dropout: float = 0.2,
        activation: Activation = "HS",
    ) -> MobileNetV3Config:
        """Widen, thin and dilate a table of rows; channels are rounded to multiples of 8, also at width 1.

        Args:
            rows: the table at width 1, as printed.
            last_channel: width of the classifier's hidden layer at width 1.
            width_mult: factor on every width, above 0.
            reduced_tail: halve the last stage, as for detection (paper, 6.3), and the classifier's hidden layer
                (torchvision).
            dilated: keep the last stage at the resolution before it, as for segmentation (paper, 6.4).
            rounding: ``"torchvision"`` scales each printed width on its own; ``"paper"`` expands the *rounded* input by
                the printed ratio, as TF-slim does, and never thins the classifier's hidden layer below width 1, as
                TF-slim's fine-grained mode does. Keras and timm are equal to it at widths 0.75 and 1; at other widths
                they treat the stem (below) or the hidden layer (above 1) differently.
            dilation_policy: ``"torchvision"`` dilates the whole last stage; ``"paper"`` (TF-slim) leaves its
                first block at rate 1.
            num_classes, in_channels, dropout, activation: as in :class:`MobileNetV3Config`.

        Raises:
            TypeError, ValueError: naming the argument, the value and the range.
        """
        table = list(connected(rows))
        width = positive_real("width_mult", width_mult)
        positive_int("last_channel", last_channel)
        one_of("rounding", rounding, ROUNDINGS)
        one_of("dilation_policy", dilation_policy, DILATION_POLICIES)
        if boolean("reduced_tail", reduced_tail):
            table = _reduce_tail(table)
            last_channel = max(1, last_channel // 2)
        if boolean("dilated", dilated):
            table = _dilate(table, dilation_policy)
        scaled = tuple(_scale(row, width, rounding) for row in table)
        if rounding == "torchvision":
            last_conv = 6 * scaled[-1].out_channels
            hidden = make_divisible(last_channel * width)
        else:
            last_conv = make_divisible(6 * table[-1].out_channels * width)
            hidden = make_divisible(last_channel * max(1.0, width))
        return cls(scaled, last_conv, hidden, num_classes, in_channels, dropout, activation)


def _last_stage(rows: Sequence[InvertedResidualConfig], asked_by: str) -> int:
    """Index of the row that opens the last stage, the last one of stride 2."""
    strided = [index for index, row in enumerate(rows) if row.stride > 1]
    if not strided:
        raise ValueError(f"{asked_by} must be False for rows without a stride of 2, got True")
    return strided[-1]


def _reduce_tail(rows: Sequence[InvertedResidualConfig]) -> list[InvertedResidualConfig]:
    """Halve the last stage: all widths but the first block's input and, so, its expansion."""
    start = _last_stage(rows, "reduced_tail")
    halved = [replace(rows[start], out_channels=max(1, rows[start].out_channels // 2))]
    for row in rows[start + 1 :]:
        widths = ("input_channels", "expanded_channels", "out_channels")
        halved.append(replace(row, **{name: max(1, getattr(row, name) // 2) for name in widths}))
    return [*rows[:start], *halved]


def _dilate(rows: Sequence[InvertedResidualConfig], policy: Policy) -> list[InvertedResidualConfig]:
    """Do not take the last stride; look twice as far instead."""
    start = _last_stage(rows, "dilated")
    first = replace(rows[start], dilation=2) if policy == "torchvision" else replace(rows[start], stride=1)
    return [*rows[:start], first, *(replace(row, dilation=2) for row in rows[start + 1 :])]


def _scale(row: InvertedResidualConfig, width: float, rounding: Policy) -> InvertedResidualConfig:
    input_channels = make_divisible(row.input_channels * width)
    if rounding == "torchvision":
        expanded = row.expanded_channels * width
    else:
        expanded = input_channels * row.expanded_channels / row.input_channels
    return replace(
        row,
        input_channels=input_channels,
        expanded_channels=make_divisible(expanded),
        out_channels=make_divisible(row.out_channels * width),
    )


class Options(TypedDict, total=False):
    """The keywords every variant takes; :meth:`MobileNetV3Config.from_rows` explains them."""

    num_classes: int
    width_mult: float
    reduced_tail: bool
    dilated: bool
    dropout: float
    in_channels: int
    rounding: Policy
    dilation_policy: Policy


def takes_options(function: F) -> F:
    """Show the keywords and their defaults, not ``**options``, wherever a signature is looked up."""
    known = inspect.signature(MobileNetV3Config.from_rows).parameters
    keywords = [known[name] for name in Options.__annotations__]
    function.__signature__ = inspect.Signature(keywords)  # type: ignore[attr-defined]
    return function


@takes_options
def large(**options: Unpack[Options]) -> MobileNetV3Config:
    """MobileNetV3-Large (paper, Table 1); keywords as in :meth:`MobileNetV3Config.from_rows`."""
    return MobileNetV3Config.from_rows(LARGE, last_channel=1280, **options)


@takes_options
def small(**options: Unpack[Options]) -> MobileNetV3Config:
    """MobileNetV3-Small (paper, Table 2); keywords as in :meth:`MobileNetV3Config.from_rows`."""
    return MobileNetV3Config.from_rows(SMALL, last_channel=1024, **options)


@takes_options
def large_minimalistic(**options: Unpack[Options]) -> MobileNetV3Config:
    """Large without SE, h-swish and 5×5 kernels (TF-slim, not in the paper); keywords as in :func:`large`."""
    return MobileNetV3Config.from_rows(minimalistic(LARGE), last_channel=1280, activation="RE", **options)


@takes_options
def small_minimalistic(**options: Unpack[Options]) -> MobileNetV3Config:
    """Small without SE, h-swish and 5×5 kernels (TF-slim, not in the paper); keywords as in :func:`small`."""
    return MobileNetV3Config.from_rows(minimalistic(SMALL), last_channel=1024, activation="RE", **options)
