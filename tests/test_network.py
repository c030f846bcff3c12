"""The network as others will use it: options, taps, export, compilation, formats, copies and files."""

from __future__ import annotations

import copy
import io
import pickle
import shutil
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest
import torch
from ledger import Deviation, worst
from reference import assert_same_state, batch, calibrate, relative_error, same_bits
from torch import Tensor, nn

import mnv3lib
from mnv3lib import FeatureTaps, MobileNetV3, config, cost, mobilenet_v3_large, mobilenet_v3_small
from mnv3lib.blocks import ConvNormActivation, InvertedResidual, SqueezeExcitation, StochasticDepth, activation_layer
from mnv3lib.config import LARGE, SMALL, MobileNetV3Config

NETWORKS = {"large": mobilenet_v3_large, "small": mobilenet_v3_small}


def calibrated(variant: str = "small", side: int = 64, **options: Any) -> MobileNetV3:
    """A network whose logits mean something; see :func:`reference.calibrate`."""
    torch.manual_seed(0)
    network = NETWORKS[variant](num_classes=20, **options)
    return calibrate(network, batch(8, network.config.in_channels, side, side))


# --- options ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("build", NETWORKS.values(), ids=NETWORKS)
def test_options_are_strict(build: Any) -> None:
    with pytest.raises(TypeError, match="witdh_mult"):
        build(witdh_mult=0.5)
    with pytest.raises(TypeError, match="positional"):
        build(10)
    with pytest.raises(TypeError, match="weights"):
        build(weights=None)
    with pytest.raises(TypeError, match="config must be a MobileNetV3Config, got 'small'"):
        MobileNetV3("small")


def test_options_arrive() -> None:
    options = {"num_classes": 7, "width_mult": 0.5, "reduced_tail": True, "dilated": True, "dropout": 0.5,
               "in_channels": 2, "rounding": "paper", "dilation_policy": "paper", "norm_eps": 1e-4,
               "norm_momentum": 0.2, "padding": "same", "stochastic_depth": 0.1}  # fmt: skip
    assert mobilenet_v3_small(**options).config == config.small(**options)
    assert mobilenet_v3_large(**options).config == config.large(**options)
    network = mobilenet_v3_small(**options)
    assert network.classifier[2].p == 0.5
    assert network.classifier[3].out_features == 7
    assert network.features[0][0].in_channels == 2


@pytest.mark.parametrize("variant", NETWORKS)
def test_batch_norm_and_stochastic_depth_arrive(variant: str) -> None:
    network = NETWORKS[variant](norm_eps=1e-5, norm_momentum=0.1, stochastic_depth=0.3)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-5, 0.1)}
    rates = {
        number: block.block[-1].rate
        for number, block in enumerate(network.features)
        if hasattr(block, "block") and isinstance(block.block[-1], StochasticDepth)
    }
    assert rates == {
        number: 0.3 * number / len(network.config.rows)
        for number, row in enumerate(network.config.rows, start=1)
        if row.use_shortcut
    }
    assert list(network.state_dict()) == list(NETWORKS[variant]().state_dict())
    assert not [module for module in NETWORKS[variant]().modules() if isinstance(module, StochasticDepth)]


def test_stochastic_depth_loses_blocks_by_image() -> None:
    dropping = StochasticDepth(0.25).train()
    torch.manual_seed(0)
    images = torch.rand(4000, 2, 3, 1) + 1
    found = dropping(images)
    lost = (found == 0).flatten(1)
    assert same_bits(lost.all(1), lost.any(1)), "an image loses the block whole or not at all"
    assert lost[:, 0].float().mean().item() == pytest.approx(0.25, abs=0.02)
    assert torch.allclose(found[~lost[:, 0]], images[~lost[:, 0]] / 0.75)
    assert found.mean().item() == pytest.approx(images.mean().item(), rel=0.03)
    assert not StochasticDepth(1.0).train()(images).any()
    state = torch.get_rng_state()
    assert dropping.eval()(images) is images
    assert StochasticDepth(0.0).train()(images) is images
    assert torch.equal(state, torch.get_rng_state())
    with pytest.raises(ValueError, match=r"drop_rate must be 0 for a row without a shortcut, got 0.1"):
        InvertedResidual(SMALL[0], drop_rate=0.1)
    with pytest.raises(ValueError, match=r"rate must be a number from 0 to 1, got 2"):
        StochasticDepth(2)


@pytest.mark.parametrize("kernel", [1, 3, 5, 7])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_same_padding_gives_every_size_rounded_up(kernel: int, stride: int) -> None:
    conv = ConvNormActivation(1, 1, kernel_size=kernel, stride=stride, padding="same").eval()
    with torch.no_grad():
        for height in range(1, 20):
            assert conv(batch(1, 1, height, 23 - height)).shape[2:] == (
                -(-height // stride),
                -(-(23 - height) // stride),
            )


def tensorflow_same(x: Tensor, weight: Tensor, stride: int, dilation: int, groups: int) -> Tensor:
    """SAME as TensorFlow's kernels compute it: the windows one by one over as many zeros as they need."""
    span = (weight.shape[-1] - 1) * dilation + 1
    sides, zeros = [], []
    for size in x.shape[2:]:
        out = -(-size // stride)
        total = max((out - 1) * stride + span - size, 0)
        sides.append(out)
        zeros.append((total // 2, total - total // 2))
    padded = nn.functional.pad(x, (*zeros[1], *zeros[0]))
    columns = []
    for row in range(sides[0]):
        for column in range(sides[1]):
            top, left = row * stride, column * stride
            window = padded[:, :, top : top + span : dilation, left : left + span : dilation]
            parts = zip(window.chunk(groups, 1), weight.chunk(groups, 0), strict=True)
            columns.append(torch.cat([torch.einsum("nchw,ochw->no", part, filters) for part, filters in parts], 1))
    return torch.stack(columns, -1).unflatten(-1, sides)


@pytest.mark.parametrize("dilation", [1, 2, 3])
@pytest.mark.parametrize("stride", [1, 2, 3, 5])
@pytest.mark.parametrize(("kernel", "groups"), [(1, 1), (2, 2), (3, 1), (3, 4), (4, 1), (5, 4)])
def test_same_padding_is_tensorflow_s(kernel: int, groups: int, stride: int, dilation: int) -> None:
    torch.manual_seed(0)
    more = {"kernel_size": kernel, "stride": stride, "dilation": dilation, "groups": groups}
    conv = ConvNormActivation(4, 8, **more, padding="same")[0].double()
    assert (conv.stride, conv.dilation, conv.groups) == ((stride,) * 2, (dilation,) * 2, groups)
    for height, width in ((1, 2), (6, 7), (9, 8), (10, 12)):
        x = batch(2, 4, height, width).double()
        with torch.no_grad():
            assert torch.allclose(conv(x), tensorflow_same(x, conv.weight, stride, dilation, groups), atol=1e-12)


def test_zeros_of_a_dilated_convolution_are_half_before_and_half_after() -> None:
    """The span is 5, so four lines of zeros less one on an even side: TensorFlow's shape function, by hand."""
    conv = ConvNormActivation(8, 8, kernel_size=3, stride=2, dilation=2, padding="same")[0]
    assert conv.dilation == (2, 2)
    assert [conv.zeros(size)[0] for size in (1, 2, 3, 4, 5, 6)] == [2, 1, 2, 1, 2, 1]
    assert [sum(conv.zeros(size)) for size in (5, 6)] == [4, 4]


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"kernel_size": 4}, ValueError, "kernel_size must be an odd integer >= 1 for symmetric padding, got 4"),
        ({"kernel_size": (3, 3)}, TypeError, r"kernel_size must be an integer >= 1, got \(3, 3\)"),
        ({"kernel_size": 0}, ValueError, "kernel_size must be an integer >= 1, got 0"),
        ({"stride": 0}, ValueError, "stride must be an integer >= 1, got 0"),
        ({"stride": 1.5}, TypeError, "stride must be an integer >= 1, got 1.5"),
        ({"groups": 0}, ValueError, "groups must be an integer >= 1, got 0"),
        ({"dilation": 0}, ValueError, "dilation must be an integer >= 1, got 0"),
        ({"padding": "valid"}, ValueError, "padding must be one of 'symmetric', 'same', got 'valid'"),
    ],
)
@pytest.mark.parametrize("padding", ["symmetric", "same"])
def test_bad_convolutions(padding: str, wrong: dict[str, Any], error: type[Exception], message: str) -> None:
    if padding == "same" and wrong == {"kernel_size": 4}:
        assert ConvNormActivation(8, 8, padding=padding, **wrong)(batch(2, 8, 5, 6)).shape == (2, 8, 5, 6)
        return
    with pytest.raises(error, match=message):
        ConvNormActivation(8, 8, **{"padding": padding, **wrong})


def test_same_padding_starts_where_tensorflow_does() -> None:
    """Kernel 3, stride 2, weights 1, 10, 100, values 1, 2, 3, …: even sides start at the first, odd ones before it."""
    conv = ConvNormActivation(1, 1, kernel_size=3, stride=2, padding="same")[0]
    with torch.no_grad():
        conv.weight.copy_(torch.tensor([1.0, 10.0, 100.0]) * torch.tensor([[0.0], [1.0], [0.0]]))
        for n, expected in ((4, [321.0, 43.0]), (5, [210.0, 432.0, 54.0]), (1, [10.0]), (2, [21.0])):
            lines = torch.arange(1.0, n + 1).expand(1, 1, 1, n)
            assert conv(lines).flatten().tolist() == expected


def test_costs_do_not_depend_on_the_padding() -> None:
    for side in (224, 225, 37):
        same, symmetric = (
            cost.profile(config.large(padding=padding), (side, side + 11)) for padding in ("same", "symmetric")
        )
        assert same == symmetric
        network = mobilenet_v3_large(padding="same", width_mult=0.35)
        shapes = [tuple(map_.shape[1:]) for map_ in FeatureTaps(network, range(17))(batch(2, 3, side, side + 11))]
        report = cost.profile(network.config, (side, side + 11))
        assert shapes == [group[-1].output for group in report.features[:-1]]


def test_same_padding_sees_as_far() -> None:
    """The receptive field has the same side; on even sides it lies lower and further right."""
    fields = {}
    for padding in ("symmetric", "same"):
        network = MobileNetV3(config.small_minimalistic(width_mult=0.25, padding=padding)).double().eval()
        images = batch(1, 3, 448, 448).double().requires_grad_()
        maps = network.features[:7](images)
        maps[0, :, 14, 14].sum().backward()
        reached = images.grad.abs().sum((0, 1)).nonzero()
        fields[padding] = (reached.min(0).values.tolist(), reached.max(0).values.tolist())
    stride = cost.profile(config.small_minimalistic(width_mult=0.25), 448).features[6][-1]
    for start, end in fields.values():
        assert [last - first + 1 for first, last in zip(start, end, strict=True)] == [stride.receptive_field] * 2
    assert fields["same"][0] > fields["symmetric"][0]


def test_minimalistic_networks_have_neither_gates_nor_h_swish() -> None:
    for described in (config.large_minimalistic(num_classes=9), config.small_minimalistic(num_classes=9)):
        network = MobileNetV3(described)
        kinds = {type(module) for module in network.modules()}
        assert not kinds & {SqueezeExcitation, nn.Hardswish, nn.Hardsigmoid}
        assert nn.ReLU in kinds
        assert {module.kernel_size for module in network.modules() if isinstance(module, nn.Conv2d)} == {(1, 1), (3, 3)}
        assert network(batch(2, 3, 32, 32)).shape == (2, 9)


def test_bad_parts() -> None:
    with pytest.raises(ValueError, match=r"activation must be one of 'RE', 'HS', got 'ReLU'"):
        activation_layer("ReLU")
    with pytest.raises(ValueError, match=r"squeeze_channels must be an integer >= 1, got 0"):
        SqueezeExcitation(8, 0)
    with pytest.raises(TypeError, match=r"channels must be an integer >= 1, got 8.0"):
        SqueezeExcitation(8.0)


# --- shapes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("in_channels", [1, 4])
def test_other_images(in_channels: int) -> None:
    network = calibrated(in_channels=in_channels)
    for shape in ((1, 1), (1, 9), (31, 33), (97, 131)):
        logits = network(batch(2, in_channels, *shape))
        assert logits.shape == (2, 20)
        assert logits.isfinite().all()
    with pytest.raises(RuntimeError, match="channels"):
        network(batch(1, 3, 32, 32))


@pytest.mark.proves(
    "Images one by one", against="the same images as a batch", tolerance=1e-4, unit="relative to the spread"
)
def test_one_image_is_as_good_as_a_batch(deviation: Deviation) -> None:
    network, images = calibrated(), batch(5, 3, 57, 64)
    with torch.no_grad():
        together = network(images)
        alone = torch.cat([network(image[None]) for image in images])
    deviation(relative_error(alone, together))


def test_dropout_only_in_training() -> None:
    network, images = calibrated(dropout=0.5), batch(2, 3, 64, 64)
    with torch.no_grad():
        assert same_bits(network(images), network(images))
        for module in network.modules():
            module.training = isinstance(module, nn.Dropout)
        assert not same_bits(network(images), network(images))
        network.classifier[2].p = 0.0
        first = network(images)
        assert same_bits(first, network.eval()(images))


def test_training_moves_every_weight() -> None:
    network, images = calibrated().train(), batch(4, 3, 64, 64)
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1)
    losses = []
    for _ in range(6):
        torch.manual_seed(2)
        loss = nn.functional.cross_entropy(network(images), torch.arange(4))
        losses.append(loss.item())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert losses[-1] < 0.85 * losses[0]
    assert [name for name, parameter in network.named_parameters() if same_bits(parameter, before[name])] == []


def test_initialisation_can_be_drawn_again() -> None:
    torch.manual_seed(0)
    network = mobilenet_v3_small(num_classes=5)
    drawn = copy.deepcopy(network.state_dict())
    torch.manual_seed(3)
    network.apply_initialisation()
    first = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    torch.manual_seed(3)
    network.apply_initialisation()
    assert all(same_bits(first[name], tensor) for name, tensor in network.state_dict().items())
    assert not same_bits(first["features.0.0.weight"], drawn["features.0.0.weight"])
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
            assert not module.bias.any()
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 2000:
            fan_out = module.out_channels * module.kernel_size[0] ** 2
            assert module.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.1)
        if isinstance(module, nn.Linear) and module.weight.numel() > 2000:
            assert module.weight.std().item() == pytest.approx(0.01, rel=0.1)


# --- taps -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variant", "channels", "strides"),
    [("large", (16, 24, 40, 112, 960), (2, 4, 8, 16, 32)), ("small", (16, 16, 24, 48, 576), (2, 4, 8, 16, 32))],
)
def test_taps_give_the_last_map_of_each_resolution(variant: str, channels: Any, strides: Any) -> None:
    network = calibrated(variant)
    taps, images = FeatureTaps(network), batch(1, 3, 96, 64)
    assert taps.indices == network.config.stages
    assert taps.channels == channels
    maps = taps(images)
    assert [tuple(map_.shape[1:]) for map_ in maps] == [
        (width, 96 // stride, 64 // stride) for width, stride in zip(channels, strides, strict=True)
    ]


@pytest.mark.proves(
    "Feature maps from inside the network", against="what hooks on its layers see", tolerance=0, unit="absolute"
)
@pytest.mark.parametrize("indices", [None, [0], [12], (5, 2, 9), range(13)])
def test_taps_equal_hooks(indices: Any, deviation: Deviation) -> None:
    network, images = calibrated(), batch(2, 3, 50, 70)
    taps = FeatureTaps(network, indices)
    wanted = sorted(network.config.stages if indices is None else indices)
    assert list(taps.indices) == wanted
    seen: dict[int, Tensor] = {}
    handles = [
        layer.register_forward_hook(lambda module, inputs, output, index=index: seen.update({index: output.clone()}))
        for index, layer in enumerate(network.features)
    ]
    with torch.no_grad():
        network(images)
        hooked = [seen[index] for index in wanted]
        for handle in handles:
            handle.remove()
        maps = taps(images)
    assert len(maps) == len(hooked)
    assert all(same_bits(ours, theirs) for ours, theirs in zip(maps, hooked, strict=True))
    deviation(max(worst(ours, theirs) for ours, theirs in zip(maps, hooked, strict=True)))
    assert taps.channels == tuple(map_.shape[1] for map_ in maps)


def test_taps_share_the_network_s_layers_and_stop_early() -> None:
    network = mobilenet_v3_small(num_classes=3)
    taps = FeatureTaps(network, [4])
    assert len(taps.features) == 5
    assert all(ours is theirs for ours, theirs in zip(taps.features, network.features, strict=False))
    assert all(key in network.state_dict() for key in taps.state_dict())


def test_taps_of_dilated_networks() -> None:
    taps = FeatureTaps(calibrated("large", dilated=True))
    assert taps.channels == (16, 24, 40, 960)
    assert [map_.shape[-1] for map_ in taps(batch(1, 3, 64, 64))] == [32, 16, 8, 4]


@pytest.mark.parametrize(
    ("indices", "error"),
    [
        ([], ValueError), ([13], ValueError), ([-1], ValueError), ([2, 2], ValueError),
        ([1.0], TypeError), (["1"], TypeError), ([True], TypeError), ([None], TypeError), (3, TypeError),
    ],
)  # fmt: skip
def test_bad_taps(indices: Any, error: type[Exception]) -> None:
    network = mobilenet_v3_small(num_classes=2, width_mult=0.25)
    shown = repr(indices[0] if error is TypeError and isinstance(indices, list) else indices).strip("[]")
    with pytest.raises(error, match=r"indices must be .* from 0 to 12, got") as caught:
        FeatureTaps(network, indices)
    assert caught.type is error
    assert shown in str(caught.value)


# --- formats and compilers --------------------------------------------------------------------------------------------


@pytest.mark.proves(
    "Images and weights in channels-last order",
    against="the usual order",
    tolerance=1e-3,
    unit="relative to the spread",
)
@pytest.mark.parametrize("variant", NETWORKS)
def test_channels_last(variant: str, deviation: Deviation) -> None:
    network, images = calibrated(variant), batch(3, 3, 64, 80)
    with torch.no_grad():
        expected = network(images)
        network = network.to(memory_format=torch.channels_last)
        images = images.to(memory_format=torch.channels_last)
        assert network.features(images).is_contiguous(memory_format=torch.channels_last)
        deviation(relative_error(network(images), expected))


@pytest.mark.parametrize("variant", NETWORKS)
def test_bfloat16_autocast(variant: str) -> None:
    network, images = calibrated(variant), batch(16, 3, 64, 64)
    with torch.no_grad():
        expected = network(images)
        with torch.autocast("cpu", torch.bfloat16):
            found = network(images)
    assert found.dtype is torch.bfloat16
    error = (found.float() - expected).std() / expected.std()
    assert error < 0.2, f"{error:.3f} of the spread"
    assert error > 1e-4, "was it autocast at all?"
    with torch.autocast("cpu", torch.bfloat16):
        nn.functional.cross_entropy(network.train()(images), torch.arange(16)).backward()
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())


def test_double_precision() -> None:
    network, images = calibrated(), batch(3, 3, 64, 64)
    with torch.no_grad():
        single = network(images)
        assert relative_error(single, network.double()(images.double())) < 1e-3


def test_meta_device() -> None:
    with torch.device("meta"):
        network = mobilenet_v3_large(num_classes=3)
    assert network(torch.empty(5, 3, 99, 70, device="meta")).shape == (5, 3)
    assert {parameter.device.type for parameter in network.parameters()} == {"meta"}
    real = mobilenet_v3_large(num_classes=3)
    network.load_state_dict(real.state_dict(), strict=True, assign=True)
    assert_same_state(network, real)


EXPORT = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.mark.proves(
    "Exported with `torch.export`, batch, height and width free",
    against="the network itself",
    tolerance=1e-4,
    unit="relative to the spread",
)
@EXPORT
@pytest.mark.slow
@pytest.mark.parametrize("variant", NETWORKS)
def test_export_with_dynamic_batch_height_and_width(variant: str, deviation: Deviation) -> None:
    network = calibrated(variant)
    dim = torch.export.Dim
    shapes = {
        "x": {0: dim("batch", min=1, max=64), 2: dim("height", min=33, max=512), 3: dim("width", min=33, max=512)}
    }
    program = torch.export.export(network, (batch(2, 3, 64, 96),), dynamic_shapes=shapes)
    for shape in ((2, 3, 64, 96), (1, 3, 33, 80), (5, 3, 97, 131)):
        images = batch(*shape)
        with torch.no_grad():
            expected = network(images)
            deviation(relative_error(program.module()(images), expected))
    assert set(program.state_dict) == set(network.state_dict())


@pytest.mark.proves(
    "Padded as TensorFlow's SAME and exported with `torch.export`, batch, height and width free",
    against="the network itself, on even and odd sides",
    tolerance=1e-4,
    unit="relative to the spread",
)
@EXPORT
@pytest.mark.slow
def test_export_of_same_padding_with_dynamic_sizes(deviation: Deviation) -> None:
    network = calibrated(padding="same", width_mult=0.5)
    dim = torch.export.Dim
    shapes = {
        "x": {0: dim("batch", min=1, max=64), 2: dim("height", min=33, max=512), 3: dim("width", min=33, max=512)}
    }
    program = torch.export.export(network, (batch(2, 3, 64, 96),), dynamic_shapes=shapes)
    for shape in ((2, 3, 64, 96), (1, 3, 33, 80), (3, 3, 97, 131), (3, 3, 98, 130)):
        images = batch(*shape)
        with torch.no_grad():
            deviation(relative_error(program.module()(images), network(images)))


def test_same_padding_can_be_traced_by_symbols() -> None:
    network, images = calibrated(padding="same", width_mult=0.35), batch(2, 3, 50, 33)
    with torch.no_grad():
        assert same_bits(torch.fx.symbolic_trace(network)(images), network(images))


@EXPORT
@pytest.mark.slow
def test_export_of_taps() -> None:
    taps = FeatureTaps(calibrated(width_mult=0.35))
    program = torch.export.export(taps, (batch(1, 3, 64, 64),))
    images = batch(1, 3, 64, 64, seed=1)
    with torch.no_grad():
        for found, expected in zip(program.module()(images), taps(images), strict=True):
            assert relative_error(found, expected) < 1e-4


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_compile_in_one_graph() -> None:
    """Traced as a whole, and the same numbers; ``aot_eager`` builds no kernels."""
    torch.compiler.reset()
    network, images = calibrated(width_mult=0.5), batch(4, 3, 64, 64)
    with torch.no_grad():
        found = torch.compile(network, backend="aot_eager", fullgraph=True)(images)
        assert relative_error(found, network(images)) < 1e-3
    torch.compiler.reset()


@pytest.mark.proves(
    "Three rows compiled to kernels by `torch.compile`",
    against="the rows themselves",
    tolerance=1e-3,
    unit="relative to the spread",
)
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_compile_to_kernels(deviation: Deviation, capsys: pytest.CaptureFixture[str]) -> None:
    """Three rows hold all there is to compile; ``inductor`` takes minutes of C++ for a whole network."""
    if shutil.which("g++") is None and shutil.which("clang++") is None:
        pytest.skip("no C++ compiler: inductor cannot build kernels")
    torch.compiler.reset()
    rows = (SMALL[0], replace(SMALL[1], use_se=True, stride=1, out_channels=16), replace(LARGE[5], input_channels=16))
    torch.manual_seed(0)
    network = calibrate(MobileNetV3(MobileNetV3Config(rows, 48, 32, num_classes=20)), batch(8, 3, 64, 64))
    images = batch(4, 3, 64, 64)
    start = perf_counter()
    with torch.no_grad():
        found = torch.compile(network, backend="inductor", fullgraph=True)(images)
        deviation(relative_error(found, network(images)))
    with capsys.disabled():
        print(f"\n  torch.compile with inductor, three rows: {perf_counter() - start:.0f} s")
    torch.compiler.reset()


# --- copies and files -------------------------------------------------------------------------------------------------


def test_deepcopy() -> None:
    network, images = calibrated(), batch(2, 3, 40, 40)
    twin = copy.deepcopy(network)
    assert_same_state(network, twin)
    assert twin.config == network.config
    with torch.no_grad():
        assert same_bits(twin(images), network(images))
        twin.features[0][0].weight.zero_()
        assert not same_bits(twin(images), network(images))


def test_pickle() -> None:
    network, images = calibrated(width_mult=0.35), batch(2, 3, 40, 40)
    again = pickle.loads(pickle.dumps(network))
    assert again.config == network.config
    assert_same_state(again, network)
    with torch.no_grad():
        assert same_bits(again(images), network(images))
    for described in (config.large(width_mult=0.5, dilated=True), config.small_minimalistic()):
        assert pickle.loads(pickle.dumps(described)) == described


def test_weights_in_a_file(tmp_path: Path) -> None:
    network, path = calibrated(), tmp_path / "weights.pt"
    torch.save(network.state_dict(), path)
    torch.manual_seed(9)
    again = MobileNetV3(network.config).eval()
    again.load_state_dict(torch.load(path, weights_only=True), strict=True)
    assert_same_state(again, network)
    with pytest.raises(RuntimeError, match="size mismatch"):
        mobilenet_v3_small(num_classes=21).load_state_dict(torch.load(path, weights_only=True))


def test_whole_network_in_a_file() -> None:
    network, file = calibrated(width_mult=0.25), io.BytesIO()
    torch.save(network, file)
    file.seek(0)
    assert_same_state(torch.load(file, weights_only=False), network)


def test_repr_reads_like_the_paper() -> None:
    text = repr(mobilenet_v3_small().features[1])
    assert "SqueezeExcitation" in text
    assert "kernel_size=(3, 3), stride=(2, 2), padding=(1, 1), groups=16, bias=False" in text


def test_parts_are_importable_from_the_top() -> None:
    assert mnv3lib.MobileNetV3 is MobileNetV3
    assert isinstance(MobileNetV3(config.small(num_classes=2)).features[0], ConvNormActivation)
