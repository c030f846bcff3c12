"""Weights that differ from the network: adapted as said, or refused with a list and nothing changed."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
from networks import PLAIN, TASKS, pictures, refused, shaken, snapshot
from reference import assert_same_state, relative_error, same_bits
from timm.models._manipulate import adapt_input_conv
from torch import nn
from torchvision import models

import mnv3lib
from mnv3lib import mobilenet_v3_small, weights
from mnv3lib.weights import load, network_for

TIMM = tuple(name for name in weights.NAMES if "mobilenetv3" in name)
SIZES = ((224, 224), (225, 225), (160, 97), (99, 130))


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
    words = "features.0.0.weight: (16, 3, 3, 3) in the file, (8, 3, 3, 3) here"
    report = refused(mobilenet_v3_small(width_mult=0.5), mobilenet_v3_small().state_dict(), words)
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

    refused(
        alike(2), alike(3).state_dict(), "of another shape (10): classifier.0.weight: (3, 4) in the file, (2, 4) here"
    )


def test_a_convolution_of_others_stays_one() -> None:
    """Only timm keeps the hidden layer, which is linear here, as a convolution of one pixel."""
    ours, theirs = (nn.ModuleDict({"classifier": nn.Sequential(nn.Conv2d(4, 3, 1))}) for _ in range(2))
    assert load(ours, theirs.state_dict()).fits
    assert_same_state(ours, theirs)


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
    with pytest.raises(TypeError, match="positional"):
        load(ours, {}, "features")
    with pytest.raises(TypeError, match="source must be a path, an address, a hub id or a state dict, got None"):
        load(ours, None)
    with torch.device("meta"):
        empty = mobilenet_v3_small()
    with pytest.raises(ValueError, match="meta device"):
        load(empty, mobilenet_v3_small().state_dict())
