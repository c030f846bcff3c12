"""Weights between libraries: names, settings, heads, channels; a network filled whole or left as it was."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import timm
import torch
from ledger import Deviation, worst, worst_of
from reference import assert_same_state, batch, calibrate, relative_error, same_bits
from timm.models._manipulate import adapt_input_conv
from torch import Tensor, nn
from torchvision import models
from torchvision.models.detection.backbone_utils import mobilenet_backbone
from torchvision.ops.misc import FrozenBatchNorm2d

import mnv3lib
from mnv3lib import MobileNetV3, config, mobilenet_v3_large, mobilenet_v3_small, weights
from mnv3lib.weights import WeightsError, config_for, load, load_network, network_for, timm_state_dict

TIMM = tuple(name for name in weights.NAMES if "mobilenetv3" in name)
SIZES = ((224, 224), (225, 225), (160, 97), (99, 130))


def pictures(*shape: int, seed: int = 5) -> Tensor:
    """Images with coarse patches and noise, each of another contrast, so that maps differ from image to image."""
    generator = torch.Generator().manual_seed(seed)
    number, channels, *side = shape
    patches = nn.functional.interpolate(torch.rand(number, channels, 5, 5, generator=generator), side, mode="bilinear")
    return 2 * patches * torch.rand(number, channels, 1, 1, generator=generator) + 0.3 * batch(*shape, seed=seed)


def shaken(network: nn.Module, seed: int = 0, trunk: nn.Module | None = None) -> nn.Module:
    """Random weights and statistics, all away from where they start; maps stay of moderate size, and ε shows.

    Channels differ in size by up to 30, so that variances come near ε. The statistics are those of random images,
    randomly off; ``trunk`` is what takes images in, if the network as a whole does not.
    """
    generator = torch.Generator().manual_seed(seed)

    def drawn(like: Tensor, low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(like.shape, generator=generator)

    trunk = network if trunk is None else trunk
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.weight.copy_(drawn(module.weight, -1, 1) * (3 / module.weight[0].numel()) ** 0.5)
                if module.bias is None:
                    module.weight.mul_(10 ** drawn(module.weight[:, :1, :1, :1], -1.5, 0))
                else:
                    module.bias.copy_(drawn(module.bias, -0.5, 0.5))
            elif isinstance(module, nn.BatchNorm2d):
                module.weight.copy_(drawn(module.weight, 0.5, 1.5))
                module.bias.copy_(drawn(module.bias, -0.5, 0.5))
        first = next(module for module in trunk.modules() if isinstance(module, nn.Conv2d))
        calibrate(trunk, pictures(8, first.in_channels, 128, 128, seed=seed))
        for module in trunk.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.add_(drawn(module.running_mean, -0.3, 0.3) * module.running_var.sqrt())
                module.running_var.mul_(drawn(module.running_var, 0.7, 1.4))
                module.num_batches_tracked.fill_(7)
    return network.eval()


def snapshot(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def refused(network: nn.Module, source: Any, *words: str, **options: Any) -> weights.Report:
    """``load`` raises with all ``words`` in its message, and leaves the network and the random numbers as they were."""
    before, state = snapshot(network), torch.get_rng_state()
    with pytest.raises(WeightsError) as caught:
        load(network, source, **options)
    for word in words:
        assert word in str(caught.value), f"no {word!r} in {caught.value}"
    assert all(same_bits(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())
    report = caught.value.report
    assert report is not None
    assert not report.fits
    return report


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


PLAIN = {"weights": None, "weights_backbone": None}
TASKS = {
    "lraspp_mobilenet_v3_large": partial(models.segmentation.lraspp_mobilenet_v3_large, **PLAIN),
    "deeplabv3_mobilenet_v3_large": partial(models.segmentation.deeplabv3_mobilenet_v3_large, aux_loss=True, **PLAIN),
    "ssdlite320_mobilenet_v3_large": partial(models.detection.ssdlite320_mobilenet_v3_large, **PLAIN),
    "fasterrcnn_mobilenet_v3_large_fpn": partial(models.detection.fasterrcnn_mobilenet_v3_large_fpn, **PLAIN),
    "fasterrcnn_mobilenet_v3_large_320_fpn": partial(models.detection.fasterrcnn_mobilenet_v3_large_320_fpn, **PLAIN),
}


def their_trunk(name: str, network: Any) -> nn.Module:
    """What takes images in: from their maps to the last one."""
    if name.startswith("ssdlite"):
        return network.backbone.features
    return network.backbone.body if name.startswith("fasterrcnn") else network.backbone


def last_map(trunk: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        maps = trunk(images)
    return list(maps.values())[-1] if isinstance(maps, dict) else maps


@pytest.mark.proves(
    "The trunk out of torchvision's LR-ASPP, DeepLabV3, SSDLite and Faster R-CNN",
    against="its maps in torchvision 0.29.2, random weights and statistics",
    tolerance=0,
    unit="absolute",
)
@pytest.mark.parametrize("name", TASKS)
def test_torchvision_s_other_tasks(name: str, deviation: Deviation) -> None:
    theirs = TASKS[name]()
    trunk = their_trunk(name, theirs)
    state = shaken(theirs, trunk=trunk).state_dict()
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
    assert all(same_bits(ours.state_dict()[key], tensor) for key, tensor in head.items())
    for size in ((64, 64), (97, 130)):
        images = pictures(1, 3, *size)
        found, expected = last_map(ours.features, images), last_map(trunk, images)
        assert expected.std() > 0.1
        deviation(worst(found, expected))


def test_torchvision_s_faster_rcnn_has_another_eps() -> None:
    """Its batch norm, plain or frozen, is built without the 0.001 of the others; frozen, it counts no batches."""
    name = "fasterrcnn_mobilenet_v3_large_fpn"
    plain = TASKS[name]()
    shaken(plain, trunk=plain.backbone.body)
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


# --- heads and channels -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["timm", "torchvision"])
def test_another_number_of_classes_draws_the_last_layer_anew(source: str) -> None:
    if source == "timm":
        theirs, ours = (
            shaken(timm.create_model("mobilenetv3_small_100")),
            network_for("mobilenetv3_small_100", num_classes=6),
        )
    else:
        theirs, ours = shaken(models.mobilenet_v3_small()), mobilenet_v3_small(num_classes=6)
    shaken(ours, seed=1)
    old = ours.classifier[3].weight.clone()
    torch.manual_seed(3)
    report = load(ours, theirs.state_dict())
    assert report.fits
    words = "1000 classes in the file, 6 here: drawn anew"
    assert dict(report.adapted) == {"classifier.3.weight": words, "classifier.3.bias": words}
    assert "drawn anew" in str(report)
    assert not set(report.adapted) & set(report.loaded)
    assert {*report.adapted, *report.loaded} == set(ours.state_dict())
    torch.manual_seed(3)
    assert same_bits(ours.classifier[3].weight, nn.init.normal_(torch.empty(6, 1024), 0, 0.01))
    assert not same_bits(ours.classifier[3].weight, old)
    assert not ours.classifier[3].bias.any()
    report = refused(ours, theirs.state_dict(), "(1000, 1024) in the file, (6, 1024) here", adapt=("in_channels",))
    assert set(report.misshaped) == {"classifier.3.weight", "classifier.3.bias"}


@pytest.mark.parametrize("channels", [1, 2, 4, 6, 7])
def test_another_number_of_channels_is_adapted_as_timm_does(channels: int) -> None:
    theirs = shaken(models.mobilenet_v3_small())
    ours = mobilenet_v3_small(in_channels=channels)
    report = load(ours, theirs.state_dict())
    stem = theirs.features[0][0].weight.detach()
    assert same_bits(ours.features[0][0].weight, adapt_input_conv(channels, stem.clone()))
    assert list(report.adapted) == ["features.0.0.weight"]
    assert report.fits
    refused(ours, theirs.state_dict(), f"(16, 3, 3, 3) in the file, (16, {channels}, 3, 3) here", adapt=["num_classes"])


def test_a_grey_image_gives_the_same_in_one_channel() -> None:
    theirs = shaken(models.mobilenet_v3_small(num_classes=7))
    ours = mobilenet_v3_small(num_classes=7, in_channels=1).eval()
    load(ours, theirs.state_dict())
    grey = pictures(3, 1, 64, 64)
    with torch.no_grad():
        assert relative_error(ours(grey), theirs(grey.expand(-1, 3, -1, -1))) < 1e-4


def test_only_three_channels_are_adapted() -> None:
    one = mobilenet_v3_small(in_channels=1)
    report = refused(mobilenet_v3_small(), one.state_dict(), "(16, 1, 3, 3) in the file, (16, 3, 3, 3) here")
    assert set(report.misshaped) == {"features.0.0.weight"}
    refused(mobilenet_v3_small(width_mult=2.0, in_channels=5), mobilenet_v3_small().state_dict(), "features.0.0.weight")


# --- what does not fit ------------------------------------------------------------------------------------------------


def test_everything_that_does_not_fit_is_listed() -> None:
    ours = shaken(mobilenet_v3_small(num_classes=4))
    state = snapshot(mobilenet_v3_small(num_classes=4))
    del state["features.3.block.1.0.weight"], state["classifier.3.bias"]
    state["features.99.weight"] = state["extra"] = torch.zeros(1)
    state["features.4.block.0.0.weight"] = torch.zeros(5, 4)
    state["classifier.0.bias"] = torch.zeros(())
    words = ["features.3.block.1.0.weight", "classifier.3.bias", "features.99.weight", "extra", "nothing was loaded",
             "features.4.block.0.0.weight: (5, 4) in the file, (96, 24, 1, 1) here"]  # fmt: skip
    report = refused(ours, state, *words)
    assert report.missing == ("features.3.block.1.0.weight", "classifier.3.bias")
    assert report.unexpected == ("features.99.weight", "extra")
    assert dict(report.misshaped) == {
        "features.4.block.0.0.weight": ((5, 4), (96, 24, 1, 1)),
        "classifier.0.bias": ((), (1024,)),
    }
    before = snapshot(ours)
    again = load(ours, state, strict=False)
    assert again == report
    kept = {*again.missing, *again.misshaped}
    for name, tensor in ours.state_dict().items():
        assert same_bits(tensor, before[name] if name in kept else state[name]), name
    assert {*again.loaded, *kept} == set(ours.state_dict())


def test_a_wide_network_does_not_fit_a_narrow_file() -> None:
    report = refused(mobilenet_v3_small(width_mult=0.5), mobilenet_v3_small().state_dict(), "features.12.0.weight")
    assert len(report.misshaped) > 100
    assert "classifier.3.weight" in report.misshaped, "another hidden layer is not another number of classes"


def test_a_missing_counter_is_missing_only_among_others() -> None:
    state = snapshot(shaken(mobilenet_v3_small()))
    counters = [name for name in state if name.endswith("num_batches_tracked")]
    for name in counters[1:]:
        del state[name]
    refused(mobilenet_v3_small(), state, counters[1])
    del state[counters[0]]
    ours = shaken(mobilenet_v3_small(), seed=1)
    assert set(load(ours, state).adapted) == set(counters)
    assert {int(ours.state_dict()[name]) for name in counters} == {0}


def test_types_of_numbers() -> None:
    ours = mobilenet_v3_small(num_classes=3)
    state = {
        name: t.half() if t.is_floating_point() else t for name, t in snapshot(shaken(copy.deepcopy(ours))).items()
    }
    report = load(ours, state)
    assert report.fits
    assert report.adapted["classifier.3.bias"] == "float16 in the file, float32 here"
    assert torch.equal(ours.classifier[3].bias, state["classifier.3.bias"].float())
    state["classifier.3.bias"] = torch.zeros(3, dtype=torch.int8)
    report = refused(ours, state, "classifier.3.bias: int8 in the file, float32 here")
    assert len(report.conflicts) == 1
    load(ours.half(), snapshot(shaken(mobilenet_v3_small(num_classes=3))))
    assert ours.features[0][0].weight.dtype is torch.float16


def test_training_wrappers_are_taken_off() -> None:
    trained = shaken(mobilenet_v3_small(num_classes=3))
    average = torch.optim.swa_utils.AveragedModel(nn.DataParallel(trained))
    ours = mobilenet_v3_small(num_classes=3)
    state = {name.removeprefix("module."): t for name, t in average.state_dict().items() if name != "n_averaged"}
    assert next(iter(state)) == "module.features.0.0.weight"
    report = load(ours, state)
    assert report.renamed["features.0.0.weight"] == "module.features.0.0.weight"
    assert_same_state(ours, trained)
    ours = mobilenet_v3_small(num_classes=3)
    state = torch.optim.swa_utils.AveragedModel(trained).state_dict()
    assert load(ours, state).left_out == ("n_averaged",)
    assert_same_state(ours, trained)


def test_other_modules_take_their_own_names() -> None:
    taps = mnv3lib.FeatureTaps(shaken(mobilenet_v3_small()), [3, 5])
    other = mnv3lib.FeatureTaps(mobilenet_v3_small(), [3, 5])
    report = load(other, taps.state_dict())
    assert report.fits
    assert_same_state(other, taps)
    head, wider = nn.Linear(4, 3), nn.Linear(4, 5)
    report = refused(head, wider.state_dict(), "weight: (5, 4) in the file, (3, 4) here")
    theirs = models.segmentation.lraspp_mobilenet_v3_large(**PLAIN)
    again = models.segmentation.lraspp_mobilenet_v3_large(**PLAIN)
    assert load(again, theirs.state_dict()).fits
    assert_same_state(again, theirs)


@pytest.mark.slow
@pytest.mark.parametrize("name", TASKS)
def test_other_tasks_keep_their_last_layers_if_the_classes_differ(name: str) -> None:
    theirs, ours = TASKS[name](num_classes=21), TASKS[name](num_classes=5)
    before, state = snapshot(ours), theirs.state_dict()
    differing = {key for key, tensor in before.items() if state[key].shape != tensor.shape}
    assert len(differing) == {"lraspp": 4, "deeplabv3": 4, "ssdlite320": 12, "fasterrcnn": 4}[name.partition("_")[0]]
    report = load(ours, state)
    assert report.fits
    assert set(report.adapted) == differing
    assert all(text.endswith("here: left as it was") for text in report.adapted.values())
    for key, tensor in ours.state_dict().items():
        assert same_bits(tensor, before[key] if key in differing else state[key])
    refused(ours, state, "in the file, (", adapt=["in_channels"])


def test_nothing_is_guessed_of_a_network_that_nobody_knows() -> None:
    def alike(width: int) -> nn.Module:
        return nn.ModuleDict({"classifier": nn.Sequential(*(nn.Linear(4, width) for _ in range(5)))})

    refused(alike(2), alike(3).state_dict(), "classifier.3.weight: (3, 4) in the file, (2, 4) here")


def test_bad_arguments() -> None:
    ours = mobilenet_v3_small(num_classes=2, width_mult=0.25)
    for options, error, words in (
        ({"part": "classifier"}, ValueError, "part must be one of 'all', 'features', got 'classifier'"),
        ({"strict": 1}, TypeError, "strict must be True or False, got 1"),
        ({"adapt": ("classes",)}, ValueError, "adapt must be one of 'num_classes', 'in_channels', got 'classes'"),
    ):
        with pytest.raises(error, match=words):
            load(ours, {}, **options)
    with pytest.raises(TypeError, match=r"network must be a torch\.nn\.Module, got 3"):
        load(3, {})
    with pytest.raises(TypeError, match="source must be a path, an address, a hub id or a state dict, got None"):
        load(ours, None)
    with torch.device("meta"):
        empty = mobilenet_v3_small()
    with pytest.raises(ValueError, match="meta device"):
        load(empty, mobilenet_v3_small().state_dict())


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


# --- a network from a file alone --------------------------------------------------------------------------------------


def test_a_saved_network_is_built_from_its_file(tmp_path: Any) -> None:
    from safetensors import safe_open

    network = shaken(
        MobileNetV3(config.large(width_mult=0.35, padding="same", dilated=True, num_classes=5, norm_eps=1e-4))
    )
    path = weights.save(network, tmp_path / "new" / "mine.safetensors", metadata={"command": "make"})
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    assert metadata["mnv3lib_version"] == mnv3lib.__version__
    assert json.loads(metadata["mnv3lib_config"])["num_classes"] == int(metadata["num_classes"]) == 5
    assert metadata["command"] == "make"
    again = load_network(path).eval()
    assert again.config == network.config
    assert_same_state(again, network)
    images = pictures(2, 3, 50, 41)
    with torch.no_grad():
        assert same_bits(again(images), network(images))
    assert load(again, str(path)).fits

    fewer = load_network(path, num_classes=2, in_channels=1, dropout=0.7)
    assert (fewer.config.num_classes, fewer.config.in_channels, fewer.config.dropout) == (2, 1, 0.7)
    assert same_bits(fewer.features[3].block[0][0].weight, network.features[3].block[0][0].weight)
    with pytest.raises(WeightsError, match=r"trained with padding='same', this network has 'symmetric'"):
        load_network(path, padding="symmetric")
    with pytest.raises(TypeError, match="classes"):
        load_network(path, classes=3)


def test_saving_any_layout_and_type(tmp_path: Any) -> None:
    network = (
        shaken(mobilenet_v3_small(width_mult=0.35, num_classes=2)).to(memory_format=torch.channels_last).bfloat16()
    )
    path = weights.save(network, tmp_path / "a.safetensors")
    kept = weights.read(path).tensors
    assert all(torch.equal(kept[name], tensor) for name, tensor in network.state_dict().items())
    assert {tensor.dtype for tensor in kept.values()} == {torch.bfloat16, torch.int64}
    again = load_network(path)
    assert torch.equal(again.features[1].block[0][0].weight, network.features[1].block[0][0].weight.float())


def test_saving_refuses_what_it_could_not_read(tmp_path: Any) -> None:
    path = tmp_path / "a.safetensors"
    network = mobilenet_v3_small(width_mult=0.25, num_classes=2)
    with pytest.raises(TypeError, match="network must be a MobileNetV3, got Linear"):
        weights.save(nn.Linear(2, 2), path)
    with pytest.raises(TypeError, match="metadata must be text by name, got 'epoch': 3"):
        weights.save(network, path, metadata={"epoch": 3})
    with pytest.raises(ValueError, match="metadata must not have the name 'mnv3lib_config'"):
        weights.save(network, path, metadata={"mnv3lib_config": ""})
    assert not list(tmp_path.iterdir())


def test_settings_of_a_saved_network_are_compared(tmp_path: Any) -> None:
    path = weights.save(mobilenet_v3_small(num_classes=3, width_mult=0.25), tmp_path / "a.safetensors")
    report = refused(mobilenet_v3_small(num_classes=3, width_mult=0.25, norm_eps=1e-5), path, "norm_eps=0.001")
    assert len(report.conflicts) == 1
    assert load(mobilenet_v3_small(num_classes=3, width_mult=0.25, dilated=True), path).fits, "dilation is free"
    described = config.small(num_classes=3, width_mult=0.25)
    hard = [replace(row, activation="RE") for row in described.rows]
    report = refused(MobileNetV3(replace(described, rows=hard)), path, "row 4 was trained with")
    assert len(report.conflicts) == 8


def test_files_that_do_not_say_what_they_are(tmp_path: Any) -> None:
    path = tmp_path / "plain.pth"
    torch.save(models.mobilenet_v3_small(num_classes=4).state_dict(), path)
    with pytest.raises(WeightsError, match="does not say which network it is for"):
        load_network(path)
    assert load_network(path, "mobilenet_v3_small", num_classes=4).config == config.small(num_classes=4)
    assert load_network(path, "mobilenet_v3_small", num_classes=9).config.num_classes == 9
    with pytest.raises(WeightsError, match=r"\(4, 1024\) in the file, \(1000, 1024\) here"):
        load_network(path, "mobilenet_v3_small")

    import safetensors.torch

    for written, words in (("{", "no good"), ('{"rows": []}', "last_conv"), ('{"future": 1}', "newer version")):
        metadata = {"mnv3lib_config": written, "mnv3lib_version": "9.9"}
        safetensors.torch.save_file({"a": torch.zeros(1)}, tmp_path / "b.safetensors", metadata)
        with pytest.raises(WeightsError, match=words) as caught:
            load_network(tmp_path / "b.safetensors")
        assert "mnv3lib 9.9" in str(caught.value)
