"""Images with targets in one form, whatever they come from: DigitScenes, folders, ImageNet, CIFAR-10, VOC and COCO.

Needs the extra ``training`` (``pip install "mnv3lib[training]"``). What is not used is not imported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mnv3lib._lazy import attach

if TYPE_CHECKING:
    from mnv3lib.data.datasets import open_dataset
    from mnv3lib.data.errors import BrokenFileError, BrokenFilesWarning, SkippedFilesWarning
    from mnv3lib.data.scene_config import SceneConfig
    from mnv3lib.data.scenes import DigitScenes

__all__ = ["BrokenFileError", "BrokenFilesWarning", "DigitScenes", "SceneConfig", "SkippedFilesWarning", "open_dataset"]

#: Where each name is; it is imported when it is first used.
_LAZY = {
    "BrokenFileError": "mnv3lib.data.errors",
    "BrokenFilesWarning": "mnv3lib.data.errors",
    "DigitScenes": "mnv3lib.data.scenes",
    "SceneConfig": "mnv3lib.data.scene_config",
    "SkippedFilesWarning": "mnv3lib.data.errors",
    "open_dataset": "mnv3lib.data.datasets",
}

__getattr__, __dir__ = attach(__name__, _LAZY)
