"""Time against multiply-adds: MobileNetV3 at several widths, and the networks of other papers.

    python benchmarks/families.py

All networks of a way take turns; what counts are their ratios to MobileNetV3-Large within a round.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import torchvision
from measuring import arguments, images, multiply_adds, runs, shaken, start, three, write
from torch import nn

import mnv3lib
from mnv3lib.deploy import compare

#: torchvision's builders of other families, and the weights whose published top-1 belongs to them.
OTHERS = {
    "alexnet": "IMAGENET1K_V1",
    "squeezenet1_1": "IMAGENET1K_V1",
    "resnet18": "IMAGENET1K_V1",
    "mobilenet_v2": "IMAGENET1K_V1",
    "shufflenet_v2_x0_5": "IMAGENET1K_V1",
    "shufflenet_v2_x1_0": "IMAGENET1K_V1",
    "mnasnet0_5": "IMAGENET1K_V1",
    "mnasnet1_0": "IMAGENET1K_V1",
    "efficientnet_b0": "IMAGENET1K_V1",
    "regnet_y_400mf": "IMAGENET1K_V1",
}
OURS, WIDTHS = ("large", "small"), (0.25, 0.35, 0.5, 0.75, 1.0, 1.25)
BASELINE = "mobilenet_v3_large"
#: Two whose order by time is not that by multiply-adds, so that their ratio is of interest by itself.
PAIR = ("shufflenet_v2_x0_5", "mobilenet_v3_small")
WAYS = ("PyTorch", "ONNX Runtime", "OpenVINO", "engine")


def networks() -> dict[str, nn.Module]:
    """By the name of their builder; ours with the width where it is not 1."""
    found: dict[str, nn.Module] = {}
    for size in OURS:
        for width in WIDTHS:
            name = f"mobilenet_v3_{size}"
            found[name if width == 1 else f"{name} ×{width:g}"] = getattr(mnv3lib, name)(width_mult=width)
    for name in OTHERS:
        found[name] = torchvision.models.get_model(name, weights=None)
    return {name: shaken(model) for name, model in found.items()}


def about(name: str, model: nn.Module, side: int) -> dict[str, Any]:
    """Multiply-adds, parameters, and top-1 where torchvision publishes it."""
    line: dict[str, Any] = {"network": name, "macs": multiply_adds(model, side)}
    line["parameters"] = sum(parameter.numel() for parameter in model.parameters())
    if name in (*OTHERS, *(f"mobilenet_v3_{size}" for size in OURS)):
        weights = torchvision.models.get_model_weights(name)[OTHERS.get(name, "IMAGENET1K_V1")]
        line["top1"] = weights.meta["_metrics"]["ImageNet-1K"]["acc@1"]
    return line


def main(given: Sequence[str] | None = None) -> int:
    """Measure and write the file."""
    commands = arguments(__doc__, rounds=15)
    commands.add_argument("--side", type=int, default=224, help="of the images (default: 224)")
    commands.add_argument("--batches", nargs="+", type=int, default=[1, 8], help="images at a time (default: 1 8)")
    options = commands.parse_args(given)
    begun = start(options.threads, keep_memory=True)
    models = networks()
    described = [about(name, model, options.side) for name, model in models.items()]
    results = []
    for batch in options.batches:
        for way in options.ways or WAYS:
            passes, refused = runs(models, images(batch, options.side), way, threads=options.threads)
            found = compare(passes, baseline=BASELINE, rounds=options.rounds, threads=options.threads)
            print(f"\n{way}, {batch} at a time\n{found}", flush=True)
            lines = [
                {"network": name, "milliseconds": round(found.median(name) * 1e3, 4),
                 "ratio": three(found, name, BASELINE)}
                for name in passes
            ]  # fmt: skip
            result = {"way": way, "batch": batch, "noise": round(found.noise, 4), "lines": lines, "refused": refused}
            if set(PAIR) <= set(passes):
                result["pair"] = {"network": PAIR[0], "to": PAIR[1], "ratio": three(found, *PAIR)}
            results.append(result)
    made = {**begun, "rounds": options.rounds, "side": options.side, "baseline": BASELINE}
    print(write("families", options.out, {**made, "networks": described, "results": results}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
