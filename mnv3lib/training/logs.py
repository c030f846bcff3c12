"""What a run leaves to look at: a table of epochs, TensorBoard's events if asked for, and a figure at the end.

The table is written as a whole after every epoch, from the rows that the checkpoint holds: whatever was interrupted,
it has each epoch once and no torn line.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mnv3lib.training.checkpoint import write_bytes

__all__ = ["Log", "columns", "read_rows", "save_figure", "summary_figure", "write_rows"]

Row = Mapping[str, float]

# Okabe and Ito's colours, safe for colour-blind readers.
_COLOURS = {"train": "#009E73", "last": "#0072B2", "ema": "#E69F00", "lr": "#0072B2"}


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write rows as CSV; a column for every name in any of them, empty where a row has none."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_bytes(path, text.getvalue().encode())


def read_rows(path: Path) -> list[dict[str, float]]:
    """Read what :func:`write_rows` wrote."""
    with open(path, encoding="utf-8", newline="") as file:
        return [{name: float(text) for name, text in row.items() if text} for row in csv.DictReader(file)]


class Log:
    """The logs of a run, in its folder.

    Args:
        folder: of the run.
        tensorboard: also write events that TensorBoard shows.
        step: steps done so far; events after it, from a run that was cut off, are hidden.
    """

    def __init__(self, folder: Path, *, tensorboard: bool = False, step: int = 0) -> None:
        self.table = folder / "epochs.csv"
        self.writer: Any = None
        if tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def step(self, step: int, **values: float) -> None:
        """Note values of a step, counted over the whole run."""
        if self.writer is not None:
            for name, value in values.items():
                self.writer.add_scalar(f"step/{name}", value, step)

    def epoch(self, rows: Sequence[Row], step: int) -> None:
        """Note the last of all rows so far; ``step`` is the last one of its epoch."""
        write_rows(self.table, rows)
        if self.writer is not None:
            for name, value in rows[-1].items():
                self.writer.add_scalar(f"epoch/{name}", value, step)
            self.writer.flush()

    def close(self) -> None:
        """Finish TensorBoard's file."""
        if self.writer is not None:
            self.writer.close()


def columns(rows: Sequence[Row], ending: str) -> dict[str, list[float]]:
    """The columns whose names end in ``_ending``, by what is before; nan where a row has none."""
    names = dict.fromkeys(name for row in rows for name in row if name.endswith(f"_{ending}"))
    return {name.removesuffix(f"_{ending}"): [row.get(name, math.nan) for row in rows] for name in names}


def summary_figure(rows: Sequence[Row], measure: str, title: str) -> tuple[Any, str]:
    """Loss, measure and learning rate over the epochs.

    Args:
        rows: of the table, at least one.
        measure: what epochs are compared by, e.g. ``"top1"``.
        title: of the figure.

    Returns:
        A matplotlib figure, and the text that says what there is to see.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    if not rows:
        raise ValueError("rows must hold at least one epoch, got none")
    epochs = [row["epoch"] for row in rows]
    panels = (
        ("loss", columns(rows, "loss")),
        (measure, columns(rows, measure)),
        ("learning rate", {"lr": [row["lr"] for row in rows]}),
    )
    figure = Figure(figsize=(6, 7), layout="constrained")
    figure.suptitle(title)
    words = []
    for axes, (label, curves) in zip(figure.subplots(nrows=3, sharex=True), panels, strict=True):
        for name, values in curves.items():
            axes.plot(epochs, values, "o-", markersize=3, color=_COLOURS.get(name), label=name)
            words.append(f"{label} ({name}) from {values[0]:.4g} to {values[-1]:.4g}")
        axes.set_ylabel(label)
        axes.spines[["top", "right"]].set_visible(False)
        if len(curves) > 1:
            axes.legend(frameon=False)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    scores = {(name, int(epoch)): value for name, values in panels[1][1].items()
              for epoch, value in zip(epochs, values, strict=True)}  # fmt: skip
    which, epoch = max(scores, key=scores.__getitem__)
    best = f"The best {measure} is {scores[which, epoch]:.4g} ({which}, epoch {epoch})"
    return figure, f"Three curves over {len(rows)} epochs of {title}: {'; '.join(words)}. {best}."


def save_figure(folder: Path, rows: Sequence[Row], measure: str, title: str) -> str:
    """Write the figure as ``summary.svg`` and ``summary.png``, its words as ``summary.txt``; returns the words."""
    from matplotlib import rc_context

    figure, words = summary_figure(rows, measure, title)
    for kind, metadata in (("svg", {"Title": title, "Description": words, "Date": None}), ("png", {"Title": title})):
        buffer = io.BytesIO()
        with rc_context({"svg.hashsalt": "mnv3lib"}):
            figure.savefig(buffer, format=kind, metadata=metadata, dpi=120)
        write_bytes(folder / f"summary.{kind}", buffer.getvalue())
    write_bytes(folder / "summary.txt", f"{words}\n".encode())
    return words
