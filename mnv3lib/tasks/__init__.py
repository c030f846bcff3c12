"""What differs between classification, segmentation and detection: a file for each.

A task has a network with its backbone and head, transforms and batches of its own, a loss and a metric. It takes
arguments, knows no recipe and no loop; a loop asks a :class:`Task` without knowing which one it is. Needs the extra
``training`` (``pip install "mnv3lib[training]"``).
"""

from mnv3lib.tasks.classification import Classification
from mnv3lib.tasks.detection import Detection
from mnv3lib.tasks.metrics import IGNORE_INDEX, Metric
from mnv3lib.tasks.segmentation import Segmentation
from mnv3lib.tasks.task import Task

__all__ = ["IGNORE_INDEX", "TASKS", "Classification", "Detection", "Metric", "Segmentation", "Task"]

TASKS: dict[str, type[Task]] = {
    "classification": Classification,
    "segmentation": Segmentation,
    "detection": Detection,
}
