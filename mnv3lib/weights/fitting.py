"""Comparing the tensors of a file with those of a network; nothing is changed here."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from math import ceil
from typing import Any

import torch
from torch import Tensor, nn

from mnv3lib.config import MobileNetV3Config
from mnv3lib.network import MobileNetV3
from mnv3lib.rows import InvertedResidualConfig
from mnv3lib.weights.files import Checkpoint
from mnv3lib.weights.metadata import CONFIG, backbone_of, config_in
from mnv3lib.weights.names import Layout, layout_of, names_in_file
from mnv3lib.weights.report import Report, Shape
from mnv3lib.weights.tensors import not_finite, number_kind, too_large, why_not_plain
from mnv3lib.weights.wrappers import plain_names, plain_targets

__all__ = ["ADAPTABLE", "Fit", "fit"]

#: What of a network may differ from that of the file.
ADAPTABLE = ("num_classes", "in_channels")

#: What of a head no shape shows.
_OF_HEADS = ("form", "atrous_rates")
_STEM = "features.0.0.weight"
_COUNTER = ".num_batches_tracked"


@dataclass
class Fit:
    """What is to be done to a network, and the report of it.

    Attributes:
        targets: the network's tensors, by their names without wrappers.
        copies: tensors by their names in the network, of the network's shapes.
        drawn: names of what is drawn anew.
        zeroed: names of counters to set to 0.
        names_classes: whether the file's names of classes are those of the network, whose last layers it fills.
        report: of all this.
    """

    targets: dict[str, Tensor]
    copies: dict[str, Tensor] = field(default_factory=dict)
    drawn: list[str] = field(default_factory=list)
    zeroed: list[str] = field(default_factory=list)
    names_classes: bool = False
    report: Report = field(init=False)


def fit(network: nn.Module, checkpoint: Checkpoint, part: str, adapt: Collection[str]) -> Fit:
    """Match names, then kinds, shapes and settings; arguments as in :func:`mnv3lib.weights.load`."""
    state: dict[str, Tensor] = network.state_dict()
    config = getattr(network, "config", None)
    backbone, whole = backbone_of(config), isinstance(network, MobileNetV3)
    mapped = whole or (backbone is not None and part == "features")  # otherwise names are its own only
    as_is = not mapped and set(state) <= set(checkpoint.tensors)
    targets = state if as_is else {name: state[own] for name, own in plain_targets(list(state)).items()}
    in_file, left_out = plain_names(checkpoint.tensors, list(targets), known=mapped)
    own, layout = layout_of(targets), layout_of(in_file)
    spare: set[str] = set()
    if mapped and backbone is not None:
        ours = {name: name for name in targets} if whole else _features_in(backbone, own)
        named = names_in_file(backbone, layout, ours)
        theirs = {inner: named[name] for name, inner in ours.items() if name in named}
        spare = {theirs.pop(inner) for inner in [*theirs] if inner not in targets}  # counters, if norms are fixed
        stem, last = ours[_STEM], own.last
    else:
        theirs, stem = {name: name for name in targets}, ""
        last = own.last if own.mark else ""  # of a network that nothing is known of, none
    wanted = [name for name in targets if part == "all" or name.startswith(own.backbone)]
    if part == "features" and not wanted:
        beginnings = ", ".join(map(repr, own.backbone))
        raise ValueError(f"part must be 'all' for this network, none of its tensors begins with {beginnings}")

    done = Fit(targets)
    renamed, adapted, missing, conflicts = {}, {}, [], []
    misshaped: dict[str, tuple[Shape, Shape]] = {}
    no_counters = not any(name.endswith(_COUNTER) for name in in_file)
    drawn = "num_classes" in adapt and _other_classes(last, targets, theirs, in_file, checkpoint)
    for name in wanted:
        key, target = in_file.get(theirs.get(name, "")), targets[name]
        if key is None:
            if no_counters and name.endswith(_COUNTER):
                adapted[name] = "no batches are counted in the file: set to 0"
                done.zeroed.append(name)
            else:
                missing.append(name)
            continue
        tensor = checkpoint.tensors[key]
        if key != name:
            renamed[name] = key
        against = _against(tensor, target, checked=backbone is not None)
        if against:
            conflicts.append(f"{name}: {against}")
            continue
        if whole and name == "classifier.0.weight" and layout.name == "timm" and tensor.shape[2:] == (1, 1):
            tensor = tensor.flatten(1)  # a convolution of pooled feature maps
        if tensor.shape == target.shape:
            done.copies[name] = tensor
            if tensor.dtype != target.dtype:
                adapted[name] = _types(tensor, target)
        elif drawn and re.fullmatch(rf"({last})\.(weight|bias)", name):
            if whole:
                done.drawn.append(name)
                adapted[name] = f"{len(tensor)} classes in the file, {len(target)} here: drawn anew"
            else:
                adapted[name] = f"{len(tensor)} outputs in the file, {len(target)} here: left as it was"
        elif "in_channels" in adapt and name == stem and _other_channels(tensor, target):
            done.copies[name], adapted[name] = _adapted_stem(tensor, target.shape[1])
        else:
            misshaped[name] = (tuple(tensor.shape), tuple(target.shape))

    used = {theirs.get(name) for name in wanted}
    unasked = ({theirs.get(name) for name in targets} | spare) - used
    others = layout.others if mapped else own.others if part == "features" else ()
    unexpected: list[str] = []
    for name, key in in_file.items():
        if name not in used:
            left = name in unasked or name.startswith(others)
            left = left or (mapped and not whole and not name.startswith(layout.backbone))
            (left_out if left else unexpected).append(key)
    lasts = [name for name in targets if last and re.fullmatch(rf"({last})\.weight", name)]
    done.names_classes = backbone is not None and bool(lasts) and all(name in done.copies for name in lasts)
    if backbone is not None:
        conflicts += _otherwise(config, backbone, layout, checkpoint, whole=part == "all")
        conflicts += _other_names(network, done, checkpoint)
    words = layout.words if mapped else "its own kind"
    done.report = Report(
        checkpoint.source, words, tuple(done.copies), renamed, adapted, tuple(missing), tuple(unexpected),
        misshaped, tuple(conflicts), tuple(left_out),
    )  # fmt: skip
    return done


def _features_in(backbone: MobileNetV3Config, layout: Layout) -> dict[str, str]:
    """Names in a classification network of all tensors before the pooling, to those in a network of another task."""
    with torch.device("meta"):
        names = [name for name in MobileNetV3(backbone).state_dict() if name.startswith("features.")]
    return names_in_file(backbone, layout, names)


def _types(tensor: Tensor, target: Tensor) -> str:
    return f"{tensor.dtype} in the file, {target.dtype} here".replace("torch.", "")


def _against(tensor: Tensor, target: Tensor, *, checked: bool) -> str | None:
    """Why the tensor cannot be copied whatever its shape, in words; ``checked`` numbers have to be finite."""
    reason = why_not_plain(tensor)
    if reason:
        return f"it is {reason}"
    if number_kind(tensor.dtype) != number_kind(target.dtype):
        return _types(tensor, target)
    if checked and not_finite(tensor):
        return f"{not_finite(tensor):,} of its numbers are not finite"
    if too_large(tensor, target.dtype):
        return f"{too_large(tensor, target.dtype):,} of its numbers are too large: {_types(tensor, target)}"
    return None


def _other_classes(
    last: str, targets: Mapping[str, Tensor], theirs: Mapping[str, str], in_file: Mapping[str, str], file: Checkpoint
) -> bool:
    """Whether the last layers differ from those of the file in their number of outputs, and in nothing else."""
    outputs: dict[str, set[torch.Size]] = {}
    for name, target in targets.items():
        if not re.fullmatch(rf"({last})\.(weight|bias)", name):
            continue
        key = in_file.get(theirs.get(name, ""))
        if key is None or file.tensors[key].is_nested:
            return False
        shape = file.tensors[key].shape
        outputs.setdefault(name.rpartition(".")[0], set()).add(shape[:1])
        if len(shape) != target.dim() or shape[1:] != target.shape[1:]:
            return False
    return all(len(numbers) == 1 for numbers in outputs.values())  # of weights and biases alike


def _other_channels(tensor: Tensor, target: Tensor) -> bool:
    """Whether a first layer of 3 channels differs in nothing but these."""
    return tensor.dim() == 4 and tensor.shape[1] == 3 and tensor[:, 0].shape == target[:, 0].shape


def _adapted_stem(tensor: Tensor, channels: int) -> tuple[Tensor, str]:
    """A grey image in three channels gives the same as in one; with more channels the sums stay of the same size."""
    weight = tensor.to(torch.promote_types(tensor.dtype, torch.float32))
    if channels == 1:
        return weight.sum(1, keepdim=True), "3 channels in the file, 1 here: their sum"
    weight = weight.repeat(1, ceil(channels / 3), 1, 1)[:, :channels] * (3 / channels)
    return weight, f"3 channels in the file, {channels} here: in turn, times 3 / {channels}"


def _otherwise(
    config: Any, backbone: MobileNetV3Config, layout: Layout, checkpoint: Checkpoint, *, whole: bool
) -> Iterable[str]:
    """Settings that no shape shows, and with which the same weights give other numbers."""
    if CONFIG not in checkpoint.metadata:
        here = (backbone.norm_eps, backbone.padding)
        if layout.settings and here not in layout.settings:
            allowed = " or ".join(f"norm_eps={eps:g} with padding={padding!r}" for eps, padding in layout.settings)
            yield f"{layout.words} has {allowed}; this network has norm_eps={here[0]:g} with padding={here[1]!r}"
        return
    described = config_in(checkpoint.metadata, checkpoint.source)
    trained = backbone_of(described)
    assert trained is not None
    for name in ("norm_eps", "padding", "activation"):
        if getattr(trained, name) != getattr(backbone, name):
            yield f"trained with {name}={getattr(trained, name)!r}, this network has {getattr(backbone, name)!r}"
    for number, (old, new) in enumerate(zip(trained.rows, backbone.rows, strict=False), start=1):
        if old.activation != new.activation:
            yield f"row {number} was trained with activation={old.activation!r}, here it has {new.activation!r}"
        if old.use_shortcut != new.use_shortcut:
            yield f"row {number} was trained {_shortcut(old)}, here it is {_shortcut(new)}"
    for name in _OF_HEADS if whole and type(described) is type(config) else ():
        if getattr(described, name, None) != getattr(config, name, None):
            yield f"trained with {name}={getattr(described, name)!r}, this network has {getattr(config, name)!r}"


def _shortcut(row: InvertedResidualConfig) -> str:
    return "with a shortcut" if row.use_shortcut else "without a shortcut"


def _other_names(network: Any, fitted: Fit, checkpoint: Checkpoint) -> Iterable[str]:
    """Outputs that mean other classes than those of the file, whose weights they would get."""
    there, here = checkpoint.classes, network.classes
    if fitted.names_classes and there is not None and here is not None and there != here:
        first = next((pair for pair in zip(there, here, strict=False) if pair[0] != pair[1]), (len(there), len(here)))
        yield f"the names of the classes: {first[0]!r} in the file is {first[1]!r} here"
