"""Where files are kept, and how one is written so that it is there as a whole or not at all, whoever writes it."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from platformdirs import user_cache_path

__all__ = ["VARIABLE", "cache_folder", "remove_unfinished", "whole_file"]

#: The environment variable that names the folder of the cache.
VARIABLE = "MNV3LIB_CACHE"


def cache_folder(folder: str | os.PathLike[str] | None = None) -> Path:
    """Return ``folder``, or the one that ``MNV3LIB_CACHE`` names, or the system's own for caches.

    That is ``~/.cache/mnv3lib`` on Linux, ``~/Library/Caches/mnv3lib`` on macOS. The folder need not exist yet.
    """
    chosen = folder or os.environ.get(VARIABLE)
    return Path(chosen).expanduser() if chosen else user_cache_path("mnv3lib", appauthor=False)


@contextmanager
def whole_file(path: Path, *, keep: Path | None = None) -> Iterator[IO[bytes]]:
    """Give a file to write; it replaces ``path`` when the block ends well, otherwise nothing is left of it.

    What was at ``path`` is there until that moment, also if the machine loses power. Writers do not disturb each other;
    the last one to end wins.

    Args:
        path: the file; its folder is made.
        keep: where the file that was at ``path`` goes; None for nowhere.

    Raises:
        OSError: naming the path, e.g. on a full disk.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "xb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        if keep is not None and path.exists():
            os.replace(path, keep)
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        if error.errno is not None:
            raise type(error)(error.errno, f"cannot be written ({error.strerror})", str(path)) from error
        raise
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def remove_unfinished(path: Path) -> None:
    """Delete what writers of ``path`` that were killed have left; only for who knows that nobody is writing it."""
    for left in path.parent.glob(f".{path.name}.*.tmp"):
        left.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Make a renaming in the folder last; systems that cannot open folders do it by themselves."""
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
