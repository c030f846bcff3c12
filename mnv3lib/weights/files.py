"""Weight files on disk: safetensors and PyTorch's own, read whole and unchanged or refused."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from mnv3lib.weights.containers import state_dict_in
from mnv3lib.weights.download import fetch
from mnv3lib.weights.errors import WeightsError
from mnv3lib.weights.metadata import DIGEST, classes_in, file_digest, kind_in
from mnv3lib.weights.pickled import unpickled
from mnv3lib.weights.recognise import HEAD_BYTES, is_safetensors, other_kind

__all__ = ["Checkpoint", "Source", "read"]

Source = str | os.PathLike[str]


class Checkpoint(NamedTuple):
    """What a file holds.

    Attributes:
        tensors: by the names the file has for them.
        metadata: text by name; safetensors only.
        source: where it came from, in words.
    """

    tensors: dict[str, Tensor]
    metadata: dict[str, str]
    source: str

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Names of the classes, in the order of the outputs; None if the file does not hold them."""
        return classes_in(self.metadata, self.source)

    @property
    def kind(self) -> str | None:
        """``"classification"``, ``"segmentation"`` or ``"detection"``; None if the file does not say."""
        return kind_in(self.metadata)


def read(source: Source, *, sha256: str | None = None, entry: str | None = None) -> Checkpoint:
    """Read tensors from a safetensors or PyTorch file; which of the two it is, the file says, not its name.

    Damage is found by the checksums in a file: the CRC-32 that PyTorch's files have of each part, and the SHA-256 that
    :func:`mnv3lib.weights.save` writes. Others' safetensors, and PyTorch's files in the form before 1.6, have none:
    give ``sha256`` for these.

    Args:
        source: path, address or hub id, see :func:`mnv3lib.weights.fetch`.
        sha256: what its SHA-256 is or begins with.
        entry: of a file that a training program wrote, which of its parts: ``"ema"``, or ``"ema.module"`` for one in
            another; also the beginning of the names that are meant, ``"student"`` for ``"student.features…"``. Needed
            if there is more than one set of weights. Where it is not given, those in ``"state_dict"``, ``"model"``,
            ``"net"``, ``"params"``, ``"ema"`` and such names come first, and the result's ``source`` says which it was.

    Raises:
        WeightsError: if it is damaged, no weight file, holds no tensors by name, or would have to run code to be read.
        FileNotFoundError, DownloadError, ValueError: see :func:`mnv3lib.weights.fetch`.
    """
    path, shown = fetch(source, sha256=sha256), str(source)
    with path.open("rb") as stream:
        head = stream.read(HEAD_BYTES)
    if not head:
        raise WeightsError(f"{shown} is empty")
    other = other_kind(path, head)
    if other is not None:
        raise WeightsError(f"{shown} is no weight file: it is {other}")
    if is_safetensors(head):
        tensors, metadata = _safetensors(path, shown)
        return _chosen(tensors, metadata, entry, shown)
    return _chosen(unpickled(path, shown), {}, entry, shown)


def _chosen(loaded: Mapping[str, Tensor], metadata: dict[str, str], entry: str | None, shown: str) -> Checkpoint:
    tensors, shown = state_dict_in(loaded, entry, shown)
    return Checkpoint(tensors, metadata, shown)


def _safetensors(path: Path, shown: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        from safetensors import safe_open
    except ImportError as error:
        raise ImportError(f"{shown} needs safetensors: pip install 'mnv3lib[weights]'") from error
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        found = file_digest(path) if DIGEST in metadata else None
    except Exception as error:  # of safetensors for its header, of PyTorch for a type of numbers it does not have
        reason = str(error).partition("\n")[0][:200]
        raise WeightsError(f"{shown} is damaged: {type(error).__name__}: {reason}") from error
    if found is not None and found != metadata[DIGEST]:
        raise WeightsError(
            f"{shown} is damaged, or another program changed it: the SHA-256 of its contents is {found}, "
            f"as {DIGEST} it has {metadata[DIGEST][:64]!r}"
        )
    return tensors, metadata
