"""The figures of the chapter on the cost of a convolution; each returns a :class:`Drawing` with the words for it.

What "8 to 9 times" refers to: Howard et al., "MobileNets", arXiv:1704.04861, Section 3.1, and Sandler et al.,
"MobileNetV2", arXiv:1801.04381, Section 3.1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from math import log10
from typing import Any

from mnv3lib._checks import positive_int
from mnv3lib.cost import Profile
from mnv3lib.explore.drawing import PAPER, Drawing, in_style, new_figure
from mnv3lib.explore.palette import ACCENT, COLOURS, KINDS, REFERENCE

__all__ = ["connections", "grouped_and_separable", "intensities", "pairs_replaced", "savings", "shares"]

#: What layers are called and coloured by: kinds of the cost model that share a name.
_PARTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "expansion 1×1": ("expand", ("expand",)),
    "projection 1×1": ("project", ("project",)),
    "depthwise": ("depthwise", ("depthwise",)),
    "stem, last conv": ("stem", ("stem", "last conv")),
    "SE": ("se", ("squeeze", "excite", "pool")),
    "classifier": ("classifier", ("hidden", "logits")),
}
_INPUTS = 32  # channels that enter the convolutions of the flipbook


@in_style
def pairs_replaced(report: Profile) -> Drawing:
    """Million multiply-adds of each block as it is, and with one standard convolution for its two cheap ones.

    The standard convolution has the kernel and stride of the depthwise one and the outputs of the projection after it.
    """
    figure, axes = new_figure(height=3.1)
    as_is, standard = [], []
    for block in report.features[1:-2]:
        (look,), (mix,) = ([layer for layer in block if layer.kind == kind] for kind in ("depthwise", "project"))
        as_is.append(sum(layer.macs for layer in block))
        standard.append(as_is[-1] - look.macs - mix.macs + look.macs * mix.output[0])
    total = report.macs - sum(as_is) + sum(standard)
    numbers = range(1, len(as_is) + 1)
    outline: dict[str, Any] = {"facecolor": "none", "edgecolor": REFERENCE, "linewidth": 1.5}
    axes.bar(numbers, [macs / 1e6 for macs in standard], width=0.86, label="standard convolution", **outline)
    axes.bar(numbers, [macs / 1e6 for macs in as_is], width=0.62, color=ACCENT, label="as it is")
    axes.set_xticks([number for number in numbers if number % 2])
    axes.set(xlabel="block", ylabel="million multiply-adds")
    axes.legend(loc="upper left")
    most = max(numbers, key=lambda number: standard[number - 1])
    alt = (
        f"Bars of the multiply-adds of {len(as_is)} blocks, as they are and with a standard convolution for each pair "
        f"of cheap ones: {report.macs / 1e6:,.0f} million in the whole network against {total / 1e6:,.0f}. The "
        f"difference is largest in block {most}, {as_is[most - 1] / 1e6:.1f} against {standard[most - 1] / 1e6:.0f}."
    )
    return Drawing(figure, alt, {"as it is": report.macs, "standard": total}, scale=1.45)


@in_style
def connections(channels: int = 8, groups: int = 2) -> Drawing:
    """Which of ``channels`` inputs each of as many outputs sees, in a standard, grouped and depthwise convolution."""
    _divides(groups, channels, channels)
    (figure, axes), parts = new_figure(height=2.1, ncols=3), []
    panels = {"standard": 1, f"{groups} groups": groups, "depthwise": channels}
    for frame, (name, count) in zip(axes, panels.items(), strict=True):
        share = channels // count
        for output in range(channels):
            first = output // share * share
            cells = [(first + step + 0.06, 0.88) for step in range(share)]
            frame.broken_barh(cells, (output + 0.06, 0.88), color=KINDS["depthwise"] if share == 1 else ACCENT)
        frame.set(xlim=(0, channels), ylim=(channels, 0), aspect="equal", xticks=[], yticks=[], title=name)
        frame.set_xlabel("inputs")
        frame.spines[["top", "right"]].set_visible(True)
        parts.append(f"{name}: {channels * share} of {channels * channels} kernels")
    axes[0].set_ylabel("outputs")
    alt = f"Grids of {channels} outputs by {channels} inputs, a filled cell is a kernel. {'; '.join(parts)}."
    return Drawing(figure, alt)


def _divides(groups: int, inputs: int, outputs: int) -> None:
    positive_int("groups", groups)
    if inputs % groups or outputs % groups:
        raise ValueError(f"groups must divide {inputs} inputs and {outputs} outputs, got {groups!r}")


@in_style
def savings(kernels: Sequence[int], rows: Mapping[str, Sequence[tuple[int, int]]]) -> Drawing:
    """How many times cheaper a separable convolution is than a standard one, over its output channels.

    Args:
        kernels: sides of the square kernels, one curve each.
        rows: name of a network to the (kernel, output channels) of its blocks, drawn as points.
    """
    figure, axes = new_figure(height=3.6)
    widths = [2 ** (step / 8) for step in range(81)]  # up to 1024
    axes.axhspan(8, 9, color=REFERENCE, alpha=0.35, linewidth=0)
    axes.annotate("8 to 9", (1.1, 8.5), va="center")
    parts = []
    for kernel, line in zip(kernels, ("-", "--", ":"), strict=False):
        heights = [_saving(kernel, width) for width in widths]
        axes.plot(widths, heights, color=COLOURS["orange"], linestyle=line, label=f"{kernel}×{kernel}")
        parts.append(f"{kernel}×{kernel} from {_saving(kernel, 1):.1f} at 1 to {_saving(kernel, 1024):.1f} at 1024")
    for (name, points), marker, size, fill in zip(rows.items(), "o^", (5, 9), ("full", "none"), strict=False):
        heights = [_saving(kernel, width) for kernel, width in points]
        style = {"marker": marker, "markersize": size, "fillstyle": fill, "color": ACCENT, "linestyle": ""}
        axes.plot([width for _, width in points], heights, label=name, **style)
        inside = sum(8 <= height <= 9 for height in heights)
        parts.append(f"{inside} of the {len(points)} blocks of {name} lie between 8 and 9")
    axes.set_xscale("log")
    axes.set_xticks([1, 4, 16, 64, 256, 1024], ["1", "4", "16", "64", "256", "1024"])
    axes.minorticks_off()
    axes.set(xlabel="output channels", ylabel="times cheaper", ylim=(0, max(k * k for k in kernels)))
    axes.legend(loc="upper left")
    return Drawing(figure, f"Curves of the saving over output channels, logarithmic axis: {'; '.join(parts)}.")


def _saving(kernel: int, outputs: float) -> float:
    return 1 / (1 / outputs + 1 / kernel**2)


class Bars:
    """Two pairs of bars as inline SVG of 2 kB, small enough for a page to carry one for every position of a slider."""

    def __init__(self, body: str, alt: str, data: Mapping[str, Any]) -> None:
        self.alt = alt
        self.data = data
        self._body = body

    def _repr_svg_(self) -> str:
        return (
            f'<svg class="mnv3-figure" role="img" aria-label="{escape(self.alt)}" viewBox="0 0 330 196" '
            'width="528" height="314" font-size="12" font-family="system-ui, sans-serif" '
            'style="max-width:100%;height:auto;display:block;margin:0 auto" '
            f'fill="currentColor" xmlns="http://www.w3.org/2000/svg">{self._body}</svg>'
        )

    def __repr__(self) -> str:
        return self.alt


def grouped_and_separable(kernel: int, outputs: int, groups: int, side: int) -> Bars:
    """Multiply-adds and parameters of a convolution with ``groups`` against a separable one, 32 channels in.

    Stride 1, padded, without bias or batch norm; ``groups=1`` is the standard convolution. The axes, logarithmic, do
    not depend on the arguments.

    Args:
        kernel: side of the square kernel.
        outputs: channels that leave, a multiple of ``groups``.
        groups: of the first convolution, a divisor of 32.
        side: of the square map, in places.
    """
    for key, given in {"kernel": kernel, "outputs": outputs, "side": side}.items():
        positive_int(key, given)
    _divides(groups, _INPUTS, outputs)
    name = "standard" if groups == 1 else f"{groups} groups"
    one, other = kernel**2 * _INPUTS * outputs // groups, kernel**2 * _INPUTS + _INPUTS * outputs
    macs = {name: side**2 * one, "separable": side**2 * other}
    parameters = {name: one, "separable": other}
    body = _panel(24, "multiply-adds", 3, macs) + _panel(124, "parameters", 1, parameters)
    times = f"{one / other:.3g}"
    body += f'<text x="320" y="14" text-anchor="end">ratio {times}</text>'
    alt = (
        f"Bars on logarithmic axes for {kernel}×{kernel} kernels, {_INPUTS} channels in, {outputs} out, "
        f"{side}×{side} positions: {name} {_short(macs[name])} multiply-adds and {_short(one)} parameters, separable "
        f"{_short(macs['separable'])} and {_short(other)}; the first over the second is {times}."
    )
    return Bars(body, alt, {"multiply-adds": macs, "parameters": parameters, "ratio": one / other})


def _panel(top: int, title: str, start: int, values: Mapping[str, int]) -> str:
    """A title, two bars and an axis from 10**start over seven powers of ten, 28 units each."""
    left, step = 72, 28
    numbers: list[str] = []
    parts = [f'<text x="{left}" y="{top - 10}" font-weight="600">{title}</text>']
    for power in range(0, 8, 2):
        x, label = left + step * power, _short(10 ** (start + power))
        parts.append(f'<path d="M{x} {top}v42" stroke="{REFERENCE}" stroke-opacity=".5"/>')
        parts.append(f'<text x="{x}" y="{top + 55}" text-anchor="middle">{label}</text>')
    for (name, value), y, colour in zip(values.items(), (top + 4, top + 23), (ACCENT, COLOURS["orange"]), strict=True):
        width = step * (log10(value) - start)
        parts.append(f'<rect x="{left}" y="{y}" width="{width:.1f}" height="14" fill="{colour}"/>')
        numbers.append(f'<text x="{left + width + 5:.1f}" y="{y + 11}">{_short(value)}</text>')
        parts.append(f'<text x="{left - 5}" y="{y + 11}" text-anchor="end">{name}</text>')
    # Outlined in the page's colour, so that no line of the grid crosses a number.
    parts.append(f'<g style="paint-order:stroke;stroke:{PAPER};stroke-width:5">{"".join(numbers)}</g>')
    return "".join(parts)


def _short(value: float) -> str:
    """A count in three digits and a unit: 544, 4.63 k, 21.7 M, 1.28 G."""
    unit, name = next(pair for pair in ((1e9, " G"), (1e6, " M"), (1e3, " k"), (1, "")) if value >= pair[0])
    return f"{value / unit:.3g}{name}"


@in_style
def shares(reports: Mapping[str, Profile]) -> Drawing:
    """Where each network does its multiply-adds: one bar a network, parts in per cent by kind of layer."""
    figure, axes = new_figure(height=2.5)
    data: dict[str, dict[str, float]] = {}
    for place, (network, report) in enumerate(reports.items()):
        left, data[network] = 0.0, {}
        for name, (key, kinds) in _PARTS.items():
            percent = 100 * sum(layer.macs for layer in report.layers if layer.kind in kinds) / report.macs
            axes.barh(place, percent, left=left, height=0.6, color=KINDS[key], label="" if place else name)
            left += percent
            data[network][name] = percent
    parts = [f"{network}: {', '.join(f'{k} {v:.1f} %' for k, v in split.items())}" for network, split in data.items()]
    axes.set_yticks(range(len(reports)), list(reports))
    axes.set(xlabel="% of the multiply-adds", xlim=(0, 100))
    figure.legend(loc="outside upper center", ncols=2, handlelength=1)
    return Drawing(figure, f"Bars of the fraction of multiply-adds by kind of layer. {'; '.join(parts)}.", data)


@in_style
def intensities(layers: Mapping[str, Sequence[tuple[float, float]]]) -> Drawing:
    """Multiply-adds for each value moved, over the multiply-adds of the layer, on logarithmic axes.

    Args:
        layers: "depthwise", "expand" or "project" to the (multiply-adds, values moved) of each layer of that kind.
    """
    (figure, axes), parts = new_figure(height=3.4), []
    names = {key: name for name, (key, _) in _PARTS.items()}
    for (kind, pairs), marker in zip(layers.items(), "os^", strict=False):
        ratios = [macs / moved for macs, moved in pairs]
        axes.scatter([macs / 1e6 for macs, _ in pairs], ratios, color=KINDS[kind], marker=marker, label=names[kind])
        parts.append(f"{names[kind]} from {min(ratios):.1f} to {max(ratios):.1f}")
    axes.loglog()
    axes.set_xticks([0.3, 1, 3, 10], ["0.3", "1", "3", "10"])
    axes.set_yticks([1, 3, 10, 30, 100], ["1", "3", "10", "30", "100"])
    axes.minorticks_off()
    axes.set(xlabel="million multiply-adds of the layer", ylabel="intensity", ylim=(1, 130))
    axes.legend(loc="lower right")
    return Drawing(figure, f"Points on logarithmic axes, multiply-adds for each value moved: {'; '.join(parts)}.")
