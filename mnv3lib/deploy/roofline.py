"""How fast a layer could be on this processor at most: the roofline (Williams et al., 2009), layer by layer.

A layer has multiply-adds to do and bytes to read and write. Whichever takes longer at the processor's best is its
*floor*: no program is faster, however it is written. The weights are read from the cache that holds all of them, the
third, and the feature maps from the second, in which those of this network fit.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from mnv3lib._checks import positive_int
from mnv3lib.cost import Layer, Profile
from mnv3lib.deploy.engine.build import library
from mnv3lib.deploy.latency import computing_with

__all__ = ["Ceilings", "Floor", "floor", "measure_ceilings"]

_FLOAT = 4
_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
#: Where the system does not say: bytes of the first, second and third cache.
_USUAL = (32 << 10, 1 << 20, 32 << 20)


@dataclass(frozen=True)
class Ceilings:
    """What one core of this processor reaches in float32, when it does nothing else.

    Attributes:
        multiply_adds: a second, on registers.
        matrix_product: multiply-adds a second in PyTorch's product of two large matrices.
        first: bytes a second from the first cache.
        second: from the second.
        third: from the third.
        memory: from beyond the caches.
    """

    multiply_adds: float
    matrix_product: float
    first: float
    second: float
    third: float
    memory: float

    def __str__(self) -> str:
        return ", ".join(f"{name.replace('_', ' ')} {value / 1e9:,.0f} G/s" for name, value in asdict(self).items())


@dataclass(frozen=True)
class Floor:
    """The least time of a layer: the longer of two.

    Attributes:
        layer: of the cost model.
        arithmetic: seconds of the multiply-adds.
        traffic: seconds to read the weights from the third cache, and to read and write the feature maps in the second.
    """

    layer: Layer
    arithmetic: float
    traffic: float

    @property
    def seconds(self) -> float:
        return max(self.arithmetic, self.traffic)


def floor(profile: Profile, ceilings: Ceilings, *, batch: int = 1) -> tuple[Floor, ...]:
    """The floor of every layer; their sum is that of the network, on one core in float32.

    Args:
        profile: of :func:`mnv3lib.cost.profile`, for the resolution in question.
        ceilings: of this processor.
        batch: images at a time; the weights are read once for all of them.
    """
    images = positive_int("batch", batch)
    found = []
    for layer in profile.layers:
        maps = images * (_size(layer.input) + _size(layer.output)) if layer.macs else 0
        traffic = _FLOAT * (layer.parameters / ceilings.third + maps / ceilings.second)
        found.append(Floor(layer, images * layer.macs / ceilings.multiply_adds, traffic))
    return tuple(found)


def _size(shape: Iterable[int]) -> int:
    channels, height, width = shape
    return channels * height * width


def measure_ceilings(*, seconds: float = 0.05) -> Ceilings:
    """Measure this processor, on one thread; the best of several tries, because disturbances only slow down.

    Args:
        seconds: that a try lasts.

    Raises:
        Unavailable: without a compiler.
    """
    code = library()
    code.mnv3_multiply_adds.restype = ctypes.c_int64
    per_round = code.mnv3_multiply_adds(ctypes.c_int64(1))
    first, second, third = _cache_sizes()
    # Half of a cache is surely in it; for memory, four times the largest.
    sizes = {"first": first // 2, "second": second // 2, "third": min(third // 2, 8 * second), "memory": 4 * third}
    found = {
        "multiply_adds": per_round * _rate(lambda rounds: code.mnv3_multiply_adds(ctypes.c_int64(rounds)), seconds)
    }
    side = 768
    a, b = torch.randn(side, side), torch.randn(side, side)
    with computing_with(1):
        found["matrix_product"] = side**3 * _rate(lambda rounds: [a @ b for _ in range(rounds)], seconds)
    for name, size in sizes.items():
        buffer = torch.zeros(size // 4096 * 1024)

        def read(rounds: int, buffer: torch.Tensor = buffer) -> None:
            code.mnv3_read(ctypes.c_void_p(buffer.data_ptr()), ctypes.c_int64(buffer.numel()), ctypes.c_int64(rounds))

        found[name] = buffer.numel() * _FLOAT * _rate(read, seconds)
    return Ceilings(**found)


def _rate(work: Callable[[int], object], seconds: float, tries: int = 7) -> float:
    """Rounds a second, at best."""
    rounds, took = 1, 0.0
    while took < seconds / 2:
        rounds *= 2
        took = _time(work, rounds)
    return rounds / min(_time(work, rounds) for _ in range(tries))


def _time(work: Callable[[int], object], rounds: int) -> float:
    began = time.perf_counter()
    work(rounds)
    return time.perf_counter() - began


def _cache_sizes() -> tuple[int, int, int]:
    """Bytes of the three data caches, as Linux tells them."""
    sizes = list(_USUAL)
    try:
        for index in _CACHES.glob("index*"):
            level, kind, size = ((index / name).read_text().strip() for name in ("level", "type", "size"))
            if kind != "Instruction" and int(level) <= len(sizes):
                sizes[int(level) - 1] = int(size.removesuffix("K")) << 10
    except (OSError, ValueError):
        return _USUAL
    return sizes[0], sizes[1], sizes[2]
