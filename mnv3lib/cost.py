"""What a configuration costs, by formula: shapes, parameters, multiply-adds, activations and receptive field.

Counted are convolutions and linear layers, as ``torch.utils.flop_counter`` does (one multiply-add is two of its
FLOPs); most of the paper's "MAdds" are reproduced so. Batch norm, activations, pooling and additions are left out of
the multiply-adds; batch norm's scale and shift are in the parameters, because they are trained. One image, no tensors:
a profile takes well under a millisecond, and tests hold it equal to the built network, number for number.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

from mnv3lib._checks import positive_int
from mnv3lib.config import InvertedResidualConfig, MobileNetV3Config

__all__ = ["Kind", "Layer", "Profile", "profile"]

Kind = Literal["stem", "expand", "depthwise", "squeeze", "excite", "project", "last conv", "pool", "hidden", "logits"]
Shape = tuple[int, int, int]


class Layer(NamedTuple):
    """One convolution, pooling or linear layer, with the batch norm that follows it.

    Attributes:
        name: of the module in the network, as in its state dict (a convolution with batch norm is ``name + ".0"`` and
            ``name + ".1"`` there).
        kind: its part in the block.
        feature: index into the network's ``features``; one past their end for the classifier.
        input: channels, height, width of what enters.
        output: channels, height, width of what leaves.
        kernel: side of the kernel, 1 for linear layers.
        stride: really taken.
        parameters: trained numbers, batch norm's scale and shift included.
        macs: multiply-adds for one image.
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
    parameters: int
    macs: int
    receptive_field: int
    output_stride: int

    @property
    def activations(self) -> int:
        """Numbers in the output, for one image."""
        channels, height, width = self.output
        return channels * height * width


@dataclass(frozen=True)
class Profile:
    """The cost of a network for one image; see :func:`profile`."""

    layers: tuple[Layer, ...]
    peak_activations: int
    """Most numbers alive at once in inference, input and output of a layer and what a shortcut keeps."""

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
        return self.layers[-1].receptive_field

    def peak_memory(self, *, bytes_per_value: int = 4) -> int:
        """Bytes of the activations alive at once in inference, one image; 4 bytes a value for float32."""
        return self.peak_activations * positive_int("bytes_per_value", bytes_per_value)

    @cached_property
    def features(self) -> tuple[tuple[Layer, ...], ...]:
        """The layers grouped as in the network's ``features``: stem, each bottleneck, last convolution; then the
        classifier (pooling and two linear layers) as the last group.
        """
        groups: dict[int, list[Layer]] = {}
        for layer in self.layers:
            groups.setdefault(layer.feature, []).append(layer)
        return tuple(map(tuple, groups.values()))


class _Walk:
    """Follows one image through the network and writes down each layer it meets."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.feature = 0
        self.receptive_field = self.output_stride = 1
        self.layers: list[Layer] = []
        self.shortcut = 0  # numbers that wait for the addition at the end of the block
        self.peak = 0

    def conv(
        self,
        name: str,
        kind: Kind,
        out: int,
        kernel: int = 1,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
    ) -> None:
        """A convolution, padded so that only its stride shrinks the map, and the batch norm after it."""
        channels, height, width = self.shape
        height, width = -(-height // stride), -(-width // stride)
        weights = out * (channels // groups) * kernel * kernel
        self.receptive_field += (kernel - 1) * dilation * self.output_stride
        self.output_stride *= stride
        self._write(name, kind, (out, height, width), weights + 2 * out, weights * height * width, kernel, stride)

    def squeeze_and_excite(self, name: str, squeeze: int) -> None:
        """Two 1×1 convolutions with bias on the channels' means; then a gated copy of the map."""
        shape = self.shape
        self.shape = (shape[0], 1, 1)
        self.linear(f"{name}.fc1", "squeeze", squeeze)
        self.linear(f"{name}.fc2", "excite", shape[0])
        self.shape = shape
        self._hold(_size(shape), _size(shape))

    def linear(self, name: str, kind: Kind, out: int) -> None:
        """A linear layer with bias."""
        weights = self.shape[0] * out
        self._write(name, kind, (out, 1, 1), weights + out, weights)

    def pool(self, name: str) -> None:
        """The mean of each channel."""
        self._write(name, "pool", (self.shape[0], 1, 1), 0, 0)

    def _write(
        self,
        name: str,
        kind: Kind,
        output: Shape,
        parameters: int,
        macs: int,
        kernel: int = 1,
        stride: int = 1,
    ) -> None:
        layer = Layer(
            name, kind, self.feature, self.shape, output, kernel, stride, parameters, macs,
            self.receptive_field, self.output_stride,
        )  # fmt: skip
        self.layers.append(layer)
        self.shape = output
        self._hold(_size(layer.input), layer.activations)

    def _hold(self, before: int, after: int) -> None:
        # A block's first layer reads the very numbers that the shortcut keeps, which counts them twice; the projection
        # at its end never holds fewer, so the peak is right all the same.
        self.peak = max(self.peak, before + after + self.shortcut)


def _size(shape: Shape) -> int:
    channels, height, width = shape
    return channels * height * width


def _bottleneck(walk: _Walk, row: InvertedResidualConfig) -> None:
    block, position = f"features.{walk.feature}.block", 0
    walk.shortcut = _size(walk.shape) if row.use_shortcut else 0
    expanded = row.expanded_channels
    if row.use_expansion:
        walk.conv(f"{block}.{position}", "expand", expanded)
        position += 1
    walk.conv(f"{block}.{position}", "depthwise", expanded, row.kernel, row.conv_stride, row.dilation, expanded)
    position += 1
    if row.use_se:
        walk.squeeze_and_excite(f"{block}.{position}", row.squeeze_channels)
        position += 1
    walk.conv(f"{block}.{position}", "project", row.out_channels)
    walk.shortcut = 0


def profile(config: MobileNetV3Config, resolution: int | tuple[int, int] = 224) -> Profile:
    """Cost of ``config`` for one image.

    Args:
        config: any configuration, custom rows included.
        resolution: side of a square image in pixels, or ``(height, width)``.

    Returns:
        A :class:`Profile`: the layers in the order they run, and totals.

    Raises:
        TypeError, ValueError: naming the argument, the value and the range.

    >>> from mnv3lib.config import small
    >>> report = profile(small())
    >>> report.parameters, report.macs
    (2542856, 56510400)
    """
    if not isinstance(config, MobileNetV3Config):
        raise TypeError(f"config must be a MobileNetV3Config, got {config!r}")
    sides = resolution if isinstance(resolution, tuple) else (resolution, resolution)
    if len(sides) != 2:
        raise ValueError(f"resolution must be an integer >= 1 or a (height, width) pair, got {resolution!r}")
    height, width = (positive_int("resolution", side) for side in sides)

    walk = _Walk((config.in_channels, height, width))
    walk.conv("features.0", "stem", config.stem_channels, kernel=3, stride=2)
    for row in config.rows:
        walk.feature += 1
        _bottleneck(walk, row)
    walk.feature += 1
    walk.conv(f"features.{walk.feature}", "last conv", config.last_conv)
    walk.feature += 1
    walk.pool("avgpool")
    walk.linear("classifier.0", "hidden", config.last_channel)
    walk.linear("classifier.3", "logits", config.num_classes)
    return Profile(tuple(walk.layers), walk.peak)
