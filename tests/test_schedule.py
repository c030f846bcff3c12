"""The learning rate over time, against torch's schedulers stepped as torchvision steps them, and at its corners."""

from __future__ import annotations

from math import cos, pi
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ledger import Deviation
from torch.optim import lr_scheduler as theirs

from mnv3lib.recipe import Schedule, curve, factor, load, names
from mnv3lib.recipe import schedule as module

EPOCHS, STEPS = 30, 7


def optimiser() -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.zeros(1, requires_grad=True)], 1.0)


def rates(steps: int, build: Any) -> list[float]:
    """The learning rate before each step of a scheduler of torch; base 1, so it is the factor."""
    sgd = optimiser()
    scheduler, found = build(sgd), []
    for _ in range(steps):
        found.append(sgd.param_groups[0]["lr"])
        sgd.step()
        scheduler.step()
    return found


def with_warmup(sgd: torch.optim.Optimizer) -> Any:
    """As torchvision's references/classification/train.py joins them."""
    warmup = theirs.LinearLR(sgd, start_factor=0.01, total_iters=5)
    cosine = theirs.CosineAnnealingLR(sgd, T_max=EPOCHS - 5)
    return theirs.SequentialLR(sgd, [warmup, cosine], milestones=[5])


BY_EPOCH = {
    "constant": (Schedule(name="constant", per_step=False), lambda sgd: theirs.ConstantLR(sgd, factor=1.0)),
    "step": (
        Schedule(name="step", step_epochs=2, gamma=0.973, per_step=False),
        lambda sgd: theirs.StepLR(sgd, step_size=2, gamma=0.973),
    ),
    "multistep": (
        Schedule(name="multistep", milestones=(16, 22), gamma=0.1, per_step=False),
        lambda sgd: theirs.MultiStepLR(sgd, milestones=[16, 22], gamma=0.1),
    ),
    "cosine": (
        Schedule(name="cosine", per_step=False),
        lambda sgd: theirs.CosineAnnealingLR(sgd, T_max=EPOCHS),
    ),
    "warm-up, then cosine": (
        Schedule(name="cosine", per_step=False, warmup_epochs=5, warmup_factor=0.01),
        with_warmup,
    ),
}
BY_STEP = {
    "poly": (Schedule(name="poly", power=0.9), lambda sgd: theirs.PolynomialLR(sgd, EPOCHS * STEPS, power=0.9)),
    "cosine": (
        Schedule(name="cosine", min_factor=0.1),
        lambda sgd: theirs.CosineAnnealingLR(sgd, T_max=EPOCHS * STEPS, eta_min=0.1),
    ),
    "warm-up": (
        Schedule(name="constant", warmup_epochs=3, warmup_factor=0.25),
        lambda sgd: theirs.LinearLR(sgd, start_factor=0.25, total_iters=3 * STEPS),
    ),
}


@pytest.mark.proves(
    "The learning rate at every epoch: constant, step, multistep, cosine, warm-up and cosine",
    against="torch.optim.lr_scheduler, stepped as in torchvision's reference training",
    tolerance=1e-12,
    unit="absolute",
)
@pytest.mark.parametrize("name", BY_EPOCH)
def test_once_an_epoch_as_torch(name: str, deviation: Deviation) -> None:
    schedule, build = BY_EPOCH[name]
    for epoch, expected in enumerate(rates(EPOCHS, build)):
        deviation(abs(factor(schedule, epoch, EPOCHS) - expected))
        for part in (0.001, 0.5, 0.999):
            if epoch >= schedule.warmup_epochs:
                assert factor(schedule, epoch + part, EPOCHS) == factor(schedule, epoch, EPOCHS)


@pytest.mark.proves(
    "The learning rate at every step: poly, cosine, warm-up",
    against="torch.optim.lr_scheduler",
    tolerance=1e-12,
    unit="absolute",
)
@pytest.mark.parametrize("name", BY_STEP)
def test_at_every_step_as_torch(name: str, deviation: Deviation) -> None:
    schedule, build = BY_STEP[name]
    found = curve(schedule, EPOCHS, STEPS)
    assert len(found) == EPOCHS * STEPS
    for ours, expected in zip(found, rates(EPOCHS * STEPS, build), strict=True):
        deviation(abs(ours - expected))


def test_steps_fall_where_they_should_at_fractions_of_epochs() -> None:
    """Every 2.4 epochs, counted at 10 steps an epoch; 7.2 / 2.4 is 3 but 0.3 / 0.1 is 2.9999999999999996."""
    for every in (0.1, 0.3, 2.4):
        found = curve(Schedule(name="step", step_epochs=every, gamma=0.5), 12, 10)
        assert found == [0.5 ** (step // round(10 * every)) for step in range(120)]


def test_steps_and_milestones_count_from_the_start_of_the_run() -> None:
    step = Schedule(name="step", step_epochs=3, gamma=0.5, warmup_epochs=4, warmup_factor=0)
    assert [factor(step, epoch, 9) for epoch in range(9)] == [0, 0.25, 0.5, 0.75, 0.5, 0.5, 0.25, 0.25, 0.25]
    several = Schedule(name="multistep", milestones=(2, 5), gamma=0.5, warmup_epochs=1, warmup_factor=0.5)
    assert [factor(several, epoch, 6) for epoch in (0, 0.5, 1, 1.99, 2, 4.9, 5)] == [0.5, 0.75, 1, 1, 0.5, 0.5, 0.25]


def test_curves_stretch_over_what_warm_up_leaves() -> None:
    cosine = Schedule(name="cosine", warmup_epochs=2, warmup_factor=0.1, min_factor=0.2)
    assert [factor(cosine, epoch, 10) for epoch in (0, 1, 2, 6, 10)] == pytest.approx([0.1, 0.55, 1, 0.6, 0.2])
    assert factor(cosine, 4, 10) == pytest.approx(0.2 + 0.8 * (1 + cos(pi / 4)) / 2)
    poly = Schedule(name="poly", power=2, warmup_epochs=2)
    assert [factor(poly, epoch, 10) for epoch in (2, 6, 10)] == pytest.approx([1, 0.25, 0])


def test_the_epoch_in_which_warm_up_ends_has_the_first_value_of_the_curve() -> None:
    schedule = Schedule(name="cosine", warmup_epochs=0.5, warmup_factor=0, per_step=False)
    assert [factor(schedule, epoch, 2) for epoch in (0, 0.25, 0.5, 0.99)] == [0, 0.5, 1, 1]
    assert factor(schedule, 1, 2) == pytest.approx((1 + cos(pi / 3)) / 2)


@settings(deadline=None, derandomize=True)
@given(
    name=st.sampled_from(["constant", "step", "multistep", "cosine", "poly"]),
    epochs=st.integers(1, 1000),
    part=st.floats(0, 1),
    warmup=st.floats(0, 0.99),
    per_step=st.booleans(),
)
def test_it_stays_between_zero_and_one_and_falls_after_warm_up(
    name: Any, epochs: int, part: float, warmup: float, per_step: bool
) -> None:
    schedule = Schedule(name=name, milestones=(3,), warmup_epochs=warmup * epochs, per_step=per_step)
    now = factor(schedule, part * epochs, epochs)
    assert 0 <= now <= 1
    later = min(float(epochs), part * epochs + 0.37)
    if part * epochs >= schedule.warmup_epochs:
        assert factor(schedule, later, epochs) <= now + 1e-12
    elif later < schedule.warmup_epochs:
        assert factor(schedule, later, epochs) >= now


@pytest.mark.parametrize("name", names())
def test_the_published_schedules_end_where_they_say(name: str) -> None:
    recipe = load(name)
    found = curve(recipe.schedule, recipe.epochs, 10)
    assert max(found) <= 1
    if name == "torchvision-v1":
        assert found[-1] == pytest.approx(0.973**299)
        assert 0.064 * found[-1] == pytest.approx(1.8e-5, rel=0.02)
    if name == "torchvision-fasterrcnn":
        assert [found[10 * epoch] for epoch in (1, 15, 16, 21, 22, 25)] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
    if name == "paper":
        assert found[-1] == pytest.approx(0.99**413)


@pytest.mark.parametrize(
    ("epoch", "epochs", "message"),
    [
        (-1, 3, "epoch must be a finite number >= 0, got -1"),
        (float("nan"), 3, "epoch must be a finite number >= 0, got nan"),
        (3.01, 3, "epoch must be from 0 to epochs, which is 3, got 3.01"),
        (0, 0, "epochs must be an integer >= 1, got 0"),
        (0, 2.5, "epochs must be an integer >= 1, got 2.5"),
    ],
)
def test_times_outside_of_the_run_are_refused(epoch: Any, epochs: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        factor(Schedule(), epoch, epochs)


def test_a_curve_has_steps() -> None:
    with pytest.raises(ValueError, match="steps_per_epoch must be an integer >= 1, got 0"):
        curve(Schedule(), 3, 0)
    assert all(hasattr(module, name) for name in module.__all__)
