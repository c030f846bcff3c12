"""The chapter on quantisation: its images, networks with rounded weights, and its figures."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Mapping
from html import escape
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from figures import measured, speed
from figures.text_lines import draw_line
from matplotlib import rcParams
from torch import Tensor, nn

from mnv3lib import wild
from mnv3lib._checks import positive_int
from mnv3lib.data import DigitScenes
from mnv3lib.explore.drawing import Drawing, in_style, new_figure
from mnv3lib.explore.palette import ACCENT, COLOURS, KINDS, REFERENCE
from mnv3lib.recipe import Augment

__all__ = [
    "Summary",
    "accuracy",
    "channel_ranges",
    "digits",
    "file_sizes",
    "histogram",
    "is_depthwise",
    "layers",
    "logits",
    "steps_used",
    "text_lines",
    "times_in_8_bits",
    "top1",
    "with_rounded_weights",
]

#: What the benchmark's times in 8 bits hold for: a scale for each channel, whether activations take 7 or all 8 bits,
#: and whether the ranges come from calibration or from training.
_TIMED = ("onednn", "fbgemm", "trained")
_STUDY, _FLOAT = "quantization", "float32"

_DIFFICULTY = 0.4  # of the images that the shipped network was trained with
_WORDS = (
    "bakery", "bridge", "cinema", "closed", "coffee", "fresh bread", "garden", "gram", "hotel", "invoice", "kilo",
    "library", "litre", "menu", "museum", "number", "open daily", "pharmacy", "platform", "price", "receipt",
    "river", "sale today", "station", "street", "summer", "tickets", "total", "winter",
)  # fmt: skip
_INKS, _PAPERS, _SIZES = ("black", "navy", "maroon", "#555"), ("white", "#eee", "#fd9", "#9cf"), (24, 28, 32, 36)


def digits(split: str, size: int) -> tuple[Tensor, Tensor]:
    """Images of DigitScenes as the shipped network takes them, (size, 3, 64, 64) in float32, and their labels."""
    data = DigitScenes(split, size=size, difficulty=_DIFFICULTY)
    images, labels = zip(*(data[at] for at in range(size)), strict=True)
    pixels = torch.stack([image.as_subclass(Tensor) for image in images]) / 255
    mean, deviation = (torch.tensor(values)[:, None, None] for values in (Augment().mean, Augment().std))
    return (pixels - mean) / deviation, torch.tensor(labels)


def text_lines(size: int, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Lines of one to three words as the text direction classifier takes them, (size, 3, 48, 192), and their labels.

    A label is 1 where the line is upside down. Ink, paper and size of the type are drawn as well.
    """
    size = positive_int("size", size)
    draw = random.Random(seed)
    images, labels = [], []
    for _ in range(size):
        text = " ".join(draw.choices(_WORDS, k=draw.randint(1, 3)))
        labels.append(draw.randrange(2))
        line = draw_line(text, upside_down=bool(labels[-1]), ink=draw.choice(_INKS), paper=draw.choice(_PAPERS),
                         size=draw.choice(_SIZES))  # fmt: skip
        images.append(wild.prepare_line(line))
    return torch.cat(images), torch.tensor(labels)


@torch.no_grad()
def logits(network: nn.Module, images: Tensor, *, batch: int = 50) -> Tensor:
    """What a network says of images, computed in batches."""
    return torch.cat([network(part) for part in torch.split(images, batch)])


def top1(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """The fraction of images whose highest logit is that of the label."""
    return (logits(network, images).argmax(1) == labels).double().mean().item()


def is_depthwise(layer: nn.Module) -> bool:
    """Whether a layer is a depthwise convolution."""
    return isinstance(layer, nn.Conv2d) and layer.groups == layer.in_channels > 1


def layers(network: nn.Module) -> list[nn.Conv2d | nn.Linear]:
    """The layers with weights, in their order."""
    return [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]


def with_rounded_weights(
    network: nn.Module, bits: int, *, per_channel: bool, only: Callable[[nn.Module], bool] = lambda layer: True
) -> nn.Module:
    """A copy of a network whose weights have the values that integers of ``bits`` bits can stand for.

    Args:
        network: with batch norm folded, so that its weights are those that an engine sees.
        bits: 2 or more; integers go from -(2^(bits - 1) - 1) to 2^(bits - 1) - 1, the zero point is 0.
        per_channel: a scale for each output channel, otherwise one for each layer.
        only: which layers; all with weights by default.

    Raises:
        ValueError: for fewer than 2 bits.
    """
    if bits < 2:
        raise ValueError(f"bits must be 2 or more, got {bits!r}")
    copied, highest = copy.deepcopy(network), 2 ** (bits - 1) - 1
    for layer in filter(only, layers(copied)):
        weight = layer.weight.detach()
        if per_channel:
            scale = weight.flatten(1).abs().amax(1) / highest
            zeros = torch.zeros(len(scale), dtype=torch.int32)
            layer.weight.data = torch.fake_quantize_per_channel_affine(weight, scale, zeros, 0, -highest, highest)
        else:
            scale = weight.abs().max() / highest
            zero = torch.zeros(1, dtype=torch.int32)
            layer.weight.data = torch.fake_quantize_per_tensor_affine(weight, scale, zero, -highest, highest)
    return copied


@in_style
def accuracy(found: Mapping[str, Mapping[int, float]], reference: float, chance: float) -> Drawing:
    """Accuracy over bits, a line for each way to choose scales.

    Args:
        found: name of a way to its top-1 by bits.
        reference: top-1 in float32.
        chance: top-1 of guessing.
    """
    figure, axes = new_figure(height=3.2)
    words = []
    for (name, values), (colour, marker) in zip(found.items(), ((ACCENT, "o"), (COLOURS["orange"], "s")), strict=True):
        bits = sorted(values, reverse=True)
        axes.plot(range(len(bits)), [values[bit] for bit in bits], color=colour, marker=marker, label=name)
        words.append(f"{name}: " + ", ".join(f"{bit} bits {values[bit]:.0%}" for bit in bits))
    # Each name stands at the end of its line that the curves leave free.
    for height, text, at, side in ((reference, "float32", len(bits) - 1, "right"), (chance, "guessing", 0, "left")):
        axes.axhline(height, color=REFERENCE, linestyle="--", linewidth=1.5)
        axes.annotate(text, (at, height), (0, 4), textcoords="offset points", ha=side)
    axes.set_xticks(range(len(bits)), [str(bit) for bit in bits])
    axes.set(ylim=(0, 1.08), xlim=(-0.15, len(bits) - 0.85), xlabel="bits of a weight in a depthwise layer")
    axes.set_ylabel("top-1, %")
    axes.set_yticks([0, 0.5, 1], ["0", "50", "100"])
    axes.legend(loc="lower left", bbox_to_anchor=(0, 0.2))
    alt = f"Top-1 over bits. {'; '.join(words)}. float32 {reference:.0%}, guessing {chance:.0%}."
    return Drawing(figure, alt, {"top1": {name: dict(values) for name, values in found.items()}})


@in_style
def histogram(values: Tensor, scale: float, zero: int, lowest: int, highest: int) -> Drawing:
    """The values that enter a quantisation, the values that its integers stand for, and the error that it makes.

    Args:
        values: any shape. The axis reaches over all of them, whatever the range.
        scale, zero: of the quantisation.
        lowest, highest: its integers.
    """
    numbers = values.detach().flatten().double().numpy()
    low, high = ((end - zero) * scale for end in (lowest, highest))
    kept = numbers.clip(low, high)
    spread = numbers.std()
    rounded = (np.clip(np.round(kept / scale) + zero, lowest, highest) - zero) * scale
    rounding, cut = (float(np.sqrt(np.mean(error**2)) / spread) for error in (rounded - kept, kept - numbers))
    both = float(np.sqrt(np.mean((rounded - numbers) ** 2)) / spread)
    outside = float(np.mean((numbers < low - scale / 2) | (numbers > high + scale / 2)))
    figure, (above, below) = new_figure(height=4.0, nrows=2, height_ratios=(2.4, 1))
    counts, edges = np.histogram(numbers, bins=60)
    above.stairs(np.maximum(counts, 0.5), edges, fill=True, color=REFERENCE, alpha=0.6, baseline=0.5)
    steps = (np.arange(lowest, highest + 1) - zero) * scale
    above.vlines(steps, 0, 0.22, transform=above.get_xaxis_transform(), color=rcParams["text.color"], linewidth=1)
    above.set(yscale="log", ylabel="how many", yticks=[], xlim=(edges[0] - 0.02 * np.ptp(edges),
              edges[-1] + 0.02 * np.ptp(edges)))  # fmt: skip
    above.minorticks_off()
    above.set_title(f"scale {scale:.2g}, zero point {zero}")
    for at, (error, colour) in enumerate(((rounding, ACCENT), (cut, COLOURS["orange"]), (both, REFERENCE))):
        below.barh(at, min(error, 1), color=colour, height=0.7)
        below.annotate(f"{error:.1%}", (min(error, 0.87), at), (4, 0), textcoords="offset points", va="center")
    below.set_yticks(range(3), ["rounding", "cutting off", "both"])
    below.invert_yaxis()
    below.set(xlim=(0, 1), xticks=[], xlabel="error over the standard deviation")
    alt = (
        f"A histogram with {highest - lowest + 1} integers below it, {low:.2g} to {high:.2g}: scale {scale:.2g}, zero "
        f"point {zero}. Error over the standard deviation: {rounding:.1%} by rounding, {cut:.1%} by cutting off, "
        f"{both:.1%} in all; {outside:.1%} of the values lie outside."
    )
    return Drawing(figure, alt, {"rounding": rounding, "cut": cut, "both": both, "outside": outside})


@in_style
def channel_ranges(weight: Tensor, bits: int) -> Drawing:
    """The largest weight of each channel, sorted, and half a step of a scale for all of them, as lines.

    Args:
        weight: of a convolution, (channels, …).
        bits: of the integers.
    """
    largest = weight.detach().flatten(1).abs().amax(1).sort(descending=True).values
    step = (largest[0] / (2 ** (bits - 1) - 1)).item()
    figure, axes = new_figure(height=2.9)
    axes.bar(range(len(largest)), largest.tolist(), color=KINDS["depthwise"], width=0.8)
    for number in range(1, int(largest[0].item() / step + 1.5)):
        axes.axhline(step * number, color=ACCENT, linewidth=1)
    few = int((largest < 1.5 * step).sum())
    axes.set(xlabel=f"{len(largest)} channels, sorted", ylabel="largest weight", xticks=[])
    alt = (
        f"Bars: the largest weight of each of {len(largest)} channels, from {largest[0].item():.2g} to "
        f"{largest[-1].item():.2g}. Lines: the positive values that {bits} bits with one scale can stand for, "
        f"{step:.2g} apart. {few} channels do not reach half way from the first line to the second."
    )
    return Drawing(figure, alt, {"largest": largest.tolist(), "step": step, "few": few})


@in_style
def steps_used(lobes: Mapping[str, float], means: Mapping[str, float]) -> Drawing:
    """How many of 255 steps two small things get: what lies below zero of h-swish, and the mean of a channel.

    Args:
        lobes: name of a part of the network to the steps between 0 and the least value of h-swish.
        means: to the steps of a typical mean of a channel, on the scale of its feature map.
    """
    figure, axes = new_figure(height=1.2 + 0.27 * max(len(lobes), len(means)), ncols=2)
    words = []
    for panel, found, colour, title in (
        (axes[0], lobes, COLOURS["purple"], "h-swish below 0"),
        (axes[1], means, COLOURS["green"], "mean of a channel"),
    ):
        panel.barh(range(len(found)), list(found.values()), color=colour, height=0.7)
        for at, value in enumerate(found.values()):
            panel.annotate(f"{value:.0f}", (value, at), (4, 0), textcoords="offset points", va="center")
        panel.set_yticks(range(len(found)), list(found))
        panel.invert_yaxis()
        panel.set(xlim=(0, 1.25 * max(found.values())), xlabel="steps of 255", xticks=[])
        panel.set_title(title)
        words.append(f"{title}: " + ", ".join(f"{name} {value:.0f}" for name, value in found.items()))
    return Drawing(
        figure, f"Bars of steps out of 255. {'; '.join(words)}.", {"lobes": dict(lobes), "means": dict(means)}
    )


class Summary:
    """The table of accuracy, size and time: a row for each variant of the study.

    Top-1 is the mean over seeds with the lowest and the highest, the file is ONNX, and times are those of
    :func:`times_in_8_bits`, with a dash for formats that were not timed.

    Args:
        names: variants of the study, with what the table calls them.

    Attributes:
        rows: of the table as text, the first with the names of the columns.
    """

    def __init__(self, names: Mapping[str, str]) -> None:
        times, sizes = times_in_8_bits(), file_sizes()
        self.rows = [("", "top-1, %", "ONNX file, MB", *times)]
        for variant, name in names.items():
            shown = ["1.00" if variant == _FLOAT else f"{ratio:.2f}" for ratio in times.values()]
            if variant not in (_FLOAT, *_TIMED):
                shown = ["–"] * len(times)
            size = f"{sizes[variant] / 1e6:.2f}"
            self.rows.append((name, _percent(measured.load(_STUDY).values(variant)), size, *shown))

    def _repr_html_(self) -> str:
        def line(cells: tuple[str, ...], tag: str) -> str:
            style = f"text-align:right{';white-space:nowrap' if tag == 'td' else ''}"
            right = "".join(f'<{tag} style="{style}">{escape(cell)}</{tag}>' for cell in cells[1:])
            return f'<tr><th scope="row" style="text-align:left">{escape(cells[0])}</th>{right}</tr>'

        head, *rows = self.rows
        body = "".join(line(row, "td") for row in rows)
        return f'<table class="table"><thead>{line(head, "th")}</thead><tbody>{body}</tbody></table>'

    def __repr__(self) -> str:
        return "\n".join(" | ".join(row) for row in self.rows)


def _percent(values: tuple[float, ...]) -> str:
    """Fractions as their mean in %, with the least and the greatest if there are several: "92.4 (92.3–92.6)"."""
    mean = f"{100 * fmean(values):.1f}"
    return mean if len(values) == 1 else f"{mean} ({100 * min(values):.1f}–{100 * max(values):.1f})"


def file_sizes() -> dict[str, int]:
    """Bytes of the ONNX file of each variant of the study, from its first seed."""
    path = Path(measured.__file__).parents[1] / "_data" / "measured" / f"{_STUDY}.json"
    sizes: dict[str, int] = {}
    for run in json.loads(path.read_text(encoding="utf-8"))["runs"]:
        sizes.setdefault(run["variant"], run["bytes"])
    return sizes


def times_in_8_bits(network: str = "mobilenet_v3_small", batch: int = 1) -> dict[str, float]:
    """Time of an engine in 8 bits over its time in float32, on the first processor where 8 bits were measured.

    Raises:
        ValueError: for a network and batch that were measured nowhere in 8 bits.
    """
    for result in (result for one in speed.load("inference") for result in one["results"]):
        ratios = {line["way"]: line["ratio"][0] for line in result["lines"]}
        found = {way: ratios[f"{way}, int8"] / ratio for way, ratio in ratios.items() if f"{way}, int8" in ratios}
        if found and (result["network"], result["batch"]) == (network, batch):
            return found
    raise ValueError(f"network and batch must have been measured in 8 bits, got {network!r} and {batch!r}")
