"""From naive loops to the engine's kernels: time of each step of chapter 18, over the floor of this processor.

    python benchmarks/kernel_steps.py

Two layers of MobileNetV3-Large, each with its activation: the steps and PyTorch take turns. Beside them stand the naive
loops as compilers make them with other options.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from measuring import arguments, start, three, write

from mnv3lib import cost
from mnv3lib.config import large
from mnv3lib.deploy import compare
from mnv3lib.deploy.roofline import floor, measure_ceilings

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "book"))
from figures import kernel_steps as steps

#: Options of the compiler; the last one may also add in another order, which C++ forbids otherwise.
OPTIONS = {
    "-O1": ("-O1",),
    "-O3": ("-O3",),
    "-O3 -march=native": ("-O3", "-march=native"),
    "-O3 -march=native, sums in any order": ("-O3", "-march=native", "-fassociative-math", "-fno-signed-zeros"),
}
BASELINE = "PyTorch"
#: How far a step may be from PyTorch: sums of 80 products in another order, of values around 1.
TOLERANCE = 1e-4


def main(given: Sequence[str] | None = None) -> int:
    """Measure and write the file."""
    options = arguments(__doc__, rounds=25).parse_args(given)
    begun = start(options.threads, keep_memory=True)
    ceilings = measure_ceilings()
    print(f"{begun['cpu']}: {ceilings}")
    least = {one.layer.name: one for one in floor(cost.profile(large(), 224), ceilings)}
    results = []
    for layer, make in zip(steps.layers(), (steps.pointwise, steps.depthwise), strict=True):
        given_to_all = steps.operands(layer)
        kernels: dict[str, steps.Kernel] = dict(make(*given_to_all))
        if make is steps.pointwise:
            for name, flags in OPTIONS.items():
                code = steps.compiled(f'extern "C" {steps.source("naive")}', *flags)
                kernels[name] = steps.pointwise(*given_to_all, code)["naive"]
        expected = steps.expected(layer, *given_to_all)
        for name, kernel in kernels.items():
            error = float((kernel.result - expected).abs().max())
            if not error <= TOLERANCE:
                raise SystemExit(f"{name}: off by {error:.1e}")
        candidates: dict[str, Callable[[], Any]] = {BASELINE: partial(steps.expected, layer, *given_to_all), **kernels}
        found = compare(candidates, rounds=options.rounds, threads=options.threads)
        bound = least[layer.name]
        print(f"\n{layer.name}; the floor is {bound.seconds * 1e3:.4f} ms\n{found}", flush=True)
        lines = [
            {"step": name, "milliseconds": round(found.median(name) * 1e3, 5), "ratio": three(found, name, BASELINE),
             "share_of_floor": round(bound.seconds / found.median(name), 4)}
            for name in candidates
        ]  # fmt: skip
        results.append(
            {"layer": layer.name, "kind": layer.kind, "macs": layer.macs, "floor_ms": round(bound.seconds * 1e3, 5),
             "traffic_ms": round(bound.traffic * 1e3, 5), "noise": round(found.noise, 4), "lines": lines}
        )  # fmt: skip
    made = {**begun, "rounds": options.rounds, "lanes": steps.compiled().lanes(), "ceilings": asdict(ceilings)}
    print(write("steps", options.out, {**made, "results": results}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
