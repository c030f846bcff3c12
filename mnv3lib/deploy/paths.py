"""The ways to run a network on a CPU, from the model as it is to the engines of other projects and our own.

Each takes a model in evaluation mode, an example of the images, a number of threads and a precision, and gives a
function of images of that shape. For ``"int8"`` the model is what :func:`mnv3lib.deploy.quantization.quantize` gave. A
way that needs a package or a compiler that is not here raises ``Unavailable``.
"""

from __future__ import annotations

import copy
import pathlib
import tempfile
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mnv3lib.deploy.engine import Engine
from mnv3lib.deploy.errors import Unavailable
from mnv3lib.deploy.fold import fold_batch_norm
from mnv3lib.deploy.formats import FORMATS, INDUCTOR, Run, exporting, require_compiler
from mnv3lib.deploy.latency import computing_with
from mnv3lib.deploy.scores import Scores
from mnv3lib.pointwise import with_matrix_products

__all__ = ["PATHS", "Path", "Run", "label"]


def _eager(model: nn.Module, example: Tensor, threads: int, precision: str) -> Run:
    return _inferring(copy.deepcopy(model))  # like all others it does not see what becomes of the model


def _channels_last(model: nn.Module, example: Tensor, threads: int, precision: str) -> Run:
    return _inferring(fold_batch_norm(model).to(memory_format=torch.channels_last), torch.channels_last)


def _matrix_products(model: nn.Module, example: Tensor, threads: int, precision: str) -> Run:
    return _inferring(with_matrix_products(fold_batch_norm(model)), torch.channels_last)


def _compiled(model: nn.Module, example: Tensor, threads: int, precision: str) -> Run:
    require_compiler()
    folded = with_matrix_products(fold_batch_norm(model))
    run = _inferring(torch.compile(folded, dynamic=False, options=dict(INDUCTOR)), torch.channels_last)
    with exporting("torch.compile"), computing_with(threads):
        run(example)  # that is when it compiles
    return run


def _through(name: str) -> Callable[[nn.Module, Tensor, int, str], Run]:
    """The way through a file in one of :data:`FORMATS`."""

    def build(model: nn.Module, example: Tensor, threads: int, precision: str) -> Run:
        form = FORMATS[name]
        form.require()
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, f"model{form.suffix}")
            with computing_with(threads):
                form.write(model, example, path, precision, False)
            return form.read(path, threads, precision)

    return build


def _executorch(model: nn.Module, example: Tensor, threads: int, precision: str) -> Run:
    if threads != 1:
        raise Unavailable(f"ExecuTorch's Python runtime computes with one thread, and {threads} are asked for")
    return _through("executorch")(model, example, threads, precision)


def _engine(model: nn.Module, example: Tensor, threads: int, precision: str) -> Run:
    # Which refuses a network for segmentation, and names it.
    return Engine(model.network if isinstance(model, Scores) else model, precision=precision)


class Path(NamedTuple):
    """A way to run a network, and the precisions that it can compute in."""

    build: Callable[[nn.Module, Tensor, int, str], Run]
    precisions: tuple[str, ...] = ("fp32",)


#: By the name that reports and pages use, the plainest first.
PATHS = {
    "PyTorch": Path(_eager),
    "folded, channels last": Path(_channels_last),
    "matrix products": Path(_matrix_products),
    "torch.compile": Path(_compiled),
    "AOTInductor": Path(_through("pt2"), ("fp32", "bf16")),
    "ONNX Runtime": Path(_through("onnx"), ("fp32", "int8")),
    "OpenVINO": Path(_through("openvino"), ("fp32", "bf16", "int8")),
    "ExecuTorch": Path(_executorch, ("fp32", "int8")),
    "engine": Path(_engine, ("fp32", "bf16")),
}


def label(way: str, precision: str) -> str:
    """What a report calls a way in one of its precisions."""
    return way if precision == "fp32" else f"{way}, {precision}"


def _inferring(model: Callable[[Tensor], Tensor], memory_format: torch.memory_format = torch.contiguous_format) -> Run:
    def run(images: Tensor) -> Tensor:
        with torch.no_grad():
            return model(images.contiguous(memory_format=memory_format))

    return run
