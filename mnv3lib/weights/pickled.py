"""PyTorch's own files, read without running anything that is in them, and with their checksums compared.

A ``.pth`` file is a pickle, which can name any function to be called when it is read. ``weights_only=True`` lets it
name tensors and plain containers alone; there is no way around it here. It is a zip archive with a CRC-32 of every
part, which :func:`torch.load` does not look at. Files in the form before PyTorch 1.6 have no checksums.
"""

from __future__ import annotations

import argparse
import io
import pickle
import re
import warnings
import zipfile
from pathlib import Path
from typing import IO, Any

import torch

from mnv3lib.weights.errors import WeightsError

__all__ = ["unpickled", "verified"]

_NAMED = re.compile(r"(?:GLOBAL|global|class) ([\w.]+)")
_REFUSED = re.compile(r"GLOBAL|global|unsafe|unrecognized function|Can only (?:build|create)|blocklist")


def verified(stream: IO[bytes]) -> io.BytesIO:
    """A copy of a zip archive, as :func:`torch.save` writes it, with the CRC-32 of every part compared.

    A copy, because nothing checks the archive's directory: of a part that one changed bit there calls a folder,
    :func:`torch.load` reads nothing and gives what happens to be in memory.

    Raises:
        zipfile.BadZipFile: if a checksum differs, or the archive cannot be read.
    """
    copy, part = io.BytesIO(), ""
    try:
        with zipfile.ZipFile(stream) as archive, zipfile.ZipFile(copy, "w") as written:
            names = archive.namelist()
            if len(set(names)) < len(names):
                raise zipfile.BadZipFile("two parts have one name")
            for name in names:
                part = name
                written.writestr(name, archive.read(name))  # compares
    except Exception as error:  # a damaged directory can fail in any way
        differs = "CRC" in str(error)
        raise zipfile.BadZipFile(f"the checksum of {part} differs" if differs else f"{error}") from error
    copy.seek(0)
    return copy


def unpickled(path: Path, shown: str) -> Any:
    """What is in the file: tensors on the CPU, and plain data.

    Raises:
        WeightsError: if it is damaged, or names anything that could be run; ``shown`` is what the message calls it.
    """
    try:
        # A stream, because of a path torch.load looks at the ending. It warns of pickles that it goes on to refuse.
        with path.open("rb") as stream, warnings.catch_warnings(action="ignore"):
            archive = verified(stream) if stream.read(4) == b"PK\x03\x04" else None
            stream.seek(0)
            with torch.serialization.safe_globals(_plain_data()):
                return torch.load(archive or stream, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if _REFUSED.search(str(error)):
            named = _NAMED.search(str(error))
            reason = f": it names {named[1]}" if named else ""
            raise WeightsError(f"{shown} is refused, it holds more than tensors and could run code{reason}") from error
        reason = str(error).rpartition("error: ")[2].partition("\n")[0][:200]
        raise WeightsError(f"{shown} is damaged, or no weight file: {reason}") from error
    except Exception as error:  # a damaged pickle can fail in any way
        reason = str(error).partition("\n")[0][:200]
        raise WeightsError(f"{shown} is damaged, or no weight file: {type(error).__name__}: {reason}") from error


def _plain_data() -> list[Any]:
    """Classes of plain data that training programs keep beside the weights: parsed arguments, NumPy's numbers."""
    allowed: list[Any] = [argparse.Namespace]
    try:
        import numpy as np
    except ImportError:
        return allowed
    scalar = np.float64(0).__reduce__()[0]
    # NumPy 1 calls the same function by another module's name.
    names = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
    allowed += [*((scalar, name) for name in names), np.dtype]
    return allowed + list({type(np.dtype(letter)) for letter in "?bBhHiIlLqQefd"})
