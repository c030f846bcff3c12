"""Images with targets in one form, whatever they come from: DigitScenes, folders, ImageNet, CIFAR-10, VOC and COCO.

Needs the extra ``training`` (``pip install "mnv3lib[training]"``). What is not used is not imported.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mnv3lib.data.datasets import open_dataset
    from mnv3lib.data.errors import BrokenFileError, BrokenFilesWarning, SkippedFilesWarning
    from mnv3lib.data.scene_config import SceneConfig
    from mnv3lib.data.scenes import DigitScenes

__all__ = ["BrokenFileError", "BrokenFilesWarning", "DigitScenes", "SceneConfig", "SkippedFilesWarning", "open_dataset"]

_ROOMS = {
    "BrokenFileError": "errors",
    "BrokenFilesWarning": "errors",
    "DigitScenes": "scenes",
    "SceneConfig": "scene_config",
    "SkippedFilesWarning": "errors",
    "open_dataset": "datasets",
}


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return getattr(import_module(f"{__name__}.{_ROOMS[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
