"""A matplotlib figure as the book shows it: inline SVG in the page's own ink, with its words beside it."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable, Mapping
from functools import wraps
from html import escape
from math import log10
from typing import Any, ParamSpec, TypeVar

from matplotlib import rc_context
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from mnv3lib._checks import positive_real
from mnv3lib.explore.palette import PAPER
from mnv3lib.explore.still import still

__all__ = [
    "ON_PAPER",
    "PAPER",
    "WIDTH",
    "Drawing",
    "in_style",
    "name_powers",
    "new_figure",
    "power_of_ten",
    "svg_opening",
]

P = ParamSpec("P")
R = TypeVar("R")

WIDTH = 5.0  # inches; at 96 pixels an inch the 12-point text is still 11 pixels when a phone shrinks the figure
_INK = "#010203"  # stands for the page's text colour until the SVG is written
_PAPER = "#040506"  # stands for the page's colour
#: The box of an annotation that lies on lines, so that they do not cross it.
ON_PAPER: Any = {"boxstyle": "square,pad=0.1", "facecolor": _PAPER, "edgecolor": "none"}

_STYLE: Any = {
    "font.size": 12,
    "axes.titlesize": 12,
    "axes.titlelocation": "left",
    "axes.labelsize": 12,
    "xtick.labelsize": 12,
    "ytick.labelsize": 12,
    "legend.fontsize": 12,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "lines.linewidth": 2,
    "svg.fonttype": "none",
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), _INK),
    **dict.fromkeys(("figure.facecolor", "axes.facecolor", "savefig.facecolor"), "none"),
}


def in_style(function: Callable[P, R]) -> Callable[P, R]:
    """Run a plotting function with the book's settings, so that legends and annotations follow them too."""

    @wraps(function)
    def styled(*args: P.args, **kwargs: P.kwargs) -> R:
        with rc_context(_STYLE):
            return function(*args, **kwargs)

    return styled


def new_figure(height: float = 3.0, width: float = WIDTH, **subplots: Any) -> tuple[Figure, Any]:
    """A figure, in inches, and its axes; keywords as in :meth:`matplotlib.figure.Figure.subplots`."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(**subplots)


def power_of_ten(exponent: int) -> str:
    """10⁻⁴ in one run of text, whose raised digits a phone does not shrink below the others; 1 and 10 as they are.

    >>> [power_of_ten(exponent) for exponent in (-4, 0, 1, 12)]
    ['10⁻⁴', '1', '10', '10¹²']
    """
    return str(10**exponent) if exponent in (0, 1) else f"10{str(exponent).translate(_RAISED)}"


_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def name_powers(axis: Axis) -> None:
    """Write the powers of ten at a logarithmic axis as :func:`power_of_ten` does."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: power_of_ten(round(log10(value)))))


def _short(number: re.Match[str]) -> str:
    return f"{float(number.group()):.2f}".rstrip("0").rstrip(".")


def svg_opening(alt: str, inner: tuple[float, float], shown: tuple[int, int]) -> str:
    """The opening tag of a figure on a page.

    Args:
        alt: the figure in words.
        inner: width and height in the units of what is drawn.
        shown: width and height in pixels, where the page is wide enough.
    """
    return (
        f'<svg class="mnv3-figure" role="img" aria-label="{escape(alt)}" viewBox="0 0 {inner[0]:g} {inner[1]:g}" '
        f'width="{shown[0]}" height="{shown[1]}" '
        f'style="max-width:100%;height:auto;display:block;margin:0 auto;background:{PAPER}" '
        'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">'
    )


class Drawing:
    """A figure together with the text that says what there is to see in it.

    A notebook keeps it as SVG, as PNG for where nothing else is shown before it is run, and as the alternative text,
    which nbval compares whenever the notebook is validated. On a page of the book the SVG follows the theme.

    Args:
        figure: made by ``new_figure``.
        alt: composed from the numbers that were plotted.
        data: these numbers, by what they are numbers of, to be read instead of the words or the curves.
        scale: the factor by which the figure is shown larger than its inches, letters included, where the page is wide
            enough.
    """

    def __init__(self, figure: Figure, alt: str, data: Mapping[str, Any] | None = None, *, scale: float = 1.0) -> None:
        self.figure = figure
        self.alt = alt
        self.data = dict(data or {})
        self.scale = positive_real("scale", scale)

    def _pixels(self, scale: float = 1.0) -> tuple[int, int]:
        width, height = self.figure.get_size_inches()
        return round(96 * scale * width), round(96 * scale * height)

    def _repr_svg_(self) -> str:
        buffer = io.StringIO()
        salt = hashlib.sha256(self.alt.encode()).hexdigest()
        with rc_context(_STYLE | {"svg.hashsalt": salt}):
            self.figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
        svg = buffer.getvalue()
        svg = svg[svg.index("<svg") :].replace(_INK, "currentColor").replace(_PAPER, PAPER)
        svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
        # A hundredth of a point is less than anybody sees; six decimals make the files of a book a third larger.
        svg = re.sub(r' d="[^"]*"', lambda path: re.sub(r"-?\d+\.\d{3,}", _short, path.group()), svg)
        svg = re.sub(r"font-family: [^;\"]*", "font-family: system-ui, sans-serif", svg)
        (inner_width, inner_height), (width, height) = self._pixels(), self._pixels(self.scale)
        opening = svg_opening(self.alt, (inner_width * 0.75, inner_height * 0.75), (width, height))
        return re.sub(r"<svg[^>]*>", opening, svg, count=1)

    def _repr_png_(self) -> tuple[bytes, dict[str, Any]]:
        width, height = self._pixels(self.scale)
        return still(self._repr_svg_()), {"alt": self.alt, "width": width, "height": height}

    def __repr__(self) -> str:
        return self.alt
