"""Averages of weights: exponential over the steps of a run, and plain over a few of its checkpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from mnv3lib.recipe import Averaging

__all__ = ["ExponentialAverage", "average_checkpoints"]


class ExponentialAverage:
    """A copy of a model that follows its weights slowly.

    After an update with decay d it holds d of what it held and 1 − d of the model. The first update copies the model.
    Batch norm's running statistics are averaged like the weights, as torchvision does, because they describe the
    activations of the weights of their time; integer buffers are copied.

    Args:
        model: of the shape to follow, not wrapped for distributed training.
        averaging: of the recipe; its ``ema_decay`` must be above 0.

    Attributes:
        module: the averaged model, in evaluation mode and without gradients.
    """

    def __init__(self, model: nn.Module, averaging: Averaging) -> None:
        if averaging.ema_decay <= 0:
            raise ValueError(f"recipe.averaging.ema_decay must be above 0, got {averaging.ema_decay!r}")
        self.averaging = averaging
        self.module = deepcopy(model).eval().requires_grad_(False)
        self.steps = 0
        self.updates = 0

    def decay(self) -> float:
        """The decay of the next update; 0 for the first."""
        if self.updates == 0:
            return 0.0
        decay = self.averaging.ema_decay
        return min(decay, (1 + self.updates) / (10 + self.updates)) if self.averaging.ema_warmup else decay

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Follow ``model``; to be called after every step of the optimiser, of which every ``ema_every``-th counts.

        Raises:
            ValueError: for a model with other tensors.
        """
        step, self.steps = self.steps, self.steps + 1
        if step % self.averaging.ema_every:
            return
        ours, theirs = self.module.state_dict(), model.state_dict()
        _agree(ours, theirs, "the averaged model", "model")
        weight = 1 - self.decay()
        floating = [name for name, tensor in ours.items() if tensor.is_floating_point()]
        torch._foreach_lerp_([ours[name] for name in floating], [theirs[name] for name in floating], weight)
        for name in ours.keys() - set(floating):
            ours[name].copy_(theirs[name])
        self.updates += 1

    def state_dict(self) -> dict[str, Any]:
        """What :meth:`load_state_dict` needs to go on as if nothing had happened."""
        return {"steps": self.steps, "updates": self.updates, "module": self.module.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave.

        Raises:
            ValueError: for another model's; nothing is changed then.
        """
        missing = {"steps", "updates", "module"} - set(state)
        if missing:
            raise ValueError(f"the state of an average must hold {', '.join(map(repr, sorted(missing)))}")
        _agree(self.module.state_dict(), state["module"], "the averaged model", "the state")
        self.module.load_state_dict(state["module"])
        self.steps, self.updates = state["steps"], state["updates"]


def average_checkpoints(states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of several state dicts of one network.

    Args:
        states: at least one, in the order of training.

    Returns:
        Floating-point tensors as means, added up in float64 and rounded once to their own type; others, such as batch
        norm's counters, from the last state.

    Raises:
        ValueError: for no states, or states whose names, shapes or types differ.
    """
    if not states:
        raise ValueError("states must hold at least one state dict, got none")
    last = states[-1]
    for place, state in enumerate(states[:-1]):
        _agree(last, state, f"states[{len(states) - 1}]", f"states[{place}]")
    averaged = {}
    for name, tensor in last.items():
        if tensor.is_floating_point():
            total = sum(state[name].to("cpu", torch.float64) for state in states)
            averaged[name] = (total / len(states)).to(tensor.device, tensor.dtype)  # type: ignore[union-attr]
        else:
            averaged[name] = tensor.clone()
    return averaged


def _agree(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], us: str, them: str) -> None:
    """Refuse state dicts of different networks."""
    for some, others, without in ((ours, theirs, them), (theirs, ours, us)):
        missing = [name for name in some if name not in others]
        if missing:
            raise ValueError(f"{without} has no {', '.join(map(repr, missing[:5]))}{' …' * (len(missing) > 5)}")
    for name, tensor in ours.items():
        other = theirs[name]
        if tensor.shape != other.shape or tensor.dtype != other.dtype:
            raise ValueError(
                f"{name} is {tuple(tensor.shape)} of {tensor.dtype} in {us}, "
                f"but {tuple(other.shape)} of {other.dtype} in {them}"
            )
