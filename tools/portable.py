"""Validate the notebooks as other processors would run them, and say what is red where.

    python tools/portable.py                        every notebook under every setting
    python tools/portable.py --setting sse FILE ... these notebooks under one of them
    python tools/portable.py --list                 say what there is, and what each setting changes on this machine

PyTorch, oneDNN, MKL, NumPy and OpenBLAS pick their kernels by what the processor can do, and sum floats in another
order in each. A setting makes them pick as if the processor could do less, so one machine stands in for several. It
emulates them: kernels that this processor lacks (AMX, AVX-512 FP16, Arm's) are not run. MKL has kernels that it runs on
Intel's processors only, whatever another one can do; under ``intel`` it takes every processor for one (Linux, with a C
compiler). ``--list`` sums and multiplies the same floats under each setting and says which results differ in their last
bits from those of the machine as it is; on a processor without AVX-512, say, some settings change nothing.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import nbformat

sys.path.insert(0, str(Path(__file__).resolve().parent))
from notebooks import sources
from validation import validate

SSE = {
    "ATEN_CPU_CAPABILITY": "default",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "MKL_CBWR": "COMPATIBLE",
    "OPENBLAS_CORETYPE": "Nehalem",
    "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4",
}
AVX2 = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_CBWR": "AVX2",
    "OPENBLAS_CORETYPE": "Haswell",
    "NPY_DISABLE_CPU_FEATURES": "X86_V4",
}
AVX512 = {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE", "MKL_CBWR": "AVX512", "OPENBLAS_CORETYPE": "SkylakeX"}


def threads(number: int) -> dict[str, str]:
    """Return what limits every library to so many threads."""
    return dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(number))


#: The first is the one farthest from a processor of today.
SETTINGS: dict[str, dict[str, str]] = {
    "sse": {**SSE, **threads(1)},
    "avx2": {**AVX2, **threads(1)},
    "avx2-2": {**AVX2, **threads(2)},
    "avx512-2": {**AVX512, **threads(2)},
    "intel": {"LD_PRELOAD": "intel.so", **threads(1)},
    "mixed-2": {**AVX512, "ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", **threads(2)},
}

#: What MKL asks before it takes kernels for Intel's processors. Preloaded, it always answers yes.
INTEL = "int mkl_serv_intel_cpu(void) { return 1; }\nint mkl_serv_intel_cpu_true(void) { return 1; }\n"

PROBE = """
import hashlib, sys, warnings
warnings.simplefilter("ignore")
import numpy, torch
normal = numpy.random.default_rng(0).standard_normal  # torch.randn is of other last bits itself
sizes = (4, 16, 33, 33), (24, 16, 3, 3), (200, 300), (300, 150)
x, k, a, b = (torch.from_numpy(normal(size)).float() for size in sizes)
for name, result in {
    "convolution": torch.conv2d(x, k),
    "depthwise": torch.conv2d(x, k[:16, :1], groups=16),
    "matmul": a @ b,
    "sum": a.sum(),
    "exp": a.exp(),
    "randn": torch.randn(100, generator=torch.manual_seed(0)),
    "numpy.dot": a.numpy() @ b.numpy(),
    "numpy.exp": numpy.exp(a.numpy()),
}.items():
    print(name, hashlib.sha256(numpy.ascontiguousarray(result).tobytes()).hexdigest())
"""


class Red(NamedTuple):
    """A cell that is not what its notebook holds."""

    cell: int  # of the code cells, from 0, as nbval counts them
    line: str  # its first line
    difference: str


def prepared(names: Sequence[str], folder: Path) -> dict[str, dict[str, str]]:
    """Return the settings of these names that this machine can emulate; what they preload is built in a folder."""
    found = {}
    for name in names:
        settings = dict(SETTINGS[name])
        if "LD_PRELOAD" in settings:
            compiler, library = shutil.which("cc"), folder / settings["LD_PRELOAD"]
            if compiler is None or sys.platform != "linux":
                print(f"{name}: left out, for it needs Linux and a C compiler")
                continue
            command = [compiler, "-shared", "-fPIC", "-x", "c", "-", "-o", str(library)]
            subprocess.run(command, input=INTEL, text=True, check=True)
            settings["LD_PRELOAD"] = str(library)
        found[name] = settings
    return found


def probe(settings: Mapping[str, str]) -> dict[str, str]:
    """Return digests of sums and products of the same floats, as this machine makes them under some settings."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE], env={**os.environ, **settings}, capture_output=True, text=True, check=True
    )
    return dict(line.split() for line in done.stdout.splitlines())


def first_difference(text: str) -> str:
    """Return the line of nbval's report that says most."""
    text = re.sub(r"\x1b\[[\d;]*m", "", text)
    for pattern in (
        r"^ differs: (.+)$",
        r"^(\w*(?:Error|Exception|Warning)\b.*)$",
        r"^(Missing output.+|Unexpected.+)$",
    ):
        if match := re.search(pattern, text, flags=re.M):
            return match[1]
    lines = re.findall(r"^  ([-+] .*)$", text, flags=re.M)
    return " | ".join(lines[:2]) or text.strip().splitlines()[-1]


def reds(notebook: Path, settings: Mapping[str, str]) -> list[Red]:
    """Validate a notebook under some settings; return the cells that are red."""
    cells = [cell for cell in nbformat.read(notebook, as_version=4).cells if cell.cell_type == "code"]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        said, _ = validate(notebook, Path(folder), settings, (f"--junitxml={report}",))
        if not report.is_file():
            return [Red(0, "", f"did not run: {said.strip().splitlines()[-1]}")]
        cases = ElementTree.parse(report).getroot().iter("testcase")
        found, passed = [], 0
        for case in cases:
            number = int((re.search(r"\d+$", case.get("name", "")) or [0])[0])
            if len(case) == 0:
                passed += 1
                continue
            told = first_difference(f"{case[0].get('message', '')}\n{case[0].text or ''}")
            found.append(Red(number, cells[number].source.splitlines()[0], told))
    if passed + len(found) != len(cells):
        found.append(Red(0, "", f"{passed} of {len(cells)} cells passed"))
    return found


def table(results: Mapping[tuple[str, str], Sequence[Red]]) -> str:
    """Return a table of notebooks by settings, and below it each red cell with its first difference."""
    names, settings = (list(dict.fromkeys(key[place] for key in results)) for place in (0, 1))
    wide = max(map(len, names))
    widths = [max(len(setting), 6) for setting in settings]
    lines = ["  ".join([" " * wide, *(f"{s:>{w}}" for s, w in zip(settings, widths, strict=True))])]
    for name in names:
        marks = [f"{len(results[name, setting])} red" if results[name, setting] else "·" for setting in settings]
        lines.append("  ".join([f"{name:{wide}}", *(f"{m:>{w}}" for m, w in zip(marks, widths, strict=True))]))
    for (name, setting), found in results.items():
        lines += [f"{name}, {setting}, code cell {r.cell} ({r.line}): {r.difference}" for r in found]
    return "\n".join(lines)


def listing(settings: Mapping[str, Mapping[str, str]]) -> str:
    """Say what each setting is, and which results it changes on this machine."""
    usual = probe(threads(1))
    lines = []
    for name, variables in settings.items():
        found = probe(variables)
        changed = ", ".join(key for key in usual if found[key] != usual[key]) or "nothing"
        shown = " ".join(f"{key}={shlex.quote(value)}" for key, value in variables.items())
        lines.append(f"{name}: {shown}\n    changes on this machine: {changed}")
    return "\n".join(lines)


def validated(
    paths: Sequence[Path], settings: Mapping[str, Mapping[str, str]], jobs: int
) -> dict[tuple[str, str], list[Red]]:
    """Validate notebooks under settings, some at a time; say on stderr how far it is."""
    pairs = [(path, name) for name in settings for path in paths]

    def run(pair: tuple[Path, str]) -> list[Red]:
        path, name = pair
        start = time.perf_counter()
        found = reds(path, settings[name])
        seconds = time.perf_counter() - start
        print(f"{path.stem}, {name}: {len(found)} red, {seconds:.0f} s", file=sys.stderr, flush=True)
        return found

    with ThreadPoolExecutor(jobs) as pool:
        found = pool.map(run, pairs)
        return {(path.stem, name): red for (path, name), red in zip(pairs, found, strict=True)}


def main(arguments: list[str] | None = None) -> int:
    """Run from the command line; return 1 if a cell was red."""
    parser = argparse.ArgumentParser(description="Validate the notebooks as other processors would run them.")
    parser.add_argument("paths", nargs="*", type=Path, help="notebooks (default: all under book/)")
    parser.add_argument("--setting", action="append", choices=list(SETTINGS), help="one or more (default: all)")
    parser.add_argument("--jobs", type=int, default=2, help="notebooks at a time (default: 2)")
    parser.add_argument("--list", action="store_true", help="say what the settings are, and run nothing")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        settings = prepared(options.setting or list(SETTINGS), Path(folder))
        if not settings:
            parser.error("this machine can emulate none of these settings")
        print(listing(settings), flush=True)
        if options.list:
            return 0
        results = validated(sources(options.paths), settings, options.jobs)
    print(table(results))
    return 1 if any(results.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
