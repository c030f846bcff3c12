"""The cost model equals the built network: parameters, multiply-adds, shapes, receptive fields, memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ledger import Deviation
from reference import calls, tables
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mnv3lib import MobileNetV3, config, cost
from mnv3lib.blocks import ConvNormActivation, InvertedResidual, SqueezeExcitation
from mnv3lib.config import InvertedResidualConfig, MobileNetV3Config, large, small

WIDTHS = (0.25, 0.35, 0.5, 0.6, 0.75, 0.9, 1.0, 1.25, 1.3, 1.5, 2.0)
SQUARES = tuple(range(96, 257, 32))
ODD = (97, 131, 223, (95, 160))
SMALLEST = (1, (1, 7), 33)
VARIANTS = {name: getattr(config, name) for name in ("large", "small", "large_minimalistic", "small_minimalistic")}
QUICK = {("large", 1.0, False, False), ("small", 0.35, True, True)}
Resolution = int | tuple[int, int]


def on_meta(described: MobileNetV3Config) -> MobileNetV3:
    """The network without storage: shapes and counts are real, numbers are not."""
    with torch.device("meta"):
        return MobileNetV3(described).eval()


def image(described: MobileNetV3Config, resolution: Resolution, device: str = "meta") -> Tensor:
    sides = resolution if isinstance(resolution, tuple) else (resolution, resolution)
    return torch.zeros(1, described.in_channels, *sides, device=device)


def count(network: MobileNetV3, resolution: Resolution) -> FlopCounterMode:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(image(network.config, resolution))
    return counter


def without_the_uncounted(network: MobileNetV3) -> MobileNetV3:
    """Only what torch counts, in place: without storage, a batch norm takes longer to trace than ten convolutions."""
    for module in network.modules():
        for name, child in list(module.named_children()):
            if isinstance(child, (nn.BatchNorm2d, nn.Hardswish, nn.Hardsigmoid, nn.ReLU)):
                setattr(module, name, nn.Identity())
    return network


def assert_equal_to_torch(
    described: MobileNetV3Config, resolutions: tuple[Resolution, ...], deviation: Deviation, *, whole: bool
) -> None:
    """Count the network's convolutions and linear layers; with ``whole``, at the first resolution the network as it is.

    That torch counts nothing of the other layers does not depend on a width: some networks as they are show it.
    """
    network = on_meta(described)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    if not whole:
        network = without_the_uncounted(network)
    for resolution in resolutions:
        report = cost.profile(described, resolution)
        deviation(abs(report.parameters - parameters))
        deviation(abs(2 * report.macs - count(network, resolution).get_total_flops()))
        network = without_the_uncounted(network)


# --- totals -----------------------------------------------------------------------------------------------------------


@pytest.mark.proves(
    "Parameters and multiply-adds by formula: 88 networks, each at ten resolutions, odd and oblong ones too",
    against="`numel` of the built network, and half of torch's FLOP counter",
    tolerance=0,
    unit="count",
)
@pytest.mark.parametrize(
    "point",
    [
        pytest.param(
            point, marks=() if point in QUICK else pytest.mark.slow, id="{}-{}-tail{:d}-dilated{:d}".format(*point)
        )
        for point in product(("large", "small"), WIDTHS, (False, True), (False, True))
    ],
)
def test_totals_equal_torch_s(point: tuple[str, float, bool, bool], deviation: Deviation) -> None:
    variant, width, tail, dilated = point
    described = VARIANTS[variant](width_mult=width, reduced_tail=tail, dilated=dilated)
    assert_equal_to_torch(described, (*SQUARES, *ODD), deviation, whole=point in QUICK)


@pytest.mark.proves(
    "The same under the authors' rounding rule, both dilation policies, and for the minimalistic variants",
    against="`numel` of the built network, and half of torch's FLOP counter",
    tolerance=0,
    unit="count",
)
@pytest.mark.parametrize(
    "point",
    [
        pytest.param(point, marks=() if point[1:] == (0.5, "paper") else pytest.mark.slow, id="{}-{}-{}".format(*point))
        for point in product(VARIANTS, (0.35, 0.5, 0.75, 1.25), config.DILATION_POLICIES)
    ],
)
def test_totals_of_the_other_rules_and_variants(point: tuple[str, float, Any], deviation: Deviation) -> None:
    variant, width, policy = point
    for dilated in (False, True):
        described = VARIANTS[variant](
            width_mult=width, rounding="paper", dilated=dilated, dilation_policy=policy, in_channels=1, num_classes=17
        )
        assert_equal_to_torch(described, (160, 131, *SMALLEST), deviation, whole=width == 0.5)


def test_known_totals() -> None:
    report = cost.profile(large())
    assert (report.parameters, report.macs) == (5_483_032, 216_589_760)
    report = cost.profile(small(), resolution=224)
    assert (report.parameters, report.macs) == (2_542_856, 56_510_400)
    assert cost.profile(small(), (224, 224)) == report
    expected = {"": 216.59, "reduced_tail": 182.30, "dilated": 354.82, "reduced_tail dilated": 224.43}
    for options, macs in expected.items():
        report = cost.profile(large(**dict.fromkeys(options.split(), True)))
        assert report.macs / 1e6 == pytest.approx(macs, abs=0.005)


# --- layer by layer ---------------------------------------------------------------------------------------------------


@contextmanager
def watch(network: nn.Module, kinds: tuple[type[nn.Module], ...], note: Any) -> Iterator[None]:
    """Call ``note(name, module, input, output)`` for every module of ``kinds`` as it runs."""
    handles = [
        module.register_forward_hook(lambda module, inputs, output, name=name: note(name, module, inputs[0], output))
        for name, module in network.named_modules()
        if isinstance(module, kinds)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


CASES = [
    large(),
    small(width_mult=0.35, reduced_tail=True),
    small(dilated=True, dilation_policy="paper"),
    large(dilated=True, rounding="paper", width_mult=0.75),
    config.large_minimalistic(in_channels=4),
]


@pytest.mark.proves(
    "Each layer's parameters, multiply-adds and shapes by formula",
    against="the module that it names, as it runs",
    tolerance=0,
    unit="count",
)
@pytest.mark.parametrize("described", CASES, ids=range(len(CASES)))
@pytest.mark.parametrize("resolution", [224, (95, 160), 1])
def test_layers_equal_the_modules_they_name(
    described: MobileNetV3Config, resolution: Resolution, deviation: Deviation
) -> None:
    network, report = on_meta(described), cost.profile(described, resolution)
    modules = dict(network.named_modules())
    seen: dict[str, tuple[Any, ...]] = {}

    def note(name: str, module: nn.Module, before: Tensor, after: Tensor) -> None:
        seen[name] = (tuple(before.shape[1:]), tuple(after.shape[1:]))

    with watch(network, (nn.Module,), note):
        counts = count(network, resolution).get_flop_counts()
    flops = {name: sum(kinds.values()) for name, kinds in counts.items()}

    owners: dict[int, str] = {}
    for layer in report.layers:
        module = modules[layer.name]
        assert layer.parameters == sum(parameter.numel() for parameter in module.parameters()), layer.name
        for parameter in module.parameters():
            assert owners.setdefault(id(parameter), layer.name) == layer.name, "counted twice"
        deviation(abs(layer.parameters - sum(parameter.numel() for parameter in module.parameters())))
        deviation(abs(2 * layer.macs - flops.get(f"MobileNetV3.{layer.name}", 0)))
        before, after = ((*shape, 1, 1)[:3] for shape in seen[layer.name])
        assert (layer.input, layer.output) == (before, after), layer.name
        assert layer.activations == after[0] * after[1] * after[2]
        if isinstance(module, ConvNormActivation):
            conv = module[0]
            assert (conv.kernel_size, conv.stride) == ((layer.kernel,) * 2, (layer.stride,) * 2)
            assert (conv.groups, conv.dilation) == (layer.groups, (layer.dilation,) * 2)
        else:
            assert (layer.kernel, layer.stride, layer.groups, layer.dilation) == (1, 1, 1, 1)
        prefix = layer.name.split(".")[0]
        expected = int(layer.name.split(".")[1]) if prefix == "features" else len(network.features)
        assert layer.feature == expected
    assert len(owners) == len(list(network.parameters())), "a parameter that no layer counts"
    assert [name for name in seen if name in {layer.name for layer in report.layers}] == [
        layer.name for layer in report.layers
    ], "not in the order they run"
    assert [layer for group in report.features for layer in group] == list(report.layers)
    assert len(report.features) == len(network.features) + 1
    assert sum(report.macs_by_feature) == report.macs
    numel = [sum(p.numel() for p in module.parameters()) for module in (*network.features, network.classifier)]
    assert list(report.parameters_by_feature) == numel
    assert report.activations == sum(layer.activations for layer in report.layers)


def test_kinds_say_what_a_layer_is() -> None:
    kinds = [[layer.kind for layer in group] for group in cost.profile(small()).features]
    assert kinds[0] == ["stem"]
    assert kinds[1] == ["depthwise", "squeeze", "excite", "project"]
    assert kinds[2] == ["expand", "depthwise", "project"]
    assert kinds[4] == ["expand", "depthwise", "squeeze", "excite", "project"]
    assert kinds[-2:] == [["last conv"], ["pool", "hidden", "logits"]]
    for group, row in zip(kinds[1:-2], small().rows, strict=True):
        assert ("squeeze" in group) == ("excite" in group) == row.use_se
        assert ("expand" in group) == row.use_expansion


# --- receptive field --------------------------------------------------------------------------------------------------


def linear_twin(described: MobileNetV3Config) -> MobileNetV3:
    """The network with everything gone but its convolutions, all weights 1: no gradient cancels, none is gated."""
    network = MobileNetV3(described).double().eval()
    for module in network.modules():
        if isinstance(module, ConvNormActivation):
            nn.init.constant_(module[0].weight, 1 / module[0].weight[0].numel())
            for index in range(1, len(module)):
                module[index] = nn.Identity()
        elif isinstance(module, InvertedResidual):
            for index, part in enumerate(module.block):
                if isinstance(part, SqueezeExcitation):
                    module.block[index] = nn.Identity()
    return network


FIELDS = [
    (InvertedResidualConfig(4, 5, 6, 5, False, "HS", 2), InvertedResidualConfig(5, 3, 5, 5, True, "RE", 1)),
    (InvertedResidualConfig(4, 3, 6, 4, True, "HS", 1, 3), InvertedResidualConfig(4, 7, 9, 5, False, "RE", 2)),
    (
        InvertedResidualConfig(3, 1, 6, 5, False, "HS", 2),
        InvertedResidualConfig(5, 3, 4, 4, False, "RE", 2, 2),
        InvertedResidualConfig(4, 5, 8, 4, True, "HS", 1, 2),
        InvertedResidualConfig(4, 3, 8, 4, True, "HS", 2),
    ),
]


@pytest.mark.proves(
    "Receptive field and output stride by formula, in pixels",
    against="the pixels that the gradient of one output value reaches",
    tolerance=0,
    unit="count",
)
@pytest.mark.parametrize(
    ("described", "side"),
    [
        *((MobileNetV3Config(rows, 6, 4, num_classes=2), 161) for rows in FIELDS),
        pytest.param(small(width_mult=0.25, num_classes=2), 320, id="small"),
        pytest.param(small(width_mult=0.25, num_classes=2, dilated=True, dilation_policy="paper"), 320, id="dilated"),
    ],
)
def test_receptive_field_is_what_the_gradient_reaches(
    described: MobileNetV3Config, side: int, deviation: Deviation
) -> None:
    network = linear_twin(described)
    layers = {layer.name: layer for layer in cost.profile(described, side).layers}
    maps: dict[str, Tensor] = {}
    pixels = image(described, side, "cpu").double().requires_grad_()
    with watch(network, (ConvNormActivation,), lambda name, module, before, after: maps.update({name: after})):
        network(pixels)

    def reach(value: Tensor) -> tuple[int, int, int]:
        (gradient,) = torch.autograd.grad(value, pixels, retain_graph=True)
        rows, columns = (gradient[0].abs().sum(dim).sum(0).nonzero().flatten() for dim in (2, 1))
        assert int(rows[-1] - rows[0]) == int(columns[-1] - columns[0])
        return int(rows[0]), int(rows[-1]), int(rows[-1] - rows[0]) + 1

    checked = 0
    for name, map_ in maps.items():
        layer, middle = layers[name], map_.shape[-1] // 2
        if layer.receptive_field + 2 * layer.output_stride > side - 8:
            continue  # would touch the border
        first, last, width = reach(map_[0, 0, middle, middle])
        deviation(abs(width - layer.receptive_field))
        assert first > 0
        assert last < side - 1
        deviation(abs(first - reach(map_[0, 0, middle - 1, middle - 1])[0] - layer.output_stride))
        checked += 1
    assert checked >= 7
    assert checked == len(maps) or side == 320


def test_receptive_field_of_the_whole_network() -> None:
    report = cost.profile(small())
    assert report.receptive_field == report.features[-2][-1].receptive_field == report.layers[-1].receptive_field
    assert cost.profile(small(), 96).receptive_field == report.receptive_field, "a property of the layers alone"


# --- memory -----------------------------------------------------------------------------------------------------------


def peak(network: MobileNetV3, resolution: Resolution) -> int:
    """Most numbers held by one layer's input and output and by a waiting shortcut, told apart by identity."""
    waiting: dict[int, Tensor] = {}
    most = 0

    def start(module: InvertedResidual, inputs: tuple[Tensor, ...]) -> None:
        if module.use_res_connect:
            waiting[id(inputs[0])] = inputs[0]

    def note(name: str, module: nn.Module, before: Tensor, after: Tensor) -> None:
        nonlocal most
        if isinstance(module, InvertedResidual):
            waiting.clear()
        else:
            alive = {**waiting, id(before): before, id(after): after}
            most = max(most, sum(tensor.numel() for tensor in alive.values()))

    blocks = [module for module in network.modules() if isinstance(module, InvertedResidual)]
    handles = [block.register_forward_pre_hook(start) for block in blocks]
    kinds = (ConvNormActivation, SqueezeExcitation, InvertedResidual, nn.AdaptiveAvgPool2d, nn.Linear)
    with watch(network, kinds, note), torch.no_grad():
        network(image(network.config, resolution))
    for handle in handles:
        handle.remove()
    return most


@pytest.mark.proves(
    "Peak memory by formula, in values",
    against="the tensors alive while the network runs",
    tolerance=0,
    unit="count",
)
@pytest.mark.parametrize("described", CASES, ids=range(len(CASES)))
def test_peak_activations(described: MobileNetV3Config, deviation: Deviation) -> None:
    network = without_the_uncounted(on_meta(described))
    for resolution in (224, 97, (95, 160), 33, 1):
        report = cost.profile(described, resolution)
        deviation(abs(report.peak_activations - peak(network, resolution)))
        assert report.peak_memory() == 4 * report.peak_activations
        assert report.peak_memory(bytes_per_value=1) == report.peak_activations


# --- what training keeps ----------------------------------------------------------------------------------------------


def kept(network: nn.Module, images: Tensor) -> int:
    """Numbers in all memory that the forward pass hands to the backward pass, parameters and buffers left out."""
    own = {tensor.untyped_storage().data_ptr() for tensor in [*network.parameters(), *network.buffers()]}
    seen: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        seen.setdefault(tensor.untyped_storage().data_ptr(), tensor)  # held, so that its memory is not used again
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        logits = network(images)
    stored = [tensor for address, tensor in seen.items() if address not in own]
    assert logits.requires_grad
    return sum(tensor.untyped_storage().nbytes() for tensor in stored)


TRAINED = {
    "large": config.large(num_classes=10),
    "small": config.small(num_classes=10, width_mult=0.5),
    "tail": config.large(num_classes=3, reduced_tail=True, dilated=True),
    "paper's rounding": config.small(num_classes=3, width_mult=0.75, rounding="paper"),
    "minimalistic": config.large_minimalistic(num_classes=3, width_mult=0.5),
    "grey": config.small(num_classes=3, in_channels=1),
    "stochastic depth": config.small(num_classes=3, stochastic_depth=0.5),
    "no dropout": config.small(num_classes=3, dropout=0),
    "small minimalistic, no dropout": config.small_minimalistic(num_classes=3, dropout=0),
}


@pytest.mark.proves(
    "Bytes of activations that a training step keeps",
    against="the tensors that PyTorch's autograd saves",
    tolerance=0,
    unit="count",
)
@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize(("batch", "side"), [(2, 64), (3, 97)])
def test_the_activations_are_those_that_autograd_saves(name: str, batch: int, side: int, deviation: Deviation) -> None:
    settings: MobileNetV3Config = TRAINED[name]
    torch.manual_seed(0)
    network = MobileNetV3(settings).train()
    found = kept(network, torch.randn(batch, settings.in_channels, side, side))
    deviation(abs(found - 4 * cost.profile(settings, side).saved_activations(batch)))


def test_saved_activations_of_a_backbone_and_a_head() -> None:
    described = small(num_classes=3)
    whole, features = cost.profile(described, 96), cost.backbone(described, 96)
    head = cost.classifier(described, features.layers[-1])
    for batch in (1, 7):
        assert whole.saved_activations(batch) == features.saved_activations(batch) + head.saved_activations(batch)
    per_image = whole.saved_activations(2) - whole.saved_activations(1)
    assert per_image == sum(layer.saved for layer in whole.layers)
    norms = [module for module in on_meta(described).modules() if isinstance(module, nn.BatchNorm2d)]
    assert whole.saved_activations(1) - per_image == sum(2 * norm.num_features for norm in norms)
    torch.manual_seed(0)
    network = MobileNetV3(described).train()
    network.features.requires_grad_(False).eval()
    assert kept(network, torch.randn(5, 3, 96, 96)) == 4 * head.saved_activations(5), "a frozen backbone keeps nothing"
    with pytest.raises(ValueError, match="batch must be an integer >= 1, got 0"):
        whole.saved_activations(0)


@pytest.mark.parametrize("described", CASES, ids=range(len(CASES)))
def test_a_network_costs_its_backbone_and_its_head(described: MobileNetV3Config) -> None:
    whole, features = cost.profile(described, (95, 160)), cost.backbone(described, (95, 160))
    assert whole == features + cost.classifier(described, features.layers[-1])
    network = on_meta(described)
    assert features.parameters == sum(parameter.numel() for parameter in network.features.parameters())
    assert len(features.features) == len(network.features)
    assert [layer.name for layer in whole.layers[len(features.layers) :]] == ["avgpool", "classifier.0", "classifier.3"]


def test_a_walk_adds_up_another_head() -> None:
    """A 3×3 convolution of rate 2 and a pooled gate on a feature map from inside, beside the modules themselves."""
    described = small(width_mult=0.5)
    tap = cost.backbone(described, 64).features[3][-1]
    walk = cost.Walk.after(tap, feature=20, saved=True)
    walk.conv("head.0", "depthwise", tap.output[0], 3, 1, 2, tap.output[0], "RE")
    walk.squeeze_and_excite("head.1", 8)
    report, width = walk.profile(), tap.output[0]
    conv, squeeze, excite = report.layers
    assert {layer.feature for layer in report.layers} == {20}
    assert (conv.groups, conv.dilation, conv.output) == (width, 2, tap.output)
    assert conv.receptive_field == tap.receptive_field + 4 * tap.output_stride
    head = nn.Sequential(ConvNormActivation(width, width, kernel_size=3, dilation=2, groups=width, activation="RE"),
                         SqueezeExcitation(width, 8))  # fmt: skip
    assert report.parameters == sum(parameter.numel() for parameter in head.parameters())
    x = torch.randn(2, *tap.output, requires_grad=True)
    own = x.numel()  # is kept by the layer behind the tap, as the walk was told
    assert kept(head.train(), x) == 4 * (report.saved_activations(2) + own)
    assert (squeeze.kind, excite.kind) == ("squeeze", "excite")


# --- random tables ----------------------------------------------------------------------------------------------------

sides = st.integers(1, 70)


@settings(deadline=None, derandomize=True, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(
    tables(widest=90),
    st.integers(1, 90),
    st.integers(1, 90),
    st.integers(1, 9),
    st.integers(1, 4),
    sides | st.tuples(sides, sides),
)
def test_any_table_costs_what_it_costs(
    rows: list[InvertedResidualConfig],
    last_conv: int,
    last_channel: int,
    num_classes: int,
    in_channels: int,
    resolution: Resolution,
) -> None:
    described = MobileNetV3Config(tuple(rows), last_conv, last_channel, num_classes, in_channels)
    network, report = on_meta(described), cost.profile(described, resolution)
    assert report.parameters == sum(parameter.numel() for parameter in network.parameters())
    shapes: dict[str, tuple[int, ...]] = {}
    with watch(network, (nn.Module,), lambda name, module, before, after: shapes.update({name: tuple(after.shape)})):
        assert 2 * report.macs == count(network, resolution).get_total_flops()
    for layer in report.layers:
        assert (1, *layer.output)[: len(shapes[layer.name])] == shapes[layer.name]
    assert report.peak_activations == peak(without_the_uncounted(network), resolution)


# --- speed ------------------------------------------------------------------------------------------------------------


def test_a_profile_is_much_cheaper_than_a_network() -> None:
    described = large()
    assert calls(lambda: on_meta(described)) > 100 * calls(lambda: cost.profile(described).macs)
