"""MobileNetV3, from the rows of its tables to networks, proven equal to torchvision's.

A network is data first: :mod:`mnv3lib.config` holds the rows, :mod:`mnv3lib.cost` adds them up without torch,
:mod:`mnv3lib.network` builds them. ``import mnv3lib`` is light: torch is loaded when a name that needs it is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mnv3lib import config, cost

if TYPE_CHECKING:
    from mnv3lib.network import FeatureTaps, MobileNetV3, mobilenet_v3_large, mobilenet_v3_small

__version__ = "0.1.0"

__all__ = ["FeatureTaps", "MobileNetV3", "config", "cost", "mobilenet_v3_large", "mobilenet_v3_small"]

_MODULES = ("blocks", "explore", "network", "weights")
_NETWORK = ("FeatureTaps", "MobileNetV3", "mobilenet_v3_large", "mobilenet_v3_small")


def __getattr__(name: str) -> Any:
    """Import what needs torch or a widget library at first use (PEP 562)."""
    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    if name in _NETWORK:
        return getattr(import_module(f"{__name__}.network"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES, *_NETWORK})
