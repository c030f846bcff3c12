"""Networks for segmentation as data: a backbone and what is read off it, LR-ASPP or DeepLabV3.

As in :mod:`mnv3lib.config`, nothing here knows about tensors: :mod:`mnv3lib.tasks` builds these networks, and
:func:`mnv3lib.cost.profile` adds them up.

Sources: LR-ASPP is from Howard et al., arXiv:1905.02244v5, Section 6.4; DeepLabV3 from Chen et al.,
arXiv:1706.05587. What the authors' LR-ASPP is to the last layer is in TF DeepLab's code (``model.py`` and
``core/feature_extractor.py``), and which of its switches are set in issue 7911 of tensorflow/models.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate
from operator import mul
from typing import Literal, TypedDict, Unpack, get_args

from mnv3lib._checks import boolean, no_other_keywords, one_of, positive_int, value_of
from mnv3lib._scaling import DilationPolicy, Rounding
from mnv3lib.config import VARIANTS, MobileNetV3Config, OnBackbone, takes_options
from mnv3lib.rows import InvertedResidualConfig, Padding

__all__ = [
    "FORMS",
    "SEGMENTATION",
    "BackboneOptions",
    "DeepLabV3Config",
    "DeepLabV3Options",
    "Form",
    "LRASPPConfig",
    "LRASPPOptions",
    "ScalingOptions",
    "SegmentationConfig",
    "deeplabv3",
    "lraspp",
]

Form = Literal["torchvision", "paper"]
FORMS: tuple[Form, ...] = get_args(Form)

#: Side in pixels of the crops that the authors trained on; their pooling covers the feature map of a whole one.
_CROP = 769
#: Output stride of the fine feature map.
_FINE = 8


class BackboneOptions(TypedDict, total=False):
    """The keywords of a backbone that every network for segmentation takes."""

    width_mult: float
    in_channels: int
    norm_eps: float
    norm_momentum: float
    padding: Padding
    stochastic_depth: float


class ScalingOptions(BackboneOptions, total=False):
    """These, and the rules by which a backbone is scaled."""

    reduced_tail: bool
    rounding: Rounding
    dilation_policy: DilationPolicy


class LRASPPOptions(BackboneOptions, total=False):
    """The keywords of :func:`lraspp`, which explains them."""

    num_classes: int
    form: Form
    inter_channels: int
    dilated: bool
    reduced_tail: bool | None
    rounding: Rounding | None
    dilation_policy: DilationPolicy | None


class DeepLabV3Options(ScalingOptions, total=False):
    """The keywords of :func:`deeplabv3`, which explains them."""

    num_classes: int
    aux_loss: bool
    atrous_rates: tuple[int, ...]
    dilated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentationConfig(OnBackbone):
    """What LR-ASPP and DeepLabV3 have in common.

    Args:
        backbone: the classification network whose ``features`` are used. A row of it must have an output stride of 8,
            as rows of Large and Small do; its own classifier is no part of the network.
        num_classes: of a pixel, the background included.

    Raises:
        TypeError, ValueError: naming the argument, the value and the range.
    """

    backbone: MobileNetV3Config
    num_classes: int = 21

    def __post_init__(self) -> None:
        if not isinstance(self.backbone, MobileNetV3Config):
            raise TypeError(f"backbone must be a MobileNetV3Config, got {self.backbone!r}")
        if _FINE not in self._output_strides:
            raise ValueError(f"backbone must have a row of output stride {_FINE}, got {self._output_strides!r}")
        object.__setattr__(self, "num_classes", positive_int("num_classes", self.num_classes))

    @property
    def _output_strides(self) -> tuple[int, ...]:
        """Pixels of the image from one value to the next, in what each row gives."""
        return tuple(accumulate((row.conv_stride for row in self.backbone.rows), mul, initial=2))[1:]

    @property
    def low(self) -> int:
        """Index into ``features`` of the block whose fine feature map is used beside the last one.

        It is the first block that gives an eighth of the image's height and width.
        """
        return self._output_strides.index(_FINE) + 1

    @property
    def low_channels(self) -> int:
        """Width of the fine feature map."""
        return self.backbone.rows[self.low - 1].out_channels

    @property
    def low_inside(self) -> bool:
        """Whether the fine feature map is what the block's depthwise convolution gives, and not its output."""
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class LRASPPConfig(SegmentationConfig):
    """LR-ASPP: a 1×1 convolution times a pooled gate, enlarged; from it and a finer feature map a class per pixel.

    Args:
        backbone, num_classes: as in :class:`SegmentationConfig`.
        inter_channels: width of the head, the paper's F.
        form: ``"torchvision"`` or ``"paper"``. In torchvision's, the gate is a sigmoid of the channels' means, and
            the finer feature map the output of the first block at its resolution. In the authors', the gate is a hard
            sigmoid, with bias, of means over large windows; the finer feature map is what the depthwise convolution of
            the *last* block at its resolution gives, before squeeze-and-excitation; and corners are aligned wherever
            feature maps are enlarged.

    Raises:
        TypeError, ValueError: naming the argument, the value and the range.
    """

    inter_channels: int = 128
    form: Form = "torchvision"

    def __post_init__(self) -> None:
        # Not super(): with slots, the decorator makes a second class that it does not know.
        SegmentationConfig.__post_init__(self)
        object.__setattr__(self, "inter_channels", positive_int("inter_channels", self.inter_channels))
        one_of("form", self.form, FORMS)

    @property
    def low(self) -> int:
        """Index into ``features`` of the block whose fine feature map is used beside the last one.

        It is the first block that gives an eighth of the image's height and width, in the paper's form the last one.
        """
        return self._output_strides.index(_FINE) + (self._output_strides.count(_FINE) if self.low_inside else 1)

    @property
    def low_channels(self) -> int:
        """Width of the fine feature map."""
        row = self.backbone.rows[self.low - 1]
        return row.expanded_channels if self.low_inside else row.out_channels

    @property
    def low_inside(self) -> bool:
        """Whether the fine feature map is what the block's depthwise convolution gives, and not its output."""
        return self.form == "paper"

    @property
    def pool_kernel(self) -> tuple[int, int] | None:
        """Height and width of the pooling windows, cut to a feature map that is smaller; None pools all of it.

        49 at output stride 16, which is the feature map of the 769×769 crops that the authors trained on.
        """
        if self.form == "torchvision":
            return None
        side = (_CROP - 1) // self._output_strides[-1] + 1
        return side, side

    @property
    def pool_stride(self) -> tuple[int, int]:
        """Steps between the pooling windows, down and across."""
        return 4, 5


@dataclass(frozen=True, slots=True, kw_only=True)
class DeepLabV3Config(SegmentationConfig):
    """DeepLabV3: convolutions of several dilation rates and a pooling side by side, joined, and a class for each pixel.

    Args:
        backbone, num_classes: as in :class:`SegmentationConfig`.
        aux_loss: whether there is a second head, on the finer feature map, whose loss helps in training.
        atrous_rates: dilation rates of the 3×3 convolutions, beside the 1×1 convolution and the pooling that are there
            in any case. Without any it is R-ASPP, MobileNetV2's, but for one more 3×3 convolution.

    Raises:
        TypeError, ValueError: naming the argument, the value and the range.
    """

    aux_loss: bool = False
    atrous_rates: tuple[int, ...] = (12, 24, 36)

    def __post_init__(self) -> None:
        SegmentationConfig.__post_init__(self)
        boolean("aux_loss", self.aux_loss)
        if isinstance(self.atrous_rates, str) or not isinstance(self.atrous_rates, Iterable):
            raise TypeError(f"atrous_rates must be integers >= 1, got {self.atrous_rates!r}")
        object.__setattr__(
            self, "atrous_rates", tuple(positive_int("atrous_rates", rate) for rate in self.atrous_rates)
        )

    @property
    def channels(self) -> int:
        """Width of the head."""
        return 256

    @property
    def aux_channels(self) -> int:
        """Width of the auxiliary head."""
        return self.low_channels // 4


def _halved_tail(table: Iterable[InvertedResidualConfig]) -> list[InvertedResidualConfig]:
    """Halve the last stage as TF DeepLab does: the first block's expansion too, which ``reduced_tail`` leaves."""
    rows = list(table)
    start = max(index for index, row in enumerate(rows) if row.stride > 1)
    for index in range(start, len(rows)):
        row = rows[index]
        rows[index] = replace(
            row,
            input_channels=row.input_channels // (1 if index == start else 2),
            expanded_channels=row.expanded_channels // 2,
            out_channels=row.out_channels // 2,
        )
    return rows


@takes_options(BackboneOptions)
def lraspp(
    variant: str,
    *,
    num_classes: int = 21,
    form: Form = "torchvision",
    inter_channels: int = 128,
    dilated: bool = True,
    reduced_tail: bool | None = None,
    rounding: Rounding | None = None,
    dilation_policy: DilationPolicy | None = None,
    **options: Unpack[BackboneOptions],
) -> LRASPPConfig:
    """LR-ASPP with a published backbone.

    Args:
        variant: of the backbone, a key of ``mnv3lib.config.VARIANTS``: ``"large"``, ``"small"`` and so on.
        num_classes, form, inter_channels: as in :class:`LRASPPConfig`.
        dilated: keep the last stage at the resolution before it: an output stride of 16, otherwise 32.
        reduced_tail: halve the last stage. By default as the form has it: False for torchvision's, True for the
            paper's, which then halves the expansion of the stage's first block too.
        rounding, dilation_policy: as in :meth:`.MobileNetV3Config.from_rows`; by default those of the form's name.
        width_mult, in_channels, norm_eps, norm_momentum, padding, stochastic_depth: of the backbone, as in
            :meth:`.MobileNetV3Config.from_rows`. The head's width is ``inter_channels`` at any ``width_mult``.

    Raises:
        TypeError, ValueError: naming the argument, the value and the range.

    >>> lraspp("large", form="paper").low_channels
    120
    """
    no_other_keywords("lraspp", options, BackboneOptions.__annotations__)
    one_of("form", form, FORMS)
    chosen, paper = value_of("variant", variant, VARIANTS), form == "paper"
    halved = paper if reduced_tail is None else boolean("reduced_tail", reduced_tail)
    backbone = MobileNetV3Config.from_rows(
        _halved_tail(chosen.rows) if halved and paper else chosen.rows,
        last_channel=chosen.last_channel,
        activation=chosen.activation,
        reduced_tail=halved and not paper,
        dilated=dilated,
        rounding=form if rounding is None else rounding,
        dilation_policy=form if dilation_policy is None else dilation_policy,
        **options,
    )
    return LRASPPConfig(backbone=backbone, num_classes=num_classes, inter_channels=inter_channels, form=form)


@takes_options(ScalingOptions)
def deeplabv3(
    variant: str,
    *,
    num_classes: int = 21,
    aux_loss: bool = False,
    atrous_rates: tuple[int, ...] = (12, 24, 36),
    dilated: bool = True,
    **options: Unpack[ScalingOptions],
) -> DeepLabV3Config:
    """DeepLabV3 with a published backbone.

    Args:
        variant: of the backbone, a key of ``mnv3lib.config.VARIANTS``: ``"large"``, ``"small"`` and so on.
        num_classes, aux_loss, atrous_rates: as in :class:`DeepLabV3Config`.
        dilated: keep the last stage at the resolution before it: an output stride of 16, otherwise 32.
        reduced_tail, rounding, dilation_policy: of the backbone, as in :meth:`.MobileNetV3Config.from_rows`.
        width_mult, in_channels, norm_eps, norm_momentum, padding, stochastic_depth: the same.

    Raises:
        TypeError, ValueError: naming the argument, the value and the range.
    """
    no_other_keywords("deeplabv3", options, ScalingOptions.__annotations__)
    backbone = value_of("variant", variant, VARIANTS).config(dilated=dilated, **options)
    return DeepLabV3Config(backbone=backbone, num_classes=num_classes, aux_loss=aux_loss, atrous_rates=atrous_rates)


#: What describes each network for segmentation, by the network's name.
SEGMENTATION: dict[str, Callable[..., LRASPPConfig | DeepLabV3Config]] = {
    f"{head}_mobilenet_v3_{variant}": partial(described, variant)
    for head, described in (("lraspp", lraspp), ("deeplabv3", deeplabv3))
    for variant in ("large", "small")
}
