"""A latency table: every part of a family measured once, and the latency of any network of it by adding up.

A part is a stem, a bottleneck, a last convolution or a classifier, with all that its time depends on: channels, kernel,
stride, dilation, squeeze-and-excitation, activation, and the size of what enters. Networks of a family share many of
them, so a table of a few hundred parts tells the time of thousands of networks; NetAdapt searches with such a table
(Yang et al., arXiv:1804.03230).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mnv3lib._files import whole_file
from mnv3lib.blocks import ConvNormActivation, InvertedResidual, activation_layer
from mnv3lib.config import InvertedResidualConfig, MobileNetV3Config
from mnv3lib.cost import profile
from mnv3lib.deploy.latency import Comparison, compare
from mnv3lib.rows import Activation, Padding

__all__ = ["LatencyTable", "Part", "Pass", "measure_table", "parts", "passes", "tabulated"]


class Part(NamedTuple):
    """A part of a network and all that its time depends on; two that are equal take equally long.

    Attributes:
        kind: ``"stem"``, ``"block"``, ``"last conv"`` or ``"classifier"``.
        channels: of what enters, of what leaves, and of the layer between them (0 where there is none).
        size: height and width of what enters.
        activation: ``"HS"`` or ``"RE"``.
        padding: ``"symmetric"`` or ``"same"``.
        kernel: side of the depthwise kernel; with stride, dilation and use_se 0 where there is none.
    """

    kind: str
    channels: tuple[int, int, int]
    size: tuple[int, int]
    activation: Activation
    padding: Padding = "symmetric"
    kernel: int = 0
    stride: int = 0
    dilation: int = 0
    use_se: int = 0

    def build(self) -> tuple[nn.Module, Tensor]:
        """A module that does what the part does, in evaluation mode, and an input for it."""
        enters, leaves, between = self.channels
        module: nn.Module
        if self.kind == "stem":
            module = ConvNormActivation(
                enters, leaves, kernel_size=3, stride=2, activation=self.activation, padding=self.padding
            )
        elif self.kind == "block":
            row = InvertedResidualConfig(
                enters, self.kernel, between, leaves, bool(self.use_se), self.activation, self.stride, self.dilation
            )
            module = InvertedResidual(row, padding=self.padding)
        elif self.kind == "last conv":
            module = ConvNormActivation(enters, leaves, activation=self.activation)
        else:
            module = nn.Sequential(
                nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(enters, between), activation_layer(self.activation),
                nn.Linear(between, leaves),
            )  # fmt: skip
        return module.eval(), torch.randn(1, enters, *self.size)


def parts(config: MobileNetV3Config, resolution: int | tuple[int, int] = 224) -> list[Part]:
    """The parts of a network in the order they run.

    Args, Raises:
        as for :func:`mnv3lib.cost.profile`.
    """
    groups = profile(config, resolution).features
    sizes = [group[0].input[1:] for group in groups]
    found = [Part("stem", (config.in_channels, config.stem_channels, 0), sizes[0], config.activation, config.padding)]
    for row, size in zip(config.rows, sizes[1:], strict=False):
        channels = (row.input_channels, row.out_channels, row.expanded_channels)
        found.append(
            Part(
                "block",
                channels,
                size,
                row.activation,
                config.padding,
                row.kernel,
                row.stride,
                row.dilation,
                int(row.use_se),
            )
        )
    last = config.rows[-1].out_channels
    found.append(Part("last conv", (last, config.last_conv, 0), sizes[-2], config.activation))
    channels = (config.last_conv, config.num_classes, config.last_channel)
    found.append(Part("classifier", channels, sizes[-1], config.activation))
    return found


@dataclass(frozen=True)
class LatencyTable:
    """Seconds of parts, and what they were measured with.

    Attributes:
        seconds: of each part, one image, beyond ``start``.
        start: seconds that a pass takes before its first layer, once a network.
        made: processor, versions, threads and commit, of ``mnv3lib.provenance.made``.
    """

    seconds: Mapping[Part, float]
    start: float = 0.0
    made: Mapping[str, Any] = field(default_factory=dict)

    def predict(self, config: MobileNetV3Config, resolution: int | tuple[int, int] = 224) -> float:
        """Seconds of a whole network, as the sum of its parts.

        Raises:
            ValueError: if the table lacks a part, naming it.
        """
        found = parts(config, resolution)
        missing = [part for part in found if part not in self.seconds]
        if missing:
            raise ValueError(f"the table lacks {len(missing)} of the {len(found)} parts, first {missing[0]}")
        return self.start + sum(self.seconds[part] for part in found)

    def save(self, path: str | Path) -> None:
        """Write the table as JSON, whole or not at all."""
        rows = [{**part._asdict(), "seconds": seconds} for part, seconds in self.seconds.items()]
        with whole_file(Path(path)) as stream:
            stream.write((json.dumps({**self.made, "start": self.start, "parts": rows}, indent=1) + "\n").encode())

    @classmethod
    def load(cls, path: str | Path) -> LatencyTable:
        """Read what :meth:`save` wrote.

        Raises:
            OSError: if there is no such file.
            ValueError: if it holds something else, naming the file.
        """
        try:
            made = json.loads(Path(path).read_text(encoding="utf-8"))
            rows, start = made.pop("parts"), float(made.pop("start"))
            seconds = {
                Part(**{**row, "channels": tuple(row["channels"]), "size": tuple(row["size"])}): float(value)
                for row in rows
                for value in [row.pop("seconds")]
            }
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{str(path)!r} is no latency table: {error!r}") from error
        return cls(seconds, start, made)


def measure_table(
    wanted: Iterable[Part],
    *,
    rounds: int = 25,
    threads: int = 1,
    made: Mapping[str, Any] | None = None,
) -> LatencyTable:
    """Measure parts in PyTorch, in turns, each with random weights.

    A part runs once, on an input that has just been written, and then all others do, as in a network. Run over and
    over it would find its weights in the first caches and its memory at hand, and take a fifth less.

    Args:
        wanted: parts; those of several networks together, each is measured once.
        rounds, threads: as for :func:`mnv3lib.deploy.latency.compare`.
        made: what the table says of how it came to be.

    Raises:
        ValueError: for no part.
    """
    different = list(dict.fromkeys(wanted))
    if not different:
        raise ValueError("wanted must be one part or more, got none")
    runs = passes(different)
    before = {name: run.write for name, run in runs.items()}
    found = compare(runs, rounds=rounds, cold=True, before=before, threads=threads)
    return tabulated(found, different, made=made)


#: A pass that does nothing.
_EMPTY = "an empty pass"


def passes(wanted: Iterable[Part]) -> dict[str, Pass]:
    """A pass over random input of each part, by the part's text, and a pass that does nothing."""
    found = {str(part): Pass(*part.build()) for part in wanted}
    return {**found, _EMPTY: Pass(nn.Identity(), torch.zeros(1))}


def tabulated(found: Comparison, wanted: Iterable[Part], *, made: Mapping[str, Any] | None = None) -> LatencyTable:
    """The table of parts whose :func:`passes` were compared."""
    start = found.median(_EMPTY)
    return LatencyTable({part: max(0.0, found.median(str(part)) - start) for part in wanted}, start, made or {})


class Pass:
    """A pass of a module over an input."""

    def __init__(self, module: nn.Module, images: Tensor) -> None:
        self.module, self.images = module, images

    def write(self) -> None:
        """Write the input, as the layer before it does: it is in the caches then."""
        self.images.mul_(1)

    def __call__(self) -> Tensor:
        with torch.no_grad():
            return self.module(self.images)
