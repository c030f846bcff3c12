"""Which tensors can be copied into a network, and how: shown before anything is written."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["not_finite", "number_kind", "too_large", "why_not_plain"]


def why_not_plain(tensor: Tensor) -> str | None:
    """What a tensor is other than numbers in memory, in words; None for a plain one."""
    if tensor.is_nested:
        return "nested"
    if tensor.layout is not torch.strided:
        return f"{tensor.layout}".removeprefix("torch.").replace("_", " ")
    if tensor.is_quantized:
        return "quantised"
    if tensor.is_meta:
        return "on the meta device, without numbers"
    if torch.nn.parameter.is_lazy(tensor):
        return "lazy, without a shape"
    return None


def number_kind(dtype: torch.dtype) -> str:
    """What cannot be copied into each other without a loss that nobody asked for."""
    if dtype.is_complex:
        return "complex"
    if dtype.is_floating_point:
        return "float"
    return "bool" if dtype is torch.bool else "integer"


def not_finite(tensor: Tensor) -> int:
    """How many numbers are infinite or NaN."""
    return int((~_finite(tensor)).sum())


def too_large(tensor: Tensor, dtype: torch.dtype) -> int:
    """How many numbers another type cannot hold: they would become infinite, or wrap around."""
    converted = tensor.to(dtype)
    if dtype.is_floating_point:
        return int((_finite(tensor) & ~_finite(converted)).sum())
    return int((converted.to(tensor.dtype) != tensor).sum())


def _finite(tensor: Tensor) -> Tensor:
    # In types of 8 bits PyTorch cannot say it.
    return torch.isfinite(tensor.float() if tensor.dtype.itemsize == 1 else tensor)
