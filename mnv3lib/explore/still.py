"""A drawing as PNG, for where SVG is not shown: notebooks that nobody has run or trusts yet, and other sites."""

from __future__ import annotations

import io
import re
from pathlib import Path

__all__ = ["still"]

INK, PAPER = "#1f2328", "#ffffff"
SCALE = 2  # pixels of the picture for one of the screen; photographs, which make files large, get the screen's own
_COLOURS = 128  # of the palette


def still(svg: str) -> bytes:
    """Draw SVG as PNG, dark on white, with Matplotlib's own font on every machine.

    Args:
        svg: with a width and a height in pixels; its ink is ``currentColor``, its paper a ``var(…)``.

    Returns:
        The bytes of a PNG file, twice as many pixels wide and high as the SVG says; as many where it holds photographs.

    Raises:
        ValueError: where this is no SVG.
    """
    import resvg_py
    from matplotlib import get_data_path
    from PIL import Image

    fonts = Path(get_data_path()) / "fonts" / "ttf"
    plain = re.sub(r"var\((?:[^()]|\([^()]*\))*\)", PAPER, svg.replace("currentColor", INK))
    drawn = resvg_py.svg_to_bytes(
        svg_string=plain,
        zoom=1 if "<image" in svg else SCALE,
        background=PAPER,
        skip_system_fonts=True,
        font_files=[str(fonts / name) for name in ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "DejaVuSans-Oblique.ttf")],
        font_family="DejaVu Sans",
        sans_serif_family="DejaVu Sans",
    )
    picture = Image.open(io.BytesIO(drawn)).convert("RGB").quantize(_COLOURS, dither=Image.Dither.NONE)
    file = io.BytesIO()
    picture.save(file, format="png", optimize=True)
    return file.getvalue()
