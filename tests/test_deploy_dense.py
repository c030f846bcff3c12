"""The ladder and the engines on networks for segmentation, and what is said of those for detection."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from figures.in_the_wild import photograph
from networks import PLAIN, pictures, shaken
from reference import relative_error, same_bits
from torch import Tensor, nn
from torchvision.models import segmentation

import mnv3lib
from mnv3lib import wild
from mnv3lib.config import MobileNetV3Config
from mnv3lib.deploy import Engine, export, fold_batch_norm, optimize, quantize
from mnv3lib.deploy.formats import FORMATS
from mnv3lib.deploy.paths import PATHS
from mnv3lib.deploy.scores import Scores, giving_a_tensor
from mnv3lib.heads import Form, LRASPPConfig
from mnv3lib.rows import InvertedResidualConfig
from mnv3lib.tasks import LRASPP

ONE = pictures(2, 3, 49, 64)


def lraspp(form: Form = "torchvision") -> nn.Module:
    """LR-ASPP on a backbone of three blocks."""
    rows = [
        InvertedResidualConfig(8, 3, 8, 8, True, "RE", 2),
        InvertedResidualConfig(8, 3, 24, 16, False, "RE", 2),
        InvertedResidualConfig(16, 5, 32, 16, True, "HS", 2, dilation=2),
    ]
    backbone = MobileNetV3Config(rows, last_conv=32, last_channel=16)
    return shaken(LRASPP(LRASPPConfig(backbone=backbone, num_classes=5, inter_channels=16, form=form))).eval()


def scores_of(model: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        scores: Tensor = model(images)["out"]
    return scores


@pytest.mark.parametrize("way", ["PyTorch", "folded, channels last", "matrix products"])
@pytest.mark.parametrize("form", ["torchvision", "paper"])
def test_every_way_of_pytorch_gives_the_scores(way: str, form: Form) -> None:
    model = lraspp(form)
    run = PATHS[way].build(giving_a_tensor(model, ONE), ONE, 1, "fp32")
    assert relative_error(run(ONE), scores_of(model, ONE)) < 1e-4


def test_the_fastest_way_gives_the_scores_and_the_engine_says_that_it_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = ("PyTorch", "folded, channels last", "engine")
    monkeypatch.setattr("mnv3lib.deploy.fastest.PATHS", {way: PATHS[way] for way in kept})
    model = lraspp()
    made = optimize(model, ONE, rounds=5)
    assert relative_error(made(ONE), scores_of(model, ONE)) < 1e-4
    (refused,) = [one for one in made.report if one.refused]
    assert refused.name == "engine"
    assert refused.refused == "refused: model must be a MobileNetV3 for classification, got LRASPP"
    assert isinstance(model(ONE), dict), "the model was changed"


def test_torchvisions_networks_are_taken_too() -> None:
    theirs = segmentation.lraspp_mobilenet_v3_large(**PLAIN, num_classes=3).eval()
    alone = giving_a_tensor(theirs, ONE)
    assert isinstance(alone, Scores)
    with torch.no_grad():
        assert same_bits(alone(ONE), theirs(ONE)["out"])
    assert not alone.training
    assert giving_a_tensor(alone, ONE) is alone


@pytest.mark.parametrize("make", ["lraspp", pytest.param("portrait", marks=pytest.mark.slow)])
@pytest.mark.parametrize("to", ["onnx", pytest.param("openvino", marks=pytest.mark.slow)])
def test_a_file_gives_the_scores(make: str, to: str, tmp_path: Path) -> None:
    pytest.importorskip({"onnx": "onnxruntime", "openvino": "openvino"}[to])
    model: Any = lraspp("paper") if make == "lraspp" else wild.portrait_segmenter().eval()
    model.classes = tuple("abcde") if make == "lraspp" else None
    # Of a picture without a person all probabilities are near 0, and their spread is too small to compare with.
    images = ONE if make == "lraspp" else wild.prepare_portrait(photograph())
    form = FORMATS[to]
    made = export(model, tmp_path / f"network{form.suffix}", images)
    found = form.read(made.path, 1, "fp32")(images)
    with torch.no_grad():
        expected = giving_a_tensor(model, images)(images)
    assert relative_error(found, expected) < 1e-4
    card = json.loads(made.card.read_text(encoding="utf-8"))
    assert card["output"]["per image"] == list(expected.shape[1:])
    if make == "lraspp":
        assert card["network"]["class"] == "LRASPP"
        assert card["network"]["classes"] == list("abcde")
        assert card["network"]["config"] == json.loads(json.dumps(model.config.to_dict()))
        assert card["network"]["parameters"] == sum(p.numel() for p in model.parameters())


@pytest.mark.slow
def test_eight_bits_give_the_scores() -> None:
    pytest.importorskip("torchao")
    model = lraspp()
    quantised = quantize(model, [pictures(2, 3, 49, 64, seed=seed) for seed in range(3)])
    with torch.no_grad():
        found = quantised(ONE)
    expected = scores_of(model, ONE)
    assert found.shape == expected.shape
    assert 0 < float((found - expected).pow(2).mean().sqrt() / expected.std()) < 0.3


def test_folding_takes_networks_for_detection_and_the_rest_says_that_it_does_not(tmp_path: Path) -> None:
    model = mnv3lib.ssdlite320_mobilenet_v3_small(num_classes=3, size=64, width_mult=0.35)
    shaken(model, backbone=model.backbone).eval()
    image = ONE[:1, :, :, :49]
    with torch.no_grad():
        (before,), (after,) = model(image), fold_batch_norm(model)(image)
    assert before["boxes"].shape == after["boxes"].shape
    assert torch.allclose(before["boxes"], after["boxes"], atol=1e-2)
    message = (
        "model must give a tensor, or a dictionary with one under 'out', it gave a list, as networks for detection do, "
        "which run in PyTorch only"
    )
    for refuses in (
        lambda: optimize(model, image),
        lambda: export(model, tmp_path / "x.onnx", image),
        lambda: quantize(model, [image]),
    ):
        with pytest.raises(TypeError) as raised:
            refuses()
        assert str(raised.value) == message
    with pytest.raises(TypeError, match="model must be a MobileNetV3 for classification, got SSDLite"):
        Engine(model)
    assert not list(tmp_path.iterdir())
