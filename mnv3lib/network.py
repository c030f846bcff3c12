"""MobileNetV3 in PyTorch, built row by row from a configuration.

Paper: Howard et al., arXiv:1905.02244v5, Tables 1 and 2. Under the same seed the weights, their names and order, the
random numbers drawn, the outputs and the gradients are torchvision's, bit for bit (float32, CPU, one thread).
"""

# Without `from __future__ import annotations`: a graph that torch.fx traced shows the annotations of `forward`, and as
# strings torch.jit.script does not understand them.

from collections.abc import Callable, Iterable
from functools import partial
from typing import Unpack

from torch import Tensor, nn

from mnv3lib.blocks import ConvNormActivation, InvertedResidual, activation_layer
from mnv3lib.blocks import norm_layer as batch_norm
from mnv3lib.config import MobileNetV3Config, Options, large, small, takes_options

__all__ = ["FeatureTaps", "MobileNetV3", "mobilenet_v3_large", "mobilenet_v3_small"]


#: Batch norm of every kind, instance norm, group norm: what is drawn anew as the identity.
_NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm)


class MobileNetV3(nn.Module):
    """The classification network of a configuration.

    Args:
        config: from :func:`mnv3lib.config.large`, :func:`~mnv3lib.config.small` or rows of your own.
        norm_layer: makes the normalisation of a width, e.g. ``torch.nn.SyncBatchNorm``, or
            ``lambda channels: torch.nn.GroupNorm(8, channels)``. By default batch norm with the configuration's
            ``norm_eps`` and ``norm_momentum``; a ``norm_layer`` brings its own, and those two have no effect. The
            configuration does not know of it: :func:`mnv3lib.cost.profile` counts batch norm.

    Raises:
        TypeError: if ``config`` is no configuration, or ``norm_layer`` cannot be called or does not make a module.

    Shape:
        (N, config.in_channels, H, W), any H and W of at least 1, to logits (N, config.num_classes).

    Attributes:
        config: the configuration it was built from.
        classes: names of the classes in the order of the logits, None where nobody gave them;
            :func:`mnv3lib.weights.save` keeps them and :func:`mnv3lib.weights.load_network` sets them.
        features: stem, the bottlenecks, last convolution; index them as the rows are numbered, from 1.
        classifier: linear, activation, dropout, linear.
    """

    def __init__(self, config: MobileNetV3Config, norm_layer: Callable[[int], nn.Module] | None = None) -> None:
        super().__init__()
        if not isinstance(config, MobileNetV3Config):
            raise TypeError(f"config must be a MobileNetV3Config, got {config!r}")
        if norm_layer is not None and not callable(norm_layer):
            raise TypeError(f"norm_layer must be None or make a module of a width, got {norm_layer!r}")
        self.config = config
        self.classes: tuple[str, ...] | None = None
        norm = norm_layer or partial(batch_norm, eps=config.norm_eps, momentum=config.norm_momentum)
        self.features = nn.Sequential(
            ConvNormActivation(
                config.in_channels,
                config.stem_channels,
                kernel_size=3,
                stride=2,
                activation=config.activation,
                norm=norm,
                padding=config.padding,
            ),
            *(
                InvertedResidual(row, norm=norm, padding=config.padding, drop_rate=config.drop_rate(number))
                for number, row in enumerate(config.rows, start=1)
            ),
            ConvNormActivation(config.rows[-1].out_channels, config.last_conv, activation=config.activation, norm=norm),
        )
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(
            nn.Linear(config.last_conv, config.last_channel),
            activation_layer(config.activation),
            # Not in place over a ReLU, whose backward pass needs what it gave.
            nn.Dropout(config.dropout, inplace=config.activation == "HS"),
            nn.Linear(config.last_channel, config.num_classes),
        )
        self.apply_initialisation()

    def apply_initialisation(self) -> None:
        """Draw all weights anew, in the order of the modules.

        Convolutions are normal with variance 2 / fan-out, linear layers normal with standard deviation 0.01, biases
        zero, normalisations with a scale and a shift the identity. PyTorch's fan-out of a depthwise kernel ignores the
        groups, so those weights come out smaller than He et al. derive; kept, because torchvision trains from it.
        """
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, _NORMS) and isinstance(module.weight, nn.Parameter):
                nn.init.ones_(module.weight)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, 0, 0.01)
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.avgpool(self.features(x))
        return self.classifier(pooled.flatten(1))


class FeatureTaps(nn.Module):
    """The backbone of a network, giving feature maps from inside instead of logits.

    Args:
        network: whose layers are used, not copied.
        indices: which of ``network.features`` to give, 0 for the stem, rows from 1. By default
            ``network.config.stages``, the last feature map at each resolution.

    Shape:
        (N, C, H, W) to a list of feature maps in the order of the network; ``channels`` holds their widths.

    Raises:
        TypeError, ValueError: for no index, a repeated one or one the network does not have.
    """

    def __init__(self, network: MobileNetV3, indices: Iterable[int] | None = None) -> None:
        super().__init__()
        last = len(network.features) - 1
        if indices is None:
            indices = network.config.stages
        if not isinstance(indices, Iterable):
            raise TypeError(f"indices must be integers from 0 to {last}, got {indices!r}")
        chosen = tuple(indices)
        for index in chosen:
            if isinstance(index, bool) or not isinstance(index, int):
                raise TypeError(f"indices must be integers from 0 to {last}, got {index!r}")
        if not chosen or len(set(chosen)) < len(chosen) or not 0 <= min(chosen) <= max(chosen) <= last:
            raise ValueError(f"indices must be one or more different integers from 0 to {last}, got {chosen!r}")
        self.indices = tuple(sorted(chosen))
        self.features = network.features[: self.indices[-1] + 1]
        self.channels = tuple(network.features[index].out_channels for index in self.indices)

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in self.indices:
                maps.append(x)
        return maps


@takes_options(Options)
def mobilenet_v3_large(
    *, norm_layer: Callable[[int], nn.Module] | None = None, **options: Unpack[Options]
) -> MobileNetV3:
    """MobileNetV3-Large with fresh weights; ``norm_layer`` as in :class:`MobileNetV3`, the other keywords as in
    :meth:`.MobileNetV3Config.from_rows`.

    >>> sum(p.numel() for p in mobilenet_v3_large().parameters())
    5483032
    """
    return MobileNetV3(large(**options), norm_layer)


@takes_options(Options)
def mobilenet_v3_small(
    *, norm_layer: Callable[[int], nn.Module] | None = None, **options: Unpack[Options]
) -> MobileNetV3:
    """MobileNetV3-Small with fresh weights; ``norm_layer`` as in :class:`MobileNetV3`, the other keywords as in
    :meth:`.MobileNetV3Config.from_rows`.

    >>> sum(p.numel() for p in mobilenet_v3_small(num_classes=10).parameters())
    1528106
    """
    return MobileNetV3(small(**options), norm_layer)
