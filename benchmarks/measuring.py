"""What the benchmarks of inference share: a core of their own, networks, and files that name the processor."""

from __future__ import annotations

import argparse
import json
import os
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mnv3lib._files import whole_file
from mnv3lib.deploy import Comparison, ExportError, Unavailable, quantize, suited_backend
from mnv3lib.deploy.fastest import TOLERANCES, stray
from mnv3lib.deploy.paths import PATHS, label
from mnv3lib.provenance import made
from mnv3lib.training.memory import keep_freed_memory

__all__ = ["arguments", "images", "multiply_adds", "runs", "shaken", "start", "three", "write"]

M = TypeVar("M", bound=nn.Module)

_ROOT = Path(__file__).resolve().parent.parent
#: Where the book reads what was measured.
SPEED = _ROOT / "book" / "_data" / "speed"


def arguments(about: str | None, *, rounds: int, threads: int = 1) -> argparse.ArgumentParser:
    """The options that every benchmark has."""
    commands = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands.add_argument("--rounds", type=int, default=rounds, help=f"five or more (default: {rounds})")
    commands.add_argument("--threads", type=int, default=threads, help=f"to compute with (default: {threads})")
    commands.add_argument("--ways", nargs="+", choices=PATHS, help="to run networks (default: what the book shows)")
    commands.add_argument("--out", type=Path, help="the file to write (default: one named after the processor)")
    return commands


def start(threads: int, *, keep_memory: bool) -> dict[str, Any]:
    """Keep to one core where the system allows it and one thread is asked for; what the file says of its making.

    Args:
        threads: of PyTorch.
        keep_memory: that is freed. Otherwise pages of memory come and go in PyTorch, and what a network takes depends
            on what ran before it; that is right for the question which way is faster as it stands.
    """
    if threads == 1 and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    return {**made(_ROOT, threads=threads), "memory_kept": keep_memory and keep_freed_memory()}


def write(name: str, out: Path | None, found: Mapping[str, Any]) -> Path:
    """Write what was measured, whole or not at all, to ``out`` or to a file named after benchmark and processor."""
    processor = re.sub(r"[^a-z0-9]+", "-", re.sub(r"\((r|tm)\)", "", found["cpu"].lower())).strip("-")
    path = out or SPEED / f"{name}_{processor}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as stream:
        stream.write((json.dumps(found, indent=1, ensure_ascii=False) + "\n").encode())
    return path


def images(batch: int, side: int) -> Tensor:
    """Random ones."""
    return torch.randn(batch, 3, side, side)


def shaken(model: M) -> M:
    """The model in evaluation mode, its batch norms away from where they start, so that folding shows."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                for values, low, high in ((module.running_mean, -0.3, 0.3), (module.running_var, 0.5, 2.0)):
                    assert values is not None
                    values.uniform_(low, high)
            elif isinstance(module, nn.Linear):
                module.weight.normal_(0, 0.05)
    return model.eval()


def multiply_adds(model: nn.Module, side: int) -> int:
    """Of the convolutions and linear layers, for one image, by PyTorch's own counter."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(images(1, side))
    return counter.get_total_flops() // 2


def runs(
    models: Mapping[str, nn.Module],
    example: Tensor,
    way: str,
    *,
    threads: int,
    precision: str = "fp32",
    tolerance: float | None = None,
) -> tuple[dict[str, Callable[[], Tensor]], dict[str, str]]:
    """Passes of models over an example by one way, by name, each checked against PyTorch; and why others cannot run.

    Args:
        models: by name, in evaluation mode.
        example: what they are given.
        way: a name in ``PATHS``.
        threads: to compute with.
        precision: of the way.
        tolerance: of the check; by default that of the precision.
    """
    found: dict[str, Callable[[], Tensor]] = {}
    refused = {}
    for name, model in models.items():
        if precision == "int8":  # the time of integers does not depend on the ranges, so the example does for them
            try:
                model = quantize(model, [example], backend=suited_backend())
            except Unavailable as problem:
                refused[name] = str(problem)
                continue
        with torch.no_grad():
            expected = model(example)
        try:
            run = PATHS[way].build(model, example, threads, precision)
        except (Unavailable, ExportError, ValueError, TypeError) as problem:
            refused[name] = str(problem)
            continue
        error = stray(run(example), expected, precision)
        if not error <= (TOLERANCES[precision] if tolerance is None else tolerance):
            raise SystemExit(f"{name}, {label(way, precision)}: logits differ by {error:.1e} standard deviations")
        found[name] = partial(run, example)
    return found, refused


def three(found: Comparison, name: str, to: str) -> list[float]:
    """A paired ratio and the ends of its interval."""
    ratio = found.ratio(name, to)
    return [round(value, 4) for value in (ratio.median, ratio.low, ratio.high)]
