"""What a configuration costs, by formula: shapes, parameters, multiply-adds, activations and receptive field.

Counted are convolutions and linear layers, as ``torch.utils.flop_counter`` does (one multiply-add is two of its
FLOPs); most of the paper's "MAdds" are reproduced so. Batch norm, activations, pooling and additions are left out of
the multiply-adds; batch norm's scale and shift are in the parameters, because they are trained. One image, no tensors:
a profile takes well under a millisecond, and tests hold it equal to the built network, number for number.

:func:`profile` is :func:`backbone` and a head: :func:`classifier`, or those of the networks for segmentation in
:mod:`mnv3lib.heads` and for detection in :mod:`mnv3lib.detectors`. A :class:`Walk` from any layer of a backbone adds
up other heads.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from types import MappingProxyType

from mnv3lib._checks import positive_int
from mnv3lib._walk import Kind, Layer, Profile, Walk, size
from mnv3lib.config import InvertedResidualConfig, MobileNetV3Config
from mnv3lib.detectors import FasterRCNNConfig, SSDLiteConfig
from mnv3lib.heads import DeepLabV3Config, LRASPPConfig
from mnv3lib.rows import Activation

__all__ = ["Kind", "Layer", "Profile", "Walk", "backbone", "classifier", "profile"]


def _bottleneck(
    walk: Walk, row: InvertedResidualConfig, drop_rate: float, *, keep_input: bool = False, keep: Kind | None = None
) -> None:
    """One block; a head may need what enters it, or what its convolution of kind ``keep`` gives, later."""
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
    tapped = size(walk.shape) if keep == "expand" else 0
    walk.conv(
        f"{block}.{position}", "depthwise", expanded, row.kernel, row.conv_stride, row.dilation, expanded,
        row.activation,
    )  # fmt: skip
    waiting, after = waiting + tapped, after + tapped
    walk.waiting = waiting
    position += 1
    inside = size(walk.shape) if keep == "depthwise" else 0
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
    config: MobileNetV3Config, resolution: int | tuple[int, int], taps: Mapping[int, Kind] = MappingProxyType({})
) -> Profile:
    """The backbone; what layers of a kind give, in the blocks of these numbers, waits for a head."""
    walk = Walk((config.in_channels, *_sides(resolution)))
    walk.conv("features.0", "stem", config.stem_channels, kernel=3, stride=2, activation=config.activation)
    for number, row in enumerate(config.rows, start=1):
        walk.feature += 1
        entered = taps.get(number - 1) == "project"
        _bottleneck(walk, row, config.drop_rate(number), keep_input=entered, keep=taps.get(number))
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
        first = rate is None and config.backbone.activation == "HS"  # of those that read the feature map, keeps it
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
    joined.saved = False  # dropout's mask is kept, and what it lets through is another feature map
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
    kind: Kind = "depthwise" if config.low_inside else "project"
    used = isinstance(config, LRASPPConfig) or config.aux_loss
    backbone = _features(config.backbone, resolution, {config.low: kind} if used else {})
    layers = tuple(layer._replace(name=layer.name.replace("features", "backbone", 1)) for layer in backbone.layers)
    fine = next(layer for layer in layers if layer.feature == config.low and layer.kind == kind)
    backbone = Profile(layers, backbone.peak_activations)
    if isinstance(config, LRASPPConfig):
        return sum(_lraspp(config, fine, layers[-1], _sides(resolution)), backbone)
    return sum(_deeplabv3(config, fine, layers[-1], _sides(resolution)), backbone)


def _held(layers: Iterable[Layer]) -> int:
    return sum(layer.activations for layer in layers)


def _ssdlite_name(layer: Layer, c4: int) -> str:
    """Torchvision's name of a layer of the backbone, which it takes apart behind the expansion of block ``c4``."""
    number, _, rest = layer.name.removeprefix("features.").partition(".")
    if layer.feature < c4:
        return f"backbone.features.0.{number}{'.' if rest else ''}{rest}"
    if layer.feature > c4:
        return f"backbone.features.1.{layer.feature - c4}{'.' if rest else ''}{rest}"
    return f"backbone.features.0.{c4}" if layer.kind == "expand" else f"backbone.features.1.0.{rest[len('block.') :]}"


def _ssdlite(config: SSDLiteConfig, resolution: int | tuple[int, int]) -> Iterator[Profile]:
    """SSDLite, in the order that it runs; all six feature maps wait until the last has been read."""
    c4 = config.c4
    backbone = _features(config.backbone, resolution, {c4: "expand"})
    yield Profile(
        tuple(layer._replace(name=_ssdlite_name(layer, c4)) for layer in backbone.layers), backbone.peak_activations
    )
    tapped = next(layer for layer in backbone.layers if layer.feature == c4 and layer.kind == "expand")
    maps = [tapped, backbone.layers[-1]]
    start = partial(Walk.after, feature=backbone.layers[-1].feature + 1)
    relu6: Activation = "HS"  # which keeps as much for the backward pass: what it was given, and what it gave
    for index, wide in enumerate(config.extra_channels):
        extra, half = f"backbone.extra.{index}", wide // 2
        walk = start(maps[-1], saved=index == 0 and config.backbone.activation == "RE", waiting=_held(maps[:-1]))
        walk.conv(f"{extra}.0", "branch", half, activation=relu6)
        walk.waiting = _held(maps)
        walk.conv(f"{extra}.1", "depthwise", half, 3, 2, groups=half, activation=relu6)
        walk.conv(f"{extra}.2", "branch", wide, activation=relu6)
        yield walk.profile()
        maps.append(walk.layers[-1])
    waiting = _held(maps)
    heads: tuple[tuple[str, Kind, int], ...] = (
        ("regression_head", "boxes", 4),
        ("classification_head", "logits", config.num_classes),
    )
    for head, kind, numbers in heads:
        for index, (entering, boxes) in enumerate(zip(maps, config.boxes, strict=True)):
            # All feature maps but the last have been read before.
            read = kind == "logits" or entering is not maps[-1]
            walk, wide = start(entering, saved=read, waiting=waiting - entering.activations), entering.output[0]
            name = f"head.{head}.module_list.{index}"
            walk.conv(f"{name}.0", "depthwise", wide, 3, groups=wide, activation=relu6)
            walk.waiting = waiting
            walk.linear(f"{name}.1", kind, numbers * boxes)
            yield walk.profile()
            waiting += walk.layers[-1].activations


def _pyramid(config: FasterRCNNConfig, maps: list[Layer]) -> Iterator[Profile]:
    """The feature pyramid, from coarse to fine, and the level that pooling adds; layers called as their levels."""
    start = partial(Walk.after, feature=maps[-1].feature + 1)
    done: list[Layer] = []
    coarser: Layer | None = None
    for level, entering in reversed(list(enumerate(maps))):
        waiting = _held(maps[:level]) + _held(done)
        last = level == len(maps) - 1
        walk = start(
            entering,
            saved=not last or config.backbone.activation == "RE",
            waiting=waiting + (coarser.activations if coarser else 0),
        )
        walk.linear(f"backbone.fpn.inner_blocks.{level}.0", "branch", config.channels)
        yield walk.profile()
        inner = walk.layers[-1]
        if coarser:
            walk = start(coarser, waiting=waiting + inner.activations)
            walk.resize(f"backbone.fpn.{level}.resize", *inner.output[1:], inner.output_stride)
            yield walk.profile()
        coarser = walk.layers[-1]
        out = start(coarser, waiting=waiting + (coarser.activations if level else 0))
        out.linear(f"backbone.fpn.layer_blocks.{level}.0", "branch", config.channels, kernel=3)
        yield out.profile()
        done.append(out.layers[-1])
    pool = start(done[0], saved=True, waiting=_held(done[1:]))
    pool.output_stride *= 2
    pool.pool("backbone.fpn.extra_blocks", (1, 1), (2, 2))
    yield pool.profile()


def _fasterrcnn(config: FasterRCNNConfig, resolution: int | tuple[int, int]) -> Iterator[Profile]:
    """Faster R-CNN, in the order that it runs, with as many regions as there can be in evaluation."""
    backbone = _features(config.backbone, resolution, dict.fromkeys(config.taps[:-1], "project"))
    body = [layer._replace(name=layer.name.replace("features", "backbone.body", 1)) for layer in backbone.layers]
    if config.frozen_norm:  # a scale and a shift for each mean and variance, which do not learn
        body = [layer._replace(parameters=layer.parameters - layer.saved_per_batch) for layer in body]
    yield Profile(tuple(body), backbone.peak_activations)
    maps = [next(layer for layer in reversed(body) if layer.feature == tap) for tap in config.taps]
    levels: list[Layer] = []
    for part in _pyramid(config, maps):
        yield part
        levels += [layer for layer in part.layers if "layer_blocks" in layer.name]
    levels = [*reversed(levels), part.layers[-1]]

    start, predictions = partial(Walk.after, feature=body[-1].feature + 1), 0
    for index, level in enumerate(levels):
        # The pool's backward pass keeps the coarsest level, as it is counted there.
        walk = start(level, saved=False, waiting=_held(levels) - level.activations + predictions)
        walk.linear("rpn.head.conv.0.0", "branch", config.channels, "RE", kernel=3)
        walk.waiting += level.activations
        hidden, waiting = walk.layers[-1], walk.waiting
        walk.linear("rpn.head.cls_logits", "logits", config.anchors)
        boxes = start(hidden, saved=True, waiting=waiting + walk.layers[-1].activations)
        boxes.linear("rpn.head.bbox_pred", "boxes", 4 * config.anchors)
        predictions += walk.layers[-1].activations + boxes.layers[-1].activations
        for part in (walk.profile(), boxes.profile()):  # one set of weights for all levels
            yield (
                part
                if index == 0
                else Profile(tuple(layer._replace(parameters=0) for layer in part.layers), part.peak_activations)
            )
    walk = Walk.regions(levels[:-1], config.region, config.proposals)
    walk.feature = body[-1].feature + 1
    walk.linear("roi_heads.box_head.fc6", "hidden", config.hidden, "RE")
    walk.linear("roi_heads.box_head.fc7", "hidden", config.hidden, "RE")
    hidden = walk.layers[-1]
    walk.linear("roi_heads.box_predictor.cls_score", "logits", config.num_classes)
    yield walk.profile()
    boxes = start(hidden, saved=True, waiting=walk.layers[-1].activations)
    boxes.linear("roi_heads.box_predictor.bbox_pred", "boxes", 4 * config.num_classes)
    yield boxes.profile()


def profile(
    config: MobileNetV3Config | LRASPPConfig | DeepLabV3Config | SSDLiteConfig | FasterRCNNConfig,
    resolution: int | tuple[int, int] | None = None,
) -> Profile:
    """Cost of ``config`` for one image.

    Args:
        config: any configuration, custom rows included, of :mod:`mnv3lib.config`, :mod:`mnv3lib.heads` or
            :mod:`mnv3lib.detectors`.
        resolution: side of a square image in pixels, or ``(height, width)``, as it enters the backbone. Networks for
            detection bring images to a size of their own before, which is the default of these: squares of
            ``config.size`` for SSDLite and of ``config.min_size`` for Faster R-CNN. For the others it is 224.

    Returns:
        A :class:`Profile`: the layers in the order they run, and totals. In Faster R-CNN, ``config.proposals`` regions
        are read, the most that there can be; what its pooling and its reading of regions keep for the backward pass is
        not counted.

    Raises:
        TypeError, ValueError: naming the argument, the value and the range.

    >>> from mnv3lib.config import small
    >>> report = profile(small())
    >>> report.parameters, report.macs
    (2542856, 56510400)
    """
    if resolution is None:
        resolution = getattr(config, "size", getattr(config, "min_size", 224))
    if isinstance(config, LRASPPConfig | DeepLabV3Config):
        return _segmentation(config, resolution)
    if isinstance(config, SSDLiteConfig | FasterRCNNConfig):
        parts = _ssdlite(config, resolution) if isinstance(config, SSDLiteConfig) else _fasterrcnn(config, resolution)
        return sum(parts, next(parts))
    features = backbone(config, resolution)
    return features + classifier(config, features.layers[-1])
