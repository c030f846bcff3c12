"""Checkpoints that survive: a crash, a full disk or a damaged file costs the work since the last one, never more.

A file is written beside its place, flushed to the disk and renamed; at every moment there is a whole one. The one
before is kept, and read when the last one is damaged, which the checksums in the file tell. Nothing is unpickled but
tensors and plain data (``weights_only=True``).
"""

from __future__ import annotations

import io
import os
import pickle
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mnv3lib._files import remove_unfinished, whole_file
from mnv3lib.training.errors import CheckpointError
from mnv3lib.weights.pickled import verified
from mnv3lib.weights.report import few

__all__ = ["Checkpoints", "differences", "load_exactly", "read", "write", "write_bytes"]

LAST, PREVIOUS = "last.pt", "previous.pt"


def write_bytes(path: Path, data: bytes, *, keep: Path | None = None) -> None:
    """Replace a file as a whole, so that there is always the old one or the new one.

    Args:
        path: the file.
        data: what it is to hold.
        keep: where the old one goes; None for nowhere.

    Raises:
        CheckpointError: if it cannot be written; the old one is as it was.
    """
    remove_unfinished(path)  # a run has its folder to itself
    try:
        with whole_file(path, keep=keep) as file:
            file.write(data)
    except OSError as error:
        left = f"{path} is as it was" if path.exists() else "there is none"
        reason = os.strerror(error.errno) if error.errno else error
        raise CheckpointError(f"{path} cannot be written: {reason}; {left}") from error


def write(path: Path, state: Mapping[str, Any], *, keep: Path | None = None) -> None:
    """Write tensors and plain data; arguments and errors as in :func:`write_bytes`."""
    # By way of memory: a full disk in the middle of torch.save is an error of the archive, here it is one of the disk.
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    write_bytes(path, buffer.getvalue(), keep=keep)


def read(path: Path) -> dict[str, Any]:
    """Read what :func:`write` wrote, onto the CPU.

    Raises:
        FileNotFoundError: if there is no such file.
        CheckpointError: if it is truncated, damaged, or holds more than tensors and plain data.
    """
    data = path.read_bytes()
    try:
        state = torch.load(verified(io.BytesIO(data)), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} is refused: it holds more than tensors and plain data ({_first_line(error)})"
        ) from error
    except (zipfile.BadZipFile, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path} is damaged or no checkpoint ({len(data):,} bytes: {error})") from error
    if not isinstance(state, dict):
        raise CheckpointError(f"{path} is no checkpoint: it holds a {type(state).__name__}")
    return state


class Checkpoints:
    """The last checkpoint of a run and the one before, in a folder.

    Args:
        folder: made when the first is saved.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def last(self) -> Path:
        """The file that :meth:`save` writes."""
        return self.folder / LAST

    @property
    def previous(self) -> Path:
        """The file that held the last one until then."""
        return self.folder / PREVIOUS

    def save(self, state: Mapping[str, Any]) -> None:
        """Write the last one and keep the one before; errors as in :func:`write_bytes`."""
        write(self.last, state, keep=self.previous)

    def load(self) -> dict[str, Any] | None:
        """Read the newest that is whole; None if there is none at all.

        A damaged one is renamed to ``*.damaged``, with a warning, and the one before is read.

        Raises:
            CheckpointError: if none of those that are there can be read.
        """
        reasons = []
        for path in (self.last, self.previous):
            try:
                state = read(path)
            except FileNotFoundError:
                continue
            except CheckpointError as error:
                reasons.append(error)
                continue
            if reasons:
                # Out of the way, lest the next save keeps it as the previous one.
                os.replace(self.last, self.last.with_name(f"{LAST}.damaged"))
                warnings.warn(f"{reasons[0]}; going on from {path}", RuntimeWarning, stacklevel=2)
            return state
        if reasons:
            raise CheckpointError(f"no checkpoint in {self.folder} can be read: {'; '.join(map(str, reasons))}")
        return None


def load_exactly(module: nn.Module, state: Mapping[str, Tensor], *, source: str) -> None:
    """Load a state dict that must fit in every name and shape; nothing is changed if it does not.

    Raises:
        CheckpointError: listing the missing, unexpected and mis-shaped ones.
    """
    own = module.state_dict()
    shapes = [
        f"{name} is {tuple(state[name].shape)} there, {tuple(own[name].shape)} here"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    problems = {
        "missing": [name for name in own if name not in state],
        "unexpected": [name for name in state if name not in own],
        "another shape": shapes,
    }
    if any(problems.values()):
        told = "; ".join(f"{what}: {few(names)}" for what, names in problems.items() if names)
        raise CheckpointError(f"{source} is of another architecture ({told})")
    module.load_state_dict(dict(state))


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def differences(then: Any, now: Any, path: str = "") -> list[str]:
    """In words, where two trees of plain data differ.

    >>> differences({"optimiser": {"lr": 0.1}}, {"optimiser": {"lr": 0.2}})
    ['optimiser.lr: 0.1 there, 0.2 here']
    """
    if isinstance(then, Mapping) and isinstance(now, Mapping):
        found = []
        for key in [*then, *(key for key in now if key not in then)]:
            inner = f"{path}.{key}" if path else str(key)
            found += differences(then.get(key), now.get(key), inner)
        return found
    same = list(then) == list(now) if isinstance(then, list | tuple) and isinstance(now, list | tuple) else then == now
    return [] if same else [f"{path}: {then!r} there, {now!r} here"]
