"""The tables of the page *Reference*, made from the library, the installed packages and the fact file.

A cell is a line of Markdown. ``book/_ext/reference_tables.py`` puts the tables on the page when the book is built, so
that no number of the page is typed twice.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from figures.reference.defaults import norms, timm_preprocessing, torchvision_preprocessing
from figures.reference.formulas import FORMULAS, Formula, formulas
from figures.reference.networks import layers, order
from figures.reference.published import published
from figures.reference.recipes import CLASSIFICATION, DENSE, recipes
from figures.reference.sizes import SIDES, WIDTHS, sizes, widths
from figures.reference.tables import SIZES, Table

from mnv3lib._checks import value_of

__all__ = ["CLASSIFICATION", "DENSE", "FORMULAS", "SIDES", "TABLES", "WIDTHS", "Formula", "Table", "table"]

_MADE: dict[str, Callable[[], Table]] = {
    **{name: partial(layers, name) for name in SIZES},
    "order": order,
    **{f"widths-{name}": partial(widths, name) for name in SIZES},
    "sizes": sizes,
    **{table: partial(published, table) for table in ("table9", "tf-slim", "torchvision")},
    "norms": norms,
    "torchvision-preprocessing": torchvision_preprocessing,
    "timm-preprocessing": timm_preprocessing,
    "recipes-classification": partial(recipes, CLASSIFICATION),
    "recipes-dense": partial(recipes, DENSE),
    "formulas": formulas,
}
#: Names of the tables.
TABLES = tuple(_MADE)


def table(name: str) -> Table:
    """A table by its name.

    Raises:
        ValueError: for a name that is not in :data:`TABLES`.
    """
    return value_of("name", name, _MADE)()
