"""A Sphinx extension that writes the tables of the page *About this book*.

::

    ```{chapters} chapters
    ```

The others are ``others``, the notebooks that are no chapters, and ``items``, what the rubric asks for. Each notebook is
read and judged when the book is built (``tools/form``); the run times are those of ``_data/run_times.json``, which
``make notebooks`` writes.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

sys.path.append(str(Path(__file__).resolve().parents[2] / "tools"))  # last: a tool has the name of an extension
import notebooks
from form import rubric, table
from form.reading import ROOT

#: The page is made anew when one of these has changed, or a notebook.
SOURCES = [
    *(ROOT / "tools" / "form").glob("*.py"),
    *(ROOT / name for name in ("_toc.yml", "tools/notebooks.py", "book/references.bib", "mnv3lib/facts.yaml")),
    notebooks.RUN_TIMES,
]
#: Words stand at the left, numbers at the right.
SIDES = ["---", *["---:"] * (len(table.HEADER) - 2), "---"]


def items() -> list[str]:
    """What the rubric asks for, as a list."""
    return [
        f"{number}. {item.asks}{' *Required.*' if item.required else ''}"
        for number, item in enumerate(rubric.ITEMS, start=1)
    ]


def judged(*, chapters: bool) -> list[str]:
    """The table of the chapters or of the others; what a chapter misses, and why, is not asked of the others."""
    found = table.lines(chapters=chapters)
    body = [table.HEADER, SIDES, *table.rows(found)]
    text = ["| " + " | ".join(line if chapters else line[:-1]) + " |" for line in body]
    if not chapters:
        return text
    cpu, _ = table.run_times()
    text += ["", f"*Seconds* is the time of all cells in a fresh kernel on {cpu}.", ""]
    return [*text, ":::{dropdown} What each chapter misses", *(f"* {why}" for why in table.reasons(found)), ":::"]


TABLES = {
    "chapters": lambda: judged(chapters=True),
    "others": lambda: judged(chapters=False),
    "items": items,
}


class ChaptersDirective(SphinxDirective):
    """``{chapters}``: one table about the book's own notebooks."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        name = self.arguments[0]
        if name not in TABLES:
            raise self.error(f"chapters must be one of {', '.join(TABLES)}, got {name!r}")
        for path in (*SOURCES, *notebooks.sources()):
            self.env.note_dependency(str(path))
        holder = nodes.container(classes=["facts", f"facts-{name}"])
        self.state.nested_parse(StringList(TABLES[name](), source=__file__), 0, holder)
        return [holder]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("chapters", ChaptersDirective)
    return {"parallel_read_safe": True}
