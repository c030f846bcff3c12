"""The study "quantization": DigitScenes' own network in 8 bits, after calibration and after training with rounding.

    python experiments/quantization.py

Calibrations take one of the formats of ``mnv3lib.deploy.quantization``; a seed is which validation images they see.
Training follows the recipe ``qat`` for fewer steps, so that three seeds take some ten minutes of a core. Every network
is measured twice on the test images: as the graph that PyTorch computes in float32, rounding where it says, and in ONNX
Runtime, which computes with integers. The result is ``book/_data/measured/quantization.json``, in the form of the other
studies. ``bytes`` of a run is the size of its ONNX file and ``bytes_of_notes`` what of it PyTorch's exporter notes
about the origin of each operation, which no engine needs; ``seconds`` is what calibration or the training steps took.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from run import JOINED, ROOT

RECIPE = "qat"
ABOUT = (
    "What digitscenes_small_050 keeps in 8 bits: after calibration on 256 validation images, others for each seed, in "
    "the formats of three backends; and after training with rounding by the recipe qat, shortened to two epochs of "
    "4,000 images, the ranges held in the second. Measured in PyTorch and, with integers, in ONNX Runtime."
)
SEEDS = (1, 2, 3)
FLOAT, TRAINED = "float32", "trained"
#: A scale for each channel and 8 bits for activations; the same with 7 bits; a scale for each layer and 8 bits.
BACKENDS = ("onednn", "fbgemm", "qnnpack")
CALIBRATION, BATCH = 256, 64
SHORTER = ("epochs=2", "quantisation.observer_epochs=1", "data.options.size=4000")


def plan() -> Iterator[tuple[str, int]]:
    """Variant and seed of every run; nothing about the network in float32 depends on a seed."""
    yield FLOAT, SEEDS[0]
    for seed in SEEDS:
        yield from ((variant, seed) for variant in (*BACKENDS, TRAINED))


def assignments(variant: str, seed: int) -> tuple[str, ...]:
    """What a run changes in the recipe."""
    changes = {FLOAT: (), TRAINED: SHORTER}
    return (*changes.get(variant, (f"quantisation.backend={variant}",)), f"seed={seed}")


@cache
def network() -> Any:
    """The network in float32."""
    from mnv3lib import weights
    from mnv3lib.recipe import load

    source = load(RECIPE).model.weights
    assert source is not None
    return weights.load_network(source).eval()


@cache
def images_of(split: str) -> Any:
    """Transformed images and their labels, made once."""
    import torch

    from mnv3lib.recipe import load
    from mnv3lib.training.evaluation import open_dataset

    data = open_dataset(load(RECIPE), split)
    images, labels = zip(*(data[number] for number in range(len(data))), strict=True)
    return torch.stack(images), torch.tensor(labels)


def calibrated(backend: str, seed: int) -> Any:
    """The network in 8 bits after calibration, on images that no other seed sees."""
    from mnv3lib.deploy import quantize

    images, _ = images_of("val")
    seen = images[CALIBRATION * SEEDS.index(seed) :][:CALIBRATION]
    return quantize(network(), seen.split(BATCH), backend=backend, observer="minmax")


def logits(run: Callable[[Any], Any]) -> Any:
    """Of the test images."""
    import torch

    images, _ = images_of("test")
    with torch.no_grad():
        return torch.cat([run(part) for part in images.split(BATCH)])


def tested(model: Any, precision: str) -> dict[str, Any]:
    """Top-1 in PyTorch and in ONNX Runtime, how far the logits of both differ, and the size of the ONNX file."""
    import onnx

    from mnv3lib.deploy.fastest import stray
    from mnv3lib.deploy.formats import FORMATS

    _, labels = images_of("test")
    form = FORMATS["onnx"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"model{form.suffix}")
        form.write(model, images_of("test")[0][:BATCH], path, precision, True)
        expected, found = logits(model), logits(form.read(path, 1, precision))
        size, graph = path.stat().st_size, onnx.load(path).graph
    notes = sum(note.ByteSize() for node in graph.node for note in node.metadata_props)
    right = {name: (out.argmax(1) == labels) for name, out in (("top1", expected), ("onnxruntime_top1", found))}
    measures = {name: which.double().mean().item() for name, which in right.items()}
    # The root of the mean square of the differences, in standard deviations of the logits.
    measures["onnxruntime_error"] = float(f"{stray(found, expected, 'int8'):.3g}")
    return {"test": measures, "bytes": size, "bytes_of_notes": notes}


def run_one(variant: str, seed: int) -> dict[str, Any]:
    """Make a network and measure it."""
    from mnv3lib import cost
    from mnv3lib.deploy import fold_batch_norm
    from mnv3lib.recipe import load, overridden
    from mnv3lib.training.run import train

    changes = assignments(variant, seed)
    recipe = overridden(load(RECIPE), changes)
    best: dict[str, Any] = {}
    columns: dict[str, list[float]] = {}
    began = time.perf_counter()
    if variant == FLOAT:
        model = fold_batch_norm(network())
    elif variant == TRAINED:
        result = train(recipe)
        model = result.model.quantized()
        best = {"which": result.which, "epoch": result.epoch, result.measure: result.best}
        columns = {key: [round(row[key], 5) for row in result.rows] for key in result.rows[0]}
    else:
        images_of("val")  # made before the clock runs
        began = time.perf_counter()
        model = calibrated(variant, seed)
    seconds = sum(columns["seconds"]) if columns else time.perf_counter() - began
    report = cost.profile(network().config, recipe.data.eval_size)
    return {
        "variant": variant,
        "seed": seed,
        **tested(model, "fp32" if variant == FLOAT else "int8"),
        "best": best,
        "parameters": report.parameters,
        "macs": report.macs,
        "seconds": round(seconds, 2),
        "assignments": list(changes),
        "epochs": columns,
        "made": 0,
    }


def main() -> int:
    """Run everything and store it."""
    import torch
    from tqdm import tqdm

    from mnv3lib.provenance import made
    from mnv3lib.training.memory import keep_freed_memory

    commands = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands.add_argument("--out", type=Path, default=JOINED / "quantization.json", help="file to write")
    options = commands.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    about = made(ROOT, threads=1, packages=("torchao", "onnx", "onnxruntime"))
    runs = []
    for variant, seed in (bar := tqdm(list(plan()), unit="run")):
        runs.append(run_one(variant, seed))
        bar.set_postfix_str(f"{variant} {runs[-1]['test']['top1']:.4f}")
    joined = {
        "about": ABOUT,
        "command": "python experiments/quantization.py",
        "recipe": RECIPE,
        "made": [about],
        "runs": runs,
    }
    options.out.parent.mkdir(exist_ok=True)
    options.out.write_text(json.dumps(joined, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"Written: {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
