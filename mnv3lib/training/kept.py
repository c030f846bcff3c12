"""The weights that a run keeps besides its checkpoints: of its best epoch, and of those that are averaged at the end.

They are written after the checkpoint of their epoch. If a process is killed in between, the checkpoint still holds
them, and :meth:`KeptWeights.restore` writes them.
"""

from __future__ import annotations

import math
import os
import warnings
from pathlib import Path
from typing import Any, NamedTuple

from mnv3lib.training.checkpoint import read, write
from mnv3lib.training.errors import CheckpointError
from mnv3lib.training.loop import Training
from mnv3lib.training.resume import FORMAT

__all__ = ["BEST", "Best", "KeptWeights", "epoch_file"]

BEST = "best.pt"


class Best(NamedTuple):
    """The highest measure of a run, which network reached it (``"last"`` or ``"ema"``), and in which epoch, from 1."""

    value: float
    which: str
    epoch: int


class KeptWeights:
    """The files of the best weights in the folder of a run. Only the first process writes them.

    Args:
        training: whose weights are kept.
        folder: of the run.
        rows: the table of the run so far; whoever owns it appends to it.

    Attributes:
        since: the first epoch whose weights can be the best; the files of those before were lost.
    """

    def __init__(self, training: Training, folder: Path, rows: list[dict[str, float]]) -> None:
        self.training, self.folder, self.rows = training, folder, rows
        self.measure = training.task.measure
        self.since = 1

    def best(self) -> Best | None:
        """The best epoch, of equals the first; None if no measure is a finite number."""
        found = [
            Best(row[f"{which}_{self.measure}"], which, int(row["epoch"]))
            for row in self.rows
            for which in self.training.candidates()
            if row["epoch"] >= self.since and math.isfinite(row.get(f"{which}_{self.measure}", math.nan))
        ]
        return max(found, key=lambda one: one.value, default=None)

    def epochs_to_average(self) -> list[int]:
        """The best epochs, of those whose weights are there, in their order."""
        there = [epoch for epoch in self._ranked() if self._at_hand(epoch) or self._path(epoch).exists()]
        return sorted(there[: self.training.recipe.averaging.checkpoints])

    def save(self) -> None:
        """Keep the weights of the epoch that has just ended, if they are among the best, and delete others."""
        epoch = int(self.rows[-1]["epoch"])
        for which in self.training.candidates():
            value = self.rows[-1][f"{which}_{self.measure}"]
            if not math.isfinite(value):
                warnings.warn(
                    f"{self.measure} ({which}) is {value} after epoch {epoch}: these weights do not count as the best",
                    RuntimeWarning,
                    stacklevel=2,
                )
        self._write_best(epoch)
        self._write_epoch(epoch)
        kept = [epoch_file(one) for one in self.epochs_to_average()]
        for path in self.folder.glob("epoch-*.pt"):
            if path.name not in kept:
                path.unlink()

    def restore(self) -> None:
        """See that the files are there and whole, after the training went on from a checkpoint.

        What the checkpoint holds itself is written anew. Of what is lost a warning says so: ``best.pt`` is then the
        best of the other epochs, and the average is over fewer.
        """
        done = self.training.position.epoch
        best = self.best()
        problem = None if best is None else self._problem(self.folder / BEST, best.epoch, best.which)
        if best is not None and problem is not None:
            if not self._at_hand(best.epoch):
                self.since = done if self._at_hand(done) else done + 1
                warnings.warn(
                    f"{problem}: the best weights so far, of epoch {best.epoch} ({self.measure} {best.value:.4g}), are "
                    f"lost; from here on the best since epoch {self.since} count",
                    RuntimeWarning,
                    stacklevel=2,
                )
            self._write_best(done)
        for epoch in self._ranked()[: self.training.recipe.averaging.checkpoints]:
            problem = self._problem(self._path(epoch), epoch, "last")
            if problem is not None and not self._at_hand(epoch):
                warnings.warn(
                    f"{problem}: the weights of epoch {epoch} are lost and will not be averaged",
                    RuntimeWarning,
                    stacklevel=2,
                )
        self._write_epoch(done)

    def write(self, name: str, state: dict[str, Any], which: str, epoch: int) -> None:
        """Write weights with the recipe, the classes, and whose they are."""
        about = {"which": which, "epoch": epoch, "classes": self.training.task.num_classes}
        names = getattr(self.training.train_set.dataset, "classes", None)
        if names is not None:
            about["class_names"] = [str(one) for one in names]
        recipe = self.training.recipe.to_dict()
        write(self.folder / name, {"format": FORMAT, "recipe": recipe, "model": state, **about})

    def _write_best(self, epoch: int) -> None:
        best = self.best()
        if best is not None and best.epoch == epoch and self._at_hand(epoch):
            self.write(BEST, self.training.candidates()[best.which].state_dict(), best.which, epoch)

    def _write_epoch(self, epoch: int) -> None:
        if self._at_hand(epoch) and epoch in self.epochs_to_average():
            self.write(epoch_file(epoch), self.training.model.state_dict(), "last", epoch)

    def _ranked(self) -> list[int]:
        """All epochs by the measure of their last weights, the best first."""
        rows = [row for row in self.rows if math.isfinite(row[f"last_{self.measure}"])]
        ranked = sorted(rows, key=lambda row: row[f"last_{self.measure}"], reverse=True)
        return [int(row["epoch"]) for row in ranked]

    def _at_hand(self, epoch: int) -> bool:
        """Whether the network has the weights of the end of an epoch right now."""
        position = self.training.position
        return bool(self.rows) and position.step == 0 and position.epoch == epoch

    def _path(self, epoch: int) -> Path:
        return self.folder / epoch_file(epoch)

    @staticmethod
    def _problem(path: Path, epoch: int, which: str) -> str | None:
        """In words, why a file does not hold the weights it should; a damaged one is renamed to ``*.damaged``."""
        try:
            state = read(path)
        except FileNotFoundError:
            return f"{path} is missing"
        except CheckpointError as error:
            os.replace(path, path.with_name(f"{path.name}.damaged"))
            return str(error)
        if (state.get("which"), state.get("epoch")) != (which, epoch) or "model" not in state:
            return f"{path} holds other weights (epoch {state.get('epoch')}, {state.get('which')})"
        return None


def epoch_file(epoch: int) -> str:
    """The name of the file with the weights of an epoch."""
    return f"epoch-{epoch:04d}.pt"
