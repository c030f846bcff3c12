"""The ways to run a network on a CPU, from the model as it is to the engines of other projects and our own.

Each takes a model in evaluation mode, an example of the images, a number of threads and a precision, and gives a
function of images of that shape. A way that needs a package or a compiler that is not here raises ``Unavailable``.
"""

from __future__ import annotations

import copy
import pathlib
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib import import_module
from io import StringIO
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mnv3lib.deploy.engine import Engine
from mnv3lib.deploy.errors import Unavailable
from mnv3lib.deploy.fold import fold_batch_norm
from mnv3lib.pointwise import with_matrix_products

__all__ = ["PATHS", "Path", "Run", "label"]

Run = Callable[[Tensor], Tensor]


def _eager(model: nn.Module, example: Tensor, threads: int, precision: str) -> Run:
    return _inferring(copy.deepcopy(model))  # like all others it does not see what becomes of the model


def _channels_last(model: nn.Module, example: Tensor, threads: int, precision: str) -> Run:
    return _inferring(fold_batch_norm(model).to(memory_format=torch.channels_last), torch.channels_last)


def _matrix_products(model: nn.Module, example: Tensor, threads: int, precision: str) -> Run:
    return _inferring(with_matrix_products(fold_batch_norm(model)), torch.channels_last)


def _compiled(model: nn.Module, example: Tensor, threads: int, precision: str) -> Run:
    folded = with_matrix_products(fold_batch_norm(model))
    # Freezing takes the weights for constants, so that they can be packed once.
    return _inferring(torch.compile(folded, dynamic=False, options={"freezing": True}), torch.channels_last)


def _onnxruntime(model: nn.Module, example: Tensor, threads: int, precision: str) -> Run:
    onnxruntime = _package("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    with _onnx(model, example) as path:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def run(images: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {name: images.numpy()})[0])

    return run


def _openvino(model: nn.Module, example: Tensor, threads: int, precision: str) -> Run:
    openvino = _package("openvino")
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": "1",
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[precision],
    }
    core = openvino.Core()
    with _onnx(model, example) as path:
        request = core.compile_model(core.read_model(path), "CPU", settings).create_infer_request()

    def run(images: Tensor) -> Tensor:
        request.infer([images.numpy()], share_inputs=True)
        return torch.from_numpy(request.get_output_tensor().data.copy())

    return run


def _executorch(model: nn.Module, example: Tensor, threads: int, precision: str) -> Run:
    exir = _package("executorch.exir")
    partitioner = _package("executorch.backends.xnnpack.partition.xnnpack_partitioner").XnnpackPartitioner
    runtime = _package("executorch.runtime").Runtime
    if threads != 1:
        raise Unavailable(f"ExecuTorch's Python runtime computes with one thread, and {threads} are asked for")
    exported = torch.export.export(model, (example,))
    program = exir.to_edge_transform_and_lower(exported, partitioner=[partitioner()]).to_executorch()
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "model.pte"
        path.write_bytes(program.buffer)
        method = runtime.get().load_program(path).load_method("forward")

    def run(images: Tensor) -> Tensor:
        return method.execute([images])[0]

    return run


def _engine(model: nn.Module, example: Tensor, threads: int, precision: str) -> Run:
    return Engine(model, precision=precision)


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
    "ONNX Runtime": Path(_onnxruntime),
    "OpenVINO": Path(_openvino, ("fp32", "bf16")),
    "ExecuTorch": Path(_executorch),
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


def _package(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise Unavailable(
            f"it needs the package {name.partition('.')[0]!r}: pip install {name.partition('.')[0]}"
        ) from error


@contextmanager
def _onnx(model: nn.Module, example: Tensor) -> Iterator[pathlib.Path]:
    """The model as a file in the ONNX format, for as long as the block lasts."""
    for name in ("onnx", "onnxscript"):
        _package(name)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "model.onnx"
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):  # the exporter tells its steps
            torch.onnx.export(model, (example,), path, dynamo=True, verbose=False, external_data=False)
        yield path
