"""Weight files on disk: safetensors and PyTorch's own, read without running anything that is in them.

A ``.pth`` file is a pickle, which can name any function to be called when it is read. ``weights_only=True`` lets it
name tensors and plain containers alone; there is no way around it here.
"""

from __future__ import annotations

import json
import os
import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

import mnv3lib
from mnv3lib._files import whole_file
from mnv3lib.network import MobileNetV3
from mnv3lib.weights.download import fetch
from mnv3lib.weights.errors import WeightsError

__all__ = ["Checkpoint", "Source", "read", "save"]

Source = str | os.PathLike[str]

#: Where training programs keep the weights among their other things; torchvision's and timm's names.
ENTRIES = ("model", "state_dict", "model_ema", "state_dict_ema")
_NAMED = re.compile(r"(?:GLOBAL|global|class) ([\w.]+)")
VERSION, CONFIG = "mnv3lib_version", "mnv3lib_config"


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


def read(source: Source, *, sha256: str | None = None, entry: str | None = None) -> Checkpoint:
    """Read tensors from a safetensors or PyTorch file; which of the two it is, the file says, not its name.

    Args:
        source: path, address or hub id, see :func:`mnv3lib.weights.fetch`.
        sha256: what its SHA-256 is or begins with.
        entry: of a file that a training program wrote, which of its parts; needed if there is more than one of
            ``"model"``, ``"state_dict"``, ``"model_ema"``, ``"state_dict_ema"``.

    Raises:
        WeightsError: if it is damaged, holds anything but tensors, or would have to run code to be read.
        FileNotFoundError, DownloadError, ValueError: see :func:`mnv3lib.weights.fetch`.
    """
    path, shown = fetch(source, sha256=sha256), str(source)
    with path.open("rb") as stream:
        head = stream.read(9)
    if not head:
        raise WeightsError(f"{shown} is empty")
    if head[8:] == b"{":  # after the length of its header, 8 bytes
        if entry is not None:
            raise ValueError(f"entry must be None for safetensors, got {entry!r}")
        return _read_safetensors(path, shown)
    return Checkpoint(_state_dict(_unpickle(path, shown), entry, shown), {}, shown)


def _read_safetensors(path: Path, shown: str) -> Checkpoint:
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        raise ImportError(f"{shown} needs safetensors: pip install 'mnv3lib[weights]'") from error
    try:
        with safe_open(path, framework="pt") as file:
            return Checkpoint({name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}, shown)  # noqa: SIM118
    except SafetensorError as error:
        raise WeightsError(f"{shown} is damaged: {error}") from error


def _unpickle(path: Path, shown: str) -> Any:
    try:
        # A stream, because of a path torch.load looks at the ending. It warns of pickles that it goes on to refuse.
        with path.open("rb") as stream, warnings.catch_warnings(action="ignore"):
            return torch.load(stream, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = _NAMED.search(str(error))
        reason = f": it names {named[1]}" if named else ""
        raise WeightsError(f"{shown} is refused, it holds more than tensors and could run code{reason}") from error
    except Exception as error:  # a damaged pickle can fail in any way
        reason = str(error).partition("\n")[0]
        raise WeightsError(f"{shown} is damaged, or no weight file: {type(error).__name__}: {reason}") from error


def _state_dict(loaded: Any, entry: str | None, shown: str) -> dict[str, Tensor]:
    if not isinstance(loaded, Mapping):
        raise WeightsError(f"{shown} must hold tensors by name, it holds a {type(loaded).__name__}")
    if entry is not None:
        if not isinstance(loaded.get(entry), Mapping):
            raise WeightsError(f"{shown} has no tensors in entry {entry!r}; its entries: {sorted(map(str, loaded))}")
        loaded = loaded[entry]
    elif not any(isinstance(value, Tensor) for value in loaded.values()):
        found = [name for name in ENTRIES if isinstance(loaded.get(name), Mapping)]
        if len(found) > 1:
            raise WeightsError(f"{shown} holds more than one set of weights, say entry= one of {found}")
        loaded = loaded[found[0]] if found else loaded
    others = [f"{name} ({type(value).__name__})" for name, value in loaded.items() if not isinstance(value, Tensor)]
    if others or not loaded:
        raise WeightsError(f"{shown} must hold tensors by name, it holds {', '.join(others) or 'nothing'}")
    return {str(name): tensor for name, tensor in loaded.items()}


def save(network: MobileNetV3, path: Source, *, metadata: Mapping[str, str] | None = None) -> Path:
    """Write a network as safetensors, with all that :func:`mnv3lib.weights.load_network` needs to build it again.

    The file appears whole or not at all, and replaces one that is there. Tensors are written as they are, in their own
    type, from any device and memory layout.

    Args:
        network: any :class:`mnv3lib.network.MobileNetV3`.
        path: of the file.
        metadata: more text to keep in the file, e.g. the command that made it.

    Raises:
        TypeError, ValueError: for another kind of network, or metadata that is not text under names of its own.
        OSError: if it cannot be written.
    """
    try:
        import safetensors.torch
    except ImportError as error:
        raise ImportError("saving needs safetensors: pip install 'mnv3lib[weights]'") from error
    if not isinstance(network, MobileNetV3):
        raise TypeError(f"network must be a MobileNetV3, got {type(network).__name__}")
    written = {
        "format": "pt",
        VERSION: mnv3lib.__version__,
        CONFIG: json.dumps(network.config.to_dict()),
        "num_classes": str(network.config.num_classes),
    }
    for name, text in (metadata or {}).items():
        if not isinstance(name, str) or not isinstance(text, str):
            raise TypeError(f"metadata must be text by name, got {name!r}: {text!r}")
        if name in written:
            raise ValueError(f"metadata must not have the name {name!r}, which the library writes")
        written[name] = text
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    data = safetensors.torch.save(tensors, written)
    target = Path(path).expanduser()
    with whole_file(target) as stream:
        stream.write(data)
    return target
