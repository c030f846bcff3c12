"""The chapter on networks in products: its photograph, what was measured, and its figures.

The photograph, ``_data/astronaut.jpg``, is NASA's portrait of Eileen Collins, in the public domain; it is
scikit-image's ``data.astronaut()`` of 512 × 512 pixels, saved as a JPEG of quality 85.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch.nn.functional as F
from figures import speed
from figures.jpeg import jpeg
from figures.text_lines import draw_line
from IPython.display import Image as Shown
from matplotlib.patches import Rectangle
from PIL import Image
from torch import Tensor

from mnv3lib._checks import one_of, positive_int
from mnv3lib.explore.drawing import ON_PAPER, Drawing, in_style, new_figure
from mnv3lib.explore.palette import ACCENT, COLOURS, KINDS, REFERENCE

__all__ = ["cut_out", "known_every", "litert", "photograph", "prices", "times", "told_apart", "up_and_down",
           "work_and_time"]  # fmt: skip

_BOOK = Path(__file__).resolve().parents[1]


def times(product: str) -> dict[str, dict[str, list[float]]]:
    """Time of the variants of a product over its own, with the interval, by engine; the first processor's.

    Args:
        product: ``"text direction"`` or ``"portrait"``.

    Raises:
        ValueError: for a product that was not measured.
    """
    results = speed.load("products")[0]["results"]
    one_of("product", product, tuple(dict.fromkeys(result["product"] for result in results)))
    found: dict[str, dict[str, list[float]]] = {}
    for result in results:
        for line in result["lines"][1:]:  # the first one is the product itself
            if result["product"] == product:
                found.setdefault(line["variant"], {})[result["way"]] = line["ratio"]
    return found


def photograph() -> Image.Image:
    """The portrait of an astronaut, 512 × 512, RGB."""
    return Image.open(_BOOK / "_data" / "astronaut.jpg").convert("RGB")


def litert() -> tuple[list[tuple[int, ...]], Tensor]:
    """What LiteRT 2.3.0 computed from MediaPipe's file for the photograph and ten crops of it.

    Returns:
        boxes of the crops (left, top, right, bottom), and every third row and column of the probabilities.
    """
    with np.load(_BOOK.parent / "tests" / "data" / "portrait.npz") as stored:
        boxes = [tuple(int(side) for side in box) for box in stored["crops"]]
        return boxes, Tensor(stored["probabilities"].astype(np.float32))


def cut_out(picture: Image.Image, person: Tensor, *, backdrop: str = ACCENT) -> Shown:
    """A picture, and beside it the person in it in front of one colour, as a JPEG.

    Args:
        picture: RGB.
        person: probability of each pixel, (h, w) of any size; it is enlarged to the picture's.
        backdrop: the colour.
    """
    mask = F.interpolate(person[None, None], size=picture.size[::-1], mode="bilinear", align_corners=False)[0, 0]
    alpha = Image.fromarray((mask * 255).round().byte().numpy())
    cut = Image.composite(picture, Image.new("RGB", picture.size, backdrop), alpha)
    both = Image.new("RGB", (2 * picture.width, picture.height))
    both.paste(picture, (0, 0))
    both.paste(cut, (picture.width, 0))
    share = float((person > 0.5).float().mean())
    alt = f"A photograph, and the same with {share:.0%} of its pixels kept and one colour in place of the others."
    return jpeg(both, alt)


@in_style
def told_apart(lines: Sequence[tuple[str, bool, float]]) -> Drawing:
    """Lines of text as pictures, each with the probability that it is upside down.

    Args:
        lines: what it says, whether it is drawn upside down, and the probability.
    """
    figure, axes = new_figure(height=0.62 * len(lines), nrows=len(lines), squeeze=False)
    words = []
    for (frame,), (text, turned, probability) in zip(axes, lines, strict=True):
        frame.imshow(np.asarray(draw_line(text, upside_down=turned).convert("L")), cmap="gray", interpolation="none")
        frame.set(xticks=[], yticks=[], anchor="W")
        frame.spines[:].set_visible(False)
        frame.annotate(f"{probability:.2f}", (1, 0.5), (8, 0), "axes fraction", "offset points", va="center")
        words.append(f"“{text}”, {'upside down' if turned else 'upright'}: {probability:.2f}")
    alt = f"Lines of text, with the probability that each is upside down. {'; '.join(words)}."
    return Drawing(figure, alt, {"probabilities": [probability for *_, probability in lines]})


@in_style
def prices(start: tuple[str, float], changes: Mapping[str, float], end: str, *, unit: str) -> Drawing:
    """What changes add to a cost or take from it, one after the other, from one network to another.

    Args:
        start: name of the first network and its cost.
        changes: what each adds, in the same unit; negative if it saves.
        end: name of what comes out.
        unit: of all numbers.
    """
    figure, axes = new_figure(height=0.7 + 0.4 * (len(changes) + 2))
    name, total = start
    bars = [(name, 0.0, total, REFERENCE, f"{total:.3g}")]
    for change, more in changes.items():
        colour = COLOURS["orange"] if more > 0 else ACCENT
        bars.append((change, total, more, colour, f"{more:+.3g}".replace("-", "−")))
        total += more
    bars.append((end, 0.0, total, REFERENCE, f"{total:.3g}"))
    for at, (_, left, long, colour, said) in enumerate(bars):
        axes.barh(at, long, left=left, color=colour, height=0.7)
        axes.annotate(said, (max(left, left + long), at), (4, 0), textcoords="offset points", va="center")
    axes.set_yticks(range(len(bars)), [bar[0] for bar in bars])
    axes.invert_yaxis()
    axes.set(xlim=(0, 1.25 * max(max(left, left + long) for _, left, long, *_ in bars)), xticks=[], xlabel=unit)
    alt = f"Bars, in {unit}: {'; '.join(f'{name} {said}' for name, *_, said in bars)}."
    return Drawing(figure, alt, {"total": total})


@in_style
def up_and_down(encoder: Sequence[tuple[str, int, int]], decoder: Sequence[tuple[str, int, int]]) -> Drawing:
    """Feature maps of an encoder and of the decoder beside it, the largest at the top; arrows are what is taken again.

    Args:
        encoder: name, side and channels of each, from fine to coarse.
        decoder: the same, from coarse to fine, of as many; the sides of both agree.
    """
    figure, axes = new_figure(height=3.4)
    largest = max(side for _, side, _ in encoder)
    words = []
    for column, maps in enumerate((encoder, decoder[::-1])):
        for row, (name, side, channels) in enumerate(maps):
            long, left = 0.5 + 1.1 * side / largest, 3.1 * column
            kind = KINDS["expand"] if column == 0 else KINDS["project"]
            axes.add_patch(Rectangle((left + 0.8 - long / 2, -row - 0.17), long, 0.34, color=kind, alpha=0.85))
            axes.annotate(f"{name}: {side}² × {channels}", (left + 0.8, -row - 0.34), ha="center", va="top")
            words.append(f"{name} {side} × {side} × {channels}")
    for row, ((_, side, _), (_, other, _)) in enumerate(zip(encoder, decoder[::-1], strict=True)):
        if side != other:
            raise ValueError(f"decoder must have the encoder's sides, got {other!r} beside {side!r}")
        last = row == len(encoder) - 1
        axes.annotate(
            "", (3.0, -row), (1.7, -row),
            arrowprops={"arrowstyle": "->", "color": REFERENCE, "linestyle": "-" if last else "--", "linewidth": 1.5},
        )  # fmt: skip
    axes.set(xlim=(-0.3, 5.0), ylim=(-len(encoder) + 0.3, 0.35))
    axes.set_axis_off()
    return Drawing(figure, f"Feature maps, the decoder's beside the encoder's: {', '.join(words)}.")


@in_style
def known_every(person: Tensor, step: int) -> Drawing:
    """The mask of a person if it were known only once in a square of ``step`` pixels, and where it would be wrong.

    Args:
        person: probability of each pixel, (H, W).
        step: the means of squares of so many pixels are enlarged bilinearly; sides are multiples of it.
    """
    positive_int("step", step)
    fine = (person > 0.5).numpy()
    coarse = F.interpolate(
        F.avg_pool2d(person[None, None], step), size=person.shape, mode="bilinear", align_corners=False
    )
    wrong = (coarse[0, 0] > 0.5).numpy() != fine
    share = wrong.mean()
    figure, axes = new_figure(height=4.0)
    # Grey and not the ink of the page: both themes show it, and a mask of three colours takes few bytes.
    shown = np.zeros((*person.shape, 4), np.uint8)
    shown[fine] = (138, 138, 138, 255)
    shown[wrong] = (213, 94, 0, 255)
    axes.imshow(shown, interpolation="none")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set(visible=True, color=REFERENCE, linewidth=0.5)
    axes.set_title(f"{share:.1%} of the pixels on the wrong side")
    alt = f"A mask known once in {step} × {step} pixels, and {share:.1%} of the pixels on the wrong side, at its edge."
    return Drawing(figure, alt, {"wrong": int(wrong.sum())})


@in_style
def work_and_time(found: Mapping[str, Mapping[str, float]], *, title: str) -> Drawing:
    """Ratios to one network: multiply-adds, and the time in engines, a group of bars for each variant.

    Args:
        found: name of a variant to its ratios by what they are of.
        title: what the ratios are to.
    """
    kinds = list(next(iter(found.values())))
    colours = (REFERENCE, ACCENT, COLOURS["green"])
    figure, axes = new_figure(height=0.9 + 0.28 * (len(kinds) + 1) * len(found))
    words = []
    for group, (name, ratios) in enumerate(found.items()):
        for at, (kind, colour) in enumerate(zip(kinds, colours, strict=True)):
            place = group * (len(kinds) + 1) + at
            axes.barh(place, ratios[kind], height=0.8, color=colour, label=kind if group == 0 else None)
            axes.annotate(f"{ratios[kind]:.2f}", (ratios[kind], place), (4, 0), textcoords="offset points", va="center",
                          bbox=ON_PAPER, zorder=3)  # fmt: skip
        words.append(f"{name}: " + ", ".join(f"{kind} {ratios[kind]:.2f}" for kind in kinds))
    axes.axvline(1, color=REFERENCE, linewidth=1)
    middle = (len(kinds) - 1) / 2
    axes.set_yticks([group * (len(kinds) + 1) + middle for group in range(len(found))], list(found))
    axes.invert_yaxis()
    axes.set(xlim=(0, 1.25 * max(max(ratios.values()) for ratios in found.values())), xticks=[0, 1], xlabel=title)
    figure.legend(loc="outside upper center", ncols=len(kinds), handlelength=1, columnspacing=1)
    return Drawing(figure, f"Bars of ratios, {title}. {'; '.join(words)}.", {"ratios": dict(found)})
