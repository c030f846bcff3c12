"""The tasks by the name that a recipe has for them."""

from __future__ import annotations

from mnv3lib.tasks.classification import Classification
from mnv3lib.tasks.detection import Detection
from mnv3lib.tasks.segmentation import Segmentation
from mnv3lib.tasks.task import Task

__all__ = ["TASKS"]

TASKS: dict[str, type[Task]] = {
    "classification": Classification,
    "segmentation": Segmentation,
    "detection": Detection,
}
