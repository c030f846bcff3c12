"""Comparing the tensors of a file with those of a network; nothing is changed here."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from math import ceil

import torch
from torch import Tensor, nn

from mnv3lib.config import MobileNetV3Config
from mnv3lib.network import MobileNetV3
from mnv3lib.weights.errors import WeightsError
from mnv3lib.weights.files import CONFIG, VERSION, Checkpoint
from mnv3lib.weights.names import LAYOUTS, Layout, layout_of, names_in_file
from mnv3lib.weights.report import Report, Shape

__all__ = ["ADAPTABLE", "Fit", "config_in", "fit"]

#: What of a network may differ from that of the file.
ADAPTABLE = ("num_classes", "in_channels")

_STEM = "features.0.0.weight"
_COUNTER = ".num_batches_tracked"
_TRUNK = "features."


@dataclass
class Fit:
    """What is to be done to a network, and the report of it.

    Attributes:
        copies: tensors by their names in the network, of the network's shapes.
        drawn: names of what is drawn anew.
        zeroed: names of counters to set to 0.
        report: of all this.
    """

    copies: dict[str, Tensor] = field(default_factory=dict)
    drawn: list[str] = field(default_factory=list)
    zeroed: list[str] = field(default_factory=list)
    report: Report = field(init=False)


def fit(network: nn.Module, checkpoint: Checkpoint, part: str, adapt: Collection[str]) -> Fit:
    """Match names, then shapes, then settings; arguments as in :func:`mnv3lib.weights.load`."""
    targets: dict[str, Tensor] = network.state_dict()
    in_file, left_out = _unwrapped(checkpoint.tensors)
    if isinstance(network, MobileNetV3):
        config: MobileNetV3Config | None = network.config
        layout = layout_of(in_file)
        theirs = names_in_file(network.config, layout, targets)
        last = layout_of(targets).last
    else:
        own = layout_of(targets)
        config, layout = None, LAYOUTS[-1]._replace(words="its own kind")
        theirs = {name: name for name in targets}
        last = own.last if own.mark else ""  # of a network that nothing is known of, none

    done = Fit()
    renamed, adapted, missing, conflicts = {}, {}, [], []
    misshaped: dict[str, tuple[Shape, Shape]] = {}
    wanted = [name for name in targets if part == "all" or name.startswith(_TRUNK)]
    no_counters = not any(name.endswith(_COUNTER) for name in in_file)
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
        if name == "classifier.0.weight" and layout.name == "timm" and tensor.shape[2:] == (1, 1):
            tensor = tensor.flatten(1)  # a convolution of pooled maps
        if key != name:
            renamed[name] = key
        if tensor.is_floating_point() != target.is_floating_point():
            conflicts.append(f"{name}: {tensor.dtype} in the file, {target.dtype} here".replace("torch.", ""))
        elif tensor.shape == target.shape:
            done.copies[name] = tensor
            if tensor.dtype != target.dtype:
                adapted[name] = f"{tensor.dtype} in the file, {target.dtype} here".replace("torch.", "")
        elif (
            "num_classes" in adapt
            and re.fullmatch(rf"({last})\.(weight|bias)", name)
            and tensor.shape[1:] == target.shape[1:]
        ):
            if config:
                done.drawn.append(name)
                adapted[name] = f"{len(tensor)} classes in the file, {len(target)} here: drawn anew"
            else:
                adapted[name] = f"{len(tensor)} outputs in the file, {len(target)} here: left as it was"
        elif config and "in_channels" in adapt and name == _STEM and _other_channels(tensor, target):
            done.copies[name], adapted[name] = _adapted_stem(tensor, target.shape[1])
        else:
            misshaped[name] = (tuple(tensor.shape), tuple(target.shape))

    used = {theirs.get(name) for name in wanted}
    unasked = {theirs.get(name) for name in targets} - used
    unexpected: list[str] = []
    for name, key in in_file.items():
        if name not in used:
            left = name in unasked or (layout.others and name.startswith(layout.others))
            (left_out if left else unexpected).append(key)
    if config:
        conflicts += _otherwise(config, layout, checkpoint)
    done.report = Report(
        checkpoint.source, layout.words, tuple(done.copies), renamed, adapted, tuple(missing), tuple(unexpected),
        misshaped, tuple(conflicts), tuple(left_out),
    )  # fmt: skip
    return done


def _unwrapped(names: Iterable[str]) -> tuple[dict[str, str], list[str]]:
    """Names without the ``module.`` of data-parallel and averaged networks, to those in the file; and what else is."""
    names = list(names)
    inside = [name for name in names if name != "n_averaged"]
    if inside and all(name.startswith("module.") for name in inside):
        return {name.removeprefix("module."): name for name in inside}, [name for name in names if name not in inside]
    return {name: name for name in names}, []


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


def _otherwise(config: MobileNetV3Config, layout: Layout, checkpoint: Checkpoint) -> Iterable[str]:
    """Settings that no shape shows, and with which the same weights give other numbers."""
    here = (config.norm_eps, config.padding)
    if layout.settings and here not in layout.settings:
        allowed = " or ".join(f"norm_eps={eps:g} with padding={padding!r}" for eps, padding in layout.settings)
        yield f"{layout.words} has {allowed}; this network has norm_eps={here[0]:g} with padding={here[1]!r}"
    if CONFIG in checkpoint.metadata:
        trained = config_in(checkpoint)
        for name in ("norm_eps", "padding", "activation"):
            if getattr(trained, name) != getattr(config, name):
                yield f"trained with {name}={getattr(trained, name)!r}, this network has {getattr(config, name)!r}"
        for number, (old, new) in enumerate(zip(trained.rows, config.rows, strict=False), start=1):
            if old.activation != new.activation:
                yield f"row {number} was trained with activation={old.activation!r}, here it has {new.activation!r}"


def config_in(checkpoint: Checkpoint) -> MobileNetV3Config:
    """The configuration that :func:`mnv3lib.weights.save` wrote.

    Raises:
        WeightsError: if it makes no sense to this version of the library.
    """
    try:
        return MobileNetV3Config.from_dict(json.loads(checkpoint.metadata[CONFIG]))
    except (TypeError, ValueError) as error:
        version = checkpoint.metadata.get(VERSION, "an unknown version")
        raise WeightsError(
            f"{checkpoint.source}: the configuration, by mnv3lib {version}, is no good: {error}"
        ) from error
