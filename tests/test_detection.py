"""SSDLite and Faster R-CNN: torchvision's bit for bit, the paper's parameter by parameter, counted without PyTorch."""

from __future__ import annotations

from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from ledger import Deviation, worst, worst_of
from reference import assert_same_state, batch, calibrate, same_bits
from torch import Tensor, nn
from torchvision import models
from torchvision.models.detection import _utils as utils
from torchvision.models.detection import backbone_utils
from torchvision.models.detection import ssdlite as torchvisions_ssdlite
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.ssd import SSD
from torchvision.ops import FrozenBatchNorm2d

import mnv3lib
from mnv3lib import weights
from mnv3lib.detectors import DetectionConfig, FasterRCNNConfig, SSDLiteConfig, fasterrcnn, ssdlite
from mnv3lib.tasks import FasterRCNN, SSDLite

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


def build(config: DetectionConfig) -> SSDLite | FasterRCNN:
    return SSDLite(config) if isinstance(config, SSDLiteConfig) else FasterRCNN(config)  # type: ignore[arg-type]


def on_meta(config: DetectionConfig) -> SSDLite | FasterRCNN:
    with torch.device("meta"):
        return build(config).eval()


def assert_same_detector(ours: nn.Module, theirs: nn.Module, deviation: Deviation) -> None:
    """Weights, detections, losses, gradients and statistics, and which parameters learn."""
    deviation(worst_of(ours.state_dict(), theirs.state_dict()))
    assert_same_state(ours, theirs)
    learning = [[name for name, p in network.named_parameters() if p.requires_grad] for network in (ours, theirs)]
    assert learning[0] == learning[1]
    for network in (ours, theirs):
        torch.manual_seed(1)
        calibrate(network, IMAGES)  # type: ignore[arg-type]
    with torch.no_grad():
        found, expected = ours(IMAGES), theirs(IMAGES)
    for one, other in zip(found, expected, strict=True):
        assert list(one) == list(other)
        for name in other:
            deviation(worst(one[name], other[name]))
            assert same_bits(one[name], other[name])
    assert sum(len(one["boxes"]) for one in expected) > 0
    losses, states = [], []
    for network in (ours.train(), theirs.train()):
        torch.manual_seed(2)
        losses.append(network(IMAGES, targets(empty=True)))
        torch.stack(list(losses[-1].values())).sum().backward()
        states.append(torch.get_rng_state())
    assert torch.equal(*states), "another number of random numbers drawn"
    assert list(losses[0]) == list(losses[1])
    deviation(worst_of(*losses))
    grads = [{name: p.grad for name, p in net.named_parameters() if p.requires_grad} for net in (ours, theirs)]
    deviation(worst_of(*grads))
    assert list(grads[0]) == list(grads[1])
    assert all(same_bits(grads[0][name], grad) for name, grad in grads[1].items())
    assert all(p.grad is None for p in ours.parameters() if not p.requires_grad)
    assert_same_state(ours, theirs)


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
    torch.manual_seed(0)
    ours = getattr(mnv3lib, builder)(**options)
    state = torch.get_rng_state()
    torch.manual_seed(0)
    theirs = getattr(models.detection, builder)(**PLAIN, **options)
    assert torch.equal(state, torch.get_rng_state()), "another number of random numbers drawn"
    assert_same_detector(ours, theirs, deviation)


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


QUICK = {
    ("ssdlite", "small", 0.5, True, 6), ("ssdlite", "large", 0.35, False, 2), ("fasterrcnn", "small", 0.35, False, 0),
}  # fmt: skip
GRID = [
    pytest.param(*point, marks=() if point in QUICK else pytest.mark.slow)
    for point in product(("ssdlite", "fasterrcnn"), ("large", "small"), (0.35, 0.5, 1.3), (False, True), (0, 2, 6))
]


@pytest.mark.proves(
    "The same detectors on Large and Small, 3 widths × tail, with 0, 2 and 6 stages that learn",
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
    torch.manual_seed(0)
    ours = build(config)
    torch.manual_seed(0)
    theirs = torchvisions(config, variant, **options)
    assert_same_detector(ours, theirs, deviation)


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
