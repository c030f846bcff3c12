"""The explorer on a static page: the generated script, and the Sphinx extension that puts it there."""

from __future__ import annotations

import re
import sys
import warnings
from pathlib import Path

import nbformat
import pytest
from conftest import ROOT
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace, patch_docutils
from test_explore import DEFAULT

from mnv3lib.explore import Explorer
from mnv3lib.explore import page as pages


@pytest.mark.parametrize(
    "module",
    ["const a = 1;\n", 'import x from "y";\nexport default { x };\n', "export const a = 1;\nexport default { a };\n"],
)
def test_a_module_that_cannot_be_wrapped_is_refused(module: str) -> None:
    with pytest.raises(ValueError, match="export default"):
        pages._as_function(module)


def test_the_script_is_classic_and_asks_for_nothing() -> None:
    script, style = pages.static_script(), pages.static_style()
    assert not re.search(r"^\s*(import|export)\b|\bimport\(|\bfetch\(|https?://|sourceMappingURL", script, re.MULTILINE)
    assert not re.search(r"@import|url\(|https?://", style)
    assert script == pages.static_script()
    host = (Path(pages.__file__).parent / "host.js").read_text(encoding="utf-8")
    assert len(host) <= 4_000


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A book of three pages: the directive, a notebook's output, and neither."""
    return build(tmp_path_factory.mktemp("book"))


def build(source: Path) -> Path:
    """Build the three pages as ``sphinx-build`` does, which leaves docutils as it was: a process may do so again."""
    sys.path.insert(0, str(ROOT / "book" / "_ext"))
    (source / "index.md").write_text(
        "# One\n\n```{explorer}\n:variant: small\n:width_mult: 0.5\n:dilated:\n:controls: rounding, width_mult\n```\n\n"
        "```{toctree}\nplain\nnotebook\n```\n",
        encoding="utf-8",
    )
    (source / "plain.md").write_text("# Two\n\nNothing here.\n", encoding="utf-8")
    data, metadata = Explorer()._repr_mimebundle_() or ({}, {})
    state = {"application/vnd.jupyter.widget-state+json": {"state": {"a": {}}, "version_major": 2, "version_minor": 0}}
    output = nbformat.v4.new_output("execute_result", data=data, metadata=metadata, execution_count=1)
    cells = [nbformat.v4.new_markdown_cell("# Three"), nbformat.v4.new_code_cell("Explorer()", outputs=[output])]
    about = {"language_info": {"name": "python", "pygments_lexer": "ipython3"}, "widgets": state}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=about), source / "notebook.ipynb")
    settings = {"extensions": ["myst_nb", "widgets"], "nb_execution_mode": "off", "html_theme": "basic"}
    folders = (source, None, source / "_build" / "html", source / "_build" / "trees")
    try:
        with patch_docutils(), docutils_namespace(), warnings.catch_warnings():
            warnings.simplefilter("ignore", (DeprecationWarning, PendingDeprecationWarning))  # of Sphinx and docutils
            app = Sphinx(*folders, "html", confoverrides=settings, status=None, warningiserror=True)
            app.build()
    finally:
        sys.path.remove(str(ROOT / "book" / "_ext"))
    return source / "_build" / "html"


def test_the_directive_writes_what_a_notebook_writes(book: Path) -> None:
    expected = Explorer(variant="small", width_mult=0.5, dilated=True, controls=("width_mult", "rounding"))
    assert expected.page_html() in (book / "index.html").read_text(encoding="utf-8")


def test_a_notebooks_html_wins_over_its_live_view(book: Path) -> None:
    text = (book / "notebook.html").read_text(encoding="utf-8")
    assert DEFAULT in text
    assert "widget-view" not in text
    assert "widget-state" not in text


def test_only_pages_with_a_widget_load_the_script(book: Path) -> None:
    for name, expected in (("index", 1), ("notebook", 1), ("plain", 0)):
        text = (book / f"{name}.html").read_text(encoding="utf-8")
        assert len(re.findall(r'<script[^>]*src="_static/mnv3-widgets\.js', text)) == expected
        assert len(re.findall(r'<link[^>]*href="_static/mnv3-widgets\.css', text)) == expected
        assert "require" not in text
        assert not re.search(r'(src|href)="https?://(?!www\.sphinx|docutils|github)', text)
    assert (book / "_static" / "mnv3-widgets.js").read_text(encoding="utf-8") == pages.static_script()
