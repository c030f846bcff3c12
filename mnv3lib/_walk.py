"""Layers one after the other, and what each costs: the arithmetic under :mod:`mnv3lib.cost`, for heads too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

from mnv3lib._checks import positive_int
from mnv3lib.rows import Activation

__all__ = ["Kind", "Layer", "Profile", "Shape", "Walk", "size"]

Kind = Literal["stem", "expand", "depthwise", "squeeze", "excite", "project", "last conv", "pool", "hidden", "logits",
               "branch", "gate", "resize", "boxes"]  # fmt: skip
Shape = tuple[int, int, int]


class Layer(NamedTuple):
    """One convolution, pooling, resizing or linear layer, with the batch norm that follows it.

    Attributes:
        name: of the module in the network, as in its state dict (a convolution with batch norm is ``name + ".0"`` and
            ``name + ".1"`` there). What resizes has no module: its name ends in ``resize``.
        kind: its role in the block, or in a head.
        feature: index into the network's ``features``; one past their end for the classifier, or any other head.
        input: channels, height, width of what enters.
        output: channels, height, width of what leaves.
        kernel: side of the kernel, 1 for linear layers.
        stride: really taken.
        groups: of the convolution; a depthwise one has as many as channels.
        dilation: rate of the kernel.
        parameters: trained numbers, batch norm's scale and shift included.
        macs: multiply-adds for one image.
        saved: numbers that training keeps of one image for the backward pass, of the layer, its norm and activation.
            What two layers keep together is counted in the first.
        saved_per_batch: numbers that batch norm keeps once for a batch, its mean and standard deviation.
        receptive_field: side, in pixels of the image, of the square that one output value depends on through the
            convolutions. Squeeze-and-excitation and pooling see the whole image; they do not count here.
        output_stride: pixels of the image from one output value to the next.
    """

    name: str
    kind: Kind
    feature: int
    input: Shape
    output: Shape
    kernel: int
    stride: int
    groups: int
    dilation: int
    parameters: int
    macs: int
    saved: int
    saved_per_batch: int
    receptive_field: int
    output_stride: int

    @property
    def activations(self) -> int:
        """Numbers in the output, for one image."""
        channels, height, width = self.output
        return channels * height * width


@dataclass(frozen=True)
class Profile:
    """The cost of a network, or of its backbone or head, for one image; see :func:`profile`.

    Two that follow each other are joined by ``+``.
    """

    layers: tuple[Layer, ...]
    peak_activations: int
    """Most numbers alive at once in inference, input and output of a layer and what a shortcut keeps."""

    def __add__(self, later: Profile) -> Profile:
        return Profile(self.layers + later.layers, max(self.peak_activations, later.peak_activations))

    @cached_property
    def parameters(self) -> int:
        """Trained numbers of the whole network."""
        return sum(layer.parameters for layer in self.layers)

    @cached_property
    def macs(self) -> int:
        """Multiply-adds of the whole network for one image."""
        return sum(layer.macs for layer in self.layers)

    @cached_property
    def activations(self) -> int:
        """Numbers in the outputs of all layers, for one image."""
        return sum(layer.activations for layer in self.layers)

    @cached_property
    def macs_by_feature(self) -> tuple[int, ...]:
        """Multiply-adds of each group of :attr:`features`."""
        return tuple(sum(layer.macs for layer in group) for group in self.features)

    @cached_property
    def parameters_by_feature(self) -> tuple[int, ...]:
        """Trained numbers of each group of :attr:`features`."""
        return tuple(sum(layer.parameters for layer in group) for group in self.features)

    @property
    def receptive_field(self) -> int:
        """Side, in pixels, of what one value before the pooling depends on through the convolutions."""
        return max(layer.receptive_field for layer in self.layers)

    def peak_memory(self, *, bytes_per_value: int = 4) -> int:
        """Bytes of the activations alive at once in inference, one image; 4 bytes a value for float32."""
        return self.peak_activations * positive_int("bytes_per_value", bytes_per_value)

    def saved_activations(self, batch: int = 1) -> int:
        """Numbers that a forward pass in training keeps for the backward pass, of ``batch`` images.

        In float32 each has 4 bytes. Exact for PyTorch's autograd, batch norm and parameters that are all learnt; the
        weights themselves and the loss are not in it. A frozen backbone keeps nothing: take the head's.
        """
        images = positive_int("batch", batch)
        return sum(images * layer.saved + layer.saved_per_batch for layer in self.layers)

    @cached_property
    def features(self) -> tuple[tuple[Layer, ...], ...]:
        """The layers grouped as in the network's ``features``: stem, each bottleneck, last convolution; then the
        classifier (pooling and two linear layers) as the last group.
        """
        groups: dict[int, list[Layer]] = {}
        for layer in self.layers:
            groups.setdefault(layer.feature, []).append(layer)
        return tuple(map(tuple, groups.values()))


class Walk:
    """Follows one image through layers and writes down each that it meets.

    Args:
        shape: channels, height and width of what enters.
        feature: index of the group that the layers belong to, see :class:`Layer`.
        receptive_field: side, in pixels of the image, that one value of the input depends on.
        output_stride: pixels of the image from one value of the input to the next.
        saved: whether what enters is kept for the backward pass already, by another layer that reads it.
    """

    def __init__(
        self, shape: Shape, *, feature: int = 0, receptive_field: int = 1, output_stride: int = 1, saved: bool = False
    ) -> None:
        self.shape = shape
        self.feature = feature
        self.receptive_field = receptive_field
        self.output_stride = output_stride
        self.saved = saved
        self.layers: list[Layer] = []
        self.waiting = 0  # numbers kept for later: a shortcut's for its addition, a feature map's for a head
        self.peak = 0

    @classmethod
    def after(cls, layer: Layer, *, feature: int | None = None, saved: bool = False, waiting: int = 0) -> Walk:
        """A walk that begins with what ``layer`` gives, as a head does at any depth of a backbone.

        Meanwhile ``waiting`` numbers of other feature maps are kept for what comes later.
        """
        walk = cls(
            layer.output,
            feature=layer.feature + 1 if feature is None else feature,
            receptive_field=layer.receptive_field,
            output_stride=layer.output_stride,
            saved=saved,
        )
        walk.waiting = waiting
        return walk

    @classmethod
    def joining(cls, layers: Sequence[Layer], *, waiting: int = 0) -> Walk:
        """A walk that begins with the channels of several feature maps of one size, copied into one."""
        last = layers[-1]
        walk = cls(
            (sum(layer.output[0] for layer in layers), *last.output[1:]),
            feature=last.feature,
            receptive_field=max(layer.receptive_field for layer in layers),
            output_stride=last.output_stride,
        )
        walk.waiting = waiting
        walk._hold(size(walk.shape), size(walk.shape))
        return walk

    @classmethod
    def regions(cls, layers: Sequence[Layer], side: int, number: int) -> Walk:
        """A walk that begins with ``number`` regions of ``side`` by ``side`` cells, cut out of several feature maps.

        The cells of a region are channels, and the regions below each other are the height.
        """
        walk = cls(
            (layers[0].output[0] * side * side, number, 1),
            feature=layers[0].feature,
            receptive_field=max(layer.receptive_field for layer in layers),
            output_stride=layers[0].output_stride,
        )
        walk._hold(sum(layer.activations for layer in layers), size(walk.shape))
        return walk

    def conv(
        self,
        name: str,
        kind: Kind,
        out: int,
        kernel: int = 1,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        activation: Activation | None = None,
        *,
        more: int = 0,
    ) -> None:
        """A convolution, padded so that only its stride shrinks the feature map, batch norm, and an activation.

        ``more`` numbers are kept for the backward pass besides.
        """
        channels, height, width = self.shape
        height, width = -(-height // stride), -(-width // stride)
        weights = out * (channels // groups) * kernel * kernel
        self.receptive_field += (kernel - 1) * dilation * self.output_stride
        self.output_stride *= stride
        # The convolution keeps its input, batch norm what the convolution gave, h-swish its input, ReLU its output.
        kept = (0 if self.saved else size(self.shape)) + (1 + (activation is not None)) * out * height * width + more
        self._write(
            name, kind, (out, height, width), weights + 2 * out, weights * height * width, kernel, stride, groups,
            dilation, saved=kept, saved_per_batch=2 * out,
        )  # fmt: skip
        self.saved = activation == "RE"

    def squeeze_and_excite(self, name: str, squeeze: int) -> None:
        """Two 1×1 convolutions with bias on the channels' means; then a gated copy of the feature map."""
        shape, saved = self.shape, self.saved
        self.shape, self.saved = (shape[0], 1, 1), False
        self.linear(f"{name}.fc1", "squeeze", squeeze, "RE")
        # The product keeps both its factors.
        self.linear(f"{name}.fc2", "excite", shape[0], "gate", more=shape[0] + (0 if saved else size(shape)))
        self.shape = shape
        self._hold(size(shape), size(shape))

    def linear(
        self,
        name: str,
        kind: Kind,
        out: int,
        activation: Activation | Literal["gate"] | None = None,
        *,
        kernel: int = 1,
        bias: bool = True,
        more: int = 0,
    ) -> None:
        """A linear layer with an activation, or, of a feature map, a convolution without batch norm.

        ``more`` numbers are kept for the backward pass besides.
        """
        channels, height, width = self.shape
        weights, cells = channels * out * kernel * kernel, height * width
        self.receptive_field += (kernel - 1) * self.output_stride
        kept = (0 if self.saved else size(self.shape)) + (out * cells if activation is not None else 0) + more
        self._write(name, kind, (out, height, width), weights + out * bias, weights * cells, kernel, saved=kept)
        self.saved = activation == "RE"

    def pool(self, name: str, kernel: tuple[int, int] | None = None, stride: tuple[int, int] = (1, 1)) -> None:
        """The mean of each channel, or with a ``kernel`` that fits into the feature map, the means of its windows.

        The mean keeps nothing for the backward pass, a pooling by windows its input.
        """
        channels, *sides = self.shape
        if kernel is None:
            self._write(name, "pool", (channels, 1, 1), 0, 0)
        else:
            height, width = ((side - k) // s + 1 for side, k, s in zip(sides, kernel, stride, strict=True))
            kept = 0 if self.saved else size(self.shape)
            self._write(name, "pool", (channels, height, width), 0, 0, saved=kept)
        self.saved = False

    def resize(self, name: str, height: int, width: int, output_stride: int, *, more: int = 0) -> None:
        """Bilinear interpolation to another height and width, which itself keeps nothing for the backward pass."""
        self.output_stride = output_stride
        self._write(name, "resize", (self.shape[0], height, width), 0, 0, saved=more)
        self.saved = False

    def profile(self) -> Profile:
        """What was written down."""
        return Profile(tuple(self.layers), self.peak)

    def _write(
        self,
        name: str,
        kind: Kind,
        output: Shape,
        parameters: int,
        macs: int,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        dilation: int = 1,
        *,
        saved: int = 0,
        saved_per_batch: int = 0,
    ) -> None:
        layer = Layer(
            name, kind, self.feature, self.shape, output, kernel, stride, groups, dilation, parameters, macs, saved,
            saved_per_batch, self.receptive_field, self.output_stride,
        )  # fmt: skip
        self.layers.append(layer)
        self.shape = output
        self._hold(size(layer.input), layer.activations)

    def _hold(self, before: int, after: int) -> None:
        self.peak = max(self.peak, before + after + self.waiting)


def size(shape: Shape) -> int:
    """Numbers in a feature map."""
    channels, height, width = shape
    return channels * height * width
