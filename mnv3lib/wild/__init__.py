"""MobileNetV3 in the wild: trained networks that are in use, each with what it changed of the family.

They are built of the core's blocks; what differs is written here, and the core does not know of it. Their weights are
others', under the Apache License 2.0: each has a card beside it in ``wild/shipped`` that says whose, and what was done
to them. They come with the library::

    import torch

    from mnv3lib import wild

    network = wild.text_direction()
    upright, upside_down = network(wild.prepare_line(image)).softmax(1)[0]

    network = wild.portrait_segmenter()
    person = network(wild.prepare_portrait(image))[0, 0]  # 256 × 256 probabilities

Needs ``pip install 'mnv3lib[weights]'`` for safetensors, and NumPy.
"""

from mnv3lib.wild.direction import TextDirection, text_direction
from mnv3lib.wild.lines import LINE_SIZE, prepare_line
from mnv3lib.wild.pieces import HardSigmoid
from mnv3lib.wild.portrait import (
    PORTRAIT_ROWS,
    PORTRAIT_SIZE,
    PortraitSegmenter,
    portrait_segmenter,
    prepare_portrait,
)

__all__ = [
    "LINE_SIZE",
    "PORTRAIT_ROWS",
    "PORTRAIT_SIZE",
    "HardSigmoid",
    "PortraitSegmenter",
    "TextDirection",
    "portrait_segmenter",
    "prepare_line",
    "prepare_portrait",
    "text_direction",
]
