"""Networks for segmentation and detection in files and back, and their backbones filled from other networks' files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from networks import TASKS, refused, small_network
from reference import assert_same_state, batch, same_bits
from torch import nn

import mnv3lib
from mnv3lib import weights
from mnv3lib.detectors import FasterRCNNConfig, SSDLiteConfig, fasterrcnn, ssdlite
from mnv3lib.heads import DeepLabV3Config, LRASPPConfig, deeplabv3, lraspp
from mnv3lib.tasks import builders
from mnv3lib.weights import WeightsError, load, load_network

Config = LRASPPConfig | DeepLabV3Config | SSDLiteConfig | FasterRCNNConfig
TINY: dict[str, Any] = {"width_mult": 0.25, "num_classes": 4}
#: One of each network, with options that a file has to keep.
CONFIGS: dict[str, Config] = {
    "lraspp": lraspp("small", **TINY, form="paper", inter_channels=16, norm_eps=0.01),
    "deeplabv3": deeplabv3("small", **TINY, aux_loss=True, atrous_rates=(2, 5), dilated=False),
    "ssdlite": ssdlite("small", **TINY, size=64, fewer_boxes=True, trainable_layers=2),
    "fasterrcnn": fasterrcnn("small", **TINY, frozen_norm=True, full_pyramid=True, min_size=48, max_size=80),
}
KINDS = {"lraspp": "segmentation", "deeplabv3": "segmentation", "ssdlite": "detection", "fasterrcnn": "detection"}
#: Faster R-CNN is the largest by far: `make quick` leaves it out where all four are asked the same.
each_network = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name == "fasterrcnn" else ()) for name in CONFIGS]
)
NAMES = ("background", "cat", "dog, small", "猫")


def network_of(name: str, seed: int = 0) -> Any:
    """A network whose numbers have all moved away from where they start."""
    torch.manual_seed(seed)
    network: Any = builders.build(CONFIGS[name])
    with torch.no_grad():
        for tensor in network.state_dict().values():
            if tensor.dtype.is_floating_point:
                tensor.add_(0.1 * torch.rand_like(tensor))
    return network.eval()


def found_by(network: Any) -> list[torch.Tensor]:
    """What a network gives for an image, as tensors."""
    network.eval()
    with torch.no_grad():
        if hasattr(network, "classifier"):
            return list(network(batch(1, 3, 40, 56)).values())
        return [tensor for one in network([batch(3, 40, 56)]) for tensor in one.values()]


@each_network
def test_there_and_back(name: str, tmp_path: Path) -> None:
    network = network_of(name)
    path = weights.save(network, tmp_path / "a.safetensors", classes=NAMES, metadata={"command": "make"})
    file = weights.read(path)
    assert (file.kind, file.classes) == (KINDS[name], NAMES)
    assert file.metadata["mnv3lib_network"] == name
    assert json.loads(file.metadata["mnv3lib_config"])["num_classes"] == int(file.metadata["num_classes"]) == 4
    again = load_network(path)
    assert type(again) is type(network)
    assert again.config == network.config
    assert again.classes == NAMES
    assert network.classes is None, "saving changes nothing"
    assert_same_state(again, network)
    learning = [[p.requires_grad for p in one.parameters()] for one in (again, network)]
    assert learning[0] == learning[1]
    assert all(map(same_bits, found_by(again), found_by(network)))
    assert load(again, str(path)).fits
    assert load_network(weights.save(again, tmp_path / "b.safetensors")).classes == NAMES


@pytest.mark.parametrize("name", CONFIGS)
def test_a_configuration_is_plain_data(name: str) -> None:
    config = CONFIGS[name]
    plain = json.loads(json.dumps(config.to_dict()))
    assert type(config).from_dict(plain) == config
    assert type(config).from_dict({"backbone": plain["backbone"]}).num_classes in (21, 91), "the rest has defaults"
    with pytest.raises(ValueError, match=r"config has unknown keys \['future'\]"):
        type(config).from_dict({**plain, "future": 1})
    with pytest.raises(ValueError, match=r"config must have the keys \['backbone'\]"):
        type(config).from_dict({})


@each_network
def test_another_number_of_classes(name: str, tmp_path: Path) -> None:
    """The last layers are fresh, and everything else is the file's."""
    network = network_of(name)
    path = weights.save(network, tmp_path / "a.safetensors", classes=NAMES)
    fewer = load_network(path, num_classes=2)
    assert (fewer.config.num_classes, fewer.classes) == (2, None)
    ours, theirs = fewer.state_dict(), network.state_dict()
    differing = [key for key in theirs if ours[key].shape != theirs[key].shape]
    last = {"lraspp": 2, "deeplabv3": 2, "ssdlite": 6, "fasterrcnn": 2}[name]
    assert len(differing) == 2 * last
    assert all(same_bits(ours[key], theirs[key]) for key in theirs if key not in differing)
    with pytest.raises(TypeError, match="unexpected keyword argument 'num_clases'; did you mean 'num_classes'"):
        load_network(path, num_clases=2)


@each_network
def test_files_of_other_networks_are_refused(name: str, tmp_path: Path) -> None:
    path = weights.save(network_of(name), tmp_path / "a.safetensors", classes=NAMES)
    with pytest.raises(WeightsError, match=f"of the kind '{KINDS[name]}', names build 'classification' only"):
        load_network(path, "mobilenet_v3_small")
    for other in CONFIGS:
        if other != name:
            assert refused(network_of(other), path, "missing from the file").missing
    assert "classifier.0.weight" in refused(small_network(), path, "missing from the file").missing
    assert refused(network_of(name), small_network().state_dict(), "missing from the file").missing


def test_what_no_shape_shows_is_compared(tmp_path: Path) -> None:
    paths = {name: weights.save(network_of(name), tmp_path / f"{name}.safetensors") for name in CONFIGS}
    form = builders.build(lraspp("small", **TINY, inter_channels=16, norm_eps=0.01, reduced_tail=True))
    report = refused(form, paths["lraspp"], "of another shape")
    assert "trained with form='paper', this network has 'torchvision'" in report.conflicts
    rates = builders.build(deeplabv3("small", **TINY, aux_loss=True, atrous_rates=(2, 6), dilated=False))
    report = refused(rates, paths["deeplabv3"], "trained with atrous_rates=(2, 5), this network has (2, 6)")
    assert len(report.conflicts) == 1
    eps = builders.build(ssdlite("small", **TINY, fewer_boxes=True, norm_eps=0.01))
    refused(eps, paths["ssdlite"], "trained with norm_eps=0.001, this network has 0.01")
    # Where and how large images are read is free.
    free = builders.build(ssdlite("small", **TINY, fewer_boxes=True, size=96, dilated=True))
    assert load(free, paths["ssdlite"]).fits


def test_classes_that_mean_something_else_are_refused(tmp_path: Path) -> None:
    path = weights.save(network_of("ssdlite"), tmp_path / "a.safetensors", classes=NAMES)
    network = network_of("ssdlite", 1)
    network.classes = ("background", "ape", "dog, small", "猫")
    refused(network, path, "the names of the classes: 'cat' in the file is 'ape' here")
    load(network, path, part="features")
    assert network.classes[1] == "ape"


CHANGED: dict[str, tuple[str, Any, str]] = {
    "a layer": ("lraspp", lambda net: setattr(net.classifier, "scale", nn.Identity()), "classifier.scale"),
    "a rate": ("deeplabv3", lambda net: setattr(net.classifier[0].convs[1][0], "dilation", (9, 9)), "dilation=(9, 9)"),
    "a threshold": ("ssdlite", lambda net: setattr(net, "score_thresh", 0.5), "score_thresh is 0.5, by the conf"),
    "a size": ("ssdlite", lambda net: setattr(net.transform, "fixed_size", (9, 9)), "transform.fixed_size is (9, 9)"),
    "proposals": (
        "fasterrcnn",
        lambda net: net.rpn._post_nms_top_n.update(testing=3),
        "rpn._post_nms_top_n is {'training': 2000, 'testing': 3}",
    ),
    "a fixed norm's eps": ("fasterrcnn", lambda net: setattr(net.backbone.body["0"][1], "eps", 0.5), "with eps=0.5"),
    "no configuration": ("lraspp", lambda net: setattr(net, "config", CONFIGS["ssdlite"]), "got LRASPP"),
}


@pytest.mark.parametrize("kind", CHANGED)
def test_what_its_configuration_does_not_describe_is_not_saved(kind: str, tmp_path: Path) -> None:
    name, change, words = CHANGED[kind]
    network = network_of(name)
    change(network)
    with pytest.raises((TypeError, ValueError)) as caught:
        weights.save(network, tmp_path / "a.safetensors")
    assert words in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["ssdlite", "fasterrcnn"])
def test_a_detector_that_has_worked_is_saved(name: str, tmp_path: Path) -> None:
    """What it keeps from image to image decides nothing."""
    network = network_of(name)
    found_by(network)
    target = {"boxes": torch.tensor([[4.0, 6, 30, 39]]), "labels": torch.tensor([1])}
    network.train()([batch(3, 40, 56)] * 2, [target] * 2)
    assert load_network(weights.save(network, tmp_path / "a.safetensors")).config == network.config


def damaged(changes: dict[str, str | None], path: Path) -> Path:
    """A file whose metadata are others, and whose checksum is left out."""
    network = network_of("ssdlite")
    weights.save(network, path)
    metadata = {**weights.read(path).metadata, "mnv3lib_sha256": None, **changes}
    kept = {key: text for key, text in metadata.items() if text is not None}
    safetensors.torch.save_file(network.state_dict(), path, kept)
    return path


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"mnv3lib_kind": "detecting"}, "of the kind 'detecting', mnv3lib .* builds 'classification', 'segmentation', "
         "'detection' only; did you mean 'detection'"),
        ({"mnv3lib_kind": "segmentation"}, "mnv3lib_network must be one of 'lraspp', 'deeplabv3', got 'ssdlite'"),
        ({"mnv3lib_network": None}, "mnv3lib_network must be one of 'ssdlite', 'fasterrcnn', got None"),
        ({"mnv3lib_network": "ssd"}, "must be one of .*, got 'ssd'; did you mean 'ssdlite'"),
        ({"mnv3lib_network": "fasterrcnn"}, r"no good: config has unknown keys \['fewer_boxes', 'size'\]"),
        ({"mnv3lib_config": "{"}, "the configuration, by mnv3lib .*, is no good"),
        ({"mnv3lib_config": "{}"}, r"no good: config must have the keys \['backbone'\]"),
        ({"mnv3lib_config": '{"backbone": 3}'}, "no good: config must be a dictionary, got 3"),
        ({"mnv3lib_classes": '["a", "a", "b", "c"]'}, "its names of classes are no good"),
        ({"mnv3lib_config": None}, "does not say which network it is for"),
    ],
)  # fmt: skip
def test_damaged_metadata_is_named(changes: dict[str, str | None], words: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=words) as caught:
        load_network(damaged(changes, tmp_path / "a.safetensors"))
    assert len(str(caught.value).splitlines()) == 1


def test_damaged_numbers_are_found(tmp_path: Path) -> None:
    path = weights.save(network_of("lraspp"), tmp_path / "a.safetensors")
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    with pytest.raises(WeightsError, match="is damaged, or another program changed it"):
        load_network(path)


# --- backbones --------------------------------------------------------------------------------------------------------


@each_network
def test_a_backbone_from_any_file(name: str, tmp_path: Path) -> None:
    """From a classification in our names and in timm's, and from each of the others, wrapped and not."""
    theirs = small_network(1)
    states = {
        "torchvision's classification network, and ours": theirs.state_dict(),
        "a timm network": weights.timm_state_dict(theirs),
        "wrapped": {f"module.model.{key}": value for key, value in theirs.state_dict().items()},
    }
    for kind, described in {"lraspp": lraspp, "deeplabv3": deeplabv3}.items():
        other: Any = builders.build(described("small", **TINY))
        other.backbone.load_state_dict(theirs.features.state_dict())
        states[kind] = other.state_dict()
    described: Any = {"lraspp": lraspp, "deeplabv3": deeplabv3, "ssdlite": ssdlite, "fasterrcnn": fasterrcnn}[name]
    settings: dict[str, Any] = {"reduced_tail": False}
    expected = None
    for words, state in states.items():
        torch.manual_seed(0)
        settings["norm_eps"] = 1e-5 if "timm" in words else 0.001
        network: Any = builders.build(described("small", **TINY, **settings))
        head = {key: value.clone() for key, value in network.state_dict().items()}
        report = load(network, state, part="features")
        assert report.fits
        filled = network.state_dict()
        found = {key: filled[key] for key in report.loaded}
        assert len(found) == len(theirs.features.state_dict())
        assert all(same_bits(filled[key], head[key]) for key in head if key not in found)
        if "network" in words:
            assert report.layout == words
        if expected is not None:
            assert found.keys() == expected.keys()
            assert all(same_bits(found[key], expected[key]) for key in found)
        expected = found


def test_torchvisions_detectors_fill_each_other_s_backbones() -> None:
    """SSDLite's, cut in two, into a segmentation's; the ε of what was trained is compared."""
    theirs = TASKS["ssdlite320_mobilenet_v3_large"]()
    network: Any = mnv3lib.lraspp_mobilenet_v3_large(reduced_tail=True)
    report = load(network, theirs.state_dict(), part="features")
    assert report.fits
    assert report.layout == "torchvision's SSDLite"
    features = [*theirs.backbone.features[0].state_dict().values(), *theirs.backbone.features[1].state_dict().values()]
    assert sum(one.numel() for one in features) == sum(one.numel() for one in network.backbone.state_dict().values())
    assert same_bits(network.backbone["1"].block[0][0].weight, theirs.backbone.features[0][1].block[0][0].weight)
    wrong = mnv3lib.lraspp_mobilenet_v3_large(reduced_tail=True, norm_eps=1e-5)
    refused(wrong, theirs.state_dict(), "has norm_eps=0.001 with padding='symmetric'", part="features")


def test_numbers_that_are_not_finite_are_refused() -> None:
    network, state = network_of("lraspp"), network_of("lraspp").state_dict()
    state["classifier.cbr.0.weight"] = state["classifier.cbr.0.weight"] * float("nan")
    refused(network, state, "of its numbers are not finite")
