"""A breakdown counts every layer with the seconds that it took; here layers turn the clock."""

from __future__ import annotations

import gc
import time

import pytest
import torch
from torch import Tensor, nn

from mnv3lib import cost, mobilenet_v3_small
from mnv3lib.deploy.breakdown import REST, breakdown

ONE = torch.zeros(1, 3, 32, 32)


@pytest.fixture(autouse=True)
def garbage_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Collecting it takes half a second in a process as large as the tests'."""
    monkeypatch.setattr(gc, "collect", lambda: 0)


class Slow(nn.Module):
    """Takes so long, by the clock of the test."""

    def __init__(self, clock: list[float], seconds: float) -> None:
        super().__init__()
        self.clock, self.seconds = clock, seconds

    def forward(self, x: Tensor) -> Tensor:
        self.clock[0] += self.seconds
        return x


class Between(nn.Module):
    """Two layers, one of them twice, and something between them that belongs to none."""

    def __init__(self, clock: list[float]) -> None:
        super().__init__()
        self.clock, self.once, self.twice, self.unused = clock, Slow(clock, 1.0), Slow(clock, 2.0), Slow(clock, 9.0)

    def forward(self, x: Tensor) -> Tensor:
        x = self.twice(self.twice(self.once(x)))
        self.clock[0] += 0.5
        return x


def test_seconds_are_those_of_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    found = breakdown(Between(clock).eval(), ONE, rounds=5)
    assert [(step.name, step.kind, step.seconds) for step in found.steps] == [
        ("once", "Slow", 1.0),
        ("twice", "Slow", 4.0),
    ]
    assert found.seconds == 5.5
    assert found.by_kind() == {"Slow": 5.0, REST: 0.5}
    assert list(found.by_kind())[-1] == REST


def test_every_layer_of_a_network_is_counted_as_what_it_is() -> None:
    """The number of layers of each kind is that of the cost model."""
    model = mobilenet_v3_small(num_classes=5).eval()
    kinds = [step.kind for step in breakdown(model, ONE, rounds=5).steps]
    layers = [layer.kind for layer in cost.profile(model.config, 32).layers]
    assert kinds.count("depthwise convolution") == layers.count("depthwise") == 11
    assert kinds.count("squeeze-and-excitation") == layers.count("excite") == 9
    pointwise = [kind for kind in layers if kind in ("expand", "project", "last conv")]
    assert kinds.count("1×1 convolution") == len(pointwise)
    assert kinds.count("other convolution") == 1
    assert kinds.count("batch norm") == 1 + 11 + len(pointwise)
    assert kinds.count("linear") == 2
    assert kinds.count("pooling") == 1
    # After the stem, the expansions, the depthwise convolutions, the last convolution and the hidden layer.
    assert kinds.count("activation") == layers.count("expand") + layers.count("depthwise") + 3


def test_hooks_do_not_stay_and_layers_are_in_the_order_they_ran() -> None:
    model = mobilenet_v3_small(width_mult=0.35).eval()
    found = breakdown(model, ONE, rounds=5)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert [step.name for step in found.steps][:3] == ["features.0.0", "features.0.1", "features.0.2"]
    assert all(step.seconds > 0 for step in found.steps)


def test_what_cannot_be_broken_down() -> None:
    model = mobilenet_v3_small(width_mult=0.35)
    with pytest.raises(ValueError, match="evaluation mode"):
        breakdown(model.train(), ONE)
    with pytest.raises(TypeError, match="model must be"):
        breakdown(len, ONE)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="rounds must be an integer >= 5, got 4"):
        breakdown(model.eval(), ONE, rounds=4)
    with pytest.raises(ValueError, match="threads"):
        breakdown(model.eval(), ONE, threads=0)


def test_a_pass_that_fails_leaves_no_hooks() -> None:
    class FailsAtTheSecondCall(nn.Module):
        calls = 0

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            if self.calls == 2:
                raise ArithmeticError("no")
            return x

    model = nn.Sequential(nn.Identity(), FailsAtTheSecondCall()).eval()
    with pytest.raises(ArithmeticError):
        breakdown(model, ONE)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
