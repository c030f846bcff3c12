"""Argument checks shared by the torch-free rooms: every error names the argument, the value and the range."""

from __future__ import annotations

from collections.abc import Collection
from math import isfinite
from numbers import Integral, Real
from typing import Any

__all__ = ["boolean", "fraction", "non_negative_int", "non_negative_real", "one_of", "positive_int", "positive_real"]


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
