"""Photographs as a page shows them: JPEG, with words."""

from __future__ import annotations

import io
import re
from base64 import b64decode, b64encode
from typing import Any

from IPython.display import Image as Shown
from PIL import Image

from mnv3lib.explore.drawing import Drawing

__all__ = ["Photographs", "jpeg"]

_PNG = re.compile(r"data:image/png;base64,([A-Za-z0-9+/=\s]+)")


def jpeg(picture: Image.Image, alt: str) -> Shown:
    """A picture as a cell's output.

    Args:
        picture: RGB.
        alt: what there is to see.
    """
    buffer = io.BytesIO()
    picture.save(buffer, "jpeg", quality=82, optimize=True, progressive=True)
    return Shown(data=buffer.getvalue(), format="jpeg", alt=alt)


class Photographs(Drawing):
    """A drawing that keeps its pictures as JPEG, in a quarter of the bytes, unless one can be seen through."""

    def __init__(self, *drawing: Any, quality: int = 85) -> None:
        super().__init__(*drawing)
        self.quality = quality

    def _repr_svg_(self) -> str:
        return _PNG.sub(self._smaller, super()._repr_svg_())

    def _smaller(self, png: re.Match[str]) -> str:
        picture, file = Image.open(io.BytesIO(b64decode(png[1]))).convert("RGBA"), io.BytesIO()
        if picture.getchannel("A").getextrema() != (255, 255):
            return png[0]
        picture.convert("RGB").save(file, "jpeg", quality=self.quality, subsampling=0, optimize=True)
        return f"data:image/jpeg;base64,{b64encode(file.getvalue()).decode()}"
