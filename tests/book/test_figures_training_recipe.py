"""The figures on recipes draw the schedules that train, and say what they draw."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from figures import training_recipe as figures

from mnv3lib.explore.drawing import PAPER
from mnv3lib.explore.palette import REFERENCE
from mnv3lib.recipe import Schedule, factor, load
from mnv3lib.training.optimisers import RMSpropTF

COSINE = Schedule(name="cosine", warmup_epochs=2, warmup_factor=0.1)


def drawn(frame: Any, place: int = 0) -> tuple[Any, Any]:
    x, y = frame.lines[place].get_data()
    return np.asarray(x, dtype=float), np.asarray(y, dtype=float)


@pytest.mark.parametrize(
    "schedule",
    [
        COSINE,
        Schedule(name="step", step_epochs=3, gamma=0.5),
        Schedule(name="poly", per_step=False),
        Schedule(name="cosine", warmup_epochs=0.1364),
    ],
)
def test_a_schedule_is_drawn_as_it_trains(schedule: Schedule) -> None:
    drawing = figures.schedule_curve(schedule, 12, reference=Schedule(name="constant"))
    (frame,) = drawing.figure.axes
    epochs, factors = drawn(frame, 1)
    assert [factor(schedule, epoch, 12) for epoch in epochs] == list(factors)
    assert (epochs.min(), epochs.max()) == (0, 12)
    assert schedule.warmup_epochs in epochs
    assert np.diff(epochs).max() <= 0.0101
    assert (frame.get_xlim(), frame.get_ylim()) == ((0, 12), (0, 1.05))
    assert frame.lines[0].get_color() == REFERENCE
    assert "Dashed in grey: constant." in drawing.alt


def test_the_words_are_the_numbers_of_the_curve() -> None:
    alt = figures.schedule_curve(COSINE, 10).alt
    assert alt.startswith("Line of the factor on the learning rate over 10 epochs, cosine, warm-up over 2 epochs: it ")
    # Half of the curve after warm-up, at 2 + 8 / 2; the mean is (0.55 · 2 + 0.5 · 8) / 10.
    assert "starts at 0.1, is 0.691 half way, is below a half from epoch 6.01 on and ends at 0; its mean is 0.51" in alt
    assert (
        "never falls below a half and ends at 1; its mean is 1.00"
        in figures.schedule_curve(Schedule(name="constant"), 3).alt
    )
    assert "grey" not in alt
    with pytest.raises(ValueError, match="epochs must be an integer >= 1, got 0"):
        figures.schedule_curve(COSINE, 0)


def test_published_learning_rates_share_their_axes() -> None:
    recipes = [load(name) for name in ("paper", "torchvision-v1", "torchvision-v2-style")]
    drawing = figures.learning_rates(recipes)
    (frame,) = drawing.figure.axes
    for place, recipe in enumerate(recipes):
        parts, rates = drawn(frame, place)
        assert rates.max() == recipe.optimiser.lr * max(
            factor(recipe.schedule, part * recipe.epochs / 100, recipe.epochs) for part in parts
        )
        assert (parts.min(), parts.max()) == (0, pytest.approx(100))
    assert [line.get_label() for line in frame.lines] == [recipe.name for recipe in recipes]
    assert (frame.get_yscale(), frame.get_ylim(), frame.get_xlim()) == ("log", (1e-6, 1), (0, 100))
    assert "torchvision-v1: 600 epochs, step, highest 0.064, 1.8e-05 in the last epoch" in drawing.alt
    for count in (0, 6):
        with pytest.raises(ValueError, match=f"recipes must be from 1 to 5, got {count}"):
            figures.learning_rates([recipes[0]] * count)


@pytest.mark.parametrize(("decay", "every"), [(0.5, 1), (0.9, 1), (0.999, 1), (0.9989077, 32), (0.9999, 1)])
def test_half_of_an_average_is_from_the_steps_of_its_half_life(decay: float, every: int) -> None:
    half = figures.half_life(decay, every=every)
    assert decay ** (half / every) == pytest.approx(0.5)
    drawing = figures.moving_average(decay, every=every)
    above, below = drawing.figure.axes
    ago, weights = drawn(above)
    _, together = drawn(below)
    assert ago[0] == 1
    assert weights[0] == pytest.approx(100 * (1 - decay))
    assert (np.diff(weights) <= 0).all()
    assert (np.diff(together) >= 0).all()
    # An average by the loop's own rule, of a weight that is one in the last `half` steps and zero before.
    average = 0.0
    for _ in range(round(half / every)):
        average = decay * average + (1 - decay) * 1.0
    assert average == pytest.approx(0.5, abs=0.05 if half < 10 else 0.01)
    assert np.interp(half, ago, together) == pytest.approx(50, abs=0.5)
    assert f"half of it comes from the last {half:,.0f} steps" in drawing.alt


def test_weights_add_up_to_what_is_drawn_below() -> None:
    decay = 0.97
    _, below = figures.moving_average(decay).figure.axes
    ago, together = drawn(below)
    weights = (1 - decay) * decay ** np.arange(100_000)
    np.testing.assert_allclose(together, 100 * np.cumsum(weights)[ago.astype(int) - 1], atol=1e-9)


def test_axes_stand_still_and_marks_are_said() -> None:
    limits = set()
    for decay in (0.5, 0.9, 0.999, 0.99999, 0.9999999):
        above, below = figures.moving_average(decay, marks={"epoch": 157}).figure.axes
        limits.add((above.get_xlim(), above.get_ylim(), below.get_ylim()))
        assert list(above.lines[-1].get_xdata()) == [157, 157]
    assert len(limits) == 1
    drawing = figures.moving_average(0.99, marks={"epoch": 157})
    assert "epoch, 157 steps, is marked: it holds 79 %." in drawing.alt
    assert "updated every 32 steps" in figures.moving_average(0.99, every=32).alt
    assert "updated" not in drawing.alt


@pytest.mark.parametrize("decay", [0, 1, -0.5, float("nan"), True, "0.9"])
def test_decays_outside_are_refused(decay: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="decay must be a number between 0 and 1, got"):
        figures.moving_average(decay)
    with pytest.raises(ValueError, match="every must be an integer >= 1, got 0"):
        figures.half_life(0.5, every=0)


def test_the_two_rmsprops_are_drawn_as_they_step() -> None:
    """Both panels against the optimisers themselves, without momentum and at a learning rate of 1."""
    drawing = figures.rmsprop_steps(gradient=0.02, eps=0.004, steps=30)
    above, below = drawing.figure.axes
    made = {}
    for name, build in {
        "PyTorch": lambda p: torch.optim.RMSprop(p, 1.0, alpha=0.9, eps=0.004**0.5),
        "TensorFlow": lambda p: RMSpropTF(p, 1.0, momentum=0, alpha=0.9, eps=0.004),
    }.items():
        weight = torch.nn.Parameter(torch.zeros((), dtype=torch.float64))
        optimiser, places = build([weight]), [0.0]
        for _ in range(30):
            weight.grad = torch.full_like(weight, 0.02)
            optimiser.step()
            places.append(weight.item())
        made[name] = -np.diff(places)
    for line in below.lines:
        np.testing.assert_allclose(line.get_ydata(), made[line.get_label()], rtol=1e-12)
    assert f"PyTorch's first is {made['PyTorch'][0]:.2g} learning rates" in drawing.alt
    ratio, settled = drawn(above)
    square = 0.004 * ratio
    np.testing.assert_allclose(settled, (square + 0.004) ** 0.5 / (square**0.5 + 0.004**0.5))
    assert settled.min() == pytest.approx(0.5**0.5)
    assert ratio[settled.argmin()] == pytest.approx(1)
    assert "0.71 in the middle" in drawing.alt


def test_who_overtakes_whom_is_said() -> None:
    assert "TensorFlow's starts at 0.011, is above it from step 70 on" in figures.rmsprop_steps().alt
    assert "stays below it" in figures.rmsprop_steps(steps=20).alt


def test_a_label_on_lines_has_the_pages_colour_behind_it() -> None:
    drawing = figures.moving_average(0.99, marks={"epoch": 157})
    (label,) = (text for text in drawing.figure.axes[1].texts if text.get_text() == "69 steps")
    assert label.get_bbox_patch() is not None
    shown = drawing._repr_svg_()
    assert f"fill: {PAPER}" in shown
    assert "#040506" not in shown
    texts = [text.get_text() for text in figures.moving_average(0.5).figure.axes[1].texts]
    assert texts == ["1 step"]
