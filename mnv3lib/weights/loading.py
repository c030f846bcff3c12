"""Weights into a network: names translated, what differs adapted or listed, and the network whole in every case."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mnv3lib._checks import boolean, one_of
from mnv3lib.network import MobileNetV3
from mnv3lib.weights.catalogue import network_for
from mnv3lib.weights.errors import WeightsError
from mnv3lib.weights.files import CONFIG, Checkpoint, Source, read
from mnv3lib.weights.fitting import ADAPTABLE, config_in, fit
from mnv3lib.weights.names import LAYOUTS, names_in_file
from mnv3lib.weights.report import Report

__all__ = ["load", "load_network", "timm_state_dict"]


def load(
    network: nn.Module,
    source: Source | Mapping[str, Tensor] | Checkpoint,
    *,
    part: Literal["all", "features"] = "all",
    adapt: Collection[str] = ADAPTABLE,
    strict: bool = True,
    sha256: str | None = None,
    entry: str | None = None,
) -> Report:
    """Copy weights into a network, whatever names the file has for them, or change nothing.

    Known are torchvision's names for classification, LR-ASPP, DeepLabV3, SSDLite and Faster R-CNN, timm's, and ours.
    A network that is not a :class:`mnv3lib.network.MobileNetV3` takes its own names only.

    Args:
        network: to be filled, in place.
        source: a path, address or hub id (see :func:`mnv3lib.weights.fetch`), what :func:`mnv3lib.weights.read` gave,
            or a state dict.
        part: ``"features"`` fills the trunk alone, and leaves out of the file what is not in it: the classifier, or the
            head of another task.
        adapt: what may differ. With ``"num_classes"``, the last layer is drawn anew if the file has another number of
            classes; with ``"in_channels"``, the first layer takes 3 channels' weights for another number of channels:
            their sum for 1, else repeated in turn and scaled by 3 / channels. Of torchvision's networks for other tasks
            the number of classes may differ: their last layers stay as they were.
        strict: False copies what fits and reports the rest.
        sha256, entry: see :func:`mnv3lib.weights.read`.

    Returns:
        A :class:`Report`. Nothing is skipped that is not in it.

    Raises:
        WeightsError: if anything is missing, unexpected, of another shape, or was trained with another ε or padding,
            with all of it; its ``report`` is the same as data. Also if the file is damaged or refused.
        FileNotFoundError, DownloadError, TypeError, ValueError: for the source and the arguments.
    """
    one_of("part", part, ("all", "features"))
    boolean("strict", strict)
    for name in adapt:
        one_of("adapt", name, ADAPTABLE)
    if not isinstance(network, nn.Module):
        raise TypeError(f"network must be a torch.nn.Module, got {network!r}")
    targets: dict[str, Tensor] = network.state_dict()
    if any(tensor.is_meta for tensor in targets.values()):
        raise ValueError("network must have storage to copy to, it is on the meta device")

    if isinstance(source, Checkpoint):
        checkpoint = source
    elif isinstance(source, Mapping):
        checkpoint = Checkpoint(dict(source), {}, "a state dict")
    elif isinstance(source, str | os.PathLike):
        checkpoint = read(source, sha256=sha256, entry=entry)
    else:
        raise TypeError(f"source must be a path, an address, a hub id or a state dict, got {source!r}")
    fitted = fit(network, checkpoint, part, adapt)
    report = fitted.report
    if strict and not report.fits:
        raise WeightsError(f"nothing was loaded, the weights do not fit.\n{report}{_advice(report)}", report)
    with torch.no_grad():
        for name, tensor in fitted.copies.items():
            targets[name].copy_(tensor)
        for name in fitted.zeroed:
            targets[name].zero_()
        for name in fitted.drawn:  # as in MobileNetV3.apply_initialisation
            if name.endswith("weight"):
                nn.init.normal_(targets[name], 0, 0.01)
            else:
                nn.init.zeros_(targets[name])
    return report


def _advice(report: Report) -> str:
    """What helps in the usual cases."""
    if report.missing and all(name.startswith("classifier.") for name in report.missing):
        return "\nFor the trunk alone, load part='features'."
    if report.conflicts:
        return "\nA network with the settings of a published one comes from network_for(name)."
    return ""


def load_network(
    source: Source | Checkpoint,
    name: str | None = None,
    *,
    sha256: str | None = None,
    entry: str | None = None,
    **options: Any,
) -> MobileNetV3:
    """Build a network and fill it: from a file of :func:`mnv3lib.weights.save` alone, or by ``name`` from any other.

    Args:
        source: a path, address or hub id (see :func:`mnv3lib.weights.fetch`), or what :func:`mnv3lib.weights.read`
            gave.
        name: what torchvision or timm calls it, see :func:`mnv3lib.weights.network_for`; None for what the file says.
        sha256, entry: see :func:`mnv3lib.weights.read`.
        options: what is to differ, e.g. ``num_classes=10``; see :func:`load` for what that does to the weights. Only
            what is given here may differ.

    Returns:
        The network, in training mode as all new ones.

    Raises:
        WeightsError, FileNotFoundError, DownloadError, TypeError, ValueError: see :func:`load`.
    """
    checkpoint = source if isinstance(source, Checkpoint) else read(source, sha256=sha256, entry=entry)
    if name is not None:
        network = network_for(name, **options)
    elif CONFIG not in checkpoint.metadata:
        raise WeightsError(f"{checkpoint.source} does not say which network it is for: give its name, or use load()")
    else:
        network = MobileNetV3(replace(config_in(checkpoint), **options))
    load(network, checkpoint, adapt=[option for option in ADAPTABLE if option in options])
    return network


def timm_state_dict(network: MobileNetV3) -> dict[str, Tensor]:
    """The state dict of a network under timm's names, for the timm network of the same rows and settings.

    Its ε, padding and widths have to be that network's (see :func:`mnv3lib.weights.network_for`); names cannot tell.
    The tensors are the network's own, not copies.

    Raises:
        WeightsError: for rows that timm has no names for.
    """
    state = network.state_dict()
    layout = next(layout for layout in LAYOUTS if layout.name == "timm")
    named = {theirs: state[ours] for ours, theirs in names_in_file(network.config, layout, state).items()}
    named["conv_head.weight"] = named["conv_head.weight"][:, :, None, None]
    return named
