"""Weights into a network: names translated, what differs adapted or listed, and the network whole in every case."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import fields, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mnv3lib._checks import boolean, no_other_keywords, one_of
from mnv3lib.config import MobileNetV3Config
from mnv3lib.network import MobileNetV3
from mnv3lib.weights.catalogue import network_for
from mnv3lib.weights.containers import state_dict_in
from mnv3lib.weights.errors import WeightsError
from mnv3lib.weights.files import Checkpoint, Source, read
from mnv3lib.weights.fitting import ADAPTABLE, Fit, fit
from mnv3lib.weights.metadata import CLASSIFICATION, CONFIG, Config, config_in
from mnv3lib.weights.names import LAYOUTS, names_in_file
from mnv3lib.weights.report import Report
from mnv3lib.weights.tensors import why_not_plain
from mnv3lib.weights.wrappers import bare

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

    Known are torchvision's names for classification, LR-ASPP, DeepLabV3, SSDLite and Faster R-CNN, timm's, and ours;
    what wrappers add (``module.``, ``_orig_mod.``) is taken off, and so is the name of what holds the network, as in
    ``model.features.0.0.weight`` or ``detector.backbone.features.0.0.weight``. The backbone of this library's networks
    for segmentation and detection takes all of these too, with ``part="features"``. As a whole these, and networks of
    others, take their own names only, with or without wrappers and ``model.``, ``net.``, ``network.`` or ``backbone.``
    in front.

    Args:
        network: to be filled, in place, also inside ``DistributedDataParallel`` or ``torch.compile``. If the file has
            names for the classes of the last layer, and that is copied, its ``classes`` are set to these.
        source: a path, address or hub id (see :func:`mnv3lib.weights.fetch`), what :func:`mnv3lib.weights.read` gave,
            a state dict, or a dictionary that holds one among other things.
        part: ``"features"`` fills the backbone alone, and leaves out of the file what is not in it: the classifier, or
            the head of another task.
        adapt: what may differ. With ``"num_classes"``, the last layer is drawn anew if the file has another number of
            classes; with ``"in_channels"``, the first layer takes 3 channels' weights for another number of channels:
            their sum for 1, else repeated in turn and scaled by 3 / channels. Of networks for other tasks the number of
            classes may differ: their last layers stay as they were.
        strict: False copies what fits and reports the rest.
        sha256: of a file, see :func:`mnv3lib.weights.read`.
        entry: which part of the source, see :func:`mnv3lib.weights.read`.

    Returns:
        A :class:`Report`. Nothing is skipped that is not in it.

    Raises:
        WeightsError: if anything is missing, unexpected, of another shape, sparse, quantised or not finite, was trained
            with another ε or padding, or for classes of other names; its ``report`` has all of it. Also if the file is
            damaged or refused, and if the network cannot be written to.
        FileNotFoundError, DownloadError, TypeError, ValueError: for the source and the arguments.
    """
    one_of("part", part, ("all", "features"))
    boolean("strict", strict)
    for name in adapt:
        one_of("adapt", name, ADAPTABLE)
    if not isinstance(network, nn.Module):
        raise TypeError(f"network must be a torch.nn.Module, got {network!r}")
    network = bare(network)
    for name, tensor in network.state_dict().items():
        reason = "no tensor" if not isinstance(tensor, Tensor) else why_not_plain(tensor)
        if reason:
            raise ValueError(f"network must have numbers in memory to copy to, {name} is {reason}")
    if isinstance(source, str | os.PathLike):
        checkpoint = read(source, sha256=sha256, entry=entry)
    elif isinstance(source, Mapping | Checkpoint):
        if sha256 is not None:
            raise ValueError(f"sha256 must be None for what is no file, got {sha256!r}")
        checkpoint = _of_memory(source, entry)
    else:
        raise TypeError(f"source must be a path, an address, a hub id or a state dict, got {source!r}")
    fitted = fit(network, checkpoint, part, adapt)
    report = fitted.report
    if strict and not report.fits:
        raise WeightsError(f"nothing was loaded, the weights do not fit.\n{report.short()}{_advice(report)}", report)
    _fill(fitted)
    if fitted.names_classes and checkpoint.classes is not None:
        network.classes = checkpoint.classes  # type: ignore[assignment]
    return report


def _of_memory(source: Mapping[str, Tensor] | Checkpoint, entry: str | None) -> Checkpoint:
    if isinstance(source, Checkpoint):
        tensors, shown = state_dict_in(source.tensors, entry, source.source)
        return Checkpoint(tensors, source.metadata, shown)
    tensors, shown = state_dict_in(source, entry, "a state dict")
    return Checkpoint(tensors, {}, shown)


def _fill(fitted: Fit) -> None:
    """Write all of it, or nothing: what was there comes back if anything fails on the way."""
    targets, random_state = fitted.targets, torch.get_rng_state()
    with torch.no_grad():
        before = {name: targets[name].clone() for name in (*fitted.copies, *fitted.zeroed, *fitted.drawn)}
        try:
            for name, tensor in fitted.copies.items():
                targets[name].copy_(tensor)
            for name in fitted.zeroed:
                targets[name].zero_()
            for name in fitted.drawn:  # as in MobileNetV3.apply_initialisation
                if name.endswith("weight"):
                    nn.init.normal_(targets[name], 0, 0.01)
                else:
                    nn.init.zeros_(targets[name])
            for name, tensor in fitted.copies.items():
                if not torch.equal(targets[name].nan_to_num(), tensor.to(targets[name]).nan_to_num()):
                    raise RuntimeError(f"{name} shares its memory with another tensor, for which the file has others")
        except BaseException as error:
            for name, tensor in before.items():
                with suppress(RuntimeError):  # the tensor that cannot be written, and so was not
                    targets[name].copy_(tensor)
            torch.set_rng_state(random_state)
            if isinstance(error, RuntimeError):
                reason = str(error).partition("\n")[0]
                raise WeightsError(f"nothing was loaded, the network cannot be written to: {reason}") from error
            raise


def _advice(report: Report) -> str:
    """What helps in the usual cases."""
    if report.missing and all(name.startswith("classifier.") for name in report.missing):
        return "\nFor the backbone alone, load part='features'."
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
) -> Any:
    """Build a network and fill it: from a file of :func:`mnv3lib.weights.save` alone, or by ``name`` from any other.

    Args:
        source: a path, address or hub id (see :func:`mnv3lib.weights.fetch`), or what :func:`mnv3lib.weights.read`
            gave.
        name: what torchvision or timm calls it, see :func:`mnv3lib.weights.network_for`; None for what the file says.
        sha256, entry: see :func:`mnv3lib.weights.read`.
        options: what is to differ, e.g. ``num_classes=10``; see :func:`load` for what that does to the weights. Only
            what is given here may differ. Of networks for segmentation and detection these are fields of their
            configurations.

    Returns:
        The network as the file says, in training mode like all new ones. It is a
        :class:`mnv3lib.network.MobileNetV3`, :class:`mnv3lib.tasks.lraspp.LRASPP`,
        :class:`mnv3lib.tasks.deeplabv3.DeepLabV3`, :class:`mnv3lib.tasks.ssdlite.SSDLite` or
        :class:`mnv3lib.tasks.fasterrcnn.FasterRCNN`. Its ``classes`` are the names in the file, if it has them and the
        last layer was copied.

    Raises:
        WeightsError, FileNotFoundError, DownloadError, TypeError, ValueError: see :func:`load`.
    """
    if isinstance(source, Checkpoint):
        if sha256 is not None:
            raise ValueError(f"sha256 must be None for what is no file, got {sha256!r}")
        checkpoint = _of_memory(source, entry)
    else:
        checkpoint = read(source, sha256=sha256, entry=entry)
    if name is not None:
        if checkpoint.kind not in (None, CLASSIFICATION):
            raise WeightsError(
                f"{checkpoint.source} is for a network of the kind {checkpoint.kind!r}, names build "
                f"{CLASSIFICATION!r} only: leave name out"
            )
        network: nn.Module = network_for(name, **options)
    elif CONFIG not in checkpoint.metadata:
        raise WeightsError(f"{checkpoint.source} does not say which network it is for: give its name, or use load()")
    else:
        network = _described(config_in(checkpoint.metadata, checkpoint.source), options)
    load(network, checkpoint, adapt=[option for option in ADAPTABLE if option in options])
    return network


def _described(config: Config, options: dict[str, Any]) -> nn.Module:
    """A fresh network of a configuration, some of whose fields are to differ."""
    no_other_keywords("load_network", options, [field.name for field in fields(config)])
    if isinstance(config, MobileNetV3Config):
        return MobileNetV3(replace(config, **options))
    from mnv3lib.tasks.builders import build

    return build(replace(config, **options))


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
