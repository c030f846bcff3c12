"""A network as data: rows and two ends, and the rules that widen, thin and dilate them.

Nothing here knows about tensors. The torch network (:mod:`mnv3lib.network`) is built from a
:class:`MobileNetV3Config`, the cost model (:mod:`mnv3lib.cost`) adds it up and the explorer draws it; because they
read the same rows they cannot disagree.

The rows are in :mod:`mnv3lib.rows`, and their names can be imported from here. Source: Howard et al., "Searching for
MobileNetV3", arXiv:1905.02244v5; rounding rules as in torchvision and TF-slim.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any, Self, TypedDict, TypeVar, Unpack

from mnv3lib._checks import fraction, one_of, positive_int, positive_real
from mnv3lib._scaling import DILATION_POLICIES, ROUNDINGS, DilationPolicy, Rounding, Scaling
from mnv3lib.rows import (
    ACTIVATIONS,
    LARGE,
    PADDINGS,
    SMALL,
    Activation,
    InvertedResidualConfig,
    Padding,
    connected,
    make_divisible,
    minimalistic,
)

__all__ = [
    "DILATION_POLICIES",
    "LARGE",
    "PADDINGS",
    "ROUNDINGS",
    "SMALL",
    "VARIANTS",
    "InvertedResidualConfig",
    "MobileNetV3Config",
    "OnBackbone",
    "Options",
    "RowOptions",
    "Variant",
    "large",
    "large_minimalistic",
    "make_divisible",
    "minimalistic",
    "small",
    "small_minimalistic",
]

F = TypeVar("F", bound=Callable[..., Any])


class Options(TypedDict, total=False):
    """The keywords every variant takes; :meth:`MobileNetV3Config.from_rows` explains them."""

    num_classes: int
    width_mult: float
    reduced_tail: bool
    dilated: bool
    dropout: float
    in_channels: int
    rounding: Rounding
    dilation_policy: DilationPolicy
    norm_eps: float
    norm_momentum: float
    padding: Padding
    stochastic_depth: float


class RowOptions(Options, total=False):
    """The keywords that a table of rows takes: a variant's, and the activation, which a variant brings."""

    activation: Activation


@dataclass(frozen=True, slots=True)
class MobileNetV3Config:
    """A whole network as data, every width final: what is written here is what is built.

    Args:
        rows: the bottlenecks, each taking what the one before gives; the first row's input is the stem's width.
        last_conv: channels of the 1×1 convolution after the last bottleneck.
        last_channel: width of the classifier's hidden layer.
        num_classes: logits.
        in_channels: channels of the image.
        dropout: rate in front of the last linear layer, 0 to 1.
        activation: ``"HS"`` or ``"RE"``, for the stem, the last convolution and the classifier.
        norm_eps: ε of batch norm, above 0. A trained network needs the one it was trained with.
        norm_momentum: weight of a batch's statistics in the running ones, 0 to 1; PyTorch's sense, one minus a decay.
        padding: ``"symmetric"``, or ``"same"`` as TensorFlow pads: on an even side, a convolution of stride 2 gets one
            line less at the top and the left. The sizes of all feature maps are the same.
        stochastic_depth: rate at which the last block is left out in training, 0 to 1, image by image; it rises with
            the block's number from the first to the last, and a block without a shortcut is never left out (Huang et
            al., "Deep Networks with Stochastic Depth", arXiv:1603.09382).

    Raises:
        TypeError, ValueError: naming the argument, the value and the range.
    """

    rows: tuple[InvertedResidualConfig, ...]
    last_conv: int
    last_channel: int
    num_classes: int = 1000
    in_channels: int = 3
    dropout: float = 0.2
    activation: Activation = "HS"
    norm_eps: float = 0.001
    norm_momentum: float = 0.01
    padding: Padding = "symmetric"
    stochastic_depth: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "rows", connected(self.rows))
        for name in ("last_conv", "last_channel", "num_classes", "in_channels"):
            object.__setattr__(self, name, positive_int(name, getattr(self, name)))  # plain, also of NumPy's
        for name in ("dropout", "norm_momentum", "stochastic_depth"):
            object.__setattr__(self, name, fraction(name, getattr(self, name)))
        object.__setattr__(self, "norm_eps", positive_real("norm_eps", self.norm_eps))
        one_of("activation", self.activation, ACTIVATIONS)
        one_of("padding", self.padding, PADDINGS)

    @property
    def stem_channels(self) -> int:
        """Channels of the first convolution."""
        return self.rows[0].input_channels

    @property
    def stages(self) -> tuple[int, ...]:
        """Indices into the network's ``features`` of the last feature map at each resolution, from fine to coarse.

        The stem is 0, the rows count from 1 and the last convolution comes after them.
        """
        ends = [index for index, row in enumerate(self.rows) if row.conv_stride > 1]
        return (*ends, len(self.rows) + 1)

    def drop_rate(self, number: int) -> float:
        """Rate at which bottleneck ``number``, counted from 1, is left out in training; 0 without a shortcut."""
        return self.stochastic_depth * number / len(self.rows) if self.rows[number - 1].use_shortcut else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, strings, lists and dictionaries, ready for JSON or YAML; :meth:`from_dict` reads them."""
        return {**asdict(self), "rows": [asdict(row) for row in self.rows]}

    @classmethod
    def from_dict(cls, described: Mapping[str, Any]) -> MobileNetV3Config:
        """What :meth:`to_dict` gave. What an older version did not write has its default.

        Raises:
            TypeError, ValueError: naming a field that is unknown or missing, or that a configuration would refuse.
        """
        _known_keys("config", cls, described)
        if not isinstance(described["rows"], list | tuple):
            raise TypeError(f"rows must be a list of dictionaries, got {described['rows']!r}")
        for number, row in enumerate(described["rows"], start=1):
            _known_keys(f"row {number} of config", InvertedResidualConfig, row)
        rows = tuple(InvertedResidualConfig(**row) for row in described["rows"])
        return cls(**{**described, "rows": rows})

    @classmethod
    def from_rows(
        cls, rows: Iterable[InvertedResidualConfig], *, last_channel: int, **options: Unpack[RowOptions]
    ) -> MobileNetV3Config:
        """Widen, thin and dilate a table of rows; channels are rounded to multiples of 8, also at width 1.

        Args:
            rows: the table at width 1, as printed.
            last_channel: width of the classifier's hidden layer at width 1.
            width_mult: factor on every width, above 0.
            reduced_tail: halve the last stage, as for detection (paper, 6.3), and the classifier's hidden layer
                (torchvision).
            dilated: keep the last stage at the resolution before it, as for segmentation (paper, 6.4).
            rounding: the rounding rule. ``"torchvision"`` scales each printed width on its own; ``"paper"`` expands the
                *rounded* input by the printed ratio, as TF-slim does, and never thins the classifier's hidden layer
                below width 1, as TF-slim's fine-grained mode does; ``"timm"`` is the paper's with the stem as printed
                below width 0.75 and the hidden layer as printed at any width. At widths 0.75 and 1 the two are equal,
                and so is Keras.
            dilation_policy: ``"torchvision"`` dilates the whole last stage; ``"paper"`` (TF-slim) leaves its
                first block at rate 1.
            num_classes, in_channels, dropout, activation, norm_eps, norm_momentum, padding, stochastic_depth: as in
                :class:`MobileNetV3Config`.

        Raises:
            TypeError, ValueError: naming the argument, the value and the range.
        """
        given: dict[str, Any] = dict(options)
        for name in given:
            if name not in RowOptions.__annotations__:
                raise TypeError(f"from_rows() got an unexpected keyword argument {name!r}")
        scaling = Scaling(**{field.name: given.pop(field.name) for field in fields(Scaling) if field.name in given})
        scaled, last_conv, hidden = scaling.apply(connected(rows), positive_int("last_channel", last_channel))
        return cls(scaled, last_conv, hidden, **given)


class OnBackbone:
    """A configuration that has another one as its ``backbone``: as plain data, and back."""

    __slots__ = ()
    backbone: MobileNetV3Config

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, strings, lists and dictionaries, ready for JSON or YAML; :meth:`from_dict` reads them."""
        plain: dict[str, Any] = asdict(self)  # type: ignore[call-overload]
        return {**plain, "backbone": self.backbone.to_dict()}

    @classmethod
    def from_dict(cls, described: Mapping[str, Any]) -> Self:
        """What :meth:`to_dict` gave. What an older version did not write has its default.

        Raises:
            TypeError, ValueError: naming a field that is unknown or missing, or that a configuration would refuse.
        """
        _known_keys("config", cls, described)
        return cls(**{**described, "backbone": MobileNetV3Config.from_dict(described["backbone"])})


def _known_keys(name: str, kind: type, described: Any) -> None:
    """``described`` is a dictionary of the fields of ``kind``, with those that have no default."""
    if not isinstance(described, Mapping):
        raise TypeError(f"{name} must be a dictionary, got {described!r}")
    known = {field.name: field.default is MISSING for field in fields(kind)}
    unknown = sorted(set(described) - set(known))
    missing = [key for key, needed in known.items() if needed and key not in described]
    if unknown:
        raise ValueError(f"{name} has unknown keys {unknown}; was it written by a newer version?")
    if missing:
        raise ValueError(f"{name} must have the keys {missing}")


def takes_options(options: type) -> Callable[[F], F]:
    """Show the keywords of ``options`` and their defaults, not ``**options``, wherever a signature is looked up."""
    known = {field.name: field for kind in (MobileNetV3Config, Scaling) for field in fields(kind)}

    def show(function: F) -> F:
        signature = inspect.signature(function)
        plain = [each for each in signature.parameters.values() if each.kind is not each.VAR_KEYWORD]
        keywords = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=known[name].default, annotation=field_type)
            for name, field_type in ((name, known[name].type) for name in options.__annotations__)
        ]
        # Typed as Any: a function has the attribute only once it is set.
        untyped: Any = function
        untyped.__signature__ = signature.replace(parameters=[*plain, *keywords])
        return function

    return show


takes_options(RowOptions)(MobileNetV3Config.from_rows.__func__)  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class Variant:
    """One of the published networks: what is printed of it, at width 1.

    Args:
        label: its name for readers.
        rows: its table.
        last_channel: width of the classifier's hidden layer.
        activation: of the stem, the last convolution and the classifier.
    """

    label: str
    rows: tuple[InvertedResidualConfig, ...]
    last_channel: int
    activation: Activation = "HS"

    def config(self, **options: Unpack[Options]) -> MobileNetV3Config:
        """The configuration under ``options``, which are those of :func:`large`."""
        return MobileNetV3Config.from_rows(
            self.rows, last_channel=self.last_channel, activation=self.activation, **options
        )


#: The published networks by name: the paper's two, and TF-slim's without SE, h-swish and 5×5 kernels.
VARIANTS = {
    "large": Variant("Large", LARGE, 1280),
    "small": Variant("Small", SMALL, 1024),
    "large_minimalistic": Variant("Large minimalistic", minimalistic(LARGE), 1280, "RE"),
    "small_minimalistic": Variant("Small minimalistic", minimalistic(SMALL), 1024, "RE"),
}


@takes_options(Options)
def large(**options: Unpack[Options]) -> MobileNetV3Config:
    """MobileNetV3-Large (paper, Table 1); keywords as in :meth:`MobileNetV3Config.from_rows`."""
    return VARIANTS["large"].config(**options)


@takes_options(Options)
def small(**options: Unpack[Options]) -> MobileNetV3Config:
    """MobileNetV3-Small (paper, Table 2); keywords as in :meth:`MobileNetV3Config.from_rows`."""
    return VARIANTS["small"].config(**options)


@takes_options(Options)
def large_minimalistic(**options: Unpack[Options]) -> MobileNetV3Config:
    """Large without SE, h-swish and 5×5 kernels (TF-slim, not in the paper); keywords as in :func:`large`."""
    return VARIANTS["large_minimalistic"].config(**options)


@takes_options(Options)
def small_minimalistic(**options: Unpack[Options]) -> MobileNetV3Config:
    """Small without SE, h-swish and 5×5 kernels (TF-slim, not in the paper); keywords as in :func:`small`."""
    return VARIANTS["small_minimalistic"].config(**options)
