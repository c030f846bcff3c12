"""The learning rate over time: a pure function of the epoch, so that a resumed run needs no state for it."""

from __future__ import annotations

from collections.abc import Callable
from math import cos, floor, pi
from typing import TYPE_CHECKING

from mnv3lib._checks import non_negative_real, positive_int

if TYPE_CHECKING:
    from mnv3lib.recipe.sections import Schedule

__all__ = ["CURVES", "curve", "factor"]


def _constant(schedule: Schedule, epoch: float, done: float) -> float:
    return 1.0


def _step(schedule: Schedule, epoch: float, done: float) -> float:
    return schedule.gamma ** floor(epoch / schedule.step_epochs + 1e-9)  # 7.2 / 2.4 is just below 3


def _multistep(schedule: Schedule, epoch: float, done: float) -> float:
    return schedule.gamma ** sum(epoch >= milestone for milestone in schedule.milestones)


def _cosine(schedule: Schedule, epoch: float, done: float) -> float:
    return schedule.min_factor + (1 - schedule.min_factor) * (1 + cos(pi * done)) / 2


def _poly(schedule: Schedule, epoch: float, done: float) -> float:
    return (1 - done) ** schedule.power


#: The curves that a recipe can name, of epochs since the start of the run, and of the part done of those after warm-up.
CURVES: dict[str, Callable[[Schedule, float, float], float]] = {
    "constant": _constant,
    "step": _step,
    "multistep": _multistep,
    "cosine": _cosine,
    "poly": _poly,
}


def factor(schedule: Schedule, epoch: float, epochs: int) -> float:
    """What the optimiser's learning rate is multiplied by.

    Args:
        schedule: of the recipe.
        epoch: epochs done, with fractions: steps done so far over the steps of an epoch, so 0 for the first step.
        epochs: of the whole run.

    Returns:
        A number from 0 to 1.

    Raises:
        TypeError, ValueError: for an epoch before 0 or after ``epochs``.
    """
    positive_int("epochs", epochs)
    if non_negative_real("epoch", epoch) > epochs:
        raise ValueError(f"epoch must be from 0 to epochs, which is {epochs}, got {epoch!r}")
    warmup = schedule.warmup_epochs
    if epoch < warmup:
        return schedule.warmup_factor + (1 - schedule.warmup_factor) * epoch / warmup
    at = epoch if schedule.per_step else float(floor(epoch))
    # Without per_step the epoch in which warm-up ends may have begun before it: it has the curve's first value.
    done = max(0.0, at - warmup) / (epochs - warmup)
    return CURVES[schedule.name](schedule, at, done)


def curve(schedule: Schedule, epochs: int, steps_per_epoch: int) -> list[float]:
    """The factor at every step of a run, ``epochs * steps_per_epoch`` of them.

    Raises:
        TypeError, ValueError: for fewer than one epoch or step.
    """
    steps = positive_int("epochs", epochs) * positive_int("steps_per_epoch", steps_per_epoch)
    return [factor(schedule, step / steps_per_epoch, epochs) for step in range(steps)]
