"""Batch norm folded into the convolution in front of it: in evaluation both are one affine function of each channel."""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor, nn

__all__ = ["fold_batch_norm", "folded"]

M = TypeVar("M", bound=nn.Module)


def folded(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Weight and bias of the one convolution that does what ``norm(conv(x))`` does in evaluation.

    With the statistics μ and σ² of a channel, γ · (w∗x + b − μ) / √(σ² + ε) + β is a convolution of the weight
    γ / √(σ² + ε) · w and the bias γ / √(σ² + ε) · (b − μ) + β. Computed in float64, given in the precision of ``conv``.

    Raises:
        ValueError: if ``norm`` keeps no running statistics, or is of another width.
    """
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError("norm must keep running statistics, got one with track_running_stats=False")
    if norm.num_features != conv.out_channels:
        raise ValueError(f"norm must have {conv.out_channels} channels like conv, got {norm.num_features}")
    with torch.no_grad():
        scale = (norm.running_var.double() + norm.eps).rsqrt()
        if norm.weight is not None:
            scale = scale * norm.weight.double()
        bias = conv.bias.double() if conv.bias is not None else torch.zeros_like(scale)
        shift = (bias - norm.running_mean.double()) * scale
        if norm.bias is not None:
            shift = shift + norm.bias.double()
        weight = conv.weight.double() * scale.reshape(-1, 1, 1, 1)
    return weight.to(conv.weight.dtype), shift.to(conv.weight.dtype)


def fold_batch_norm(model: M) -> M:
    """A copy of ``model`` whose convolutions have taken in the batch norm that follows them.

    The batch norms are :class:`torch.nn.Identity` then, so names and positions stay. Only a convolution and a batch
    norm that follow each other in a :class:`torch.nn.Sequential` are folded.

    Raises:
        ValueError: if ``model`` is in training mode, where batch norm uses the statistics of the batch.
    """
    if model.training:
        raise ValueError("model must be in evaluation mode, call model.eval() first")
    model = copy.deepcopy(model)
    for parent in [module for module in model.modules() if isinstance(module, nn.Sequential)]:
        names = list(parent._modules)
        for name, following in pairwise(names):
            conv, norm = parent._modules[name], parent._modules[following]
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                weight, bias = folded(conv, norm)
                conv.weight = nn.Parameter(weight, conv.weight.requires_grad)
                conv.bias = nn.Parameter(bias, conv.weight.requires_grad)
                parent._modules[following] = nn.Identity()
    return model
