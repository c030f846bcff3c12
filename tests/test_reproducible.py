"""Random numbers of a training: every generator is seeded, and no two steps draw the same."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from runs import noise, tiny
from torch import nn

from mnv3lib.recipe import Recipe
from mnv3lib.training.loop import Training
from mnv3lib.training.order import Order, Position, Reproducible, derive, reseed


def start(recipe: Recipe) -> Training:
    sets = noise()
    return Training(recipe, *sets, classes=sets[0].num_classes)


def drawn(*key: int | str) -> tuple[float, float, float]:
    """A number from each generator that a transform may use."""
    reseed(*key)
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def test_python_numpy_and_torch_are_all_seeded() -> None:
    first = drawn(0, "image", 1, 2)
    for generator in (random, np.random):
        generator.seed(5)
    torch.manual_seed(5)
    assert drawn(0, "image", 1, 2) == first
    other = drawn(0, "image", 1, 3)
    assert all(one != another for one, another in zip(first, other, strict=True))


def test_an_image_draws_by_seed_epoch_and_number() -> None:
    class Draws:
        def __len__(self) -> int:
            return 5

        def __getitem__(self, image: int) -> tuple[float, float, float]:
            return random.random(), float(np.random.rand()), float(torch.rand(()))

    images = Reproducible(Draws(), seed=3)
    assert len(images) == 5
    seen = [images[0, 1], images[0, 2], images[1, 1], Reproducible(Draws(), seed=4)[0, 1]]
    for generator in range(3):
        assert len({numbers[generator] for numbers in seen}) == 4
    assert images[0, 1] == seen[0] == drawn(3, "image", 0, 1)


def test_epochs_are_shuffled_by_seed_and_number() -> None:
    order = Order(images=30, batch_size=7)
    orders = [tuple(order.shuffled(epoch)) for epoch in range(3)] + [
        tuple(Order(images=30, batch_size=7, seed=1).shuffled(0))
    ]
    assert len(set(orders)) == 4
    assert all(sorted(each) == list(range(30)) for each in orders)
    assert [order.bounds(step) for step in range(order.steps)] == [(0, 6), (6, 12), (12, 18), (18, 24), (24, 30)]
    batches = list(Order(images=11, batch_size=4).batches(Position(1, 1), 2))
    assert [len(batch) for batch in batches] == [4, 4]
    assert {epoch for batch in batches for epoch, _ in batch} == {1}
    assert derive(1, "a") != derive(1, "b")


def test_every_batch_of_every_step_has_dropout_masks_of_its_own() -> None:
    training, states = start(tiny("accumulate=2")), []
    training.model.register_forward_pre_hook(lambda *_: states.append(torch.get_rng_state().numpy().tobytes()))
    for _ in range(3):
        if training.position.step == training.order.steps:
            training.next_epoch()
        training.advance()
    assert len(states) == 6
    assert len(set(states)) == 6


@pytest.mark.parametrize("autocast", [None, "float16"])
def test_gradients_are_clipped_at_their_own_size(autocast: str | None) -> None:
    """Not while they are scaled up against underflow: what is left then would be 65,536 times too small."""
    lower = [] if autocast is None else [f"precision.autocast={autocast}"]
    training = start(
        tiny("schedule.name=constant", "optimiser.weight_decay=0", "optimiser.name=sgd", "clip_norm=0.001", *lower)
    )
    before = nn.utils.parameters_to_vector(
        [weight.detach().clone().flatten() for weight in training.model.parameters()]
    )
    training.advance()
    after = nn.utils.parameters_to_vector([weight.detach().flatten() for weight in training.model.parameters()])
    lr = training.optimiser.param_groups[0]["lr"]
    assert float((after - before).norm()) == pytest.approx(0.001 * lr, rel=1e-2)


def test_a_network_is_measured_in_evaluation_mode() -> None:
    """No dropout, no statistics of the batch, and nothing about the network changes."""
    training = start(tiny("model.options.dropout=0.5"))
    training.model.train()
    state = {name: tensor.clone() for name, tensor in training.model.state_dict().items()}
    modes = []
    training.model.register_forward_pre_hook(lambda module, _: modes.append(module.training))
    training.evaluate(training.model)
    assert set(modes) == {False}
    assert all(torch.equal(tensor, state[name]) for name, tensor in training.model.state_dict().items())
