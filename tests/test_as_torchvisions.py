"""What torchvision's own tests ask of its MobileNetV3, asked of ours: norm layers, graphs, scripts, inside features.

The kinds are those of ``test_models.py`` and ``test_backbone_utils.py`` of torchvision: other normalisations, logits as
published, scripting, saving and tracing, feature extraction in training and evaluation, scripted extractors, gradients
at the input, backbones with their levels and frozen layers. The networks are narrow and the images small.
"""

from __future__ import annotations

import inspect
import io
from functools import partial
from typing import Any

import pytest
import torch
from reference import batch, calibrate, relative_error, same_bits
from torch import Tensor, nn
from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names
from torchvision.ops.misc import FrozenBatchNorm2d

from mnv3lib import FeatureTaps, MobileNetV3, blocks, config, mobilenet_v3_large, mobilenet_v3_small, network
from mnv3lib.blocks import StochasticDepth

BUILDERS = {"large": mobilenet_v3_large, "small": mobilenet_v3_small}
VARIANTS = ("large", "small")
#: TorchScript warns of its age, and of an annotation in torch.fx's own GraphModule.
pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore:The TorchScript type system doesn't support"
)


def calibrated(variant: str = "small", **options: Any) -> MobileNetV3:
    """A narrow network whose logits mean something."""
    torch.manual_seed(0)
    model = BUILDERS[variant](**{"num_classes": 7, "width_mult": 0.35, **options})
    return calibrate(model, batch(8, model.config.in_channels, 48, 48))


def scripted(module: nn.Module) -> Any:
    """Scripted, written and read again."""
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(module), file)
    file.seek(0)
    return torch.jit.load(file)


# --- other normalisations ---------------------------------------------------------------------------------------------


def group_norm(channels: int) -> nn.Module:
    return nn.GroupNorm(1, channels)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    ("norm_layer", "kind"),
    [
        (group_norm, nn.GroupNorm),
        (FrozenBatchNorm2d, FrozenBatchNorm2d),
        (nn.SyncBatchNorm, nn.SyncBatchNorm),
        (partial(nn.InstanceNorm2d, affine=True), nn.InstanceNorm2d),
        (partial(nn.InstanceNorm2d, affine=False), nn.InstanceNorm2d),
        (nn.Identity, nn.Identity),
    ],
    ids=["group", "frozen", "synchronised", "instance", "instance without scale", "none"],
)
def test_a_norm_layer_takes_the_place_of_every_batch_norm(variant: str, norm_layer: Any, kind: type[nn.Module]) -> None:
    plain = BUILDERS[variant](width_mult=0.25, num_classes=3)
    wanted = [name for name, module in plain.named_modules() if isinstance(module, nn.BatchNorm2d)]
    network = BUILDERS[variant](width_mult=0.25, num_classes=3, norm_layer=norm_layer)
    assert [name for name, module in network.named_modules() if type(module) is kind] == wanted
    assert not any(type(module) is nn.BatchNorm2d for module in network.modules())
    logits = network.eval()(batch(2, 3, 40, 40))
    logits.sum().backward()
    assert logits.shape == (2, 3)
    assert network.features[0][0].weight.grad is not None
    assert network.config == plain.config, "a configuration is plain data"


@pytest.mark.parametrize("variant", VARIANTS)
def test_group_norm_is_torchvision_s_bit_for_bit(variant: str) -> None:
    from torchvision import models

    images, logits = batch(2, 3, 64, 64), []
    states = []
    for build in (BUILDERS[variant], getattr(models, f"mobilenet_v3_{variant}")):
        torch.manual_seed(0)
        network = build(num_classes=5, norm_layer=group_norm)
        states.append(network.state_dict())
        with torch.no_grad():
            logits.append(network.eval()(images))
    assert list(states[0]) == list(states[1])
    assert all(same_bits(states[0][name], states[1][name]) for name in states[0])
    assert same_bits(*logits)


def test_a_norm_layer_brings_its_own_settings() -> None:
    given = mobilenet_v3_small(
        norm_eps=0.5, norm_momentum=0.5, norm_layer=partial(nn.BatchNorm2d, eps=0.25), width_mult=0.25
    )
    norms = [module for module in given.modules() if isinstance(module, nn.BatchNorm2d)]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(0.25, 0.1)}
    assert (given.config.norm_eps, given.config.norm_momentum) == (0.5, 0.5)
    default = mobilenet_v3_small(norm_eps=0.5, norm_momentum=0.25, norm_layer=None, width_mult=0.25)
    norms = [module for module in default.modules() if isinstance(module, nn.BatchNorm2d)]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(0.5, 0.25)}


@pytest.mark.parametrize("norm_layer", [group_norm, nn.SyncBatchNorm, partial(nn.InstanceNorm2d, affine=True)])
def test_norms_are_drawn_anew_as_the_identity(norm_layer: Any) -> None:
    network = mobilenet_v3_small(width_mult=0.25, num_classes=2, norm_layer=norm_layer)
    scale, shift = network.features[0][1].weight, network.features[0][1].bias
    nn.init.constant_(scale, 3)
    nn.init.constant_(shift, 3)
    network.apply_initialisation()
    assert (scale == 1).all()
    assert (shift == 0).all()


def test_what_is_no_norm_layer_is_named() -> None:
    for wrong in ("group", 3, nn.GroupNorm(1, 8).weight):
        with pytest.raises(TypeError, match="norm_layer must be None or make a module of a width, got"):
            MobileNetV3(config.small(), norm_layer=wrong)
    with pytest.raises(TypeError, match="not a Module"):
        MobileNetV3(config.small(), norm_layer=lambda channels: channels)


def test_the_keyword_is_shown_with_the_others() -> None:
    for build in BUILDERS.values():
        parameters = inspect.signature(build).parameters
        assert parameters["norm_layer"].default is None
        assert set(parameters) - {"norm_layer"} == set(inspect.signature(config.large).parameters)


# --- scripts and graphs -----------------------------------------------------------------------------------------------

#: Everything that changes what `forward` does.
OPTIONS: list[dict[str, Any]] = [
    {},
    {"padding": "same"},
    {"dilated": True, "reduced_tail": True},
    {"stochastic_depth": 0.5},
]


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        pytest.param(each, id="-".join(each) or "plain", marks=pytest.mark.slow if len(each) > 1 else ())
        for each in OPTIONS
    ],
)
@pytest.mark.parametrize("way", ["script", "trace", "script of trace", "fx", "script of fx"])
def test_graphs_and_scripts_give_the_same_logits(way: str, options: dict[str, Any]) -> None:
    model, images = calibrated(**options), batch(2, 3, 64, 48)
    other = batch(3, 3, 33, 50)
    make = {
        "script": scripted,
        "trace": lambda model: torch.jit.trace(model, images),
        "script of trace": lambda model: scripted(torch.jit.trace(model, images)),
        "fx": torch.fx.symbolic_trace,
        "script of fx": lambda model: scripted(torch.fx.symbolic_trace(model)),
    }[way]
    with torch.no_grad():
        made = make(model)
        for each in (images, other):
            if "trace" in way and "padding" in options and each is other:
                continue  # torch.jit.trace holds the zeros of one size
            assert relative_error(made(each), model(each)) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_network_as_published_can_be_scripted_and_traced(variant: str) -> None:
    model, images = calibrated(variant, width_mult=1.0, num_classes=50), batch(1, 3, 64, 64)
    with torch.no_grad():
        expected = model(images)
        for made in (scripted(model), torch.fx.symbolic_trace(model)):
            assert relative_error(made(images), expected) < 1e-4
    images.requires_grad_(True)
    model(images)[0].sum().backward()
    assert images.grad is not None
    assert images.grad.any()


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_stochastic_depth_in_a_graph_and_a_script_draws_the_same(mode: str) -> None:
    model, images = calibrated(stochastic_depth=0.5), batch(4, 3, 40, 40)
    getattr(model, mode)()
    outputs = []
    for made in (model, torch.fx.symbolic_trace(model), torch.jit.script(torch.fx.symbolic_trace(model))):
        torch.manual_seed(3)
        with torch.no_grad():
            outputs.append(made(images))
    assert all(relative_error(found, outputs[0]) < 1e-4 for found in outputs[1:])


@pytest.mark.parametrize("shape", [(5,), (5, 2), (5, 3, 4), (5, 2, 3, 4)])
def test_stochastic_depth_has_one_factor_for_each_image(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    found = StochasticDepth(0.5).train()(torch.ones(shape))
    each = found.reshape(5, -1)
    assert found.shape == shape
    assert {each.amin().item(), each.amax().item()} == {0, 2}
    assert same_bits(each.amin(1), each.amax(1))


@pytest.mark.slow
def test_taps_can_be_scripted_and_traced() -> None:
    taps, images = FeatureTaps(calibrated()), batch(2, 3, 40, 40)
    with torch.no_grad():
        expected = taps(images)
        for made in (scripted(taps), torch.fx.symbolic_trace(taps), scripted(torch.fx.symbolic_trace(taps))):
            found = made(images)
            assert len(found) == len(expected)
            assert all(relative_error(ours, theirs) < 1e-4 for ours, theirs in zip(found, expected, strict=True))


@pytest.mark.parametrize("module", [blocks, network])
def test_annotations_of_forward_are_types_not_words(module: Any) -> None:
    """As words they stand in the code of a traced graph, where TorchScript does not find them."""
    classes = [kind for kind in vars(module).values() if isinstance(kind, type) and issubclass(kind, nn.Module)]
    own = [kind for kind in classes if kind.__module__ == module.__name__ and "forward" in vars(kind)]
    assert own
    for kind in own:
        annotations = inspect.get_annotations(kind.forward)
        assert annotations
        assert not [name for name, annotation in annotations.items() if isinstance(annotation, str)], kind


# --- features from inside ---------------------------------------------------------------------------------------------


def nodes(model: nn.Module, count: int = 10) -> tuple[list[str], list[str]]:
    """Some nodes of the graphs in training and in evaluation that give tensors."""
    found = get_graph_node_names(model, suppress_diff_warning=True)
    kept = [[name for name in names if "getattr" not in name and "getitem" not in name] for names in found]
    return tuple(names[:: max(1, len(names) // count)] for names in kept)  # type: ignore[return-value]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("script", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_features_are_extracted_forward_and_backward(variant: str, script: bool) -> None:
    model = calibrated(variant).train()
    training, evaluation = nodes(model)
    extractor = create_feature_extractor(
        model, train_return_nodes=training, eval_return_nodes=evaluation, suppress_diff_warning=True
    )
    assert extractor.training
    made = torch.jit.script(extractor) if script else extractor
    found = made(batch(2, 3, 40, 40))
    assert list(found) == training
    sum(value.mean() for value in found.values()).backward()
    assert model.features[0][0].weight.grad is not None
    if not script:
        assert list(extractor.eval()(batch(2, 3, 40, 40))) == evaluation


def test_extracted_features_are_those_of_the_taps() -> None:
    model, images = calibrated(), batch(2, 3, 48, 40)
    taps = FeatureTaps(model)
    wanted = {f"features.{index}": str(index) for index in taps.indices}
    with torch.no_grad():
        extracted = create_feature_extractor(model, wanted)(images)
        assert list(extracted) == list(wanted.values())
        for ours, theirs in zip(taps(images), extracted.values(), strict=True):
            assert same_bits(ours, theirs)


def test_an_extractor_refuses_what_torchvision_s_refuses() -> None:
    model = calibrated()
    with pytest.raises(ValueError, match="nowhere"):
        create_feature_extractor(model, ["nowhere"])
    with pytest.raises((ValueError, AssertionError)):
        create_feature_extractor(model, train_return_nodes=["features.0"])


# --- backbones of detectors -------------------------------------------------------------------------------------------


def test_a_backbone_with_a_pyramid_learns() -> None:
    """Ours where torchvision's detectors have theirs: levels and frozen layers by torchvision's own helper."""
    from torchvision.models.detection.backbone_utils import _mobilenet_extractor

    model = calibrated("large", norm_layer=FrozenBatchNorm2d)
    for layer in model.features:  # torchvision finds the ends of the stages by this mark
        layer._is_cn = bool(getattr(layer, "use_res_connect", True) is False and _strided(layer))
    backbone = _mobilenet_extractor(model, fpn=True, trainable_layers=2)
    maps = backbone(batch(1, 3, 64, 64))
    assert [value.shape[1] for value in maps.values()] == [256] * len(maps)
    sum(value.mean() for value in maps.values()).backward()
    trained = [parameter.requires_grad for parameter in backbone.body.parameters()]
    assert any(trained)
    assert not trained[0], "the first layers are frozen"
    for wrong in ({"trainable_layers": -1}, {"trainable_layers": 7}):
        with pytest.raises(ValueError, match="Trainable layers should be in the range"):
            _mobilenet_extractor(model, fpn=True, **wrong)
    with pytest.raises(ValueError, match="Each returned layer should be in the range"):
        _mobilenet_extractor(model, fpn=True, trainable_layers=2, returned_layers=[-1, 0])


def _strided(layer: nn.Module) -> bool:
    return any(isinstance(module, nn.Conv2d) and module.stride[0] > 1 for module in layer.modules())


# --- other images and other numbers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_dilated_network_keeps_its_last_maps_large(variant: str) -> None:
    plain, dilated = (FeatureTaps(calibrated(variant, dilated=dilated)) for dilated in (False, True))
    sides = [taps(batch(1, 3, 64, 64))[-1].shape[2:] for taps in (plain, dilated)]
    assert sides == [(2, 2), (4, 4)]


@pytest.mark.parametrize("activation", config.VARIANTS)
def test_every_variant_can_be_trained(activation: str) -> None:
    """Also with ReLU in front of the dropout: neither may change what the other's backward pass needs."""
    torch.manual_seed(0)
    model = MobileNetV3(config.VARIANTS[activation].config(width_mult=0.25, num_classes=3)).train()
    images = batch(4, 3, 32, 32).requires_grad_(True)
    loss = nn.functional.cross_entropy(model(images), torch.tensor([0, 1, 2, 0]))
    loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert isinstance(images.grad, Tensor)


def test_autocast_gives_nearly_the_same_logits() -> None:
    model, images = calibrated(), batch(4, 3, 48, 48)
    with torch.no_grad():
        expected = model(images)
        with torch.autocast("cpu", torch.bfloat16):
            found = model(images)
    assert found.dtype is torch.bfloat16
    assert torch.nn.functional.cosine_similarity(found.float(), expected).min() > 0.95
