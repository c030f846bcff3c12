"""A Sphinx extension for the search: it finds what readers ask for, and shows prose from what it finds.

* The phrases of ``_data/search.yml`` lead to their pages, as if the pages had named them in an index.
* Words of questions ("how do I … my own …") are not searched for.
* Drawings and widgets are not searched: their digits mean nothing there.
* ``search.js`` keeps code and drawings out of the excerpts.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sphinx.search
import yaml
from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.search import IndexBuilder
from sphinx.search.en import SearchEnglish

FILE = "_data/search.yml"
SCRIPT = "search.js"
QUESTIONS = {"can", "do", "does", "how", "i", "my", "our", "own", "we", "what", "which", "you", "your"}
DRAWN = ("mnv3-widget", "mnv3-figure", "mnv3-map")


def phrases(folder: Path) -> dict[str, list[str]]:
    """Return page, or page#anchor, to the phrases that lead there."""
    found: dict[str, list[str]] = yaml.safe_load((folder / FILE).read_text(encoding="utf-8"))
    return found


def load(app: Sphinx) -> None:
    """Read the phrases before the pages."""
    path = Path(app.srcdir) / FILE
    app.env.search_phrases = phrases(Path(app.srcdir)) if path.is_file() else {}  # type: ignore[attr-defined]


def name_phrases(app: Sphinx, doctree: nodes.document) -> None:
    """Put a page's phrases on it as entries of an index that is not shown."""
    entries = []
    for target, wanted in app.env.search_phrases.items():  # type: ignore[attr-defined]
        page, _, anchor = target.partition("#")
        if page != app.env.docname:
            continue
        if anchor and anchor not in doctree.ids:
            raise ExtensionError(f"{FILE} names {target}, but the page has no {anchor}")
        entries += [("single", phrase, anchor, "main", None) for phrase in wanted]
    if entries:
        doctree.insert(0, addnodes.index(entries=entries))


def names_pages(app: Sphinx, env: Any) -> None:
    """A phrase that leads nowhere stops the build."""
    missing = {target.partition("#")[0] for target in env.search_phrases} - set(env.found_docs)
    if missing:
        raise ExtensionError(f"{FILE} names pages that are not in the book: {sorted(missing)}")


class Index(IndexBuilder):
    """Collects the words of a page without its drawings."""

    def feed(self, docname: str, filename: str, title: str, doctree: nodes.document) -> None:
        drawn = [node for node in doctree.findall(nodes.raw) if any(name in node.astext()[:200] for name in DRAWN)]
        formats = [node["format"] for node in drawn]
        for node in drawn:
            node["format"] = ""
        try:
            super().feed(docname, filename, title, doctree)
        finally:
            for node, form in zip(drawn, formats, strict=True):
                node["format"] = form


def load_script(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: object) -> None:
    """Only the page of results needs it."""
    if pagename == "search":
        app.add_js_file(SCRIPT, loading_method="defer")


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect the steps to the build."""
    SearchEnglish.stopwords = SearchEnglish.stopwords | QUESTIONS
    sphinx.search.IndexBuilder = Index  # type: ignore[misc]
    app.connect("builder-inited", load)
    app.connect("doctree-read", name_phrases)
    app.connect("env-updated", names_pages)
    app.connect("html-page-context", load_script, priority=550)  # widgets.py replaces the list at 600
    return {"parallel_read_safe": True, "parallel_write_safe": True}
