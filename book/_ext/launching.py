"""A Sphinx extension: the buttons of a notebook's page lead to its plain edition, which every front end can show."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

FOLDER = "plain"


def buttons(given: list[dict[str, Any]], old: str, new: str) -> None:
    """Let all buttons, also those in menus, lead to ``new`` instead of ``old``."""
    for button in given:
        if button.get("url"):
            button["url"] = button["url"].replace(old, new)
        buttons(button.get("buttons", []), old, new)


def lead_to_plain(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: object) -> None:
    """Change the addresses on a page whose notebook has a plain edition."""
    if (Path(app.srcdir) / FOLDER / f"{pagename}.ipynb").is_file():
        base = app.config.html_theme_options.get("path_to_docs", "").strip("/")
        buttons(context.get("header_buttons", []), f"{base}/{pagename}.ipynb", f"{base}/{FOLDER}/{pagename}.ipynb")
        buttons(context.get("header_buttons", []), f"_sources/{pagename}.ipynb", f"_sources/{FOLDER}/{pagename}.ipynb")


def copy_plain(app: Sphinx, exception: Exception | None) -> None:
    """Put the plain edition where the download button leads."""
    source = Path(app.srcdir) / FOLDER
    if exception is None and app.builder.format == "html" and source.is_dir():
        target = Path(app.outdir) / "_sources" / FOLDER
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        for path in sorted(source.glob("*.ipynb")):
            shutil.copy(path, target)


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect the steps to the build."""
    app.connect("html-page-context", lead_to_plain, priority=850)  # after the theme has made its buttons
    app.connect("build-finished", copy_plain)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
