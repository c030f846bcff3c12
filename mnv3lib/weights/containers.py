"""Where the weights are among the other things that training programs save."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from mnv3lib.weights.errors import WeightsError
from mnv3lib.weights.report import few

__all__ = ["ENTRIES", "state_dict_in"]

#: What training programs call the weights. Of several sets of tensors, those under other names do not count.
ENTRIES = (
    "state_dict", "model_state_dict", "model_state", "model", "net", "network", "net_state_dict", "params", "weights",
    "ema", "model_ema", "ema_model", "state_dict_ema", "ema_state_dict", "params_ema", "module",
)  # fmt: skip
#: Such a set may lie in a container inside the file's, as in {"ema": {"module": …}}.
_DEPTH = 2


def state_dict_in(loaded: Any, entry: str | None, shown: str) -> tuple[dict[str, Tensor], str]:
    """The one set of tensors by name in what was read.

    Args:
        loaded: a state dict, or a dictionary that holds one, in a dictionary of its own or in one of those.
        entry: which, ``"ema"`` or ``"ema.module"``; or the beginning of the names that are meant, ``"student"`` for
            those of ``"student.features.0.0.weight"``. None if there is no choice.
        shown: what messages call the file.

    Returns:
        The tensors, and ``shown`` with the entry they were in.

    Raises:
        WeightsError: if there is no such set, or more than one and no ``entry``.
        TypeError: for an entry that is no text.
    """
    if not isinstance(loaded, Mapping):
        raise WeightsError(f"{shown} must hold tensors by name, it holds a {type(loaded).__name__}")
    if entry is not None:
        if not isinstance(entry, str):
            raise TypeError(f"entry must be text, got {entry!r}")
        inside = _under(loaded, entry)
        if inside is None:
            within = [found for _, mapping in _sets(loaded) if (found := _under(mapping, entry)) is not None]
            inside = within[0] if len(within) == 1 else None
        if inside is None:
            entries = dict.fromkeys([*(path for path, _ in _sets(loaded)), *map(str, loaded)])
            raise WeightsError(f"{shown} has no tensors in entry {entry!r}; its entries: {few(map(repr, entries), 10)}")
        return state_dict_in(inside, None, f"{shown}, entry {entry!r}")
    if any(isinstance(value, Mapping) for value in loaded.values()) and not _is_one_itself(loaded):
        sets: dict[str, Mapping[Any, Any]] = dict(_sets(loaded))
        # What {"model": …, "normalisation": …} means is plain, of {"teacher": …, "student": …} it is not.
        sets = {path: found for path, found in sets.items() if set(path.split(".")) & set(ENTRIES)} or sets
        if len(sets) > 1:
            raise WeightsError(f"{shown} holds more than one set of weights, say entry= one of {few(map(repr, sets))}")
        for path, mapping in sets.items():
            return _checked(mapping, f"{shown}, entry {path!r}"), f"{shown}, entry {path!r}"
    return _checked(loaded, shown), shown


def _is_one_itself(mapping: Mapping[Any, Any]) -> bool:
    """Whether weights lie in it openly, as no accuracy or step count is named or shaped."""
    return any(isinstance(value, Tensor) and "." in str(name) and value.dim() > 0 for name, value in mapping.items())


def _sets(mapping: Mapping[Any, Any], depth: int = _DEPTH) -> Iterator[tuple[str, Mapping[Any, Any]]]:
    """Sets of tensors by name within, by the way to them."""
    for name, value in mapping.items():
        if not isinstance(name, str) or not isinstance(value, Mapping):
            continue
        tensors = [isinstance(inner, Tensor) for inner in value.values()]
        named = all(isinstance(key, str) for key in value)
        if named and any(tensors) and (all(tensors) or _is_one_itself(value)):
            yield name, value
        elif depth > 1:
            for inside, found in _sets(value, depth - 1):
                yield f"{name}.{inside}", found


def _under(mapping: Mapping[Any, Any], entry: str) -> Mapping[Any, Any] | None:
    """The container that ``entry`` leads to, or the tensors whose names begin with it."""
    found = mapping.get(entry)
    if isinstance(found, Mapping) and found:
        return found
    for name, value in mapping.items():
        if isinstance(value, Mapping) and isinstance(name, str) and entry.startswith(f"{name}."):
            inside = _under(value, entry.removeprefix(f"{name}."))
            if inside is not None:
                return inside
    start = f"{entry}."
    named = {name.removeprefix(start): value for name, value in mapping.items() if str(name).startswith(start)}
    return named if any(isinstance(value, Tensor) for value in named.values()) else None


def _checked(mapping: Mapping[Any, Any], shown: str) -> dict[str, Tensor]:
    others = [f"{name} ({type(value).__name__})" for name, value in mapping.items() if not isinstance(value, Tensor)]
    if others or not mapping:
        raise WeightsError(f"{shown} must hold tensors by name, it holds {few(others) or 'nothing'}")
    unnamed = [repr(name) for name in mapping if not isinstance(name, str)]
    if unnamed:
        raise WeightsError(f"{shown} must hold tensors by name, these names are no text: {few(unnamed)}")
    return {name: tensor.detach() for name, tensor in mapping.items()}
