"""Checks of single fields: each takes the full path and the value, and returns the value as it is kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, field, fields
from functools import cache
from math import isfinite
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from mnv3lib._checks import fraction, nearest, non_negative_real, positive_real

__all__ = [
    "Check",
    "among",
    "below_one",
    "check_fields",
    "factors",
    "location",
    "of_type",
    "optional",
    "plain_mapping",
    "rising_fractions",
    "rising_pair",
    "setting",
    "several",
    "string",
    "word",
]

Check = Callable[[str, Any], Any]


def setting(check: Check, default: Any = MISSING, *, factory: Callable[[], Any] | None = None) -> Any:
    """A field of a dataclass with its check and its default, or what makes one."""
    if factory is not None:
        return field(default_factory=factory, metadata={"check": check})
    return field(default=default, metadata={"check": check})


def check_fields(section: Any, path: str) -> None:
    """Put every field through its check, in a frozen dataclass too; an error names ``path`` and the field.

    The check is that of :func:`setting`; a field whose type lists its values, a ``Literal`` with or without None, needs
    none.
    """
    for name, check in _checks(type(section)).items():  # type: ignore[arg-type]
        object.__setattr__(section, name, check(f"{path}.{name}", getattr(section, name)))


@cache
def _checks(kind: type) -> dict[str, Check]:
    """The check of every field of a dataclass."""
    types = get_type_hints(kind)
    return {one.name: one.metadata.get("check") or among(*_values(types[one.name])) for one in fields(kind)}


def _values(annotation: Any) -> list[Any]:
    """The values that a type lists; None first, if it is one of them."""
    parts = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    listed = [value for part in parts if get_origin(part) is Literal for value in get_args(part)]
    assert listed, f"{annotation} lists no values, so its field needs a check"
    return [None, *listed] if NoneType in parts else listed


def optional(check: Check) -> Check:
    """None, or what ``check`` takes."""
    return lambda path, value: None if value is None else check(path, value)


def among(*choices: object) -> Check:
    """One of ``choices``; errors suggest the nearest."""

    def check(path: str, value: Any) -> Any:
        if isinstance(value, (bool, float)) or value not in choices:
            listed = ", ".join(map(repr, choices))
            raise ValueError(f"{path} must be one of {listed}, got {value!r}{nearest(value, choices)}")
        return value

    return check


def of_type(kind: type) -> Check:
    """An object of ``kind``."""

    def check(path: str, value: Any) -> Any:
        if not isinstance(value, kind):
            raise TypeError(f"{path} must be of type {kind.__name__}, got {value!r}")
        return value

    return check


def several(check: Check, length: int | None = None) -> Check:
    """A list of what ``check`` takes, as a tuple; ``length`` of them if given."""

    def check_all(path: str, value: Any) -> tuple[Any, ...]:
        if not isinstance(value, (list, tuple)):
            raise TypeError(f"{path} must be a list, got {value!r}")
        if length is not None and len(value) != length:
            raise ValueError(f"{path} must hold {length} values, got {value!r}")
        return tuple(check(f"{path}[{place}]", one) for place, one in enumerate(value))

    return check_all


def plain_mapping(path: str, value: Any) -> dict[str, Any]:
    """A copy of a mapping from words to what YAML can hold; tuples become lists."""
    if not isinstance(value, Mapping):
        raise TypeError(f"{path} must be a mapping, got {value!r}")
    for key in value:
        if not isinstance(key, str):
            raise TypeError(f"the keys of {path} must be words, got {key!r}")
    return {key: _plain(f"{path}.{key}", one) for key, one in value.items()}


def _plain(path: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return plain_mapping(path, value)
    if isinstance(value, (list, tuple)):
        return [_plain(f"{path}[{place}]", one) for place, one in enumerate(value)]
    # Only the types themselves: a NumPy number, say, would not be read back from YAML as what it was.
    if type(value) not in (bool, int, float, str, type(None)):
        raise TypeError(f"{path} must be a number, a word, True, False, None or a list of them, got {value!r}")
    if isinstance(value, float) and not isfinite(value):
        raise ValueError(f"{path} must be finite, got {value!r}")
    return value


def string(path: str, value: Any) -> str:
    """Text, also empty."""
    if not isinstance(value, str):
        raise TypeError(f"{path} must be text, got {value!r}")
    return value


def word(path: str, value: Any) -> str:
    """Text that says something."""
    if not (found := string(path, value)):
        raise ValueError(f"{path} must not be empty")
    return found


def location(path: str, value: Any) -> str:
    """A path, an address or a name, as text."""
    return word(path, str(value) if isinstance(value, Path) else value)


def rising_pair(path: str, value: Any) -> tuple[float, float]:
    """Two numbers above 0, the lower first."""
    low, high = several(positive_real, 2)(path, value)
    if low > high:
        raise ValueError(f"{path} must have the lower number first, got {value!r}")
    return low, high


def rising_fractions(path: str, value: Any) -> tuple[float, float]:
    """Two numbers above 0 and up to 1, the lower first."""
    return rising_pair(path, several(fraction, 2)(path, value))


def below_one(path: str, value: Any) -> float:
    """A number from 0 to below 1."""
    if fraction(path, value) == 1:
        raise ValueError(f"{path} must be below 1, got {value!r}")
    return float(value)


def factors(path: str, value: Any) -> dict[str, float]:
    """A mapping from words to numbers of at least 0."""
    return {prefix: non_negative_real(f"{path}.{prefix}", one) for prefix, one in plain_mapping(path, value).items()}
