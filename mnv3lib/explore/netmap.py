"""The map of the network at the head of each chapter: one column a row of the table, drawn from the configuration.

The drawing is inline SVG whose horizontal measures are percentages and whose text is in pixels: it fills the page
from a phone to a desk without its letters growing or shrinking. Ink is the page's own text colour, so both themes
read well.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from html import escape
from itertools import groupby
from math import log2

from mnv3lib.config import MobileNetV3Config
from mnv3lib.cost import Layer, profile
from mnv3lib.explore.palette import ACCENT, KINDS, PAPER
from mnv3lib.explore.still import still

__all__ = ["NetworkMap"]

WIDTH, HEIGHT = 736, 158  # pixels; a narrower page squeezes the columns and not the letters
MIDDLE = 66  # the line all columns are centred on


class NetworkMap:
    """A drawing of ``config``; a notebook keeps it as SVG and as PNG.

    Columns stand for the stem, the bottlenecks in order, the last convolution and the classifier. The taller a
    column, the larger its feature map (logarithmic); the digit in it is the depthwise kernel, a dot above marks
    squeeze-and-excitation, and a filled column computes with h-swish, a pale one with ReLU. Below are the output
    channels and the side of the feature map.

    Args:
        config: what to draw.
        highlight: features to paint in the accent colour: 0 for the stem, rows from 1, then the last convolution and
            the classifier.
        name: what the drawing is called in its alternative text.
        resolution: side of the image in pixels.

    Attributes:
        alt: the drawing in words, for readers who do not see it.
        svg: the drawing.
    """

    def __init__(
        self, config: MobileNetV3Config, *, highlight: Collection[int] = (), name: str, resolution: int = 224
    ) -> None:
        features = profile(config, resolution).features
        unknown = sorted(set(highlight) - set(range(len(features))))
        if unknown:
            raise ValueError(f"highlight must hold integers from 0 to {len(features) - 1}, got {unknown[0]!r}")
        self.alt = _alt(config, features, highlight, name)
        self.svg = _svg(config, features, highlight, self.alt)

    def _repr_svg_(self) -> str:
        return self.svg

    def _repr_png_(self) -> tuple[bytes, dict[str, str | int]]:
        return still(self.svg), {"alt": self.alt, "width": WIDTH, "height": HEIGHT}

    def __repr__(self) -> str:
        return self.alt


def _side(feature: tuple[Layer, ...]) -> int:
    return feature[-1].output[1]


def _alt(
    config: MobileNetV3Config, features: tuple[tuple[Layer, ...], ...], highlight: Collection[int], name: str
) -> str:
    gates = sum(row.use_se for row in config.rows)
    swish = sum(row.activation == "HS" for row in config.rows)
    stages = [f"{side}²" for side, _ in groupby(map(_side, features[:-1]))]
    text = (
        f"Map of {name}: stem, {len(config.rows)} bottlenecks, last convolution and classifier; feature maps shrink "
        f"from {stages[0]} through {', '.join(stages[1:-1])} to {stages[-1]}; {gates} bottlenecks have "
        f"squeeze-and-excitation, {swish} use h-swish."
    )
    if highlight and len(highlight) < len(features):
        text += f" Highlighted: {', '.join(_names(sorted(highlight), len(features) - 1))}."
    return text


def _names(highlight: list[int], last: int) -> Iterator[str]:
    """The features in words, runs of blocks drawn together: "stem", "blocks 2 to 5"."""
    special = {0: "stem", last - 1: "last convolution", last: "classifier"}
    for _, run in groupby(enumerate(highlight), key=lambda pair: (pair[1] - pair[0], special.get(pair[1]))):
        indices = [index for _, index in run]
        first, final = indices[0], indices[-1]
        yield special.get(first) or (f"block {first}" if first == final else f"blocks {first} to {final}")


def _svg(
    config: MobileNetV3Config, features: tuple[tuple[Layer, ...], ...], highlight: Collection[int], alt: str
) -> str:
    columns = len(features)
    step = 100 / columns
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="mnv3-map" role="img" aria-label="{escape(alt)}" '
        f'width="{WIDTH}" height="{HEIGHT}" '
        'font-family="system-ui, sans-serif" font-size="11" text-anchor="middle" fill="currentColor" '
        f'style="max-width:100%;display:block;margin:0 auto;overflow:visible;background:{PAPER}">'
    ]
    for index, feature in enumerate(features):
        parts.extend(_column(config, index, feature, index in highlight, step))
    parts.extend(_brackets(features, step))
    return "".join([*parts, "</svg>"])


def _column(
    config: MobileNetV3Config, index: int, feature: tuple[Layer, ...], marked: bool, step: float
) -> Iterator[str]:
    row = config.rows[index - 1] if 0 < index <= len(config.rows) else None
    centre = (index + 0.5) * step
    height = 14 + 11 * log2(_side(feature))
    colour = ACCENT if marked else "currentColor"
    filled = (row.activation if row else config.activation) == "HS"
    opacity = (0.9 if marked else 0.3) if filled else (0.14 if marked else 0.05)
    yield (
        f'<rect x="{(index + 0.12) * step:.2f}%" y="{MIDDLE - height / 2:.1f}" width="{0.76 * step:.2f}%" '
        f'height="{height:.1f}" rx="2" fill="{colour}" fill-opacity="{opacity}" stroke="{colour}" '
        f'stroke-opacity="{1 if marked else 0.55}"/>'
    )
    if row is None:
        return
    ink = "#fff" if marked and filled else "currentColor"
    yield f'<text x="{centre:.2f}%" y="{MIDDLE + 4}" fill="{ink}">{row.kernel}</text>'
    if row.use_se:
        yield f'<circle cx="{centre:.2f}%" cy="{MIDDLE - height / 2 - 6:.1f}" r="3" fill="{KINDS["se"]}"/>'


def _brackets(features: tuple[tuple[Layer, ...], ...], step: float) -> Iterator[str]:
    """Below the columns: runs of equal width, then runs of equal resolution."""
    widths = [feature[-1].output[0] for feature in features[:-1]]
    yield from _runs([str(width) for width in widths], step, y=128)
    yield from _runs([str(_side(feature)) for feature in features[:-1]], step, y=152)


def _runs(labels: list[str], step: float, y: int) -> Iterator[str]:
    for label, run in groupby(range(len(labels)), key=labels.__getitem__):
        indices = list(run)
        start, end = (indices[0] + 0.15) * step, (indices[-1] + 0.85) * step
        yield (
            f'<line x1="{start:.2f}%" x2="{end:.2f}%" y1="{y - 12}" y2="{y - 12}" stroke="currentColor" '
            'stroke-opacity="0.45"/>'
            f'<text x="{(start + end) / 2:.2f}%" y="{y}">{label}</text>'
        )
