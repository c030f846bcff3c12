"""The images of a recipe, and measures of a network on images, in one process or several."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, Subset

from mnv3lib.recipe import Recipe
from mnv3lib.tasks import TASKS, Task
from mnv3lib.training import augment
from mnv3lib.training.distributed import Processes, choose_device

__all__ = ["autocast", "evaluate", "measure", "open_dataset", "start_worker"]


def open_dataset(recipe: Recipe, split: str) -> Any:
    """The images of a recipe, ``"train"``, ``"val"`` or ``"test"``, transformed as it says."""
    from mnv3lib import data

    make = augment.train_transform if split == "train" else augment.eval_transform
    return data.open_dataset(recipe.data, split, recipe.task, make(recipe.augment, recipe.data, recipe.task))


def measure(recipe: Recipe, model: nn.Module, split: str = "test", *, device: str = "auto") -> dict[str, float]:
    """Measure a network on the images of a recipe, e.g. a run's on those that it was not chosen by.

    Args:
        recipe: decides images and measure.
        model: any network of its task; it is in evaluation mode and on ``device`` afterwards.
        split: ``"train"``, ``"val"`` or ``"test"``.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
    """
    images, processes = open_dataset(recipe, split), Processes(device=choose_device(device))
    layout = torch.channels_last if recipe.precision.channels_last else torch.contiguous_format
    model = model.to(processes.device).to(memory_format=layout)
    return evaluate(TASKS[recipe.task](recipe, images.num_classes), model, images, processes=processes)


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
