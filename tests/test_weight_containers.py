"""Weights wherever training programs keep them, and whatever wrappers put in front of their names."""

from __future__ import annotations

import argparse
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from networks import PLAIN, TASKS, refused, shaken
from networks import small_network as network
from reference import assert_same_state, same_bits
from torch import Tensor, nn
from torchvision import models

from mnv3lib import mobilenet_v3_large, mobilenet_v3_small
from mnv3lib.weights import Report, WeightsError, load, load_network, read, save

TENSORS = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.tensor([3.0, 4.0])}
OTHERS = {name: tensor + 1 for name, tensor in TENSORS.items()}


def saved(value: Any, folder: Path) -> Path:
    torch.save(value, folder / "w.pth")
    return folder / "w.pth"


def same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return list(found) == list(expected) and all(same_bits(found[name], expected[name]) for name in expected)


# --- containers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("entry", [
    "state_dict", "model", "model_state_dict", "net", "network", "params", "ema", "model_ema", "state_dict_ema",
    "anything",
])  # fmt: skip
def test_weights_are_found_among_the_other_things(entry: str, tmp_path: Path) -> None:
    weight = nn.Parameter(torch.ones(3))
    optimiser = torch.optim.AdamW([weight])
    weight.sum().backward()
    optimiser.step()
    path = saved(
        {
            "epoch": 90, "arch": "mobilenet_v3_small", entry: TENSORS, "best_acc1": torch.tensor(71.0),
            "optimizer": optimiser.state_dict(), "lr_scheduler": {"last_epoch": 3}, "scaler": {"scale": 2.0},
            "rng_state": torch.get_rng_state(), "hyper_parameters": {"lr": 0.1}, "loops": {"fit": {"state": {}}},
        },
        tmp_path,
    )  # fmt: skip
    found = read(path)
    assert same(found.tensors, TENSORS)
    assert found.source == f"{path}, entry {entry!r}"
    assert same(read(path, entry=entry).tensors, TENSORS)


def test_arguments_and_numpy_s_numbers_may_lie_beside_them(tmp_path: Path) -> None:
    """Torchvision's and many other programs save these; they are plain data."""
    beside = {
        "args": argparse.Namespace(lr=0.1, data=["a"], nested=argparse.Namespace(b=None)),
        "best": np.float64(0.71), "step": np.int64(3), "half": np.float32(1), "flag": np.bool_(True),
    }  # fmt: skip
    assert same(read(saved({"model": TENSORS, **beside}, tmp_path)).tensors, TENSORS)


@pytest.mark.parametrize("value", [
    {"ema": {"module": TENSORS, "updates": 3}, "epoch": 3},
    {"checkpoint": {"model": TENSORS, "optimizer": {}}},
    {"model": {"state_dict": OrderedDict(TENSORS), "config": {"depth": 3}}},
    {"model": TENSORS, "normalisation": {"mean": torch.zeros(3), "std": torch.ones(3)}},
    {"model": TENSORS, "optimizer": {"exp_avg": TENSORS}},
    {"model": TENSORS, "val.acc1": torch.tensor(71.0)},
    {name: nn.Parameter(tensor) for name, tensor in TENSORS.items()},
], ids=["ema.module", "checkpoint.model", "model.state_dict", "normalisation", "optimizer", "number",
        "parameters"])  # fmt: skip
def test_weights_are_found_one_container_deeper(value: Any, tmp_path: Path) -> None:
    found = read(saved(value, tmp_path)).tensors
    assert same(found, TENSORS)
    assert not any(tensor.requires_grad for tensor in found.values())


def test_two_containers_deeper_only_who_says_so_finds_them(tmp_path: Path) -> None:
    path = saved({"run": {"ema": {"module": TENSORS}}}, tmp_path)
    with pytest.raises(WeightsError, match=r"it holds run \(dict\)$"):
        read(path)
    assert same(read(path, entry="run.ema.module").tensors, TENSORS)


@pytest.mark.parametrize(("value", "choices"), [
    ({"state_dict": TENSORS, "state_dict_ema": OTHERS}, ["state_dict", "state_dict_ema"]),
    ({"model": TENSORS, "ema": {"module": OTHERS}}, ["model", "ema.module"]),
    ({"generator": TENSORS, "discriminator": OTHERS}, ["generator", "discriminator"]),
    ({"model": {"encoder": TENSORS, "decoder": OTHERS}}, ["model.encoder", "model.decoder"]),
])  # fmt: skip
def test_of_several_sets_the_reader_says_which(value: Any, choices: list[str], tmp_path: Path) -> None:
    path = saved({**value, "best_acc1": torch.tensor(71.0)}, tmp_path)
    words = ", ".join(map(repr, choices))
    with pytest.raises(WeightsError, match=rf"holds more than one set of weights, say entry= one of {words}$"):
        read(path)
    assert same(read(path, entry=choices[0]).tensors, TENSORS)
    assert same(read(path, entry=choices[1]).tensors, OTHERS)
    with pytest.raises(WeightsError, match=rf"has no tensors in entry 'other'; its entries: {words}"):
        read(path, entry="other")
    with pytest.raises(WeightsError, match="has no tensors in entry 'best_acc1'"):
        read(path, entry="best_acc1")
    with pytest.raises(TypeError, match="entry must be text, got 3"):
        read(path, entry=3)


@pytest.mark.parametrize(("value", "words"), [
    ({"a": TENSORS["a.bias"], "n": 3}, r"must hold tensors by name, it holds n \(int\)$"),
    ({"model": {**TENSORS, "n": 3}}, r"entry 'model' must hold tensors by name, it holds n \(int\)$"),
    ({**TENSORS, "model": OTHERS}, r"must hold tensors by name, it holds model \(dict\)$"),
    ({f"n{i}": i for i in range(500)}, r"it holds n0 \(int\), n1 \(int\), n2 \(int\) and 497 more$"),
    ({"epoch": 3}, r"it holds epoch \(int\)$"),
    ({"model": {}}, r"it holds model \(dict\)$"),
    ({}, "it holds nothing"),
    ([TENSORS["a.bias"]], "it holds a list"),
    (TENSORS["a.bias"], "it holds a Tensor"),
    ({0: TENSORS["a.bias"], "0": TENSORS["a.bias"]}, "these names are no text: 0$"),
])  # fmt: skip
def test_what_holds_no_weights_is_refused(value: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=words):
        read(saved(value, tmp_path))


def test_a_dictionary_in_memory_is_searched_as_a_file_is(tmp_path: Path) -> None:
    trained, ours = network(), network(1)
    best = torch.tensor(71.0)
    report = load(ours, {"state_dict": trained.state_dict(), "best_acc1": best})
    assert report.source == "a state dict, entry 'state_dict'"
    assert_same_state(ours, trained)
    two = {"model": network(2).state_dict(), "ema": trained.state_dict()}
    for source in (two, saved(two, tmp_path)):
        with pytest.raises(WeightsError, match="say entry= one of 'model', 'ema'"):
            load(ours, source)
        ours = network(1)
        load(ours, source, entry="ema")
        assert_same_state(ours, trained)
    with pytest.raises(ValueError, match="sha256 must be None for what is no file, got 'aaaaaaaa'"):
        load(ours, two, entry="ema", sha256="a" * 8)
    file = save(trained, tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match="sha256 must be None for what is no file"):
        load_network(read(file), sha256="a" * 8)
    with pytest.raises(WeightsError, match="has no tensors in entry 'model'; its entries: 'classifier"):
        read(file, entry="model")
    with pytest.raises(WeightsError, match="has no tensors in entry 'model'"):
        load_network(read(file), entry="model")
    with pytest.raises(WeightsError, match=r"it holds a \(ndarray\)"):
        load(ours, {"a": np.zeros(3)})


# --- wrappers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", [
    "module.", "_orig_mod.", "model.", "net.", "network.", "backbone.", "_orig_mod.module.", "module._orig_mod.",
    "model._orig_mod.", "module.model._orig_mod.", "_forward_module.model.", "_fsdp_wrapped_module.", "student.net.",
])  # fmt: skip
def test_prefixes_of_wrappers_are_taken_off(prefix: str) -> None:
    trained, ours = network(), network(1)
    report = load(ours, {prefix + name: tensor for name, tensor in trained.state_dict().items()})
    assert report.fits
    assert report.renamed["features.0.0.weight"] == f"{prefix}features.0.0.weight"
    assert_same_state(ours, trained)


def test_prefixes_are_taken_off_all_layouts() -> None:
    import timm

    from mnv3lib.weights import network_for

    theirs = shaken(timm.create_model("mobilenetv3_small_050", num_classes=3))
    ours = network_for("mobilenetv3_small_050", num_classes=3)
    assert load(ours, {f"model.module.{name}": t for name, t in theirs.state_dict().items()}).fits
    for name in ("lraspp_mobilenet_v3_large", "ssdlite320_mobilenet_v3_large"):
        state = TASKS[name]().state_dict()
        plain, wrapped = network_for(name, num_classes=3), network_for(name, num_classes=3)
        load(plain, state, part="features")
        report = load(wrapped, {f"model._orig_mod.{key}": t for key, t in state.items()}, part="features")
        assert all(key.startswith("model._orig_mod.") for key in report.left_out)
        assert_same_state(wrapped.features, plain.features)


def test_wrappers_around_a_part_of_the_network_are_taken_off() -> None:
    trained, ours = network(), network(1)
    state = {name.replace("features.", "features.module."): tensor for name, tensor in trained.state_dict().items()}
    assert load(ours, state).fits
    assert_same_state(ours, trained)


COMPILED = [
    pytest.param(kind, marks=pytest.mark.slow) for kind in ("compiled", "compiled, parallel", "parallel, compiled")
]


@pytest.mark.parametrize("kind", ["parallel", "a part", *COMPILED])
def test_wrapped_networks_are_filled(kind: str, tmp_path: Path) -> None:
    trained, ours = network(), network(1)
    wrapped: Any = ours
    for word in kind.split(", "):
        if word == "a part":
            wrapped.features = torch.compile(wrapped.features)
        else:
            wrapped = torch.compile(wrapped) if word == "compiled" else nn.DataParallel(wrapped)
    state = wrapped.state_dict()
    assert set(state) != set(trained.state_dict())
    report = load(wrapped, trained.state_dict())
    assert report.fits
    assert not report.renamed
    assert_same_state(load_network(save(wrapped, tmp_path / "w.safetensors")), trained)
    expected = [*trained.state_dict().values()]
    assert all(same_bits(tensor, own) for tensor, own in zip(wrapped.state_dict().values(), expected, strict=True))
    load(ours, wrapped.state_dict())


def test_what_lies_beside_the_network_is_left_out_and_told() -> None:
    """Lightning's module holds a loss and metrics next to the model."""
    trained, ours = network(), network(1)
    state = {f"model.{name}": tensor for name, tensor in trained.state_dict().items()}
    report = load(ours, {**state, "criterion.weight": torch.ones(4)})
    assert report.fits
    assert report.left_out == ("criterion.weight",)
    assert_same_state(ours, trained)
    report = refused(ours, {**trained.state_dict(), "criterion.weight": torch.ones(4)}, "criterion.weight")
    assert report.unexpected == ("criterion.weight",)


def test_of_two_networks_under_different_names_the_reader_says_which(tmp_path: Path) -> None:
    trained, other, ours = network(), network(2), network(1)
    both = {
        **{f"student.{name}": tensor for name, tensor in trained.state_dict().items()},
        **{f"teacher.net.{name}": tensor for name, tensor in other.state_dict().items()},
    }
    for source in (both, saved({"state_dict": both, "epoch": 3}, tmp_path)):
        with pytest.raises(WeightsError, match=r"more than one network in the file, say entry= one of 'student', 'tea"):
            load(ours, source)
        load(ours, source, entry="teacher.net")
        assert_same_state(ours, other)
        load(ours, source, entry="student")
        assert_same_state(ours, trained)


def test_a_name_with_and_without_a_wrapper_is_there_twice() -> None:
    state = network().state_dict()
    both = {**{f"module.{name}": tensor for name, tensor in state.items()}, **dict(list(state.items())[:3])}
    with pytest.raises(WeightsError, match=r"'features.0.0.weight' is there twice, as 'module.features.0.0.weight' an"):
        load(network(1), both)


def test_other_networks_lose_the_usual_holders_only() -> None:
    head, trained = nn.Linear(4, 3), nn.Linear(4, 3)
    for prefix in ("module.", "model.", "net._orig_mod.", "network.", "backbone."):
        report = load(head, {prefix + name: tensor for name, tensor in trained.state_dict().items()})
        assert (report.fits, len(report.renamed)) == (True, 2)
        assert_same_state(head, trained)
    refused(head, {f"fc.{name}": tensor for name, tensor in trained.state_dict().items()}, "missing", "fc.weight")
    own = nn.ModuleDict({"module": nn.Linear(4, 3)})
    assert load(own, {f"module.{name}": t for name, t in trained.state_dict().items()}).renamed == {}
    assert_same_state(own["module"], trained)
    inside = nn.Sequential(nn.DataParallel(nn.Linear(4, 3)))
    assert load(inside, {f"0.{name}": t for name, t in trained.state_dict().items()}).fits
    assert_same_state(inside[0].module, trained)


# --- the backbone of networks for other tasks -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["lraspp_mobilenet_v3_large", "ssdlite320_mobilenet_v3_large"])
def test_the_backbone_of_another_task_is_its_features(name: str) -> None:
    theirs, again = TASKS[name](), TASKS[name]()
    before = {key: tensor.clone() for key, tensor in again.state_dict().items()}
    report = load(again, theirs.state_dict(), part="features")
    assert report.fits
    assert len(report.loaded) > 200
    beginning = "backbone.features." if name.startswith("ssd") else "backbone."
    for key, tensor in again.state_dict().items():
        assert same_bits(tensor, theirs.state_dict()[key] if key.startswith(beginning) else before[key]), key
    assert set(report.left_out) == {key for key in before if not key.startswith(beginning)}
    head = "head.more.weight" if name.startswith("ssd") else "classifier.more.weight"
    state = {**theirs.state_dict(), head: torch.ones(1)}
    assert load(again, state, part="features").fits
    assert refused(again, state, head).unexpected == (head,)


def test_nothing_loaded_never_fits() -> None:
    head = nn.Linear(4, 3)
    with pytest.raises(ValueError, match=r"part must be 'all' for this network, none of its tensors begins with 'feat"):
        load(head, head.state_dict(), part="features")
    lraspp = models.segmentation.lraspp_mobilenet_v3_large(**PLAIN)
    refused(lraspp, mobilenet_v3_large().state_dict(), "missing from the file", part="features")
    assert not load(lraspp, mobilenet_v3_large().state_dict(), part="features", strict=False).fits
    refused(nn.ReLU(), {"a": torch.ones(1)}, "0 tensors")
    assert not Report("a file", "its own kind").fits
    assert Report("a file", "its own kind", loaded=("weight",)).fits
    report = refused(mobilenet_v3_small(), {"a": torch.ones(1)}, "missing from the file", part="features")
    assert not report.loaded


def test_errors_are_short_whatever_the_file() -> None:
    state = {f"ü{number}." + "n" * 500 + "\n": torch.ones(1) for number in range(1000)}
    ours = mobilenet_v3_small(width_mult=0.25)
    report = refused(ours, {**state, **mobilenet_v3_large().state_dict()}, "and 1,121 more")
    assert len(str(report).splitlines()) > 1000, "all of it is in the report"
    with pytest.raises(WeightsError) as caught:
        load(ours, {**state, **mobilenet_v3_large().state_dict()})
    assert len(str(caught.value).splitlines()) <= 10
    assert len(str(caught.value)) < 3000
