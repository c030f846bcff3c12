"""A Sphinx extension that makes the built book self-contained and light.

The page requests nothing from outside: MathJax comes from the package ``sphinx-mathjax-offline`` and is copied into the
build, one bundle with its fonts, and only pages with equations load it. The theme's 1.5 MB script of icons is left out
(``_templates/static/webpack-macros.html``): its style sheet draws the same icons with one font. Whatever no page can
reach is deleted from the build.

``EXECUTE=1`` in the environment runs every notebook during the build instead of publishing the committed outputs.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from importlib.metadata import distribution, version
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.domains.math import MathDomain

# The page of the library documents a part of book/figures/ too.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

# tex-chtml with the fonts that a page uses is about 1.3 MB, tex-svg 2.1 MB; MathML input is not needed.
MATHJAX_BUNDLE = "tex-chtml.js"
MATHJAX_FONTS = "output/chtml/fonts/woff-v2"

# Relative to _static. The fonts are the theme's icons in formats and styles that no page uses.
UNUSED = (
    "locales",
    "images/logo_deepnote.svg",
    "images/logo_jupyterhub.svg",
    "images/logo_jupyterlite.svg",
    "*webpack-macros.html",
    "scripts/fontawesome.js",
    "vendor/fontawesome/webfonts/fa-brands-400.*",
    "vendor/fontawesome/webfonts/fa-regular-400.*",
    "vendor/fontawesome/webfonts/*.ttf",
)
UNUSED_SUFFIXES = (".map", ".LICENSE.txt")


def configure(app: Sphinx, config: Config) -> None:
    """Point at the local MathJax, name the version in the footer, and obey ``EXECUTE``."""
    config.mathjax_path = f"mathjax/{MATHJAX_BUNDLE}"
    footer = config.html_theme_options.get("extra_footer", "")
    config.html_theme_options["extra_footer"] = footer.replace("{version}", version("mnv3lib"))
    if os.environ.get("EXECUTE", "") not in ("", "0"):
        config.nb_execution_mode = "force"
        config.nb_execution_raise_on_error = True


def choose_scripts(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: object) -> None:
    """Keep each script once, and MathJax only where the page itself has an equation.

    Jupyter Book initialises some extensions twice, and a second ``let`` of the same name is an error. Sphinx counts the
    equations of the pages listed in a page's table of contents as its own: the first page would load MathJax for all.
    """
    equations = 'class="math ' in context.get("body", "")
    seen = set()
    kept = []
    for script in context.get("script_files", []):
        name = str(getattr(script, "filename", script) or "")
        body = getattr(script, "attributes", {}).get("body", "")
        key = (name, body)
        if not equations and ("mathjax/" in name or body.startswith("window.MathJax")):
            continue
        if key not in seen:
            seen.add(key)
            kept.append(script)
    context["script_files"] = kept


def copy_mathjax(static: Path) -> None:
    """Copy the one MathJax bundle and its fonts out of the installed package."""
    package = Path(str(distribution("sphinx-mathjax-offline").locate_file("sphinx-mathjax-offline")))
    source, target = package / "static" / "mathjax", static / "mathjax"
    (target / MATHJAX_FONTS).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source / MATHJAX_BUNDLE, target)
    shutil.copytree(source / MATHJAX_FONTS, target / MATHJAX_FONTS, dirs_exist_ok=True)


def drop_unused(static: Path) -> None:
    """Delete files that no page requests, and the mentions of them in style sheets and scripts."""
    for pattern in UNUSED:
        for path in list(static.glob(pattern)):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in list(static.rglob("*")):
        if path.name.endswith(UNUSED_SUFFIXES):
            path.unlink()
    for path in [*static.rglob("*.css"), *static.rglob("*.js")]:
        text = path.read_text(encoding="utf-8")
        short = re.sub(r"(/\*|//)# sourceMappingURL=\S+?\.map(\s*\*/)?\s*$", "", text)
        if path.name == "pydata-sphinx-theme.css":
            short = re.sub(r"@font-face\{[^}]*fa-(brands|regular)-400[^}]*\}", "", short)
            short = re.sub(r",url\([^)]*\.ttf\) format\(\"truetype\"\)", "", short)
        if short != text:
            path.write_text(short, encoding="utf-8")


def breakable(name: str) -> str:
    """Let a name in HTML break after a dot, an underscore, a slash or a bracket, and nowhere else.

    >>> breakable("input_channels")
    'input_<wbr>channels'
    """
    return re.sub(r"([._/(\[,=:]+)(?=\w)", r"\1<wbr>", name)


def repair(outdir: Path) -> None:
    """Mend what the theme and docutils get wrong on every page."""
    # A list whose children are not list items tells a screen reader nonsense. Names may break where their parts meet.
    for path in outdir.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        short = text.replace('<div role="list" class="citation-list">', '<div class="citation-list">')
        short = re.sub(r'(?<=<span class="pre">)[^<]+', lambda name: breakable(name.group()), short)
        if short != text:
            path.write_text(short, encoding="utf-8")
    # Margin notes hide the page's table of contents; a page without one stopped with an error.
    path = outdir / "_static" / "scripts" / "sphinx-book-theme.js"
    sidebar = 'document.querySelector("div.bd-sidebar-secondary").'
    path.write_text(path.read_text(encoding="utf-8").replace(sidebar, f"{sidebar[:-1]}?."), encoding="utf-8")


def finish(app: Sphinx, exception: Exception | None) -> None:
    """Complete the built site."""
    if exception is not None or app.builder.format != "html":
        return
    static = Path(app.outdir) / "_static"
    domain = app.env.get_domain("math")
    assert isinstance(domain, MathDomain)
    if any(domain.has_equations(name) for name in app.env.found_docs):
        copy_mathjax(static)
    drop_unused(static)
    repair(Path(app.outdir))


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect the steps to the build."""
    # Jupyter Book sets this option of an extension that the book leaves out: it loads scripts from the network.
    app.add_config_value("comments_config", {}, "html")
    app.connect("config-inited", configure)
    app.connect("html-page-context", choose_scripts, priority=900)
    app.connect("build-finished", finish, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
