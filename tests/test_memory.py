"""Keeping freed memory changes no number, gives nothing back, and does nothing where there is no such C library."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

from mnv3lib.training import memory

# What the C library says of its own heap, <malloc.h>: counting page faults instead would ask the kernel, and one that
# runs in user space counts none.
HEAP = """
import ctypes
from mnv3lib.training.memory import keep_freed_memory, return_freed_memory

NAMES = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()


class Heap(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in NAMES]


library = ctypes.CDLL(None)
library.mallinfo2.restype = Heap
"""
STEPS = f"""{HEAP}
import torch

torch.set_num_threads(1)
assert CALL
sums, kept = [], []
for step in range(8):
    # Blocks above 32 MiB, which glibc never takes from its heap by itself.
    blocks = [torch.full((48, 1 << 20), step + n, dtype=torch.uint8) for n in range(4)]
    sums.append(sum(int(block[::7, ::4096].sum()) for block in blocks))
    del blocks
    kept.append(library.mallinfo2().fordblks >> 20)
print(min(kept), max(kept), sum(sums))
"""


BLOCKS = f"""{HEAP}
library.malloc.restype = ctypes.c_void_p
library.free.argtypes = [ctypes.c_void_p]


def used_and_freed(*sizes):
    for block in [library.malloc(size << 20) for size in sizes]:
        library.free(block)
    return library.mallinfo2().arena >> 20


assert keep_freed_memory()
print(used_and_freed(48), used_and_freed(48, 48, 48, 48))
assert return_freed_memory()
print(library.mallinfo2().arena >> 20, used_and_freed(20, 20), used_and_freed(20, 20, 20, 20))
"""


def after_steps(call: str) -> tuple[int, int, int]:
    """The least and the most MiB that the heap holds free after steps that use 192 MiB, and what was computed."""
    script = STEPS.replace("CALL", call)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    least, most, total = map(int, done.stdout.split())
    return least, most, total


def has_mallinfo2() -> bool:
    """Whether the C library is glibc 2.33 or newer."""
    try:
        return hasattr(ctypes.CDLL(None), "mallinfo2")
    except (OSError, TypeError):
        return False


@pytest.mark.slow
@pytest.mark.skipif(not has_mallinfo2(), reason="needs glibc 2.33")
def test_freed_memory_stays_in_the_heap() -> None:
    least, most, first = after_steps("keep_freed_memory()")
    assert 192 <= least <= most < 800, "kept, and used again: eight steps use 1536 MiB"
    _, most, second = after_steps("keep_freed_memory() and return_freed_memory()")
    assert most < 96, "given back"
    assert first == second


@pytest.mark.skipif(not has_mallinfo2(), reason="needs glibc 2.33")
def test_what_was_kept_is_given_back_but_for_64_mib() -> None:
    """At once, and of what is freed later."""
    done = subprocess.run([sys.executable, "-c", BLOCKS], capture_output=True, text=True, check=True)
    first, kept, left, below, above = map(int, done.stdout.split())
    assert 48 + 64 <= first < 192 <= kept < 500, "64 MiB are asked for in advance"
    assert left < 48
    assert 40 <= below < left + 64
    assert above < 80


@pytest.mark.parametrize("error", [AttributeError, OSError, TypeError])
def test_without_such_a_library_nothing_happens(monkeypatch: pytest.MonkeyPatch, error: type[Exception]) -> None:
    def none(_: object) -> object:
        raise error

    monkeypatch.setattr(memory.ctypes, "CDLL", none)
    assert memory.keep_freed_memory() is False
    assert memory.return_freed_memory() is False
