"""The learning rate over time: a pure function of the epoch, so that a resumed run needs no state for it."""

from __future__ import annotations

from math import cos, floor, pi

from mnv3lib._checks import non_negative_real, positive_int
from mnv3lib.recipe.sections import Schedule

__all__ = ["curve", "factor"]


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
    if schedule.name == "step":
        return schedule.gamma ** floor(at / schedule.step_epochs + 1e-9)  # 7.2 / 2.4 is just below 3
    if schedule.name == "multistep":
        return schedule.gamma ** sum(at >= milestone for milestone in schedule.milestones)
    if schedule.name == "cosine":
        return schedule.min_factor + (1 - schedule.min_factor) * (1 + cos(pi * done)) / 2
    if schedule.name == "poly":
        return (1 - done) ** schedule.power
    return 1.0


def curve(schedule: Schedule, epochs: int, steps_per_epoch: int) -> list[float]:
    """The factor at every step of a run, ``epochs * steps_per_epoch`` of them.

    Raises:
        TypeError, ValueError: for fewer than one epoch or step.
    """
    steps = positive_int("epochs", epochs) * positive_int("steps_per_epoch", steps_per_epoch)
    return [factor(schedule, step / steps_per_epoch, epochs) for step in range(steps)]
