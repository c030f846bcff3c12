"""Checksums of files, and those that their names carry."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from mnv3lib.weights.errors import WeightsError

__all__ = ["check", "digest_in_name", "digits", "sha256_of"]

_DIGEST = re.compile(r"[0-9a-f]{8,64}")
_DIGEST_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.\w+$")


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
