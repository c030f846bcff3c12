"""What networks for detection share: layers that do not learn, and targets that are looked at before they are used."""

# Without `from __future__ import annotations`, as in mnv3lib.blocks.

from collections.abc import Callable, Iterable

from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

from mnv3lib.detectors import DetectionConfig
from mnv3lib.network import MobileNetV3

__all__ = ["Target", "check_labels", "features_of"]

#: What is in one image: ``"boxes"`` (N, 4), left, top, right and bottom, and ``"labels"`` (N,), from 1 on.
Target = dict[str, Tensor]


def features_of(
    config: DetectionConfig,
    *,
    frozen_norm: bool = False,
    initialise: Callable[[nn.Module], None] = lambda network: None,
) -> nn.Sequential:
    """The backbone's layers, of which the first ``config.frozen`` do not learn.

    The classifier is drawn and thrown away, as torchvision does: the weights of what follows depend on it.

    Args:
        config: says which classification network.
        frozen_norm: batch norm with fixed numbers.
        initialise: draws the weights of the whole network anew.
    """

    def frozen(channels: int) -> nn.Module:
        return FrozenBatchNorm2d(channels, eps=config.backbone.norm_eps)

    network = MobileNetV3(config.backbone, frozen if frozen_norm else None)
    initialise(network)
    network.features[: config.frozen].requires_grad_(False)
    return network.features


def check_labels(targets: Iterable[Target] | None, num_classes: int) -> None:
    """Refuse a class that the network has not, and the background, which no box is.

    Raises:
        ValueError: naming the target, the label and the range.
    """
    for index, target in enumerate(targets or ()):
        labels = target["labels"]
        wrong = labels[(labels < 1) | (labels >= num_classes)]
        if wrong.numel():
            raise ValueError(
                f"labels of targets[{index}] must be integers from 1 to {num_classes - 1}, got {wrong[0].item()!r}"
            )
