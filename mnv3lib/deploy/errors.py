"""What cannot be used here."""

from __future__ import annotations

__all__ = ["Unavailable"]


class Unavailable(RuntimeError):
    """Something that this machine or environment lacks, and how to get it."""
