"""What the library writes beside the tensors of a safetensors file, and how it reads that again.

All of it is text by name. Files of older versions lack some of it and are read all the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import mnv3lib
from mnv3lib._checks import nearest, value_of
from mnv3lib.config import MobileNetV3Config, OnBackbone
from mnv3lib.detectors import FasterRCNNConfig, SSDLiteConfig
from mnv3lib.heads import DeepLabV3Config, LRASPPConfig
from mnv3lib.weights.errors import WeightsError

__all__ = [
    "CLASSES",
    "CLASSIFICATION",
    "CONFIG",
    "DIGEST",
    "KINDS",
    "Config",
    "backbone_of",
    "class_names",
    "classes_in",
    "config_in",
    "content_digest",
    "described",
    "file_digest",
    "kind_in",
]

VERSION, CONFIG, KIND, NETWORK = "mnv3lib_version", "mnv3lib_config", "mnv3lib_kind", "mnv3lib_network"
CLASSES, DIGEST = "mnv3lib_classes", "mnv3lib_sha256"
#: The kind of network that :class:`mnv3lib.network.MobileNetV3` is; before there were others, files did not say it.
CLASSIFICATION = "classification"

Config = MobileNetV3Config | LRASPPConfig | DeepLabV3Config | SSDLiteConfig | FasterRCNNConfig
#: The networks of each kind by the name that files have for them, and what describes them.
KINDS: dict[str, dict[str, type[Config]]] = {
    CLASSIFICATION: {"mobilenet_v3": MobileNetV3Config},
    "segmentation": {"lraspp": LRASPPConfig, "deeplabv3": DeepLabV3Config},
    "detection": {"ssdlite": SSDLiteConfig, "fasterrcnn": FasterRCNNConfig},
}


def backbone_of(config: object) -> MobileNetV3Config | None:
    """The classification network in what describes any network of this library; None for what does not."""
    if isinstance(config, OnBackbone):
        return config.backbone
    return config if isinstance(config, MobileNetV3Config) else None


def described(config: Config, classes: tuple[str, ...] | None) -> dict[str, str]:
    """What a network is to be built from."""
    kind, network = next(
        (kind, network) for kind, known in KINDS.items() for network in known if type(config) is known[network]
    )
    written = {
        "format": "pt",
        VERSION: mnv3lib.__version__,
        KIND: kind,
        NETWORK: network,
        CONFIG: json.dumps(config.to_dict()),
        "num_classes": str(config.num_classes),
    }
    return {**written, CLASSES: json.dumps(classes, ensure_ascii=False)} if classes is not None else written


def class_names(classes: Iterable[str], count: int) -> tuple[str, ...]:
    """``classes`` as a tuple, if it holds ``count`` different names.

    Raises:
        TypeError, ValueError: naming what is wrong.
    """
    if isinstance(classes, str | bytes) or not isinstance(classes, Iterable):
        raise TypeError(f"classes must be a sequence of names, got {classes!r}")
    names = tuple(classes)
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"classes must be text, got {name!r}")
        if not name.strip():
            raise ValueError(f"classes must be text that is not blank, got {name!r}")
    repeated = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if repeated:
        raise ValueError(f"classes must differ, {repeated[0]!r} is there {names.count(repeated[0])} times")
    if len(names) != count:
        raise ValueError(f"classes must be as many as the network has outputs, {count}, got {len(names)}")
    return tuple(str(name) for name in names)


def kind_in(metadata: Mapping[str, str]) -> str | None:
    """Which kind of network a file says it is for; None if it does not say."""
    return metadata.get(KIND, CLASSIFICATION if CONFIG in metadata else None)


def classes_in(metadata: Mapping[str, str], shown: str) -> tuple[str, ...] | None:
    """The names of the classes, or None.

    Raises:
        WeightsError: if they are not as :func:`described` writes them.
    """
    if CLASSES not in metadata:
        return None
    try:
        listed = json.loads(metadata[CLASSES])
        if not isinstance(listed, list):
            raise TypeError(f"classes must be a list, got {listed!r}")
        return class_names(listed, len(listed))
    except (TypeError, ValueError) as error:
        raise WeightsError(f"{shown}: its names of classes are no good: {error}") from error


def config_in(metadata: Mapping[str, str], shown: str) -> Config:
    """The configuration that :func:`described` wrote.

    Raises:
        WeightsError: if it makes no sense to this version of the library, or is of a kind that it does not build.
    """
    kind = kind_in(metadata)
    if kind not in KINDS:
        raise WeightsError(
            f"{shown} is for a network of the kind {kind!r}, mnv3lib {mnv3lib.__version__} builds "
            f"{', '.join(map(repr, KINDS))} only{nearest(kind, KINDS)}"
        )
    # Files of classification networks did not say the network while there was no other.
    network = metadata.get(NETWORK, "mobilenet_v3" if kind == CLASSIFICATION else None)
    try:
        return value_of(NETWORK, network, KINDS[kind]).from_dict(json.loads(metadata[CONFIG]))
    except (TypeError, ValueError) as error:
        version = metadata.get(VERSION, "an unknown version")
        raise WeightsError(f"{shown}: the configuration, by mnv3lib {version}, is no good: {error}") from error


# --- a checksum, which safetensors files do not have of themselves ----------------------------------------------------


def content_digest(data: bytes) -> str:
    """The SHA-256 of all that a safetensors file says, but for :data:`DIGEST`: names, shapes, metadata and numbers."""
    size = int.from_bytes(data[:8], "little")
    return _digest(json.loads(data[8 : 8 + size]), [data[8 + size :]])


def file_digest(path: Path) -> str:
    """:func:`content_digest` of a file, without holding it in memory."""
    with path.open("rb") as stream:
        size = int.from_bytes(stream.read(8), "little")
        return _digest(json.loads(stream.read(size)), iter(lambda: stream.read(1 << 20), b""))


def _digest(header: dict[str, Any], body: Iterable[bytes]) -> str:
    metadata = {name: text for name, text in header.get("__metadata__", {}).items() if name != DIGEST}
    found = hashlib.sha256(json.dumps({**header, "__metadata__": metadata}, sort_keys=True).encode())
    for part in body:
        found.update(part)
    return found.hexdigest()
