"""What a network gives, as one tensor: logits of images, or the scores of a segmentation without their dictionary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Scores", "giving_a_tensor", "logits"]

#: Under which networks for segmentation give their scores.
_OUT = "out"


class Scores(nn.Module):
    """A network for segmentation that gives its scores and nothing else, as engines want it.

    Args:
        network: from images to a dictionary, ours or torchvision's; it is not copied.

    Shape:
        (N, C, H, W) to (N, num_classes, H, W).
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.training = network.training

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.network(images)[_OUT]
        return scores


def giving_a_tensor(model: nn.Module, example: Tensor) -> nn.Module:
    """The model, or :class:`Scores` of one that gives a dictionary with ``"out"``.

    Raises:
        TypeError, ValueError: if it does not take such images, or gives neither, as networks for detection do: their
            boxes are as many as they find.
    """
    found = _found(model, example)
    if isinstance(found, Mapping) and isinstance(found.get(_OUT), Tensor):
        return Scores(model)
    _as_tensor(found)
    return model


def logits(model: nn.Module, images: Tensor) -> Tensor:
    """What the model gives.

    Raises:
        TypeError, ValueError: if it does not take such images, or gives no tensor.
    """
    return _as_tensor(_found(model, images))


def _found(model: nn.Module, images: Tensor) -> Any:
    try:
        with torch.no_grad():
            return model(images)
    except RuntimeError as error:
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(
            f"example must be images that the model takes, {tuple(images.shape)} are not: {reason}"
        ) from error


def _as_tensor(found: Any) -> Tensor:
    if not isinstance(found, Tensor):
        given = type(found).__name__
        boxes = ", as networks for detection do, which run in PyTorch only" if given == "list" else ""
        raise TypeError(f"model must give a tensor, or a dictionary with one under {_OUT!r}, it gave a {given}{boxes}")
    return found
