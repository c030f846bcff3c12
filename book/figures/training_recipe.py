"""The figures of the chapter on recipes: learning rates over a run, and how far back a moving average remembers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log, sqrt

import numpy as np

from mnv3lib._checks import positive_int
from mnv3lib.explore.drawing import ON_PAPER, Drawing, in_style, name_powers, new_figure
from mnv3lib.explore.palette import ACCENT, COLOURS, REFERENCE
from mnv3lib.recipe import Recipe, Schedule, factor

__all__ = ["half_life", "learning_rates", "moving_average", "rmsprop_steps", "schedule_curve"]

_POINTS = 1200  # along a run; a step that falls between two of them is drawn within a pixel of where it is
_STEPS = 100_000  # the moving average's axis ends here, fixed
_COLOURS = (ACCENT, COLOURS["orange"], COLOURS["green"], COLOURS["vermilion"], COLOURS["purple"])


def _curve(schedule: Schedule, epochs: int) -> tuple[list[float], list[float]]:
    """Epochs and factors, with the corner of the warm-up among them."""
    places = sorted({*(epochs * n / _POINTS for n in range(_POINTS)), schedule.warmup_epochs, float(epochs)})
    return places, [factor(schedule, epoch, epochs) for epoch in places]


def _named(schedule: Schedule) -> str:
    warmup = f", warm-up over {schedule.warmup_epochs:g} epochs" if schedule.warmup_epochs else ""
    return schedule.name + warmup


@in_style
def schedule_curve(schedule: Schedule, epochs: int, *, reference: Schedule | None = None) -> Drawing:
    """The factor on the learning rate over a run, on axes that do not move with the schedule.

    Args:
        schedule: to be drawn.
        epochs: of the run.
        reference: another schedule, in grey behind.
    """
    positive_int("epochs", epochs)
    figure, axes = new_figure(height=2.8 if reference is None else 3.4)
    if reference is not None:
        axes.plot(*_curve(reference, epochs), color=REFERENCE, linewidth=1.5, linestyle="--", label=_named(reference))
    places, factors = _curve(schedule, epochs)
    axes.plot(places, factors, color=ACCENT, label=_named(schedule))
    axes.set(xlabel="epoch", ylabel="factor", xlim=(0, epochs), ylim=(0, 1.05))
    if reference is not None:
        figure.legend(loc="outside upper center", handlelength=1.5)
    half = factor(schedule, epochs / 2, epochs)
    below = next((place for place, value in zip(places, factors, strict=True)
                  if value < 0.5 and place >= schedule.warmup_epochs), None)  # fmt: skip
    falls = "never falls below a half" if below is None else f"is below a half from epoch {below:.3g} on"
    mean = float(np.diff(places) @ (np.array(factors[1:]) + factors[:-1])) / 2 / epochs
    alt = (
        f"Line of the factor on the learning rate over {epochs} epochs, {_named(schedule)}: it starts at "
        f"{factors[0]:.3g}, is {half:.3g} half way, {falls} and ends at {factors[-1]:.3g}; its mean is {mean:.2f}."
    )
    if reference is not None:
        alt += f" Dashed in grey: {_named(reference)}."
    return Drawing(figure, alt)


@in_style
def learning_rates(recipes: Sequence[Recipe]) -> Drawing:
    """Learning rates of up to five recipes on a logarithmic axis, each over its own run, from 0 to 100 %."""
    if not 1 <= len(recipes) <= len(_COLOURS):
        raise ValueError(f"recipes must be from 1 to {len(_COLOURS)}, got {len(recipes)}")
    (figure, axes), words = new_figure(height=3.4), []
    for recipe, colour in zip(recipes, _COLOURS, strict=False):
        places, factors = _curve(recipe.schedule, recipe.epochs)
        # The last value of a cosine is zero, which a logarithmic axis has no place for: it leaves the axis there.
        rates = [recipe.optimiser.lr * value for value in factors]
        axes.plot([100 * place / recipe.epochs for place in places], rates, color=colour, label=recipe.name)
        last = recipe.optimiser.lr * factor(recipe.schedule, recipe.epochs - 1, recipe.epochs)
        words.append(
            f"{recipe.name}: {recipe.epochs} epochs, {_named(recipe.schedule)}, highest {max(rates):.3g}, "
            f"{last:.2g} in the last epoch"
        )
    axes.set(xlabel="% of the run", ylabel="learning rate", yscale="log", xlim=(0, 100), ylim=(1e-6, 1))
    name_powers(axes.yaxis)
    figure.legend(loc="outside upper center", ncols=2, handlelength=1, columnspacing=1)
    return Drawing(figure, f"Lines of learning rates on a logarithmic axis. {'; '.join(words)}.")


def half_life(decay: float, *, every: int = 1) -> float:
    """Steps after which a weight's part in a moving average has halved: ln ½ / ln d, times ``every``.

    >>> round(half_life(0.999))
    693
    """
    if isinstance(decay, bool) or not isinstance(decay, (int, float)):
        raise TypeError(f"decay must be a number between 0 and 1, got {decay!r}")
    if not 0 < decay < 1:
        raise ValueError(f"decay must be a number between 0 and 1, got {decay!r}")
    return positive_int("every", every) * log(0.5) / log(decay)


@in_style
def moving_average(decay: float, *, every: int = 1, marks: Mapping[str, float] | None = None) -> Drawing:
    """Above, the weight of each past step in an exponential average; below, that of all steps up to there together.

    The run is taken to be much longer than the average's memory. Axes, from 1 to 100,000 steps ago, do not move.

    Args:
        decay: d; after an update the newest weights have 1 − d, those k updates ago (1 − d)·dᵏ.
        every: steps from one update to the next.
        marks: names to numbers of steps, as grey lines, e.g. an epoch.
    """
    half = half_life(decay, every=every)
    ago = np.unique(np.geomspace(1, _STEPS, 300).round())
    updates = np.floor((ago - 1) / every)  # since that step's update
    figure, (above, below) = new_figure(height=4.0, nrows=2, sharex=True)
    above.plot(ago, 100 * (1 - decay) * decay**updates, color=ACCENT, drawstyle="steps-mid" if every > 1 else "default")
    above.set(ylabel="part, %", yscale="log", ylim=(1e-4, 100))
    together = 100 * (1 - decay ** (ago / every))
    below.plot(ago, together, color=COLOURS["orange"])
    below.set(ylabel="up to here, %", ylim=(0, 105), yticks=(0, 50, 100))
    below.set(xlabel="steps ago", xscale="log", xlim=(1, _STEPS))
    name_powers(above.yaxis)
    name_powers(below.xaxis)
    if half <= _STEPS:
        below.plot([half, half], [0, 50], color=COLOURS["orange"], linewidth=1, linestyle=":")
        below.plot(half, 50, "o", color=COLOURS["orange"], clip_on=False)
        right = half < _STEPS**0.6
        memory = f"{half:,.0f} step" + "s" * (round(half) != 1)
        below.annotate(memory, (half, 50), (8 if right else -8, -12), textcoords="offset points",
                       ha="left" if right else "right", bbox=ON_PAPER)  # fmt: skip
    for frame in (above, below):
        frame.minorticks_off()
    for name, steps in (marks or {}).items():
        for frame in (above, below):
            frame.axvline(steps, color=REFERENCE, linewidth=1, linestyle="--")
        above.annotate(name, (steps, 100), (3, -3), textcoords="offset points", va="top")
    said = "".join(f" {name}, {steps:,.0f} steps, is marked: it holds {100 * (1 - decay ** (steps / every)):.0f} %."
                   for name, steps in (marks or {}).items())  # fmt: skip
    updated = "" if every == 1 else f", updated every {every} steps"
    alt = (
        f"Two lines over the number of steps ago, on a logarithmic axis from 1 to {_STEPS:,}, for a decay of "
        f"{decay:g}{updated}. The newest weights have {100 * (1 - decay):.3g} % of the average; half of it comes from "
        f"the last {half:,.0f} steps.{said}"
    )
    return Drawing(figure, alt)


@in_style
def rmsprop_steps(*, gradient: float = 0.01, alpha: float = 0.9, eps: float = 0.001, steps: int = 120) -> Drawing:
    """How two RMSprops of the same learning rate differ; TensorFlow's has ε in the root, PyTorch's has √ε beside it.

    Above, PyTorch's step over TensorFlow's once the mean square has settled, over that mean square in units of ε.
    Below, the first steps with a gradient that stays the same, without momentum: TensorFlow's mean square starts at 1,
    PyTorch's at 0.

    Args:
        gradient: of the panel below.
        alpha: decay of the mean square.
        eps: TensorFlow's ε; PyTorch gets its root.
        steps: of the panel below.
    """
    figure, (above, below) = new_figure(height=5.0, nrows=2)
    ratio = np.geomspace(1e-4, 1e4, 401)
    settled = np.sqrt(ratio + 1) / (np.sqrt(ratio) + 1)
    above.plot(ratio, settled, color=ACCENT)
    above.axhline(1, color=REFERENCE, linewidth=1, linestyle="--")
    above.axhline(sqrt(0.5), color=REFERENCE, linewidth=1, linestyle="--")
    above.set(xscale="log", xlim=(1e-4, 1e4), ylim=(0.6, 1.05), xlabel="mean square / ε", ylabel="PyTorch / TF")
    above.set_xticks([1e-4, 1e-2, 1, 1e2, 1e4])
    name_powers(above.xaxis)
    done = np.arange(1, positive_int("steps", steps) + 1)
    learnt = (1 - alpha**done) * gradient**2
    with_tf = gradient / np.sqrt(alpha**done + learnt + eps)
    with_torch = gradient / (np.sqrt(learnt) + sqrt(eps))
    below.plot(done, with_torch, color=COLOURS["orange"], label="PyTorch")
    below.plot(done, with_tf, color=ACCENT, label="TensorFlow")
    below.set(xlabel="step", ylabel="size / learning rate", yscale="log", xlim=(1, steps))
    name_powers(below.yaxis)
    below.legend(loc="lower right")
    even = int(done[np.argmax(with_tf > with_torch)]) if (with_tf > with_torch).any() else None
    meets = "stays below it" if even is None else f"is above it from step {even} on"
    alt = (
        "Two panels. Above, PyTorch's settled step over TensorFlow's, against the mean square over epsilon: 1 far out "
        f"on both sides, {settled.min():.2f} in the middle. Below, the first {steps} steps with a gradient of "
        f"{gradient:g}: PyTorch's first is {with_torch[0]:.2g} learning rates and its last {with_torch[-1]:.2g}; "
        f"TensorFlow's starts at {with_tf[0]:.2g}, {meets} and ends at {with_tf[-1]:.2g}."
    )
    return Drawing(figure, alt)
