"""What a configuration costs, by formula: shapes, parameters, multiply-adds, activations and receptive field.

Counted are convolutions and linear layers, as ``torch.utils.flop_counter`` does (one multiply-add is two of its
FLOPs); most of the paper's "MAdds" are reproduced so. Batch norm, activations, pooling and additions are left out of
the multiply-adds; batch norm's scale and shift are in the parameters, because they are trained. One image, no tensors:
a profile takes well under a millisecond, and tests hold it equal to the built network, number for number.

:func:`profile` is :func:`backbone` and a head: :func:`classifier`, or those of the networks for segmentation in
:mod:`mnv3lib.heads`. A :class:`Walk` from any layer of a backbone adds up other heads.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from mnv3lib._checks import positive_int
from mnv3lib._walk import Kind, Layer, Profile, Walk, size
from mnv3lib.config import InvertedResidualConfig, MobileNetV3Config
from mnv3lib.heads import DeepLabV3Config, LRASPPConfig

__all__ = ["Kind", "Layer", "Profile", "Walk", "backbone", "classifier", "profile"]


def _bottleneck(
    walk: Walk, row: InvertedResidualConfig, drop_rate: float, *, keep_input: bool = False, keep_inside: bool = False
) -> None:
    """One row; a head may need the map that enters, or the one that the depthwise convolution gives, later again."""
    block, position = f"features.{walk.feature}.block", 0
    held = walk.waiting
    # The first layer reads the very numbers that wait, so they are not counted a second time with it.
    waiting = held + (size(walk.shape) if row.use_shortcut or keep_input else 0)
    after = held + (size(walk.shape) if keep_input else 0)
    expanded = row.expanded_channels
    if row.use_expansion:
        walk.conv(f"{block}.{position}", "expand", expanded, activation=row.activation)
        walk.waiting = waiting
        position += 1
    walk.conv(
        f"{block}.{position}", "depthwise", expanded, row.kernel, row.conv_stride, row.dilation, expanded,
        row.activation,
    )  # fmt: skip
    walk.waiting = waiting
    position += 1
    inside = size(walk.shape) if keep_inside else 0
    if row.use_se:
        walk.squeeze_and_excite(f"{block}.{position}", row.squeeze_channels)
        walk.waiting += inside
        position += 1
    walk.conv(f"{block}.{position}", "project", row.out_channels, more=int(drop_rate > 0))
    walk.waiting = after + inside


def _sides(resolution: int | tuple[int, int]) -> tuple[int, int]:
    sides = resolution if isinstance(resolution, tuple) else (resolution, resolution)
    if len(sides) != 2:
        raise ValueError(f"resolution must be an integer >= 1 or a (height, width) pair, got {resolution!r}")
    height, width = (positive_int("resolution", side) for side in sides)
    return height, width


def _features(
    config: MobileNetV3Config, resolution: int | tuple[int, int], low: int | None = None, *, inside: bool = False
) -> Profile:
    """The backbone; the map that block ``low`` gives, or the one ``inside`` it, waits for a head."""
    walk = Walk((config.in_channels, *_sides(resolution)))
    walk.conv("features.0", "stem", config.stem_channels, kernel=3, stride=2, activation=config.activation)
    for number, row in enumerate(config.rows, start=1):
        walk.feature += 1
        entered = low == number - 1 and not inside
        tapped = low == number and inside
        _bottleneck(walk, row, config.drop_rate(number), keep_input=entered, keep_inside=tapped)
    walk.feature += 1
    walk.conv(f"features.{walk.feature}", "last conv", config.last_conv, activation=config.activation)
    return walk.profile()


def backbone(config: MobileNetV3Config, resolution: int | tuple[int, int] = 224) -> Profile:
    """Cost of the ``features`` of ``config``: stem, bottlenecks and last convolution, without a head.

    Args, Raises:
        as for :func:`profile`.
    """
    if not isinstance(config, MobileNetV3Config):
        raise TypeError(f"config must be a MobileNetV3Config, got {config!r}")
    return _features(config, resolution)


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


def _lraspp(config: LRASPPConfig, low: Layer, high: Layer, image: tuple[int, int]) -> Iterator[Profile]:
    """LR-ASPP's head, in the order that it runs."""
    start = partial(Walk.after, feature=high.feature + 1)
    wide, paper, (_, height, width) = config.inter_channels, config.form == "paper", high.output
    branch = start(high, saved=config.backbone.activation == "RE", waiting=low.activations)
    branch.conv("classifier.cbr", "branch", wide, activation="RE")
    yield branch.profile()
    weighed = branch.layers[-1]

    gate = start(high, saved=True, waiting=low.activations + weighed.activations)
    kernel = config.pool_kernel and (min(config.pool_kernel[0], height), min(config.pool_kernel[1], width))
    gate.pool("classifier.scale.0", kernel, config.pool_stride)
    gate.linear("classifier.scale.1", "gate", wide, "gate", bias=paper)
    if paper:  # the product keeps the gate in its new size
        gate.resize("classifier.scale.resize", height, width, high.output_stride, more=weighed.activations)
    yield gate.profile()

    enlarged = start(weighed, waiting=low.activations)
    enlarged.resize("classifier.resize", *low.output[1:], low.output_stride)
    yield enlarged.profile()
    skip = start(low, saved=True, waiting=enlarged.layers[-1].activations)
    skip.linear("classifier.low_classifier", "logits", config.num_classes)
    yield skip.profile()
    out = start(enlarged.layers[-1], waiting=skip.layers[-1].activations)
    out.linear("classifier.high_classifier", "logits", config.num_classes)
    out.waiting = 0
    out.resize("resize", *image, 1)
    yield out.profile()


def _deeplabv3(config: DeepLabV3Config, low: Layer, high: Layer, image: tuple[int, int]) -> Iterator[Profile]:
    """DeepLabV3's head, and the auxiliary one after it."""
    start, wide = partial(Walk.after, feature=high.feature + 1), config.channels
    held = low.activations if config.aux_loss else 0
    pyramid, pooling = "classifier.0.convs", len(config.atrous_rates) + 1
    branches: list[Layer] = []
    for index, rate in enumerate((None, *config.atrous_rates)):
        first = rate is None and config.backbone.activation == "HS"  # of those that read the map, keeps it
        waiting = held + sum(layer.activations for layer in branches)
        branch = start(high, saved=not first, waiting=waiting)
        branch.conv(f"{pyramid}.{index}", "branch", wide, 1 if rate is None else 3, dilation=rate or 1, activation="RE")
        branches += branch.layers
        yield branch.profile()
    pool = start(high, waiting=held + sum(layer.activations for layer in branches))
    pool.pool(f"{pyramid}.{pooling}.0")
    pool.conv(f"{pyramid}.{pooling}", "branch", wide, activation="RE")
    pool.resize(f"{pyramid}.{pooling}.resize", *high.output[1:], high.output_stride)
    branches += pool.layers[-1:]
    yield pool.profile()

    joined = Walk.joining(branches, waiting=held)
    joined.conv("classifier.0.project", "project", wide, activation="RE", more=branches[0].activations)
    joined.saved = False  # dropout's mask is kept, and what it lets through is another map
    joined.conv("classifier.1", "branch", wide, 3, activation="RE")
    joined.linear("classifier.4", "logits", config.num_classes)
    joined.resize("resize", *image, 1)
    yield joined.profile()
    if config.aux_loss:
        _, height, width = low.output
        aux = start(low, saved=True, waiting=joined.layers[-1].activations)
        mask = config.aux_channels * height * width
        aux.conv("aux_classifier.0", "branch", config.aux_channels, 3, activation="RE", more=mask)
        aux.saved = False
        aux.linear("aux_classifier.4", "logits", config.num_classes)
        aux.resize("aux_classifier.resize", *image, 1)
        yield aux.profile()


def _segmentation(config: LRASPPConfig | DeepLabV3Config, resolution: int | tuple[int, int]) -> Profile:
    low = None if isinstance(config, DeepLabV3Config) and not config.aux_loss else config.low
    trunk = _features(config.backbone, resolution, low, inside=config.low_inside)
    layers = tuple(layer._replace(name=layer.name.replace("features", "backbone", 1)) for layer in trunk.layers)
    inside = [layer for layer in layers if layer.feature == config.low]
    fine = next(layer for layer in inside if layer.kind == "depthwise") if config.low_inside else inside[-1]
    trunk = Profile(layers, trunk.peak_activations)
    if isinstance(config, LRASPPConfig):
        return sum(_lraspp(config, fine, layers[-1], _sides(resolution)), trunk)
    return sum(_deeplabv3(config, fine, layers[-1], _sides(resolution)), trunk)


def profile(
    config: MobileNetV3Config | LRASPPConfig | DeepLabV3Config, resolution: int | tuple[int, int] = 224
) -> Profile:
    """Cost of ``config`` for one image.

    Args:
        config: any configuration, custom rows included, of :mod:`mnv3lib.config` or :mod:`mnv3lib.heads`.
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
    if isinstance(config, LRASPPConfig | DeepLabV3Config):
        return _segmentation(config, resolution)
    features = backbone(config, resolution)
    return features + classifier(config, features.layers[-1])
