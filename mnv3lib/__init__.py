"""MobileNetV3, from the rows of its tables to networks, proven equal to torchvision's.

A network is data first: :mod:`mnv3lib.config` holds the rows, :mod:`mnv3lib.cost` adds them up without torch,
:mod:`mnv3lib.network` builds them. ``import mnv3lib`` is light: torch is loaded when a name that needs it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mnv3lib import config, cost
from mnv3lib._lazy import attach

if TYPE_CHECKING:
    from mnv3lib.network import FeatureTaps, MobileNetV3, mobilenet_v3_large, mobilenet_v3_small
    from mnv3lib.tasks.deeplabv3 import deeplabv3_mobilenet_v3_large, deeplabv3_mobilenet_v3_small
    from mnv3lib.tasks.fasterrcnn import (
        fasterrcnn_mobilenet_v3_large_320_fpn,
        fasterrcnn_mobilenet_v3_large_fpn,
        fasterrcnn_mobilenet_v3_small_320_fpn,
        fasterrcnn_mobilenet_v3_small_fpn,
    )
    from mnv3lib.tasks.lraspp import lraspp_mobilenet_v3_large, lraspp_mobilenet_v3_small
    from mnv3lib.tasks.ssdlite import ssdlite320_mobilenet_v3_large, ssdlite320_mobilenet_v3_small

__version__ = "0.1.0"

__all__ = [
    "FeatureTaps",
    "MobileNetV3",
    "config",
    "cost",
    "deeplabv3_mobilenet_v3_large",
    "deeplabv3_mobilenet_v3_small",
    "fasterrcnn_mobilenet_v3_large_320_fpn",
    "fasterrcnn_mobilenet_v3_large_fpn",
    "fasterrcnn_mobilenet_v3_small_320_fpn",
    "fasterrcnn_mobilenet_v3_small_fpn",
    "lraspp_mobilenet_v3_large",
    "lraspp_mobilenet_v3_small",
    "mobilenet_v3_large",
    "mobilenet_v3_small",
    "ssdlite320_mobilenet_v3_large",
    "ssdlite320_mobilenet_v3_small",
]

#: Where each name is; it is imported when it is first used. The rooms are modules themselves.
_LAZY = {
    **dict.fromkeys(("FeatureTaps", "MobileNetV3", "mobilenet_v3_large", "mobilenet_v3_small"), "mnv3lib.network"),
    **{
        f"{head}_mobilenet_v3_{size}{form}": f"mnv3lib.tasks.{head.removesuffix('320')}"
        for head, forms in {
            "lraspp": ("",), "deeplabv3": ("",), "ssdlite320": ("",), "fasterrcnn": ("_fpn", "_320_fpn")
        }.items()
        for size in ("large", "small") for form in forms
    },
    **{
        room: f"mnv3lib.{room}"
        for room in ("blocks", "data", "deploy", "detectors", "explore", "facts", "heads", "network", "pointwise",
                     "provenance", "recipe", "rows", "tasks", "training", "weights", "wild")
    },
}  # fmt: skip

__getattr__, __dir__ = attach(__name__, _LAZY)
