"""From a printed table to the rows of a network: width, reduced tail, dilation, and the rules that round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from mnv3lib._checks import boolean, one_of, positive_real
from mnv3lib.rows import InvertedResidualConfig, make_divisible

__all__ = ["DILATION_POLICIES", "ROUNDINGS", "DilationPolicy", "Rounding", "Scaling"]

Rounding = Literal["torchvision", "paper", "timm"]
DilationPolicy = Literal["torchvision", "paper"]

ROUNDINGS: tuple[Rounding, ...] = get_args(Rounding)
DILATION_POLICIES: tuple[DilationPolicy, ...] = get_args(DilationPolicy)


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


def _dilate(rows: Sequence[InvertedResidualConfig], policy: DilationPolicy) -> list[InvertedResidualConfig]:
    """Do not take the last stride; look twice as far instead."""
    start = _last_stage(rows, "dilated")
    first = replace(rows[start], dilation=2) if policy == "torchvision" else replace(rows[start], stride=1)
    return [*rows[:start], first, *(replace(row, dilation=2) for row in rows[start + 1 :])]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling:
    """How the rows of a table become those of a network: :meth:`MobileNetV3Config.from_rows` without the ends."""

    width_mult: float = 1.0
    reduced_tail: bool = False
    dilated: bool = False
    rounding: Rounding = "torchvision"
    dilation_policy: DilationPolicy = "torchvision"

    def __post_init__(self) -> None:
        object.__setattr__(self, "width_mult", positive_real("width_mult", self.width_mult))
        one_of("rounding", self.rounding, ROUNDINGS)
        one_of("dilation_policy", self.dilation_policy, DILATION_POLICIES)
        boolean("reduced_tail", self.reduced_tail)
        boolean("dilated", self.dilated)

    def apply(
        self, table: Sequence[InvertedResidualConfig], last_channel: int
    ) -> tuple[tuple[InvertedResidualConfig, ...], int, int]:
        """The rows, the width of the last convolution, and that of the classifier's hidden layer."""
        width = self.width_mult
        if self.reduced_tail:
            table = _reduce_tail(table)
            last_channel = max(1, last_channel // 2)
        if self.dilated:
            table = _dilate(table, self.dilation_policy)
        printed_stem = self.rounding == "timm" and width < 0.75
        scaled = tuple(self._scale(row, keep_input=printed_stem and index == 0) for index, row in enumerate(table))
        if self.rounding == "torchvision":
            return scaled, 6 * scaled[-1].out_channels, make_divisible(last_channel * width)
        hidden = last_channel if self.rounding == "timm" else make_divisible(last_channel * max(1.0, width))
        return scaled, make_divisible(6 * table[-1].out_channels * width), hidden

    def _scale(self, row: InvertedResidualConfig, *, keep_input: bool) -> InvertedResidualConfig:
        width = self.width_mult
        input_channels = row.input_channels if keep_input else make_divisible(row.input_channels * width)
        if self.rounding == "torchvision":
            expanded = row.expanded_channels * width
        else:
            expanded = input_channels * row.expanded_channels / row.input_channels
        return replace(
            row,
            input_channels=input_channels,
            expanded_channels=make_divisible(expanded),
            out_channels=make_divisible(row.out_channels * width),
        )
