"""The formats of other engines: how a network becomes a file, and how the engine runs what it reads from it.

Nothing here looks at what it is given, and files are written where they are asked for: ``mnv3lib.deploy.export`` does
both, :mod:`mnv3lib.deploy.paths` takes the way through a temporary file.
"""

from __future__ import annotations

import logging
import os
import pathlib
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mnv3lib.deploy.errors import ExportError, Unavailable
from mnv3lib.deploy.fold import fold_batch_norm
from mnv3lib.deploy.packages import package
from mnv3lib.deploy.quantization import is_quantized, signed

__all__ = ["FORMATS", "INDUCTOR", "Format", "Run", "exporting", "require_compiler"]

Run = Callable[[Tensor], Tensor]

#: What the input and the output are called, in the formats that have names.
IMAGES, LOGITS = "images", "logits"
#: Freezing takes the weights for constants, so that they are packed once: for as many threads as PyTorch has then. With
#: others the code computes the same, but packs anew in every pass, and can take three times as long.
INDUCTOR = {"freezing": True, "cpp.dynamic_threads": True}


class Format(NamedTuple):
    """A format of files for one engine.

    Attributes:
        suffix: of the file that the engine is given.
        write: a model in evaluation mode, for images like an example, to a path, in a precision, and for any number of
            images at a time if that is wanted and the format has it.
        read: from a path, for so many threads and a precision, to a function of images.
        packages: that write and read it.
        usage: how a file is run without this library, in Python; ``{name}`` is the file.
        precisions: that it can be written in; ``"int8"`` is for a model that is quantised already.
        any_batch: whether a file can be for any number of images at a time.
        parts: suffixes of what lies beside the file and belongs to it.
    """

    suffix: str
    write: Callable[[nn.Module, Tensor, pathlib.Path, str, bool], None]
    read: Callable[[pathlib.Path, int, str], Run]
    packages: tuple[str, ...]
    usage: str
    precisions: tuple[str, ...] = ("fp32",)
    any_batch: bool = False
    parts: tuple[str, ...] = ()

    def require(self) -> None:
        """Import the packages.

        Raises:
            Unavailable: for one that is not installed.
        """
        for name in self.packages:
            package(name)


# --- ONNX -------------------------------------------------------------------------------------------------------------


def _write_onnx(model: nn.Module, example: Tensor, path: pathlib.Path, precision: str, any_batch: bool) -> None:
    shapes = None
    if any_batch:
        example = example.expand(max(2, len(example)), -1, -1, -1)  # a batch of one would be taken for a constant
        shapes = ({0: torch.export.Dim("batch")},)
    with exporting("ONNX"):
        torch.onnx.export(
            model, (example,), path, dynamo=True, verbose=False, external_data=False, input_names=[IMAGES],
            output_names=[LOGITS], dynamic_shapes=shapes,
        )  # fmt: skip


def _read_onnx(path: pathlib.Path, threads: int, precision: str) -> Run:
    onnxruntime = package("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def run(images: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {name: images.numpy()})[0])

    return run


# --- OpenVINO ---------------------------------------------------------------------------------------------------------


def _write_openvino(model: nn.Module, example: Tensor, path: pathlib.Path, precision: str, any_batch: bool) -> None:
    openvino = package("openvino")
    onnx = path.with_suffix(".onnx")
    _write_onnx(model, example, onnx, precision, any_batch)
    try:
        with exporting("OpenVINO"):
            openvino.save_model(_core(openvino).read_model(onnx), path, compress_to_fp16=False)
    finally:
        onnx.unlink()


def _read_openvino(path: pathlib.Path, threads: int, precision: str) -> Run:
    core = _core(package("openvino"))
    if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise Unavailable("OpenVINO does not compute in bfloat16 on this processor")
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": "1",
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16", "int8": "f32"}[precision],  # where not in 8 bits
    }
    request = core.compile_model(core.read_model(path), "CPU", settings).create_infer_request()

    def run(images: Tensor) -> Tensor:
        request.infer([images.numpy()], share_inputs=True)
        return torch.from_numpy(request.get_output_tensor().data.copy())

    return run


def _core(openvino: Any) -> Any:
    core = openvino.Core()
    core.set_property({"ENABLE_MMAP": False})  # the file may be gone soon, or replaced
    return core


# --- ExecuTorch -------------------------------------------------------------------------------------------------------


def _write_executorch(model: nn.Module, example: Tensor, path: pathlib.Path, precision: str, any_batch: bool) -> None:
    with _outdated():
        with _hushed():
            exir = package("executorch.exir")
            partitioner = package("executorch.backends.xnnpack.partition.xnnpack_partitioner").XnnpackPartitioner
        with exporting("ExecuTorch"):
            network = signed(model) if is_quantized(model) else fold_batch_norm(model)
            exported = torch.export.export(network, (example,))
            program = exir.to_edge_transform_and_lower(exported, partitioner=[partitioner()]).to_executorch()
    path.write_bytes(program.buffer)


def _read_executorch(path: pathlib.Path, threads: int, precision: str) -> Run:
    with _outdated(), _hushed():
        runtime = package("executorch.runtime").Runtime
        program = runtime.get().load_program(path.read_bytes())
        method = program.load_method("forward")

    def run(images: Tensor, program: Any = program) -> Tensor:  # which holds the bytes that the method reads
        return method.execute([images])[0]

    return run


@contextmanager
def _outdated() -> Iterator[None]:
    """Without the warnings that ExecuTorch uses what is going to change, and is itself."""
    with warnings.catch_warnings():
        for module in ("executorch", "importlib"):
            warnings.filterwarnings("ignore", category=DeprecationWarning, module=rf"{module}\b")
        warnings.filterwarnings("ignore", message="This API is experimental")
        yield


@contextmanager
def _hushed() -> Iterator[None]:
    """Without what C++ says on the error stream, whatever ``sys.stderr`` is."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


# --- AOTInductor ------------------------------------------------------------------------------------------------------


def _write_pt2(model: nn.Module, example: Tensor, path: pathlib.Path, precision: str, any_batch: bool) -> None:
    require_compiler()
    network: nn.Module = fold_batch_norm(model)
    if precision == "bf16":
        if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
            raise Unavailable("PyTorch does not compute in bfloat16 on this processor")
        network = _InBfloat16(network)
    with torch.no_grad(), exporting("AOTInductor"):
        exported = torch.export.export(network, (example,))
        torch._inductor.aoti_compile_and_package(exported, package_path=str(path), inductor_configs=dict(INDUCTOR))


def _read_pt2(path: pathlib.Path, threads: int, precision: str) -> Run:
    network = torch._inductor.aoti_load_package(str(path))

    def run(images: Tensor) -> Tensor:
        return network(images.contiguous())  # it does not look at the strides, nor at the shape

    return run


class _InBfloat16(nn.Module):
    """A network that computes in bfloat16, on images and with logits in float32."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.to(torch.bfloat16)

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images.to(torch.bfloat16)).to(torch.float32)


def require_compiler() -> None:
    """See that there is a C++ compiler for PyTorch's own, Inductor.

    Raises:
        Unavailable: naming the one that is looked for.
    """
    from torch._inductor import config

    names = [name for name in config.cpp.cxx if name]
    if not any(map(shutil.which, names)):
        raise Unavailable(
            f"it needs a C++ compiler, and {names[-1]!r} is not here: install one (on Debian: apt-get install g++), or "
            "name yours in the environment variable CXX"
        )


@contextmanager
def exporting(name: str) -> Iterator[None]:
    """An exporter at work: it says nothing, and all that it raises is that it could not write the network."""
    said = logging.getLogger("torch.utils.cpp_extension")  # that there is no CUDA
    before, said.disabled = said.disabled, True
    try:
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            yield
    except MemoryError:
        raise
    except Exception as error:  # each has errors of its own
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ExportError(f"{name} cannot write this network: {lines[0]}") from error
    finally:
        said.disabled = before


#: By the name that ``to`` has.
FORMATS = {
    "onnx": Format(
        ".onnx",
        _write_onnx,
        _read_onnx,
        ("onnxruntime", "onnx", "onnxscript"),
        'import onnxruntime; logits = onnxruntime.InferenceSession("{name}").run(None, {{"images": images}})[0]',
        ("fp32", "int8"),
        any_batch=True,
    ),
    "openvino": Format(
        ".xml",
        _write_openvino,
        _read_openvino,
        ("openvino", "onnx", "onnxscript"),
        # Without the hint it computes in bfloat16 where the processor has that.
        'import openvino; logits = openvino.compile_model("{name}", "CPU", {{"INFERENCE_PRECISION_HINT": "f32"}})'
        '([images])["logits"]',
        ("fp32", "int8"),
        any_batch=True,
        parts=(".bin",),
    ),
    "executorch": Format(
        ".pte",
        _write_executorch,
        _read_executorch,
        ("executorch",),
        "from executorch.runtime import Runtime; "
        'logits = Runtime.get().load_program("{name}").load_method("forward").execute([images])[0]',
        ("fp32", "int8"),
    ),
    "pt2": Format(
        ".pt2",
        _write_pt2,
        _read_pt2,
        ("torch",),
        'import torch; logits = torch._inductor.aoti_load_package("{name}")(images)',
        ("fp32", "bf16"),
    ),
}
