"""Published numbers, and where each comes from: the book quotes no figure that is not in ``facts.yaml``.

The file says of every count whether :mod:`mnv3lib.cost` reproduces it, under which rule, and if not, why. Needs PyYAML
(``pip install mnv3lib[explore]``).
"""

from __future__ import annotations

from copy import deepcopy
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

__all__ = ["errata", "load", "published", "source", "specification", "table"]

Entry = dict[str, Any]


@cache
def _document() -> Entry:
    text = files("mnv3lib").joinpath("facts.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text)


def load() -> Entry:
    """The whole file, as a copy that the caller may change."""
    return deepcopy(_document())


def _entry(section: str, key: str) -> Entry:
    known = _document()[section]
    if key not in known:
        raise KeyError(f"{section} has no entry {key!r}, only {', '.join(map(repr, known))}")
    return deepcopy(known[key])


def source(id: str) -> Entry:
    """Title, authors, year, address and how far to trust it, e.g. of ``"paper"``."""
    return _entry("sources", id)


def table(name: str) -> Entry:
    """Title, source, units and printed digits of a table, e.g. ``"table9"``."""
    return _entry("tables", name)


def specification(variant: str) -> Entry:
    """The paper's table of layers of ``"large"`` or ``"small"``: ``columns`` and ``rows`` as printed."""
    return _entry("specifications", variant)


def published(*, table: str | None = None, variant: str | None = None) -> list[Entry]:
    """The published rows, in the order of the file.

    Args:
        table: only rows of this table, e.g. ``"table9"``.
        variant: only rows of this network, e.g. ``"small"``.

    Returns:
        Rows with ``source`` filled in. ``macs`` and ``params`` of our networks are dictionaries (``printed``,
        ``reproduced`` and more); those of other networks are plain numbers.

    Raises:
        KeyError: for a table that is not there.
    """
    if table is not None:
        _entry("tables", table)
    rows = [
        {"source": _entry("tables", row["table"])["source"], **deepcopy(row)}
        for row in _document()["published"]
        if table in (None, row["table"]) and variant in (None, row.get("variant"))
    ]
    return rows


def errata() -> list[Entry]:
    """Claims that are wrong or stale: ``id``, ``claim``, ``where``, ``source`` and ``truth``."""
    return deepcopy(_document()["errata"])
