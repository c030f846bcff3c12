"""Training: a recipe as data, and what makes of it a run that can be stopped anywhere and goes on bit for bit.

That holds on one kind of processor, with one version of PyTorch and one number of threads; between processors, sums of
floats are rounded otherwise, and runs of the same seed drift apart.

``python -m mnv3lib.training --help`` is the command line; ``train`` is the same from Python. Needs the extra
``training`` (``pip install "mnv3lib[training]"``). What is not used is not imported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mnv3lib._lazy import attach

if TYPE_CHECKING:
    from mnv3lib.recipe import Recipe, load
    from mnv3lib.training.evaluation import measure
    from mnv3lib.training.loop import Training
    from mnv3lib.training.run import Result, train

__all__ = ["Recipe", "Result", "Training", "load", "measure", "train"]

#: Where each name is; it is imported when it is first used.
_LAZY = {
    "Recipe": "mnv3lib.recipe",
    "Result": "mnv3lib.training.run",
    "Training": "mnv3lib.training.loop",
    "load": "mnv3lib.recipe",
    "measure": "mnv3lib.training.evaluation",
    "train": "mnv3lib.training.run",
}

__getattr__, __dir__ = attach(__name__, _LAZY)
