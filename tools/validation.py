"""Run a notebook under nbval and compare what its cells print and show with what the file holds.

    python tools/validation.py FILE ...     validate these notebooks where they lie

nbval compares to the letter. That is right for words, numbers and tables, not for drawings, whose coordinates differ in
their last bits between processors: here they are compared as :mod:`drawings` does it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from nbformat import NotebookNode

sys.path.insert(0, str(Path(__file__).resolve().parent))
from drawings import differences

ROOT = Path(__file__).resolve().parent.parent
DRAWN = ("text/html", "image/svg+xml")
CELL_SECONDS = 180


def bundles(outputs: Sequence[Any], kind: str) -> list[dict[str, Any]]:
    """Return the data of those outputs that have this kind."""
    return [output["data"] for output in outputs if kind in output.get("data", {})]


def settle(test: Sequence[Any], reference: Sequence[Any]) -> tuple[list[Any], list[str]]:
    """Return the new outputs with the file's own drawings where they are the same, and what differs elsewhere."""
    copies = [NotebookNode(output, data=dict(output["data"])) if "data" in output else output for output in test]
    found: list[str] = []
    for kind in DRAWN:
        news, olds = bundles(copies, kind), bundles(reference, kind)
        if len(news) != len(olds):
            continue  # nbval says so
        for old, new in zip(olds, news, strict=True):
            found += differences(old[kind], new[kind])
            new[kind] = old[kind]
    return copies, found


class Drawings:
    """A plugin of pytest under which nbval compares drawings as drawings."""

    def pytest_configure(self) -> None:
        from nbval.plugin import IPyNbCell

        compare = IPyNbCell.compare_outputs

        def compare_outputs(cell: Any, test: Any, ref: Any, skip_compare: Any = None) -> bool:
            settled, found = settle(test, ref)
            same: bool = compare(cell, settled, ref, skip_compare)
            cell.comparison_traceback[:0] = [f" differs: {text}" for text in found]
            return same and not found

        IPyNbCell.compare_outputs = compare_outputs


def options(folder: Path) -> list[str]:
    """Return what pytest is told, besides the notebooks."""
    return [
        # No other plugin of whatever is installed: that they are imported takes longer than a small notebook.
        *("--disable-plugin-autoload", "-p", "nbval.plugin"),
        *("-p", "no:cacheprovider", "-q", "--tb=short", "--color=no", f"--rootdir={folder}"),
        *("--nbval", "--nbval-current-env", f"--nbval-cell-timeout={CELL_SECONDS}"),
        f"--nbval-sanitize-with={ROOT / 'sanitize.cfg'}",
    ]


def validate(
    path: Path, folder: Path, settings: Mapping[str, str] | None = None, extra: Sequence[str] = ()
) -> tuple[str, int]:
    """Validate a copy of a notebook in a folder of its own, in a process of its own.

    Args:
        path: the notebook.
        folder: an empty folder outside the repository.
        settings: environment variables of the process.
        extra: more options of pytest.

    Returns:
        What pytest said, and its exit status.
    """
    copy = shutil.copy(path, folder)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    beside = [str(ROOT / "book"), environment.get("PYTHONPATH", "")]  # where a notebook finds its figures
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, beside))
    command = [sys.executable, __file__, *extra, str(copy)]
    done = subprocess.run(
        command,
        cwd=folder,
        env={**environment, **(settings or {})},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    return done.stdout + done.stderr, done.returncode


def main(arguments: list[str]) -> int:
    """Run pytest on notebooks; return its exit status."""
    return int(pytest.main([*options(Path.cwd()), *arguments], plugins=[Drawings()]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
