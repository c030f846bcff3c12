"""What training puts around a network and in front of the names of its tensors."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from torch import nn

from mnv3lib.weights.errors import WeightsError
from mnv3lib.weights.names import FIRST
from mnv3lib.weights.report import few

__all__ = ["bare", "plain_names", "plain_targets", "without_wrappers"]

#: Parts of names that come from wrappers alone: several processes, compiling, sharding, recomputing, Lightning Fabric.
WRAPPERS = frozenset(
    ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module")
)  # fmt: skip
#: Names under which programs hold the network that they train; taken off where nothing else is known of the network.
_HOLDERS = "model|net|network|backbone"
_COUNTER = "n_averaged"  # of torch.optim.swa_utils.AveragedModel


def bare(network: nn.Module) -> nn.Module:
    """The network inside ``DataParallel``, ``DistributedDataParallel`` and ``torch.compile``, in any order."""
    while True:
        inside = getattr(network, "_orig_mod", None)
        if isinstance(network, nn.DataParallel | nn.parallel.DistributedDataParallel):
            inside = network.module
        if not isinstance(inside, nn.Module):
            return network
        network = inside


def without_wrappers(name: str) -> str:
    """A name without the parts that come from wrappers, wherever they stand in it."""
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def plain_targets(names: Sequence[str]) -> dict[str, str]:
    """Names in a network without wrappers around its parts, to those it has."""
    plain = {without_wrappers(name): name for name in names}
    return plain if len(plain) == len(names) else {name: name for name in names}


def plain_names(names: Iterable[str], targets: Sequence[str], *, known: bool) -> tuple[dict[str, str], list[str]]:
    """Names of a file without wrappers and holders, to those in the file; and what lies outside the holder.

    Args:
        names: in the file.
        targets: in the network.
        known: whether the network is a MobileNetV3, whose first layer is looked for under all names it has anywhere;
            of others only the usual holders are taken off, and nothing if all ``targets`` are there as they are.

    Raises:
        WeightsError: if a name is there twice, with and without wrapper, or there are several networks.
    """
    names = list(names)
    if set(targets) <= set(names):
        return {name: name for name in names}, []
    plain: dict[str, str] = {}
    outside = [name for name in names if name.rpartition(".")[2] == _COUNTER and name not in targets]
    for name in names:
        if name in outside:
            continue
        short = without_wrappers(name)
        if short in plain:
            raise WeightsError(f"{short!r} is there twice, as {plain[short]!r} and {name!r}: give one of the two")
        plain[short] = name
    if known:
        pattern = rf"((?:.+\.)?)(?:{FIRST})"
    else:
        pattern = rf"((?:(?:{_HOLDERS})\.)*){re.escape(targets[0])}" if targets else "(?!)"
    holders = {match[1] for name in plain if (match := re.fullmatch(pattern, name))}
    if "" in holders or not holders:
        return plain, outside
    if len(holders) > 1:
        options = few(repr(holder.removesuffix(".")) for holder in sorted(holders))
        raise WeightsError(f"there is more than one network in the file, say entry= one of {options}")
    (holder,) = holders
    outside += [name for short, name in plain.items() if not short.startswith(holder)]
    return {short.removeprefix(holder): name for short, name in plain.items() if short.startswith(holder)}, outside
