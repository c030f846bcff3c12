"""A network as two arrays for the engine: what its layers are, and their weights with batch norm folded in.

What counts are the modules themselves, not the configuration that they were built from: a network whose last layer was
replaced, or torchvision's, is read as well. A module that the engine does not know is refused by its name.
"""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor, nn

from mnv3lib.blocks import SamePaddedConv2d
from mnv3lib.deploy.fold import folded

__all__ = ["flatten"]

#: As ``layout.h`` numbers them.
_ACTIVATIONS: dict[type[nn.Module] | None, int] = {None: 0, nn.ReLU: 1, nn.Hardswish: 2, nn.Hardsigmoid: 3}


def flatten(model: nn.Module) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Integers and float32 weights in the order in which ``network.h`` reads them.

    Raises:
        TypeError, ValueError: for what is no MobileNetV3, is in training mode, or has a module that the engine does not
            know, by its name.
    """
    if not all(isinstance(getattr(model, part, None), nn.Sequential) for part in ("features", "classifier")):
        raise TypeError(f"model must be a MobileNetV3 for classification, got {type(model).__name__}")
    if model.training:
        raise ValueError("model must be in evaluation mode, call model.eval() first")
    reading = _Reading(model)
    return np.array(reading.numbers, np.int32), torch.cat(reading.weights).numpy()


class _Reading:
    def __init__(self, model: nn.Module) -> None:
        self.names = {module: name for name, module in model.named_modules()}
        self.numbers: list[int] = []
        self.weights: list[Tensor] = []
        stem, *blocks, last = _parts(model, "features")
        conv, activation = self.convolution(stem, kernel=(3, 3), stride=(2, 2))
        self.numbers += [conv.in_channels, conv.out_channels, _same(conv), activation, len(blocks)]
        for block in blocks:
            self.block(block)
        conv, activation = self.convolution(last, kernel=(1, 1), stride=(1, 1))
        self.numbers += [conv.out_channels, activation]
        layers = [layer for layer in _parts(model, "classifier") if not isinstance(layer, (nn.Dropout, nn.Identity))]
        if len(layers) != 3:
            self.refuse(model, "a linear layer, an activation and a linear layer")
        hidden, function, logits = layers
        self.numbers += [self.linear(hidden), self.activation(function), self.linear(logits)]
        self.nothing_else(model, "features", "avgpool", "classifier")

    def nothing_else(self, module: nn.Module, *known: str) -> None:
        """The mean over all positions, and no child besides those that are read."""
        for name, child in module.named_children():
            if name not in known:
                self.refuse(child, f"nothing besides {', '.join(known)}")
        pool = module.avgpool
        if not isinstance(pool, nn.AdaptiveAvgPool2d) or pool.output_size not in (1, (1, 1)):
            self.refuse(pool, "the mean over all positions")  # type: ignore[arg-type]

    def block(self, block: nn.Module) -> None:
        """One inverted residual: a row of numbers, and the weights of what it has."""
        layers = [layer for layer in _parts(block, "block") if type(layer).__name__ != "StochasticDepth"]
        gated = [type(layer).__name__ == "SqueezeExcitation" for layer in layers]
        expands = gated in ([False] * 3, [False, False, True, False])
        if not expands and gated not in ([False] * 2, [False, True, False]):
            self.refuse(block, "expansion, depthwise convolution, squeeze-and-excitation and projection")
        activations = set()
        if expands:
            activations.add(self.convolution(layers.pop(0), kernel=(1, 1), stride=(1, 1))[1])
        depthwise, activation = self.convolution(layers.pop(0), depthwise=True)
        squeeze = self.squeeze_and_excite(layers.pop(0)) if True in gated else 0
        projection, linear = self.convolution(layers.pop(0), kernel=(1, 1), stride=(1, 1))
        if len(activations | {activation}) > 1 or linear:
            self.refuse(block, "the same activation before and after the depthwise convolution, and none at the end")
        kernel, stride, dilation = (size[0] for size in (depthwise.kernel_size, depthwise.stride, depthwise.dilation))
        shortcut = bool(block.use_res_connect)
        self.numbers += [depthwise.out_channels, projection.out_channels, kernel, stride, dilation, _same(depthwise)]
        self.numbers += [squeeze, activation, expands, shortcut]

    def convolution(
        self, layer: nn.Module, *, kernel: tuple[int, int] | None = None, stride: tuple[int, int] | None = None,
        depthwise: bool = False,
    ) -> tuple[nn.Conv2d, int]:  # fmt: skip
        """Convolution, batch norm unless it was folded before, and an activation or none."""
        modules = [module for module in layer.children() if not isinstance(module, nn.Identity)]
        conv = modules.pop(0) if modules else layer
        norm = modules.pop(0) if modules and isinstance(modules[0], nn.BatchNorm2d) else None
        activation = self.activation(modules.pop(0)) if modules else 0
        if not isinstance(conv, nn.Conv2d) or modules:
            self.refuse(layer, "a convolution, batch norm and an activation")
        reach = tuple((side - 1) * rate // 2 for side, rate in zip(conv.kernel_size, conv.dilation, strict=True))
        square = all(len(set(pair)) == 1 for pair in (conv.kernel_size, conv.stride, conv.dilation))
        if (
            not square
            or kernel not in (None, conv.kernel_size)
            or stride not in (None, conv.stride)
            or conv.groups != (conv.out_channels if depthwise else 1)
            or (depthwise and conv.in_channels != conv.out_channels)
            or not (isinstance(conv, SamePaddedConv2d) or conv.padding == reach)
            or conv.padding_mode != "zeros"
        ):
            self.refuse(conv, f"a {'depthwise' if depthwise else kernel} convolution as the family has them")
        if isinstance(norm, nn.BatchNorm2d):
            self.put(*folded(conv, norm))
        else:
            self.put(conv.weight, torch.zeros(conv.out_channels) if conv.bias is None else conv.bias)
        return conv, activation

    def squeeze_and_excite(self, gate: nn.Module) -> int:
        """Two layers with bias, ReLU between them and h-sigmoid at the end; returns the width between them."""
        first, second = gate.fc1, gate.fc2
        if not isinstance(gate.activation, nn.ReLU) or not isinstance(gate.scale_activation, nn.Hardsigmoid):
            self.refuse(gate, "ReLU and h-sigmoid")
        self.nothing_else(gate, "avgpool", "fc1", "fc2", "activation", "scale_activation")
        self.put(first.weight, first.bias, second.weight, second.bias)  # type: ignore[union-attr, arg-type]
        return int(first.out_channels)  # type: ignore[union-attr, arg-type]

    def linear(self, layer: nn.Module) -> int:
        if not isinstance(layer, nn.Linear):
            self.refuse(layer, "a linear layer")
        self.put(layer.weight, torch.zeros(layer.out_features) if layer.bias is None else layer.bias)
        return layer.out_features

    def activation(self, module: nn.Module) -> int:
        if type(module) not in _ACTIVATIONS:
            self.refuse(module, "ReLU, h-swish or h-sigmoid")
        return _ACTIVATIONS[type(module)]

    def put(self, *tensors: Tensor) -> None:
        self.weights += [tensor.detach().to("cpu", torch.float32).reshape(-1) for tensor in tensors]

    def refuse(self, module: nn.Module, known: str) -> NoReturn:
        raise ValueError(f"the engine knows {known} at {self.names[module]!r}, got {module}")


def _parts(module: nn.Module, name: str) -> list[nn.Module]:
    return list(getattr(module, name).children())


def _same(conv: nn.Conv2d) -> int:
    return int(isinstance(conv, SamePaddedConv2d))
