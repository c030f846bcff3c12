"""The figures of the first chapter: two trained networks at work, and small networks by accuracy and speed."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass

import torch.nn.functional as F
from figures.choose import PROCESSORS, front
from figures.families import peers
from figures.jpeg import jpeg
from figures.text_lines import draw_line
from PIL import Image, ImageFilter
from torch import Tensor

from mnv3lib._checks import one_of, value_of
from mnv3lib.explore.drawing import Drawing, in_style, new_figure, svg_opening
from mnv3lib.explore.palette import ACCENT, COLOURS, REFERENCE

__all__ = ["BACKDROPS", "GENERATIONS", "Picture", "kept", "said", "turned", "unbeaten", "where_they_stand"]

#: What stands behind a person.
BACKDROPS = ("blurred", "plain")
#: The MobileNets, by how the names of their networks begin, tf_ left out.
GENERATIONS = {
    "V1": ("mobilenetv1", "s", COLOURS["green"]),
    "V2": ("mobilenetv2", "^", COLOURS["purple"]),
    "V3": ("mobilenetv3", "o", ACCENT),
    "V4": ("mobilenetv4", "D", COLOURS["orange"]),
}
_WIDTH = 520  # of a photograph, on the page and in pixels
_LINE = 300  # pixels of the square in which a line turns
_SPREAD = 24  # of the blur


@dataclass(frozen=True)
class Picture:
    """A photograph on a page, in a form that a Flipbook takes: SVG around a JPEG, and the picture in words."""

    alt: str
    jpeg: bytes
    height: int

    def _repr_svg_(self) -> str:
        data = b64encode(self.jpeg).decode()
        size = (_WIDTH, self.height)
        return (
            f"{svg_opening(self.alt, size, size)}"
            f'<image width="{_WIDTH}" height="{self.height}" xlink:href="data:image/jpeg;base64,{data}"/></svg>'
        )


def kept(picture: Image.Image, person: Tensor, *, threshold: float, backdrop: str) -> Picture:
    """The pixels of a picture that a network takes for a person, in front of something else.

    Args:
        picture: RGB.
        person: probability of each pixel, (h, w) of any size; it is enlarged to the picture's.
        threshold: the least probability that is kept.
        backdrop: one of ``BACKDROPS``.
    """
    one_of("backdrop", backdrop, BACKDROPS)
    mask = F.interpolate(person[None, None], size=picture.size[::-1], mode="bilinear", align_corners=False)[0, 0]
    stays = mask >= threshold
    behind = picture.filter(ImageFilter.GaussianBlur(_SPREAD))
    if backdrop == "plain":
        behind = Image.new("RGB", picture.size, ACCENT)
    cut = Image.composite(picture, behind, Image.fromarray(stays.byte().numpy() * 255))
    height = round(_WIDTH * picture.height / picture.width)
    shown = jpeg(cut.resize((_WIDTH, height), Image.Resampling.LANCZOS), "")
    share = float(stays.float().mean())
    alt = (
        f"A portrait with {100 * share:.0f} % of its pixels kept, at the threshold {threshold:g}, the rest {backdrop}."
    )
    return Picture(alt, shown.data, height)


def turned(text: str, degrees: float) -> Image.Image:
    """A line of text as a picture, turned anticlockwise, on white, with no more margin than it needs."""
    return draw_line(text).rotate(degrees, Image.Resampling.BICUBIC, expand=True, fillcolor="white")


@in_style
def said(text: str, degrees: float, upside_down: float) -> Drawing:
    """A turned line, and below it what a network says of it, as a bar.

    Args:
        text: what the line says.
        degrees: by which it is turned anticlockwise.
        upside_down: the probability that the network gives.
    """
    figure, (above, below) = new_figure(height=4.6, nrows=2, height_ratios=(6, 1))
    line = draw_line(text).convert("RGBA").rotate(degrees, Image.Resampling.BICUBIC, expand=True)  # a strip of paper
    line.thumbnail((_LINE, _LINE))
    frame = Image.new("RGBA", (_LINE, _LINE))
    frame.paste(line, ((_LINE - line.width) // 2, (_LINE - line.height) // 2))
    above.imshow(frame, interpolation="none")
    above.set(xticks=[], yticks=[])
    above.spines[:].set_visible(False)
    below.barh([0], [upside_down], color=ACCENT, height=0.5)
    below.axvline(0.5, color=REFERENCE, linestyle="--", linewidth=1.5)
    below.annotate(f"{upside_down:.2f}", (upside_down, 0), (5, 0), textcoords="offset points", va="center")
    below.set(xlim=(0, 1.15), ylim=(-0.4, 0.4), yticks=[], xticks=(0, 0.5, 1), xlabel="probability of “upside down”")
    alt = f"The line “{text}”, turned by {degrees:g} degrees. Upside down with probability {upside_down:.2f}."
    return Drawing(figure, alt, {"upside down": upside_down})


def unbeaten(column: str) -> list[str]:
    """The models that no other one beats in both accuracy and speed, from the fastest.

    Args:
        column: a value of :data:`figures.choose.PROCESSORS`.
    """
    return [row["model"] for row in front([{**row, "time": 1 / row[column]} for row in peers()], "time")]


@in_style
def where_they_stand(processor: str) -> Drawing:
    """Published top-1 over published images a second, the four generations coloured, a line along the best.

    Args:
        processor: one of :data:`figures.choose.PROCESSORS`.
    """
    column = value_of("processor", processor, PROCESSORS)
    figure, axes = new_figure(height=4.2)
    best = unbeaten(column)
    by_name = {row["model"]: row for row in peers()}
    axes.step(
        [by_name[name][column] for name in best],
        [by_name[name]["top1"] for name in best],
        where="post",
        color=REFERENCE,
        linewidth=1,
    )
    others = [row for row in peers() if not any(_of(row["model"], start) for start, *_ in GENERATIONS.values())]
    axes.plot([row[column] for row in others], [row["top1"] for row in others], ".", color=REFERENCE, label="others")
    words = []
    for name, (start, marker, colour) in GENERATIONS.items():
        its = [row for row in peers() if _of(row["model"], start)]
        axes.plot([row[column] for row in its], [row["top1"] for row in its], marker, color=colour, label=name)
        words.append(f"{name}, {sum(row['model'] in best for row in its)} of {len(its)}")
    axes.set(xscale="log", xlim=(9, 480), ylim=(56, 85), xlabel="images a second", ylabel="ImageNet top-1, %")
    axes.set_xticks([10, 30, 100, 300], ["10", "30", "100", "300"])
    figure.legend(loc="outside upper center", ncols=5, handlelength=1, columnspacing=1, handletextpad=0.3)
    alt = (
        f"{len(peers())} dots, published top-1 over images a second on {processor}. On the line of those that none "
        f"beats in both: {'; '.join(words)}."
    )
    return Drawing(figure, alt, {"front": best})


def _of(model: str, start: str) -> bool:
    return model.removeprefix("tf_").startswith(start)
