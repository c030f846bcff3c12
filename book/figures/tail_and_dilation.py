"""The figures of chapter 8: what one value sees, how a dilated kernel looks around, and what the old tail cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from figures.jpeg import Photographs, jpeg
from IPython.display import Image as Shown
from matplotlib.patches import Rectangle
from PIL import Image, ImageDraw, ImageFont
from torch.nn.functional import avg_pool2d

from mnv3lib.explore.drawing import Drawing, in_style, new_figure
from mnv3lib.explore.palette import ACCENT, COLOURS, REFERENCE

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["field_on_photo", "fields_on_photo", "gradient_mass", "layer_bars", "taps"]

_CANVAS = 720  # pixels of the image, so that the largest field still fits and the scale never moves
_TRAINED_AT = 224
_COARSEST = 32  # output stride of the last feature map
_ROOM = 12  # pixels beyond the largest square
_LETTERS = 25  # height of the names of the squares, in pixels of the photograph
_SHARPER = 1.5  # pixels of the picture for one of the photograph, so that lines and words are sharp
_NEIGHBOURS = 3  # positions drawn on each side of the value


def fields_on_photo(photo: Any, fields: Mapping[str, int], *, half: int) -> Shown:
    """Squares around one pixel of a photograph, all that a value depends on, in colour and at the photograph's size.

    Args:
        photo: uint8, (H, W, 3).
        fields: name of a layer to the side of its square in pixels, the largest last.
        half: side of one more square, dashed.
    """
    height, width = photo.shape[:2]
    row, column = (side // 2 // _COARSEST * _COARSEST for side in (height, width))
    above = max(0, max(fields.values()) // 2 - row + _ROOM)
    below = max(0, row + max(fields.values()) // 2 - height + _ROOM)
    canvas = Image.new("RGB", (width, above + height + below), REFERENCE)
    canvas.paste(Image.fromarray(photo), (0, above))
    canvas = canvas.resize([round(_SHARPER * side) for side in canvas.size], Image.Resampling.LANCZOS)
    drawn = ImageDraw.Draw(canvas)

    def square(side: int, colour: str, dash: int, step: int) -> tuple[int, int]:
        left, top = (round(_SHARPER * (at - side // 2)) for at in (column, row + above))
        length = round(_SHARPER * side)
        for start in range(0, length, step):
            end = min(start + dash, length)
            for y in (top, top + length):
                drawn.line([(left + start, y), (left + end, y)], fill=colour, width=4)
            for x in (left, left + length):
                drawn.line([(x, top + start), (x, top + end)], fill=colour, width=4)
        return left, top

    font = ImageFont.load_default(size=round(_LETTERS * _SHARPER))
    square(_TRAINED_AT, COLOURS["sky"], 4, 10)
    square(half, "white", 14, 23)
    for name, side in fields.items():
        left, top = square(side, COLOURS["orange"], canvas.width, canvas.width)
        inside = side > _TRAINED_AT
        # Above a small square, and above a broken one that lies where the name would be.
        beyond = max((other - side for other in (_TRAINED_AT, half) if 0 <= other - side < 2 * _LETTERS), default=0)
        at = (left + 6, top + 4 if inside else top - 4 - round(_SHARPER * beyond / 2))
        drawn.text(at, f"{name}: {side}", fill=COLOURS["yellow"], font=font, stroke_width=2, stroke_fill="black",
                   anchor="la" if inside else "ld")  # fmt: skip
    said = ", ".join(f"{name} {side}" for name, side in fields.items())
    return jpeg(canvas, f"A photograph and squares around one pixel of it: {said} pixels; dashed {half}.")


@in_style
def field_on_photo(photo: Tensor, *, name: str, receptive_field: int, output_stride: int, shrink: int = 2) -> Drawing:
    """What the value in the middle of a feature map sees of a photograph, with its neighbours there.

    Args:
        photo: grey, (H, W), values from 0 to 1.
        name: of the layer, in words.
        receptive_field: side of the square that the value depends on, in pixels.
        output_stride: pixels from one value to the next.
        shrink: side of the squares of pixels that are drawn as one, to keep the page small.
    """
    height, width = photo.shape
    row, column = (side // 2 // _COARSEST * _COARSEST for side in (height, width))  # a position on every feature map
    figure, axes = new_figure(height=4.4)
    coarse = avg_pool2d(photo[None], shrink)[0]
    right, bottom = (side // shrink * shrink for side in (width, height))
    axes.imshow(coarse.numpy(), cmap="gray", vmin=0, vmax=1, interpolation="none", extent=(0, right, bottom, 0))

    def square(side: int, **style: Any) -> None:
        corner = (column + 0.5 - side / 2, row + 0.5 - side / 2)  # the middle of the pixel that the value is over
        axes.add_patch(Rectangle(corner, side, side, fill=False, zorder=3, **style))

    square(_TRAINED_AT, edgecolor=COLOURS["sky"], linewidth=2, linestyle=":")
    square(receptive_field, edgecolor=COLOURS["orange"], linewidth=3)
    steps = [step * output_stride + 0.5 for step in range(-_NEIGHBOURS, _NEIGHBOURS + 1)]
    xs, ys = zip(*((column + x, row + y) for x in steps for y in steps), strict=True)
    dot = min(3.5, 0.2 * output_stride)  # points, so that neighbours do not touch
    axes.scatter(xs, ys, s=dot**2, color=COLOURS["yellow"], edgecolors="black", linewidths=dot / 7, zorder=2)
    axes.set(xlim=(column - _CANVAS / 2, column + _CANVAS / 2), xticks=[], yticks=[])
    axes.set_ylim(row + _CANVAS / 2, row - _CANVAS / 2)
    axes.spines[:].set_visible(False)
    axes.set_title(f"{name} sees {receptive_field} px, one value every {output_stride}")
    if receptive_field > max(height, width):
        against = "larger than the photograph on all sides"
    elif receptive_field > min(height, width):
        against = "higher than the photograph"
    else:
        against = f"{receptive_field**2:,} of the photograph's {height * width:,} pixels"
    alt = (
        f"A photograph of {width}×{height} pixels, and over it the square that one value of {name} depends on: "
        f"{receptive_field} pixels a side, {against}. Dots mark the value and its neighbours on the feature map, "
        f"{output_stride} pixels apart. A dotted square of {_TRAINED_AT} pixels is the image a classifier gets."
    )
    return Photographs(figure, alt, quality=60)


@in_style
def gradient_mass(curves: Mapping[str, Sequence[float]], *, receptive_field: int) -> Drawing:
    """How much of the gradient of one value lies within a square around it, over the side of that square.

    Args:
        curves: name to fractions from 0 to 1, the first for a square of 1 pixel, then of 3, 5 and so on.
        receptive_field: the side beyond which there is nothing.
    """
    figure, axes = new_figure(height=3.3)
    even = [(side / receptive_field) ** 2 for side in range(1, receptive_field + 1)]
    axes.plot(range(1, receptive_field + 1), even, color=REFERENCE, linewidth=1.5, linestyle=":", label="if even")
    parts = []
    for (name, shares), colour in zip(curves.items(), (ACCENT, COLOURS["orange"]), strict=False):
        sides = range(1, 2 * len(shares), 2)
        # Every fourth: of more than 127 points Matplotlib drops some by their last bits, others on other processors.
        axes.plot(sides[::4], shares[::4], color=colour, label=name)
        half, most = (next(s for s, share in zip(sides, shares, strict=True) if share >= q) for q in (0.5, 0.95))
        parts.append(f"{name}: half within about {round(half, -1)} pixels, 95 % within {round(most, -1)}")
    axes.axvline(_TRAINED_AT, color=REFERENCE, linewidth=1)
    axes.annotate(f"{_TRAINED_AT}", (_TRAINED_AT, 0.02), (4, 0), textcoords="offset points")
    axes.set(xlabel="side of the square, pixels", ylabel="fraction of the gradient", ylim=(0, 1.02))
    axes.set(xlim=(0, receptive_field), xticks=[0, 150, 300, 450, 600][: 1 + receptive_field // 148])
    axes.legend(loc="lower right")
    alt = (
        f"Fraction of the gradient's magnitude within a centred square, over its side up to {receptive_field} pixels. "
        f"{'; '.join(parts)}. Spread evenly, half would take {receptive_field * 0.5**0.5:.0f} pixels."
    )
    return Drawing(figure, alt)


def reached(rates: Sequence[int], spacings: Sequence[int], *, kernel: int = 3) -> list[list[tuple[int, int]]]:
    """The taps behind one value at position 0, layer by layer from the last back: pairs (position, position it reads).

    Args:
        rates: dilation of each layer, first layer first.
        spacings: distance between neighbouring inputs of each layer, in positions of the first feature map.
        kernel: side of all kernels.
    """
    half = kernel // 2
    layers, places = [], {0}
    for rate, spacing in zip(reversed(rates), reversed(spacings), strict=True):
        lines = [(place, place + tap * rate * spacing) for place in sorted(places) for tap in range(-half, half + 1)]
        layers.append(lines)
        places = {read for _, read in lines}
    return layers


@in_style
def taps(chains: Mapping[str, tuple[Sequence[int], Sequence[int]]], *, kernel: int = 3) -> Drawing:
    """What one value reads through two layers or more on a line, one panel a chain.

    Args:
        chains: name to the layers' rates and to the spacings of their inputs, first layer first.
        kernel: side of all kernels.
    """
    figure, axes = new_figure(height=1.45 * len(chains), nrows=len(chains), squeeze=False, sharex=True)
    parts = []
    span = 1 + max(
        read for rates, spacings in chains.values() for _, read in reached(rates, spacings, kernel=kernel)[-1]
    )
    for frame, (name, (rates, spacings)) in zip(axes[:, 0], chains.items(), strict=True):
        layers = reached(rates, spacings, kernel=kernel)
        top = len(layers)
        for level, lines in enumerate(layers):
            for upper, lower in lines:
                frame.plot([upper, lower], [top - level, top - level - 1], color=ACCENT, linewidth=1.2)
        for level, grid in enumerate([spacings[-1], *reversed(spacings)]):
            places = [place for place in range(-span, span + 1) if place % grid == 0]
            frame.scatter(places, [top - level] * len(places), s=14, color=REFERENCE, zorder=2)
        used = [{0}, *({read for _, read in lines} for lines in layers)]
        for level, places_used in enumerate(used):
            frame.scatter(sorted(places_used), [top - level] * len(places_used), s=34, color=ACCENT, zorder=3)
        frame.set(title=name, xticks=[], yticks=[], xlim=(-span - 0.5, span + 0.5), ylim=(-0.4, top + 0.4))
        frame.spines[:].set_visible(False)
        read = sorted(used[-1])
        parts.append(f"{name} reads {len(read)} positions from {read[0]} to {read[-1]}".replace("-", "−"))
    alt = f"What one value reads through layers on a line: {'; '.join(parts)}."
    return Drawing(figure, alt)


@in_style
def layer_bars(networks: Mapping[str, Mapping[str, int]]) -> Drawing:
    """Million multiply-adds of a few layers, one panel a network, all on one scale.

    Args:
        networks: name to its layers, each a name and multiply-adds.
    """
    counts = [len(layers) for layers in networks.values()]
    figure, axes = new_figure(
        height=0.9 + 0.36 * sum(counts) + 0.3 * len(counts), nrows=len(counts), squeeze=False, sharex=True,
        gridspec_kw={"height_ratios": counts},
    )  # fmt: skip
    parts, data = [], {}
    for frame, (name, layers), colour in zip(axes[:, 0], networks.items(), (REFERENCE, ACCENT), strict=False):
        millions = [macs / 1e6 for macs in layers.values()]
        frame.barh(range(len(layers)), millions, color=colour, height=0.7)
        for place, value in enumerate(millions):
            frame.annotate(f"{value:.1f}", (value, place), (4, 0), textcoords="offset points", va="center")
        frame.set_yticks(range(len(layers)), list(layers))
        frame.invert_yaxis()
        frame.set_title(f"{name}: {sum(millions):.1f} million")
        listed = ", ".join(f"{layer} {value:.1f}" for layer, value in zip(layers, millions, strict=True))
        parts.append(f"{name}, {sum(millions):.1f} in all: {listed}")
        data[name] = {"in all": sum(millions), **dict(zip(layers, millions, strict=True))}
    top = max(macs for layers in networks.values() for macs in layers.values()) / 1e6
    axes[-1, 0].set(xlabel="million multiply-adds", xlim=(0, 1.24 * top))
    return Drawing(figure, f"Bars of million multiply-adds, a layer each. {'; '.join(parts)}.", data)
