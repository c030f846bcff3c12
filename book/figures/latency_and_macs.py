"""The figures of the chapter on latency and multiply-adds: where time goes, how fast a core could be, tested claims.

Measured data come from :mod:`figures.speed`, one entry a processor; every figure takes one and names its processor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

from mnv3lib._checks import one_of
from mnv3lib.cost import Profile
from mnv3lib.deploy.roofline import Ceilings, floor
from mnv3lib.explore.drawing import Drawing, in_style, new_figure
from mnv3lib.explore.palette import ACCENT, COLOURS, KINDS, REFERENCE

__all__ = ["BOX", "changes", "fractions", "predictions", "roofline", "ways"]

#: Kinds of the cost model as the breakdown of a pass calls them; both halves of a gate are one layer there.
BOX = {
    "stem": "other convolution",
    "expand": "1×1 convolution",
    "project": "1×1 convolution",
    "last conv": "1×1 convolution",
    "depthwise": "depthwise convolution",
    "squeeze": "squeeze-and-excitation",
    "excite": "squeeze-and-excitation",
    "hidden": "linear",
    "logits": "linear",
}

_COLOURS = (ACCENT, COLOURS["orange"], COLOURS["green"], COLOURS["purple"])
_GIGA = 1e9
#: Kinds of the cost model that share a colour in the roofline, and what colours are called there.
_FAMILIES = {"squeeze": "se", "excite": "se", "hidden": "classifier", "logits": "classifier", "last conv": "stem"}
_NAMES = {"stem": "stem, last conv", "expand": "expansion", "project": "projection", "se": "SE"}


def ways(measured: Mapping[str, Any], **wanted: Any) -> dict[str, Mapping[str, Any]]:
    """Results of a benchmark by the way they ran, of those alone that have the wanted network or batch.

    Raises:
        ValueError: if there is none.
    """
    found = {
        one["way"]: one for one in measured["results"] if all(one.get(key) == value for key, value in wanted.items())
    }
    if not found:
        raise ValueError(f"wanted must be what was measured on {measured['cpu']}, got {wanted!r}")
    return found


@in_style
def changes(measured: Mapping[str, Any], variants: Mapping[str, str], sizes: Sequence[str]) -> Drawing:
    """Time of changed networks as multiples of the unchanged one's, a dot and its interval for each way to run.

    Args:
        measured: one processor's claims.
        variants: their names there to names in the figure.
        sizes: ``"large"``, ``"small"``, a panel each.
    """
    rows = len(variants)
    figure, axes = new_figure(
        height=1.3 + 0.2 * len(sizes) + 0.62 * rows * len(sizes), nrows=len(sizes), squeeze=False, sharex=True
    )
    words, data, ends = [], {}, [1.0]
    for frame, size in zip(axes[:, 0], sizes, strict=True):
        found = ways(measured, network=size)
        for place, (variant, name) in enumerate(variants.items()):
            said = []
            for number, (way, one) in enumerate(found.items()):
                line = next((line for line in one["lines"] if line["variant"] == variant), None)
                if line is None:
                    continue
                middle, low, high = line["ratio"]
                at = place + 0.19 * (number - (len(found) - 1) / 2)
                frame.plot([low, high], [at, at], color=_COLOURS[number], linewidth=2.5)
                frame.plot(
                    middle,
                    at,
                    "o",
                    color=_COLOURS[number],
                    markersize=5.5,
                    label="" if frame is not axes[0, 0] or place else way,
                )
                said.append(f"{way} {middle:.2f}")
                data[f"{size}, {variant}, {way}"] = (middle, low, high)
                ends += [low, high]
            counted = _line(found, variant)["macs_ratio"]
            ends.append(counted)
            frame.plot([counted] * 2, [place - 0.42, place + 0.42], color=REFERENCE, linewidth=2)
            words.append(f"{size.title()}, {name}: {', '.join(said)}; multiply-adds {counted:.2f}")
        frame.axvline(1, color=REFERENCE, linewidth=1, linestyle=":")
        frame.set_yticks(range(rows), list(variants.values()))
        frame.set(title=f"MobileNetV3-{size.title()}", ylim=(rows - 0.5, -0.5))
    if max(ends) < 2:
        margin = 0.04 * (max(ends) - min(ends))
        axes[-1, 0].set(xlim=(min(ends) - margin, max(ends) + margin))
    else:  # on a logarithmic axis a few times slower leaves room for a few per cent
        ticks = [tick for tick in (0.5, 0.7, 1, 1.5, 2, 3, 5) if 0.95 * min(ends) <= tick <= 1.05 * max(ends)]
        axes[-1, 0].set(xscale="log", xlim=(0.95 * min(ends), 1.05 * max(ends)))
        axes[-1, 0].set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes[-1, 0].minorticks_off()
    axes[-1, 0].set_xlabel("time, multiple of the network as it is")
    axes[0, 0].plot([], [], "|", color=REFERENCE, markersize=12, markeredgewidth=2, label="multiply-adds")
    figure.legend(loc="outside upper center", ncols=2, handlelength=1, columnspacing=1)
    alt = f"Dots with intervals, time against the network as it is, on {measured['cpu']}. {'. '.join(words)}."
    return Drawing(figure, alt, data)


def _line(found: Mapping[str, Mapping[str, Any]], variant: str) -> Mapping[str, Any]:
    """What the first way that ran a variant says of it."""
    return next(line for one in found.values() for line in one["lines"] if line["variant"] == variant)


@in_style
def fractions(counted: Mapping[str, float], timed: Mapping[str, float], *, title: str, cpu: str) -> Drawing:
    """Two bars for each kind of layer: its fraction of the multiply-adds and of the time, in per cent.

    Args:
        counted: kind to fraction, from 0 to 1; a kind that is not there has none.
        timed: kind to fraction, in the order of the figure.
        title: above it.
        cpu: that was timed.
    """
    figure, axes = new_figure(height=1.4 + 0.42 * len(timed))
    words = []
    for place, (kind, fraction) in enumerate(timed.items()):
        work = 100 * counted.get(kind, 0.0)
        axes.barh(place - 0.2, work, height=0.38, color=REFERENCE, label="" if place else "multiply-adds")
        axes.barh(place + 0.2, 100 * fraction, height=0.38, color=ACCENT, label="" if place else "time")
        words.append(f"{kind} {work:.0f} % of the multiply-adds and {100 * fraction:.0f} % of the time")
    axes.set_yticks(range(len(timed)), [_SHORT.get(kind, kind) for kind in timed])
    axes.invert_yaxis()
    axes.set(title=title, xlabel="%")
    axes.legend(loc="lower right")
    return Drawing(figure, f"Bars in pairs, timed on {cpu}. {'; '.join(words)}.", {"time": timed, "macs": counted})


_SHORT = {
    "1×1 convolution": "1×1",
    "depthwise convolution": "depthwise",
    "other convolution": "stem",
    "squeeze-and-excitation": "SE",
}


@in_style
def roofline(report: Profile, ceilings: Ceilings, *, batch: int, maps: str, name: str) -> Drawing:
    """The layers of a network under the roofs of a core: how fast each could be at most.

    Args:
        report: of the cost model.
        ceilings: of the core.
        batch: images at a time.
        maps: ``"L2 cache"`` or ``"memory"``: where the feature maps come from and go to.
        name: of the network.
    """
    source = {"L2 cache": ceilings.second, "memory": ceilings.memory}
    slow = source[one_of("maps", maps, tuple(source))]
    found = floor(report, Ceilings(**{**vars(ceilings), "second": slow}), batch=batch)
    layers = [one for one in found if one.layer.macs]
    figure, axes = new_figure(height=4.3)
    drawn: dict[str, list[tuple[float, float]]] = {}
    for one in layers:
        kind = _FAMILIES.get(one.layer.kind, one.layer.kind)
        work = batch * one.layer.macs
        drawn.setdefault(kind, []).append((work / _values(one.layer, batch), work / one.seconds / _GIGA))
    roof = ceilings.multiply_adds / _GIGA
    for bandwidth, style in ((slow, "-"), (ceilings.third, ":")):
        ridge = 4 * ceilings.multiply_adds / bandwidth
        axes.plot([0.2, ridge, 1000], [0.05 * bandwidth / _GIGA, roof, roof], style, color=REFERENCE, zorder=1)
    for kind, dots in sorted(drawn.items(), key=lambda item: list(KINDS).index(item[0])):
        label = _NAMES.get(kind, kind)
        axes.plot(*zip(*dots, strict=True), "o", color=KINDS[kind], markersize=6, alpha=0.8, label=label)
    axes.set(xscale="log", yscale="log", xlim=(0.5, 400), ylim=(2, 110))
    axes.set_xticks([1, 10, 100], ["1", "10", "100"])
    axes.set_yticks([2, 5, 10, 20, 50, 100], ["2", "5", "10", "20", "50", "100"])
    axes.minorticks_off()
    axes.set(xlabel="multiply-adds per value moved", ylabel="billion multiply-adds a second")
    figure.legend(loc="outside upper center", ncols=3, handlelength=1, columnspacing=1)
    limited = [one for one in layers if one.traffic > one.arithmetic]
    total, waiting = (sum(one.seconds for one in some) for some in (layers, limited))
    axes.set_title(f"traffic limits {len(limited)} of {len(layers)} layers")
    alt = (
        f"Dots on logarithmic axes, a layer each, under a slope and a flat roof of {roof:.0f} billion multiply-adds a "
        f"second. {name}, batch {batch}, feature maps in {maps}: traffic limits {len(limited)} of {len(layers)} layers "
        f"and {100 * waiting / total:.0f} % of the floor."
    )
    data = {"dots": drawn, "limited": len(limited), "layers": len(layers), "fraction": waiting / total}
    return Drawing(figure, alt, data)


def _values(layer: Any, batch: int) -> int:
    """Values that a layer reads and writes: the weights once, the feature maps for every image."""
    maps = sum(channels * height * width for channels, height, width in (layer.input, layer.output))
    return int(layer.parameters + batch * maps)


@in_style
def predictions(panels: Mapping[str, Sequence[tuple[float, float]]], *, cpu: str) -> Drawing:
    """Predicted over measured time of many networks, a panel for each way to predict; on the line they agree.

    Args:
        panels: title to pairs of measured and predicted milliseconds.
        cpu: that was measured.
    """
    figure, axes = new_figure(height=2.1 * len(panels) + 0.6, nrows=len(panels), squeeze=False, sharex=True)
    words = []
    for frame, (title, pairs) in zip(axes[:, 0], panels.items(), strict=True):
        if not all(isfinite(value) for pair in pairs for value in pair):
            raise ValueError(f"panels[{title!r}] must hold finite numbers, got {pairs!r}")
        frame.plot([1, 30], [1, 30], color=REFERENCE, linewidth=1.5)
        frame.plot(*zip(*pairs, strict=True), "o", color=ACCENT, markersize=4.5, alpha=0.7)
        frame.set(xscale="log", yscale="log", xlim=(1.5, 30), ylim=(0.1, 40), title=title, ylabel="predicted, ms")
        frame.set_yticks([1, 10], ["1", "10"])
        frame.set_xticks([2, 5, 10, 20], ["2", "5", "10", "20"])
        frame.minorticks_off()
        ratios = [predicted / measured for measured, predicted in pairs]
        words.append(f"{title}: from {min(ratios):.2f} to {max(ratios):.2f} times the measured time")
    axes[-1, 0].set_xlabel("measured, ms")
    return Drawing(figure, f"Dots on logarithmic axes, a network each, on {cpu}. {'; '.join(words)}.")
