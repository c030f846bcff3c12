"""What the tests compare with: the network written a second time, from the paper alone, and a few shared helpers.

Bits are compared on one thread, because sums over several threads are added in another order.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import Tensor, nn
from torchvision.ops import stochastic_depth

from mnv3lib.config import InvertedResidualConfig, MobileNetV3Config

torch.set_num_threads(1)

State = dict[str, Tensor]

# --- comparing --------------------------------------------------------------------------------------------------------


def same_bits(a: Tensor, b: Tensor) -> bool:
    """Equal type, shape and every bit; NaN equals itself, 0 is not −0."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    a, b = a.detach().contiguous(), b.detach().contiguous()
    return a.numpy().tobytes() == b.numpy().tobytes()


def calls(action: Callable[[], object]) -> int:
    """How many functions an action calls, of Python and of C: what it costs, on any machine, whatever else runs."""
    number = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal number
        number += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        action()
    finally:
        sys.setprofile(before)
    return number


def assert_same_state(a: nn.Module, b: nn.Module) -> None:
    """Equal keys, in the same order, and equal tensors."""
    ours, theirs = a.state_dict(), b.state_dict()
    assert list(ours) == list(theirs)
    different = [name for name in ours if not same_bits(ours[name], theirs[name])]
    assert not different


def assert_same_gradients(a: nn.Module, b: nn.Module) -> None:
    """Equal gradients of all parameters, none missing."""
    ours, theirs = dict(a.named_parameters()), dict(b.named_parameters())
    assert list(ours) == list(theirs)
    different = [name for name in ours if not same_bits(ours[name].grad, theirs[name].grad)]
    assert not different


def calibrate(model: nn.Module, batch: Tensor) -> nn.Module:
    """Give every batch norm the statistics of ``batch``, and return the model in eval mode.

    An untrained network without this gives logits of about 1e-10, where any two networks agree to any tolerance in
    use. Averaging is cumulative (momentum None), so that the statistics are the batch's own.
    """
    model.eval()
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    kept = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    with torch.no_grad():
        model(batch)
    for norm, momentum in zip(norms, kept, strict=True):
        norm.momentum = momentum
        norm.eval()
    return model


def relative_error(found: Tensor, expected: Tensor) -> float:
    """Largest difference, as a part of the spread (standard deviation) of what is expected."""
    found, expected = found.detach().double(), expected.detach().double()
    assert found.shape == expected.shape
    spread = expected.std()
    assert spread > 0, "nothing to compare with: all values are equal"
    return float((found - expected).abs().max() / spread)


# --- the network once more, from the paper ----------------------------------------------------------------------------


def nearest_eight(channels: float) -> int:
    """The multiple of 8 nearest to ``channels``, at least 8, one more if that loses over a tenth."""
    eights = max(1, int((channels + 4) // 8))
    return 8 * (eights + (8 * eights < 0.9 * channels))


def h_sigmoid(x: Tensor) -> Tensor:
    return F.relu6(x + 3) / 6


def h_swish(x: Tensor) -> Tensor:
    return x * F.relu6(x + 3) / 6


ACTIVATIONS = {"HS": h_swish, "RE": F.relu, None: lambda x: x}


def tensorflow_same(x: Tensor, kernel: int, stride: int) -> Tensor:
    """Zeros as TensorFlow's manual has them for SAME, dilation 1; after the image where they are odd in number."""
    zeros = []
    for size in (x.shape[3], x.shape[2]):
        out = -(-size // stride)
        total = max((out - 1) * stride + kernel - size, 0)
        zeros += [total // 2, total - total // 2]
    return F.pad(x, zeros)


def convolution(
    x: Tensor,
    state: State,
    name: str,
    activation: str | None,
    *,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
    training: bool = False,
    eps: float = 0.001,
    momentum: float = 0.01,
    padding: str = "symmetric",
) -> Tensor:
    """Convolution, batch norm (ε 0.001, decay 0.99), activation; in training the statistics in ``state`` move on."""
    weight = state[f"{name}.0.weight"]
    zeros = weight.shape[-1] // 2 * dilation
    if padding == "same" and stride > 1:
        x, zeros = tensorflow_same(x, weight.shape[-1], stride), 0
    x = F.conv2d(x, weight, None, stride, zeros, dilation, groups)
    norm = [state[f"{name}.1.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
    x = F.batch_norm(x, *norm, training=training, momentum=momentum, eps=eps)
    return ACTIVATIONS[activation](x)


def squeeze_and_excitation(x: Tensor, state: State, name: str) -> Tensor:
    pooled = x.mean((2, 3), keepdim=True)
    squeezed = F.relu(F.conv2d(pooled, state[f"{name}fc1.weight"], state[f"{name}fc1.bias"]))
    return x * h_sigmoid(F.conv2d(squeezed, state[f"{name}fc2.weight"], state[f"{name}fc2.bias"]))


def bottleneck(
    x: Tensor, state: State, name: str, row: InvertedResidualConfig, *, drop_rate: float = 0.0, **more: Any
) -> Tensor:
    """One row of the tables, after Figure 4: the six steps, each where the row asks for it."""
    y, step = x, 0
    if row.expanded_channels != row.input_channels:
        y, step = convolution(y, state, f"{name}{step}", row.activation, **more), step + 1
    stride = 1 if row.dilation > 1 else row.stride
    y = convolution(
        y, state, f"{name}{step}", row.activation,
        stride=stride, dilation=row.dilation, groups=row.expanded_channels, **more,
    )  # fmt: skip
    if row.use_se:
        y, step = squeeze_and_excitation(y, state, f"{name}{step + 1}."), step + 1
    y = convolution(y, state, f"{name}{step + 1}", None, **more)
    if row.stride > 1 or row.input_channels != row.out_channels:
        return y
    return x + stochastic_depth(y, drop_rate, "row", training=more.get("training", False) and drop_rate > 0)


def logits(config: MobileNetV3Config, state: State, image: Tensor, *, training: bool = False) -> Tensor:
    """The whole network on the tensors of a state dict, with nothing but torch's functions."""
    head = config.activation
    more = {"training": training, "eps": config.norm_eps, "momentum": config.norm_momentum, "padding": config.padding}
    x = convolution(image, state, "features.0", head, stride=2, **more)
    for number, row in enumerate(config.rows, start=1):
        drop_rate = config.stochastic_depth * number / len(config.rows)
        x = bottleneck(x, state, f"features.{number}.block.", row, drop_rate=drop_rate, **more)
    x = convolution(x, state, f"features.{len(config.rows) + 1}", head, **more)
    x = F.linear(x.mean((2, 3)), state["classifier.0.weight"], state["classifier.0.bias"])
    x = F.dropout(ACTIVATIONS[head](x), config.dropout, training=training)
    return F.linear(x, state["classifier.3.weight"], state["classifier.3.bias"])


def shapes(config: MobileNetV3Config) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the state dict, in order, derived from the rows alone."""
    found: dict[str, tuple[int, ...]] = {}

    def conv(name: str, out: int, inputs: int, kernel: int = 1) -> None:
        found[f"{name}.0.weight"] = (out, inputs, kernel, kernel)
        found.update({f"{name}.1.{part}": (out,) for part in ("weight", "bias", "running_mean", "running_var")})
        found[f"{name}.1.num_batches_tracked"] = ()

    def affine(name: str, out: int, inputs: int, *ones: int) -> None:
        found.update({f"{name}.weight": (out, inputs, *ones), f"{name}.bias": (out,)})

    conv("features.0", config.rows[0].input_channels, config.in_channels, 3)
    for number, row in enumerate(config.rows, start=1):
        step, expanded = 0, row.expanded_channels
        if expanded != row.input_channels:
            conv(f"features.{number}.block.0", expanded, row.input_channels)
            step += 1
        conv(f"features.{number}.block.{step}", expanded, 1, row.kernel)
        if row.use_se:
            step += 1
            squeezed = nearest_eight(max(1, expanded // 4))
            affine(f"features.{number}.block.{step}.fc1", squeezed, expanded, 1, 1)
            affine(f"features.{number}.block.{step}.fc2", expanded, squeezed, 1, 1)
        conv(f"features.{number}.block.{step + 1}", row.out_channels, expanded)
    conv(f"features.{len(config.rows) + 1}", config.last_conv, config.rows[-1].out_channels)
    affine("classifier.0", config.last_channel, config.last_conv)
    affine("classifier.3", config.num_classes, config.last_channel)
    return found


# --- random tables ----------------------------------------------------------------------------------------------------


@st.composite
def tables(draw: Any, *, widest: int = 40, most_rows: int = 4) -> list[InvertedResidualConfig]:
    """Rows that connect: any widths, kernels 1 to 7, both activations, strides, rates, with and without SE."""
    width = st.integers(1, widest)
    inputs, rows = draw(width), []
    for _ in range(draw(st.integers(1, most_rows))):
        out = draw(width | st.just(inputs))
        row = InvertedResidualConfig(
            inputs,
            kernel=draw(st.sampled_from((1, 3, 5, 7))),
            expanded_channels=draw(width | st.just(inputs)),
            out_channels=out,
            use_se=draw(st.booleans()),
            activation=draw(st.sampled_from(("RE", "HS"))),
            stride=draw(st.sampled_from((1, 1, 2))),
            dilation=draw(st.sampled_from((1, 1, 1, 2, 3))),
        )
        rows.append(row)
        inputs = out
    return rows


def batch(*shape: int, seed: int = 0) -> Tensor:
    """Random images with a mean and a contrast, not white noise around zero."""
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def torchvision_twin(
    rows: Iterable[InvertedResidualConfig], last_channel: int, width_mult: float = 1.0, **options: Any
):
    """Torchvision's network of the same table."""
    from torchvision.models.mobilenetv3 import InvertedResidualConfig as Row
    from torchvision.models.mobilenetv3 import MobileNetV3

    setting = [
        Row(
            row.input_channels, row.kernel, row.expanded_channels, row.out_channels, row.use_se, row.activation,
            row.stride, row.dilation, width_mult,
        )
        for row in rows
    ]  # fmt: skip
    return MobileNetV3(setting, last_channel, **options)
