"""Keep the memory that a training step has freed, so that the next step finds it ready.

A step allocates hundreds of megabytes and frees them all. The C library of Linux gives large blocks back to the system
at once; the next step asks for them again, and the system has to clear every page of 4 KiB anew. That takes a tenth to
a fifth of a step's time at 224 pixels and next to nothing at 64 (``make bench``). With :func:`keep_freed_memory` the
process stays as large as its largest step.
"""

from __future__ import annotations

import ctypes

__all__ = ["keep_freed_memory", "return_freed_memory"]

# Parameters of glibc's mallopt(3), from <malloc.h>.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -2, -3, -4
_MIB = 1 << 20


def _set(**values: int) -> bool:
    """Set parameters of the C library; False where it has none, as on macOS and Windows."""
    numbers = {"trim": _TRIM_THRESHOLD, "pad": _TOP_PAD, "mmap": _MMAP_THRESHOLD, "maps": _MMAP_MAX}
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return all(mallopt(numbers[name], value) == 1 for name, value in values.items())


def keep_freed_memory() -> bool:
    """Keep what is freed in this process, from now on; it concerns all of the process.

    Returns:
        Whether the C library understood.
    """
    return _set(maps=0, trim=2**31 - 1, pad=64 * _MIB)


def return_freed_memory() -> bool:
    """Go back to what the C library does by itself once it has seen large blocks: keep up to 64 MiB.

    Returns:
        Whether the C library understood.
    """
    done = _set(maps=65536, mmap=32 * _MIB, trim=64 * _MIB, pad=0)
    if done:
        ctypes.CDLL(None).malloc_trim(0)
    return done
