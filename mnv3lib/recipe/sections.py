"""The parts of a recipe: frozen dataclasses that check themselves. :mod:`mnv3lib.recipe.recipe` joins them.

Errors name a field by its path from the recipe, e.g. ``recipe.optimiser.lr``, also where a part is made on its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from mnv3lib._checks import (
    boolean,
    fraction,
    non_negative_int,
    non_negative_real,
    positive_int,
    positive_real,
    unknown,
)
from mnv3lib.config import VARIANTS, MobileNetV3Config, Options
from mnv3lib.recipe._fields import (
    among,
    below_one,
    check_fields,
    factors,
    location,
    optional,
    plain_mapping,
    rising_fractions,
    rising_pair,
    setting,
    several,
    word,
)
from mnv3lib.recipe.optimisers import OPTIMISERS
from mnv3lib.recipe.schedule import CURVES

__all__ = ["NETWORKS", "SECTIONS", "Augment", "Averaging", "Data", "Model", "Optimiser", "Precision", "Quantisation",
           "Schedule"]  # fmt: skip

#: The networks for classification by name; any other name is that of a network for another task.
NETWORKS = {f"mobilenet_v3_{name}": variant.config for name, variant in VARIANTS.items()}

#: Channels of the widest layer, a hundred times as many as any published network has.
MOST_CHANNELS = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """Where images come from, and at which size they are trained and tested.

    Attributes:
        name: ``"digitscenes"``, ``"folder"``, ``"imagenet"``, ``"cifar10"``, ``"voc"`` or ``"coco"``.
        root: folder of the images; not for ``"digitscenes"``.
        train_size: side of a training image in pixels.
        eval_size: side of a test image in pixels.
        eval_resize: shorter side before the central crop to ``eval_size``; None for no crop.
        options: what only this data set understands, e.g. ``size``, ``difficulty`` and ``seed`` of DigitScenes.
        skip_broken: leave out files that cannot be read and report them, instead of stopping.
    """

    name: Literal["digitscenes", "folder", "imagenet", "cifar10", "voc", "coco"] = "digitscenes"
    root: str | None = setting(optional(location), None)
    train_size: int = setting(positive_int, 64)
    eval_size: int = setting(positive_int, 64)
    eval_resize: int | None = setting(optional(positive_int), None)
    options: dict[str, object] = setting(plain_mapping, factory=dict)
    skip_broken: bool = setting(boolean, False)

    def __post_init__(self) -> None:
        check_fields(self, "recipe.data")
        if self.eval_resize is not None and self.eval_resize < self.eval_size:
            raise ValueError(
                f"recipe.data.eval_resize must be at least eval_size, which is {self.eval_size}, got {self.eval_resize}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """Which network; the keywords are those of :func:`mnv3lib.config.large`.

    Attributes:
        name: ``"mobilenet_v3_small"`` and so on; for segmentation a key of ``mnv3lib.heads.SEGMENTATION``, for
            detection one of ``mnv3lib.detectors.DETECTION``.
        options: e.g. ``width_mult``, ``reduced_tail``, ``dropout``, ``stochastic_depth``; for segmentation and
            detection the keywords of that network, and ``weights_backbone``: the weights of a classification to start
            from, a file, URL, hub id, ``shipped:…`` or a name under which torchvision publishes them,
            ``IMAGENET1K_V1``.
        weights: a file, URL or hub id to start from, or None for fresh weights.
        freeze: ``"nothing"``, ``"backbone"`` (train the head only) or ``"norm"`` (batch norm in evaluation mode).
    """

    name: str = setting(word, "mobilenet_v3_small")
    options: dict[str, object] = setting(plain_mapping, factory=dict)
    weights: str | None = setting(optional(location), None)
    freeze: Literal["nothing", "backbone", "norm"] = "nothing"

    def __post_init__(self) -> None:
        check_fields(self, "recipe.model")
        if self.name in NETWORKS:
            for option in self.options:
                if option not in Options.__annotations__:
                    raise unknown("recipe.model.options", option, Options.__annotations__)
            try:
                config = self.config()
            except (TypeError, ValueError, OverflowError) as error:  # begins with the name of the option
                raise type(error)(f"recipe.model.options.{error}") from None
            widest = max(config.last_conv, config.last_channel, *(row.expanded_channels for row in config.rows))
            if widest > MOST_CHANNELS:
                raise ValueError(
                    f"recipe.model.options.width_mult must leave all layers at most {MOST_CHANNELS:,} channels wide, "
                    f"got {self.options.get('width_mult')!r}"
                )

    def config(self, **more: Any) -> MobileNetV3Config:
        """The configuration of a network of this library; ``more`` options win, but ``num_classes`` must agree.

        Raises:
            ValueError: for a name that is not in ``NETWORKS``, options out of range, or another number of classes.
        """
        if self.name not in NETWORKS:
            raise ValueError(f"recipe.model.name must be one of {', '.join(map(repr, NETWORKS))}, got {self.name!r}")
        ours, theirs = self.options.get("num_classes"), more.get("num_classes")
        if None not in (ours, theirs) and ours != theirs:
            raise ValueError(
                f"recipe.model.options.num_classes must be left out, or {theirs}, which is what the data have, "
                f"got {ours!r}"
            )
        options: dict[str, Any] = {**self.options, **more}
        return NETWORKS[self.name](**options)


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimiser:
    """How gradients move the weights.

    Attributes:
        name: one of ``mnv3lib.recipe.optimisers.OPTIMISERS``. ``"rmsprop-tf"`` has ε inside the root and starts its
            mean square at 1, as TensorFlow; ``"rmsprop"`` is PyTorch's, with ε outside.
        lr: learning rate at the global ``batch_size`` of the recipe, after warm-up.
        momentum: of SGD and RMSprop.
        alpha: decay of RMSprop's mean square.
        eps: added to the mean square (``"rmsprop-tf"``) or to its root (the others).
        betas: of AdamW.
        weight_decay: on the weights of convolutions and linear layers.
        norm_weight_decay: on batch norm's scale and shift and on biases; None for the same as ``weight_decay``.
        lr_factors: factors on ``lr`` for parameters whose names begin so, e.g. ``{"aux_classifier": 10}``; of several
            that fit the longest counts.
    """

    name: str = setting(among(*OPTIMISERS), "rmsprop-tf")
    lr: float = setting(positive_real, 0.01)
    momentum: float = setting(below_one, 0.9)
    nesterov: bool = setting(boolean, False)
    alpha: float = setting(below_one, 0.9)
    eps: float = setting(non_negative_real, 0.001)
    betas: tuple[float, float] = setting(several(below_one, 2), (0.9, 0.999))
    weight_decay: float = setting(non_negative_real, 1e-5)
    norm_weight_decay: float | None = setting(optional(non_negative_real), None)
    lr_factors: dict[str, float] = setting(factors, factory=dict)

    def __post_init__(self) -> None:
        check_fields(self, "recipe.optimiser")
        if self.nesterov and (self.name != "sgd" or self.momentum == 0):
            raise ValueError("recipe.optimiser.nesterov must be False but for 'sgd' with momentum, got True")


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """The learning rate over time, as a factor on the optimiser's.

    Attributes:
        name: ``"constant"``, ``"step"`` (times ``gamma`` every ``step_epochs``), ``"multistep"`` (times ``gamma`` at
            each of ``milestones``), ``"cosine"`` (to ``min_factor``) or ``"poly"`` (linear to the power ``power``).
        warmup_epochs: rise from ``warmup_factor`` to 1 in a straight line before all else.
        per_step: follow the curve at every step instead of once an epoch; warm-up always does.

    ``"step"`` and ``"multistep"`` count epochs from the start of the run, ``"cosine"`` and ``"poly"`` stretch over what
    warm-up leaves.
    """

    name: str = setting(among(*CURVES), "cosine")
    step_epochs: float = setting(positive_real, 2.0)
    gamma: float = setting(fraction, 0.973)
    milestones: tuple[float, ...] = setting(several(positive_real), ())
    min_factor: float = setting(fraction, 0.0)
    power: float = setting(positive_real, 0.9)
    warmup_epochs: float = setting(non_negative_real, 0.0)
    warmup_factor: float = setting(fraction, 0.01)
    per_step: bool = setting(boolean, True)

    def __post_init__(self) -> None:
        check_fields(self, "recipe.schedule")
        if self.name == "multistep" and not self.milestones:
            raise ValueError("recipe.schedule.milestones must hold at least one epoch for 'multistep', got ()")
        if any(later <= earlier for earlier, later in pairwise(self.milestones)):
            raise ValueError(f"recipe.schedule.milestones must rise, got {self.milestones!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Augment:
    """What happens to a training image, in this order.

    Attributes:
        crop_scale: part of the area that a random resized crop keeps, lowest and highest; None for none.
        scale_range: for segmentation: the shorter side is drawn between these fractions of ``eval_size``, then a crop
            of ``train_size`` is taken, filled up where the image is smaller; None for none.
        iou_crop: for detection: crops that keep objects, as for SSD (Liu et al., arXiv:1512.02325).
        flip: probability of a horizontal flip.
        colour: largest change of brightness, contrast, saturation and hue; None for none.
        policy: one of torchvision's automatic policies, or None.
        erase: probability of random erasing.
        mixup: parameter of mixup's Beta distribution; 0 for none.
        cutmix: the same of CutMix; with both, each batch takes one of them at random.
        mean: subtracted from the three channels, of values from 0 to 1.
        std: divides them after.
    """

    crop_scale: tuple[float, float] | None = setting(optional(rising_fractions), None)
    scale_range: tuple[float, float] | None = setting(optional(rising_pair), None)
    iou_crop: bool = setting(boolean, False)
    flip: float = setting(fraction, 0.0)
    colour: tuple[float, float, float, float] | None = setting(optional(several(fraction, 4)), None)
    policy: Literal["autoaugment", "randaugment", "trivialaugment"] | None = None
    erase: float = setting(fraction, 0.0)
    mixup: float = setting(non_negative_real, 0.0)
    cutmix: float = setting(non_negative_real, 0.0)
    mean: tuple[float, float, float] = setting(several(fraction, 3), (0.485, 0.456, 0.406))
    std: tuple[float, float, float] = setting(several(positive_real, 3), (0.229, 0.224, 0.225))

    def __post_init__(self) -> None:
        check_fields(self, "recipe.augment")
        if self.colour and self.colour[3] > 0.5:
            raise ValueError(f"recipe.augment.colour[3], the hue, must be at most 0.5, got {self.colour[3]!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Averaging:
    """Averages of weights over the run, which are tested beside the last weights.

    Attributes:
        ema_decay: of an exponential moving average after every ``ema_every`` steps; 0 for none.
        ema_warmup: hold the decay at (1 + n) / (10 + n) or below, n updates after the first, as TensorFlow does.
        checkpoints: average the weights of this many best epochs at the end; 0 for none.
    """

    ema_decay: float = setting(below_one, 0.0)
    ema_every: int = setting(positive_int, 1)
    ema_warmup: bool = setting(boolean, True)
    checkpoints: int = setting(non_negative_int, 0)

    def __post_init__(self) -> None:
        check_fields(self, "recipe.averaging")


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """Number formats and memory layout.

    Attributes:
        autocast: ``"bfloat16"`` or ``"float16"`` (with a gradient scaler) for automatic mixed precision, or None.
        channels_last: keep images and weights with the channels innermost; faster on most CPUs and GPUs.
        matrix_products: compute 1×1 convolutions as matrix products, faster on CPUs; the same sums in another order,
            so that results differ in their last bits. Needs ``channels_last``.
    """

    autocast: Literal["bfloat16", "float16"] | None = None
    channels_last: bool = setting(boolean, True)
    matrix_products: bool = setting(boolean, False)

    def __post_init__(self) -> None:
        check_fields(self, "recipe.precision")
        if self.matrix_products and not self.channels_last:
            raise ValueError(
                "recipe.precision.matrix_products must be False without channels_last, which lays a feature map out as "
                "a matrix, got True"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantisation:
    """Training through simulated 8-bit arithmetic.

    Attributes:
        backend: whose number formats are simulated: ``"onednn"``; ``"fbgemm"``, 7 bits for activations; ``"qnnpack"``,
            one scale for a whole weight instead of one for each output channel.
        observer_epochs: epochs after which the ranges of activations are held.
        norm_epochs: epochs after which batch norm's statistics are held. This library folds batch norm into the
            convolutions before it trains, and takes 0 only; torchvision's recipe has 3.
    """

    backend: Literal["onednn", "fbgemm", "qnnpack"] = "onednn"
    observer_epochs: int = setting(positive_int, 4)
    norm_epochs: int = setting(non_negative_int, 0)

    def __post_init__(self) -> None:
        check_fields(self, "recipe.quantisation")


#: The fields of a recipe that are dataclasses.
SECTIONS: dict[str, type] = {
    "data": Data,
    "model": Model,
    "optimiser": Optimiser,
    "schedule": Schedule,
    "augment": Augment,
    "averaging": Averaging,
    "precision": Precision,
    "quantisation": Quantisation,
}
