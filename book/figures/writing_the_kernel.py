"""The figures of the chapter on the engine's kernels: steps over the floor, and two players of tiles and registers.

The players compute with small whole numbers, so that every state that they show can be checked on paper.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from figures.faster_inference import precision_of
from figures.kernel_steps import DEPTHWISE, ENGINE, POINTWISE

from mnv3lib._checks import one_of
from mnv3lib.explore.drawing import Drawing, in_style, new_figure
from mnv3lib.explore.palette import ACCENT, COLOURS, REFERENCE

__all__ = ["NAMES", "ROW_STEPS", "TILE_STEPS", "Sketch", "decisions", "depthwise_row", "engine_files",
           "register_tile", "tallest", "tile_choices", "times_the_floor"]  # fmt: skip

#: What the steps are called.
NAMES = {
    "PyTorch": "PyTorch",
    "naive": "1 loops",
    "contiguous": "2 contiguous",
    "vectors": "3 vectors",
    "tiles": "4 tiles",
    "packed": "5 packed",
    "fused": "6 fused",
    "depthwise_naive": "loops",
    "depthwise_contiguous": "contiguous",
    "depthwise_vectors": "vectors",
    "depthwise_rows": "taps in registers",
}
#: Where the chapter explains each file of the engine, in the order of reading.
EXPLAINED = {
    "layout.h": "steps 3 and 4",
    "matmul.h": "steps 4 to 6",
    "depthwise.h": "the depthwise kernel",
    "stem.h": "the engine",
    "reading.py": "the engine",
    "network.h": "the engine",
    "plan.cpp": "the engine",
    "build.py": "the engine",
    "__init__.py": "the engine",
    "ceilings.cpp": "the floor",
}
#: Cycles until the sum of a multiply-add is there, and how many can begin in a cycle, on most x86 and large Arm cores.
LATENCY, UNITS = 4, 2


@in_style
def times_the_floor(result: Mapping[str, Any], *, cpu: str) -> Drawing:
    """Time of PyTorch and of each step as a multiple of the layer's floor, on a logarithmic axis that starts at it.

    Args:
        result: of one layer, as ``benchmarks/kernel_steps.py`` writes it.
        cpu: the processor's name.
    """
    measured = {line["step"]: line["milliseconds"] / result["floor_ms"] for line in result["lines"]}
    times = {name: measured[name] for name in ("PyTorch", *POINTWISE, *DEPTHWISE) if name in measured}
    last = list(times)[-1]
    figure, axes = new_figure(height=0.9 + 0.36 * len(times))
    for at, (name, ratio) in enumerate(times.items()):
        colour = COLOURS["orange"] if name == last else REFERENCE if name == "PyTorch" else ACCENT
        axes.barh(at, ratio - 1, left=1, height=0.66, color=colour)
        axes.annotate(f"{ratio:.3g}×", (max(ratio, 1), at), (5, 0), textcoords="offset points", va="center")
    axes.axvline(1, color=REFERENCE, linestyle="--", linewidth=1.5)
    axes.set_xscale("log")
    axes.set_xticks([1, 3, 10, 30, 100], ["floor", "3×", "10×", "30×", "100×"])
    axes.minorticks_off()
    axes.set_yticks(range(len(times)), [NAMES[name] for name in times])
    axes.invert_yaxis()
    axes.set(xlim=(0.9, 320), xlabel="time over the floor")
    said = ", ".join(f"{NAMES[name]} {ratio:.3g}" for name, ratio in times.items())
    alt = f"Bars on a logarithmic axis, times as multiples of the floor, on one core of the {cpu}: {said}."
    return Drawing(figure, alt, times)


def tallest(panels: int, registers: int) -> int:
    """Pixels of the engine's tile of so many panels: ``tallest`` in ``matmul.h``."""
    return min(14, (registers - 1 - panels) // panels)


@in_style
def tile_choices(registers: int) -> Drawing:
    """Multiply-adds for each load of tiles by positions and panels; left blank where the registers do not hold them.

    A step over one input channel loads a vector of weights for each panel and a number for each position. Grey: fewer
    sums than a processor has multiply-adds under way.
    """
    widest, highest, need = 6, 14, LATENCY * UNITS
    figure, axes = new_figure(height=2.9)
    found: dict[tuple[int, int], float] = {}
    ours = [(tallest(panels, registers), panels) for panels in (1, 2, 3)]
    for panels in range(1, widest + 1):
        for pixels in range(1, highest + 1):
            sums = pixels * panels
            if sums + panels + 1 > registers:
                continue
            found[pixels, panels] = ratio = sums / (pixels + panels)
            few = sums < need
            axes.barh(panels, 0.9, left=pixels - 0.45, height=0.86, color=REFERENCE if few else ACCENT, alpha=0.35)
            if (pixels, panels) in ours:
                axes.barh(panels, 0.9, left=pixels - 0.45, height=0.86, color="none", linewidth=2.5,
                          edgecolor=COLOURS["vermilion"])  # fmt: skip
            axes.annotate(f"{ratio:.1f}", (pixels, panels), ha="center", va="center", size=11)
    axes.set(xlim=(0.4, highest + 0.6), ylim=(widest + 0.6, 0.4), xlabel="positions of a tile", ylabel="panels")
    axes.set_xticks(range(2, highest + 1, 2))
    axes.set_yticks(range(1, widest + 1))
    best = max(found, key=lambda tile: found[tile])
    alt = (
        f"A grid of tiles, positions by panels, that {registers} registers hold, with multiply-adds for each load. "
        f"{best[0]} positions × {best[1]} panels have most, {found[best]:.1f}. Framed, the engine's: "
        + ", ".join(f"{pixels}×{panels} with {found[pixels, panels]:.1f}" for pixels, panels in ours) + "."
    )  # fmt: skip
    return Drawing(figure, alt, {"loads": found, "ours": ours})


class Sketch:
    """A small inline SVG, 330 units wide."""

    def __init__(self, body: str, height: int, alt: str, data: Mapping[str, Any]) -> None:
        self.alt, self.data, self._body, self._height = alt, data, body, height

    def _repr_svg_(self) -> str:
        return (
            f'<svg class="mnv3-figure" role="img" aria-label="{escape(self.alt)}" viewBox="0 0 330 {self._height}" '
            f'width="495" height="{self._height * 3 // 2}" font-size="12" font-family="system-ui, sans-serif" '
            'style="max-width:100%;height:auto;display:block;margin:0 auto" '
            f'fill="currentColor" xmlns="http://www.w3.org/2000/svg">{self._body}</svg>'
        )

    def __repr__(self) -> str:
        return self.alt


_IN, _LANES, _PANELS, _TALL, _TILES = 4, 4, 2, 3, 2
_STAGES = _IN + 2  # the bias, one for each input channel, and the end
#: Stops of ``register_tile``, as a slider shows them.
TILE_STEPS = tuple(
    f"tile {tile}, {stage}" for tile in range(_TILES) for stage in ("bias", *(f"k = {k}" for k in range(_IN)), "store")
)
_PIXELS = [[(3 * p + k + 1) % 4 for k in range(_IN)] for p in range(_TALL * _TILES)]
_WEIGHTS = [[(k + 2 * n) % 5 - 2 for n in range(_PANELS * _LANES)] for k in range(_IN)]
_BIAS = [n % 3 for n in range(_PANELS * _LANES)]


def register_tile(step: str) -> Sketch:
    """A matrix product by tiles: 4 input channels, 6 positions, 2 panels of 4 output channels, tiles of 3 positions.

    Args:
        step: one of ``TILE_STEPS``.
    """
    tile, stage = divmod(TILE_STEPS.index(one_of("step", step, TILE_STEPS)), _STAGES)
    k = stage - 1 if 0 < stage <= _IN else None
    products = min(stage, _IN)  # that the sums of this tile hold
    sums = {
        p: [_BIAS[n] + sum(_PIXELS[p][i] * _WEIGHTS[i][n] for i in range(products)) for n in range(_PANELS * _LANES)]
        for p in range(tile * _TALL, (tile + 1) * _TALL)
    }
    done = {
        p: [_BIAS[n] + sum(x * w[n] for x, w in zip(_PIXELS[p], _WEIGHTS, strict=True)) for n in range(len(_BIAS))]
        for p in range((tile + (stage == _STAGES - 1)) * _TALL)
    }
    parts = [_text(110, 14, "weights: a line for each k"), _text(4, 118, "input"), _text(110, 118, "results")]
    for i, row in enumerate(_WEIGHTS):
        parts.append(_text(104, 36 + 19 * i, f"k = {i}", anchor="end"))
        parts += _vectors(110, 22 + 19 * i, row, COLOURS["orange"] if i == k else None)
    for p, numbers in enumerate(_PIXELS):
        y = 126 + 20 * p
        for i, number in enumerate(numbers):
            parts.append(_cell(4 + 21 * i, y, number, COLOURS["green"] if i == k and p in sums else None, width=20))
        if p in done:
            parts += _vectors(110, y, done[p], REFERENCE)
        elif p in sums:
            parts += _vectors(110, y, sums[p], ACCENT)
        else:
            parts += _vectors(110, y, [None] * len(_BIAS), None)
    held = _TALL * _PANELS
    doing = {
        0: f"{held} registers start at the bias",
        _STAGES - 1: f"store {held} vectors; they are not read again",
    }.get(stage, f"load {_PANELS} vectors and {_TALL} numbers, {held} multiply-adds")
    words = f"registers: {held} sums + {_PANELS} weights + 1 number = {held + _PANELS + 1}"
    parts += [_text(4, 266, doing), _text(4, 284, words)]
    first = next(iter(sums.values()))
    alt = (
        f"{step}: {doing}. Positions {tile * _TALL} to {(tile + 1) * _TALL - 1}; the sums of the first are "
        f"{', '.join(map(str, first))}. {words.capitalize()}."
    )
    return Sketch("".join(parts), 292, alt, {"sums": sums, "done": done, "k": k})


_WIDE, _TAPS = 4, 3
_UNDER = _WIDE + _TAPS - 1  # pixels of a line under the tile
#: Stops of ``depthwise_row``.
ROW_STEPS = (*(f"line {line}, pixel {pixel}" for line in range(_TAPS) for pixel in range(_UNDER)), "store")
_LINES = [[0, 2, 1, 3, 1, 2], [0, 1, 3, 2, 0, 1], [0, 3, 0, 1, 2, 1]]  # the first pixel is the zero beside the map
_KERNEL = [[1, 2, 1], [0, 3, -1], [-1, 1, 2]]


def depthwise_row(step: str) -> Sketch:
    """A row of 4 results of a depthwise 3×3 convolution, one lane of it, at the left edge of the map.

    Args:
        step: one of ``ROW_STEPS``.
    """
    number = ROW_STEPS.index(one_of("step", step, ROW_STEPS))
    line, pixel = divmod(number, _UNDER)
    storing = number == len(ROW_STEPS) - 1
    seen = [(at // _UNDER, at % _UNDER) for at in range(min(number + 1, len(ROW_STEPS) - 1))]
    pairs = [(i, j, m) for i, j in seen for m in range(_WIDE) if 0 <= j - m < _TAPS]
    sums = [sum(_LINES[i][j] * _KERNEL[i][j - m] for i, j, m in pairs if m == at) for at in range(_WIDE)]
    now = [] if storing else [m for m in range(_WIDE) if 0 <= pixel - m < _TAPS]
    loads, products = len(seen) + _TAPS * (seen[-1][0] + 1), len(pairs)
    parts = [_text(4, 14, "stored lines, zero at the edge"), _text(238, 14, "taps")]
    for i in range(_TAPS):
        y = 22 + 24 * i
        for j, value in enumerate(_LINES[i]):
            here = not storing and (i, j) == (line, pixel)
            parts.append(_cell(4 + 36 * j, y, value, COLOURS["green"] if here else None, width=32))
        for j, tap in enumerate(_KERNEL[i]):
            used = i == line and not storing
            parts.append(_cell(238 + 30 * j, y, tap, COLOURS["orange"] if used else None, width=28))
    for m, value in enumerate(sums):
        left = 4 + 36 * (m + 1)
        if m in now:
            parts.append(
                f'<path d="M{20 + 36 * pixel} 96L{left + 16} 134" stroke="{COLOURS["green"]}" stroke-width="2"/>'
            )
        parts.append(_cell(left, 136, value, REFERENCE if storing else ACCENT, width=32))
    parts.append(_text(190, 150, "4 sums"))
    doing = (
        "store 4 vectors" if storing else f"1 load; multiply-adds with taps {', '.join(str(pixel - m) for m in now)}"
    )
    words = f"so far {loads} loads, {products} multiply-adds"
    parts += [_text(4, 182, doing), _text(4, 200, words)]
    alt = f"{step}: {doing}; the sums are {', '.join(map(str, sums))}. {words.capitalize()}."
    return Sketch("".join(parts), 208, alt, {"sums": sums, "loads": loads, "products": products})


def _vectors(x: float, y: float, numbers: Sequence[int | None], colour: str | None) -> Iterable[str]:
    """Numbers as vectors of ``_LANES`` with a gap between them."""
    return [_cell(x + 26 * i + 6 * (i // _LANES), y, number, colour, width=25) for i, number in enumerate(numbers)]


def _cell(x: float, y: float, number: int | None, colour: str | None, *, width: int) -> str:
    fill = f'fill="{colour}" fill-opacity=".4"' if colour else 'fill="none"'
    box = f'<rect x="{x}" y="{y}" width="{width}" height="18" {fill} stroke="{REFERENCE}"/>'
    return box if number is None else box + _text(x + width / 2, y + 13.5, str(number).replace("-", "−"), "middle")


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(text)}</text>'


def engine_files() -> list[tuple[str, int, str, str]]:
    """Of each file of the engine: name, lines, the first sentence that it says of itself, where it is explained."""
    found = []
    for name, where in EXPLAINED.items():
        text = (ENGINE / name).read_text(encoding="utf-8")
        if name.endswith(".py"):
            about = ast.get_docstring(ast.parse(text)) or ""
        else:
            about = " ".join(line.removeprefix("//").strip() for line in text[: text.index("\n#")].splitlines())
        sentence = re.split(r"\.\s|\.$|:\s", about.replace("\n", " "), maxsplit=1)[0]
        found.append((name, len(text.splitlines()), sentence, where))
    return found


#: What may be used besides float32, and how the table of decisions calls it.
_ALLOWED = {"fp32": "float32", "bf16": "bfloat16 allowed", "int8": "8 bits allowed"}


def decisions(measured: Iterable[Mapping[str, Any]]) -> list[tuple[str, int, str, str, str]]:
    """For each processor, batch and measured precision: our engine and the best other way, for Small and for Large.

    Args:
        measured: what the benchmark of inference wrote, a file for each processor.
    """
    found = []
    for one in measured:
        results = {(result["network"], result["batch"]): result["lines"] for result in one["results"]}
        for batch in sorted({batch for _, batch in results}):
            networks = [results[f"mobilenet_v3_{size}", batch] for size in ("small", "large")]
            known = {precision_of(line["way"]) for lines in networks for line in lines}
            for precision, name in _ALLOWED.items():
                if precision in known:
                    small, large = (_ours_and_theirs(lines, precision) for lines in networks)
                    found.append((one["cpu"], batch, name, small, large))
    return found


def _ours_and_theirs(lines: Iterable[Mapping[str, Any]], precision: str) -> str:
    """The faster of our engine and the best other way, then the other, with their times; ≈ if they do not differ."""
    allowed = [line for line in lines if precision_of(line["way"]) in ("fp32", precision)]
    ours, other = (
        min((line for line in allowed if line["way"].startswith("engine") is whose), key=_ratio)
        for whose in (True, False)
    )
    first, second = sorted((ours, other), key=_ratio)
    sign = "<" if _differ(ours, other) else "≈"
    return f"{first['way']} {_ratio(first):.2f}\n{sign} {second['way']} {_ratio(second):.2f}"


def _differ(ours: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether the interval of their paired ratio excludes 1, or, if there is none, their own intervals do not meet."""
    if ours.get("against") == other["way"]:
        _, low, high = ours["ratio_to_it"]
        return not low <= 1 <= high
    return bool(ours["ratio"][2] < other["ratio"][1] or other["ratio"][2] < ours["ratio"][1])


def _ratio(line: Mapping[str, Any]) -> float:
    return float(line["ratio"][0])
