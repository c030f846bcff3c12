"""Seeing a configuration: the explorer, the flipbook and the network map. All numbers come from :mod:`mnv3lib.cost`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mnv3lib.explore.explorer import Explorer
    from mnv3lib.explore.flipbook import Flipbook

__all__ = ["Explorer", "Flipbook"]

#: Loaded when first asked for: the map needs no widgets, the widgets no Matplotlib.
_ROOMS = {"Explorer": "explorer", "Flipbook": "flipbook"}


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return getattr(import_module(f"{__name__}.{_ROOMS[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
