"""What a measurement was made with, for those who want to make it again."""

from __future__ import annotations

import platform
import re
import subprocess
from collections.abc import Iterable
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

__all__ = ["made"]

#: What results depend on, and what of it they do not.
_WATCHED = ("mnv3lib", "experiments/*.py", "experiments/*.yaml", "benchmarks/*.py")
_UNUSED = (":!mnv3lib/explore",)


def made(root: Path | None, *, threads: int, packages: Iterable[str] = ()) -> dict[str, Any]:
    """Commit, versions, processor with its widest vectors, and threads of this process.

    Args:
        root: of the repository, None for a library that was installed. The commit has a mark if files that a result
            depends on differ from it.
        threads: that compute.
        packages: whose versions count beside those of PyTorch, torchvision and this library.
    """
    import torch

    import mnv3lib

    versions = {module.__name__: module.__version__ for module in (mnv3lib, torch)}
    with suppress(ImportError):  # nobody has to have it
        import torchvision

        versions["torchvision"] = torchvision.__version__
    for name in packages:
        versions.setdefault(name, version(name))
    return {
        "commit": _commit(root) if root is not None else None,
        "versions": {**versions, "python": platform.python_version()},
        "cpu": f"{_processor()} ({_vectors()})",
        "threads": threads,
    }


def _processor() -> str:
    """What the operating system calls the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _vectors() -> str:
    """The widest vector instructions that PyTorch uses here: makers sell processors with and without under one name."""
    import torch

    return re.sub(r"(?<=AVX)(?=512)", "-", torch.backends.cpu.get_cpu_capability())


def _commit(root: Path) -> str:
    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True).stdout.strip()

    return git("rev-parse", "HEAD") + (
        " with changes" if git("status", "--porcelain", "--", *_WATCHED, *_UNUSED) else ""
    )
