"""The one palette of the book: Okabe and Ito's colours, safe for colour-blind readers, and what each stands for.

Figures, the explorer and the network map take their colours from here, so that a depthwise convolution is orange on
every page. The hues are readable on white and on the dark theme's background; text is never set in them.
"""

from __future__ import annotations

__all__ = ["ACCENT", "COLOURS", "KINDS", "LABELS", "PAPER", "REFERENCE"]

#: Okabe and Ito, "Color Universal Design", 2008.
COLOURS = {
    "black": "#000000",
    "orange": "#E69F00",
    "sky": "#56B4E9",
    "green": "#009E73",
    "yellow": "#F0E442",
    "blue": "#0072B2",
    "vermilion": "#D55E00",
    "purple": "#CC79A7",
}

#: The page's colour: the book's, JupyterLab's, or the browser's.
PAPER = "var(--pst-color-background,var(--jp-layout-color0,Canvas))"

#: The accent of the page and of whatever the reader has just changed.
ACCENT = COLOURS["blue"]

#: The reference that a change is compared with, on light and dark backgrounds alike.
REFERENCE = "#8A8A8A"

#: Colour of each part of the network; the keys are families of :data:`mnv3lib.cost.Kind`.
KINDS = {
    "stem": COLOURS["sky"],
    "expand": COLOURS["blue"],
    "depthwise": COLOURS["orange"],
    "se": COLOURS["purple"],
    "project": COLOURS["green"],
    "last conv": COLOURS["sky"],
    "classifier": COLOURS["vermilion"],
}

#: What those parts are called in legends.
LABELS = {
    "stem": "stem",
    "expand": "expansion 1×1",
    "depthwise": "depthwise k×k",
    "se": "squeeze-and-excitation",
    "project": "projection 1×1",
    "last conv": "last conv 1×1",
    "classifier": "classifier",
}
