"""A Sphinx extension that puts a notebook's SVG outputs into the page itself, where they follow its theme.

myst-nb would link them as pictures, which know neither the page's ink nor its paper. The PNG beside an SVG is for
front ends without a kernel; the book does not need it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

SVG = "image/svg+xml"


class InlineDrawings(SphinxTransform):
    """Replace the outputs that have an SVG by that SVG, as HTML."""

    default_priority = 400  # before Sphinx collects pictures

    def apply(self, **kwargs: Any) -> None:
        """Replace them in this page."""
        for bundle in list(self.document.findall(nodes.container)):
            if bundle.get("nb_element") != "mime_bundle":
                continue
            for output in bundle.children:
                if output["mime_type"] == SVG:
                    (image,) = output.findall(nodes.image)
                    text = (Path(self.app.srcdir) / image["uri"].lstrip("/")).read_text(encoding="utf-8")
                    inline = nodes.container(mime_type="text/html")
                    inline += nodes.raw("", text, format="html", classes=["output", "text_html"])
                    bundle.children = []
                    bundle += inline
                    break


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the transform."""
    app.add_transform(InlineDrawings)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
