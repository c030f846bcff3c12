"""From a configuration, or from a name and its options, to a network of segmentation or detection."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from mnv3lib._checks import nearest, unknown, value_of
from mnv3lib.config import OnBackbone
from mnv3lib.detectors import FasterRCNNConfig, SSDLiteConfig
from mnv3lib.heads import DeepLabV3Config, LRASPPConfig

if TYPE_CHECKING:
    from torch import nn

__all__ = ["BACKBONE", "build", "describe", "kind_of", "known_options", "weights_of"]

C = TypeVar("C", bound=OnBackbone)

#: The option that names the weights of a classification network to start from.
BACKBONE = "weights_backbone"
#: What describes a network, and the name of the network's class.
_CLASSES = {LRASPPConfig: "LRASPP", DeepLabV3Config: "DeepLabV3", SSDLiteConfig: "SSDLite",
            FasterRCNNConfig: "FasterRCNN"}  # fmt: skip
#: Before the names under which torchvision publishes weights.
_PUBLISHED = "MobileNet_V3_{}_Weights."


def kind_of(config: OnBackbone) -> type[nn.Module]:
    """The class of the network that a configuration describes.

    Raises:
        TypeError: for what describes no network for segmentation or detection.
    """
    tasks = importlib.import_module("mnv3lib.tasks")  # which imports what is asked for, and not torchvision for all
    for described, name in _CLASSES.items():
        if isinstance(config, described):
            found: type[nn.Module] = getattr(tasks, name)
            return found
    raise TypeError(f"config must describe a network for segmentation or detection, got {config!r}")


def build(config: OnBackbone) -> nn.Module:
    """The network that a configuration describes, with fresh weights.

    Raises:
        TypeError: as ``kind_of``.
    """
    return kind_of(config)(config)


def known_options(described: Callable[..., OnBackbone]) -> list[str]:
    """The options of a network: the keywords of what describes it, and the weights of its backbone."""
    keywords = signature(described).parameters.values()
    return [*(each.name for each in keywords if each.kind is each.KEYWORD_ONLY), BACKBONE]


def describe(
    networks: Mapping[str, Callable[..., C]],
    name: str,
    options: Mapping[str, Any],
    num_classes: int,
    *,
    task: str,
    learnt: Mapping[str, Any] | None = None,
) -> tuple[C, str | None]:
    """The configuration of a task's network, and where the weights of its backbone are.

    Args:
        networks: what describes each network that the task has, by the network's name.
        name: of the network.
        options: its keywords, and ``BACKBONE``.
        num_classes: of the data.
        task: its name, for errors.
        learnt: options that are otherwise where the backbone's weights are named, unless they are given.

    Raises:
        TypeError, ValueError: naming the option, its value and its range; for an unknown one the nearest.
    """
    if name not in networks:
        listed = ", ".join(map(repr, networks))
        raise ValueError(f"name must be one of {listed} for {task}, got {name!r}{nearest(name, networks)}")
    known = known_options(networks[name])
    for option in options:
        if option == "weights":
            raise ValueError(
                "options.weights must be left out: it is weights, beside options, that names a file for the whole "
                f"network, got {options[option]!r}"
            )
        if option not in known:
            raise unknown("options", option, known)
    given = {"num_classes": num_classes, **options}
    if given["num_classes"] != num_classes:
        raise ValueError(
            f"options.num_classes must be left out, or {num_classes}, which is what the data have, "
            f"got {given['num_classes']!r}"
        )
    source = weights_of(name, given.pop(BACKBONE, None))
    if source is not None:
        given = {**(learnt or {}), **given}
    try:
        return networks[name](**given), source
    except (TypeError, ValueError, OverflowError) as error:  # begins with the name of the option
        raise type(error)(f"options.{error}") from None


def weights_of(name: str, source: Any) -> str | None:
    """Where the weights of a backbone are: a source of :func:`mnv3lib.weights.load`, or None for fresh ones.

    Args:
        name: of the network, which says whether it is Large or Small.
        source: a path, an address, a name with ``shipped:`` or ``hf-hub:``; or under which torchvision publishes
            weights of the classification network, ``"IMAGENET1K_V1"``, and is replaced by its address.

    Raises:
        TypeError, ValueError: for what can be none of these.
    """
    if source is None:
        return None
    if not isinstance(source, str):
        raise TypeError(f"options.{BACKBONE} must be None or text, got {source!r}")
    if any(sign in source for sign in "/\\:") or Path(source).is_file():
        return source
    from torchvision.models import get_model_weights

    variant = "small" if "_small" in name else "large"
    published = dict(get_model_weights(f"mobilenet_v3_{variant}").__members__)
    short = source.removeprefix(_PUBLISHED.format(variant.capitalize()))
    if Path(short).suffix:
        return source  # a file that is not here: whoever reads it says so
    return str(value_of(f"options.{BACKBONE}, where it names no file,", short, published).url)
