"""Train from the command line: ``python -m mnv3lib.training --recipe digitscenes``, alone or under ``torchrun``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mnv3lib import recipe as recipes

if TYPE_CHECKING:
    from mnv3lib.recipe import Recipe

__all__ = ["main"]

_EPILOG = """
A run that was stopped, however it was stopped, goes on when the same command is given again. Several processes, here
or on several machines, train one network under torchrun:

  torchrun --standalone --nproc-per-node=4 --max-restarts=3 -m mnv3lib.training --recipe digitscenes --out runs/a

With MNV3LIB_DEBUG=1 in the environment an error also says where in the code it happened.
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m mnv3lib.training",
        description="Train a network by a recipe.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    named = ", ".join(recipes.names())
    made.add_argument("--recipe", default="digitscenes", help=f"a YAML file, or one of {named} (default: digitscenes)")
    made.add_argument("--model", help="name of the network, e.g. mobilenet_v3_small")
    made.add_argument("--width-mult", type=float, help="factor on its widths")
    made.add_argument("--epochs", type=int, help="a warm-up too long for them keeps its part of the run")
    made.add_argument("--batch-size", type=int, help="images of a step, over all processes and accumulated batches")
    made.add_argument("--seed", type=int)
    about_set = "set any field of the recipe, e.g. --set optimiser.lr=0.05; may be given several times"
    made.add_argument("--set", action="append", default=[], metavar="PATH=VALUE", help=about_set)
    made.add_argument("--out", type=Path, help="folder of the run (default: runs/RECIPE-MODEL)")
    made.add_argument("--restart", action="store_true", help="put the run in the folder aside and start anew")
    made.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    made.add_argument("--threads", type=int, help="threads of each process for arithmetic (default: PyTorch's)")
    made.add_argument("--workers", type=int, default=0, help="extra processes that prepare images (default: 0)")
    made.add_argument("--save-every", type=int, metavar="STEPS", help="save within epochs too")
    made.add_argument("--tensorboard", action="store_true", help="write events for TensorBoard")
    made.add_argument("--quiet", action="store_true", help="say nothing but errors")
    made.add_argument("--dry-run", action="store_true", help="say what would be done and how long it would take")
    made.add_argument("--no-trial", action="store_true", help="with --dry-run: take no steps to measure the time")
    return made


def chosen_recipe(options: argparse.Namespace) -> Recipe:
    """The recipe with what the command line changes.

    Raises:
        TypeError, ValueError, OSError: as in :func:`mnv3lib.recipe.load` and ``overridden``.
    """
    short = {
        "model.name": options.model,
        "model.options.width_mult": options.width_mult,
        "epochs": options.epochs,
        "batch_size": options.batch_size,
        "seed": options.seed,
    }
    recipe = recipes.load(options.recipe)
    assignments = [f"{path}={value}" for path, value in short.items() if value is not None]
    warmup = recipe.schedule.warmup_epochs
    if options.epochs is not None and 0 < options.epochs <= warmup:
        assignments.append(f"schedule.warmup_epochs={warmup * options.epochs / recipe.epochs:g}")
    return recipes.overridden(recipe, [*assignments, *options.set])


def default_folder(recipe: Recipe) -> Path:
    """``runs/`` and the names of recipe and network, with the width if it is not 1."""
    width = recipe.model.options.get("width_mult", 1.0)
    return Path("runs", f"{recipe.name}-{recipe.model.name}" + ("" if width == 1 else f"-{width}"))


def dry_run(recipe: Recipe, options: argparse.Namespace) -> None:
    """Print the plan, after a trial of a few steps if the images are at hand."""
    from mnv3lib.training.plan import describe, trial

    if options.no_trial:
        print(describe(recipe))
        return
    from mnv3lib.training.distributed import choose_device, together
    from mnv3lib.training.evaluation import open_dataset
    from mnv3lib.training.loop import Training

    with together(choose_device(options.device)) as processes:

        def without_trial(reason: str) -> None:
            if processes.first:
                print(f"{describe(recipe)}\nNo trial, because {reason}")

        if recipe.quantisation is not None:
            without_trial("this version does not train with recipe.quantisation")
            return
        if recipe.data.root is None and recipe.data.name != "digitscenes":
            without_trial(f"recipe.data.root does not name the folder of {recipe.data.name!r}")
            return
        try:
            with processes.one_after_first():
                sets = open_dataset(recipe, "train"), open_dataset(recipe, "val")
        except OSError as error:
            without_trial(f"the images cannot be read: {error}")
            return
        tried = trial(recipe, processes.world)
        training = Training(
            tried, *sets, classes=sets[0].num_classes, processes=processes, workers=options.workers, pretrained=False
        )
        speed = training.images_per_second()
        if processes.first:
            print(describe(recipe, images=len(sets[0]), num_classes=sets[0].num_classes, images_per_second=speed))
            if tried.batch_size < recipe.batch_size:
                print(f"The speed is that of steps of {tried.batch_size:,} images.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        The exit status: 0, 1 for a run that failed, 2 for bad arguments, 128 and the signal for one that was stopped.
    """
    commands = parser()
    options = commands.parse_args(arguments)
    try:
        recipe = chosen_recipe(options)
        for name in ("threads", "save_every"):
            value = getattr(options, name)
            if value is not None and value < 1:
                raise ValueError(f"--{name.replace('_', '-')} must be an integer >= 1, got {value}")
        if options.workers < 0:
            raise ValueError(f"--workers must be an integer >= 0, got {options.workers}")
    except (TypeError, ValueError, OSError) as error:
        commands.error(str(error))

    import torch

    from mnv3lib.data import BrokenFileError
    from mnv3lib.training.errors import Interrupted, TrainingError
    from mnv3lib.training.memory import keep_freed_memory

    keep_freed_memory()
    first = int(os.environ.get("RANK", 0)) == 0
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    try:
        if options.dry_run:
            dry_run(recipe, options)
        else:
            from mnv3lib.training.run import train

            train(
                recipe,
                options.out or default_folder(recipe),
                device=options.device,
                workers=options.workers,
                save_every=options.save_every,
                restart=options.restart,
                tensorboard=options.tensorboard,
                progress=not options.quiet,
            )
    except Interrupted as stopped:
        if first:
            print(stopped, file=sys.stderr)
        return 128 + stopped.signum
    except (TrainingError, BrokenFileError, TypeError, ValueError, OSError) as error:
        # The library's errors say what to do in one line; a fault of its own is told with where it happened.
        if os.environ.get("MNV3LIB_DEBUG"):
            raise
        if first:
            print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
