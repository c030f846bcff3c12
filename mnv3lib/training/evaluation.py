"""The images and the task of a recipe, and measures of a network on images, in one process or several."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, Subset

from mnv3lib.recipe import Recipe
from mnv3lib.tasks import Classification, Detection, Metric, Segmentation, Task
from mnv3lib.training import augment
from mnv3lib.training.distributed import Processes, choose_device

__all__ = ["autocast", "evaluate", "make_task", "measure", "memory_format", "open_dataset", "start_worker"]


def open_dataset(recipe: Recipe, split: str) -> Any:
    """The images of a recipe, ``"train"``, ``"val"`` or ``"test"``, transformed as it says."""
    from mnv3lib import data

    recipe.check_channels()
    make = augment.train_transform if split == "train" else augment.eval_transform
    return data.open_dataset(recipe.data, split, recipe.task, make(recipe.augment, recipe.data, recipe.task))


def make_task(recipe: Recipe, num_classes: int) -> Task:
    """What a recipe learns, with its network.

    Args:
        recipe: of any task.
        num_classes: of the data, the background of segmentation and detection included.

    Raises:
        TypeError, ValueError: for a network or an option that the task does not have, or another number of classes.
    """
    model = recipe.model
    try:
        if recipe.task == "classification":
            return Classification(model.config(num_classes=num_classes), label_smoothing=recipe.label_smoothing)
        dense = Segmentation if recipe.task == "segmentation" else Detection
        return dense(num_classes, model.name, model.options)
    except (TypeError, ValueError) as error:  # begins with the name of the argument
        raise type(error)(f"recipe.model.{str(error).removeprefix('recipe.model.')}") from None


def memory_format(recipe: Recipe) -> torch.memory_format:
    """How a recipe lays out images and weights in memory."""
    return torch.channels_last if recipe.precision.channels_last else torch.contiguous_format


def measure(recipe: Recipe, model: nn.Module, split: str = "test", *, device: str = "auto") -> dict[str, float]:
    """Measure a network on the images of a recipe, e.g. a run's on those that it was not chosen by.

    Args:
        recipe: decides images and measure.
        model: any network of its task; it is in evaluation mode and on ``device`` afterwards.
        split: ``"train"``, ``"val"`` or ``"test"``.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
    """
    images, processes = open_dataset(recipe, split), Processes(device=choose_device(device))
    model = model.to(processes.device).to(memory_format=memory_format(recipe))
    return evaluate(recipe, model, images, task=make_task(recipe, images.num_classes), processes=processes)


@torch.no_grad()
def evaluate(
    recipe: Recipe,
    module: nn.Module,
    images: Any,
    *,
    task: Task,
    processes: Processes | None = None,
    workers: int = 0,
    metric: Metric | None = None,
) -> dict[str, float]:
    """Measure a network, which must be the same in all processes; each takes a part of the images.

    Args:
        recipe: decides the size of a batch and the precision.
        module: the network; it is in evaluation mode afterwards.
        images: transformed for evaluation, with their targets.
        task: what is measured.
        processes: this process among those that measure together; all get the same.
        workers: processes that prepare images, for each.
        metric: what gathers; of one that is given more can be asked than what is returned.
    """
    processes = processes or Processes()
    module.eval()
    metric = metric or task.metric()
    loader = DataLoader(
        Subset(images, range(processes.rank, len(images), processes.world)),
        batch_size=max(1, recipe.batch_size // (recipe.accumulate * processes.world)),
        num_workers=workers,
        collate_fn=task.collate,
        worker_init_fn=start_worker,
    )
    for batch in loader:
        inputs, targets = task.move(batch, processes.device, memory_format(recipe))
        with autocast(recipe, processes.device):
            outputs = module(inputs)
        metric.update(outputs, targets)
    whole, *others = processes.gather(metric)
    for other in others:
        whole.merge(other)
    return whole.compute()


def autocast(recipe: Recipe, device: torch.device) -> torch.autocast:
    """The context in which a recipe's network computes: in its lower precision, if it names one."""
    name = recipe.precision.autocast
    dtype = torch.float16 if name == "float16" else torch.bfloat16
    return torch.autocast(device.type, dtype=dtype, enabled=name is not None)


def start_worker(number: int) -> None:
    """Leave Ctrl-C and a closed terminal to the main process, which still needs the worker for the step it is in."""
    import signal

    for name in ("SIGINT", "SIGHUP"):
        if hasattr(signal, name):  # there is no SIGHUP on Windows
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
