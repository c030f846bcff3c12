"""Train from the command line: ``python -m mnv3lib.training --recipe digitscenes``, alone or under ``torchrun``."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from mnv3lib import recipe as recipes

if TYPE_CHECKING:
    from mnv3lib.recipe import Recipe

__all__ = ["main"]

#: Threads, and workers, that a process may have for each CPU; many more end in a crash, or the machine stands still.
PER_CPU = 16

_EPILOG = """
A run that was stopped, however it was stopped, goes on when the same command is given again. With other values it is
another run: choose another folder, start anew with --restart (the old run is kept, as OUT.old-1), or change epochs,
learning rate, weight decay, schedule, clip_norm or label_smoothing for the rest of the run with --allow-changes.

Several processes, here or on several machines, train one network under torchrun:

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
    made.add_argument("--restart", action="store_true", help="rename the folder to OUT.old-1 and start anew")
    made.add_argument("--allow-changes", action="store_true", help="go on with another learning rate and the like")
    made.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    most = f"at most {PER_CPU} for each CPU of the machine"
    made.add_argument(
        "--threads", type=int, help=f"threads of each process for arithmetic, {most} (default: PyTorch's)"
    )
    made.add_argument(
        "--workers", type=int, default=0, help=f"extra processes that prepare images, {most} (default: 0)"
    )
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


def absent_weights(recipe: Recipe) -> str | None:
    """What is wrong with the path of the weights that the recipe starts from; nothing is fetched to find out."""
    from mnv3lib.weights import fetch, is_remote

    source = recipe.model.weights
    if source is None or is_remote(source):
        return None
    try:
        fetch(source)
    except OSError as error:
        return str(error)
    return None


def dry_run(recipe: Recipe, options: argparse.Namespace) -> None:
    """Print the plan, after a trial of a few steps if the images are at hand."""
    from mnv3lib.training.plan import describe, trial

    if options.no_trial:
        print(describe(recipe))
        return
    from mnv3lib.training.distributed import choose_device, process_group
    from mnv3lib.training.evaluation import open_dataset
    from mnv3lib.training.loop import Training

    with process_group(choose_device(options.device)) as processes:

        def without_trial(reason: str) -> None:
            if processes.first:
                print(f"{describe(recipe)}\nNo trial, because {reason}")

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


def check_numbers(options: argparse.Namespace) -> None:
    """Check the options that are no part of the recipe.

    Raises:
        ValueError: naming the option, the value and the range.
    """
    most = PER_CPU * (os.cpu_count() or 1)
    for name, low, high in (("threads", 1, most), ("workers", 0, most), ("save_every", 1, None)):
        value = getattr(options, name)
        if value is not None and (value < low or (high is not None and value > high)):
            wanted = f">= {low}" if high is None else f"from {low} to {high}, {PER_CPU} for each CPU of this machine"
            raise ValueError(f"--{name.replace('_', '-')} must be an integer {wanted}, got {value}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        The exit status: 0, 1 for a run that failed, 2 for bad arguments, 128 and the signal for one that was stopped.
    """
    commands = parser()
    options = commands.parse_args(arguments)
    try:
        recipe = chosen_recipe(options)
        check_numbers(options)
    except (TypeError, ValueError, OverflowError, OSError) as error:
        commands.error(str(error))
    try:
        return _train(recipe, options)
    except KeyboardInterrupt:  # before the first step, or the second Ctrl-C
        _complain("stopped at once; what was saved before is whole, and the same command goes on from it")
        return 128 + signal.SIGINT


def _train(recipe: Recipe, options: argparse.Namespace) -> int:
    """Do what the command line says, and turn what stops it into a line and an exit status."""
    import torch

    from mnv3lib.data import BrokenFileError
    from mnv3lib.training.errors import Interrupted, TrainingError, explained, last_line
    from mnv3lib.training.memory import keep_freed_memory

    keep_freed_memory()
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    try:
        if options.dry_run:
            if absent := absent_weights(recipe):
                _complain(f"{absent}: the run would stop there")
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
                allow_changes=options.allow_changes,
                tensorboard=options.tensorboard,
                progress=not options.quiet,
            )
    except Interrupted as stopped:
        _complain(str(stopped))
        return 128 + stopped.signum
    except (RuntimeError, TypeError, ValueError, OverflowError, MemoryError, OSError) as error:
        known: BaseException | None = error
        if isinstance(error, RuntimeError) and not isinstance(error, TrainingError | BrokenFileError):
            known = error if "Original Traceback" in str(error) else explained(error)
        # The library's errors say what to do in one line; a fault of its own is told with where it happened.
        if known is None or os.environ.get("MNV3LIB_DEBUG"):
            raise
        _complain(f"error: {last_line(known)}")
        return 1
    return 0


def _complain(line: str) -> None:
    """Say on stderr what went wrong, once for all processes."""
    from mnv3lib.training.launch import launched

    try:
        first = launched().rank == 0
    except ValueError:  # which is what the line is about
        first = True
    if first:
        with suppress(OSError):  # a terminal that is gone
            print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
