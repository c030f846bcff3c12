"""The building blocks of MobileNetV3, bottom up: convolution, squeeze-and-excitation, inverted residual.

Paper: Howard et al., arXiv:1905.02244v5, Figures 3 and 4 and Sections 5.2 and 5.3. Module names, their order and
every operation are torchvision's, so that weights, gradients and random numbers agree with it bit for bit
(float32, CPU, one thread).
"""

# Without `from __future__ import annotations`: a graph that torch.fx traced shows the annotations of `forward`, and as
# strings torch.jit.script does not understand them.

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mnv3lib._checks import fraction, one_of, positive_int
from mnv3lib.rows import ACTIVATIONS, PADDINGS, Activation, InvertedResidualConfig, Padding, make_divisible

__all__ = ["ConvNormActivation", "InvertedResidual", "SamePaddedConv2d", "SqueezeExcitation", "StochasticDepth",
           "activation_layer", "norm_layer"]  # fmt: skip

#: A decay of 0.99 of the running statistics (paper, 6.1.1) is PyTorch's momentum 0.01; ε is TF-slim's.
norm_layer = partial(nn.BatchNorm2d, eps=0.001, momentum=0.01)


def activation_layer(name: Activation) -> nn.Module:
    """``"RE"`` is ReLU; ``"HS"`` is h-swish, x · ReLU6(x + 3) / 6 (paper, Section 5.2)."""
    one_of("activation", name, ACTIVATIONS)
    return nn.Hardswish(inplace=True) if name == "HS" else nn.ReLU(inplace=True)


class SamePaddedConv2d(nn.Conv2d):
    """A convolution that pads with zeros as TensorFlow's SAME does: by the size of its input, in every call.

    A kernel of rate ``dilation`` spans e = (kernel - 1) · dilation + 1 lines, and ⌈n / stride⌉ windows need
    max(0, e - 1 - (n - 1) % stride) lines of zeros. Half of them, rounded down, go before the image: at stride 2 on an
    even side one line less than with symmetric padding.

    Args:
        in_channels, out_channels, groups: as in ``torch.nn.Conv2d``.
        kernel_size, stride, dilation: integers of at least 1, the same in both directions; even kernels too.

    Shape:
        (N, in_channels, H, W) to (N, out_channels, ⌈H / stride⌉, ⌈W / stride⌉).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        *,
        dilation: int = 1,
        groups: int = 1,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, dilation=dilation, groups=groups, bias=False)

    def zeros(self, size: int) -> tuple[int, int]:
        """Lines of zeros before and after ``size`` lines."""
        most = (self.kernel_size[0] - 1) * self.dilation[0]
        needed = most - (size - 1) % self.stride[0]
        if self.stride[0] > most + 1:  # only then can it be negative, and torch.fx knows no max
            needed = max(0, needed)
        # Beyond the last window zeros change nothing; always as many in all keep the sizes simple for torch.export.
        return needed // 2, most - needed // 2

    def forward(self, x: Tensor) -> Tensor:
        top, bottom = self.zeros(x.shape[2])
        left, right = self.zeros(x.shape[3])
        return self._conv_forward(F.pad(x, (left, right, top, bottom)), self.weight, self.bias)


class ConvNormActivation(nn.Sequential):
    """Convolution without bias, batch norm and, unless it is None, an activation.

    Args:
        in_channels, out_channels: widths.
        kernel_size: side of the square kernel; with ``"symmetric"`` padding odd, or it would not keep the size.
        stride, groups, dilation: as in ``torch.nn.Conv2d``, one integer for both directions.
        activation: ``"HS"``, ``"RE"`` or None for a linear layer.
        norm: makes the normalisation of a width.
        padding: ``"symmetric"``, or ``"same"`` as TensorFlow's; they differ where the stride is above 1.

    Raises:
        TypeError, ValueError: naming the argument, the value and the range.

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
        norm: Callable[[int], nn.Module] = norm_layer,
        padding: Padding = "symmetric",
    ) -> None:
        one_of("padding", padding, PADDINGS)
        for name, value in (("kernel_size", kernel_size), ("stride", stride), ("groups", groups)):
            positive_int(name, value)
        zeros = (kernel_size - 1) * positive_int("dilation", dilation)
        conv: nn.Conv2d
        # A 1×1 kernel needs no zeros; at stride 1 an even number of lines is half before and half after.
        if padding == "same" and zeros > 0 and (stride > 1 or zeros % 2 == 1):
            conv = SamePaddedConv2d(in_channels, out_channels, kernel_size, stride, dilation=dilation, groups=groups)
        elif padding == "symmetric" and kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be an odd integer >= 1 for symmetric padding, got {kernel_size!r}")
        else:
            conv = nn.Conv2d(
                in_channels,
                out_channels,
                kernel_size,
                stride,
                zeros // 2,
                dilation=dilation,
                groups=groups,
                bias=False,
            )
        layers: list[nn.Module] = [conv, norm(out_channels)]
        if activation is not None:
            layers.append(activation_layer(activation))
        super().__init__(*layers)
        self.out_channels = out_channels


class SqueezeExcitation(nn.Module):
    """Weigh each channel by a gate computed from the means of all channels (paper, Section 5.3).

    The gate is h-sigmoid, ReLU6(x + 3) / 6. The two layers are 1×1 convolutions with bias rather than linear layers:
    the same sums, but not the same bits.

    Args:
        channels: C, width of the feature map.
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


class StochasticDepth(nn.Module):
    """Leave the whole block out in training: the shortcut alone is left, for some images of the batch.

    What is kept is divided by the probability of being kept, so that the mean stays. Outside training nothing happens.
    Source: Huang et al., arXiv:1603.09382, without their scaling in evaluation.

    Args:
        rate: probability of an image to lose the block, 0 to 1.

    Shape:
        (N, …) to (N, …).
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = fraction("rate", rate)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return x
        kept = torch.empty(x.shape[0], dtype=x.dtype, device=x.device).bernoulli_(1 - self.rate)
        scale = kept / (1 - self.rate) if self.rate < 1 else kept
        # One factor an image: the last dimension becomes the batch's, whatever the number of dimensions.
        return (x.transpose(0, -1) * scale).transpose(0, -1)

    def extra_repr(self) -> str:
        return f"rate={self.rate:g}"


class InvertedResidual(nn.Module):
    """Expand, look around, weigh, project: one row of the paper's tables (Figure 4).

    expansion 1×1 → depthwise k×k → squeeze-and-excitation → linear projection 1×1, each convolution with batch norm.
    The expansion is left out where it would not widen anything, and the squeeze-and-excitation where the row has
    none. Input and output are added if the row's stride is 1 and the widths agree.

    Args:
        row: the configuration.
        norm: makes the normalisation of a width.
        padding: ``"symmetric"`` or ``"same"``, as in :class:`ConvNormActivation`.
        drop_rate: how often the block is left out in training, see :class:`StochasticDepth`.

    Raises:
        ValueError: for a ``drop_rate`` above 0 without a shortcut.

    Shape:
        (N, row.input_channels, H, W) to (N, row.out_channels, ⌈H / s⌉, ⌈W / s⌉) with s = row.conv_stride.
    """

    def __init__(
        self,
        row: InvertedResidualConfig,
        *,
        norm: Callable[[int], nn.Module] = norm_layer,
        padding: Padding = "symmetric",
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        if fraction("drop_rate", drop_rate) > 0 and not row.use_shortcut:
            raise ValueError(f"drop_rate must be 0 for a row without a shortcut, got {drop_rate!r}")
        expanded = row.expanded_channels
        layers: list[nn.Module] = []
        if row.use_expansion:
            layers.append(ConvNormActivation(row.input_channels, expanded, activation=row.activation, norm=norm))
        layers.append(
            ConvNormActivation(
                expanded,
                expanded,
                kernel_size=row.kernel,
                stride=row.conv_stride,
                groups=expanded,
                dilation=row.dilation,
                activation=row.activation,
                norm=norm,
                padding=padding,
            )
        )
        if row.use_se:
            layers.append(SqueezeExcitation(expanded, row.squeeze_channels))
        layers.append(ConvNormActivation(expanded, row.out_channels, norm=norm))
        if drop_rate > 0:
            layers.append(StochasticDepth(drop_rate))
        self.block = nn.Sequential(*layers)
        self.use_res_connect = row.use_shortcut
        self.out_channels = row.out_channels

    def forward(self, x: Tensor) -> Tensor:
        y = self.block(x)
        return y + x if self.use_res_connect else y
