"""Networks into files: all that is needed to build them again, or nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mnv3lib._files import whole_file
from mnv3lib.config import OnBackbone
from mnv3lib.network import MobileNetV3
from mnv3lib.weights.files import Source
from mnv3lib.weights.metadata import CLASSES, DIGEST, class_names, content_digest, described
from mnv3lib.weights.report import few
from mnv3lib.weights.tensors import why_not_plain
from mnv3lib.weights.wrappers import bare, plain_targets, without_wrappers

__all__ = ["save"]


def save(
    network: nn.Module,
    path: Source,
    *,
    classes: Iterable[str] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """Write a network as safetensors, with all that :func:`mnv3lib.weights.load_network` needs to build it again.

    The file appears whole or not at all, and replaces one that is there. Tensors are written as they are, in their own
    type, from any device and memory layout. A SHA-256 of the contents is written with them, and compared by
    :func:`mnv3lib.weights.read`.

    Args:
        network: any :class:`mnv3lib.network.MobileNetV3`, or of :mod:`mnv3lib.tasks` an ``LRASPP``, ``DeepLabV3``,
            ``SSDLite`` or ``FasterRCNN``, also inside ``DistributedDataParallel`` or ``torch.compile``.
        path: of the file.
        classes: names of the classes in the order of the outputs, as many as there are outputs, all different. They
            come back as ``classes`` of the network of :func:`mnv3lib.weights.load_network`, and of what
            :func:`mnv3lib.weights.read` gives. By default those that the network has so; None if it has none.
        metadata: more text to keep in the file, e.g. the command that made it.

    Raises:
        TypeError, ValueError: for another kind of network, a network that was changed after it was built so that its
            configuration does not say what it is any more, names of classes that are no good, or metadata that is not
            text under names of its own.
        OSError: if it cannot be written.
    """
    try:
        import safetensors.torch
    except ImportError as error:
        raise ImportError("saving needs safetensors: pip install 'mnv3lib[weights]'") from error
    inner: Any = bare(network) if isinstance(network, nn.Module) else network
    built = _rebuilt(inner)
    if built is None:
        raise TypeError(f"network must be one of this library's, a MobileNetV3 say, got {type(network).__name__}")
    own, config = inner.state_dict(), inner.config
    state = {name: own[wrapped] for name, wrapped in plain_targets(list(own)).items()}
    differences = list(_differences(inner, built, state))
    if differences:
        raise ValueError(
            "network must be what its configuration says, or a file of it could not be loaded: "
            f"{few(differences)}. Build it from a configuration that says so, or save its state_dict()"
        )
    if classes is None:
        classes = inner.classes
    names = class_names(classes, config.num_classes) if classes is not None else None
    written = described(config, names)
    for name, text in (metadata or {}).items():
        if not isinstance(name, str) or not isinstance(text, str):
            raise TypeError(f"metadata must be text by name, got {name!r}: {text!r}")
        if name in (*written, CLASSES, DIGEST):
            raise ValueError(f"metadata must not have the name {name!r}, which the library writes")
        written[name] = text
    # Copies, because safetensors refuses tensors that share memory.
    tensors = {name: t.detach().cpu().clone(memory_format=torch.contiguous_format) for name, t in state.items()}
    written[DIGEST] = content_digest(safetensors.torch.save(tensors, written))
    data = safetensors.torch.save(tensors, written)
    target = Path(path).expanduser()
    with whole_file(target) as stream:
        stream.write(data)
    return target


def _rebuilt(network: Any) -> nn.Module | None:
    """What would be built from a network's configuration, without numbers; None if it is none of this library's."""
    config = getattr(network, "config", None)
    if isinstance(network, MobileNetV3):
        kind: type[nn.Module] = MobileNetV3
    elif isinstance(network, nn.Module) and isinstance(config, OnBackbone):
        from mnv3lib.tasks import builders

        kind = builders.kind_of(config)
    else:
        return None
    with torch.device("meta"):
        return kind(config) if isinstance(network, kind) else None


def _differences(network: nn.Module, built: nn.Module, state: Mapping[str, Tensor]) -> Iterator[str]:
    """In words, where a network is not what would be built from its configuration."""
    expected = built.state_dict()
    for name, tensor in state.items():
        reason = why_not_plain(tensor)
        if reason:
            yield f"{name} is {reason}"
        elif name not in expected:
            yield f"{name} is not in it"
        elif tensor.shape != expected[name].shape:
            yield f"{name} has the shape {tuple(tensor.shape)}, by the configuration {tuple(expected[name].shape)}"
    yield from (f"{name} is missing" for name in expected if name not in state)
    # What has no tensors, or computes otherwise with the same ones.
    here, there = _layers(network), _layers(built)
    for name in {**there, **here}:
        if here.get(name) != there.get(name):
            yield f"{name} is {here.get(name, 'not there')}, by the configuration {there.get(name, 'not there')}"


def _layers(network: nn.Module) -> dict[str, str]:
    """Name to what a layer computes outside of training, in words; its tensors are compared already."""
    found: dict[str, str] = {}
    for wrapped, module in network.named_modules():
        name, kind = without_wrappers(wrapped), type(module).__name__
        found |= {f"{name}.{what}".lstrip("."): repr(value) for what, value in _settings(module).items()}
        if not name or isinstance(module, nn.Dropout | nn.Identity):
            continue
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            found[name] = f"a batch norm with eps={module.eps:g}"  # synchronised or not
        elif kind == "FrozenBatchNorm2d":
            found[name] = f"a fixed batch norm with eps={module.eps:g}"
        elif isinstance(module, nn.Conv2d):
            settings = (f"{what}={getattr(module, what)}" for what in ("stride", "padding", "dilation", "groups"))
            found[name] = f"a {kind} with {', '.join(settings)}"
        else:
            found[name] = f"a {kind}"
    return found


def _settings(module: nn.Module) -> dict[str, Any]:
    """Thresholds, sizes and the like of what torchvision's detectors are made of: attributes, which anyone can set."""
    if not any(kind.__module__.startswith("torchvision.models.detection") for kind in type(module).__mro__):
        return {}
    others = {*vars(nn.Module()), "classes", "config"}
    return {name: value for name, value in vars(module).items()
            if name not in others and not name.startswith("_has_warned") and _is_plain(value)}  # fmt: skip


def _is_plain(value: Any) -> bool:
    """Whether a value is made of numbers alone."""
    if isinstance(value, dict):
        value = list(value.values())
    return isinstance(value, int | float) or (isinstance(value, list | tuple) and all(map(_is_plain, value)))
