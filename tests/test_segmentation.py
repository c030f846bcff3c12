"""LR-ASPP and DeepLabV3: torchvision's bit for bit, the paper's parameter by parameter, and counted without PyTorch."""

from __future__ import annotations

import inspect
from decimal import ROUND_HALF_UP, Decimal
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from dense import assert_same_network, both_from_one_seed, build, on_meta
from ledger import Deviation
from networks import pictures, shaken
from reference import (
    ACTIVATIONS,
    batch,
    bottleneck,
    calibrate,
    convolution,
    relative_error,
    same_bits,
    squeeze_and_excitation,
)
from torch import Tensor, nn
from torchvision import models
from torchvision.models.segmentation.deeplabv3 import _deeplabv3_mobilenetv3
from torchvision.models.segmentation.lraspp import _lraspp_mobilenetv3

import mnv3lib
from mnv3lib import cost, facts, weights
from mnv3lib.config import MobileNetV3Config, large
from mnv3lib.heads import DeepLabV3Config, LRASPPConfig, deeplabv3, lraspp
from mnv3lib.rows import InvertedResidualConfig
from mnv3lib.tasks import LRASPP, DeepLabV3
from mnv3lib.tasks.deeplabv3 import ASPP
from mnv3lib.tasks.lraspp import WindowPool2d

Config = LRASPPConfig | DeepLabV3Config
PLAIN = {"weights": None, "weights_backbone": None}
#: The three networks as torchvision names them, with what tells them apart.
HEADS: dict[str, tuple[str, dict[str, Any]]] = {
    "lraspp": ("lraspp", {}),
    "deeplabv3": ("deeplabv3", {}),
    "deeplabv3-aux": ("deeplabv3", {"aux_loss": True}),
}


def assert_same(ours: nn.Module, theirs: nn.Module, images: Tensor, deviation: Deviation) -> None:
    """As test_parity's, for networks that give a dictionary of scores."""

    def scores(network: nn.Module) -> dict[str, Tensor]:
        return network(images)

    def loss(outputs: dict[str, Tensor]) -> Tensor:
        return torch.stack([given.square().mean() for given in outputs.values()]).sum()

    assert_same_network(ours, theirs, deviation, found=lambda network: [scores(network)], trained=scores, loss=loss)


# --- torchvision's ----------------------------------------------------------------------------------------------------


@pytest.mark.proves(
    "LR-ASPP and DeepLabV3 on Large: initial weights, scores, gradients and running statistics",
    against="torchvision 0.29.2's builders under the same seed",
    tolerance=0,
    unit="absolute",
)
@pytest.mark.parametrize("name", HEADS)
def test_equal_to_torchvision(name: str, deviation: Deviation) -> None:
    head, options = HEADS[name]
    builder = f"{head}_mobilenet_v3_large"
    networks = both_from_one_seed(
        lambda: getattr(mnv3lib, builder)(**options),
        lambda: getattr(models.segmentation, builder)(**PLAIN, **options),
    )
    assert_same(*networks, batch(2, 3, 33, 66), deviation)


QUICK = {("large", 0.35, True, False), ("small", 0.5, False, True)}
GRID = [
    pytest.param(*point, marks=() if point in QUICK else pytest.mark.slow)
    for point in product(("large", "small"), (0.35, 0.5, 1.0, 1.3), (False, True), (False, True))
]


@pytest.mark.proves(
    "The same heads on Large and Small, 4 widths × tail × dilation",
    against="torchvision 0.29.2's heads on its classification networks, under the same seed",
    tolerance=0,
    unit="absolute",
)
@pytest.mark.parametrize(("variant", "width", "tail", "dilated"), GRID)
def test_any_backbone_has_torchvisions_heads(
    variant: str, width: float, tail: bool, dilated: bool, deviation: Deviation
) -> None:
    options = {"width_mult": width, "reduced_tail": tail, "dilated": dilated}
    for name, (head, more) in HEADS.items():
        torch.manual_seed(0)
        ours = getattr(mnv3lib, f"{head}_mobilenet_v3_{variant}")(num_classes=3, **more, **options)
        torch.manual_seed(0)
        backbone = getattr(models, f"mobilenet_v3_{variant}")(**options)
        if head == "lraspp":
            theirs = _lraspp_mobilenetv3(backbone, 3)
        else:
            theirs = _deeplabv3_mobilenetv3(backbone, 3, name == "deeplabv3-aux")
        assert_same(ours, theirs, batch(2, 3, 35, 64), deviation)


@pytest.mark.parametrize("name", ["lraspp", "deeplabv3-aux"])
def test_weights_of_a_file_of_torchvision_s(name: str, tmp_path: Path) -> None:
    """In the format that torchvision publishes: a state dict, pickled."""
    head, options = HEADS[name]
    builder = f"{head}_mobilenet_v3_large"
    theirs = calibrate(getattr(models.segmentation, builder)(**PLAIN, **options), pictures(2, 3, 64, 64))
    torch.save(theirs.state_dict(), tmp_path / "published.pth")
    ours = getattr(mnv3lib, builder)(**options).eval()
    report = weights.load(ours, tmp_path / "published.pth")
    assert report.fits
    assert report.loaded == tuple(theirs.state_dict())
    images = pictures(1, 3, 49, 64)
    with torch.no_grad():
        found, expected = ours(images), theirs(images)
    assert all(same_bits(found[key], expected[key]) for key in expected)
    assert expected["out"].std() > 0.01

    other = getattr(mnv3lib, builder)(num_classes=4, **options)
    before = {key: value.clone() for key, value in other.state_dict().items()}
    report = weights.load(other, tmp_path / "published.pth")
    after = other.state_dict()
    kept_as_they_were = [key for key in before if torch.equal(before[key], after[key])]
    assert {key.rpartition(".")[0] for key in report.adapted} <= {key.rpartition(".")[0] for key in kept_as_they_were}
    assert len(report.adapted) == 4


def test_an_auxiliary_head_is_not_dropped_in_silence(tmp_path: Path) -> None:
    file = mnv3lib.deeplabv3_mobilenet_v3_small(width_mult=0.25, aux_loss=True).state_dict()
    plain = mnv3lib.deeplabv3_mobilenet_v3_small(width_mult=0.25)
    with pytest.raises(weights.WeightsError, match="aux_classifier"):
        weights.load(plain, file)
    report = weights.load(plain, file, strict=False)
    assert all(key.startswith("aux_classifier.") for key in report.unexpected)
    assert len(report.unexpected) == 8
    assert all(torch.equal(tensor, file[key]) for key, tensor in plain.state_dict().items())


def test_a_classification_network_s_features_are_a_backbone() -> None:
    classifier = mnv3lib.mobilenet_v3_small(width_mult=0.25)
    network = mnv3lib.lraspp_mobilenet_v3_small(width_mult=0.25)
    assert str(network.backbone.load_state_dict(classifier.features.state_dict())) == "<All keys matched successfully>"


# --- the paper's ------------------------------------------------------------------------------------------------------

TABLE = facts.load()["segmentation"]
OURS = [row for row in TABLE["rows"] if "variant" in row]


def published(row: dict[str, Any], image: tuple[int, int] = (1024, 2048)) -> list[cost.Layer]:
    """The layers of a row of Table 7."""
    described = lraspp(
        row["variant"],
        form="paper",
        reduced_tail=row["halved"],
        inter_channels=row["filters"],
        num_classes=TABLE["classes"],
    )
    if row["head"] == "LR-ASPP":
        return list(cost.profile(described, image).layers)
    # R-ASPP is DeepLabV3 without dilated convolutions, and without the convolution after the pyramid.
    pyramid = DeepLabV3Config(backbone=described.backbone, num_classes=TABLE["classes"], atrous_rates=())
    assert row["filters"] == pyramid.channels
    return [layer for layer in cost.profile(pyramid, image).layers if layer.name != "classifier.1"]


@pytest.mark.proves(
    "Published parameters of the networks for Cityscapes, Large and Small, LR-ASPP and R-ASPP, to the last digit",
    against="Table 7 of the paper",
    tolerance=0,
    unit="count",
)
@pytest.mark.parametrize("row", OURS, ids=lambda row: f"row{row['row']}")
def test_published_parameters_are_reproduced(row: dict[str, Any], deviation: Deviation) -> None:
    counted = Decimal(sum(layer.parameters for layer in published(row))) / 10**6
    step = Decimal(1).scaleb(-TABLE["digits"]["params"])
    deviation(float(abs(counted.quantize(step, ROUND_HALF_UP) - Decimal(str(row["params"])))))


def test_published_multiply_adds_are_a_few_per_cent_more() -> None:
    for row in OURS:
        for image, (least, most) in {(1024, 2048): (0.03, 0.06), (1025, 2049): (0.01, 0.045)}.items():
            counted = sum(layer.macs for layer in published(row, image)) / 1e9
            assert least < 1 - counted / row["macs"] < most
    assert [row["row"] for row in OURS] == [5, 6, 7, 8, 11]


def test_known_parameters_of_the_paper_s_networks() -> None:
    counts = {
        row["row"]: sum(parameter.numel() for parameter in on_meta(
            lraspp(row["variant"], form="paper", inter_channels=row["filters"], num_classes=19)
        ).parameters())
        for row in OURS if row["head"] == "LR-ASPP"
    }  # fmt: skip
    assert counts == {7: 1_632_894, 8: 1_507_198, 11: 468_830}


def test_torchvision_says_so_itself() -> None:
    for row, (head, options) in zip(TABLE["torchvision"], (HEADS["lraspp"], HEADS["deeplabv3-aux"]), strict=True):
        meta = models.get_weight(row["weights"]).meta
        metrics = meta["_metrics"]["COCO-val2017-VOC-labels"]
        assert (metrics["miou"], metrics["pixel_acc"]) == (row["miou"], row["pixel_accuracy"])
        assert (meta["num_params"], meta["_ops"]) == (row["params"], row["macs"])
        described = lraspp("large") if head == "lraspp" else deeplabv3("large", **options)
        report = cost.profile(described, row["resolution"])
        assert (report.parameters, round(report.macs / 1e9, 3)) == (row["params"], row["macs"])


def test_the_paper_s_backbone_is_halved_in_its_last_stage() -> None:
    """Widths as TF DeepLab writes them, expansion and output; the finer map is 120 or 88 wide."""
    for variant, widths, last, low in (
        ("large", [(336, 80), (480, 80), (480, 80)], 480, (6, 120)),
        ("small", [(144, 48), (288, 48), (288, 48)], 288, (3, 88)),
    ):
        described = lraspp(variant, form="paper")
        rows = described.backbone.rows
        assert [(row.expanded_channels, row.out_channels) for row in rows[-3:]] == widths
        assert [row.dilation for row in rows[-3:]] == [1, 2, 2]
        assert [row.conv_stride for row in rows[-3:]] == [1, 1, 1]
        assert described.backbone.last_conv == last
        assert (described.low, described.low_channels) == low
        whole = lraspp(variant, form="paper", reduced_tail=False)
        assert whole.backbone.last_conv == 2 * last
        assert (lraspp(variant).low, lraspp(variant).low_channels) == {"large": (4, 40), "small": (2, 24)}[variant]
        reduced = lraspp(variant, reduced_tail=True).backbone.rows[-3]
        assert reduced.expanded_channels == 2 * rows[-3].expanded_channels, "torchvision leaves that expansion"


def test_the_paper_s_windows_cover_a_crop_of_769_pixels() -> None:
    for options, side in (({}, 49), ({"dilated": False}, 25)):
        for variant in ("large", "small"):
            described = lraspp(variant, form="paper", width_mult=0.25, **options)
            assert described.pool_kernel == (side, side)
            last = next(layer for layer in cost.profile(described, 769).layers if layer.kind == "last conv")
            assert last.output[1:] == (side, side)
            pools = [layer for layer in cost.profile(described, (1025, 2049)).layers if layer.kind == "pool"]
            assert pools[0].output[1:] == {49: (5, 17), 25: (3, 9)}[side]
    assert lraspp("large").pool_kernel is None


def paper_scores(config: LRASPPConfig, state: dict[str, Tensor], image: Tensor) -> Tensor:
    """The paper's LR-ASPP on the tensors of a state dict, from the authors' description, in evaluation."""
    backbone, more = config.backbone, {"eps": config.backbone.norm_eps, "padding": config.backbone.padding}
    x = convolution(image, state, "backbone.0", backbone.activation, stride=2, **more)
    for number, row in enumerate(backbone.rows, start=1):
        name = f"backbone.{number}.block."
        if number == {15: 6, 11: 3}[len(backbone.rows)]:
            y = convolution(x, state, f"{name}0", row.activation, **more)
            low = y = convolution(y, state, f"{name}1", row.activation, groups=row.expanded_channels, **more)
            y = squeeze_and_excitation(y, state, f"{name}2.") if row.use_se else y
            x = x + convolution(y, state, f"{name}{2 + row.use_se}", None, **more)
        else:
            x = bottleneck(x, state, name, row, **more)
    high = convolution(x, state, f"backbone.{len(backbone.rows) + 1}", backbone.activation, **more)

    height, width = (min(49, side) for side in high.shape[-2:])
    windows = high.unfold(2, height, 4).unfold(3, width, 5).mean((-2, -1))
    logit = F.conv2d(windows, state["classifier.scale.1.weight"], state["classifier.scale.1.bias"])
    gate = F.interpolate(F.relu6(logit + 3) / 6, high.shape[-2:], mode="bilinear", align_corners=True)
    norm = [state[f"classifier.cbr.1.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
    branch = ACTIVATIONS["RE"](F.batch_norm(F.conv2d(high, state["classifier.cbr.0.weight"]), *norm, eps=1e-5))
    weighed = F.interpolate(branch * gate, low.shape[-2:], mode="bilinear", align_corners=True)
    scores = [
        F.conv2d(x, state[f"classifier.{name}.weight"], state[f"classifier.{name}.bias"])
        for name, x in (("low_classifier", low), ("high_classifier", weighed))
    ]
    return F.interpolate(scores[0] + scores[1], image.shape[-2:], mode="bilinear", align_corners=True)


@pytest.mark.proves(
    "LR-ASPP in the paper's form: large windows, the finer map from inside a block, the halved last stage",
    against="its description written out with torch's functions, random weights and statistics",
    tolerance=2e-5,
    unit="relative to the spread",
)
@pytest.mark.parametrize("variant", ["large", "small"])
def test_the_paper_s_form_is_its_description(variant: str, deviation: Deviation) -> None:
    described = lraspp(variant, form="paper", width_mult=0.25, num_classes=4)
    network = shaken(LRASPP(described))
    # In the last case the windows are smaller than the feature map, and a gate differs from place to place.
    for sides in ((33, 64), (97, 50), (850, 960)):
        images = pictures(1, 3, *sides)
        with torch.no_grad():
            deviation(relative_error(network(images)["out"], paper_scores(described, network.state_dict(), images)))


def test_windows_reach_no_further_than_the_map() -> None:
    pool, images = WindowPool2d((5, 4), (2, 3)), batch(2, 3, 9, 11)
    assert pool(images).shape == (2, 3, 3, 3)
    assert torch.allclose(pool(images)[:, :, 1, 2], images[:, :, 2:7, 6:10].mean((2, 3)))
    assert torch.allclose(pool(images[:, :, :3, :2]), images[:, :, :3, :2].mean((2, 3), keepdim=True))


# --- the edges --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sides", [(1, 1), (1, 9), (7, 2), (33, 50)])
def test_any_size_gives_scores_of_its_size(sides: tuple[int, int]) -> None:
    for described in (
        lraspp("large", width_mult=0.25),
        lraspp("small", width_mult=0.25, form="paper"),
        deeplabv3("small", width_mult=0.25, aux_loss=True),
    ):
        torch.manual_seed(0)
        network = shaken(build(described))
        images = pictures(2, 3, *sides)
        with torch.no_grad():
            scores = network(images)
            for found in scores.values():
                assert found.shape == (2, 21, *sides)
                assert found.isfinite().all()
                alone = network(images[1:])
                assert torch.allclose(alone["out"][0], scores["out"][1], rtol=1e-4, atol=1e-4)
        for found in network.train()(images).values():
            found.sum().backward(retain_graph=True)
        assert all(parameter.grad is not None for parameter in network.parameters())


def test_one_image_cannot_train_a_pyramid() -> None:
    """Batch norm of pooled means has one number a channel; PyTorch refuses, and says so."""
    network = mnv3lib.deeplabv3_mobilenet_v3_small(width_mult=0.25)
    with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
        network.train()(batch(1, 3, 64, 64))
    mnv3lib.lraspp_mobilenet_v3_small(width_mult=0.25).train()(batch(1, 3, 64, 64))


def test_the_auxiliary_head_is_there_when_it_is_asked_for() -> None:
    images = batch(2, 3, 32, 32)
    with_it = mnv3lib.deeplabv3_mobilenet_v3_small(width_mult=0.25, aux_loss=True)
    assert list(with_it(images)) == list(with_it.eval()(images)) == ["out", "aux"]
    assert list(mnv3lib.deeplabv3_mobilenet_v3_small(width_mult=0.25)(images)) == ["out"]


WRONG = {
    ("lraspp", "num_classes", 0): "num_classes must be an integer >= 1, got 0",
    ("lraspp", "num_classes", 2.0): "num_classes must be an integer >= 1, got 2.0",
    ("deeplabv3", "num_classes", True): "num_classes must be an integer >= 1, got True",
    ("lraspp", "inter_channels", -1): "inter_channels must be an integer >= 1, got -1",
    ("lraspp", "form", "tf"): "form must be one of 'torchvision', 'paper', got 'tf'",
    ("lraspp", "width_mult", 0): "width_mult must be a finite number > 0, got 0",
    ("deeplabv3", "width_mult", float("nan")): "width_mult must be a finite number > 0, got nan",
    ("lraspp", "reduced_tail", 1): "reduced_tail must be True or False, got 1",
    ("lraspp", "dilated", "no"): "dilated must be True or False, got 'no'",
    ("deeplabv3", "aux_loss", None): "aux_loss must be True or False, got None",
    ("deeplabv3", "atrous_rates", (6, 0)): "atrous_rates must be an integer >= 1, got 0",
    ("deeplabv3", "atrous_rates", 6): "atrous_rates must be integers >= 1, got 6",
    ("deeplabv3", "atrous_rates", "12"): "atrous_rates must be integers >= 1, got '12'",
    ("lraspp", "rounding", "up"): "rounding must be one of .*, got 'up'",
    (
        "lraspp",
        "witdh_mult",
        0.5,
    ): r"lraspp\(\) got an unexpected keyword argument 'witdh_mult'; did you mean 'width_mult'",
    ("lraspp", "aux_loss", True): r"lraspp\(\) got an unexpected keyword argument 'aux_loss'",
    ("deeplabv3", "dropout", 0.1): r"deeplabv3\(\) got an unexpected keyword argument 'dropout'",
    ("deeplabv3", "form", "paper"): r"deeplabv3\(\) got an unexpected keyword argument 'form'",
}


@pytest.mark.parametrize("size", ["large", "small"])
@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: "-".join(map(str, wrong)))
def test_wrong_arguments_are_named(wrong: tuple[str, str, Any], size: str) -> None:
    head, name, value = wrong
    with pytest.raises((TypeError, ValueError), match=WRONG[wrong]):
        getattr(mnv3lib, f"{head}_mobilenet_v3_{size}")(**{name: value})


def test_builders_take_keywords_only_and_show_them() -> None:
    for head, described in (("lraspp", lraspp), ("deeplabv3", deeplabv3)):
        for size in ("large", "small"):
            builder = getattr(mnv3lib, f"{head}_mobilenet_v3_{size}")
            with pytest.raises(TypeError, match="positional"):
                builder(21)
            shown = inspect.signature(builder).parameters
            assert list(shown) == list(inspect.signature(described).parameters)[1:]
            assert all(parameter.kind is parameter.KEYWORD_ONLY for parameter in shown.values())
            assert (shown["num_classes"].default, shown["dilated"].default) == (21, True)
            assert "dropout" not in shown


def test_what_is_no_configuration_is_refused() -> None:
    backbone = large()
    no_eighth = MobileNetV3Config((InvertedResidualConfig(8, 3, 8, 8, False, "RE", 2),), 8, 8)
    with pytest.raises(TypeError, match="backbone must be a MobileNetV3Config, got 'large'"):
        LRASPPConfig(backbone="large")  # type: ignore[arg-type]
    for kind in (LRASPPConfig, DeepLabV3Config):
        with pytest.raises(ValueError, match=r"backbone must have a row of output stride 8, got \(4,\)"):
            kind(backbone=no_eighth)
    with pytest.raises(
        ValueError, match=r"variant must be one of 'large', 'small', .*, got 'larg'; did you mean 'large'"
    ):
        lraspp("larg")
    with pytest.raises(TypeError, match="config must be an LRASPPConfig, got"):
        LRASPP(backbone)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="config must be a DeepLabV3Config, got"):
        DeepLabV3(lraspp("small"))  # type: ignore[arg-type]
    for resolution in (0, (64, 0), (64, 64, 3), 1.5):
        with pytest.raises((TypeError, ValueError), match="resolution must be an integer >= 1"):
            cost.profile(lraspp("small"), resolution)  # type: ignore[arg-type]


def test_a_pyramid_reads_one_map_in_all_its_branches() -> None:
    torch.manual_seed(0)
    pyramid = ASPP(6, 4, (2, 5)).eval()
    assert len(pyramid.convs) == 4
    assert [conv[0].dilation for conv in list(pyramid.convs)[1:3]] == [(2, 2), (5, 5)]
    assert pyramid.project[0].in_channels == 16
    assert pyramid(batch(1, 6, 3, 7)).shape == (1, 4, 3, 7)
