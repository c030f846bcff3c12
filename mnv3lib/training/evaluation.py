"""Measures of a network on images, in one process or several."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, Subset

from mnv3lib.training.distributed import Processes
from mnv3lib.training.recipe import Recipe
from mnv3lib.training.tasks import Task

__all__ = ["autocast", "evaluate", "start_worker"]


@torch.no_grad()
def evaluate(
    task: Task, module: nn.Module, images: Any, *, processes: Processes | None = None, workers: int = 0
) -> dict[str, float]:
    """Measure a network, which must be the same in all processes; each takes its share of the images.

    Args:
        task: what is measured, and with which batches.
        module: the network; it is in evaluation mode afterwards.
        images: transformed for evaluation, with their targets.
        processes: this process among those that measure together; all get the same.
        workers: processes that prepare images, for each.
    """
    processes = processes or Processes()
    module.eval()
    metric = task.metric()
    loader = DataLoader(
        Subset(images, range(processes.rank, len(images), processes.world)),
        batch_size=max(1, task.recipe.batch_size // (task.recipe.accumulate * processes.world)),
        num_workers=workers,
        collate_fn=task.collate,
        worker_init_fn=start_worker,
    )
    for batch in loader:
        inputs, targets = task.move(batch, processes.device)
        with autocast(task.recipe, processes.device):
            outputs = module(inputs)
        metric.update(outputs, targets)
    return metric.compute(processes)


def autocast(recipe: Recipe, device: torch.device) -> torch.autocast:
    """The context in which a recipe's network computes: in its lower precision, if it names one."""
    name = recipe.precision.autocast
    dtype = torch.float16 if name == "float16" else torch.bfloat16
    return torch.autocast(device.type, dtype=dtype, enabled=name is not None)


def start_worker(number: int) -> None:
    """Leave Ctrl-C to the main process, which still needs the worker for the step it is in."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
