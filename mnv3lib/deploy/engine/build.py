"""The engine's library: compiled by PyTorch's extension builder when it is first used, then kept.

What is kept is named after everything that it depends on: the sources, the options, the compiler and what it knows
about the processor, PyTorch. So it is found again in an instant, and another processor or compiler makes another one.
Processes wait for the one that compiles; a file appears when it is whole.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

import torch
from filelock import FileLock

from mnv3lib._checks import one_of
from mnv3lib._files import VARIABLE, cache_folder
from mnv3lib.deploy.errors import Unavailable

__all__ = ["INSTRUCTIONS", "PRECISIONS", "library"]

_HERE = Path(__file__).parent
#: What a compiler may use of a processor; ``"native"`` is all that this one has.
INSTRUCTIONS = {
    "native": ("-march=native",),
    "avx512": ("-march=x86-64-v4",),
    "avx2": ("-march=x86-64-v3",),
    "sse2": ("-march=x86-64",),
}
#: What each precision needs to be there, and what it tells the sources.
PRECISIONS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "fp32": ((), ()),
    "bf16": (("__AVX512BF16__",), ("-DMNV3_BFLOAT16",)),
}
# Without -fopenmp PyTorch's parallel_for computes in one thread, whatever it is told, and says nothing. -fno-math-errno
# and the rest change no result; they let compilers leave out what nobody asks for.
_OPTIONS = ("-std=c++17", "-O3", "-fopenmp", "-fno-math-errno", "-fno-trapping-math", "-fvisibility=hidden",
            "-Wno-psabi")  # fmt: skip
_SUFFIX = ".so"


@lru_cache
def library(instructions: str = "native", precision: str = "fp32", *options: str) -> ctypes.CDLL:
    """The compiled engine.

    Args:
        instructions: ``"native"``, ``"avx512"``, ``"avx2"`` or ``"sse2"``.
        precision: ``"fp32"``, or ``"bf16"`` for weights and feature maps in bfloat16.
        options: more for the compiler, for example ``"-fsanitize=address"``.

    Raises:
        ValueError: for unknown ``instructions`` or ``precision``.
        Unavailable: on a processor without the instructions that ``precision`` needs, without a compiler or ninja, if
            the compiler fails, and if the cache cannot be written.
    """
    used = INSTRUCTIONS[one_of("instructions", instructions, tuple(INSTRUCTIONS))]
    needed, defined = PRECISIONS[one_of("precision", precision, tuple(PRECISIONS))]
    chosen = (*_OPTIONS, *used, *defined, *options)
    known = _known(chosen)
    if any(f"#define {name} " not in known for name in needed):
        raise Unavailable(
            f"{precision} needs {', '.join(needed).strip('_')}, and {instructions!r} instructions lack it here"
        )
    folder, key = cache_folder() / "engine", _key(known, chosen)
    kept = _kept(folder, key) or _compile(chosen, folder, key)
    try:
        return ctypes.CDLL(str(kept))
    except OSError as error:
        raise Unavailable(f"the compiled engine {str(kept)!r} cannot be loaded: {error}") from error


def _kept(folder: Path, key: str) -> Path | None:
    """The library of this key if it is there and whole; the end of its name is the beginning of its SHA-256."""
    for path in folder.glob(f"{key}-*{_SUFFIX}"):
        if path.stem == f"{key}-{_digest(path.read_bytes())}":
            return path
        path.unlink()  # loading a damaged library can kill the process
    return None


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def sources() -> list[Path]:
    """The C++ files."""
    return sorted([*_HERE.glob("*.h"), *_HERE.glob("*.cpp")])


def _compiler() -> str:
    name = os.environ.get("CXX", "c++")
    if shutil.which(name) is None:
        raise Unavailable(
            f"the engine needs a C++17 compiler, and {name!r} is not here: install one (on Debian: apt-get install "
            "g++), or name yours in the environment variable CXX"
        )
    return name


def _known(options: tuple[str, ...]) -> str:
    """What the compiler has defined: its version, and what it may use of the processor."""
    command = [_compiler(), *options, "-x", "c++", "-dM", "-E", os.devnull]
    known = subprocess.run(command, capture_output=True, text=True, check=False)
    if known.returncode != 0:
        raise Unavailable(f"the compiler refused its options ({' '.join(command)}):\n{known.stderr.strip()}")
    return known.stdout


def _key(known: str, options: tuple[str, ...]) -> str:
    parts = [known, *options, torch.__version__, *(path.read_text(encoding="utf-8") for path in sources())]
    return _digest("\0".join(parts).encode())


@contextmanager
def _builder() -> Iterator[None]:
    """Ninja on the search path, as PyTorch's builder needs it, and no warning of its that there is no CUDA."""
    logger, path = logging.getLogger("torch.utils.cpp_extension"), os.environ.get("PATH", "")
    before, logger.disabled = logger.disabled, True
    with suppress(ImportError):
        import ninja

        os.environ["PATH"] = os.pathsep.join([ninja.BIN_DIR, path])
    try:
        yield
    finally:
        logger.disabled, os.environ["PATH"] = before, path


def _compile(options: tuple[str, ...], folder: Path, key: str) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        building = tempfile.TemporaryDirectory(dir=folder, prefix=".building-", ignore_cleanup_errors=True)
    except OSError as error:
        raise Unavailable(
            f"the compiled engine cannot be kept in {str(folder)!r} ({error.strerror}); name a folder that can be "
            f"written in the environment variable {VARIABLE}"
        ) from error
    # Two processes that compile at once make the same; the lock, which ends with its process, only saves the work.
    with building as place, FileLock(folder / f"{key}.lock"), _builder():
        if (made := _kept(folder, key)) is not None:
            return made
        try:
            from torch.utils import cpp_extension

            cpp_extension.load(
                f"mnv3_{key}",
                [str(path) for path in sources() if path.suffix == ".cpp"],
                extra_cflags=list(options),
                extra_ldflags=[option for option in options if option.startswith("-fsanitize")],
                build_directory=place,
                with_cuda=False,
                is_python_module=False,
            )
        except (RuntimeError, OSError, ImportError) as error:
            raise Unavailable(f"the engine could not be compiled: {error}") from error
        made = Path(place) / f"mnv3_{key}{cpp_extension.LIB_EXT}"
        return made.replace(folder / f"{key}-{_digest(made.read_bytes())}{_SUFFIX}")
