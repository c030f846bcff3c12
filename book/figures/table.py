"""A table that a cell shows: Markdown's tables do not reach the page."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape

__all__ = ["Table"]

#: A number with its unit, or a dash where there is none.
_NUMBER = re.compile(r"[−+-]?\d[\d.,]*(?: ?[%A-Za-z]+)?|–")


class Table:
    """Rows below the names of their columns; a column of numbers stands at the right.

    A cell of several lines is broken between them and nowhere else.

    Args:
        columns: their names.
        rows: a cell for each column.

    Raises:
        ValueError: for a row of another length.
    """

    def __init__(self, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        self.columns, self.rows = tuple(columns), [tuple(map(str, row)) for row in rows]
        if any(len(row) != len(self.columns) for row in self.rows):
            raise ValueError(f"rows must have {len(self.columns)} cells, as columns has, got {self.rows!r}")

    def _repr_html_(self) -> str:
        numbers = [all(map(_NUMBER.fullmatch, cells)) for cells in zip(*self.rows, strict=True)]

        def line(cells: Sequence[str], tag: str) -> str:
            return "".join(
                f'<{tag} style="text-align:{"right" if right else "left"}'
                f'{";white-space:nowrap" if right or chr(10) in cell else ""}">'
                f"{escape(cell).replace(chr(10), '<br>')}</{tag}>"
                for cell, right in zip(cells, numbers, strict=True)
            )

        body = "".join(f"<tr>{line(row, 'td')}</tr>" for row in self.rows)
        head = line(self.columns, "th").replace(";white-space:nowrap", "")
        return f'<table class="table"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'

    def __repr__(self) -> str:
        lines = (" | ".join(row) for row in (self.columns, *self.rows))
        return "\n".join(line.replace("\n", " ") for line in lines)
