"""Photographs as a page shows them: JPEG, with words."""

from __future__ import annotations

import io

from IPython.display import Image as Shown
from PIL import Image

__all__ = ["jpeg"]


def jpeg(picture: Image.Image, alt: str) -> Shown:
    """A picture as a cell's output.

    Args:
        picture: RGB.
        alt: what there is to see.
    """
    buffer = io.BytesIO()
    picture.save(buffer, "jpeg", quality=82, optimize=True, progressive=True)
    return Shown(data=buffer.getvalue(), format="jpeg", alt=alt)  # type: ignore[no-untyped-call]
