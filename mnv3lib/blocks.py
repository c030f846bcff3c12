"""The building blocks of MobileNetV3, bottom up: convolution, squeeze-and-excitation, inverted residual.

Paper: Howard et al., arXiv:1905.02244v5, Figures 3 and 4 and Sections 5.2 and 5.3. Module names, their order and
every operation are torchvision's, so that weights, gradients and random numbers agree with it bit for bit.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from mnv3lib._checks import one_of, positive_int
from mnv3lib.rows import ACTIVATIONS, Activation, InvertedResidualConfig, make_divisible

__all__ = ["ConvNormActivation", "InvertedResidual", "SqueezeExcitation", "activation_layer", "norm_layer"]

#: A decay of 0.99 of the running statistics (paper, 6.1.1) is PyTorch's momentum 0.01; ε is TF-slim's.
norm_layer = partial(nn.BatchNorm2d, eps=0.001, momentum=0.01)


def activation_layer(name: Activation) -> nn.Module:
    """``"RE"`` is ReLU; ``"HS"`` is h-swish, x · ReLU6(x + 3) / 6 (paper, Section 5.2)."""
    one_of("activation", name, ACTIVATIONS)
    return nn.Hardswish(inplace=True) if name == "HS" else nn.ReLU(inplace=True)


class ConvNormActivation(nn.Sequential):
    """Convolution without bias, batch norm and, unless it is None, an activation.

    Args:
        in_channels, out_channels: widths.
        kernel_size: odd; the padding keeps the size at stride 1.
        stride, groups, dilation: as in ``torch.nn.Conv2d``.
        activation: ``"HS"``, ``"RE"`` or None for a linear layer.

    Shape:
        (N, in_channels, H, W) to (N, out_channels, ⌈H / stride⌉, ⌈W / stride⌉).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: int = 1,
        stride: int = 1,
        groups: int = 1,
        dilation: int = 1,
        activation: Activation | None = None,
    ) -> None:
        padding = (kernel_size - 1) // 2 * dilation
        conv = nn.Conv2d(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation=dilation,
            groups=groups,
            bias=False,
        )
        layers: list[nn.Module] = [conv, norm_layer(out_channels)]
        if activation is not None:
            layers.append(activation_layer(activation))
        super().__init__(*layers)
        self.out_channels = out_channels


class SqueezeExcitation(nn.Module):
    """Weigh each channel by a gate computed from the means of all channels (paper, Section 5.3).

    The gate is h-sigmoid, ReLU6(x + 3) / 6. The two layers are 1×1 convolutions with bias rather than linear layers:
    the same sums, but not the same bits.

    Args:
        channels: C, width of the map.
        squeeze_channels: width of the bottleneck; by default a quarter of ``channels``, rounded to a multiple of 8.

    Shape:
        (N, C, H, W) to (N, C, H, W).
    """

    def __init__(self, channels: int, squeeze_channels: int | None = None) -> None:
        super().__init__()
        positive_int("channels", channels)
        if squeeze_channels is None:
            squeeze_channels = make_divisible(max(1, channels // 4))
        positive_int("squeeze_channels", squeeze_channels)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(channels, squeeze_channels, 1)
        self.fc2 = nn.Conv2d(squeeze_channels, channels, 1)
        self.activation = nn.ReLU()
        self.scale_activation = nn.Hardsigmoid()

    def gate(self, x: Tensor) -> Tensor:
        """The factor of each channel, (N, C, 1, 1), between 0 and 1."""
        squeezed = self.activation(self.fc1(self.avgpool(x)))
        return self.scale_activation(self.fc2(squeezed))

    def forward(self, x: Tensor) -> Tensor:
        return self.gate(x) * x


class InvertedResidual(nn.Module):
    """Expand, look around, weigh, project: one row of the paper's tables (Figure 4).

    expansion 1×1 → depthwise k×k → squeeze-and-excitation → linear projection 1×1, each convolution with batch norm.
    The expansion is left out where it would not widen anything, and the squeeze-and-excitation where the row has
    none. Input and output are added if the row's stride is 1 and the widths agree.

    Args:
        row: the configuration.

    Shape:
        (N, row.input_channels, H, W) to (N, row.out_channels, ⌈H / s⌉, ⌈W / s⌉) with s = row.conv_stride.
    """

    def __init__(self, row: InvertedResidualConfig) -> None:
        super().__init__()
        expanded = row.expanded_channels
        layers: list[nn.Module] = []
        if row.use_expansion:
            layers.append(ConvNormActivation(row.input_channels, expanded, activation=row.activation))
        layers.append(
            ConvNormActivation(
                expanded,
                expanded,
                kernel_size=row.kernel,
                stride=row.conv_stride,
                groups=expanded,
                dilation=row.dilation,
                activation=row.activation,
            )
        )
        if row.use_se:
            layers.append(SqueezeExcitation(expanded, row.squeeze_channels))
        layers.append(ConvNormActivation(expanded, row.out_channels))
        self.block = nn.Sequential(*layers)
        self.use_res_connect = row.use_shortcut
        self.out_channels = row.out_channels

    def forward(self, x: Tensor) -> Tensor:
        y = self.block(x)
        return y + x if self.use_res_connect else y
