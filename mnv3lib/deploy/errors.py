"""What cannot be used here, and what could not be made."""

from __future__ import annotations

__all__ = ["ExportError", "Unavailable"]


class Unavailable(RuntimeError):
    """Something that this machine or environment lacks, and how to get it."""


class ExportError(RuntimeError):
    """A network that cannot be written in a format, or a file that does not give the network's logits."""
