"""Optimisers by name, with groups of parameters by kind; RMSprop as TensorFlow computes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import ParamsT

from mnv3lib._checks import fraction, non_negative_real
from mnv3lib.recipe import Optimiser
from mnv3lib.recipe.optimisers import OPTIMISERS

__all__ = ["RMSpropTF", "build", "parameter_groups", "set_factor"]

_NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)


class RMSpropTF(torch.optim.Optimizer):
    r"""RMSprop with momentum as TensorFlow's ``RMSPropOptimizer`` computes it, which trained MobileNetV3.

    With the gradient :math:`g` of a weight :math:`w`, to which weight decay has added :math:`\lambda w`:

    .. math::
        s &\leftarrow \alpha s + (1 - \alpha) g^2, \qquad s_0 = 1 \\
        m &\leftarrow \mu m + \eta \, g / \sqrt{s + \varepsilon}, \qquad m_0 = 0 \\
        w &\leftarrow w - m

    PyTorch's has :math:`g / (\sqrt{s} + \varepsilon)` and :math:`s_0 = 0`, and multiplies by :math:`\eta` only when it
    takes the step, so that a new learning rate also rescales the steps that momentum remembers; here it does not. With
    the root of this ε as its own, PyTorch's settled steps are smaller by a factor from 1 to √2, most where
    :math:`s = \varepsilon`. The mean square that starts at one makes the first steps small, like a warm-up.

    Args:
        params: parameters, or groups of them.
        lr: η, 0 or more.
        momentum: μ, 0 to 1.
        alpha: α, 0 to 1; TensorFlow calls it ``decay``.
        eps: ε, 0 or more.
        weight_decay: λ, of an L2 term ½λw² in the loss, as in the paper's training; 0 or more.

    Raises:
        TypeError, ValueError: naming the argument, the value and the range.
        RuntimeError: in a step, for sparse or complex gradients.

    Source: TensorFlow's documentation of ``tf.raw_ops.ApplyRMSProp``; its mean squares start at one in
    ``tf.compat.v1.train.RMSPropOptimizer``, at zero in Keras.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 0.01,
        *,
        momentum: float = 0.9,
        alpha: float = 0.9,
        eps: float = 0.001,
        weight_decay: float = 0.0,
    ) -> None:
        defaults = {
            "lr": non_negative_real("lr", lr),
            "momentum": fraction("momentum", momentum),
            "alpha": fraction("alpha", alpha),
            "eps": non_negative_real("eps", eps),
            "weight_decay": non_negative_real("weight_decay", weight_decay),
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take one step; ``closure``, if given, computes loss and gradients anew and its loss is returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            if weights:
                self._update(group, weights)
        return loss

    def _update(self, group: dict[str, Any], weights: list[Tensor]) -> None:
        squares, steps = [], []
        for weight in weights:
            if weight.is_complex() or weight.grad.is_sparse:  # type: ignore[union-attr]
                raise RuntimeError("RMSpropTF takes real, dense gradients only")
            state = self.state[weight]
            if not state:
                state["mean_square"] = torch.ones_like(weight, memory_format=torch.preserve_format)
                state["step"] = torch.zeros_like(weight, memory_format=torch.preserve_format)
            squares.append(state["mean_square"])
            steps.append(state["step"])
        gradients: list[Tensor] = [weight.grad for weight in weights]  # type: ignore[misc]
        # One call for all tensors of the group each, as torch.optim does: on a GPU a loop over them would launch
        # hundreds of kernels a step.
        if group["weight_decay"]:
            gradients = list(torch._foreach_add(gradients, weights, alpha=group["weight_decay"]))
        torch._foreach_mul_(squares, group["alpha"])
        torch._foreach_addcmul_(squares, gradients, gradients, value=1 - group["alpha"])
        roots = torch._foreach_add(squares, group["eps"])
        torch._foreach_sqrt_(roots)
        torch._foreach_mul_(steps, group["momentum"])
        torch._foreach_addcdiv_(steps, gradients, roots, value=group["lr"])
        torch._foreach_sub_(weights, steps)


def build(optimiser: Optimiser, model: nn.Module) -> torch.optim.Optimizer:
    """The optimiser of a recipe over the parameters of ``model`` that require gradients.

    Groups are those of :func:`parameter_groups`; each keeps the learning rate it starts from as ``initial_lr``, which
    :func:`set_factor` multiplies.

    Args:
        optimiser: the recipe's.
        model: not wrapped for distributed training, so that parameters have their own names.

    Raises:
        ValueError: if nothing is left to train, or no parameter has a prefix of ``lr_factors``.
    """
    groups: Any = parameter_groups(optimiser, model)
    entry = OPTIMISERS[optimiser.name]
    module, _, name = entry.path.rpartition(".")
    make = getattr(import_module(module), name)
    return make(groups, optimiser.lr, **{field: getattr(optimiser, field) for field in entry.fields})


def parameter_groups(optimiser: Optimiser, model: nn.Module) -> list[dict[str, Any]]:
    """Parameters by kind, "weights" or "norm and bias", and by the factor on their learning rate.

    Returns:
        Groups with ``params``, ``name``, ``lr``, ``initial_lr`` and ``weight_decay``; none is empty.
    """
    norm_decay = optimiser.weight_decay if optimiser.norm_weight_decay is None else optimiser.norm_weight_decay
    groups: dict[str, dict[str, Any]] = {}
    unused = set(optimiser.lr_factors)
    for name, parameter, is_weight in _parameters(model):
        prefix = max(filter(name.startswith, optimiser.lr_factors), key=len, default="")
        unused.discard(prefix)
        if not parameter.requires_grad:
            continue
        lr = optimiser.lr * optimiser.lr_factors.get(prefix, 1.0)
        kind = "weights" if is_weight else "norm and bias"
        key = f"{prefix}: {kind}" if prefix else kind
        decay = optimiser.weight_decay if is_weight else norm_decay
        fresh = {"params": [], "name": key, "lr": lr, "initial_lr": lr, "weight_decay": decay}
        groups.setdefault(key, fresh)["params"].append(parameter)
    if unused:
        raise ValueError(f"recipe.optimiser.lr_factors must name parameters of the model, got {sorted(unused)!r}")
    if not groups:
        raise ValueError("model must have a parameter that requires a gradient, got none")
    return list(groups.values())


def _parameters(model: nn.Module) -> Iterator[tuple[str, nn.Parameter, bool]]:
    """Each parameter once, with its name and whether it is a weight rather than part of a norm or a bias."""
    seen: set[nn.Parameter] = set()
    for path, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter not in seen:
                seen.add(parameter)
                full = f"{path}.{name}" if path else name
                yield full, parameter, parameter.ndim > 1 and name != "bias" and not isinstance(module, _NORMS)


def set_factor(optimiser: torch.optim.Optimizer, factor: float) -> None:
    """Set every group's learning rate to ``factor`` times the one it was built with."""
    non_negative_real("factor", factor)
    for group in optimiser.param_groups:
        group["lr"] = group["initial_lr"] * factor
