"""Exercises that check themselves in a running notebook."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["check"]


def check(answer: Callable[..., Any], cases: Mapping[Any, Any]) -> bool:
    """Try ``answer`` on each case and say how it went; nothing is raised, so that a notebook runs on.

    Args:
        answer: a function the reader has written.
        cases: arguments (a tuple, or one value) to the expected result.

    Returns:
        Whether every case came out right.
    """
    for arguments, expected in cases.items():
        values = arguments if isinstance(arguments, tuple) else (arguments,)
        shown = ", ".join(map(repr, values))
        call = f"{answer.__name__}({shown if len(shown) <= 40 else '…'})"
        try:
            result = answer(*values)
        except Exception as error:  # whatever a first attempt may raise
            print(f"Not yet: {call} raises {type(error).__name__}: {error}")
            return False
        if result != expected or type(result) is not type(expected):
            given = "nothing so far" if result is None or result is Ellipsis else repr(result)
            print(f"Not yet: {call} gives {given}.")
            return False
    print(f"Correct: {len(cases)} of {len(cases)} cases.")
    return True
