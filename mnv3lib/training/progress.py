"""What a run says on the terminal. Nobody has to listen: a closed terminal or pipe does not stop a run."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import IO, Any

from mnv3lib.training.loop import Training

__all__ = ["epoch_line", "progress_bar", "say"]


def say(line: str) -> None:
    """Print a line; if that is not possible any more, this and all later output goes nowhere."""
    try:
        print(line, flush=True)
    except OSError:
        _discard(sys.stdout)


def _discard(stream: IO[str]) -> None:
    # What is left in the buffer would fail once more when Python ends; see its documentation of signal.SIGPIPE.
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


class _Stream:
    """A stream as tqdm needs it, which goes quiet when it cannot be written to any more."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        try:
            self._stream.write(text)
        except OSError:
            _discard(self._stream)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError:
            _discard(self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def progress_bar(training: Training, *, shown: bool) -> Iterator[Callable[[float, float], None]]:
    """Show a bar over the rest of an epoch, on a terminal only.

    Args:
        training: about to take steps.
        shown: whether to show anything.

    Yields:
        What to call with the loss and the learning rate of each step.
    """
    from tqdm import tqdm

    title = f"epoch {training.position.epoch + 1}/{training.recipe.epochs}"
    with tqdm(
        total=training.order.steps,
        initial=training.position.step,
        desc=title,
        unit="step",
        leave=False,
        file=_Stream(sys.stderr),
        disable=None if shown else True,  # None: unless on a terminal
    ) as bar:

        def tick(loss: float, lr: float) -> None:
            bar.set_postfix(loss=f"{loss:.3f}", lr=f"{lr:.3g}", refresh=False)
            bar.update()

        yield tick


def epoch_line(row: Mapping[str, float], epochs: int) -> str:
    """A row of the table of epochs in words."""
    shown = {name: value for name, value in row.items() if name not in ("epoch", "seconds", "images_per_second")}
    words = ", ".join(f"{name} {value:.4g}" for name, value in shown.items())
    return f"epoch {int(row['epoch'])}/{epochs}: {words}, {row['images_per_second']:.0f} images/s"
