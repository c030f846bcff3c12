"""The families of the chapter on latency and multiply-adds: time over the count, orders, and what others published."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from figures.latency_and_macs import ways

from mnv3lib.explore.drawing import ON_PAPER, Drawing, in_style, new_figure
from mnv3lib.explore.palette import ACCENT, COLOURS, REFERENCE

__all__ = ["PEERS", "orders", "peers", "phone", "time_over_macs"]

#: Published accuracy and speed of small networks; the lines that start with "#" say where it comes from.
PEERS = Path(__file__).resolve().parents[1] / "_data" / "peers.csv"

#: Marker and colour of a family, by how the names of its networks start.
_FAMILIES = {
    "MobileNetV3": ("mobilenet_v3", "o", ACCENT),
    "MobileNetV2": ("mobilenet_v2", "s", COLOURS["sky"]),
    "MnasNet": ("mnasnet", "D", COLOURS["green"]),
    "ShuffleNetV2": ("shufflenet", "^", COLOURS["orange"]),
    "EfficientNet": ("efficientnet", "P", COLOURS["purple"]),
    "RegNetY": ("regnet", "v", COLOURS["vermilion"]),
    "SqueezeNet": ("squeezenet", "X", REFERENCE),
}
#: Million multiply-adds and multiples of Large's time that the axes of ``time_over_macs`` show, fixed.
_WIDE, _HIGH = 460, 2.6
_COLOURS = (COLOURS["orange"], COLOURS["green"], COLOURS["purple"], ACCENT)


@in_style
def time_over_macs(measured: Mapping[str, Any], way: str, batch: int, fit: tuple[float, float]) -> Drawing:
    """Time against multiply-adds of all networks of a way, MobileNetV3's fitted line, and published top-1.

    Args:
        measured: one processor's families.
        way: to run them.
        batch: images at a time.
        fit: intercept and slope of the line: multiples of Large's time, and more of them for a million multiply-adds.
    """
    result = ways(measured, batch=batch)[way]
    about = {one["network"]: one for one in measured["networks"]}
    figure, axes = new_figure(height=4.6)
    axes.plot([0, _WIDE], [fit[0], fit[0] + fit[1] * _WIDE], color=ACCENT, linewidth=1.5, zorder=1)
    beyond, inside, data = [], 0, {}
    for name, (start, marker, colour) in _FAMILIES.items():
        dots = {}
        for line in result["lines"]:
            network, ratio = line["network"], line["ratio"][0]
            macs, top1 = about[network]["macs"] / 1e6, about[network].get("top1")
            data[network] = (macs, ratio)
            if network.startswith(start):
                dots[network] = (macs, ratio)
                if top1 is not None:
                    at = _BESIDE.get(network, (0, 7))
                    axes.annotate(f"{top1:.0f}", (macs, ratio), at, textcoords="offset points", ha="center")
        if dots:
            xs, ys = zip(*dots.values(), strict=True)
            axes.plot(xs, ys, marker, color=colour, markersize=7, label=name)
            inside += len(dots)
    for line in result["lines"]:
        if not any(line["network"].startswith(start) for start, _, _ in _FAMILIES.values()):
            beyond.append(
                f"{_name(line['network'])} {about[line['network']]['macs'] / 1e6:.0f}, {line['ratio'][0]:.1f}"
            )
    if beyond:
        said = "beyond: " + "\n".join(beyond)
        axes.text(0.98, 0.02, said, transform=axes.transAxes, ha="right", va="bottom", bbox=ON_PAPER)
    axes.set(xlim=(0, _WIDE), ylim=(0, _HIGH), xlabel="million multiply-adds", ylabel="time, multiple of Large's")
    figure.legend(loc="outside upper center", ncols=2, handlelength=1, columnspacing=1)
    alt = (
        f"{inside} dots, time over multiply-adds, by {way}, batch {batch}, on {measured['cpu']}. MobileNetV3's line "
        f"starts at {fit[0]:.2f} and rises by {100 * fit[1]:.2f} for 100 million multiply-adds."
        + (f" Beyond the frame: {'; '.join(beyond)}." if beyond else "")
    )
    return Drawing(figure, alt, data)


#: Where the top-1 stands, in points from the dot, of networks that have neighbours close above.
_BESIDE = {
    "mobilenet_v3_small": (10, -13),
    "mnasnet0_5": (8, -16),
    "mobilenet_v2": (-4, -17),
    "mnasnet1_0": (14, -4),
    "squeezenet1_1": (12, -14),
    "efficientnet_b0": (-14, 1),
    "regnet_y_400mf": (14, -4),
}


def _name(network: str) -> str:
    return _NAMES.get(network, network)


_NAMES = {
    "alexnet": "AlexNet",
    "resnet18": "ResNet-18",
    "squeezenet1_1": "SqueezeNet 1.1",
    "mobilenet_v2": "MobileNetV2",
    "mobilenet_v3_large": "V3-Large",
    "mobilenet_v3_small": "V3-Small",
    "shufflenet_v2_x0_5": "ShuffleNetV2 ×0.5",
    "shufflenet_v2_x1_0": "ShuffleNetV2 ×1",
    "mnasnet0_5": "MnasNet ×0.5",
    "mnasnet1_0": "MnasNet ×1",
    "efficientnet_b0": "EfficientNet-B0",
    "regnet_y_400mf": "RegNetY-400MF",
    "mobilenetv1_100": "MobileNetV1",
    "mobilenetv2_100": "MobileNetV2",
    "mobilenetv3_large_100": "V3-Large",
    "mobilenetv3_small_100": "V3-Small",
    "mobilenetv4_conv_small": "V4-Conv-Small",
    "lcnet_100": "PP-LCNet ×1",
    "ghostnet_100": "GhostNet ×1",
    "mnasnet_100": "MnasNet ×1",
    "regnety_002": "RegNetY-200MF",
    "efficientnet_lite0": "EfficientNet-Lite0",
    "tinynet_b": "TinyNet-B",
}


@in_style
def orders(columns: Mapping[str, Mapping[str, float]], *, highlight: Sequence[str] = ()) -> Drawing:
    """Networks in the order of several quantities, the least at the bottom, a line each from column to column.

    Args:
        columns: name of a quantity to its value for every network.
        highlight: networks whose lines are coloured.
    """
    names = list(next(iter(columns.values())))
    ranks = {column: _ranks(values) for column, values in columns.items()}
    figure, axes = new_figure(height=0.9 + 0.32 * len(names))
    coloured = dict(zip(highlight, _COLOURS, strict=False))
    for name in names:
        ys = [ranks[column][name] for column in columns]
        colour = coloured.get(name, REFERENCE)
        axes.plot(range(len(columns)), ys, "o-", color=colour, linewidth=2.5 if name in coloured else 1.2, markersize=5)
    first = ranks[next(iter(columns))]
    axes.set_yticks([first[name] for name in names], [_name(name) for name in names])
    axes.set_xticks(range(len(columns)), [column.replace(" ", "\n") for column in columns])
    axes.set_xlim(-0.15, len(columns) - 0.75)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    said = [
        f"{column}: {', '.join(_name(name) for name in sorted(names, key=rank.__getitem__))}"
        for column, rank in ranks.items()
    ]
    return Drawing(figure, f"Lines between orders, from the least to the most. {'; '.join(said)}.", ranks)


def _ranks(values: Mapping[str, float]) -> dict[str, int]:
    """Places in ascending order, from 0."""
    return {name: place for place, name in enumerate(sorted(values, key=values.__getitem__))}


@in_style
def phone(rows: Sequence[Mapping[str, Any]], fits: Mapping[str, tuple[float, float]]) -> Drawing:
    """The paper's Table 9: milliseconds on a Pixel 1 against multiply-adds, and a line for each variant.

    Args:
        rows: of :func:`mnv3lib.facts.published`.
        fits: variant to intercept in milliseconds and slope for a million multiply-adds.
    """
    figure, axes = new_figure(height=3.5)
    words = []
    for (variant, (start, slope)), colour in zip(fits.items(), (ACCENT, COLOURS["orange"]), strict=False):
        its = [row for row in rows if row["variant"] == variant]
        most = max(row["macs"]["printed"] for row in its)
        axes.plot([0, most], [start, start + slope * most], color=colour, linewidth=1.5)
        for marker, some in (
            ("o", [row for row in its if row["resolution"] == 224]),
            ("s", [row for row in its if row["resolution"] != 224]),
        ):
            xs, ys = [row["macs"]["printed"] for row in some], [row["pixel1"] for row in some]
            name = f"{variant.title()}, {'widths' if marker == 'o' else 'resolutions'}"
            axes.plot(xs, ys, marker, color=colour, markersize=6, label=name)
        words.append(f"{variant.title()}: {len(its)} networks, {start:.1f} ms and {slope:.2f} ms for each million")
    axes.set(xlim=(0, 380), ylim=(0, 82), xlabel="million multiply-adds", ylabel="ms on a Pixel 1")
    figure.legend(loc="outside upper center", ncols=2, handlelength=1, columnspacing=1)
    return Drawing(figure, f"Published times over multiply-adds, with a line for each variant. {'; '.join(words)}.")


@cache
def peers() -> tuple[dict[str, Any], ...]:
    """Published images a second of small networks on two processors, from ``_data/peers.csv``.

    The lines of the file that start with ``#`` say where it comes from. Only networks that were timed at the size at
    which they were evaluated are in it.
    """
    with PEERS.open(encoding="utf-8", newline="") as stream:
        lines = list(csv.DictReader(line for line in stream if not line.startswith("#")))
    return tuple({name: text if name == "model" else float(text) for name, text in line.items()} for line in lines)
