"""What the benchmarks measured, as data: a file for each benchmark and processor.

``make bench`` writes the files, with the commit, the versions and the processor that they were made with. Pages show
ratios with their intervals, and name the processor beside them.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from mnv3lib._checks import one_of

__all__ = ["BENCHMARKS", "Measured", "load"]

_FOLDER = Path(__file__).resolve().parents[1] / "_data" / "speed"

#: The benchmarks by name.
BENCHMARKS = tuple(sorted({path.stem.partition("_")[0] for path in _FOLDER.glob("*.json")}))

#: One benchmark on one processor, as its file has it.
Measured = dict[str, Any]


@cache
def load(name: str) -> tuple[Measured, ...]:
    """What a benchmark found, once for each processor that it ran on.

    Raises:
        ValueError: for a name that is not in ``BENCHMARKS``.
    """
    one_of("name", name, BENCHMARKS)
    files = sorted(_FOLDER.glob(f"{name}_*.json"))
    return tuple(json.loads(path.read_text(encoding="utf-8")) for path in files)
