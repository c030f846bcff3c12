"""What a table of the page *Reference* is, and how its cells write numbers and values."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, NamedTuple

NOTHING = "–"
MILLION = 1_000_000
SIZES = {"large": "Large", "small": "Small"}


class Table(NamedTuple):
    """A table of Markdown cells.

    Attributes:
        header: names of the columns.
        rows: as many cells each.
        notes: what stands under the table.
    """

    header: list[str]
    rows: list[list[str]]
    notes: Sequence[str] = ()


def millions(number: int) -> str:
    """A count in millions, two decimals."""
    return f"{number / MILLION:.2f}"


def plain(value: Any) -> str:
    """A value of a recipe as a reader writes it: no powers of ten, no brackets, and of an address its file."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return format(Decimal(str(value)).normalize(), "f")
    if isinstance(value, list | tuple):
        return ", ".join(map(plain, value))
    return f"`{value.rpartition('/')[2]}`" if isinstance(value, str) else str(value)
