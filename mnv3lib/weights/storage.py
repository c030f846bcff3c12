"""Files that appear whole or not at all, where they are kept, and their checksums."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from mnv3lib._files import sync_folder
from mnv3lib.weights.errors import WeightsError

__all__ = ["VARIABLE", "cache_folder", "check", "digest_in_name", "digits", "sha256_of", "whole_file"]

#: Names the folder of the cache; by default it is ``~/.cache/mnv3lib``.
VARIABLE = "MNV3LIB_CACHE"

_DIGEST = re.compile(r"[0-9a-f]{8,64}")
_DIGEST_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.\w+$")


def cache_folder() -> Path:
    """Where downloads are kept; the folder need not exist yet."""
    return Path(os.environ.get(VARIABLE) or Path.home() / ".cache" / "mnv3lib").expanduser() / "weights"


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """Give a file to write; it replaces ``path`` when the block ends well, otherwise nothing is left of it.

    What was at ``path`` is there until that moment. Writers do not disturb each other; the last one to end wins.

    Raises:
        OSError: naming the path, e.g. on a full disk.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        if error.errno is not None:
            raise type(error)(error.errno, f"cannot be written ({error.strerror})", str(path)) from error
        raise
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, 64 hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digest_in_name(name: str) -> str | None:
    """The first digits of the SHA-256 that torchvision and timm put at the end of a name, e.g. ``-8738ca79.pth``."""
    found = _DIGEST_IN_NAME.search(name)
    return found[1] if found else None


def digits(sha256: str | None) -> str | None:
    """``sha256`` in small letters, if it is the SHA-256 of a file or at least its first 8 digits.

    Raises:
        ValueError: for anything else.
    """
    if sha256 is not None and (not isinstance(sha256, str) or not _DIGEST.fullmatch(sha256.lower())):
        raise ValueError(f"sha256 must be 8 to 64 hexadecimal digits, got {sha256!r}")
    return sha256.lower() if sha256 else None


def check(path: Path, sha256: str) -> None:
    """Compare the file at ``path`` with the first digits of its SHA-256.

    Raises:
        WeightsError: with both, if they differ.
    """
    found = sha256_of(path)
    if not found.startswith(sha256):
        raise WeightsError(f"{path}: its SHA-256 is {found}, it must begin with {sha256}: damaged, or another file")
