"""A network in a file and back: all that it takes to build it, names of classes, and what cannot be saved."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from networks import pictures, refused, shaken
from reference import assert_same_state, same_bits
from torch import nn
from torchvision import models

import mnv3lib
from mnv3lib import MobileNetV3, config, mobilenet_v3_small, weights
from mnv3lib.weights import WeightsError, load, load_network
from mnv3lib.weights.metadata import class_names

TIMM = tuple(name for name in weights.NAMES if "mobilenetv3" in name)
SIZES = ((224, 224), (225, 225), (160, 97), (99, 130))


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
    with pytest.raises(TypeError, match=r"network must be one of this library.s, a MobileNetV3 say, got Linear"):
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


# --- names of classes -------------------------------------------------------------------------------------------------


def test_names_of_classes_come_back(tmp_path: Any) -> None:
    names = ("Katze", "dog, small", "null", "猫\n")
    network = shaken(mobilenet_v3_small(width_mult=0.25, num_classes=4))
    path = weights.save(network, tmp_path / "a.safetensors", classes=list(names))
    found = weights.read(path)
    assert (found.classes, found.kind) == (names, "classification")
    assert json.loads(found.metadata["mnv3lib_classes"]) == list(names)
    again = load_network(path)
    assert again.classes == names
    assert network.classes is None, "saving changes nothing"
    assert load_network(weights.save(again, tmp_path / "b.safetensors")).classes == names
    other = weights.save(again, tmp_path / "c.safetensors", classes=iter("abcd"))
    assert load_network(other).classes == ("a", "b", "c", "d")
    fresh = mobilenet_v3_small(width_mult=0.25, num_classes=4)
    load(fresh, path)
    assert fresh.classes == names
    assert load_network(weights.save(network, tmp_path / "d.safetensors")).classes is None


def test_a_thousand_classes_have_names() -> None:
    names = tuple(map(str, range(1000)))
    assert class_names(iter(names), 1000) == names


def test_names_belong_to_a_last_layer_that_was_copied(tmp_path: Any) -> None:
    network = mobilenet_v3_small(width_mult=0.25, num_classes=2)
    path = weights.save(network, tmp_path / "a.safetensors", classes=("cat", "dog"))
    assert load_network(path, num_classes=2).classes == ("cat", "dog")
    assert load_network(path, num_classes=3).classes is None
    backbone = mobilenet_v3_small(width_mult=0.25, num_classes=2)
    load(backbone, path, part="features")
    assert backbone.classes is None


def test_other_names_of_classes_are_refused(tmp_path: Any) -> None:
    """The same number of outputs, swapped: nothing else would show it."""
    network = mobilenet_v3_small(width_mult=0.25, num_classes=2)
    path = weights.save(network, tmp_path / "a.safetensors", classes=("cat", "dog"))
    ours = mobilenet_v3_small(width_mult=0.25, num_classes=2)
    ours.classes = ("ape", "cat")
    refused(ours, path, "the names of the classes: 'cat' in the file is 'ape' here")
    ours.classes = ("cat", "dog", "ape")
    refused(ours, path, "the names of the classes: 2 in the file is 3 here")
    ours.classes = ("ape", "cat")
    load(ours, path, part="features")
    assert ours.classes == ("ape", "cat")
    ours.classes = ("cat", "dog")
    assert load(ours, path).fits
    three = mobilenet_v3_small(width_mult=0.25, num_classes=3)
    three.classes = ("a", "b", "c")
    load(three, path)
    assert three.classes == ("a", "b", "c"), "their layer is drawn anew"


@pytest.mark.parametrize(("classes", "error", "words"), [
    (("a", "b", "c"), ValueError, "classes must be as many as the network has outputs, 4, got 3"),
    (("a", "b", "c", "d", "e"), ValueError, "classes must be as many as the network has outputs, 4, got 5"),
    ((), ValueError, "classes must be as many as the network has outputs, 4, got 0"),
    (("a", "b", "c", "b"), ValueError, "classes must differ, 'b' is there 2 times"),
    (("a", "b", "c", " "), ValueError, "classes must be text that is not blank, got ' '"),
    (("a", "b", "c", 3), TypeError, "classes must be text, got 3"),
    ("abcd", TypeError, "classes must be a sequence of names, got 'abcd'"),
    (b"abcd", TypeError, "classes must be a sequence of names, got b'abcd'"),
    (4, TypeError, "classes must be a sequence of names, got 4"),
])  # fmt: skip
def test_bad_names_of_classes_are_refused(classes: Any, error: Any, words: str, tmp_path: Any) -> None:
    network = mobilenet_v3_small(width_mult=0.25, num_classes=4)
    with pytest.raises(error, match=words):
        weights.save(network, tmp_path / "a.safetensors", classes=classes)
    network.classes = classes
    with pytest.raises(error, match=words):
        weights.save(network, tmp_path / "a.safetensors")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("written", ["{", '"ab"', "[1, 2]", '["a", "a"]', "null"])
def test_names_in_a_file_that_are_no_good_are_refused(written: str, tmp_path: Any) -> None:
    import safetensors.torch

    network = mobilenet_v3_small(width_mult=0.25, num_classes=2)
    metadata = {"mnv3lib_config": json.dumps(network.config.to_dict()), "mnv3lib_classes": written}
    safetensors.torch.save_file(network.state_dict(), tmp_path / "a.safetensors", metadata)
    with pytest.raises(WeightsError, match=r"a\.safetensors: its names of classes are no good: "):
        load_network(tmp_path / "a.safetensors")


def test_networks_of_another_kind_are_refused(tmp_path: Any) -> None:
    import safetensors.torch

    metadata = {"mnv3lib_kind": "poses", "mnv3lib_config": "{}"}
    safetensors.torch.save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors", metadata)
    assert weights.read(tmp_path / "a.safetensors").kind == "poses"
    with pytest.raises(WeightsError, match=r"is for a network of the kind 'poses', mnv3lib .* builds 'classif"):
        load_network(tmp_path / "a.safetensors")
    with pytest.raises(WeightsError, match=r"is for a network of the kind 'poses', names build 'classif"):
        load_network(tmp_path / "a.safetensors", "mobilenet_v3_small")


# --- what cannot be built again ---------------------------------------------------------------------------------------


def replaced(path: str, module: nn.Module) -> Any:
    def change(network: Any) -> None:
        holder, _, name = path.rpartition(".")
        setattr(network.get_submodule(holder), name, module)

    return change


def with_eps(network: Any) -> None:
    network.features[3].block[0][1].eps = 1e-5


def with_stride(network: Any) -> None:
    network.features[1].block[0][0].stride = (1, 1)


def sparse(network: Any) -> None:
    network.classifier[3].weight = nn.Parameter(network.classifier[3].weight.detach().to_sparse())


CHANGED = {
    "another width": (
        replaced("classifier.3", nn.Linear(256, 7)),
        r"classifier\.3\.weight has the shape \(7, 256\), by the configuration \(4, 256\)",
    ),
    "no bias": (replaced("classifier.3", nn.Linear(256, 4, bias=False)), r"classifier\.3\.bias is missing"),
    "no classifier": (replaced("classifier", nn.Identity()), r"classifier\.0\.weight is missing"),
    "one layer more": (
        lambda network: network.classifier.append(nn.Linear(4, 4)),
        r"classifier\.4\.weight is not in it, classifier\.4\.bias is not in it",
    ),
    "one activation more": (
        lambda network: network.classifier.append(nn.ReLU()),
        r"classifier\.4 is a ReLU, by the configuration not there",
    ),
    "another activation": (
        replaced("classifier.1", nn.ReLU()),
        r"classifier\.1 is a ReLU, by the configuration a Hardswish",
    ),
    "another pooling": (replaced("avgpool", nn.AdaptiveMaxPool2d(1)), "avgpool is a AdaptiveMaxPool2d, by the config"),
    "another norm": (replaced("features.0.1", nn.InstanceNorm2d(8, affine=True, track_running_stats=True)), "Instan"),
    "another eps": (with_eps, r"block\.0\.1 is a batch norm with eps=1e-05, by the configuration .* eps=0\.001"),
    "another stride": (with_stride, r"with stride=\(1, 1\), .* by the configuration .* stride=\(2, 2\)"),
    "a sparse layer": (sparse, r"classifier\.3\.weight is sparse coo"),
    "no numbers": (lambda network: network.to("meta"), r"features\.0\.0\.weight is on the meta device"),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", CHANGED)
def test_a_network_that_its_configuration_does_not_describe_is_not_saved(kind: str, tmp_path: Any) -> None:
    change, words = CHANGED[kind]
    network = mobilenet_v3_small(num_classes=4, width_mult=0.25)
    change(network)
    with pytest.raises(ValueError, match=words) as caught:
        weights.save(network, tmp_path / "a.safetensors")
    assert "network must be what its configuration says" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 800
    assert not list(tmp_path.iterdir())


def test_what_changes_no_number_is_saved(tmp_path: Any) -> None:
    """Settings of training, synchronised batch norm, tensors in shared memory or laid out otherwise, a subclass."""

    class Mine(MobileNetV3):
        pass

    network = shaken(Mine(config.small(num_classes=4, width_mult=0.25)))
    network.classifier[2].p = 0.7
    network.features[0][1].momentum = 0.5
    network.classifier[3].bias = nn.Parameter(torch.arange(8.0)[::2])
    network.features[2].block[0][1].bias = network.features[2].block[0][1].weight
    expected = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    state = torch.get_rng_state()
    path = weights.save(nn.SyncBatchNorm.convert_sync_batchnorm(network), tmp_path / "a.safetensors")
    assert torch.equal(state, torch.get_rng_state())
    again = load_network(path).state_dict()
    assert all(same_bits(tensor, expected[name]) for name, tensor in again.items())


def test_numbers_of_numpy_are_plain_in_a_file(tmp_path: Any) -> None:
    np = pytest.importorskip("numpy")
    described = config.small(
        num_classes=np.int64(5), in_channels=np.uint8(4), width_mult=np.float32(0.25), dropout=np.float32(0.5),
        norm_eps=np.float64(0.01), norm_momentum=np.float16(0.5), stochastic_depth=np.float32(0.25),
    )  # fmt: skip
    assert described == config.small(
        num_classes=5, in_channels=4, width_mult=0.25, dropout=0.5, norm_eps=0.01, norm_momentum=0.5,
        stochastic_depth=0.25,
    )  # fmt: skip
    row = config.InvertedResidualConfig(*map(np.int32, (8, 3, 16, 8)), True, "RE", np.int64(2), np.int8(1))
    described = replace(described, rows=(row,), last_conv=np.int64(16), last_channel=np.uint16(8))
    for part in (described, row):
        for name in part.__dataclass_fields__:
            assert type(getattr(part, name)) in (int, float, str, bool, tuple), name
    again = load_network(weights.save(MobileNetV3(described), tmp_path / "a.safetensors"))
    assert again.config == described
    with pytest.raises(TypeError, match=r"num_classes must be an integer >= 1, got np.float64\(5.0\)"):
        config.small(num_classes=np.float64(5))
    with pytest.raises(ValueError, match="stride must be one of 1, 2, got"):
        replace(row, stride=3)
    with pytest.raises(TypeError, match="stride must be an integer"):
        replace(row, stride=np.float32(1))


def test_rows_must_agree_in_what_no_shape_shows(tmp_path: Any) -> None:
    """Activations, and whether input and output are added; strides and dilation may differ, as for segmentation."""
    rows = (
        config.InvertedResidualConfig(8, 3, 16, 8, False, "RE", 1),
        config.InvertedResidualConfig(8, 3, 16, 8, False, "HS", 1),
    )
    described = config.MobileNetV3Config(rows, 16, 8, num_classes=2)
    path = weights.save(MobileNetV3(described), tmp_path / "a.safetensors")

    def report(**changes: Any) -> weights.Report:
        return load(MobileNetV3(replace(described, **changes)), path, strict=False)

    other = report(rows=(rows[0], replace(rows[1], stride=2)))
    assert other.conflicts == ("row 2 was trained with a shortcut, here it is without a shortcut",)
    other = report(rows=(rows[0], replace(rows[1], activation="RE")))
    assert other.conflicts == ("row 2 was trained with activation='HS', here it has 'RE'",)
    assert report(activation="RE").conflicts == ("trained with activation='HS', this network has 'RE'",)
    assert report(padding="same").conflicts == ("trained with padding='symmetric', this network has 'same'",)
    assert report(norm_eps=0.002).conflicts == ("trained with norm_eps=0.001, this network has 0.002",)
    free = {
        "norm_momentum": 0.5,
        "dropout": 0.9,
        "stochastic_depth": 0.5,
        "rows": (rows[0], replace(rows[1], dilation=2)),
    }
    assert report(**free).fits
