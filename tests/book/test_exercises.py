"""The checker of the exercises accepts what is right however it is written, and nothing that is wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from figures.exercises import check


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (576, 576),
        (576.0, 576),
        (np.int64(576), 576),
        (torch.tensor(576), 576),
        (0.1 + 0.2, 0.3),
        (np.float32(0.1), 0.1),
        (torch.tensor(1 / 3), 1 / 3),
        ((1, 2), [1, 2]),
        ([1, 2], (1, 2)),
        (np.array([1, 2]), [1, 2]),
        (torch.tensor([0.5, 0.25]), [0.5, 0.25]),
        ([[1.0], [2]], ((1,), (2,))),
        (True, True),
        (np.bool_(True), True),
        ("row", "row"),
    ],
)
def test_right_answers(result: Any, expected: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(lambda _: result, {1: expected})
    assert capsys.readouterr().out == "Correct: 1 of 1 cases.\n"


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (2_542_857, 2_542_856),
        (2_542_856.5, 2_542_856),
        (0.3001, 0.3),
        (float("nan"), 0.3),
        (1, True),
        (True, 1),
        ("1", 1),
        (1, "1"),
        ([1, 2, 3], [1, 2]),
        ([2, 1], [1, 2]),
        ("12", ["1", "2"]),
        (np.array([1, 2]), 1),
        (Ellipsis, 1),
    ],
)
def test_wrong_answers(result: Any, expected: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert not check(lambda _: result, {1: expected})
    assert "expected is" in capsys.readouterr().out


def raises(_: Any) -> int:
    raise ZeroDivisionError("by nothing")


def nothing(_: Any) -> None: ...


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (nothing, "Not yet: nothing(1) gives nothing so far."),
        (raises, "Not yet: raises(1) raises ZeroDivisionError: by nothing"),
        (lambda a, b: a, "<lambda>(1) raises TypeError"),
    ],
)
def test_attempts_that_say_nothing(answer: Callable[..., Any], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert not check(answer, {1: 1})
    assert says in capsys.readouterr().out


def test_every_case_counts_and_arguments_are_spread(capsys: pytest.CaptureFixture[str]) -> None:
    assert check(lambda a, b: a * b, {(2, 3): 6, (4, 5): 20})
    assert not check(lambda a, b: a + 4, {(2, 3): 6, (4, 5): 20})
    assert check(lambda a: [a, a], {3: 6}, then=sum)
    assert not check(nothing, {3: 6}, then=sum)
    assert "nothing so far" in capsys.readouterr().out
