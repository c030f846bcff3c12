"""The engine's library: compiled by PyTorch's extension builder when it is first used, then kept.

What is kept is named after everything that it depends on: the sources, the options, the compiler and what it knows about
the processor, PyTorch. So it is found again in an instant, another processor or compiler makes another one, and of two
processes that compile at once the later one replaces a file by its equal.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import torch

from mnv3lib._checks import one_of
from mnv3lib._files import VARIABLE, cache_folder
from mnv3lib.deploy.errors import Unavailable

__all__ = ["INSTRUCTIONS", "library"]

_HERE = Path(__file__).parent
#: What a compiler may use of a processor; ``"native"`` is all that this one has.
INSTRUCTIONS = {
    "native": ("-march=native",),
    "avx512": ("-march=x86-64-v4",),
    "avx2": ("-march=x86-64-v3",),
    "sse2": ("-march=x86-64",),
}
# -fno-math-errno and the rest change no result; they let compilers leave out what nobody asks for.
_OPTIONS = ("-std=c++17", "-O3", "-fno-math-errno", "-fno-trapping-math", "-Wno-psabi")
#: Defined by compilers for instruction sets that the sources ask about.
_SUFFIX = {"win32": ".dll", "darwin": ".dylib"}.get(sys.platform, ".so")


@lru_cache
def library(instructions: str = "native", *options: str) -> ctypes.CDLL:
    """The compiled engine.

    Args:
        instructions: one of :data:`INSTRUCTIONS`.
        options: more for the compiler, for example ``"-fsanitize=address"``.

    Raises:
        ValueError: for unknown ``instructions``.
        Unavailable: without a compiler or ninja, if the compiler fails, and if the cache cannot be written.
    """
    chosen = (*_OPTIONS, *INSTRUCTIONS[one_of("instructions", instructions, tuple(INSTRUCTIONS))], *options)
    kept = cache_folder() / "engine" / f"{_key(chosen)}{_SUFFIX}"
    if not kept.exists():
        _compile(chosen, kept)
    try:
        return ctypes.CDLL(str(kept))
    except OSError as error:
        raise Unavailable(f"the compiled engine {str(kept)!r} cannot be loaded ({error}); delete it to compile it anew") from error


def sources() -> list[Path]:
    """The C++ files."""
    return sorted([*_HERE.glob("*.h"), *_HERE.glob("*.cpp")])


def _compiler() -> str:
    name = os.environ.get("CXX", "c++")
    if shutil.which(name) is None:
        raise Unavailable(
            f"the engine needs a C++17 compiler, and {name!r} is not here: install one (on Debian: apt-get install g++), or "
            "name yours in the environment variable CXX"
        )
    return name


def _key(options: tuple[str, ...]) -> str:
    command = [_compiler(), *options, "-x", "c++", "-dM", "-E", os.devnull]
    known = subprocess.run(command, capture_output=True, text=True, check=False)
    if known.returncode != 0:
        raise Unavailable(f"the compiler refused its options ({' '.join(command)}):\n{known.stderr.strip()}")
    parts = [known.stdout, *options, torch.__version__, *(path.read_text(encoding="utf-8") for path in sources())]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:20]


@contextmanager
def _silent() -> Iterator[None]:
    """PyTorch's builder warns that there is no CUDA, which the engine does not need."""
    logger = logging.getLogger("torch.utils.cpp_extension")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def _compile(options: tuple[str, ...], kept: Path) -> None:
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(dir=kept.parent, prefix=".building-", ignore_cleanup_errors=True)
    except OSError as error:
        raise Unavailable(
            f"the compiled engine cannot be kept in {str(kept.parent)!r} ({error.strerror}); name a folder that can be written "
            f"in the environment variable {VARIABLE}"
        ) from error
    with folder as place, _silent():
        try:
            from torch.utils import cpp_extension

            cpp_extension.load(
                "mnv3_engine",
                [str(path) for path in sources() if path.suffix == ".cpp"],
                extra_cflags=list(options),
                extra_ldflags=[option for option in options if option.startswith("-fsanitize")],
                build_directory=place,
                with_cuda=False,
                is_python_module=False,
            )
        except (RuntimeError, OSError, ImportError) as error:
            raise Unavailable(f"the engine could not be compiled: {error}") from error
        os.replace(Path(place) / f"mnv3_engine{_SUFFIX if _SUFFIX != '.dylib' else '.so'}", kept)
