"""A run and its folder: start or go on, save, keep the best, stop in good order, and leave something to look at.

The folder holds ``recipe.yaml``; ``last.pt`` and ``previous.pt``, from which a run goes on; ``best.pt``, the weights of
the best epoch; ``epoch-….pt``, if the recipe averages checkpoints, and ``averaged.pt``; ``epochs.csv``; and at the end
``model.safetensors``, the best weights as :func:`mnv3lib.weights.load_network` reads them, ``result.json`` and
``summary.svg``.
"""

from __future__ import annotations

import json
import os
import platform
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

import mnv3lib
from mnv3lib import weights
from mnv3lib.data.datasets import check_classes
from mnv3lib.network import MobileNetV3
from mnv3lib.recipe import Recipe
from mnv3lib.training.averaging import average_checkpoints
from mnv3lib.training.checkpoint import Checkpoints, differences, load_exactly, read, write, write_bytes
from mnv3lib.training.distributed import choose_device, together
from mnv3lib.training.errors import CheckpointError, Interrupted, NotFinite, OtherRecipe, TrainingError
from mnv3lib.training.evaluation import open_dataset
from mnv3lib.training.guard import holds_a_run, locked, put_aside, signals
from mnv3lib.training.logs import Log, save_figure, write_rows
from mnv3lib.training.loop import Training

__all__ = ["Result", "train"]

FORMAT = 1
#: Fields of a recipe that another machine or another wording may change.
_FREE = ("name:", "source:", "data.root:")


@dataclass(frozen=True)
class Result:
    """What came of a run.

    Attributes:
        model: the network with the best weights, in evaluation mode on the CPU.
        rows: of the table, one for each epoch.
        measure: what epochs are compared by, e.g. ``"top1"``.
        best: its highest value.
        which: whose it is: ``"last"``, ``"ema"`` or ``"averaged"``.
        epoch: after which epoch, counted from 1.
        folder: of the run; None if it was not kept.
    """

    model: nn.Module
    rows: list[dict[str, float]]
    measure: str
    best: float
    which: str
    epoch: int
    folder: Path | None


def train(
    recipe: Recipe,
    out: str | os.PathLike[str] | None = None,
    *,
    datasets: tuple[Any, Any] | None = None,
    device: str = "auto",
    workers: int = 0,
    save_every: int | None = None,
    restart: bool = False,
    tensorboard: bool = False,
    progress: bool = False,
) -> Result:
    """Follow a recipe to its end, going on where a run in the same folder stopped.

    Under ``torchrun`` every process calls this, and all train one network. The state of the global random generators
    is not kept.

    Args:
        recipe: what to do.
        out: folder of the run; None keeps nothing but what is returned.
        datasets: for training and evaluation instead of the recipe's, transformed, with ``num_classes``.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        workers: processes that prepare images, for each process that trains.
        save_every: steps from one checkpoint to the next, besides the one after each epoch.
        restart: put a run in ``out`` aside, as ``out.old-1`` and so on, instead of going on.
        tensorboard: write TensorBoard's events too.
        progress: show a bar, and a line for each epoch.

    Raises:
        TypeError, ValueError: for a recipe that cannot be followed here.
        OtherRecipe: if ``out`` holds a run of another one, naming the fields that differ.
        CheckpointError: if a checkpoint cannot be written or read, or does not fit.
        NotFinite: if the loss is infinite or not a number; the last checkpoint is from before.
        Interrupted: after Ctrl-C or SIGTERM, once everything is saved; the second Ctrl-C does not wait.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()) if out is None else out)
        processes = stack.enter_context(together(choose_device(device)))
        with processes.one_after_first():
            if processes.first:
                stack.enter_context(locked(folder))
                if restart and int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)) == 0 and holds_a_run(folder):
                    put_aside(folder)
                    stack.enter_context(locked(folder))
        with processes.one_after_first():
            state = _load_state(folder, recipe) if processes.first else None
        state = processes.broadcast(state)
        with processes.one_after_first():
            sets = datasets or (open_dataset(recipe, "train"), open_dataset(recipe, "val"))
            if datasets is None:
                check_classes(*sets)
        training = Training(
            recipe,
            *sets,
            classes=sets[0].num_classes,
            processes=processes,
            workers=workers,
            pretrained=state is None,
        )
        run = _Run(training, folder, save_every=save_every, progress=progress, kept=out is not None)
        if state is not None:
            training.load_state_dict(state, source=str(folder))
            run.rows = state["rows"]
        return run.to_the_end(tensorboard=tensorboard)


class _Run:
    """The files of a training, and the order in which things happen."""

    def __init__(self, training: Training, folder: Path, *, save_every: int | None, progress: bool, kept: bool) -> None:
        self.training, self.folder, self.save_every, self.kept = training, folder, save_every, kept
        self.recipe, self.first = training.recipe, training.processes.first
        self.progress = progress and self.first
        self.checkpoints = Checkpoints(folder)
        self.rows: list[dict[str, float]] = []
        self.measure = training.task.measure

    def to_the_end(self, *, tensorboard: bool) -> Result:
        training = self.training
        if self.first:
            write_bytes(self.folder / "recipe.yaml", self.recipe.to_yaml().encode())
        if training.step_of_run:
            place = "is complete" if training.complete else f"goes on after step {training.step_of_run} of the run"
            self._say(f"{self.folder} {place}")
        if training.loaded is not None:
            self._say(str(training.loaded))
        log = Log(self.folder, tensorboard=tensorboard, step=training.step_of_run) if self.first else None
        try:
            with signals(self._ask_to_stop):
                if training.step_of_run and log is not None:
                    write_rows(log.table, self.rows)  # a process that was killed may have been ahead of its checkpoint
                while not training.complete:
                    self._epoch(log)
                return self._finish()
        except NotFinite as error:
            raise NotFinite(f"{error}. {self._left()}") from error
        except RuntimeError as error:
            if "DataLoader worker (pid" in str(error):
                what = "a process that prepares images was killed, often for want of memory: try fewer --workers"
                raise TrainingError(f"{what}. {self._left()} ({error})") from error
            if training.processes.world > 1 and any(word in str(error).lower() for word in ("gloo", "nccl")):
                raise TrainingError(f"another process was lost. {self._left()} ({error})") from error
            raise
        finally:
            if log is not None:
                log.close()

    def _epoch(self, log: Log | None) -> None:
        training = self.training
        with self._bar() as tick:
            while training.position.step < training.order.steps:
                training.advance()
                due = bool(self.save_every) and training.step_of_run % (self.save_every or 1) == 0
                last = training.position.step == training.order.steps
                for done in training.flush(force=due or last):
                    tick(done.loss, done.lr)
                    if log is not None:
                        log.step(done.step, loss=done.loss, lr=done.lr)
                if training.stopping and not last:
                    self._stop()
                if due and not last:
                    self._save()
        row = training.measures()
        self.rows.append(row)
        if self.first:
            self._keep_best(row)
        if log is not None:
            log.epoch(self.rows, training.step_of_run)
        training.next_epoch()
        self._save()
        self._say(_line(row, self.recipe.epochs))
        if training.stopping and not training.complete:
            self._stop()

    # -- files ---------------------------------------------------------------------------------------------------------

    def _save(self) -> None:
        if self.first:
            state = {
                "format": FORMAT,
                "versions": {"mnv3lib": mnv3lib.__version__, "torch": str(torch.__version__),
                             "python": platform.python_version()},
                "recipe": self.recipe.to_dict(),
                "rows": self.rows,
                **self.training.state_dict(),
            }  # fmt: skip
            self.checkpoints.save(state)

    def _keep_best(self, row: dict[str, float]) -> None:
        candidates = self.training.candidates()
        _, which, epoch = self._best()
        if epoch == row["epoch"]:
            self._write_weights("best.pt", candidates[which].state_dict(), which, epoch)
        kept = self._best_epochs()
        if row["epoch"] in kept:
            self._write_weights(_name(row["epoch"]), self.training.model.state_dict(), "last", int(row["epoch"]))
        for path in self.folder.glob("epoch-*.pt"):
            if path.name not in map(_name, kept):
                path.unlink()

    def _write_weights(self, name: str, state: dict[str, Any], which: str, epoch: int) -> None:
        about = {"which": which, "epoch": epoch, "classes": self.training.task.num_classes}
        write(self.folder / name, {"format": FORMAT, "recipe": self.recipe.to_dict(), "model": state, **about})

    def _best(self) -> tuple[float, str, int]:
        """The highest measure of all epochs, whose it is, and after which epoch; of equals the first."""
        found = [
            (row.get(f"{which}_{self.measure}", float("-inf")), which, int(row["epoch"]))
            for row in self.rows
            for which in self.training.candidates()
        ]
        return max(found, key=lambda one: one[0])

    def _best_epochs(self) -> list[float]:
        """The epochs whose last weights are averaged at the end, in their order."""
        ranked = sorted(self.rows, key=lambda row: row[f"last_{self.measure}"], reverse=True)
        return sorted(row["epoch"] for row in ranked[: self.recipe.averaging.checkpoints])

    # -- ends ----------------------------------------------------------------------------------------------------------

    def _finish(self) -> Result:
        training, processes = self.training, self.training.processes
        value, which, epoch = self._best()
        report: dict[str, Any] = {"best": {"which": which, "epoch": epoch, self.measure: value}}
        best = self.folder / "best.pt"
        if self.recipe.averaging.checkpoints:
            averaged = deepcopy(training.model)
            with processes.one_after_first():
                if processes.first:
                    states = [read(self.folder / _name(epoch))["model"] for epoch in self._best_epochs()]
                    averaged.load_state_dict(average_checkpoints(states))
                    self._write_weights("averaged.pt", averaged.state_dict(), "averaged", self.recipe.epochs)
            report["averaged"] = training.evaluate(averaged)
            if report["averaged"][self.measure] > value:
                value, which, epoch = report["averaged"][self.measure], "averaged", self.recipe.epochs
                report["best"] = {"which": which, "epoch": epoch, self.measure: value}
                best = self.folder / "averaged.pt"
        with processes.one_after_first():
            state = read(best)["model"] if processes.first else None
        best_model = training.task.build_model(pretrained=False).eval()
        load_exactly(best_model, processes.broadcast(state), source=str(best))
        if self.first:
            report["last"] = self.rows[-1]
            write_bytes(self.folder / "result.json", f"{json.dumps(report, indent=1)}\n".encode())
            if isinstance(best_model, MobileNetV3):
                about = {"recipe": self.recipe.to_yaml(), "measure": f"{self.measure} {value:.6g}"}
                weights.save(best_model, self.folder / "model.safetensors", metadata=about)
            words = save_figure(self.folder, self.rows, self.measure, self.recipe.name) if self.kept else ""
            self._say(f"{words}\n{self.folder}: best {self.measure} {value:.4f} ({which}, epoch {epoch})")
        return Result(best_model, self.rows, self.measure, value, which, epoch, self.folder if self.kept else None)

    def _ask_to_stop(self, signum: int) -> None:
        self.signum = signum
        self.training.stop_asked = True

    def _stop(self) -> None:
        self._save()
        signum = getattr(self, "signum", signal.SIGTERM)
        raise Interrupted(signum, f"stopped by {signal.Signals(signum).name}. {self._left()}")

    def _left(self) -> str:
        if not self.kept or not self.checkpoints.last.exists():
            return "There is no checkpoint from before."
        return f"{self.checkpoints.last} is whole; the same command goes on from it."

    # -- words ---------------------------------------------------------------------------------------------------------

    def _say(self, line: str) -> None:
        if self.progress:
            print(line, flush=True)

    @contextmanager
    def _bar(self) -> Iterator[Callable[[float, float], None]]:
        """A progress bar over an epoch, on a terminal."""
        from tqdm import tqdm

        position, steps = self.training.position, self.training.order.steps
        title = f"epoch {position.epoch + 1}/{self.recipe.epochs}"
        hidden = None if self.progress else True  # None: hidden unless on a terminal
        with tqdm(total=steps, initial=position.step, desc=title, unit="step", leave=False, disable=hidden) as bar:

            def tick(loss: float, lr: float) -> None:
                bar.set_postfix(loss=f"{loss:.3f}", lr=f"{lr:.3g}", refresh=False)
                bar.update()

            yield tick


def _name(epoch: float) -> str:
    return f"epoch-{int(epoch):04d}.pt"


def _line(row: dict[str, float], epochs: int) -> str:
    shown = {name: value for name, value in row.items() if name not in ("epoch", "seconds", "images_per_second")}
    words = ", ".join(f"{name} {value:.4g}" for name, value in shown.items())
    return f"epoch {int(row['epoch'])}/{epochs}: {words}, {row['images_per_second']:.0f} images/s"


def _load_state(folder: Path, recipe: Recipe) -> dict[str, Any] | None:
    state = Checkpoints(folder).load()
    if state is None:
        return None
    if state.get("format") != FORMAT:
        raise CheckpointError(f"{folder} is of format {state.get('format')!r}, this version reads {FORMAT}")
    differing = [line for line in differences(state["recipe"], recipe.to_dict()) if not line.startswith(_FREE)]
    if differing:
        raise OtherRecipe(
            f"{folder} holds a run of another recipe ({'; '.join(differing)}): "
            "take another folder, or restart to put it aside"
        )
    return state
