"""What the tests of segmentation and of detection share: two networks compared, and a network watched as it runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from ledger import Deviation, worst, worst_of
from reference import assert_same_state, same_bits
from test_cost import watch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mnv3lib.config import OnBackbone
from mnv3lib.tasks.builders import build

__all__ = ["assert_same_network", "both_from_one_seed", "build", "on_meta", "ran"]

Outputs = dict[str, Tensor]


def on_meta(config: OnBackbone) -> Any:
    """The network of a configuration, in evaluation mode, without numbers."""
    with torch.device("meta"):
        return build(config).eval()


def both_from_one_seed(ours: Callable[[], nn.Module], theirs: Callable[[], nn.Module]) -> tuple[nn.Module, nn.Module]:
    """Two networks built after the same seed; both draw as many random numbers."""
    networks, states = [], []
    for make in (ours, theirs):
        torch.manual_seed(0)
        networks.append(make())
        states.append(torch.get_rng_state())
    assert torch.equal(*states), "another number of random numbers drawn"
    return networks[0], networks[1]


def assert_same_network(
    ours: nn.Module,
    theirs: nn.Module,
    deviation: Deviation,
    *,
    found: Callable[[nn.Module], list[Outputs]],
    trained: Callable[[nn.Module], Outputs],
    loss: Callable[[Outputs], Tensor],
    prepare: Callable[[nn.Module], object] = nn.Module.eval,
) -> None:
    """Weights, what is found, losses, gradients and statistics are equal to the bit, and which parameters learn.

    Args:
        ours, theirs: the networks.
        deviation: notes what differs.
        found: what a network gives in evaluation.
        trained: what it gives in training.
        loss: one number of that.
        prepare: what happens to a network before the evaluation.
    """
    pair = (ours, theirs)
    deviation(worst_of(ours.state_dict(), theirs.state_dict()))
    assert_same_state(ours, theirs)
    learning = [[name for name, p in network.named_parameters() if p.requires_grad] for network in pair]
    assert learning[0] == learning[1]
    for network in pair:
        torch.manual_seed(1)
        prepare(network)
    with torch.no_grad():
        results = [found(network.eval()) for network in pair]
    for one, expected in zip(*results, strict=True):
        assert list(one) == list(expected)
        for name in expected:
            deviation(worst(one[name], expected[name]))
            assert same_bits(one[name], expected[name])
    assert sum(tensor.numel() for one in results[1] for tensor in one.values()) > 0
    outputs, states = [], []
    for network in pair:
        torch.manual_seed(2)
        outputs.append(trained(network.train()))
        loss(outputs[-1]).backward()  # type: ignore[no-untyped-call]
        states.append(torch.get_rng_state())
    assert torch.equal(*states), "another number of random numbers drawn"
    assert list(outputs[0]) == list(outputs[1])
    deviation(worst_of(*outputs))
    assert all(same_bits(outputs[0][name], value) for name, value in outputs[1].items())
    grads = [{name: p.grad for name, p in network.named_parameters() if p.requires_grad} for network in pair]
    deviation(worst_of(*grads))
    assert all(same_bits(grads[0][name], grad) for name, grad in grads[1].items())
    assert all(p.grad is None for p in ours.parameters() if not p.requires_grad)
    assert_same_state(ours, theirs)


def ran(
    network: nn.Module, images: Tensor, kinds: tuple[type, ...], watched: nn.Module | None = None
) -> tuple[Any, dict[str, list[tuple[Any, Any]]], dict[str, int], int]:
    """What a network gives; each module's inputs and outputs, its multiply-adds times 2, and those of all.

    Args:
        network: without numbers.
        images: likewise.
        kinds: of the modules that are watched.
        watched: where they are; by default in all of the network.
    """
    seen: dict[str, list[tuple[Any, Any]]] = {}

    def note(name: str, module: nn.Module, before: Any, after: Any) -> None:
        seen.setdefault(name, []).append((before, after))

    with watch(watched or network, kinds, note), FlopCounterMode(display=False) as counter, torch.no_grad():
        given = network(images)
    flops = {name: sum(kinds.values()) for name, kinds in counter.get_flop_counts().items()}
    return given, seen, flops, counter.get_total_flops()
