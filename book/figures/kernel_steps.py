"""The kernels of chapter 18, compiled when they are first asked for, with their operands laid out as each wants them.

The C++ is in ``kernel_steps.cpp``. The layer is the first half of row 11 of MobileNetV3-Large: an expansion from 80 to
480 channels and a depthwise 3×3 convolution on a map of 14×14, each with h-swish after it.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from mnv3lib import cost
from mnv3lib._checks import one_of
from mnv3lib.config import large
from mnv3lib.cost import Layer
from mnv3lib.deploy import Unavailable, engine

__all__ = ["DEPTHWISE", "ENGINE", "FLAGS", "POINTWISE", "ROW", "Kernel", "blocked", "compiled", "depthwise", "expected",
           "layers", "operands", "pointwise", "source", "unblocked"]  # fmt: skip

#: The row of MobileNetV3-Large whose first two layers the steps compute.
ROW = 11
#: The steps, by their function in C++.
POINTWISE = ("naive", "contiguous", "vectors", "tiles", "packed", "fused")
DEPTHWISE = ("depthwise_naive", "depthwise_contiguous", "depthwise_vectors", "depthwise_rows")

#: What a compiler is told unless a call says otherwise: as the engine tells it.
FLAGS = ("-O3", "-march=native")
_ALWAYS = ("-std=c++17", "-fno-math-errno", "-fno-trapping-math", "-Wno-psabi", "-shared", "-fPIC")
_FILE = Path(__file__).with_name("kernel_steps.cpp")
#: The folder with the engine's headers.
ENGINE = Path(engine.__file__).parent


def source(name: str) -> str:
    """The C++ of one step as it stands in the file; ``product`` is what the last two steps of the 1×1 convolution call.

    Raises:
        ValueError: for a name that is no step's.
    """
    one_of("name", name, (*POINTWISE, *DEPTHWISE, "product"))
    found = re.search(
        rf"^(?:EXPORT|template <Activation A>\nINLINE) void {name}\(.*?^}}\n",
        _FILE.read_text(encoding="utf-8"),
        flags=re.M | re.S,
    )
    assert found
    return found[0].removeprefix("EXPORT ")


@cache
def compiled(text: str | None = None, *options: str) -> ctypes.CDLL:
    """C++ as a library of this process.

    Args:
        text: functions that are declared ``extern "C"``; without it, all steps.
        options: of the compiler, instead of ``FLAGS``.

    Raises:
        Unavailable: without a compiler, and with its words if it refuses the text.
    """
    compiler = os.environ.get("CXX", "c++")
    if shutil.which(compiler) is None:
        raise Unavailable(
            f"this needs a C++17 compiler, and {compiler!r} is not here: install one (on Debian: apt-get install g++), "
            "or name yours in the environment variable CXX"
        )
    written = _FILE.read_text(encoding="utf-8") if text is None else text
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "steps.so"
        command = [compiler, *_ALWAYS, *(options or FLAGS), f"-I{ENGINE}", "-x", "c++", "-", "-o", str(made)]
        said = subprocess.run(command, input=written, capture_output=True, text=True, check=False)
        if said.returncode:
            raise Unavailable(f"the compiler refused the text:\n{said.stderr}")
        return ctypes.CDLL(str(made))  # the system keeps the file as long as it is loaded


class Kernel:
    """One step with its operands. A call computes; ``result`` is what the last call has computed.

    Args:
        calls: functions of a library, each with its arguments, in the order in which a call makes them.
        keep: the tensors whose addresses the arguments are.
        result: brings the step's output into the shape (channels, height, width).
    """

    def __init__(
        self, calls: list[tuple[Any, tuple[Any, ...]]], keep: tuple[Tensor, ...], result: Callable[[], Tensor]
    ):
        self._calls, self._keep, self._result = calls, keep, result

    def __call__(self) -> None:
        for function, arguments in self._calls:
            function(*arguments)

    @property
    def result(self) -> Tensor:
        self()
        return self._result()


def layers() -> tuple[Layer, Layer]:
    """The expansion and the depthwise convolution of the row, for images of 224×224."""
    expand, depth = (
        layer
        for layer in cost.profile(large(), 224).layers
        if layer.feature == ROW and layer.kind in ("expand", "depthwise")
    )
    return expand, depth


def operands(layer: Layer, *, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """A random input (channels, height, width), weights and bias of a layer, as PyTorch's convolution takes them."""
    draw = torch.Generator().manual_seed(seed)
    out, inputs = layer.output[0], layer.input[0] // layer.groups
    weight = torch.randn(out, inputs, layer.kernel, layer.kernel, generator=draw) / (inputs * layer.kernel**2) ** 0.5
    return torch.randn(layer.input, generator=draw), weight, torch.randn(out, generator=draw)


def expected(layer: Layer, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """What PyTorch computes: the convolution and h-swish, two calls."""
    return F.hardswish(F.conv2d(x[None], weight, bias, padding=layer.kernel // 2, groups=layer.groups))[0]


def blocked(x: Tensor, lanes: int) -> Tensor:
    """A map (channels, height, width) as panels: (panels, height, width, lanes)."""
    channels, height, width = x.shape
    return x.reshape(channels // lanes, lanes, height, width).permute(0, 2, 3, 1).contiguous()


def unblocked(panels: Tensor) -> Tensor:
    """The reverse."""
    count, height, width, lanes = panels.shape
    return panels.permute(0, 3, 1, 2).reshape(count * lanes, height, width)


def pointwise(x: Tensor, weight: Tensor, bias: Tensor, library: ctypes.CDLL | None = None) -> dict[str, Kernel]:
    """The steps of the 1×1 convolution.

    Args:
        x: (channels in, height, width).
        weight: (channels out, channels in, 1, 1).
        bias: (channels out).
        library: of :func:`compiled`; what it lacks is left out.

    Raises:
        ValueError: if channels do not fill the panels of a tile, or positions its pixels.
    """
    code = compiled() if library is None else library
    lanes, panels, height = (getattr(compiled(), name)() for name in ("lanes", "tile_panels", "tile_pixels"))
    inputs, *side = x.shape
    out, pixels = len(weight), side[0] * side[1]
    for what, number, part in (("channels in", inputs, lanes), ("channels out", out, lanes * panels),
                               ("positions", pixels, height)):  # fmt: skip
        if number % part:
            raise ValueError(f"{what} must be a multiple of {part}, got {number}")
    rows = weight.reshape(out, inputs)
    by_panel = rows.reshape(-1, lanes, inputs).transpose(1, 2).contiguous()
    by_group = rows.reshape(-1, panels, lanes, inputs).permute(0, 3, 1, 2).contiguous()
    last, panelled = x.permute(1, 2, 0).contiguous(), blocked(x, lanes)
    laid_out = {
        "naive": (x.contiguous(), rows.contiguous()),
        "contiguous": (last, rows.T.contiguous()),
        "vectors": (panelled, by_panel),
        "tiles": (panelled, by_panel),
        "packed": (panelled, by_group),
        "fused": (panelled, by_group),
    }
    return _kernels(code, laid_out, bias, (out, *side), lanes, (pixels, inputs, out))


def depthwise(x: Tensor, weight: Tensor, bias: Tensor) -> dict[str, Kernel]:
    """The steps of the depthwise 3×3 convolution with stride 1, for shapes as :func:`pointwise` has them."""
    code = compiled()
    lanes, (channels, side, _) = code.lanes(), x.shape
    taps = weight.reshape(channels, 9)
    by_panel = taps.reshape(-1, lanes, 9).transpose(1, 2).contiguous()
    panelled = F.pad(blocked(x, lanes), (0, 0, 1, 1)).contiguous()  # zeros at the left and the right of each line
    laid_out = {
        "depthwise_naive": (x.contiguous(), taps.contiguous()),
        "depthwise_contiguous": (x.permute(1, 2, 0).contiguous(), taps.T.contiguous()),
        "depthwise_vectors": (panelled, by_panel),
        "depthwise_rows": (panelled, by_panel),
    }
    return _kernels(code, laid_out, bias, (channels, side, side), lanes, (side, channels))


def _kernels(
    code: ctypes.CDLL, laid_out: Mapping[str, tuple[Tensor, Tensor]], bias: Tensor, shape: tuple[int, ...], lanes: int,
    numbers: tuple[int, ...],
) -> dict[str, Kernel]:  # fmt: skip
    channels, *side = shape
    # The layout of each step's output, and how it becomes (channels, height, width) again.
    outputs: dict[str, tuple[tuple[int, ...], Callable[[Tensor], Tensor]]] = {
        "naive": (shape, lambda y: y),
        "contiguous": ((*side, channels), lambda y: y.permute(2, 0, 1)),
    }
    panels = (channels // lanes, *side, lanes)
    found = {}
    for name, (x, weight) in laid_out.items():
        if not hasattr(code, name):
            continue
        form, back = outputs.get(name.removeprefix("depthwise_"), (panels, unblocked))
        y = torch.empty(form)
        pointers = tuple(ctypes.c_void_p(tensor.data_ptr()) for tensor in (x, weight, bias, y))
        calls = [(getattr(code, name), (*pointers, *map(ctypes.c_int, numbers)))]
        if name not in (POINTWISE[-1], DEPTHWISE[-1]):
            calls.append((compiled().h_swish, (pointers[-1], ctypes.c_int(y.numel()))))
        found[name] = Kernel(calls, (x, weight, bias, y), partial(back, y))
    return found
