"""What a configuration costs, by formula: shapes, parameters, multiply-adds, activations and receptive field.

Counted are convolutions and linear layers, as ``torch.utils.flop_counter`` does (one multiply-add is two of its
FLOPs); most of the paper's "MAdds" are reproduced so. Batch norm, activations, pooling and additions are left out of
the multiply-adds; batch norm's scale and shift are in the parameters, because they are trained. One image, no tensors:
a profile takes well under a millisecond, and tests hold it equal to the built network, number for number.

:func:`profile` is :func:`backbone` and a head, here :func:`classifier`; a :class:`Walk` from any layer of a backbone
adds up other heads.
"""

from __future__ import annotations

from mnv3lib._checks import positive_int
from mnv3lib._walk import Kind, Layer, Profile, Walk, size
from mnv3lib.config import InvertedResidualConfig, MobileNetV3Config

__all__ = ["Kind", "Layer", "Profile", "Walk", "backbone", "classifier", "profile"]


def _bottleneck(walk: Walk, row: InvertedResidualConfig, drop_rate: float) -> None:
    block, position = f"features.{walk.feature}.block", 0
    walk.shortcut = size(walk.shape) if row.use_shortcut else 0
    expanded = row.expanded_channels
    if row.use_expansion:
        walk.conv(f"{block}.{position}", "expand", expanded, activation=row.activation)
        position += 1
    walk.conv(
        f"{block}.{position}", "depthwise", expanded, row.kernel, row.conv_stride, row.dilation, expanded,
        row.activation,
    )  # fmt: skip
    position += 1
    if row.use_se:
        walk.squeeze_and_excite(f"{block}.{position}", row.squeeze_channels)
        position += 1
    walk.conv(f"{block}.{position}", "project", row.out_channels, dropped=drop_rate > 0)
    walk.shortcut = 0


def backbone(config: MobileNetV3Config, resolution: int | tuple[int, int] = 224) -> Profile:
    """Cost of the ``features`` of ``config``: stem, bottlenecks and last convolution, without a head.

    Args, Raises:
        as for :func:`profile`.
    """
    if not isinstance(config, MobileNetV3Config):
        raise TypeError(f"config must be a MobileNetV3Config, got {config!r}")
    sides = resolution if isinstance(resolution, tuple) else (resolution, resolution)
    if len(sides) != 2:
        raise ValueError(f"resolution must be an integer >= 1 or a (height, width) pair, got {resolution!r}")
    height, width = (positive_int("resolution", side) for side in sides)

    walk = Walk((config.in_channels, height, width))
    walk.conv("features.0", "stem", config.stem_channels, kernel=3, stride=2, activation=config.activation)
    for number, row in enumerate(config.rows, start=1):
        walk.feature += 1
        _bottleneck(walk, row, config.drop_rate(number))
    walk.feature += 1
    walk.conv(f"features.{walk.feature}", "last conv", config.last_conv, activation=config.activation)
    return walk.profile()


def classifier(config: MobileNetV3Config, last: Layer) -> Profile:
    """Cost of the head that classifies: pooling and two linear layers.

    Args:
        config: the configuration.
        last: the layer in front of it, ``backbone(config).layers[-1]``.
    """
    walk = Walk.after(last, saved=config.activation == "RE")
    walk.pool("avgpool")
    walk.linear("classifier.0", "hidden", config.last_channel, config.activation)
    # Dropout keeps its mask, and does not work in place over a ReLU: the next layer reads other numbers.
    if config.dropout > 0:
        walk.saved = False
    masks = config.last_channel if config.dropout > 0 else 0
    walk.linear("classifier.3", "logits", config.num_classes, more=masks)
    return walk.profile()


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
    features = backbone(config, resolution)
    return features + classifier(config, features.layers[-1])
