"""Argument checks shared by the torch-free rooms: every error names the argument, the value and the range."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from difflib import get_close_matches
from math import isfinite
from numbers import Integral, Real
from typing import Any, TypeVar

__all__ = ["boolean", "fraction", "nearest", "no_other_keywords", "non_negative_int", "non_negative_real", "one_of",
           "positive_int", "positive_real", "unknown", "value_of"]  # fmt: skip

V = TypeVar("V")


def positive_int(name: str, value: Any) -> int:
    """Return ``value`` as an int of at least 1; True, 1.0 and "1" are not integers."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} must be an integer >= 1, got {value!r}")
    if value < 1:
        raise ValueError(f"{name} must be an integer >= 1, got {value!r}")
    return int(value)


def positive_real(name: str, value: Any) -> float:
    """Return ``value`` as a finite float above 0."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a finite number > 0, got {value!r}")
    if not isfinite(value) or float(value) <= 0:
        raise ValueError(f"{name} must be a finite number > 0, got {value!r}")
    return float(value)


def fraction(name: str, value: Any) -> float:
    """Return ``value`` as a float in [0, 1]."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number from 0 to 1, got {value!r}")
    if not 0 <= float(value) <= 1:  # also refuses NaN
        raise ValueError(f"{name} must be a number from 0 to 1, got {value!r}")
    return float(value)


def boolean(name: str, value: Any) -> bool:
    """Return ``value`` if it is True or False; 0, 1 and "yes" are refused."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {value!r}")
    return value


def one_of(name: str, value: Any, choices: Collection[Any]) -> Any:
    """Return ``value`` if it is one of ``choices``; True and 1.0 are not 1."""
    if isinstance(value, (bool, float)) or value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")
    return value


def non_negative_int(name: str, value: Any) -> int:
    """Return ``value`` as an int of at least 0."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} must be an integer >= 0, got {value!r}")
    if value < 0:
        raise ValueError(f"{name} must be an integer >= 0, got {value!r}")
    return int(value)


def non_negative_real(name: str, value: Any) -> float:
    """Return ``value`` as a finite float of at least 0."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a finite number >= 0, got {value!r}")
    if not isfinite(value) or float(value) < 0:
        raise ValueError(f"{name} must be a finite number >= 0, got {value!r}")
    return float(value)


def nearest(word: object, known: Iterable[object]) -> str:
    """What an error adds where a known word is nearly ``word``: ``"; did you mean 'lr'?"``, or nothing."""
    found = get_close_matches(str(word), [str(one) for one in known if one is not None], n=1)
    return f"; did you mean {found[0]!r}?" if found else ""


def unknown(path: str, key: object, names: Iterable[str]) -> ValueError:
    """The error for a key that is not there."""
    names = list(names)
    return ValueError(f"{path} has no {key!r}, only {', '.join(map(repr, names))}{nearest(key, names)}")


def value_of(name: str, key: Any, known: Mapping[str, V]) -> V:
    """Return what ``known`` has under ``key``."""
    if key not in known:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, known))}, got {key!r}{nearest(key, known)}")
    return known[key]


def no_other_keywords(function: str, options: Iterable[str], known: Collection[str]) -> None:
    """Refuse a keyword that is not one of ``known``, as Python does where they are listed."""
    for name in options:
        if name not in known:
            raise TypeError(f"{function}() got an unexpected keyword argument {name!r}{nearest(name, known)}")
