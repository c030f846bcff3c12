"""What ``torchrun`` tells the processes that it starts, through environment variables."""

from __future__ import annotations

import os
from typing import NamedTuple

__all__ = ["Launch", "launched"]


class Launch(NamedTuple):
    """What ``torchrun`` tells a process about itself.

    Attributes:
        rank: number of this process, from 0.
        world: number of processes.
        local_rank: number of this process on its machine.
        restarts: how often torchrun has started all processes again, because one was lost.
    """

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    restarts: int = 0


def launched() -> Launch:
    """Read the environment variables of ``torchrun``; without ``WORLD_SIZE`` and ``RANK`` the process is alone.

    Raises:
        ValueError: naming the variable, if one is missing, no integer or out of range.
    """
    local_rank, restarts = (
        _variable(name, 0) if name in os.environ else 0 for name in ("LOCAL_RANK", "TORCHELASTIC_RESTART_COUNT")
    )
    if "WORLD_SIZE" not in os.environ and "RANK" not in os.environ:
        return Launch(local_rank=local_rank, restarts=restarts)
    world = _variable("WORLD_SIZE", 1)
    rank = _variable("RANK", 0, world - 1) if world > 1 or "RANK" in os.environ else 0
    if world > 1:
        if not os.environ.get("MASTER_ADDR"):
            raise ValueError("the environment variable MASTER_ADDR must name the machine of process 0, it is not set")
        _variable("MASTER_PORT", 1, 65_535)
    return Launch(rank, world, local_rank, restarts)


def _variable(name: str, least: int, most: int | None = None) -> int:
    """An environment variable that must be an integer in a range."""
    text = os.environ.get(name)
    wanted = f"an integer >= {least}" if most is None else f"an integer from {least} to {most}"
    try:
        value = int(text or "")
        if value < least or (most is not None and value > most):
            raise ValueError
    except ValueError:
        got = "it is not set" if text is None else f"got {text!r}"
        raise ValueError(f"the environment variable {name} must be {wanted}, {got}; torchrun sets it") from None
    return value
