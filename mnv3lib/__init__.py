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
    from mnv3lib.tasks.lraspp import lraspp_mobilenet_v3_large, lraspp_mobilenet_v3_small

__version__ = "0.1.0"

__all__ = [
    "FeatureTaps",
    "MobileNetV3",
    "config",
    "cost",
    "deeplabv3_mobilenet_v3_large",
    "deeplabv3_mobilenet_v3_small",
    "lraspp_mobilenet_v3_large",
    "lraspp_mobilenet_v3_small",
    "mobilenet_v3_large",
    "mobilenet_v3_small",
]

#: Where each name is; it is imported when it is first used. The rooms are modules themselves.
_LAZY = {
    **dict.fromkeys(("FeatureTaps", "MobileNetV3", "mobilenet_v3_large", "mobilenet_v3_small"), "mnv3lib.network"),
    **{
        f"{head}_mobilenet_v3_{size}": f"mnv3lib.tasks.{head}"
        for head in ("lraspp", "deeplabv3") for size in ("large", "small")
    },
    **{
        room: f"mnv3lib.{room}"
        for room in ("blocks", "data", "deploy", "explore", "facts", "heads", "network", "pointwise", "provenance",
                     "recipe", "rows", "tasks", "training", "weights", "wild")
    },
}  # fmt: skip

__getattr__, __dir__ = attach(__name__, _LAZY)
