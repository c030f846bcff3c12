"""Where a network is quantised, and how: the annotations that torchao's pt2e asks of a quantizer.

Needs torchao; only :mod:`mnv3lib.deploy.quantization` imports this, when something is quantised.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.fx import GraphModule, Node
from torchao.quantization.pt2e import (
    FakeQuantize,
    HistogramObserver,
    MinMaxObserver,
    MovingAverageMinMaxObserver,
    MovingAveragePerChannelMinMaxObserver,
    PerChannelMinMaxObserver,
)
from torchao.quantization.pt2e.quantizer import (
    QuantizationAnnotation,
    QuantizationSpec,
    Quantizer,
    SharedQuantizationSpec,
)

__all__ = ["FORMATS", "OBSERVERS", "Format", "Points"]

aten = torch.ops.aten
_LAYERS = {aten.conv2d.default, aten.linear.default}
_RELU = aten.relu.default
#: Functions of one feature map. An engine takes a ReLU into the layer in front; others read and write quantised values.
_ACTIVATIONS = {_RELU, aten.hardswish.default, aten.hardsigmoid.default, aten.sigmoid.default}
_ARITHMETIC = {aten.add.Tensor, aten.mul.Tensor}
#: What they give needs no other range than what they get.
_KEEPING = {aten.adaptive_avg_pool2d.default, aten.mean.dim, aten.flatten.using_ints, aten.pad.default}
_FUNCTIONAL = {
    aten.relu_.default: _RELU,
    aten.hardswish_.default: aten.hardswish.default,
    aten.hardsigmoid_.default: aten.hardsigmoid.default,
    aten.add_.Tensor: aten.add.Tensor,
}
_DROPOUT = {aten.dropout.default, aten.dropout_.default}
#: Scales are at least this, so that a feature map or a channel of zeros has one. It is the only one that torchao's
#: observers take from a state without metadata, as that of a checkpoint is.
_LEAST_SCALE = torch.finfo(torch.float32).eps


@dataclass(frozen=True)
class Format:
    """Number formats: weights are int8 from -127 to 127 with zero point 0, activations uint8 from 0 with any.

    Attributes:
        highest: value of an activation, 255 or 127.
        per_channel: whether each output channel of a weight has a scale of its own.
    """

    highest: int
    per_channel: bool


#: By the names of PyTorch's backends, whose formats they are. ``"fbgemm"`` leaves a bit of the activations out because
#: processors without VNNI add two products in 16 bits.
FORMATS = {"onednn": Format(255, True), "fbgemm": Format(127, True), "qnnpack": Format(255, False)}
#: How ranges of activations are found in calibration: the range with the least squared error, or all that was seen.
OBSERVERS = {"histogram": HistogramObserver, "minmax": MinMaxObserver}


class Points(Quantizer):
    """Quantises what enters and leaves every convolution, linear layer, activation, addition and multiplication.

    Left in float32 are the logits, what a ReLU would see before it, and operations that this does not know.

    Args:
        form: number formats.
        observer: a name in ``OBSERVERS``; None for training, where ranges are moving averages and a weight's range is
            that of the weight of the moment.
    """

    def __init__(self, form: Format, observer: str | None) -> None:
        # PyTorch's fused module, FusedMovingAvgObsFakeQuantize, gives channels of zeros other zero points.
        activation: Any = FakeQuantize if observer is None else OBSERVERS[observer]
        weight: Any = PerChannelMinMaxObserver if form.per_channel else MinMaxObserver
        of_activation: dict[str, Any] = {"eps": _LEAST_SCALE}
        of_weight = dict(of_activation)
        if observer is None:
            follow = MovingAveragePerChannelMinMaxObserver if form.per_channel else MovingAverageMinMaxObserver
            weight = FakeQuantize
            of_activation["observer"] = MovingAverageMinMaxObserver
            of_weight |= {"observer": follow, "averaging_constant": 1.0}
        activation, weight = activation.with_args(**of_activation), weight.with_args(**of_weight)
        self.activation = QuantizationSpec(torch.uint8, activation, 0, form.highest, torch.per_tensor_affine)
        scheme = torch.per_channel_symmetric if form.per_channel else torch.per_tensor_symmetric
        axis = 0 if form.per_channel else None
        self.weight = QuantizationSpec(torch.int8, weight, -127, 127, scheme, axis)

    def transform_for_annotation(self, model: GraphModule) -> GraphModule:
        """Operations in place become others, and dropout, which does nothing in evaluation, goes."""
        for node in list(model.graph.nodes):
            node.target = _FUNCTIONAL.get(node.target, node.target)
            if node.target in _DROPOUT:
                node.replace_all_uses_with(node.args[0])
                model.graph.erase_node(node)
        model.recompile()
        return model

    def annotate(self, model: GraphModule) -> GraphModule:
        """Say of every operation what it reads and writes quantised."""
        for node in model.graph.nodes:
            enters = [one for one in node.args if isinstance(one, Node)]
            reads: dict[Node, Any] = {}
            writes: Any = self.activation
            if node.target in _LAYERS:
                reads = {node.args[0]: self.activation, node.args[1]: self.weight}
                followers = {follower.target for follower in node.users}
                if followers == {_RELU} or any(follower.op == "output" for follower in node.users):
                    writes = None
            elif node.target == _RELU and enters[0].target in _LAYERS:
                pass
            elif node.target in _ACTIVATIONS | _ARITHMETIC:
                reads = dict.fromkeys(enters, self.activation)
            elif node.target in _KEEPING:
                reads = {enters[0]: self.activation}
                writes = SharedQuantizationSpec((enters[0], node))
            else:
                continue
            node.meta["quantization_annotation"] = QuantizationAnnotation(reads, writes, _annotated=True)
        return model

    def validate(self, model: GraphModule) -> None:
        """Every annotation is of this class, so there is nothing to refuse."""
