"""Where the time of a pass goes: layer by layer, and summed by kind of layer."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mnv3lib._checks import positive_int
from mnv3lib.blocks import SqueezeExcitation
from mnv3lib.deploy.latency import quiet

__all__ = ["Breakdown", "Step", "breakdown"]

#: What no layer accounts for: shortcuts, and PyTorch's and Python's way from one layer to the next.
REST = "rest"


@dataclass(frozen=True)
class Step:
    """One layer's part in a pass.

    Attributes:
        name: of the module.
        kind: ``"1×1 convolution"``, ``"depthwise convolution"``, ``"other convolution"``, ``"batch norm"``,
            ``"activation"``, ``"squeeze-and-excitation"``, ``"linear"`` or ``"pooling"``; the class's name for others.
        seconds: the median.
    """

    name: str
    kind: str
    seconds: float


@dataclass(frozen=True)
class Breakdown:
    """The layers of a pass in the order they ran.

    Attributes:
        steps: of the layers; a squeeze-and-excitation is one.
        seconds: of a pass that nobody looked into.
    """

    steps: tuple[Step, ...]
    seconds: float

    def by_kind(self) -> Mapping[str, float]:
        """Seconds of each kind of layer, the largest first, and last the rest of the pass."""
        found: dict[str, float] = {}
        for step in self.steps:
            found[step.kind] = found.get(step.kind, 0.0) + step.seconds
        ranked = dict(sorted(found.items(), key=lambda item: -item[1]))
        return {**ranked, REST: max(0.0, self.seconds - sum(found.values()))}


def breakdown(model: nn.Module, example: Tensor, *, rounds: int = 25, threads: int = 1) -> Breakdown:
    """Time every layer of a network in PyTorch; in each round once with a clock around each layer and once without.

    Args:
        model: in evaluation mode; a layer that runs more than once in a pass counts with all its runs.
        example: a batch of images.
        rounds: 5 or more.
        threads: that PyTorch computes with.

    Raises:
        TypeError, ValueError: naming the argument, the value and the range.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    if model.training:
        raise ValueError("model must be in evaluation mode, call model.eval() first")
    if positive_int("rounds", rounds) < 5:
        raise ValueError(f"rounds must be an integer >= 5, got {rounds!r}")
    layers = _layers("", model)
    passes: list[dict[str, float]] = []
    whole: list[float] = []
    with quiet(positive_int("threads", threads)), torch.no_grad():
        model(example)  # the first call counts for nothing
        for _ in range(rounds):
            passes.append(_watched(model, example, layers))
            began = time.perf_counter()
            model(example)
            whole.append(time.perf_counter() - began)
    ran = {name: None for one in passes for name in one}
    steps = (Step(name, _kind(layers[name]), statistics.median(one[name] for one in passes)) for name in ran)
    return Breakdown(tuple(steps), statistics.median(whole))


def _layers(name: str, module: nn.Module) -> dict[str, nn.Module]:
    """Modules without children, and squeeze-and-excitations as wholes, by name."""
    children = dict(module.named_children())
    if not children or isinstance(module, SqueezeExcitation):
        return {name: module}
    found: dict[str, nn.Module] = {}
    for child, inner in children.items():
        found |= _layers(f"{name}.{child}" if name else child, inner)
    return found


def _watched(model: nn.Module, example: Tensor, layers: Mapping[str, nn.Module]) -> dict[str, float]:
    """Seconds of each layer in one pass."""
    seconds: dict[str, float] = {}
    began: dict[str, float] = {}

    def before(name: str) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            began[name] = time.perf_counter()

        return hook

    def after(name: str) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - began[name]

        return hook

    hooks = [layer.register_forward_pre_hook(before(name)) for name, layer in layers.items()]
    hooks += [layer.register_forward_hook(after(name)) for name, layer in layers.items()]
    try:
        model(example)
    finally:
        for hook in hooks:
            hook.remove()
    return seconds


def _kind(layer: nn.Module) -> str:
    if isinstance(layer, nn.Conv2d):
        if layer.groups == layer.in_channels > 1:
            return "depthwise convolution"
        return "1×1 convolution" if layer.kernel_size == (1, 1) else "other convolution"
    for kinds, kind in _KINDS.items():
        if isinstance(layer, kinds):
            return kind
    return type(layer).__name__


_KINDS: dict[tuple[type[nn.Module], ...], str] = {
    (nn.BatchNorm2d,): "batch norm",
    (nn.ReLU, nn.ReLU6, nn.Hardswish, nn.Hardsigmoid, nn.SiLU, nn.Sigmoid): "activation",
    (SqueezeExcitation,): "squeeze-and-excitation",
    (nn.Linear,): "linear",
    (nn.AdaptiveAvgPool2d, nn.AvgPool2d, nn.MaxPool2d): "pooling",
}
