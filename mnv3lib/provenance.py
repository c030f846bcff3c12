"""What a measurement was made with, for those who want to make it again."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path
from typing import Any

__all__ = ["made"]

#: What results depend on, and what of it they do not.
_WATCHED = ("mnv3lib", "experiments/*.py", "experiments/*.yaml", "benchmarks/*.py")
_UNUSED = (":!mnv3lib/explore",)


def made(root: Path, *, threads: int) -> dict[str, Any]:
    """Commit, versions, processor and threads of this process.

    Args:
        root: of the repository. The commit has a mark if files that a result depends on differ from it.
        threads: that compute.
    """
    import torch
    import torchvision

    import mnv3lib

    versions = {module.__name__: module.__version__ for module in (mnv3lib, torch, torchvision)}
    return {
        "commit": _commit(root),
        "versions": {**versions, "python": platform.python_version()},
        "cpu": _processor(),
        "threads": threads,
    }


def _processor() -> str:
    """What the operating system calls the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _commit(root: Path) -> str:
    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True).stdout.strip()

    return git("rev-parse", "HEAD") + (
        " with changes" if git("status", "--porcelain", "--", *_WATCHED, *_UNUSED) else ""
    )
