"""Faster R-CNN, detection in two passes: proposals of boxes from a feature pyramid, then a class for each.

Papers: Ren et al., arXiv:1506.01497; Lin et al., arXiv:1612.03144 (the pyramid). All but the backbone is torchvision's;
names, order, random numbers, outputs and gradients of :func:`fasterrcnn_mobilenet_v3_large_fpn` and
:func:`fasterrcnn_mobilenet_v3_large_320_fpn` equal those of torchvision's networks without any file, bit for bit
(float32, CPU, one thread).
"""

# Without `from __future__ import annotations`, as in mnv3lib.blocks.

from typing import Any, Unpack

from torch import Tensor
from torchvision.models.detection import FasterRCNN as TorchvisionFasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN

from mnv3lib.detectors import FasterRCNNConfig, FasterRCNNOptions, fasterrcnn, fasterrcnn_320
from mnv3lib.tasks.boxes import Target, check_labels, features_of
from mnv3lib.tasks.taps import keywords_of

__all__ = [
    "FasterRCNN",
    "fasterrcnn_mobilenet_v3_large_320_fpn",
    "fasterrcnn_mobilenet_v3_large_fpn",
    "fasterrcnn_mobilenet_v3_small_320_fpn",
    "fasterrcnn_mobilenet_v3_small_fpn",
]


class FasterRCNN(TorchvisionFasterRCNN):
    """Torchvision's ``torchvision.models.detection.FasterRCNN`` on a pyramid over MobileNetV3.

    In training it takes images and targets, and gives its four losses; otherwise it takes images, and gives for each a
    dictionary of ``"boxes"``, ``"labels"`` and ``"scores"``.

    Args:
        config: from :func:`mnv3lib.detectors.fasterrcnn`, or with a backbone of your own.

    Raises:
        TypeError: if ``config`` is no :class:`mnv3lib.detectors.FasterRCNNConfig`.
        ValueError: in training, for a label that is not from 1 to ``num_classes - 1``; and for an image that is so long
            that nothing is left of its shorter side when the longer one has ``max_size``.

    Shape:
        images (3, H, W) from 0 to 1, each of its own size; targets are dictionaries of ``"boxes"`` (N, 4), left, top,
        right and bottom in pixels, and ``"labels"`` (N,). N may be 0.

    Attributes:
        config: the configuration it was built from.
        classes: names of the classes, the background first; None where nobody gave them.
        backbone: ``body``, the classification network's ``features`` under their numbers, and ``fpn``, the pyramid.
        rpn: what proposes boxes.
        roi_heads: what reads the pyramid inside them.
    """

    def __init__(self, config: FasterRCNNConfig) -> None:
        if not isinstance(config, FasterRCNNConfig):
            raise TypeError(f"config must be a FasterRCNNConfig, got {config!r}")
        pyramid = BackboneWithFPN(
            features_of(config, frozen_norm=config.frozen_norm),
            {str(tap): str(level) for level, tap in enumerate(config.taps)},
            list(config.map_channels),
            config.channels,
        )
        super().__init__(
            pyramid,
            config.num_classes,
            config.min_size,
            config.max_size,
            rpn_anchor_generator=AnchorGenerator(
                config.anchor_sizes, (config.anchor_ratios,) * len(config.anchor_sizes)
            ),
            rpn_pre_nms_top_n_test=config.proposals,
            rpn_post_nms_top_n_test=config.proposals,
            rpn_score_thresh=0.05,
        )
        self.config = config
        self.classes: tuple[str, ...] | None = None

    def forward(self, images: list[Tensor], targets: list[Target] | None = None) -> Any:
        most = self.config.max_size
        for index, image in enumerate(images):
            height, width = image.shape[-2:]
            if max(height, width) > most * min(height, width):
                raise ValueError(
                    f"images[{index}] must have sides of a ratio of at most {most}, which is max_size, "
                    f"got {height}×{width}"
                )
        if self.training:
            check_labels(targets, self.config.num_classes)
        return super().forward(images, targets)


@keywords_of(fasterrcnn)
def fasterrcnn_mobilenet_v3_large_fpn(**options: Unpack[FasterRCNNOptions]) -> FasterRCNN:
    """Faster R-CNN on Large with fresh weights; the keywords are those of :func:`mnv3lib.detectors.fasterrcnn`.

    >>> sum(p.numel() for p in fasterrcnn_mobilenet_v3_large_fpn(frozen_norm=True).parameters())
    19386354
    """
    return FasterRCNN(fasterrcnn("large", **options))


@keywords_of(fasterrcnn)
def fasterrcnn_mobilenet_v3_small_fpn(**options: Unpack[FasterRCNNOptions]) -> FasterRCNN:
    """Faster R-CNN on Small with fresh weights; the keywords are those of :func:`mnv3lib.detectors.fasterrcnn`."""
    return FasterRCNN(fasterrcnn("small", **options))


@keywords_of(fasterrcnn_320)
def fasterrcnn_mobilenet_v3_large_320_fpn(**options: Unpack[FasterRCNNOptions]) -> FasterRCNN:
    """:func:`fasterrcnn_mobilenet_v3_large_fpn` with other defaults: images of 320 pixels and 150 proposals."""
    return FasterRCNN(fasterrcnn_320("large", **options))


@keywords_of(fasterrcnn_320)
def fasterrcnn_mobilenet_v3_small_320_fpn(**options: Unpack[FasterRCNNOptions]) -> FasterRCNN:
    """:func:`fasterrcnn_mobilenet_v3_small_fpn` with other defaults: images of 320 pixels and 150 proposals."""
    return FasterRCNN(fasterrcnn_320("small", **options))
