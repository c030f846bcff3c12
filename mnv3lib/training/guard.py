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


def put_aside(folder: Path) -> Path:
    """Rename a folder to the first of ``NAME.old-1``, ``NAME.old-2`` and so on that is free.

    Returns:
        Where it is now.

    Raises:
        TrainingError: if the system refuses.
    """
    whole, number = folder.absolute(), 1
    while whole.with_name(f"{whole.name}.old-{number}").exists():
        number += 1
    try:
        return whole.rename(whole.with_name(f"{whole.name}.old-{number}"))
    except OSError as error:
        raise TrainingError(f"{folder} cannot be renamed to {whole.name}.old-{number}: {error.strerror}") from error


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make a folder and keep other runs out of it; the lock ends with this process, however it ends.

    Raises:
        TrainingError: if the folder cannot be made or written to, or another run has it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = open(folder / ".lock", "w")  # noqa: SIM115 - closed below
    except OSError as error:
        reason = "there is a file of this name" if isinstance(error, FileExistsError) else error.strerror
        raise TrainingError(f"{folder} cannot be the folder of a run: {reason}") from error
    with file:
        try:
            import fcntl
        except ImportError:  # on Windows
            yield
            return
        try:
            # Not flock: its locks go on to forked workers, which outlive a process that is killed by some seconds.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            raise TrainingError(f"another run is writing to {folder}: wait for it, or take another folder") from error
        yield


#: Signals that ask a process to end: Ctrl-C, ``kill``, and a terminal or connection that is closed.
_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


@contextmanager
def signals(ask: Callable[[int], None]) -> Iterator[None]:
    """Turn the first Ctrl-C, SIGTERM or SIGHUP into a request; the second Ctrl-C or SIGTERM does what it always does.

    A signal that is ignored, as ``nohup`` and shells arrange for programs in the background, stays ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    found = {number: signal.getsignal(number) or signal.SIG_DFL for number in _SIGNALS}
    before = {number: handler for number, handler in found.items() if handler != signal.SIG_IGN}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def handle(number: int, frame: FrameType | None) -> None:
        restore()
        if number == getattr(signal, "SIGHUP", None):
            signal.signal(number, signal.SIG_IGN)  # shell and system both send it when a terminal is closed
        ask(number)

    for number in before:
        signal.signal(number, handle)
    try:
        yield
    finally:
        restore()
