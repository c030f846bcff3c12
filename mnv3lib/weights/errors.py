"""What goes wrong with weight files."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mnv3lib.weights.report import Report

__all__ = ["DownloadError", "WeightsError"]


class WeightsError(ValueError):
    """A file that is damaged, refused, or does not fit; what it was meant for is as it was.

    Attributes:
        report: what does not fit, as data; None if it did not come to that.
    """

    def __init__(self, message: str, report: Report | None = None) -> None:
        super().__init__(message)
        self.report = report


class DownloadError(OSError):
    """A file that could not be fetched whole and unchanged; nothing of it is kept."""
