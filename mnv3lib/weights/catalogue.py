"""Networks by the names that torchvision and timm publish weights under, with the switches those weights need."""

from __future__ import annotations

import re
from typing import Unpack

from mnv3lib.config import VARIANTS, MobileNetV3Config, Options, Variant
from mnv3lib.network import MobileNetV3

__all__ = ["NAMES", "config_for", "network_for"]

#: What timm's networks have beside their width; without it the same weights give other numbers.
_TIMM: Options = {"rounding": "timm", "norm_eps": 1e-5, "padding": "symmetric", "reduced_tail": False}
_TF: Options = {**_TIMM, "norm_eps": 1e-3, "padding": "same"}
#: Settings of training that a name brings, and that may be given otherwise.
_TIMM_TRAINING: Options = {"norm_momentum": 0.1, "dropout": 0.0}


def _timm() -> dict[str, tuple[Variant, Options, Options]]:
    found: dict[str, tuple[Variant, Options, Options]] = {}
    for name, widths in (("large", (75, 100)), ("small", (50, 75, 100))):
        for width in widths:
            fixed: Options = {"width_mult": width / 100}
            found[f"mobilenetv3_{name}_{width:03d}"] = (VARIANTS[name], {**_TIMM, **fixed}, _TIMM_TRAINING)
            if width > 50:
                found[f"tf_mobilenetv3_{name}_{width:03d}"] = (VARIANTS[name], {**_TF, **fixed}, _TIMM_TRAINING)
    for name in ("large", "small"):
        minimal = VARIANTS[f"{name}_minimalistic"]
        found[f"tf_mobilenetv3_{name}_minimal_100"] = (minimal, {**_TF, "width_mult": 1.0}, _TIMM_TRAINING)
    return found


_LARGE = VARIANTS["large"]

#: Name to variant, what the name fixes, and what it sets unless it is given otherwise. Of the networks for other
#: tasks it is the backbone, with a fresh classifier.
_CATALOGUE: dict[str, tuple[Variant, Options, Options]] = {
    "mobilenet_v3_large": (_LARGE, {}, {}),
    "mobilenet_v3_small": (VARIANTS["small"], {}, {}),
    "lraspp_mobilenet_v3_large": (_LARGE, {"dilated": True}, {}),
    "deeplabv3_mobilenet_v3_large": (_LARGE, {"dilated": True}, {}),
    "ssdlite320_mobilenet_v3_large": (_LARGE, {"reduced_tail": True}, {"norm_momentum": 0.03}),
    # Built with plain or frozen batch norm, whose ε is 1e-5.
    "fasterrcnn_mobilenet_v3_large_fpn": (_LARGE, {"norm_eps": 1e-5}, {"norm_momentum": 0.1}),
    "fasterrcnn_mobilenet_v3_large_320_fpn": (_LARGE, {"norm_eps": 1e-5}, {"norm_momentum": 0.1}),
    **_timm(),
}
NAMES = tuple(_CATALOGUE)

_REFUSED = {
    "mobilenetv3_rw": "it is an earlier variant: no bias in front of the classifier, and the widths of its "
    "squeeze-and-excitation are not rounded to 8",
    "mobilenetv3_large_150d": "it is deeper, with 1.2 times as many blocks, which is in neither of the tables",
}


def config_for(name: str, **options: Unpack[Options]) -> MobileNetV3Config:
    """The configuration of a network that torchvision or timm has under ``name``; see :func:`network_for`."""
    known = re.sub(r"^timm/", "", name).partition(".")[0] if isinstance(name, str) else name
    if known in _REFUSED:
        raise ValueError(f"name must not be {name!r}: {_REFUSED[known]}")
    if not isinstance(name, str) or known not in _CATALOGUE:
        raise ValueError(f"name must be one of {', '.join(NAMES)}, got {name!r}")
    variant, fixed, preset = _CATALOGUE[known]
    for option in options:
        if option in fixed:
            raise TypeError(f"{option} must not be given: {known!r} has {option}={fixed[option]!r}")  # type: ignore[literal-required]
    settings: Options = {**preset, **options, **fixed}
    return variant.config(**settings)


def network_for(name: str, **options: Unpack[Options]) -> MobileNetV3:
    """Build the network that torchvision or timm has under ``name``, with fresh weights; it gives what theirs gives.

    timm's networks have another ε in batch norm (1e-5), other widths, and, in the ``tf_`` ones, TensorFlow's padding;
    their momentum (0.1) and dropout (0) are taken over unless given. Names of torchvision's detection and segmentation
    networks give the backbone, with a fresh classifier: load it with ``part="features"``.

    Args:
        name: one of ``NAMES``; a timm tag after a dot, as in ``"mobilenetv3_small_050.lamb_in1k"``, is allowed.
        options: as for :func:`mnv3lib.network.mobilenet_v3_large`, except what the name decides.

    Raises:
        ValueError: for a name that is unknown, or that the library cannot build, with the reason.
        TypeError: for an option that the name decides.

    >>> network_for("tf_mobilenetv3_small_075", num_classes=10).config.padding
    'same'
    """
    return MobileNetV3(config_for(name, **options))
