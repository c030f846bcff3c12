"""Torchvision's networks for segmentation and detection: their names, their options, and building without a file."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from inspect import signature
from typing import Any

from torch import nn
from torchvision import models
from torchvision.models import MobileNet_V3_Large_Weights
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.ssd import SSD

from mnv3lib._checks import nearest, unknown

__all__ = ["build", "check_name", "check_options", "known_options"]

#: Parameters in torchvision's signatures that are no options: set by the builder, or no plain data.
_OTHERS = {
    *("self", "kwargs", "weights", "progress", "backbone", "norm_layer", "anchor_generator", "size", "head"),
    *("rpn_anchor_generator", "rpn_head", "box_roi_pool", "box_head", "box_predictor"),
}
#: Of what SSDLite's builder hands on, the keywords that MobileNetV3 understands.
_BACKBONE = ("width_mult", "dilated")


def check_name(name: str, known: Collection[str], task: str) -> str:
    """Return the name of a builder if it is one of ``known``."""
    if name not in known:
        listed = ", ".join(map(repr, known))
        raise ValueError(f"name must be one of {listed} for {task}, got {name!r}{nearest(name, known)}")
    return name


def known_options(name: str) -> list[str]:
    """The options of a builder: its keywords, and those of the network that it hands them on to."""
    found = list(signature(models.get_model_builder(name)).parameters)
    if name.startswith("ssdlite"):
        found += [*signature(SSD.__init__).parameters, *_BACKBONE]
    elif name.startswith("fasterrcnn"):
        found += signature(FasterRCNN.__init__).parameters
    return [option for option in dict.fromkeys(found) if option not in _OTHERS]


def check_options(name: str, options: Mapping[str, Any], num_classes: int) -> dict[str, Any]:
    """The keywords of a builder, with the number of classes and the file of its backbone, which None leaves out.

    Raises:
        ValueError: for an option that the builder does not know (torchvision ignores some in silence), a file that
            there is not, or another number of classes.
    """
    known = known_options(name)
    for option in options:
        if option == "weights":
            raise ValueError(
                "options.weights must be left out: it is weights, beside options, that names a file for the whole "
                f"network, got {options[option]!r}"
            )
        if option not in known:
            raise unknown("options", option, known)
    if options.get("num_classes", num_classes) != num_classes:
        raise ValueError(
            f"options.num_classes must be left out, or {num_classes}, which is what the data have, "
            f"got {options['num_classes']!r}"
        )
    file, files = options.get("weights_backbone"), MobileNet_V3_Large_Weights.__members__
    if isinstance(file, str):
        file = file.removeprefix("MobileNet_V3_Large_Weights.")
    if file is not None and file not in files:
        listed = ", ".join(map(repr, (None, *files)))
        raise ValueError(f"options.weights_backbone must be one of {listed}, got {file!r}{nearest(file, files)}")
    # Torchvision's own default is to fetch a file.
    return {**options, "num_classes": num_classes, "weights": None, "weights_backbone": file}


def build(name: str, options: Mapping[str, Any], *, pretrained: bool) -> nn.Module:
    """A network of torchvision.

    The layers depend on whether the backbone comes from a file: Faster R-CNN's batch norm is fixed then, and SSDLite
    has the whole last stage. So where no file is wanted it is built in the same way, but from fresh weights.
    """
    file = options["weights_backbone"]
    with nullcontext() if pretrained or file is None else _unfetched(MobileNet_V3_Large_Weights[file]):
        return models.get_model(name, **options)


@contextmanager
def _unfetched(weights: MobileNet_V3_Large_Weights) -> Iterator[None]:
    """Let ``weights`` give a fresh network's tensors, as if they had been in its file."""

    def fresh(**_: Any) -> dict[str, Any]:
        return models.mobilenet_v3_large().state_dict()

    weights.get_state_dict = fresh
    try:
        yield
    finally:
        del weights.get_state_dict
