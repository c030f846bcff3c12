"""Keeping freed memory changes no number, spares page faults, and does nothing where there is no such C library."""

from __future__ import annotations

import subprocess
import sys

import pytest

from mnv3lib.training import memory

FAULTS = """
import resource
import sys
import torch
from mnv3lib.training.memory import keep_freed_memory, return_freed_memory

torch.set_num_threads(1)
assert {call}
sums = []
for step in range(22):
    if step == 2:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [torch.full((24, 1 << 20), step + n, dtype=torch.uint8) for n in range(8)]
    sums.append(sum(int(block[::7, ::4096].sum()) for block in blocks))
    del blocks
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before, sum(sums))
"""


def faults(call: str) -> tuple[int, int]:
    """Page faults of twenty steps that allocate 192 MiB each, and what was computed."""
    script = FAULTS.format(call=call)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    count, total = done.stdout.split()
    return int(count), int(total)


@pytest.mark.skipif(not memory.keep_freed_memory() or not memory.return_freed_memory(), reason="needs glibc")
def test_kept_memory_is_not_asked_for_again() -> None:
    kept, first = faults("keep_freed_memory()")
    returned, second = faults("keep_freed_memory() and return_freed_memory()")
    assert first == second
    assert kept < returned / 20
    assert kept < 1000


@pytest.mark.parametrize("error", [AttributeError, OSError, TypeError])
def test_without_such_a_library_nothing_happens(monkeypatch: pytest.MonkeyPatch, error: type[Exception]) -> None:
    def none(_: object) -> object:
        raise error

    monkeypatch.setattr(memory.ctypes, "CDLL", none)
    assert memory.keep_freed_memory() is False
    assert memory.return_freed_memory() is False
