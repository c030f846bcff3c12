"""Weights between libraries: names, settings, heads, channels; a network filled whole or left as it was."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import timm
import torch
from ledger import Deviation, worst, worst_of
from networks import TASKS, pictures, refused, shaken
from reference import assert_same_state, relative_error, same_bits
from torch import Tensor, nn
from torchvision import models
from torchvision.models.detection.backbone_utils import mobilenet_backbone
from torchvision.ops.misc import FrozenBatchNorm2d

from mnv3lib import MobileNetV3, config, mobilenet_v3_large, mobilenet_v3_small, weights
from mnv3lib.weights import WeightsError, config_for, load, network_for, timm_state_dict
from mnv3lib.weights.names import LAYOUTS, names_in_file

TIMM = tuple(name for name in weights.NAMES if "mobilenetv3" in name)
SIZES = ((224, 224), (225, 225), (160, 97), (99, 130))


# --- timm -------------------------------------------------------------------------------------------------------------


def test_all_of_timm_s_networks_are_known() -> None:
    """What timm lists under the paper's name; the others are refused with a reason."""
    listed = set(timm.list_models("*mobilenetv3*"))
    assert listed - set(TIMM) == {"mobilenetv3_rw", "mobilenetv3_large_150d"}
    assert set(TIMM) <= listed
    assert len(TIMM) == 11
    with pytest.raises(ValueError, match=r"'mobilenetv3_rw': .* no bias .* not rounded to 8"):
        network_for("mobilenetv3_rw")
    with pytest.raises(ValueError, match=r"'mobilenetv3_large_150d.ra4_e3600_r256_in1k': it is deeper"):
        network_for("mobilenetv3_large_150d.ra4_e3600_r256_in1k")


@pytest.mark.proves(
    "Weights from timm's names to ours and back, all 11 networks of the paper that timm has",
    against="timm 1.0.31's state dict",
    tolerance=0,
    unit="absolute",
)
@pytest.mark.parametrize("name", TIMM)
def test_round_trip_with_timm(name: str, deviation: Deviation) -> None:
    theirs = shaken(timm.create_model(name, num_classes=12))
    ours = network_for(name, num_classes=12)
    report = load(ours, theirs.state_dict())
    assert report.fits
    assert not report.adapted
    assert len(report.loaded) == len(report.renamed) == len(theirs.state_dict())
    back = timm_state_dict(ours)
    assert list(back) == list(theirs.state_dict())
    deviation(worst_of(back, theirs.state_dict()))
    again = network_for(name, num_classes=12)
    load(again, back)
    assert_same_state(again, ours)
    fresh = timm.create_model(name, num_classes=12)
    fresh.load_state_dict(back, strict=True)
    assert_same_state(fresh, theirs)


@pytest.mark.proves(
    "Logits after weights were taken over from timm, SAME padding, ε, widths and minimalistic rows included",
    against="timm 1.0.31's networks, random weights and statistics, even, odd and oblong images",
    tolerance=1e-4,
    unit="relative to the spread",
)
@pytest.mark.parametrize("name", TIMM)
def test_outputs_are_timm_s(name: str, deviation: Deviation) -> None:
    theirs = shaken(timm.create_model(name, num_classes=50))
    ours = network_for(name, num_classes=50).eval()
    load(ours, theirs.state_dict())
    for size in SIZES:
        images = pictures(2, 3, *size)
        with torch.no_grad():
            expected = theirs(images)
            assert 0.1 < expected.std() < 100, "neither vanished nor exploded on the way"
            deviation(relative_error(ours(images), expected))


@pytest.mark.parametrize("name", ["mobilenetv3_small_050", "tf_mobilenetv3_small_100"])
def test_training_is_timm_s(name: str) -> None:
    """Momentum and dropout come with the name: after a batch in training the running statistics agree."""
    theirs = shaken(timm.create_model(name, num_classes=5)).train()
    ours = network_for(name, num_classes=5).train()
    load(ours, theirs.state_dict())
    images = pictures(4, 3, 64, 64)
    assert relative_error(ours(images), theirs(images)) < 1e-3
    moved = timm_state_dict(ours)
    for key, expected in theirs.state_dict().items():
        assert torch.allclose(moved[key].double(), expected.double(), rtol=1e-3, atol=1e-4), key


@pytest.mark.parametrize(
    ("name", "norm_eps", "padding"),
    [
        ("mobilenetv3_large_100", 1e-3, "symmetric"),
        ("mobilenetv3_large_100", 1e-5, "same"),
        ("tf_mobilenetv3_large_100", 1e-3, "symmetric"),
        ("tf_mobilenetv3_small_minimal_100", 1e-3, "symmetric"),
    ],
)
def test_wrong_settings_are_refused_and_matter(name: str, norm_eps: float, padding: Any) -> None:
    theirs = shaken(timm.create_model(name, num_classes=9))
    right = config_for(name, num_classes=9)
    ours = MobileNetV3(replace(right, norm_eps=norm_eps, padding=padding)).eval()
    report = refused(ours, theirs.state_dict(), "a timm network has norm_eps=1e-05", "network_for(name)")
    assert len(report.conflicts) == 1
    assert not report.missing
    assert load(ours, theirs.state_dict(), strict=False).conflicts == report.conflicts
    images = pictures(2, 3, 64, 64)
    with torch.no_grad():
        assert relative_error(ours(images), theirs(images)) > 0.01, "the setting makes no difference"


def test_rows_that_timm_does_not_have() -> None:
    described = config.MobileNetV3Config(config.SMALL[:4], 64, 32)
    with pytest.raises(WeightsError, match="rows of Large and Small only"):
        timm_state_dict(MobileNetV3(described))
    with pytest.raises(WeightsError, match="rows of Large and Small only"):
        load(MobileNetV3(described), timm.create_model("mobilenetv3_small_100").state_dict())


def test_the_early_variant_does_not_fit() -> None:
    theirs = timm.create_model("mobilenetv3_rw")
    report = refused(network_for("mobilenetv3_large_100"), theirs.state_dict(), "classifier.0.bias", "fc1.weight")
    assert report.missing == ("classifier.0.bias",)
    assert report.misshaped["features.5.block.2.fc1.bias"] == ((30,), (32,))


# --- torchvision ------------------------------------------------------------------------------------------------------


@pytest.mark.proves(
    "Logits after weights were taken over from torchvision",
    against="torchvision 0.29.2's networks, random weights and statistics",
    tolerance=0,
    unit="absolute",
)
@pytest.mark.parametrize("name", ["mobilenet_v3_large", "mobilenet_v3_small"])
def test_torchvision_s_classification(name: str, deviation: Deviation) -> None:
    theirs = shaken(getattr(models, name)(num_classes=30))
    ours = network_for(name, num_classes=30).eval()
    report = load(ours, theirs.state_dict())
    assert (report.fits, report.renamed, report.adapted) == (True, {}, {})
    assert_same_state(ours, theirs)
    for size in SIZES:
        with torch.no_grad():
            images = pictures(2, 3, *size)
            deviation(worst(ours(images), theirs(images)))
    theirs.load_state_dict(ours.state_dict(), strict=True)


def their_backbone(name: str, network: Any) -> nn.Module:
    """What takes images in: from their maps to the last one."""
    if name.startswith("ssdlite"):
        return network.backbone.features
    return network.backbone.body if name.startswith("fasterrcnn") else network.backbone


def last_map(backbone: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        maps = backbone(images)
    return list(maps.values())[-1] if isinstance(maps, dict) else maps


@pytest.mark.slow
@pytest.mark.proves(
    "The backbone out of torchvision's LR-ASPP, DeepLabV3, SSDLite and Faster R-CNN",
    against="its feature maps in torchvision 0.29.2, random weights and statistics",
    tolerance=0,
    unit="absolute",
)
@pytest.mark.parametrize("name", TASKS)
def test_torchvision_s_other_tasks(name: str, deviation: Deviation) -> None:
    theirs = TASKS[name]()
    backbone = their_backbone(name, theirs)
    state = shaken(theirs, backbone=backbone).state_dict()
    ours = network_for(name, num_classes=3).eval()
    head = {key: tensor.clone() for key, tensor in ours.state_dict().items() if key.startswith("classifier.")}

    report = refused(ours, state, "classifier.0.weight", "part='features'")
    assert report.missing == tuple(head)
    assert report.unexpected == ()

    report = load(ours, state, part="features")
    assert report.fits
    assert not report.adapted
    assert {*report.left_out, *report.renamed.values()} == set(state)
    assert not {*report.left_out} & {*report.renamed.values()}
    filled = ours.state_dict()
    assert all(same_bits(filled[key], tensor) for key, tensor in head.items())
    for size in ((64, 64), (97, 130)):
        images = pictures(1, 3, *size)
        found, expected = last_map(ours.features, images), last_map(backbone, images)
        assert expected.std() > 0.1
        deviation(worst(found, expected))


def test_torchvision_s_faster_rcnn_has_another_eps() -> None:
    """Its batch norm, plain or frozen, is built without the 0.001 of the others; frozen, it counts no batches."""
    name = "fasterrcnn_mobilenet_v3_large_fpn"
    plain = TASKS[name]()
    shaken(plain, backbone=plain.backbone.body)
    frozen = nn.ModuleDict({"backbone": mobilenet_backbone(backbone_name="mobilenet_v3_large", weights=None, fpn=True)})
    assert any(isinstance(module, FrozenBatchNorm2d) for module in frozen.modules())
    frozen["backbone"].load_state_dict(plain.backbone.state_dict())
    for network in (plain, frozen):
        norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d | FrozenBatchNorm2d)]
        assert {norm.eps for norm in norms} == {1e-5}
    refused(mobilenet_v3_large(), frozen.state_dict(), "norm_eps=1e-05", part="features")
    ours = network_for(name).eval()
    report = load(ours, frozen.state_dict(), part="features")
    assert set(report.adapted) == {key for key in ours.state_dict() if key.endswith("num_batches_tracked")}
    images, body = pictures(1, 3, 64, 97), frozen["backbone"].body
    assert relative_error(last_map(ours.features, images), last_map(body, images)) < 1e-4
    other = mobilenet_v3_large().eval()
    load(other, frozen.state_dict(), part="features", strict=False)
    assert relative_error(last_map(other.features, images), last_map(body, images)) > 0.01


def test_ssdlite_needs_its_reduced_tail() -> None:
    theirs = TASKS["ssdlite320_mobilenet_v3_large"]()
    report = refused(mobilenet_v3_large(), theirs.state_dict(), "(80, 672, 1, 1) in the file, (160, 672, 1, 1) here",
                     part="features")  # fmt: skip
    assert report.misshaped["features.13.block.3.0.weight"] == ((80, 672, 1, 1), (160, 672, 1, 1))
    assert not report.missing
    assert not report.unexpected


def test_ssdlite_is_cut_in_the_last_row_with_a_stride() -> None:
    """After its expansion, so it must have one, and it may be the last row of all."""
    narrow, wide = (config.InvertedResidualConfig(8, 3, middle, 8, False, "RE", 1) for middle in (8, 16))
    layout = next(layout for layout in LAYOUTS if layout.name == "ssdlite")

    def names_of(*rows: config.InvertedResidualConfig, ours: tuple[str, ...] = ()) -> list[str]:
        return list(names_in_file(config.MobileNetV3Config(rows, 8, 8), layout, ours).values())

    ours = ("features.1.block.0.0.w", "features.2.block.0.0.w", "features.2.block.1.0.w", "features.3.0.w")
    theirs = ["0.1.block.0.0.w", "0.2.0.w", "1.0.1.0.w", "1.1.0.w"]
    assert names_of(narrow, replace(wide, stride=2), ours=ours) == [f"backbone.features.{name}" for name in theirs]
    for rows in ((replace(narrow, stride=2), wide), (wide, wide)):
        with pytest.raises(WeightsError, match="a last stage that opens with a stride of 2 and an expansion"):
            names_of(*rows)


def test_a_classifier_can_be_left_out() -> None:
    theirs, ours = shaken(models.mobilenet_v3_small()), mobilenet_v3_small(num_classes=4, width_mult=1.0)
    head = ours.classifier[3].weight.clone()
    report = load(ours, theirs.state_dict(), part="features")
    assert report.left_out == tuple(f"classifier.{part}" for part in ("0.weight", "0.bias", "3.weight", "3.bias"))
    assert same_bits(ours.classifier[3].weight, head)
    assert same_bits(ours.features[5].block[0][0].weight, theirs.features[5].block[0][0].weight)
    by_timm = network_for("mobilenetv3_small_100")
    report = load(by_timm, timm.create_model("mobilenetv3_small_100").state_dict(), part="features")
    assert set(report.left_out) == {"conv_head.weight", "conv_head.bias", "classifier.weight", "classifier.bias"}


# --- names ------------------------------------------------------------------------------------------------------------


def test_names_decide_what_they_decide() -> None:
    described = config_for("mobilenetv3_small_050.lamb_in1k", num_classes=10, in_channels=1, stochastic_depth=0.2)
    assert (described.norm_eps, described.norm_momentum, described.padding) == (1e-5, 0.1, "symmetric")
    assert (described.stem_channels, described.last_channel, described.dropout) == (16, 1024, 0.0)
    assert (described.num_classes, described.in_channels, described.stochastic_depth) == (10, 1, 0.2)
    described = config_for("tf_mobilenetv3_large_minimal_100", dropout=0.3)
    assert (described.norm_eps, described.padding, described.dropout) == (1e-3, "same", 0.3)
    assert described.activation == "RE"
    assert config_for("mobilenet_v3_large", width_mult=0.5) == config.large(width_mult=0.5)
    assert config_for("lraspp_mobilenet_v3_large") == config.large(dilated=True)
    with pytest.raises(TypeError, match=r"width_mult must not be given: 'mobilenetv3_small_050' has width_mult=0.5"):
        network_for("mobilenetv3_small_050", width_mult=1.0)
    with pytest.raises(TypeError, match=r"padding must not be given: 'tf_mobilenetv3_small_075' has padding='same'"):
        network_for("tf_mobilenetv3_small_075", padding="symmetric")
    for name in ("mobilenetv3_large_050", "mobilenet_v3", "tf_mobilenetv3_small_050", "", None, 3):
        with pytest.raises(ValueError, match="name must be one of mobilenet_v3_large, "):
            network_for(name)
