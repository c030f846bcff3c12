"""A Sphinx extension: figures, equations and exercises are numbered by chapter, as in the chapter's notebook.

Figure 3.2 is the second one of chapter 3; a page that is no chapter counts for itself. Sphinx would count through the
whole book, so that a new figure changes the numbers of all later pages.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

__all__ = ["chapter", "setup"]

#: After Sphinx's own numbers are there (its handlers have 500).
LATER = 900


def chapter(page: str) -> tuple[int, ...]:
    """Return what a page's numbers begin with: that of its chapter, or nothing."""
    found = re.match(r"(\d+)_", page)
    return (int(found[1]),) if found else ()


def number_by_chapter(app: Sphinx, env: BuildEnvironment) -> list[str]:
    """Count anew on every page."""
    for page, kinds in env.toc_fignumbers.items():
        for numbers in kinds.values():
            for count, name in enumerate(numbers, start=1):
                numbers[name] = (*chapter(page), count)
    return []


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect the step to the build."""
    app.connect("env-get-updated", number_by_chapter, priority=LATER)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
