"""A run and its folder: start or go on, save, keep the best, stop in good order, and leave something to look at.

The folder holds ``recipe.yaml``; ``classes.txt``, the names of the classes in the order of their labels; ``last.pt``
and ``previous.pt``, from which a run goes on; ``best.pt``, the weights of the best epoch; ``epoch-….pt``, if the recipe
averages checkpoints, and ``averaged.pt``; ``epochs.csv``; and at the end ``model.safetensors``, the best weights as
:func:`mnv3lib.weights.load_network` reads them, ``result.json`` and ``summary.svg``. A run with ``recipe.quantisation``
leaves no ``model.safetensors``; :func:`mnv3lib.training.quantised.load` reads its ``best.pt``.
"""

from __future__ import annotations

import json
import math
import os
import platform
import signal
import tempfile
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

import mnv3lib
from mnv3lib import weights
from mnv3lib._checks import non_negative_int, positive_int
from mnv3lib.data.datasets import check_classes
from mnv3lib.recipe import Recipe
from mnv3lib.training.averaging import average_checkpoints
from mnv3lib.training.checkpoint import Checkpoints, load_exactly, read, write_bytes
from mnv3lib.training.distributed import choose_device, process_group
from mnv3lib.training.errors import CheckpointError, Interrupted, NotFinite, TrainingError, explained
from mnv3lib.training.evaluation import open_dataset
from mnv3lib.training.guard import holds_a_run, locked, put_aside, signals
from mnv3lib.training.kept import BEST, Best, KeptWeights, epoch_file
from mnv3lib.training.launch import launched
from mnv3lib.training.logs import Log, save_figure, write_rows
from mnv3lib.training.loop import Training
from mnv3lib.training.progress import epoch_line, progress_bar, say
from mnv3lib.training.resume import FORMAT, check_data, described, distinct_classes, load_state

__all__ = ["Result", "train"]


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
    allow_changes: bool = False,
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
        restart: rename a run in ``out`` to ``out.old-1`` and so on, instead of going on.
        allow_changes: go on although the recipe differs, in its learning rate, say; which fields may is in
            ``mnv3lib.training.resume.CHANGEABLE``. The checkpoints and the results say what was changed when.
        tensorboard: write TensorBoard's events too.
        progress: show a bar, and a line for each epoch.

    Raises:
        TypeError, ValueError: for a recipe that cannot be followed here.
        OtherRecipe: if ``out`` holds a run of another one, naming the fields that differ.
        OtherData: if ``out`` holds a run on other images or classes, saying what differs.
        CheckpointError: if a checkpoint cannot be written or read, or does not fit.
        NotFinite: if the loss is infinite or not a number; the last checkpoint is from before.
        TrainingError: if ``out`` cannot be a folder, another run writes to it, another process was lost, or the measure
            is not a finite number after any epoch.
        Interrupted: after Ctrl-C, SIGTERM or SIGHUP, once everything is saved; the second Ctrl-C does not wait.
    """
    non_negative_int("workers", workers)
    if save_every is not None:
        positive_int("save_every", save_every)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()) if out is None else out)
        if folder.name in ("", ".."):  # as in --out .
            folder = folder.resolve()
        processes = stack.enter_context(process_group(choose_device(device)))
        with processes.one_after_first():
            if processes.first:
                stack.enter_context(locked(folder))
                if restart and launched().restarts == 0 and holds_a_run(folder):
                    put_aside(folder)
                    stack.enter_context(locked(folder))
        with processes.one_after_first():
            state = load_state(folder, recipe, allow_changes=allow_changes) if processes.first else None
        state = processes.broadcast(state)
        with processes.one_after_first():
            sets = datasets or (open_dataset(recipe, "train"), open_dataset(recipe, "val"))
            if datasets is None:
                check_classes(*sets)
        data = described(*sets)
        first, *others = processes.gather(data)
        if any(other != first for other in others):
            raise TrainingError("the processes see different images or classes: all need the same folder of images")
        if state is not None and "data" in state:
            check_data(state["data"], data, folder)
        training = Training(
            recipe,
            *sets,
            classes=sets[0].num_classes,
            processes=processes,
            workers=workers,
            pretrained=state is None,
        )
        run = _Run(training, folder, data, save_every=save_every, progress=progress, kept=out is not None)
        if state is not None:
            run.resume(state)
        return run.to_the_end(tensorboard=tensorboard)


class _Run:
    """The files of a training, and the order in which things happen."""

    def __init__(
        self,
        training: Training,
        folder: Path,
        data: dict[str, Any],
        *,
        save_every: int | None,
        progress: bool,
        kept: bool,
    ) -> None:
        self.training, self.folder, self.data, self.save_every, self.kept = training, folder, data, save_every, kept
        self.recipe, self.first = training.recipe, training.processes.first
        self.progress = progress and self.first
        self.checkpoints = Checkpoints(folder)
        self.rows: list[dict[str, float]] = []
        self.changes: list[dict[str, Any]] = []
        self.weights = KeptWeights(training, folder, self.rows)
        self.measure = training.task.measure

    def resume(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint, of which :func:`load_state` has seen that it is complete."""
        training, processes = self.training, self.training.processes
        groups = training.optimiser.param_groups
        settings = [{name: value for name, value in group.items() if name != "params"} for group in groups]
        try:
            training.load_state_dict(state, source=str(self.folder))
            self.rows += [dict(row) for row in state["rows"]]
            self.changes += state.get("changes", [])
            self.weights.since = int(state.get("since", 1))
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{self.folder}: its checkpoint does not fit: {error!r}") from error
        with processes.one_after_first():
            if processes.first:
                self.weights.restore()
        self.weights.since = processes.broadcast(self.weights.since)
        if state["changed"]:
            self.changes.append({"position": list(training.position), "fields": state["changed"]})
            # The checkpoint's optimiser came with its own learning rate and weight decay.
            for group, fresh in zip(training.optimiser.param_groups, settings, strict=True):
                group.update(fresh)
            self._save()
            self._say(f"{self.folder}: changed from here on: {'; '.join(state['changed'])}")
        if "data" not in state:
            self._say(f"{self.folder}: its checkpoint does not say what the images were, so they were not compared")

    def to_the_end(self, *, tensorboard: bool) -> Result:
        training = self.training
        if self.first:
            write_bytes(self.folder / "recipe.yaml", self.recipe.to_yaml().encode())
            if self.data["classes"] is not None:
                write_bytes(self.folder / "classes.txt", "".join(f"{n}\n" for n in self.data["classes"]).encode())
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
            raise NotFinite(f"{error}. {self._left(again=False)}") from error
        except RuntimeError as error:
            known = None if isinstance(error, TrainingError) else explained(error, self._left())
            if known is None:
                raise
            raise known from error
        finally:
            if log is not None:
                log.close()

    def _epoch(self, log: Log | None) -> None:
        training = self.training
        with progress_bar(training, shown=self.progress) as tick:
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
        if log is not None:
            log.epoch(self.rows, training.step_of_run)
        training.next_epoch()
        self._save()
        if self.first:
            self.weights.save()
        self._say(epoch_line(row, self.recipe.epochs))
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
                "data": self.data,
                "rows": self.rows,
                "since": self.weights.since,
                "changes": self.changes,
                **self.training.state_dict(),
            }  # fmt: skip
            self.checkpoints.save(state)

    # -- ends ----------------------------------------------------------------------------------------------------------

    def _finish(self) -> Result:
        training, processes = self.training, self.training.processes
        best, path = self.weights.best(), self.folder / BEST
        if best is None:
            raise TrainingError(
                f"{self.measure} was not a finite number after any epoch, so that none is the best; the weights of the "
                f"last epoch are in {self.checkpoints.last}"
            )
        report: dict[str, Any] = {}
        epochs = processes.broadcast(self.weights.epochs_to_average() if self.first else None)
        if epochs:
            averaged = deepcopy(training.model)
            with processes.one_after_first():
                if processes.first:
                    states = [read(self.folder / epoch_file(epoch))["model"] for epoch in epochs]
                    averaged.load_state_dict(average_checkpoints(states))
                    self.weights.write("averaged.pt", averaged.state_dict(), "averaged", self.recipe.epochs)
            report["averaged"] = training.evaluate(averaged)
            if report["averaged"][self.measure] > best.value:
                best = Best(report["averaged"][self.measure], "averaged", self.recipe.epochs)
                path = self.folder / "averaged.pt"
        with processes.one_after_first():
            state = read(path)["model"] if processes.first else None
        best_model = training.fresh_model()
        load_exactly(best_model, processes.broadcast(state), source=str(path))
        if self.first:
            self._write_report(best, report)
            if self.recipe.quantisation is None:
                about = {"recipe": self.recipe.to_yaml(), "measure": f"{self.measure} {best.value:.6g}"}
                if self.changes:
                    about["changes"] = json.dumps(self.changes)
                weights.save(
                    best_model, self.folder / "model.safetensors", classes=distinct_classes(self.data), metadata=about
                )
            words = save_figure(self.folder, self.rows, self.measure, self.recipe.name) if self.kept else ""
            self._say(
                f"{words}\n{self.folder}: best {self.measure} {best.value:.4f} ({best.which}, epoch {best.epoch})"
            )
        return Result(best_model, self.rows, self.measure, *best, self.folder if self.kept else None)

    def _write_report(self, best: Best, report: dict[str, Any]) -> None:
        row = {"which": best.which, "epoch": best.epoch, self.measure: best.value}
        report = {"best": row, **report, "last": self.rows[-1]} | ({"changes": self.changes} if self.changes else {})
        for name in report.keys() & {"averaged", "last"}:  # JSON knows no NaN
            report[name] = {key: value if math.isfinite(value) else None for key, value in report[name].items()}
        write_bytes(self.folder / "result.json", f"{json.dumps(report, indent=1)}\n".encode())

    def _ask_to_stop(self, signum: int) -> None:
        self.signum = signum
        self.training.stop_asked = True

    def _stop(self) -> None:
        self._save()
        signum = getattr(self, "signum", signal.SIGTERM)
        raise Interrupted(signum, f"stopped by {signal.Signals(signum).name}. {self._left()}")

    def _left(self, *, again: bool = True) -> str:
        """What a run that ends early leaves, and how to go on; ``again``: whether the same command gets further."""
        last = self.checkpoints.last
        if not self.kept or not last.exists():
            return "There is no checkpoint from before."
        if again:
            return f"{last} is whole; the same command goes on from it."
        return (
            f"{last} is whole and from before, but the same command would end here again: go on from it with such a "
            "change (--allow-changes) or, if its weights have grown too large already, start anew (--restart)."
        )

    # -- words ---------------------------------------------------------------------------------------------------------

    def _say(self, line: str) -> None:
        if self.progress:
            say(line)
