"""The figures of chapter 03, squeeze-and-excitation: what a gate costs, and what it does to a photograph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from figures.jpeg import jpeg
from IPython.display import Image as Shown
from matplotlib.ticker import NullLocator
from PIL import Image
from torch import Tensor

from mnv3lib.config import MobileNetV3Config, make_divisible
from mnv3lib.cost import Profile, profile
from mnv3lib.explore.drawing import Drawing, in_style, new_figure
from mnv3lib.explore.palette import ACCENT, COLOURS, KINDS, REFERENCE

__all__ = [
    "edges_and_warmth",
    "gate_ranges",
    "gated_photographs",
    "gated_photos",
    "parameters_of_gates",
    "squeeze_cost",
    "with_sun",
]

_GATE_KINDS = ("squeeze", "excite")


def gate_parameters(report: Profile, feature: int) -> int:
    """Parameters of the squeeze-and-excitation in one feature of a profile, biases included; 0 where it has none."""
    return sum(layer.parameters for layer in report.features[feature] if layer.kind in _GATE_KINDS)


@in_style
def parameters_of_gates(configs: Mapping[str, MobileNetV3Config]) -> Drawing:
    """Thousand parameters of each block, those of its squeeze-and-excitation in front, one panel a network."""
    figure, axes = new_figure(height=3.9, nrows=len(configs), squeeze=False)
    parts = []
    for frame, (name, config) in zip(axes[:, 0], configs.items(), strict=True):
        report = profile(config)
        numbers = range(1, len(config.rows) + 1)
        totals = [report.parameters_by_feature[number] / 1e3 for number in numbers]
        gates = [gate_parameters(report, number) / 1e3 for number in numbers]
        frame.bar(numbers, totals, width=0.8, facecolor="none", edgecolor=REFERENCE, linewidth=1.2, label="whole block")
        frame.bar(numbers, gates, width=0.8, color=KINDS["se"], label="of it, SE")
        frame.set_ylabel(f"{name}, thousands")
        frame.set_xticks([number for number in numbers if number % 2])
        most = max(numbers, key=lambda number: gates[number - 1] / totals[number - 1])
        parts.append(
            f"{name}: {sum(gate > 0 for gate in gates)} of {len(gates)} blocks have one, "
            f"{sum(gates):.0f} of {sum(totals):.0f} thousand parameters in all, "
            f"most in block {most} with {100 * gates[most - 1] / totals[most - 1]:.0f} % of the block"
        )
    axes[0, 0].legend(loc="upper left")
    axes[-1, 0].set_xlabel("block")
    alt = f"Bars of parameters for each block, with the fraction in squeeze-and-excitation. {'; '.join(parts)}."
    return Drawing(figure, alt)


_RATIOS = (1, 2, 4, 8, 16)
_LOWEST, _HIGHEST = 5e2, 3e6  # fixed, so that the curves of all widths compare


@in_style
def squeeze_cost(*, expanded: int, divided_by: int, rest: int) -> Drawing:
    """Parameters of a squeeze-and-excitation over its squeeze width, on logarithmic axes that never move.

    Args:
        expanded: channels that are weighed.
        divided_by: the squeeze width is ``expanded`` over this, rounded to a multiple of 8; 1 or more.
        rest: parameters of the other layers of the block, drawn as a line to compare with.
    """
    if divided_by < 1:
        raise ValueError(f"divided_by must be an integer >= 1, got {divided_by!r}")
    widths = sorted({make_divisible(max(1, expanded // ratio)) for ratio in _RATIOS})
    chosen, own = (make_divisible(max(1, expanded // ratio)) for ratio in (divided_by, 4))

    def parameters(squeeze: int) -> int:
        return 2 * expanded * squeeze + squeeze + expanded

    figure, axes = new_figure(height=3.1)
    axes.plot(widths, [parameters(width) for width in widths], color=KINDS["se"], marker=".")
    axes.axhline(rest, color=REFERENCE, linestyle=":")
    axes.annotate("rest of the block", (6.5, rest), (0, 4), textcoords="offset points")
    axes.scatter([own], [parameters(own)], s=190, facecolors="none", edgecolors=COLOURS["orange"], linewidths=2)
    axes.annotate("ring: the network’s own", (1200, 1.4 * _LOWEST), ha="right")
    axes.scatter([chosen], [parameters(chosen)], s=60, color=ACCENT, zorder=3)
    axes.set(xscale="log", yscale="log", xlim=(6, 1300), ylim=(_LOWEST, _HIGHEST))
    axes.set_xticks(ticks := [8, 32, 128, 512], map(str, ticks))
    axes.set_yticks([1e3, 1e4, 1e5, 1e6], ["1 k", "10 k", "100 k", "1 M"])
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_locator(NullLocator())
    axes.set(xlabel="squeeze width", ylabel="parameters of SE")
    axes.set_title(f"{parameters(chosen):,} parameters, {100 * parameters(chosen) / rest:.0f} % of the rest")
    alt = (
        f"Parameters over squeeze width for {expanded} expanded channels, logarithmic axes. Chosen: one part in "
        f"{divided_by}, squeeze width {chosen}, {parameters(chosen):,} parameters, "
        f"{100 * parameters(chosen) / rest:.0f} % of the {rest:,} in the rest of the block. "
        f"The network's own is {own} with {parameters(own):,}."
    )
    return Drawing(figure, alt)


@in_style
def gate_ranges(gates: Mapping[str, Sequence[Tensor]]) -> Drawing:
    """For each image and layer, from the lowest to the highest gate, the middle 50 % thick, the mean as a ring.

    Args:
        gates: name of an image to one vector a layer, values from 0 to 1.
    """
    figure, axes = new_figure(height=3.3)
    axes.axhline(0.5, color=REFERENCE, linewidth=1, linestyle=":")
    parts = []
    shifts = (-0.17, 0.17)
    for (name, layers), colour, shift in zip(gates.items(), (ACCENT, COLOURS["orange"]), shifts, strict=False):
        places = [number + shift for number in range(1, len(layers) + 1)]
        axes.vlines(places, [g.min() for g in layers], [g.max() for g in layers], color=colour, linewidth=1.5)
        middle = [(g.quantile(0.25), g.quantile(0.75)) for g in layers]
        axes.vlines(places, [low for low, _ in middle], [high for _, high in middle], color=colour, linewidth=6)
        ring: dict[str, Any] = {"color": colour, "markersize": 5, "markerfacecolor": "white", "linestyle": ""}
        axes.plot(places, [g.mean() for g in layers], marker="o", label=name, **ring)
        low, high = min(float(g.min()) for g in layers), max(float(g.max()) for g in layers)
        parts.append(f"{name} from {low:.2f} to {high:.2f}")
    count = max(map(len, gates.values()))
    axes.set(xlabel="SE layer, from first to last", ylabel="gate", ylim=(0, 1), xticks=range(1, count + 1))
    axes.legend(loc="lower right", ncols=2)
    alt = f"Ranges of the gates in {count} layers around the dotted line at 0.5: {'; '.join(parts)}."
    return Drawing(figure, alt)


@in_style
def gated_photos(
    pictures: Mapping[str, tuple[Tensor, Mapping[str, Tensor], Sequence[float]]], *, ceiling: float
) -> Drawing:
    """Photographs, a row each, and every channel times its gate, all channels on one scale of grey.

    Args:
        pictures: name to a photograph of (3, H, W) with values from 0 to 1, its channels before the gate as (h, w) maps
            of values from 0, and one gate from 0 to 1 for each channel. Keep them small: pixels go into the page.
        ceiling: the value that is drawn white.
    """
    columns = 1 + max(len(channels) for _, channels, _ in pictures.values())
    figure, axes = new_figure(height=1.65 * len(pictures), nrows=len(pictures), ncols=columns, squeeze=False)
    for frame in axes.flat:
        frame.set(xticks=[], yticks=[])
        frame.spines[:].set(visible=True, color=REFERENCE, linewidth=0.5)
    data: dict[str, tuple[float, float]] = {}
    for row, (name, (photo, channels, gates)) in zip(axes, pictures.items(), strict=True):
        if len(channels) != len(gates):
            raise ValueError(f"gates must hold one factor for each of {len(channels)} channels, got {len(gates)}")
        row[0].imshow(((photo.permute(1, 2, 0) * _LEVELS).round() / _LEVELS).numpy(), interpolation="none")
        row[0].set_title(name)
        for frame, (channel, values), gate in zip(row[1:], channels.items(), gates, strict=True):
            shown = ((values * gate / ceiling).clamp(0, 1) * _GREYS).round() / _GREYS
            frame.imshow(shown.numpy(), cmap="gray", vmin=0, vmax=1, interpolation="none")
            frame.set_title(f"{channel} × {gate:.2f}")
            data[f"{name}, {channel}"] = (float(values.mean()), gate)
    parts = [f"{place} channel of mean {mean:.3f} times a gate of {gate:.2f}" for place, (mean, gate) in data.items()]
    alt = f"Small photographs and their gated channels: {'; '.join(parts)}. A gate of 0 leaves black."
    return Drawing(figure, alt, data, scale=1.5)


_LEVELS, _GREYS = 31, 15  # of brightness; fewer bytes in the page


def edges_and_warmth(photo: Tensor) -> Tensor:
    """Two channels of a photograph, as (2, H - 1, W - 1).

    Edges are the change of brightness to the right plus that downwards; warmth is how far red exceeds the mean of green
    and blue.

    Args:
        photo: (3, H, W), red, green and blue from 0 to 1.
    """
    grey = photo.mean(0)
    right = (grey[:-1, 1:] - grey[:-1, :-1]).abs()
    down = (grey[1:, :-1] - grey[:-1, :-1]).abs()
    warm = (photo[0] - photo[1:].mean(0)).relu()[:-1, :-1]
    return torch.stack([right + down, warm])


def with_sun(photo: Tensor, per_cent: float) -> Tensor:
    """A copy of a photograph with an orange square in its upper right corner.

    Args:
        photo: (3, H, W), red, green and blue from 0 to 1.
        per_cent: of the photograph that the square covers.
    """
    painted = photo.clone()
    side = round((per_cent / 100 * photo[0].numel()) ** 0.5)
    if side:
        painted[:, :side, -side:] = torch.tensor([1.0, 0.5, 0.0])[:, None, None]
    return painted


def gated_photographs(
    pictures: Mapping[str, tuple[Tensor, Mapping[str, float]]], *, ceiling: float, width: int
) -> Shown:
    """Photographs, a row each, and beside each its edges or its warmth times a gate, as a JPEG.

    Args:
        pictures: name to a photograph of (3, H, W) with values from 0 to 1 and, for ``"edges"``, ``"warmth"`` or both,
            a gate from 0 to 1. All photographs have one size and the same channels.
        ceiling: the value of a channel that is drawn white.
        width: of one picture in pixels.
    """
    rows, said = [], []
    for name, (photo, gates) in pictures.items():
        channels = dict(zip(("edges", "warmth"), edges_and_warmth(photo), strict=True))
        shown = [photo[:, :-1, :-1]]
        shown += [(channels[channel] * gate / ceiling).clamp(0, 1).expand(3, -1, -1) for channel, gate in gates.items()]
        rows.append([_picture(values, width) for values in shown])
        said.append(f"{name}, {', '.join(f'its {channel} times {gate:.2f}' for channel, gate in gates.items())}")
    gap, height = 8, rows[0][0].height
    size = (len(rows[0]) * (width + gap) - gap, len(rows) * (height + gap) - gap)
    sheet = Image.new("RGB", size, REFERENCE)
    for down, row in enumerate(rows):
        for across, picture in enumerate(row):
            sheet.paste(picture, (across * (width + gap), down * (height + gap)))
    return jpeg(sheet, f"Photographs and their channels: {'; '.join(said)}.")


def _picture(values: Tensor, width: int) -> Image.Image:
    pixels = (values.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    picture = Image.fromarray(pixels)
    return picture.resize((width, round(width * picture.height / picture.width)), Image.Resampling.LANCZOS)
