"""Files that are made once and kept: fixed-size records under a memory map, and small findings as JSON.

A file appears under its name only when it is whole: it is written under another, synced to the disk and renamed. One
process writes, others that want the same wait for it. A file that is cut short or changed is found out and made anew.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock

if TYPE_CHECKING:
    from numpy.typing import NDArray

from mnv3lib._files import VARIABLE, cache_folder, remove_unfinished, whole_file

__all__ = ["HEADER_BYTES", "checked_folder", "open_records", "records", "remembered"]

#: Bytes before the first record: a line that names the format, then JSON, padded with spaces.
HEADER_BYTES = 8192

_MAGIC = b"mnv3lib records 1\n"
_CHUNK_BYTES = 1 << 22

Header = dict[str, Any]


def _name(kind: str, key: Header) -> str:
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    return f"{kind}-{digest[:16]}"


@contextmanager
def _sole_writer(path: Path) -> Iterator[None]:
    """Wait until no other process writes ``path``, and remove what a writer that was killed has left of it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path.with_name(f".{path.name}.lock"))
        lock.acquire()
    except OSError as error:
        raise OSError(
            error.errno,
            f"cannot write to the cache ({error.strerror}): name another folder, or set {VARIABLE}",
            str(path),
        ) from error
    try:
        remove_unfinished(path)
        yield
    finally:
        lock.release()


@contextmanager
def _with_room(path: Path, size: int) -> Iterator[IO[bytes]]:
    """:func:`whole_file` for ``size`` bytes, which says what to do where there is no room for them."""
    try:
        if shutil.disk_usage(path.parent).free < size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        with whole_file(path) as stream:
            yield stream
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise OSError(
            error.errno,
            f"no room for {size:,} bytes ({os.strerror(error.errno)}): free some, name another folder, or set "
            f"{VARIABLE}",
            str(path),
        ) from error


def _described(kind: np.dtype[np.void]) -> list[Any]:
    return json.loads(json.dumps(kind.descr))


def _read_header(path: Path) -> Header | str:
    """The header, or in words what is wrong with the file."""
    with path.open("rb") as stream:
        head = stream.read(HEADER_BYTES)
    if len(head) < HEADER_BYTES or not head.startswith(_MAGIC):
        return "not a file of records"
    try:
        header: Header = json.loads(head[len(_MAGIC) :])
        size = HEADER_BYTES + header["bytes"]
    except (ValueError, KeyError, TypeError):
        return "damaged in its header"
    found = path.stat().st_size
    return header if found == size else f"{found:,} bytes long instead of {size:,}"


def _fault(path: Path, key: Header, kind: np.dtype[np.void]) -> str | None:
    """What is wrong with a file of records, or None if every byte is as it was written."""
    header = _read_header(path)
    if isinstance(header, str):
        return header
    if header.get("key") != json.loads(json.dumps(key)) or header.get("dtype") != _described(kind):
        return "made with other parameters"
    total = hashlib.sha256()
    with path.open("rb") as stream:
        stream.seek(HEADER_BYTES)
        while chunk := stream.read(_CHUNK_BYTES):
            total.update(chunk)
    return None if total.hexdigest() == header.get("sha256") else "changed since it was written"


def open_records(path: Path, kind: np.dtype[np.void], count: int) -> NDArray[np.void]:
    """Map a file that :func:`records` gave, e.g. in another process, without reading it through again.

    Raises:
        FileNotFoundError: if it is gone.
        OSError: if it is not ``count`` records long, naming the file.
    """
    header = _read_header(path)
    if isinstance(header, str) or header["bytes"] != count * kind.itemsize:
        reason = header if isinstance(header, str) else "of other records"
        raise OSError(errno.EIO, f"cached file is {reason}: delete it, and it is made anew", str(path))
    return np.memmap(path, dtype=kind, mode="r", offset=HEADER_BYTES, shape=(count,))


def records(
    folder: str | os.PathLike[str] | None,
    name: str,
    key: Header,
    kind: np.dtype[np.void],
    count: int,
    make: Callable[[int], NDArray[np.void]],
    *,
    progress: bool | None = None,
) -> tuple[NDArray[np.void], Path]:
    """``count`` records as a read-only memory map, made now unless a whole file of them is there.

    Args:
        folder: where files are kept; None for :func:`cache_folder`.
        name: that the file's name begins with.
        key: all that decides the records, as JSON can have it; kept in the file.
        kind: type of a record, without padding.
        make: gives record i.
        progress: show a bar while they are made; None for one on a terminal only.

    Returns:
        The memory map, and the path of its file.

    Raises:
        OSError: naming the file, if the folder cannot be written to or is full; nothing half-written is left.
    """
    path = cache_folder(folder) / f"{_name(name, key)}.records"
    fault = _fault(path, key, kind) if path.exists() else "missing"
    if fault is not None:
        with _sole_writer(path):
            fault = _fault(path, key, kind) if path.exists() else None
            if fault is not None:
                warnings.warn(f"{path} is {fault}: it is made anew", stacklevel=3)
            if fault is not None or not path.exists():
                _write(path, name, key, kind, count, make, progress)
    return open_records(path, kind, count), path


def _write(
    path: Path,
    name: str,
    key: Header,
    kind: np.dtype[np.void],
    count: int,
    make: Callable[[int], NDArray[np.void]],
    progress: bool | None,
) -> None:
    from tqdm import tqdm

    total = hashlib.sha256()
    size = count * kind.itemsize
    per_chunk = max(_CHUNK_BYTES // kind.itemsize, 1)
    hidden = None if progress is None else not progress
    with (
        _with_room(path, HEADER_BYTES + size) as stream,
        tqdm(total=count, desc=name, unit="image", disable=hidden) as bar,
    ):
        stream.write(b" " * HEADER_BYTES)
        for first in range(0, count, per_chunk):
            chunk = np.zeros(min(per_chunk, count - first), dtype=kind)
            for offset in range(len(chunk)):
                chunk[offset] = make(first + offset)
                bar.update()
            data = chunk.tobytes()
            total.update(data)
            stream.write(data)
        header = {"key": key, "dtype": _described(kind), "count": count, "bytes": size, "sha256": total.hexdigest()}
        head = _MAGIC + json.dumps(header).encode()
        if len(head) > HEADER_BYTES:
            raise ValueError(f"the parameters of {name} take {len(head)} bytes, at most {HEADER_BYTES} fit")
        stream.seek(0)
        stream.write(head.ljust(HEADER_BYTES))


def remembered(folder: str | os.PathLike[str] | None, name: str, key: Header, find: Callable[[], Any]) -> Any:
    """What ``find`` returned, as JSON has it, when it was asked with this ``key`` before; otherwise ask and keep it."""
    path = cache_folder(folder) / f"{_name(name, key)}.json"

    def kept() -> Header | None:
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return None
        return found if isinstance(found, dict) and found.keys() == {"key", "found"} and found["key"] == key else None

    if (entry := kept()) is None:
        with _sole_writer(path):
            if (entry := kept()) is None:
                entry = {"key": key, "found": find()}
                data = json.dumps(entry, indent=1).encode()
                with _with_room(path, len(data)) as stream:
                    stream.write(data)
    return entry["found"]


def checked_folder(cache: object) -> None:
    """Refuse what is no folder for a cache, nor None for the usual one or False for none.

    Raises:
        TypeError, ValueError: naming ``cache``.
    """
    if cache is not None and cache is not False and not isinstance(cache, (str, os.PathLike)):
        raise TypeError(f"cache must be a folder, None for the usual one, or False for none, got {cache!r}")
    if cache == "":
        raise ValueError("cache must be a folder, None for the usual one, or False for none, got ''")
