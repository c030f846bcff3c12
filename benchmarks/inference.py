"""Time of one pass on a CPU: the ways of ``mnv3lib.deploy.paths``, in turns, and the floor of this processor.

    python benchmarks/inference.py

Ways whose package is not installed are left out and named. The numbers of one machine at one moment mean little; what
counts are the paired ratios, beside them how near a way comes to the floor in float32. Pinned to one core where the
system allows it and one thread is asked for.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import mnv3lib
from mnv3lib import MobileNetV3, cost
from mnv3lib._files import whole_file
from mnv3lib.deploy import Comparison, Unavailable, compare
from mnv3lib.deploy.fastest import TOLERANCES
from mnv3lib.deploy.paths import PATHS, label
from mnv3lib.deploy.roofline import floor, measure_ceilings
from mnv3lib.provenance import made

#: The engines of other projects, and ours.
OTHERS, OURS = ("ONNX Runtime", "OpenVINO", "ExecuTorch"), "engine"


def network(name: str) -> MobileNetV3:
    """With fresh weights, and statistics of batch norm away from where they start, so that folding shows."""
    torch.manual_seed(0)
    model: MobileNetV3 = getattr(mnv3lib, name)()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                for values, low, high in ((module.running_mean, -0.3, 0.3), (module.running_var, 0.5, 2.0)):
                    assert values is not None
                    values.uniform_(low, high)
            elif isinstance(module, nn.Linear):
                module.weight.normal_(0, 0.05)
    return model.eval()


def ways(
    model: nn.Module, images: Tensor, threads: int, wanted: Sequence[str]
) -> tuple[dict[str, Callable[[], Tensor]], dict[str, str]]:
    """What runs here and gives the model's logits, in every precision that it knows; and why the rest does not."""
    with torch.no_grad():
        expected = model(images)
    found: dict[str, Callable[[], Tensor]] = {}
    missing = {}
    for way in wanted:
        for precision in PATHS[way].precisions:
            name = label(way, precision)
            try:
                run = PATHS[way].build(model, images, threads, precision)
            except Unavailable as problem:
                missing[name] = str(problem)
                continue
            error = float((run(images) - expected).abs().max() / expected.std())
            if not error <= TOLERANCES[precision]:
                raise SystemExit(f"{name}: logits differ by {error:.1e} standard deviations")
            found[name] = partial(run, images)
    return found, missing


def lines(found: Comparison, least: float) -> list[dict[str, Any]]:
    """A line a way: ratios to PyTorch and to the best of the other engines, and the share of the floor."""
    made = []
    for name in found.seconds:
        line: dict[str, Any] = {"way": name, "milliseconds": round(found.median(name) * 1e3, 3)}
        line["ratio"] = _rounded(found, name, found.baseline)
        for precision in TOLERANCES:
            rivals = [label(other, precision) for other in OTHERS if label(other, precision) in found.seconds]
            if name == label(OURS, precision) and rivals:
                best = min(rivals, key=found.median)
                line["against"], line["ratio_to_it"] = best, _rounded(found, name, best)
        line["share_of_floor"] = round(least / found.median(name), 3)
        made.append(line)
    return made


def _rounded(found: Comparison, name: str, to: str) -> list[float]:
    ratio = found.ratio(name, to)
    return [round(value, 3) for value in (ratio.median, ratio.low, ratio.high)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure every network and batch, print tables and write the file."""
    commands = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands.add_argument("--rounds", type=int, default=25, help="five or more (default: 25)")
    commands.add_argument("--networks", nargs="+", default=["mobilenet_v3_small", "mobilenet_v3_large"])
    commands.add_argument("--sides", nargs="+", type=int, default=[224], help="of the images (default: 224)")
    commands.add_argument("--batches", nargs="+", type=int, default=[1], help="images at a time (default: 1)")
    commands.add_argument("--threads", type=int, default=1)
    commands.add_argument("--ways", nargs="+", choices=PATHS, default=list(PATHS), help="which (default: all)")
    commands.add_argument("--out", type=Path, default=Path(__file__).with_name("inference.json"))
    options = commands.parse_args(arguments)
    if options.threads == 1 and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    torch.set_num_threads(options.threads)
    about = made(Path(__file__).resolve().parent.parent, threads=options.threads)
    ceilings = measure_ceilings()
    print(f"{about['cpu']}: {ceilings}")
    results = []
    for name in options.networks:
        for side in options.sides:
            for batch in options.batches:
                model = network(name)
                images = torch.randn(batch, 3, side, side)
                runs, missing = ways(model, images, options.threads, options.ways)
                found = compare(runs, rounds=options.rounds, threads=options.threads, seconds=0.03)
                least = sum(one.seconds for one in floor(cost.profile(model.config, side), ceilings, batch=batch))
                print(f"\n{name}, {side} pixels, {batch} at a time; the floor is {least * 1e3:.3f} ms\n{found}")
                for way, why in missing.items():
                    print(f"left out: {way}: {why}")
                about_it = {"network": name, "side": side, "batch": batch, "floor_ms": round(least * 1e3, 4)}
                results.append(
                    {**about_it, "noise": round(found.noise, 3), "lines": lines(found, least), "missing": missing}
                )
    about = {**about, "rounds": options.rounds, "ceilings": asdict(ceilings), "results": results}
    with whole_file(options.out) as stream:
        stream.write((json.dumps(about, indent=1, ensure_ascii=False) + "\n").encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
