"""Where files are kept, and how they are written so that they are there as a whole or not at all, whoever writes."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from platformdirs import user_cache_path

__all__ = ["VARIABLE", "cache_folder", "remove_unfinished", "whole_file", "whole_files"]

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
    temporary = _temporary(path)
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
        raise _about(error, path) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def whole_files(path: Path, *, parts: Sequence[Path] = (), notes: Sequence[Path] = ()) -> Iterator[Path]:
    """Give a folder to write files in that belong together; they replace those that are there when the block ends well.

    Otherwise nothing is left of them, and what was there is as it was. Of writers that end at once one waits for the
    other, where the system can lock a folder.

    Args:
        path: the file that is opened by others; its folder is made.
        parts: what is read with it. Where there are some, all is taken away before anything is put there, so that the
            file is never read with the parts of another.
        notes: what is said about it; replaced last.

    Raises:
        OSError: naming the path, e.g. on a full disk, or if one of the files is a folder.
    """
    folder, wanted = _temporary(path), (*parts, path, *notes)
    try:
        for one in wanted:
            if one.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(one))
        folder.mkdir(parents=True)
        yield folder
        for one in wanted:
            with open(folder / one.name, "rb+") as stream:
                os.fsync(stream.fileno())
        with _locked(path.parent), _taken_away((path, *parts) if parts else (), folder / "before"):
            for one in wanted:
                os.replace(folder / one.name, one)
        _sync_folder(path.parent)
    except OSError as error:
        raise _about(error, path) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _temporary(path: Path) -> Path:
    """A name beside ``path`` that nobody else uses."""
    return path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")


def _about(error: OSError, path: Path) -> OSError:
    """The error, naming what was to be written and not how it was called meanwhile."""
    if error.errno is None:
        return error
    return type(error)(error.errno, f"cannot be written ({error.strerror})", str(path))


@contextmanager
def _taken_away(files: Sequence[Path], folder: Path) -> Iterator[None]:
    """Files are in another folder while the block lasts, and come back, the first of them last, if it fails."""
    folder.mkdir()
    there = [one for one in files if one.exists()]
    try:
        for one in there:
            os.replace(one, folder / one.name)
        yield
    except BaseException:
        for one in reversed(there):
            with suppress(FileNotFoundError):  # it had not been taken away
                os.replace(folder / one.name, one)
        raise


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """No other process of those that ask for it is in such a block for the same folder."""
    try:
        import fcntl
    except ImportError:  # not on Windows
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


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
