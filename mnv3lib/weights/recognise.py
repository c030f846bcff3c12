"""What a file is that holds no weights, so that an error can say what to do instead."""

from __future__ import annotations

import zipfile
from pathlib import Path

__all__ = ["HEAD_BYTES", "is_safetensors", "other_kind"]

#: How much of a file is looked at.
HEAD_BYTES = 1024
#: The longest header that safetensors allows.
_HEADER_BYTES = 100_000_000

_UNPACK = "a compressed file: unpack it and give what is in it"
#: Position and bytes to what they say; none of these begins a pickle, a zip archive or safetensors.
_MAGIC: tuple[tuple[int, bytes, str], ...] = (
    (0, b"version https://git-lfs.github.com", "a Git-LFS pointer, which stands for the file: run `git lfs pull`"),
    (4, b"TFL3", "a TFLite model, whose weights are not named as PyTorch's"),
    (0, b"\x93NUMPY", "a NumPy array without a name: give a dictionary of tensors"),
    (0, b"\x89HDF\r\n\x1a\n", "HDF5, as Keras saves it, whose weights are not named as PyTorch's"),
    (0, b"GGUF", "GGUF, which holds no convolutional networks"),
    (0, b"\x1f\x8b", _UNPACK),
    (0, b"BZh", _UNPACK),
    (0, b"\xfd7zXZ\0", _UNPACK),
    (0, b"\x28\xb5\x2f\xfd", _UNPACK),
    (0, b"7z\xbc\xaf\x27\x1c", _UNPACK),
    (257, b"ustar", "a tar archive: unpack it and give what is in it"),
    (0, b"\x89PNG\r\n\x1a\n", "an image"),
    (0, b"\xff\xd8\xff", "an image"),
    (0, b"%PDF", "a PDF"),
)
_PAGES = (b"<!doctype html", b"<html", b"<head", b"<?xml", b"<!--")


def is_safetensors(head: bytes) -> bool:
    """Whether a file that begins with ``head`` is meant as safetensors: a length of 8 bytes, then a JSON object."""
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= _HEADER_BYTES


def other_kind(path: Path, head: bytes) -> str | None:
    """What the file is, in words with advice; None if it may be a weight file.

    Args:
        path: of the file.
        head: its first bytes, ``HEAD_BYTES`` or all.
    """
    if is_safetensors(head):
        return None
    for position, magic, words in _MAGIC:
        if head[position : position + len(magic)] == magic:
            return words
    if head.startswith(b"PK\x03\x04"):
        return _other_zip(path)
    if head[:1] == b"\x08" and head[1] < 0x20 and head[2:3] == b"\x12":  # version, then the name of the producer
        return "an ONNX model, whose weights are not named as PyTorch's"
    return _text(head)


def _other_zip(path: Path) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except Exception:  # damaged in any way: whoever reads it says so
        return None
    leaves = {name.rpartition("/")[2] for name in names}
    if "constants.pkl" in leaves:
        return "a TorchScript program: load it by torch.jit.load, and save its state_dict()"
    if "data.pkl" in leaves:
        return None
    listed = ", ".join(name[:60] for name in names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return f"a zip archive of {listed or 'nothing'}"


def _text(head: bytes) -> str | None:
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if start.lower().startswith(_PAGES):
        return "a web page: the address leads to a page about the file, or to an error, not to the file"
    text = head.decode("utf-8", errors="ignore")
    whole = len(text.encode()) > len(head) - 4  # a character may be cut at the end
    if not (whole and len(text) > 8 and all(letter.isprintable() or letter.isspace() for letter in text)):
        return None
    kind = "JSON" if start[:1] in (b"{", b"[") else "text"
    return f"{kind} that begins with {' '.join(text.split())[:40]!r}"
