"""The constants of batch norm, and what published weights want done to an image."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from figures.reference.tables import NOTHING, Table, plain
from torch import nn

from mnv3lib import facts
from mnv3lib.config import VARIANTS
from mnv3lib.network import MobileNetV3


def norms() -> Table:
    """Batch norm's two constants, by who built the network."""
    from torchvision import models

    with torch.device("meta"):
        measured: dict[str, nn.Module] = {
            "PyTorch, `BatchNorm2d`": nn.BatchNorm2d(1),
            "this library": MobileNetV3(VARIANTS["large"].config()),
            "torchvision": models.mobilenet_v3_large(),
            "timm, `mobilenetv3_…`": _timm("mobilenetv3_large_100"),
            "timm, `tf_mobilenetv3_…`": _timm("tf_mobilenetv3_large_100"),
        }
    rows = [[name, *_constants(network)] for name, network in measured.items()]
    quoted = {row["id"]: row for row in facts.load()["implementations"]["rows"]}
    for name, words in (("paper", "*paper*"), ("keras", "*Keras*"), ("tf-slim", "*TF-slim*")):
        rows.append([words, *(f"*{quoted[row][name]}*" for row in ("bn-eps", "bn-momentum"))])
    return Table(["", "ε", "momentum"], rows)


def _constants(network: nn.Module) -> tuple[str, str]:
    found = {(norm.eps, norm.momentum) for norm in network.modules() if isinstance(norm, nn.BatchNorm2d)}
    ((eps, momentum),) = found
    return plain(eps), plain(momentum)


def _timm(name: str) -> nn.Module:
    import timm

    return timm.create_model(name, pretrained=False)


#: The colours of ImageNet's photographs, from 0 to 1: red, green, blue.
IMAGENET = {"mean": (0.485, 0.456, 0.406), "standard deviation": (0.229, 0.224, 0.225)}
WHOSE = "ImageNet's: " + "; ".join(f"{what} {plain(values)}" for what, values in IMAGENET.items()) + "."
PREPROCESSING = ["weights", "shorter side to", "crop", "interpolation", "mean", "standard deviation"]


def torchvision_preprocessing() -> Table:
    """What torchvision does to an image before each of its weights, from the weights' own transforms."""
    from torchvision import models

    rows = []
    for name in ("mobilenet_v3_large", "mobilenet_v3_small", "quantized_mobilenet_v3_large",
                 "lraspp_mobilenet_v3_large", "deeplabv3_mobilenet_v3_large"):  # fmt: skip
        for weights in models.get_model_weights(name):
            preset = weights.transforms()
            (resize,) = preset.resize_size
            crop = str(preset.crop_size[0]) if hasattr(preset, "crop_size") else NOTHING
            smooth = f"{preset.interpolation.value}{', antialiased' if preset.antialias else ''}"
            shown = f"`{name}`<br>`{weights.name}`"
            rows.append([shown, str(resize), crop, smooth, _three(preset.mean), _three(preset.std)])
    for name in ("ssdlite320_mobilenet_v3_large", "fasterrcnn_mobilenet_v3_large_320_fpn",
                 "fasterrcnn_mobilenet_v3_large_fpn"):  # fmt: skip
        with torch.device("meta"):
            inside = models.get_model(name, weights=None, weights_backbone=None).transform
        if inside.fixed_size:
            size = f"exactly {inside.fixed_size[1]} × {inside.fixed_size[0]}"
        else:
            size = f"{inside.min_size[0]}, the longer at most {inside.max_size}"
        (weights,) = models.get_model_weights(name)
        shown = f"`{name}`<br>`{weights.name}`"
        rows.append([shown, size, NOTHING, "bilinear", _three(inside.image_mean), _three(inside.image_std)])
    return Table(PREPROCESSING, rows, [WHOSE])


def timm_preprocessing() -> Table:
    """What timm does to an image before each of its weights that this library can load, from timm's configurations."""
    import timm

    from mnv3lib.weights import NAMES

    rows, notes = [], []
    for name in timm.list_pretrained("*mobilenetv3*"):
        if name.partition(".")[0] not in NAMES:
            continue
        about: Any = timm.models.get_pretrained_cfg(name)
        side = about.input_size[-1]
        rows.append([
            f"`{name}`", str(int(side / about.crop_pct)), str(side), about.interpolation, _three(about.mean),
            _three(about.std),
        ])  # fmt: skip
        if about.test_input_size:
            tested = about.test_input_size[-1]
            notes.append(
                f"`{name}` was also evaluated at {tested}, the shorter side to {int(tested / about.test_crop_pct)}."
            )
    return Table(PREPROCESSING, rows, [WHOSE, *notes])


def _three(values: Iterable[float]) -> str:
    """One number that stands for three, or whose three numbers they are."""
    found = tuple(values)
    if found in IMAGENET.values():
        return "ImageNet's"
    return plain(found[0]) if len(set(found)) == 1 else plain(found)
