"""What differs between classification, segmentation and detection: a file for each, and one for each kind of head.

A task has a network with its backbone and head, transforms and batches of its own, a loss and a metric. It takes
arguments, knows no recipe and no loop; a loop asks a :class:`Task` without knowing which one it is. Its networks are
those of this library, and start from fresh weights; :mod:`mnv3lib.weights` fills them. Tasks need the extra
``training`` (``pip install "mnv3lib[training]"``), the networks :class:`~mnv3lib.tasks.lraspp.LRASPP` and
:class:`~mnv3lib.tasks.deeplabv3.DeepLabV3` do not: what is not used is not imported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mnv3lib._lazy import attach

if TYPE_CHECKING:
    from mnv3lib.tasks.classification import Classification
    from mnv3lib.tasks.deeplabv3 import DeepLabV3
    from mnv3lib.tasks.detection import Detection
    from mnv3lib.tasks.fasterrcnn import FasterRCNN
    from mnv3lib.tasks.kinds import TASKS
    from mnv3lib.tasks.lraspp import LRASPP
    from mnv3lib.tasks.metrics import IGNORE_INDEX, Metric
    from mnv3lib.tasks.segmentation import Segmentation
    from mnv3lib.tasks.ssdlite import SSDLite
    from mnv3lib.tasks.task import Task

__all__ = ["IGNORE_INDEX", "LRASPP", "TASKS", "Classification", "DeepLabV3", "Detection", "FasterRCNN", "Metric",
           "SSDLite", "Segmentation", "Task"]  # fmt: skip

#: Where each name is; it is imported when it is first used.
_LAZY = {
    "Classification": "mnv3lib.tasks.classification",
    "DeepLabV3": "mnv3lib.tasks.deeplabv3",
    "Detection": "mnv3lib.tasks.detection",
    "FasterRCNN": "mnv3lib.tasks.fasterrcnn",
    "IGNORE_INDEX": "mnv3lib.tasks.metrics",
    "LRASPP": "mnv3lib.tasks.lraspp",
    "Metric": "mnv3lib.tasks.metrics",
    "SSDLite": "mnv3lib.tasks.ssdlite",
    "Segmentation": "mnv3lib.tasks.segmentation",
    "TASKS": "mnv3lib.tasks.kinds",
    "Task": "mnv3lib.tasks.task",
}

__getattr__, __dir__ = attach(__name__, _LAZY)
