"""Exercises that check themselves in a running notebook."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import isclose
from numbers import Real
from typing import Any

__all__ = ["check"]


def check(answer: Callable[..., Any], cases: Mapping[Any, Any], *, then: Callable[[Any], Any] | None = None) -> bool:
    """Try ``answer`` on each case and say how it went; nothing is raised, so that a notebook runs on.

    Numbers may differ by rounding: a float by 1e-6 of the expected value, single precision's, and by 1e-6 where 0 is
    expected. A tuple or an array may stand for a list.

    Args:
        answer: a function the reader has written.
        cases: arguments (a tuple, or one value) to the expected result.
        then: applied to what ``answer`` returns before it is compared.

    Returns:
        Whether every case came out right.
    """
    for arguments, expected in cases.items():
        values = arguments if isinstance(arguments, tuple) else (arguments,)
        shown = ", ".join(map(repr, values))
        call = f"{_name(answer)}({shown if len(shown) <= 40 else '…'})"
        try:
            result = answer(*values)
            if result is not None and then is not None:
                result = then(result)
            right = _agree(result, expected)
        except Exception as error:  # whatever a first attempt may raise
            print(f"Not yet: {call} raises {type(error).__name__}: {error}")
            return False
        if result is None:
            print(f"Not yet: {call} gives nothing so far.")
            return False
        if not right:
            print(f"Not yet: {call} gives {_plain(result)!r}, expected is {expected!r}.")
            return False
    print(f"Correct: {len(cases)} of {len(cases)} cases.")
    return True


def _name(answer: Any) -> str:
    """What to call an answer that need not be a plain function."""
    while isinstance(answer, partial):
        answer = answer.func
    return str(getattr(answer, "__name__", type(answer).__name__))


def _plain(value: Any) -> Any:
    """NumPy's and torch's scalars and arrays as Python's."""
    return value.tolist() if hasattr(value, "tolist") else value


def _agree(result: Any, expected: Any) -> bool:
    result = _plain(result)
    if isinstance(expected, bool) or isinstance(result, bool):
        return result is expected
    if isinstance(expected, Real):
        tolerance = 1e-6 if isinstance(expected, float) else 1e-9  # a count may not be off by one
        # Where 0 is expected, no difference is small beside it; the numbers that cancelled are taken to be around 1.
        absolute = tolerance if expected == 0 else 1e-12
        return isinstance(result, Real) and isclose(result, expected, rel_tol=tolerance, abs_tol=absolute)
    if isinstance(expected, Sequence) and not isinstance(expected, str):
        alike = isinstance(result, Sequence) and not isinstance(result, str) and len(result) == len(expected)
        return alike and all(map(_agree, result, expected))
    return bool(result == expected)
