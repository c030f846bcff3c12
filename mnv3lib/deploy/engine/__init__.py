"""The book's own engine: a MobileNetV3 on a CPU, in C++ that is read in an evening, compiled when it is first used.

In the order of reading: ``layout.h``, ``matmul.h``, ``depthwise.h``, ``stem.h``, ``network.h``, ``plan.cpp``.
"""

from __future__ import annotations

import ctypes
import threading
import weakref
from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn

from mnv3lib.deploy.engine.build import INSTRUCTIONS, library
from mnv3lib.deploy.engine.reading import flatten

__all__ = ["INSTRUCTIONS", "Engine"]

#: Input sizes whose buffers an engine keeps.
_SIZES = 4
_MESSAGE = 1_000


class Engine:
    """A network for classification, ready to run on this processor.

    The weights are copied, folded and packed once. An input of a new size takes buffers of its own, and those of the
    last four sizes are kept. Several threads may call one engine at a time; each pass computes with as many threads as
    ``torch.set_num_threads`` says.

    Args:
        model: one of this library's networks for classification, or torchvision's, in evaluation mode.
        precision: ``"fp32"``, or ``"bf16"``: weights and feature maps in bfloat16, sums in float32. It needs
            AVX512-BF16.
        instructions: what of the processor may be used, one of ``"native"``, ``"avx512"``, ``"avx2"`` and
            ``"sse2"``.

    Raises:
        TypeError, ValueError: for a model that is none, is in training mode, or has a module that the engine does not
            know.
        Unavailable: without a compiler, a folder to keep what it makes, or the instructions that ``precision`` needs.

    Shape:
        (N, C, H, W), float32 on the CPU, any N, H and W, to logits (N, classes). No gradients.
    """

    def __init__(self, model: nn.Module, *, precision: str = "fp32", instructions: str = "native") -> None:
        numbers, weights = flatten(model)
        self.channels, self.classes = int(numbers[0]), int(numbers[-1])
        self._library = library(instructions, precision)
        self._network = self._call(
            "network", ctypes.c_void_p(numbers.ctypes.data), ctypes.c_int64(numbers.size),
            ctypes.c_void_p(weights.ctypes.data), ctypes.c_int64(weights.size),
        )  # fmt: skip
        self._idle: OrderedDict[int, tuple[tuple[int, ...], ctypes.c_void_p]] = OrderedDict()
        self._lock = threading.Lock()
        weakref.finalize(self, _free, self._library, self._network, self._idle)

    @property
    def lanes(self) -> int:
        """How many floats a vector holds, 16 with AVX-512, 8 with AVX2 and 4 otherwise."""
        return int(self._library.mnv3_lanes())

    def __call__(self, images: Tensor) -> Tensor:
        if not isinstance(images, Tensor) or images.dtype != torch.float32 or images.device.type != "cpu":
            got = f"{images.dtype} on {images.device}" if isinstance(images, Tensor) else repr(images)
            raise TypeError(f"images must be a float32 tensor on the CPU, got {got}")
        if images.ndim != 4 or images.shape[1] != self.channels or 0 in images.shape[2:]:
            raise ValueError(f"images must have the shape (N, {self.channels}, H, W), got {tuple(images.shape)}")
        if images.requires_grad and torch.is_grad_enabled():
            raise ValueError("images must not require gradients: the engine computes none")
        logits = torch.empty(len(images), self.classes)
        if len(images):
            shape = tuple(images.shape)
            plan = self._plan(shape)
            self._run(plan, images.contiguous(), logits)
            self._keep(shape, plan)
        return logits

    def _run(self, plan: ctypes.c_void_p, images: Tensor, logits: Tensor) -> None:
        message = ctypes.create_string_buffer(_MESSAGE)
        if self._library.mnv3_run(
            plan, ctypes.c_void_p(images.data_ptr()), ctypes.c_void_p(logits.data_ptr()), message, _MESSAGE
        ):
            raise RuntimeError(message.value.decode())

    def _plan(self, shape: tuple[int, ...]) -> ctypes.c_void_p:
        """Buffers for inputs of this shape that no other thread is using."""
        with self._lock:
            for key, (size, plan) in self._idle.items():
                if size == shape:
                    del self._idle[key]
                    return plan
        return self._call("plan", self._network, shape[0], shape[2], shape[3])

    def _keep(self, shape: tuple[int, ...], plan: ctypes.c_void_p) -> None:
        with self._lock:
            self._idle[plan.value or 0] = shape, plan
            while len(self._idle) > _SIZES:
                _, (_, oldest) = self._idle.popitem(last=False)
                self._library.mnv3_free_plan(oldest)

    def _call(self, what: str, *arguments: Any) -> ctypes.c_void_p:
        made, message = ctypes.c_void_p(), ctypes.create_string_buffer(_MESSAGE)
        if getattr(self._library, f"mnv3_{what}")(*arguments, ctypes.byref(made), message, _MESSAGE):
            raise ValueError(message.value.decode())
        return made


def _free(library: ctypes.CDLL, network: ctypes.c_void_p, idle: OrderedDict[int, Any]) -> None:
    for _, plan in idle.values():
        library.mnv3_free_plan(plan)
    library.mnv3_free_network(network)
