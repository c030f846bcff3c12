"""Seeing a configuration: the explorer, the flipbook and the network map. All numbers come from :mod:`mnv3lib.cost`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mnv3lib._lazy import attach

if TYPE_CHECKING:
    from mnv3lib.explore.explorer import Explorer
    from mnv3lib.explore.flipbook import Flipbook

__all__ = ["Explorer", "Flipbook"]

#: Loaded when first asked for: the map needs no widgets, the widgets no Matplotlib.
_LAZY = {"Explorer": "mnv3lib.explore.explorer", "Flipbook": "mnv3lib.explore.flipbook"}

__getattr__, __dir__ = attach(__name__, _LAZY)
