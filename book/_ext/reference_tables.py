"""A Sphinx extension that writes the tables of the page *Reference* from the library and its fact file.

::

    ```{facts} large
    ```

The tables and their names are those of ``figures.reference``.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from figures import reference

import mnv3lib

#: The page is made anew when one of these has changed.
SOURCES = [*Path(reference.__file__).parent.glob("*.py"), *Path(mnv3lib.__file__).parent.rglob("*.py"),
           *Path(mnv3lib.__file__).parent.rglob("*.yaml")]  # fmt: skip


def side(column: tuple[str, ...]) -> str:
    """Where the cells of a column stand: at the right if they are numbers."""
    return "---:" if all(re.fullmatch(r"[\d.,]+|–", cell) for cell in column) else "---"


class FactsDirective(SphinxDirective):
    """``{facts}``: one table of facts, and what is to be said under it."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        name = self.arguments[0]
        if name not in reference.TABLES:
            raise self.error(f"facts must be one of {', '.join(reference.TABLES)}, got {name!r}")
        for path in SOURCES:
            self.env.note_dependency(str(path))
        header, rows, notes = reference.table(name)
        lines = [header, [side(column) for column in zip(*rows, strict=True)], *rows]
        text = ["| " + " | ".join(line) + " |" for line in lines]
        text += ["", *(f"- {note}" for note in notes)]
        holder = nodes.container(classes=["facts", f"facts-{name}"])
        self.state.nested_parse(StringList(text, source=reference.__file__), 0, holder)
        return [holder]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("facts", FactsDirective)
    return {"parallel_read_safe": True}
