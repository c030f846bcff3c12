"""What is said of files and entries that cannot be used, or that do not belong to a data set."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path

__all__ = ["BrokenFileError", "BrokenFilesWarning", "SkippedFilesWarning", "broken", "needed_folder", "tell"]

_SHOWN = 3  # of many, so many are named in a warning; the data set has them all


class BrokenFileError(RuntimeError):
    """A file of a data set is missing, damaged or not what it should be; the message names it.

    Attributes:
        path: of the file.
        reason: what is wrong with it.
    """

    # With one argument only: a loader makes an exception of a worker process anew from its traceback, whose last line
    # is all that anybody needs.
    def __init__(self, message: str, path: str = "", reason: str = "") -> None:
        message = message.rpartition(f"\n{__name__}.BrokenFileError: ")[2].strip()
        super().__init__(message)
        self.path = path
        self.reason = reason or message


class BrokenFilesWarning(UserWarning):
    """Entries of a data set were left out because they cannot be used, as ``skip_broken`` asks."""


class SkippedFilesWarning(UserWarning):
    """There are files or folders that do not belong to a data set; they were left out."""


def broken(path: str | os.PathLike[str], reason: object) -> BrokenFileError:
    """An error that names a file; the data set adds its own name and what to do."""
    said = reason.strerror if isinstance(reason, OSError) and reason.strerror else str(reason) or type(reason).__name__
    return BrokenFileError(f"{path}: {said}", str(path), said)


def needed_folder(path: Path, layout: str) -> Path:
    """Return ``path`` if it is a folder, and otherwise say what is expected there."""
    if not path.is_dir():
        there = ", ".join(sorted(entry.name for entry in path.parent.iterdir())[:8]) if path.parent.is_dir() else ""
        beside = f"; {path.parent} has {there}" if there else ""
        raise FileNotFoundError(f"there is no folder {path}{beside}. Expected: {layout}")
    return path


def tell(kind: type[Warning], said: str, found: Sequence[tuple[str, str]], stacklevel: int) -> None:
    """Warn of what was left out: how it is said, and the first few with the reason of each."""
    first = "; ".join(f"{path}: {reason}" for path, reason in found[:_SHOWN])
    more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    warnings.warn(f"{said}: {first}{more}", kind, stacklevel=stacklevel + 1)
