"""Time of one pass on a CPU: the ways of ``mnv3lib.deploy.paths``, in turns, and the floor of this processor.

    python benchmarks/inference.py

Ways whose package is not installed are left out and named. The numbers of one machine at one moment mean little; what
counts are the paired ratios, beside them how near a way comes to the floor in float32. Pinned to one core where the
system allows it and one thread is asked for.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from measuring import arguments, images, runs, shaken, start, three, write
from torch import Tensor

import mnv3lib
from mnv3lib import MobileNetV3, cost
from mnv3lib.deploy import Comparison, compare
from mnv3lib.deploy.fastest import TOLERANCES
from mnv3lib.deploy.paths import PATHS, label
from mnv3lib.deploy.roofline import floor, measure_ceilings

#: The engines of other projects, and ours.
OTHERS, OURS = ("ONNX Runtime", "OpenVINO", "ExecuTorch"), "engine"


def lines(found: Comparison, least: float | None) -> list[dict[str, Any]]:
    """A line a way: ratios to PyTorch and to the best of the other engines, and the share of the floor, if known."""
    made = []
    for name in found.seconds:
        line: dict[str, Any] = {"way": name, "milliseconds": round(found.median(name) * 1e3, 3)}
        line["ratio"] = three(found, name, found.baseline)
        for precision in TOLERANCES:
            rivals = [label(other, precision) for other in OTHERS if label(other, precision) in found.seconds]
            if name == label(OURS, precision) and rivals:
                best = min(rivals, key=found.median)
                line["against"], line["ratio_to_it"] = best, three(found, name, best)
        if least is not None:
            line["share_of_floor"] = round(least / found.median(name), 3)
        made.append(line)
    return made


def main(given: Sequence[str] | None = None) -> int:
    """Measure every network and batch, print tables and write the file."""
    commands = arguments(__doc__, rounds=25)
    commands.add_argument("--networks", nargs="+", default=["mobilenet_v3_small", "mobilenet_v3_large"])
    commands.add_argument("--sides", nargs="+", type=int, default=[224], help="of the images (default: 224)")
    commands.add_argument("--batches", nargs="+", type=int, default=[1], help="images at a time (default: 1)")
    options = commands.parse_args(given)
    about = start(options.threads, keep_memory=False)
    ceilings = measure_ceilings() if options.threads == 1 else None  # they are those of one core
    print(f"{about['cpu']}: {ceilings or f'{options.threads} threads'}")
    results = []
    for name in options.networks:
        for side in options.sides:
            for batch in options.batches:
                build: Callable[[], MobileNetV3] = getattr(mnv3lib, name)
                model = shaken(build())
                example = images(batch, side)
                passes: dict[str, Callable[[], Tensor]] = {}
                missing: dict[str, str] = {}
                for way in options.ways or PATHS:
                    for precision in PATHS[way].precisions:
                        called = label(way, precision)
                        ran, refused = runs({called: model}, example, way, threads=options.threads, precision=precision)
                        passes |= ran
                        missing |= refused
                found = compare(passes, rounds=options.rounds, threads=options.threads, seconds=0.03)
                print(f"\n{name}, {side} pixels, {batch} at a time\n{found}")
                about_it: dict[str, Any] = {"network": name, "side": side, "batch": batch}
                least = None
                if ceilings:
                    least = sum(one.seconds for one in floor(cost.profile(model.config, side), ceilings, batch=batch))
                    about_it["floor_ms"] = round(least * 1e3, 4)
                    print(f"the floor is {least * 1e3:.3f} ms")
                for way, why in missing.items():
                    print(f"left out: {way}: {why}")
                results.append(
                    {**about_it, "noise": round(found.noise, 3), "lines": lines(found, least), "missing": missing}
                )
    written = {**about, "rounds": options.rounds, "results": results}
    if ceilings:
        written["ceilings"] = asdict(ceilings)
    name = "inference" if options.threads == 1 else f"inference-{options.threads}-threads"
    print(write(name, options.out, written))
    return 0


if __name__ == "__main__":
    sys.exit(main())
