"""Lines of text as pictures, drawn with a typeface that comes with Matplotlib."""

from __future__ import annotations

from pathlib import Path

import matplotlib
from PIL import Image, ImageDraw, ImageFont

__all__ = ["draw_line"]

_TYPEFACE = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
_HEIGHT, _SIZE, _MARGIN = 48, 32, 8


def draw_line(
    text: str, *, upside_down: bool = False, ink: str = "black", paper: str = "white", size: int = _SIZE
) -> Image.Image:
    """One line of text, 48 pixels high and as wide as it needs, RGB.

    Args:
        text: what it says.
        upside_down: turn the picture by 180 degrees.
        ink, paper: colours as Pillow takes them.
        size: of the typeface, DejaVu Sans, in pixels; 36 fits the height.
    """
    typeface = ImageFont.truetype(str(_TYPEFACE), size)
    picture = Image.new("RGB", (round(typeface.getlength(text)) + 2 * _MARGIN, _HEIGHT), paper)
    ImageDraw.Draw(picture).text((_MARGIN, _HEIGHT / 2), text, fill=ink, font=typeface, anchor="lm")
    return picture.transpose(Image.Transpose.ROTATE_180) if upside_down else picture
