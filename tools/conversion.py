"""What the converters of published networks share: the one file that is taken, and the one form that is written."""

from __future__ import annotations

import hashlib
import io
import json
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
from torch import Tensor

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "book")]

from mnv3lib._files import whole_file  # noqa: E402
from mnv3lib.weights.metadata import DIGEST, content_digest  # noqa: E402


def published(path: Path, member: str, sha256: str) -> bytes:
    """A file as it was published, itself or out of the wheel.

    Raises:
        ValueError: if it is another file.
    """
    data = path.read_bytes()
    if zipfile.is_zipfile(io.BytesIO(data)):
        with zipfile.ZipFile(io.BytesIO(data)) as wheel:
            if member not in wheel.namelist():
                raise ValueError(f"{path} has no {member}")
            data = wheel.read(member)
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise ValueError(f"{path} is not the published file: its SHA-256 is {found}, not {sha256}")
    return data


def packed(state: Mapping[str, Tensor], about: Mapping[str, str]) -> bytes:
    """A safetensors file with its origin and the checksum that the library compares when it reads; always the same."""
    about = {**about, DIGEST: content_digest(safetensors.torch.save(dict(state), dict(about)))}
    data = safetensors.torch.save(dict(state), about)
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    header["__metadata__"] = about  # safetensors writes it in another order each time
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[8 + size :]


def write(root: Path, files: Mapping[str, bytes]) -> None:
    """Write files below a folder, each whole, and print what they are."""
    for name, content in files.items():
        with whole_file(root / name) as stream:
            stream.write(content)
        print(f"{name}: {len(content):,} bytes, SHA-256 {hashlib.sha256(content).hexdigest()}")
