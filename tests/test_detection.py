"""SSDLite and Faster R-CNN: torchvision's bit for bit, the paper's parameter by parameter, counted without PyTorch."""

from __future__ import annotations

import inspect
from decimal import ROUND_HALF_UP, Decimal
from functools import partial
from itertools import cycle, product
from pathlib import Path
from typing import Any

import pytest
import torch
from dense import assert_same_network, both_from_one_seed, build, on_meta
from ledger import Deviation
from reference import assert_same_state, batch, calibrate
from torch import Tensor, nn
from torchvision import models
from torchvision.models.detection import _utils as utils
from torchvision.models.detection import backbone_utils
from torchvision.models.detection import ssdlite as torchvisions_ssdlite
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.ssd import SSD
from torchvision.ops import FrozenBatchNorm2d

import mnv3lib
from mnv3lib import cost, facts, weights
from mnv3lib.config import MobileNetV3Config, small
from mnv3lib.detectors import DetectionConfig, FasterRCNNConfig, SSDLiteConfig, fasterrcnn, ssdlite
from mnv3lib.rows import InvertedResidualConfig
from mnv3lib.tasks import FasterRCNN, SSDLite
from mnv3lib.tasks.ssdlite import DefaultBoxes

PLAIN = {"weights": None, "weights_backbone": None}
#: Faster R-CNN on images that a test has time for.
TINY = {"min_size": 48, "max_size": 80}
#: Torchvision's three builders, with what keeps a test short; SSDLite's size is fixed.
BUILDERS: dict[str, dict[str, Any]] = {
    "ssdlite320_mobilenet_v3_large": {},
    "fasterrcnn_mobilenet_v3_large_fpn": TINY,
    "fasterrcnn_mobilenet_v3_large_320_fpn": TINY,
}
SIDES = ((50, 70), (64, 41))
IMAGES = [batch(3, *sides, seed=seed) for seed, sides in enumerate(SIDES)]
NOTHING = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}


def targets(*, empty: bool = False) -> list[dict[str, Tensor]]:
    """Two objects in the first image, and in the second none, or one."""
    boxes = torch.tensor([[4.0, 6.0, 30.0, 44.0], [20.0, 1.0, 66.0, 25.0]])
    return [
        {"boxes": boxes, "labels": torch.tensor([1, 3])},
        NOTHING if empty else {"boxes": boxes[:1], "labels": torch.tensor([2])},
    ]


def assert_same_detector(ours: nn.Module, theirs: nn.Module, deviation: Deviation) -> None:
    """Weights, detections, losses, gradients and statistics, and which parameters learn."""
    assert_same_network(
        ours,
        theirs,
        deviation,
        found=lambda network: network(IMAGES),
        trained=lambda network: network(IMAGES, targets(empty=True)),
        loss=lambda losses: torch.stack(list(losses.values())).sum(),
        prepare=lambda network: calibrate(network, IMAGES),  # type: ignore[arg-type]
    )


# --- torchvision's ----------------------------------------------------------------------------------------------------


@pytest.mark.proves(
    "SSDLite and both Faster R-CNN on Large: initial weights, boxes, scores, losses, gradients, running statistics",
    against="torchvision 0.29.2's builders under the same seed",
    tolerance=0,
    unit="absolute",
)
@pytest.mark.parametrize(
    "builder",
    [
        pytest.param(name, marks=pytest.mark.slow if name == "fasterrcnn_mobilenet_v3_large_fpn" else ())
        for name in BUILDERS
    ],
)
def test_equal_to_torchvision(builder: str, deviation: Deviation) -> None:
    options = {"num_classes": 4, **BUILDERS[builder]}
    networks = both_from_one_seed(
        lambda: getattr(mnv3lib, builder)(**options),
        lambda: getattr(models.detection, builder)(**PLAIN, **options),
    )
    assert_same_detector(*networks, deviation)


@pytest.mark.parametrize("builder", BUILDERS)
def test_the_defaults_are_torchvision_s(builder: str) -> None:
    with torch.device("meta"):
        ours, theirs = getattr(mnv3lib, builder)(), getattr(models.detection, builder)(**PLAIN)
    shapes = [{name: tuple(tensor.shape) for name, tensor in net.state_dict().items()} for net in (ours, theirs)]
    assert list(shapes[0].items()) == list(shapes[1].items())
    for part in ("", "rpn", "roi_heads", "transform", "anchor_generator", "rpn.anchor_generator"):
        if part.partition(".")[0] not in dict(theirs.named_children()) and part:
            continue
        plain = [
            {key: value for key, value in vars(net.get_submodule(part)).items() if isinstance(value, str | int | float)
             or key in ("sizes", "aspect_ratios", "min_size", "image_mean", "image_std", "_pre_nms_top_n", "scales",
                        "_post_nms_top_n", "fixed_size")}
            for net in (ours, theirs)
        ]  # fmt: skip
        assert plain[0] == plain[1], part
    norms = [[(m.eps, m.momentum) for m in net.modules() if isinstance(m, nn.BatchNorm2d)] for net in (ours, theirs)]
    assert norms[0] == norms[1]
    if builder.startswith("ssdlite"):
        assert all(
            torch.equal(*pair)
            for pair in zip(ours.anchor_generator._wh_pairs, theirs.anchor_generator._wh_pairs, strict=True)
        )


def torchvisions(config: DetectionConfig, variant: str, **options: Any) -> nn.Module:
    """Torchvision's parts put together as its builders do, on any of its classification networks."""
    builder = getattr(models, f"mobilenet_v3_{variant}")
    learning = 6 if config.trainable_layers is None else config.trainable_layers
    if isinstance(config, SSDLiteConfig):
        norm = partial(nn.BatchNorm2d, eps=0.001, momentum=0.03)
        network = builder(norm_layer=norm, **options)
        torchvisions_ssdlite._normal_init(network)
        backbone = torchvisions_ssdlite._mobilenet_extractor(network, learning, norm)
        boxes = DefaultBoxGenerator([[2, 3] for _ in range(6)], min_ratio=0.2, max_ratio=0.95)
        channels = utils.retrieve_out_channels(backbone, (320, 320))
        head = torchvisions_ssdlite.SSDLiteHead(channels, boxes.num_anchors_per_location(), config.num_classes, norm)
        return SSD(
            backbone, boxes, (config.size, config.size), config.num_classes, head=head, image_mean=[0.5] * 3,
            image_std=[0.5] * 3, score_thresh=0.001, nms_thresh=0.55, detections_per_img=300, topk_candidates=300,
        )  # fmt: skip
    assert isinstance(config, FasterRCNNConfig)
    network = builder(norm_layer=FrozenBatchNorm2d if config.frozen_norm else nn.BatchNorm2d, **options)
    return models.detection.FasterRCNN(
        backbone_utils._mobilenet_extractor(network, True, learning),
        config.num_classes,
        rpn_anchor_generator=AnchorGenerator(((32, 64, 128, 256, 512),) * 3, ((0.5, 1.0, 2.0),) * 3),
        rpn_score_thresh=0.05,
        **TINY,
    )


QUICK = (("ssdlite", "small", 0.35, True), ("ssdlite", "large", 0.35, False), ("fasterrcnn", "small", 0.35, False))
GRID = [
    pytest.param(*point, learning, marks=() if point in QUICK else pytest.mark.slow)
    for point, learning in zip(
        product(("ssdlite", "fasterrcnn"), ("large", "small"), (0.35, 1.3), (False, True)),
        cycle((2, 0, 6)),
        strict=False,
    )
]


@pytest.mark.proves(
    "The same detectors on Large and Small, 2 widths × tail, with 0, 2 or 6 stages that learn",
    against="torchvision 0.29.2's parts on its classification networks, under the same seed",
    tolerance=0,
    unit="absolute",
)
@pytest.mark.parametrize(("kind", "variant", "width", "tail", "learning"), GRID)
def test_any_backbone_has_torchvisions_parts(
    kind: str, variant: str, width: float, tail: bool, learning: int, deviation: Deviation
) -> None:
    options = {"width_mult": width, "reduced_tail": tail}
    more = {"num_classes": 4, "trainable_layers": learning}
    if kind == "ssdlite":
        config: DetectionConfig = ssdlite(variant, size=96, **more, **options)
    else:
        config = fasterrcnn(variant, **TINY, frozen_norm=learning == 2, **more, **options)
    networks = both_from_one_seed(lambda: build(config), lambda: torchvisions(config, variant, **options))
    assert_same_detector(*networks, deviation)


@pytest.mark.parametrize(
    "learning", [pytest.param(number, marks=() if number == 3 else pytest.mark.slow) for number in range(7)]
)
@pytest.mark.parametrize("variant", ["large", "small"])
def test_stages_that_do_not_learn(variant: str, learning: int) -> None:
    starts = {"large": (0, 2, 4, 7, 13, 16), "small": (0, 1, 2, 4, 9, 12)}[variant]
    for described in (ssdlite, fasterrcnn):
        config = described(variant, trainable_layers=learning)
        assert config.stage_starts == starts
        assert config.frozen == (*starts, starts[-1] + 1)[6 - learning]
        with torch.device("meta"):
            ours, theirs = build(config), torchvisions(config, variant, reduced_tail=isinstance(config, SSDLiteConfig))
        assert [p.requires_grad for p in ours.parameters()] == [p.requires_grad for p in theirs.parameters()]


@pytest.mark.parametrize("builder", ["ssdlite320_mobilenet_v3_large", "fasterrcnn_mobilenet_v3_large_320_fpn"])
def test_weights_of_a_file_of_torchvision_s(builder: str, tmp_path: Path) -> None:
    """In the format that torchvision publishes: a state dict, pickled."""
    theirs = getattr(models.detection, builder)(**PLAIN, num_classes=3, **BUILDERS[builder])
    torch.save(theirs.state_dict(), tmp_path / "published.pth")
    ours = getattr(mnv3lib, builder)(num_classes=3)
    report = weights.load(ours, tmp_path / "published.pth")
    assert report.fits
    assert report.loaded == tuple(theirs.state_dict())
    assert_same_state(ours, theirs)


def test_a_classification_network_s_features_are_a_body() -> None:
    classifier = mnv3lib.mobilenet_v3_small(width_mult=0.25)
    with torch.device("meta"):
        body = mnv3lib.fasterrcnn_mobilenet_v3_small_fpn(width_mult=0.25).backbone.body
    loaded = body.load_state_dict(classifier.features.state_dict(), assign=True)
    assert str(loaded) == "<All keys matched successfully>"


# --- the paper's ------------------------------------------------------------------------------------------------------

TABLE = facts.load()["detection"]
OURS = [row for row in TABLE["rows"] if "variant" in row]


def published(row: dict[str, Any]) -> cost.Profile:
    """A row of Table 6."""
    config = ssdlite(
        row["variant"], reduced_tail=row["halved"], fewer_boxes=True, num_classes=TABLE["classes"], size=TABLE["size"]
    )
    return cost.profile(config, config.size)


@pytest.mark.proves(
    "Published parameters of SSDLite on Large and Small, whole and halved, batch norm left out, to the last digit",
    against="Table 6 of the paper",
    tolerance=0,
    unit="count",
)
@pytest.mark.parametrize("row", OURS, ids=lambda row: f"row{row['row']}")
def test_published_parameters_are_reproduced(row: dict[str, Any], deviation: Deviation) -> None:
    # Batch norm has a scale and a shift for every mean and deviation.
    counted = Decimal(sum(layer.parameters - layer.saved_per_batch for layer in published(row).layers)) / 10**6
    step = Decimal(1).scaleb(-TABLE["digits"]["params"])
    deviation(float(abs(counted.quantize(step, ROUND_HALF_UP) - Decimal(str(row["params"])))))


def test_published_multiply_adds_are_within_two_per_cent() -> None:
    for row in OURS:
        assert published(row).macs / 1e9 == pytest.approx(row["macs"], rel=0.015)
    assert [row["row"] for row in OURS] == [4, 5, 10, 11]


def test_torchvision_says_so_itself() -> None:
    """Its multiply-adds of Faster R-CNN are without a single region."""
    for row, described in zip(
        TABLE["torchvision"],
        (ssdlite("large"), *[fasterrcnn("large", frozen_norm=True)] * 2),
        strict=True,
    ):
        meta = models.get_weight(row["weights"]).meta
        assert meta["_metrics"]["COCO-val2017"]["box_map"] == row["map"]
        assert (meta["num_params"], meta["_ops"]) == (row["params"], row["macs"])
        report = cost.profile(described, tuple(row["image"]))
        macs = sum(layer.macs for layer in report.layers if not layer.name.startswith("roi_heads"))
        assert (report.parameters, round(macs / 1e9, 3)) == (row["params"], row["macs"])


def test_the_authors_boxes() -> None:
    """2034 of them at 320 pixels, and 3234 of torchvision's."""
    image = ImageList(torch.zeros(1, 3, 320, 320), [(320, 320)])
    for fewer, number in ((True, 2034), (False, 3234)):
        config = ssdlite("small", fewer_boxes=fewer)
        sides = (20, 10, 5, 3, 2, 1)
        maps = [torch.zeros(1, 1, side, side) for side in sides]
        boxes = DefaultBoxes(config)(image, maps)[0]
        assert len(boxes) == number == sum(boxes * side**2 for boxes, side in zip(config.boxes, sides, strict=True))
    first = DefaultBoxes(ssdlite("small", fewer_boxes=True))(image, maps)[0][:3]
    assert torch.allclose(first[:, :2] + first[:, 2:], torch.full((3, 2), 16.0))  # around the first cell's centre
    wide = first[:, 2:] - first[:, :2]
    assert torch.allclose(wide[0], torch.tensor([32.0, 32.0]))
    assert torch.allclose(wide.prod(dim=1)[1:], torch.full((2,), 64.0**2))
    assert torch.allclose(wide[1:, 0] / wide[1:, 1], torch.tensor([2.0, 0.5]))


def test_a_full_pyramid_has_three_resolutions() -> None:
    for variant, taps in (("large", (6, 12, 16)), ("small", (3, 8, 12))):
        config = fasterrcnn(variant, full_pyramid=True)
        assert (config.taps, config.strides) == (taps, (8, 16, 32))
        assert config.anchor_sizes == ((64,), (128,), (256,), (512,))
        for described, expected in ((config, [16, 8, 4, 2]), (fasterrcnn(variant), [4, 4, 2])):
            network = on_meta(described)
            maps = network.backbone(torch.zeros(1, 3, 128, 128, device="meta"))
            assert [found.shape[-1] for found in maps.values()] == expected
    with pytest.raises(ValueError, match=r"8, 16 and 32 for full_pyramid, got \(4, 8, 16\)"):
        fasterrcnn("large", full_pyramid=True, dilated=True)


# --- the edges --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "config",
    [
        ssdlite("small", width_mult=0.25, size=64, num_classes=3),
        fasterrcnn("small", width_mult=0.25, num_classes=3, full_pyramid=True, **TINY),
    ],
    ids=["ssdlite", "fasterrcnn"],
)
def test_images_of_any_size_and_without_objects(config: DetectionConfig) -> None:
    torch.manual_seed(0)
    network = build(config).train()
    images = [batch(3, 1, 1), batch(3, 40, 24)]
    one = {"boxes": torch.tensor([[0.0, 0.0, 1.0, 1.0]]), "labels": torch.tensor([2])}
    for truth in ([one, NOTHING], [NOTHING, NOTHING]):
        losses = network(images, truth)
        assert all(loss.isfinite() for loss in losses.values())
    torch.stack(list(losses.values())).sum().backward()
    with torch.no_grad():
        for found, image in zip(network.eval()(images), images, strict=True):
            assert found["boxes"].isfinite().all()
            assert found["boxes"].shape == (len(found["scores"]), 4)
            assert set(found["labels"].tolist()) <= {1, 2}
            height, width = image.shape[-2:]
            assert (found["boxes"] <= torch.tensor([width, height, width, height]) + 1e-3).all()


@pytest.mark.parametrize("described", [ssdlite, fasterrcnn])
@pytest.mark.parametrize("label", [0, -1, 3, 91])
def test_labels_that_there_are_not(described: Any, label: int) -> None:
    network = on_meta(described("small", num_classes=3)).train()
    truth = targets()
    truth[1]["labels"] = torch.tensor([label])
    with pytest.raises(ValueError, match=rf"labels of targets\[1\] must be integers from 1 to 2, got (3|{label})"):
        network([IMAGES[1]] * 2, [NOTHING, truth[1]])
    with pytest.raises(AssertionError, match="targets should not be none when in training mode"):
        network(IMAGES)


WRONG = {
    ("ssdlite", "num_classes", 0): "num_classes must be an integer >= 1, got 0",
    ("fasterrcnn", "num_classes", True): "num_classes must be an integer >= 1, got True",
    ("ssdlite", "size", 320.0): "size must be an integer >= 1, got 320.0",
    ("ssdlite", "fewer_boxes", 1): "fewer_boxes must be True or False, got 1",
    ("ssdlite", "trainable_layers", 7): "trainable_layers must be None or an integer from 0 to 6, got 7",
    ("fasterrcnn", "trainable_layers", -1): "trainable_layers must be None or an integer from 0 to 6, got -1",
    ("fasterrcnn", "trainable_layers", True): "trainable_layers must be None or an integer from 0 to 6, got True",
    ("fasterrcnn", "full_pyramid", None): "full_pyramid must be True or False, got None",
    ("fasterrcnn", "frozen_norm", "yes"): "frozen_norm must be True or False, got 'yes'",
    ("fasterrcnn", "min_size", 0): "min_size must be an integer >= 1, got 0",
    ("fasterrcnn", "max_size", 100): "max_size must be an integer >= min_size (320|800), got 100",
    ("fasterrcnn", "proposals", 1.5): "proposals must be an integer >= 1, got 1.5",
    ("ssdlite", "norm_momentum", 2): "norm_momentum must be a number from 0 to 1, got 2",
    ("ssdlite", "sizes", 64): r"ssdlite\(\) got an unexpected keyword argument 'sizes'",
    (
        "fasterrcnn",
        "dilate",
        True,
    ): r"fasterrcnn\(\) got an unexpected keyword argument 'dilate'; did you mean 'dilated'",
    ("fasterrcnn", "fewer_boxes", True): r"fasterrcnn\(\) got an unexpected keyword argument 'fewer_boxes'",
    ("ssdlite", "in_channels", 1): r"ssdlite\(\) got an unexpected keyword argument 'in_channels'",
}
NAMES = {"ssdlite": ["ssdlite320_mobilenet_v3_{}"], "fasterrcnn": ["fasterrcnn_mobilenet_v3_{}_fpn",
         "fasterrcnn_mobilenet_v3_{}_320_fpn"]}  # fmt: skip


@pytest.mark.parametrize("size", ["large", "small"])
@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: "-".join(map(str, wrong)))
def test_wrong_arguments_are_named(wrong: tuple[str, str, Any], size: str) -> None:
    kind, name, value = wrong
    for builder in NAMES[kind]:
        with pytest.raises((TypeError, ValueError), match=WRONG[wrong]):
            getattr(mnv3lib, builder.format(size))(**{name: value})


def test_builders_take_keywords_only_and_show_them() -> None:
    for kind, described in (("ssdlite", ssdlite), ("fasterrcnn", fasterrcnn)):
        for builder, size in product(NAMES[kind], ("large", "small")):
            function = getattr(mnv3lib, builder.format(size))
            with pytest.raises(TypeError, match="positional"):
                function(91)
            shown = inspect.signature(function).parameters
            assert list(shown) == list(inspect.signature(described).parameters)[1:]
            assert all(parameter.kind is parameter.KEYWORD_ONLY for parameter in shown.values())
            if "320_fpn" in builder:
                assert [shown[name].default for name in ("min_size", "max_size", "proposals")] == [320, 640, 150]


def test_what_is_no_configuration_is_refused() -> None:
    with pytest.raises(TypeError, match="backbone must be a MobileNetV3Config, got 'large'"):
        SSDLiteConfig(backbone="large")  # type: ignore[arg-type]
    for kind in (SSDLiteConfig, FasterRCNNConfig):
        with pytest.raises(ValueError, match="backbone must take images of 3 channels, got 1"):
            kind(backbone=small(in_channels=1))
        flat = MobileNetV3Config((InvertedResidualConfig(8, 3, 8, 8, False, "RE", 1),), 8, 8)
        with pytest.raises(ValueError, match=r"backbone must have .* row of stride 2"):
            kind(backbone=flat)
    with pytest.raises(ValueError, match=r"variant must be one of 'large', .*, got 'smal'; did you mean 'small'"):
        ssdlite("smal")
    with pytest.raises(TypeError, match="config must be an SSDLiteConfig, got"):
        SSDLite(small())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="config must be a FasterRCNNConfig, got"):
        FasterRCNN(ssdlite("small"))  # type: ignore[arg-type]
