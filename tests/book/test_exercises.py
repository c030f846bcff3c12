"""The checker of the exercises accepts what is right however it is written, and nothing that is wrong."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
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
        (0.1 + 0.2 - 0.3, 0.0),
        (0.1 + 0.2 - 0.3, 0),
        (0.0, 0.1 + 0.2 - 0.3),
        (np.float32(0.1) + np.float32(0.2) - np.float32(0.3), 0.0),
        (-0.0, 0),
        (torch.tensor([1 / 3, 5e-8]), [1 / 3, 0.0]),
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
        (1, 0),
        (1e-8, 0),
        (-1e-5, 0.0),
        (1.01e-7, 1e-7),
        (2e-12, 1e-13),
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


class Adder:
    def __call__(self, a: int, b: int = 1) -> int:
        return a + b


@pytest.mark.parametrize(
    ("answer", "name"),
    [(partial(max, 2), "max"), (partial(partial(max, 2), 1), "max"), (Adder(), "Adder"), (torch.nn.Identity(), "Iden"),
     (int, "int"), (Adder().__call__, "__call__"), ("no function", "str")],
)  # fmt: skip
def test_any_callable_is_an_answer(answer: Any, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert not check(answer, {1: 7})
    assert capsys.readouterr().out.startswith(f"Not yet: {name}")
    assert check(answer, {2: 3 if isinstance(answer, Adder) or name == "__call__" else 2}) == (name != "str")


def test_a_result_that_cannot_be_compared_is_no_error_of_the_notebook(capsys: pytest.CaptureFixture[str]) -> None:
    assert not check(lambda _: torch.empty(3, device="meta"), {1: [1.0, 2.0, 3.0]})
    assert "Not yet: <lambda>(1) raises" in capsys.readouterr().out


def test_every_case_counts_and_arguments_are_spread(capsys: pytest.CaptureFixture[str]) -> None:
    assert check(lambda a, b: a * b, {(2, 3): 6, (4, 5): 20})
    assert not check(lambda a, b: a + 4, {(2, 3): 6, (4, 5): 20})
    assert check(lambda a: [a, a], {3: 6}, then=sum)
    assert not check(nothing, {3: 6}, then=sum)
    assert "nothing so far" in capsys.readouterr().out
