"""A training recipe as data that checks itself: its sections, YAML in and out, the schedule of the learning rate.

Nothing here imports PyTorch: a recipe can be read, checked and planned without it. Needs PyYAML. The recipes that ship
with the library are YAML files in the folder ``published``; ``names()`` lists them, ``load(name)`` reads one.
"""

from mnv3lib.recipe.recipe import Recipe, Task, load, names, overridden, replace_at
from mnv3lib.recipe.schedule import curve, factor
from mnv3lib.recipe.sections import (
    NETWORKS,
    Augment,
    Averaging,
    Data,
    Model,
    Optimiser,
    Precision,
    Quantisation,
    Schedule,
)

__all__ = [
    "NETWORKS",
    "Augment",
    "Averaging",
    "Data",
    "Model",
    "Optimiser",
    "Precision",
    "Quantisation",
    "Recipe",
    "Schedule",
    "Task",
    "curve",
    "factor",
    "load",
    "names",
    "overridden",
    "replace_at",
]
