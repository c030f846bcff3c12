"""Checks of arguments: what is let through, as what, and what an error says."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from math import inf, nan
from typing import Any

import pytest

from mnv3lib import _checks as checks

INT, NATURAL = "an integer >= 1", "an integer >= 0"
POSITIVE, REAL, PART = "a finite number > 0", "a finite number >= 0", "a number from 0 to 1"


@pytest.mark.parametrize(
    ("check", "given", "kind"),
    [
        (checks.positive_int, 1, int),
        (checks.non_negative_int, 0, int),
        (checks.positive_real, 5e-324, float),
        (checks.positive_real, 7, float),
        (checks.non_negative_real, 0, float),
        (checks.non_negative_real, 0.5, float),
        (checks.non_negative_real, Fraction(1, 4), float),
        (checks.fraction, 0, float),
        (checks.fraction, 1, float),
        (checks.fraction, Fraction(1, 4), float),
        (checks.boolean, True, bool),
        (checks.boolean, False, bool),
    ],
)
def test_the_ends_of_a_range_belong_to_it(check: Callable[[str, Any], Any], given: Any, kind: type) -> None:
    checked = check("it", given)
    assert checked == given
    assert type(checked) is kind


@pytest.mark.parametrize(
    ("check", "given", "error", "range_"),
    [
        (checks.positive_int, 0, ValueError, INT),
        (checks.positive_int, 1.0, TypeError, INT),
        (checks.positive_int, True, TypeError, INT),
        (checks.non_negative_int, -1, ValueError, NATURAL),
        (checks.non_negative_int, 0.0, TypeError, NATURAL),
        (checks.non_negative_int, False, TypeError, NATURAL),
        (checks.positive_real, 0, ValueError, POSITIVE),
        (checks.positive_real, inf, ValueError, POSITIVE),
        (checks.positive_real, nan, ValueError, POSITIVE),
        (checks.positive_real, True, TypeError, POSITIVE),
        (checks.positive_real, "1", TypeError, POSITIVE),
        (checks.non_negative_real, -5e-324, ValueError, REAL),
        (checks.non_negative_real, inf, ValueError, REAL),
        (checks.non_negative_real, nan, ValueError, REAL),
        (checks.non_negative_real, True, TypeError, REAL),
        (checks.non_negative_real, "1", TypeError, REAL),
        (checks.fraction, -5e-324, ValueError, PART),
        (checks.fraction, 1.0000000000000002, ValueError, PART),
        (checks.fraction, nan, ValueError, PART),
        (checks.fraction, False, TypeError, PART),
        (checks.fraction, "1", TypeError, PART),
        (checks.boolean, 1, TypeError, "True or False"),
    ],
)
def test_what_is_outside_is_named_with_its_range(
    check: Callable[[str, Any], Any], given: Any, error: type[Exception], range_: str
) -> None:
    with pytest.raises(error) as caught:
        check("it", given)
    assert str(caught.value) == f"it must be {range_}, got {given!r}"


def test_a_choice_is_of_its_type() -> None:
    assert checks.one_of("it", 1, (1, 2)) == 1
    for given in (True, 1.0, 3):
        with pytest.raises(ValueError, match=f"it must be one of 1, 2, got {given!r}"):
            checks.one_of("it", given, (1, 2))
