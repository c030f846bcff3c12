"""Quantisation-aware training: the network of a recipe with ``recipe.quantisation``, and what such a run leaves.

The network is trained as :class:`mnv3lib.deploy.quantization.FakeQuantized`: batch norm is folded into the convolutions
before the first step, so its statistics are held from the start. That needs trained weights to begin with.
"""

from __future__ import annotations

from os import PathLike
from pathlib import Path

import torch
from torch import nn

from mnv3lib.deploy.quantization import FakeQuantized
from mnv3lib.recipe import Recipe
from mnv3lib.training.checkpoint import load_exactly, read
from mnv3lib.training.errors import CheckpointError
from mnv3lib.training.evaluation import make_task

__all__ = ["check", "fake_quantized", "load"]


def check(recipe: Recipe, *, processes: int, pretrained: bool) -> None:
    """Refuse what does not go together with rounding in the forward pass.

    Args:
        recipe: with ``quantisation``.
        processes: that train together.
        pretrained: whether the weights are those that the recipe names, or come from elsewhere.

    Raises:
        ValueError: naming the field.
    """
    assert recipe.quantisation is not None
    needed = {
        "quantisation.norm_epochs": (recipe.quantisation.norm_epochs, 0, "batch norm is folded before the first step"),
        "model.freeze": (recipe.model.freeze, "nothing", "the parts have no modules of their own"),
        "averaging.ema_decay": (recipe.averaging.ema_decay, 0, "averages of scales and zero points mean nothing"),
        "averaging.checkpoints": (recipe.averaging.checkpoints, 0, "averages of scales and zero points mean nothing"),
        "precision.autocast": (recipe.precision.autocast, None, "ranges are taken in float32"),
        "precision.matrix_products": (
            recipe.precision.matrix_products,
            False,
            "it is the convolutions that become those of 8 bits",
        ),
    }
    for path, (value, only, why) in needed.items():
        if value != only:
            raise ValueError(f"recipe.{path} must be {only!r} with recipe.quantisation: {why}; got {value!r}")
    if pretrained and recipe.model.weights is None:
        raise ValueError("recipe.model.weights must name trained weights with recipe.quantisation, got None")
    if processes != 1:
        raise ValueError(f"recipe.quantisation must be None in several processes, of which there are {processes}")


def fake_quantized(model: nn.Module, recipe: Recipe) -> FakeQuantized:
    """The network of a recipe, rounding as it says."""
    assert recipe.quantisation is not None
    channels = next(module for module in model.modules() if isinstance(module, nn.Conv2d)).in_channels
    example = torch.zeros(2, channels, recipe.data.train_size, recipe.data.train_size)
    return FakeQuantized(model.eval(), example, backend=recipe.quantisation.backend)


def load(path: str | PathLike[str]) -> FakeQuantized:
    """Read ``best.pt`` of a run with ``recipe.quantisation``.

    Returns:
        The network in evaluation mode; its :meth:`~mnv3lib.deploy.quantization.FakeQuantized.quantized` is the one in 8
        bits.

    Raises:
        FileNotFoundError: if there is no such file.
        CheckpointError: if it is damaged, or of another kind of run.
    """
    state = read(Path(path))
    try:
        recipe, classes, weights = Recipe.from_dict(state["recipe"]), state["classes"], state["model"]
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} holds no weights of a run: {error!r}") from error
    if recipe.quantisation is None:
        raise CheckpointError(f"{path} is of a run without recipe.quantisation: read it with mnv3lib.weights")
    model = fake_quantized(make_task(recipe, classes).build_model(), recipe)
    load_exactly(model, weights, source=str(path))
    return model.eval()
