"""The packages of other projects: loaded when they are used first, and kept from telling anybody about it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from mnv3lib.deploy.errors import Unavailable

__all__ = ["package"]

#: Whose events OpenVINO reports as it is imported; it does without where this cannot be imported.
_TELEMETRY = "openvino_telemetry"


def package(name: str) -> Any:
    """Import a package or a module of one.

    The official builds of ONNX Runtime and OpenVINO report their use over the network, and keep an identifier of the
    machine in the user's home. Both is switched off for this process, unless it had loaded them already.

    Raises:
        Unavailable: if it is not installed, naming what to install.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # ONNX Runtime reads it as it starts
    try:
        with _without(_TELEMETRY):
            return import_module(name)
    except ImportError as error:
        distribution = name.partition(".")[0]
        raise Unavailable(f"it needs the package {distribution!r}: pip install {distribution}") from error


@contextmanager
def _without(name: str) -> Iterator[None]:
    """A module that cannot be imported while the block lasts."""
    before = sys.modules.get(name)
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[name]
        if before is not None:
            sys.modules[name] = before
