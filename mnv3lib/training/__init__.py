"""Training: a recipe as data, and what makes of it a run that can be stopped anywhere and goes on bit for bit.

``python -m mnv3lib.training --help`` is the command line; ``train`` is the same from Python. Needs the extra
``training`` (``pip install "mnv3lib[training]"``). What is not used is not imported.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mnv3lib.recipe import Recipe, load
    from mnv3lib.training.evaluation import measure
    from mnv3lib.training.loop import Training
    from mnv3lib.training.run import Result, train

__all__ = ["Recipe", "Result", "Training", "load", "measure", "train"]

_ROOMS = {
    "Recipe": "recipe",
    "Result": "run",
    "Training": "loop",
    "load": "recipe",
    "measure": "evaluation",
    "train": "run",
}


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return getattr(import_module(f"{__name__}.{_ROOMS[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
