"""How well a latency table predicts whole networks, and how well multiply-adds alone do.

    python benchmarks/predictor.py

Every part of a grid of widths and resolutions is measured once in PyTorch, then the networks of the grid as wholes, and
beside them some whose widths are not in the grid but whose parts are.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from measuring import arguments, images, shaken, start, write
from torch import Tensor, nn, no_grad

from mnv3lib import MobileNetV3, cost
from mnv3lib.config import VARIANTS, MobileNetV3Config
from mnv3lib.deploy import compare
from mnv3lib.deploy.table import parts, passes, tabulated

WIDTHS, SIDES = (0.35, 0.5, 0.75, 1.0, 1.25), (128, 160, 192, 224)


def grid() -> dict[str, tuple[MobileNetV3Config, int]]:
    """Configurations and resolutions by name."""
    return {
        f"{size} ×{width:g}, {side} px": (VARIANTS[size].config(width_mult=width), side)
        for size in ("large", "small")
        for width in WIDTHS
        for side in SIDES
    }


def mixed(number: int, seed: int = 0) -> dict[str, tuple[MobileNetV3Config, int]]:
    """Networks that are none of the grid's, made of its parts: rows that may be left out are left out at random."""
    draw, found = random.Random(seed), {}
    for name, (config, side) in draw.sample(list(grid().items()), number):
        kept = [row for row in config.rows if not row.use_shortcut or draw.random() < 0.5]
        found[f"{name}, {len(config.rows) - len(kept)} rows less"] = (replace(config, rows=tuple(kept)), side)
    return found


def main(given: Sequence[str] | None = None) -> int:
    """Measure and write the file."""
    commands = arguments(__doc__, rounds=25)
    options = commands.parse_args(given)
    begun = start(options.threads, keep_memory=True)
    networks = {**grid(), **mixed(10)}
    wanted = list(dict.fromkeys(part for config, side in networks.values() for part in parts(config, side)))
    pieces = passes(wanted)
    wholes = {
        name: partial(_once, shaken(MobileNetV3(config)), images(1, side)) for name, (config, side) in networks.items()
    }
    # Parts and wholes take turns, so that both see the machine in the same moods.
    found = compare(
        {**pieces, **wholes},
        baseline=next(iter(wholes)),
        rounds=options.rounds,
        cold=True,
        before={name: run.write for name, run in pieces.items()},
        threads=options.threads,
    )
    table = tabulated(found, wanted)
    lines: list[dict[str, Any]] = []
    for name, (config, side) in networks.items():
        lines.append(
            {"network": name, "macs": cost.profile(config, side).macs,
             "milliseconds": round(found.median(name) * 1e3, 4),
             "predicted": round(table.predict(config, side) * 1e3, 4)}
        )  # fmt: skip
        print(lines[-1])
    print(f"{len(table.seconds)} parts")
    print(write("predictor", options.out, {**begun, "rounds": options.rounds, "way": "PyTorch",
                "parts": len(table.seconds), "noise": round(found.noise, 4), "lines": lines}))  # fmt: skip
    return 0


def _once(model: nn.Module, example: Tensor) -> Tensor:
    with no_grad():
        return model(example)


if __name__ == "__main__":
    sys.exit(main())
