"""Averages of weights: against torch's, by their formula, and that they go on where they were."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from ledger import Deviation, worst_of
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import mnv3lib
from mnv3lib.recipe import Averaging
from mnv3lib.training import averaging as room
from mnv3lib.training.averaging import ExponentialAverage, average_checkpoints


def network(seed: int = 0, **options: Any) -> nn.Module:
    torch.manual_seed(seed)
    return mnv3lib.mobilenet_v3_small(**{"width_mult": 0.25, "num_classes": 5, **options})


def wander(model: nn.Module, steps: int) -> Iterator[int]:
    """Change every tensor, batch norm's statistics and counters included, as training would."""
    generator = torch.Generator().manual_seed(7)
    for step in range(steps):
        with torch.no_grad():
            for tensor in model.state_dict().values():
                if tensor.is_floating_point():
                    tensor.add_(torch.randn(tensor.shape, generator=generator), alpha=0.1)
                else:
                    tensor.add_(1)
        yield step


@pytest.mark.proves(
    "Exponential average: all weights and batch norm statistics after 50 updates",
    against="torch.optim.swa_utils.AveragedModel with buffers, as torchvision uses it",
    tolerance=0,
    unit="absolute",
)
@pytest.mark.parametrize("decay", [0.9, 0.999])
def test_as_torchvision_averages(decay: float, deviation: Deviation) -> None:
    model = network()
    ours = ExponentialAverage(model, Averaging(ema_decay=decay, ema_warmup=False))
    theirs = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
    for _ in wander(model, 50):
        ours.update(model)
        theirs.update_parameters(model)
    # torch averages batch norm's counters too, rounding down; nothing reads them where the momentum is a number.
    found, expected, last = (
        {name: tensor for name, tensor in module.state_dict().items() if tensor.is_floating_point()}
        for module in (ours.module, theirs.module, model)
    )
    assert len(found) > 100
    assert worst_of(found, last) > 0.01
    deviation(worst_of(found, expected))


def value(model: nn.Module) -> float:
    return next(model.parameters()).flatten()[0].item()


class One(nn.Module):
    """A single weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros((), dtype=torch.float64))


def follow(averaging: Averaging, weights: list[float]) -> list[float]:
    """The average after each of the weights."""
    model = One()
    average, found = ExponentialAverage(model, averaging), []
    for weight in weights:
        model.weight.data.fill_(weight)
        average.update(model)
        found.append(value(average.module))
    return found


def test_by_the_formula() -> None:
    weights = [3.0, 1.0, 4.0, 1.0, 5.0]
    expected = [weights[0]]
    for weight in weights[1:]:
        expected.append(0.8 * expected[-1] + 0.2 * weight)
    assert follow(Averaging(ema_decay=0.8, ema_warmup=False), weights) == pytest.approx(expected)


def test_with_a_slow_start_the_decay_rises_to_its_value() -> None:
    weights = [float(n) for n in range(200)]
    expected = [weights[0]]
    for n, weight in enumerate(weights[1:], start=1):
        decay = min(0.9, (1 + n) / (10 + n))
        expected.append(decay * expected[-1] + (1 - decay) * weight)
    assert follow(Averaging(ema_decay=0.9), weights) == pytest.approx(expected)
    average = ExponentialAverage(One(), Averaging(ema_decay=0.9999))
    average.updates = 10**6
    assert average.decay() == 0.9999


def test_only_every_so_many_steps_count() -> None:
    weights = [float(n) for n in range(10)]
    found = follow(Averaging(ema_decay=0.5, ema_every=3, ema_warmup=False), weights)
    # The first step counts, as in torchvision's loop, then every third.
    assert found == [0, 0, 0, 1.5, 1.5, 1.5, 3.75, 3.75, 3.75, 6.375]


def test_counters_and_layout_are_the_models() -> None:
    model = network().to(memory_format=torch.channels_last)
    average = ExponentialAverage(model, Averaging(ema_decay=0.9))
    for _ in wander(model, 4):
        average.update(model)
    counters = {name: value for name, value in average.module.state_dict().items() if not value.is_floating_point()}
    assert counters
    assert all(value == 4 for value in counters.values())
    weight = average.module.features[0][0].weight
    assert weight.is_contiguous(memory_format=torch.channels_last)


def test_the_average_is_for_use_and_apart_from_the_model() -> None:
    model = network().train()
    average = ExponentialAverage(model, Averaging(ema_decay=0.9))
    assert not average.module.training
    assert not any(parameter.requires_grad for parameter in average.module.parameters())
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    kept = {name: value.clone() for name, value in average.module.state_dict().items()}
    for _ in wander(model, 1):
        pass
    assert worst_of(average.module.state_dict(), kept) == 0, "it moved without an update"
    state = torch.get_rng_state()
    average.update(model)
    assert torch.equal(torch.get_rng_state(), state), "random numbers were drawn"


@pytest.mark.parametrize("stop", [1, 4, 5])
def test_a_saved_state_goes_on_bit_for_bit(stop: int) -> None:
    averaging = Averaging(ema_decay=0.95, ema_every=2)
    model = network()
    whole, part = ExponentialAverage(model, averaging), ExponentialAverage(model, averaging)
    for step in wander(model, 9):
        whole.update(model)
        if step == stop:
            state = {**part.state_dict(), "module": {k: v.clone() for k, v in part.module.state_dict().items()}}
            part = ExponentialAverage(network(seed=3), averaging)
            part.load_state_dict(state)
        part.update(model)
    assert worst_of(part.module.state_dict(), whole.module.state_dict()) == 0
    assert (part.steps, part.updates) == (whole.steps, whole.updates) == (9, 5)


def test_other_networks_are_refused_and_nothing_is_changed() -> None:
    average = ExponentialAverage(network(), Averaging(ema_decay=0.9))
    kept = {name: value.clone() for name, value in average.module.state_dict().items()}
    with pytest.raises(
        ValueError, match=r"classifier\.3\.weight is \(5, \d+\) of torch\.float32 in the averaged model"
    ):
        average.update(network(num_classes=6))
    with pytest.raises(ValueError, match=r"model has no 'features\.0\.0\.weight', .* …"):
        average.update(nn.Linear(2, 2))
    with pytest.raises(ValueError, match=r"the averaged model has no 'extra'"):
        average.load_state_dict(
            {"steps": 1, "updates": 1, "module": {**average.module.state_dict(), "extra": torch.ones(1)}}
        )
    with pytest.raises(ValueError, match="the state of an average must hold 'module', 'updates'"):
        average.load_state_dict({"steps": 3})
    assert worst_of(average.module.state_dict(), kept) == 0
    with pytest.raises(ValueError, match=r"recipe\.averaging\.ema_decay must be above 0, got 0\.0"):
        ExponentialAverage(network(), Averaging())


def states(count: int) -> list[dict[str, Tensor]]:
    model = network()
    return [{name: value.clone() for name, value in model.state_dict().items()} for _ in wander(model, count)]


def test_the_mean_of_checkpoints() -> None:
    found = states(3)
    mean = average_checkpoints(found)
    assert list(mean) == list(found[0])
    for name, tensor in mean.items():
        assert tensor.dtype == found[0][name].dtype
        if tensor.is_floating_point():
            exact = torch.stack([state[name].double() for state in found]).mean(0)
            assert torch.equal(tensor, exact.float())
        else:
            assert tensor == found[-1][name] == 3
    network(seed=9).load_state_dict(mean)


def test_the_mean_is_rounded_once() -> None:
    """In float16 the sum of three weights of 60000 is infinite, and small ones vanish beside large ones."""
    large = [{"weight": torch.full((1,), 60_000, dtype=torch.float16)}] * 3
    assert average_checkpoints(large)["weight"].item() == torch.tensor(60_000, dtype=torch.float16).item()
    mixed = [{"weight": torch.tensor([number])} for number in (1e8, 1.0, -1e8)]
    assert average_checkpoints(mixed)["weight"].item() == pytest.approx(1 / 3)


def test_the_mean_of_one_is_itself_and_shares_nothing() -> None:
    (state,) = states(1)
    mean = average_checkpoints([state])
    assert worst_of(mean, state) == 0
    for name in mean:
        assert mean[name].data_ptr() != state[name].data_ptr()


def test_checkpoints_of_other_networks_are_refused() -> None:
    first, second = states(2)
    with pytest.raises(ValueError, match="states must hold at least one state dict, got none"):
        average_checkpoints([])
    with pytest.raises(ValueError, match=r"states\[0\] has no 'classifier\.3\.bias'"):
        average_checkpoints([{k: v for k, v in first.items() if k != "classifier.3.bias"}, second])
    with pytest.raises(ValueError, match=r"states\[1\] has no 'classifier\.3\.bias'"):
        average_checkpoints([first, {k: v for k, v in second.items() if k != "classifier.3.bias"}])
    with pytest.raises(ValueError, match=r"classifier\.3\.bias is \(5,\) of .* in states\[1\], but \(4,\) of"):
        average_checkpoints([{**first, "classifier.3.bias": torch.ones(4)}, second])
    with pytest.raises(ValueError, match=r"torch\.float32 in states\[1\], but \(5,\) of torch\.float64 in states\[0\]"):
        average_checkpoints([{**first, "classifier.3.bias": torch.ones(5, dtype=torch.float64)}, second])
    assert all(hasattr(room, name) for name in room.__all__)
