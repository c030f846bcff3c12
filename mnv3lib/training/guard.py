"""What keeps a run in good order: its folder is its own, and a signal waits for the end of a step."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from mnv3lib.training.errors import TrainingError

__all__ = ["holds_a_run", "locked", "put_aside", "signals"]


def holds_a_run(folder: Path) -> bool:
    """Whether there are checkpoints in a folder."""
    return any(folder.glob("*.pt"))


def put_aside(folder: Path) -> None:
    """Rename a folder to the first of ``NAME.old-1``, ``NAME.old-2`` and so on that is free."""
    number = 1
    while folder.with_name(f"{folder.name}.old-{number}").exists():
        number += 1
    folder.rename(folder.with_name(f"{folder.name}.old-{number}"))


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other runs out of a folder; the system opens the lock when this process ends, however it ends."""
    try:
        import fcntl
    except ImportError:  # not on Windows
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as file:
        try:
            # Not flock: its locks go on to forked workers, which outlive a process that is killed by some seconds.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            raise TrainingError(f"another run is writing to {folder}: wait for it, or take another folder") from error
        yield


@contextmanager
def signals(ask: Callable[[int], None]) -> Iterator[None]:
    """Turn the first Ctrl-C or SIGTERM into a request; the second does what it always does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) or signal.SIG_DFL for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def handle(number: int, frame: FrameType | None) -> None:
        restore()
        ask(number)

    for number in before:
        signal.signal(number, handle)
    try:
        yield
    finally:
        restore()
