"""Networks for detection as data: a backbone and what is read off it, SSDLite or Faster R-CNN with a feature pyramid.

As in :mod:`mnv3lib.heads`, nothing here knows about tensors: :mod:`mnv3lib.tasks` builds these networks, and
:func:`mnv3lib.cost.profile` adds them up.

Sources: SSDLite is from Sandler et al., arXiv:1801.04381, Section 6.2, and its taps from Howard et al.,
arXiv:1905.02244v5, Section 6.3; the pyramid is from Lin et al., arXiv:1612.03144. Widths, thresholds and sizes are
torchvision's; the authors' default boxes are in TensorFlow's object detection, ``multiple_grid_anchor_generator.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from operator import mul
from typing import TypedDict, Unpack

from mnv3lib._checks import boolean, no_other_keywords, positive_int, value_of
from mnv3lib._scaling import DilationPolicy, Rounding
from mnv3lib.config import VARIANTS, MobileNetV3Config, OnBackbone, takes_options
from mnv3lib.rows import Padding

__all__ = [
    "DETECTION",
    "DetectionConfig",
    "DetectorOptions",
    "FasterRCNNConfig",
    "FasterRCNNOptions",
    "SSDLiteConfig",
    "SSDLiteOptions",
    "fasterrcnn",
    "fasterrcnn_320",
    "ssdlite",
]


class DetectorOptions(TypedDict, total=False):
    """The keywords of a backbone that every network for detection takes, with the defaults of a classification."""

    width_mult: float
    dilated: bool
    rounding: Rounding
    dilation_policy: DilationPolicy
    padding: Padding
    stochastic_depth: float


class _SharedOptions(DetectorOptions, total=False):
    num_classes: int
    trainable_layers: int | None
    reduced_tail: bool
    norm_eps: float
    norm_momentum: float


class SSDLiteOptions(_SharedOptions, total=False):
    """The keywords of :func:`ssdlite`, which explains them."""

    size: int
    fewer_boxes: bool


class FasterRCNNOptions(_SharedOptions, total=False):
    """The keywords of :func:`fasterrcnn`, which explains them."""

    full_pyramid: bool
    frozen_norm: bool
    min_size: int
    max_size: int
    proposals: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectionConfig(OnBackbone):
    """What SSDLite and Faster R-CNN have in common.

    Args:
        backbone: the classification network whose ``features`` are used, on images of three colours; its own
            classifier is no part of the network.
        num_classes: of an object, the background included as class 0.
        trainable_layers: how many of the backbone's stages learn, counted from its end; None for all. A stage begins
            with a row of stride 2, and the stem and the last convolution are one each: Large and Small have six.

    Raises:
        TypeError, ValueError: naming the argument, the value and the range.
    """

    backbone: MobileNetV3Config
    num_classes: int = 91
    trainable_layers: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.backbone, MobileNetV3Config):
            raise TypeError(f"backbone must be a MobileNetV3Config, got {self.backbone!r}")
        if self.backbone.in_channels != 3:
            raise ValueError(f"backbone must take images of 3 channels, got {self.backbone.in_channels!r}")
        object.__setattr__(self, "num_classes", positive_int("num_classes", self.num_classes))
        chosen, most = self.trainable_layers, len(self.stage_starts)
        if chosen is None:
            return
        if isinstance(chosen, bool) or not isinstance(chosen, int):
            raise TypeError(f"trainable_layers must be None or an integer from 0 to {most}, got {chosen!r}")
        if not 0 <= chosen <= most:
            raise ValueError(f"trainable_layers must be None or an integer from 0 to {most}, got {chosen!r}")

    @property
    def stage_starts(self) -> tuple[int, ...]:
        """Indices into ``features`` at which stages begin; also of a stage that dilation keeps at its resolution."""
        strided = [index for index, row in enumerate(self.backbone.rows, start=1) if row.stride > 1]
        return (0, *strided, len(self.backbone.rows) + 1)

    @property
    def frozen(self) -> int:
        """How many of ``features``, from the first on, do not learn."""
        starts, learning = self.stage_starts, self.trainable_layers
        if learning is None:
            return 0
        return starts[-learning] if learning else starts[-1] + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SSDLiteConfig(DetectionConfig):
    """SSDLite: at every cell of six feature maps, the classes and the corrections of default boxes.

    The first is inside the backbone's last block of stride 2, behind its expansion (the paper's C4), the second is the
    backbone's last; four more come from convolutions of stride 2.

    Args:
        backbone, num_classes, trainable_layers: as in :class:`DetectionConfig`. The last block of stride 2 has an
            expansion, as it has in Large and Small.
        size: side in pixels to which images are brought, whatever their shape.
        fewer_boxes: 3 default boxes, not 6, at each cell of the first feature map, as the authors had it: a small
            square, and two of ratio 2.

    Raises:
        TypeError, ValueError: naming the argument, the value and the range.
    """

    size: int = 320
    fewer_boxes: bool = False

    def __post_init__(self) -> None:
        # Not super(): with slots, the decorator makes a second class that it does not know.
        DetectionConfig.__post_init__(self)
        object.__setattr__(self, "size", positive_int("size", self.size))
        boolean("fewer_boxes", self.fewer_boxes)
        if len(self.stage_starts) < 3 or not self.backbone.rows[self.c4 - 1].use_expansion:
            raise ValueError(f"backbone must have an expansion in its last row of stride 2, got {self.backbone.rows!r}")

    @property
    def c4(self) -> int:
        """Index into ``features`` of the block whose expansion gives the first feature map."""
        return self.stage_starts[-2]

    @property
    def extra_channels(self) -> tuple[int, ...]:
        """Widths of the four feature maps behind the backbone, at any ``width_mult``."""
        return 512, 256, 256, 128

    @property
    def map_channels(self) -> tuple[int, ...]:
        """Widths of the six feature maps."""
        return self.backbone.rows[self.c4 - 1].expanded_channels, self.backbone.last_conv, *self.extra_channels

    @property
    def boxes(self) -> tuple[int, ...]:
        """Default boxes at each cell of the six feature maps."""
        return 3 if self.fewer_boxes else 6, 6, 6, 6, 6, 6


@dataclass(frozen=True, slots=True, kw_only=True)
class FasterRCNNConfig(DetectionConfig):
    """Faster R-CNN: a pyramid of feature maps, proposals of boxes from it, and a class and a correction for each.

    Args:
        backbone, num_classes, trainable_layers: as in :class:`DetectionConfig`.
        full_pyramid: take the last feature maps at output strides 8, 16 and 32, with anchors of one size for each
            level, 8 times its stride (Lin et al.). Torchvision takes the first block of the last stage and the last
            convolution, which are both at stride 32, with anchors of five sizes on each.
        frozen_norm: batch norm with fixed numbers in the backbone, as torchvision has it where the backbone has learnt
            elsewhere.
        min_size, max_size: images are brought to a shorter side of the first, if the longer one then has at most the
            second.
        proposals: most boxes, before and after non-maximum suppression, that are looked at in evaluation.

    Raises:
        TypeError, ValueError: naming the argument, the value and the range.
    """

    full_pyramid: bool = False
    frozen_norm: bool = False
    min_size: int = 800
    max_size: int = 1333
    proposals: int = 1000

    def __post_init__(self) -> None:
        DetectionConfig.__post_init__(self)
        boolean("full_pyramid", self.full_pyramid)
        boolean("frozen_norm", self.frozen_norm)
        for name in ("min_size", "max_size", "proposals"):
            object.__setattr__(self, name, positive_int(name, getattr(self, name)))
        if self.max_size < self.min_size:
            raise ValueError(f"max_size must be an integer >= min_size {self.min_size}, got {self.max_size!r}")
        if self.full_pyramid and self.strides != (8, 16, 32):
            raise ValueError(f"backbone must end at output strides 8, 16 and 32 for full_pyramid, got {self.strides!r}")
        if len(self.taps) < 2:
            raise ValueError(f"backbone must have a row of stride 2, got {self.backbone.rows!r}")

    @property
    def taps(self) -> tuple[int, ...]:
        """Indices into ``features`` of the feature maps that the pyramid is made from, from fine to coarse."""
        if self.full_pyramid:
            return self.backbone.stages[-3:]
        return self.stage_starts[-2:] if len(self.stage_starts) > 2 else self.stage_starts[-1:]

    @property
    def strides(self) -> tuple[int, ...]:
        """Output strides of these feature maps."""
        rows = self.backbone.rows
        found = tuple(accumulate((row.conv_stride for row in rows), mul, initial=2))
        return tuple(found[min(tap, len(rows))] for tap in self.taps)

    @property
    def map_channels(self) -> tuple[int, ...]:
        """Widths of these feature maps."""
        widths = [row.out_channels for row in self.backbone.rows] + [self.backbone.last_conv]
        return tuple(widths[tap - 1] if tap else self.backbone.stem_channels for tap in self.taps)

    @property
    def channels(self) -> int:
        """Width of the pyramid."""
        return 256

    @property
    def hidden(self) -> int:
        """Width of the two hidden layers that read a region."""
        return 1024

    @property
    def region(self) -> int:
        """Side of a region, in cells, when it is read."""
        return 7

    @property
    def anchor_sizes(self) -> tuple[tuple[int, ...], ...]:
        """Sides in pixels of the square anchors at each level; the last level is the coarsest one, subsampled."""
        if not self.full_pyramid:
            return ((32, 64, 128, 256, 512),) * (len(self.taps) + 1)
        return tuple((8 * stride,) for stride in (*self.strides, 2 * self.strides[-1]))

    @property
    def anchor_ratios(self) -> tuple[float, ...]:
        """Height over width, of anchors of each size."""
        return 0.5, 1.0, 2.0

    @property
    def anchors(self) -> int:
        """Anchors at each cell."""
        return len(self.anchor_sizes[0]) * len(self.anchor_ratios)


def _backbone(
    variant: str, reduced_tail: bool, norm_eps: float, norm_momentum: float, options: DetectorOptions
) -> MobileNetV3Config:
    """The published network of a variant, with what detectors have otherwise than classification."""
    return value_of("variant", variant, VARIANTS).config(
        reduced_tail=reduced_tail, norm_eps=norm_eps, norm_momentum=norm_momentum, **options
    )


@takes_options(DetectorOptions)
def ssdlite(
    variant: str,
    *,
    num_classes: int = 91,
    size: int = 320,
    fewer_boxes: bool = False,
    trainable_layers: int | None = None,
    reduced_tail: bool = True,
    norm_eps: float = 0.001,
    norm_momentum: float = 0.03,
    **options: Unpack[DetectorOptions],
) -> SSDLiteConfig:
    """SSDLite with a published backbone.

    Args:
        variant: of the backbone, a key of ``mnv3lib.config.VARIANTS``: ``"large"``, ``"small"`` and so on.
        num_classes, size, fewer_boxes, trainable_layers: as in :class:`SSDLiteConfig`.
        reduced_tail: halve the last stage. Torchvision does unless the backbone comes from a classification.
        norm_eps, norm_momentum: of batch norm, in the backbone and behind it.
        width_mult, dilated, rounding, dilation_policy, padding, stochastic_depth: of the backbone, as in
            :meth:`.MobileNetV3Config.from_rows`; the padding is that of the layers behind it too.

    Raises:
        TypeError, ValueError: naming the argument, the value and the range.

    >>> ssdlite("large").map_channels
    (672, 480, 512, 256, 256, 128)
    """
    no_other_keywords("ssdlite", options, DetectorOptions.__annotations__)
    return SSDLiteConfig(
        backbone=_backbone(variant, reduced_tail, norm_eps, norm_momentum, options),
        num_classes=num_classes,
        size=size,
        fewer_boxes=fewer_boxes,
        trainable_layers=trainable_layers,
    )


@takes_options(DetectorOptions)
def fasterrcnn(
    variant: str,
    *,
    num_classes: int = 91,
    full_pyramid: bool = False,
    frozen_norm: bool = False,
    min_size: int = 800,
    max_size: int = 1333,
    proposals: int = 1000,
    trainable_layers: int | None = None,
    reduced_tail: bool = False,
    norm_eps: float = 1e-5,
    norm_momentum: float = 0.1,
    **options: Unpack[DetectorOptions],
) -> FasterRCNNConfig:
    """Faster R-CNN with a published backbone.

    Args:
        variant: of the backbone, a key of ``mnv3lib.config.VARIANTS``: ``"large"``, ``"small"`` and so on.
        num_classes, full_pyramid, frozen_norm, min_size, max_size, proposals, trainable_layers: as in
            :class:`FasterRCNNConfig`.
        norm_eps, norm_momentum: of batch norm; torchvision's are PyTorch's, not those of its classification networks.
        reduced_tail, width_mult, dilated, rounding, dilation_policy, padding, stochastic_depth: of the backbone, as in
            :meth:`.MobileNetV3Config.from_rows`.

    Raises:
        TypeError, ValueError: naming the argument, the value and the range.

    >>> fasterrcnn("large").strides, fasterrcnn("large", full_pyramid=True).strides
    ((32, 32), (8, 16, 32))
    """
    no_other_keywords("fasterrcnn", options, DetectorOptions.__annotations__)
    return FasterRCNNConfig(
        backbone=_backbone(variant, reduced_tail, norm_eps, norm_momentum, options),
        num_classes=num_classes,
        full_pyramid=full_pyramid,
        frozen_norm=frozen_norm,
        min_size=min_size,
        max_size=max_size,
        proposals=proposals,
        trainable_layers=trainable_layers,
    )


#: :func:`fasterrcnn` for images of 320 pixels, with fewer proposals.
fasterrcnn_320 = partial(fasterrcnn, min_size=320, max_size=640, proposals=150)

#: What describes each network for detection, by the network's name.
DETECTION: dict[str, Callable[..., SSDLiteConfig | FasterRCNNConfig]] = {
    name.format(variant): partial(described, variant)
    for name, described in (
        ("ssdlite320_mobilenet_v3_{}", ssdlite),
        ("fasterrcnn_mobilenet_v3_{}_fpn", fasterrcnn),
        ("fasterrcnn_mobilenet_v3_{}_320_fpn", fasterrcnn_320),
    )
    for variant in ("large", "small")
}
