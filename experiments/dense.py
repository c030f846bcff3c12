"""The study "dense": segmentation and detection of the digits of DigitScenes, from scratch and from a classifier.

    python experiments/dense.py --jobs 2

LR-ASPP learns masks (recipe ``digitscenes-lraspp``) and SSDLite boxes (``digitscenes-ssdlite``), each once with fresh
weights and once with the backbone of ``digitscenes_small_050``, which has learnt single digits; three seeds each. A
seed decides the weights, the order and the images. The best weights by the validation images are measured on test
images. A run that has a file is not run again, and one that was stopped goes on; when all are there they are joined
into ``book/_data/measured/dense.json``, in the form of the other studies.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from run import JOINED, ROOT, RUNS, write

NAME = "dense"
ABOUT = (
    "LR-ASPP and SSDLite on MobileNetV3-Small at half width, trained on the masks and the boxes of DigitScenes, with "
    "fresh weights (scratch) and with the backbone of digitscenes_small_050 (classifier), from three seeds. Measured "
    "on test images: mean intersection over union and that of each class, and COCO's average precision."
)
SEEDS = (1, 2, 3)
RECIPES = {"lraspp": "digitscenes-lraspp", "ssdlite": "digitscenes-ssdlite"}
STARTS: dict[str, tuple[str, ...]] = {
    "scratch": ("model.options.weights_backbone=null", "model.options.reduced_tail=false"),
    "classifier": (),
}
#: Images that are tested on; those for choosing are as many as the recipe has.
TESTS = 1000


def runs() -> Iterator[tuple[str, str, int]]:
    """Network, start and seed of every run, one seed after the other: a part of a study says something, too."""
    return ((network, start, seed) for seed in SEEDS for network in RECIPES for start in STARTS)


def assignments(start: str, seed: int) -> list[str]:
    """What a run changes in its recipe."""
    return [*STARTS[start], f"data.options.seed={seed}", f"seed={seed}"]


def folder_of(network: str, start: str, seed: int) -> Path:
    """Where a run keeps its files; its result lies beside."""
    return RUNS / NAME / f"{network}-{start}-{seed}"


def tested(recipe: Any, model: Any) -> dict[str, float]:
    """All measures on test images; of a segmentation also of each class."""
    from mnv3lib.recipe import overridden
    from mnv3lib.tasks.metrics import IntersectionOverUnion
    from mnv3lib.training.evaluation import evaluate, make_task, open_dataset

    images = open_dataset(overridden(recipe, [f"data.options.eval_images={TESTS}", "data.options.seed=0"]), "test")
    task = make_task(recipe, images.num_classes)
    metric = task.metric()
    found = evaluate(recipe, model, images, task=task, metric=metric)
    if isinstance(metric, IntersectionOverUnion):
        found |= {f"{name}_iou": float(iou) for name, iou in zip(images.classes, metric.of_classes(), strict=True)}
    return {name: round(value, 5) for name, value in found.items()}


def run_one(network: str, start: str, seed: int) -> None:
    """One run, in this process; its file is written when all is done."""
    import torch

    from mnv3lib import cost
    from mnv3lib.provenance import made
    from mnv3lib.recipe import load, overridden
    from mnv3lib.training.memory import keep_freed_memory
    from mnv3lib.training.run import train

    torch.set_num_threads(1)
    keep_freed_memory()
    about, changes = made(ROOT, threads=1, packages=["pycocotools"]), assignments(start, seed)
    recipe = overridden(load(RECIPES[network]), changes)
    folder = folder_of(network, start, seed)
    result = train(recipe, folder)
    report = cost.profile(result.model.config, recipe.data.eval_size)
    found = {
        "variant": f"{network}/{start}",
        "seed": seed,
        "test": tested(recipe, result.model),
        "best": {"which": result.which, "epoch": result.epoch, result.measure: round(result.best, 5)},
        "parameters": report.parameters,
        "macs": report.macs,
        "seconds": round(sum(row["seconds"] for row in result.rows), 1),
        "assignments": changes,
        "epochs": {key: [round(row[key], 5) for row in result.rows] for key in result.rows[0]},
        **about,
    }
    write(found, folder)


def join() -> Path:
    """All runs in one file, what is the same everywhere said once."""
    kept: list[dict[str, Any]] = []
    shared: list[dict[str, Any]] = []
    for network, start, seed in runs():
        folder = folder_of(network, start, seed)
        found = json.loads(folder.with_name(f"{folder.name}.json").read_text(encoding="utf-8"))
        if found["assignments"] != assignments(start, seed):
            raise SystemExit(f"{folder}.json is from another study of this name: delete it and run again")
        about = {key: found.pop(key) for key in ("commit", "versions", "cpu", "threads")}
        if about not in shared:
            shared.append(about)
        kept.append({**found, "made": shared.index(about)})
    joined = {
        "about": ABOUT,
        "command": "python experiments/dense.py",
        "recipe": ", ".join(RECIPES.values()),
        "made": shared,
        "runs": kept,
    }
    JOINED.mkdir(exist_ok=True)
    target = JOINED / f"{NAME}.json"
    target.write_text(json.dumps(joined, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return target


def main() -> int:
    """Run what is missing, several at a time, and join what is there."""
    from tqdm import tqdm

    commands = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands.add_argument("--jobs", type=int, default=1, help="runs at a time, one thread each (default: 1)")
    commands.add_argument("--only", nargs=3, metavar=("NETWORK", "START", "SEED"), help="one run, in this process")
    options = commands.parse_args()
    if options.only:
        network, start, seed = options.only
        run_one(network, start, int(seed))
        return 0
    todo = []
    for one in runs():
        folder = folder_of(*one)
        if not folder.with_name(f"{folder.name}.json").exists():
            todo.append(one)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

    def start_one(*one: Any) -> tuple[str, str]:
        command = [sys.executable, __file__, "--only", *map(str, one)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        return " ".join(map(str, one)), done.stderr if done.returncode else ""

    failed = 0
    with ThreadPoolExecutor(options.jobs) as pool, tqdm(total=len(todo), unit="run") as bar:
        for future in as_completed([pool.submit(start_one, *one) for one in todo]):
            what, error = future.result()
            bar.update()
            if error:
                failed += 1
                tqdm.write(f"{what} failed:\n{error}")
    if failed:
        return 1
    print(f"Written: {join().relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
