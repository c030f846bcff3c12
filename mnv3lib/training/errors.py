"""What can stop a run, apart from bad arguments."""

from __future__ import annotations

__all__ = ["CheckpointError", "Interrupted", "NotFinite", "OtherRecipe", "TrainingError"]


class TrainingError(RuntimeError):
    """Training cannot go on, and the message says why and what is left."""


class CheckpointError(TrainingError):
    """A checkpoint cannot be written, read or used."""


class NotFinite(TrainingError):
    """The loss or a weight is infinite or not a number."""


class OtherRecipe(TrainingError):
    """The folder holds a run of another recipe."""


class Interrupted(KeyboardInterrupt):
    """A signal asked to stop, and everything was saved before.

    Args:
        signum: of the signal.
        message: what is left, and how to go on.
    """

    def __init__(self, signum: int, message: str) -> None:
        super().__init__(message)
        self.signum = signum
