"""A Sphinx extension that puts the widgets of ``mnv3lib.explore`` on static pages: no kernel, no widget manager.

A notebook's output holds a widget as HTML (its state and a plain table); Markdown pages write the same with::

    ```{explorer}
    :variant: small
    :controls: width_mult, rounding
    ```

Pages that hold one load one generated script and one style sheet; other pages load nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.util.docutils import SphinxDirective
from traitlets import TraitError

from mnv3lib.explore.explorer import Explorer
from mnv3lib.explore.page import static_script, static_style

SCRIPT, STYLE = "mnv3-widgets.js", "mnv3-widgets.css"
MARK = 'class="mnv3-widget'
VIEW = "application/vnd.jupyter.widget-view+json"
STATE = "application/vnd.jupyter.widget-state+json"


class ExplorerDirective(SphinxDirective):
    """``{explorer}``: :class:`mnv3lib.explore.Explorer` with the options as its arguments."""

    has_content = False
    option_spec: ClassVar[dict[str, Any]] = {
        "variant": directives.unchanged_required,
        "width_mult": float,
        "resolution": int,
        "reduced_tail": directives.flag,
        "dilated": directives.flag,
        "rounding": directives.unchanged_required,
        "controls": directives.unchanged,
    }

    def run(self) -> list[nodes.Node]:
        """Write the widget as raw HTML."""
        options = {name: True if value is None else value for name, value in self.options.items()}
        if "controls" in options:
            options["controls"] = str(options["controls"]).replace(",", " ").split()
        try:
            text = Explorer(**options).page_html()
        except TraitError as error:
            raise self.error(str(error)) from error
        return [nodes.raw("", text, format="html")]


def configure(app: Sphinx, config: Config) -> None:
    """Let a notebook's HTML win over its live view, which needs a kernel; ask for no widget manager."""
    config.nb_mime_priority_overrides = [*config.nb_mime_priority_overrides, ("*", VIEW, None)]
    config.nb_ipywidgets_js = {}


def write_files(app: Sphinx) -> None:
    """Write script and style sheet into the build, before pages are written: links carry their check sums."""
    if app.builder.format != "html":
        return
    static = Path(app.outdir) / "_static"
    static.mkdir(parents=True, exist_ok=True)
    for name, text in ((SCRIPT, static_script()), (STYLE, static_style())):
        (static / name).write_text(text, encoding="utf-8")


def load_files(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: object) -> None:
    """Load them where a widget is; leave out the state that a just executed notebook brings along."""
    if app.builder.format != "html":
        return
    if MARK in context.get("body", ""):
        app.add_js_file(SCRIPT, loading_method="defer")
        app.add_css_file(STYLE)
    scripts = context.get("script_files", [])
    context["script_files"] = [s for s in scripts if getattr(s, "attributes", {}).get("type") != STATE]


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect the steps to the build."""
    app.setup_extension("myst_nb")
    app.add_directive("explorer", ExplorerDirective)
    app.connect("config-inited", configure)
    app.connect("builder-inited", write_files)
    app.connect("html-page-context", load_files, priority=600)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
