"""What can stop a run, apart from bad arguments."""

from __future__ import annotations

__all__ = ["CheckpointError", "Interrupted", "NotFinite", "OtherData", "OtherRecipe", "TrainingError", "explained",
           "last_line"]  # fmt: skip


class TrainingError(RuntimeError):
    """Training cannot go on, and the message says why and what is left."""


class CheckpointError(TrainingError):
    """A checkpoint cannot be written, read or used."""


class NotFinite(TrainingError):
    """The loss or a weight is infinite or not a number."""


class OtherRecipe(TrainingError):
    """The folder holds a run of another recipe."""


class OtherData(TrainingError):
    """The folder holds a run on other images or classes."""


class Interrupted(KeyboardInterrupt):
    """A signal asked to stop, and everything was saved before.

    Args:
        signum: of the signal.
        message: what is left, and how to go on.
    """

    def __init__(self, signum: int, message: str) -> None:
        super().__init__(message)
        self.signum = signum


def explained(error: RuntimeError, left: str = "") -> TrainingError | None:
    """What a known error of PyTorch means for a run, in one line; None for any other, which is a fault of ours.

    Args:
        error: as PyTorch raised it.
        left: what the run leaves, and how to go on.
    """
    text = str(error).strip()
    low = text.lower()
    if "dataloader worker" in low and ("killed" in low or "exited" in low):
        what = "a process that prepares images was killed, often for want of memory: try fewer --workers"
    elif any(words in low for words in ("out of memory", "allocate memory", "not enough memory")):
        what = "there is not enough memory: lower batch_size or raise accumulate"
    elif "gloo" in low or "nccl" in low:
        what = "another process was lost"
    else:
        return None
    return TrainingError(f"{what}. {left} ({text.partition(chr(10))[0].strip()})".replace(".  (", " ("))


def last_line(error: BaseException) -> str:
    """The message of an error; of one from a process that prepares images, what it said there and not its traceback."""
    text = str(error)
    if "Original Traceback" not in text:
        return text
    kind, _, message = text.rstrip().rpartition("\n")[2].partition(": ")
    return message or kind
