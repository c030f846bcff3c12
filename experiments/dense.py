"""The study "dense": segmentation and detection of the digits of DigitScenes, one thing changed at a time.

    python experiments/dense.py --jobs 2

LR-ASPP learns masks (recipe ``digitscenes-lraspp``) and SSDLite boxes (``digitscenes-ssdlite``), from three seeds:
with fresh weights, and with the backbone of ``digitscenes_small_050``, which has learnt single digits; LR-ASPP also
with a halved last stage, with the paper's dilation policy, and without dilation. A seed decides the weights, the order
and the images. The best weights by the validation images are measured on test images. A run that has a file is not run
again, and one that was stopped goes on; when all are there they are joined into ``book/_data/measured/dense.json``, in
the form of the other studies.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from run import JOINED, ROOT, RUNS, all_done, write

NAME = "dense"
ABOUT = (
    "LR-ASPP and SSDLite on MobileNetV3-Small at half width, trained on the masks and the boxes of DigitScenes, with "
    "fresh weights (scratch) and with the backbone of digitscenes_small_050 (classifier), from three seeds. LR-ASPP "
    "also with a halved last stage (reduced-tail, from fresh weights), and from the classifier with the paper's "
    "dilation policy (paper-dilation) and without dilation (stride-32). Measured on test images: mean intersection "
    "over union and that of each class, and COCO's average precision."
)
SEEDS = (1, 2, 3)
RECIPES = {"lraspp": "digitscenes-lraspp", "ssdlite": "digitscenes-ssdlite"}
_FRESH = "model.options.weights_backbone=null"
#: What each variant, a network and a name, changes in the network's recipe.
VARIANTS: dict[str, tuple[str, ...]] = {
    "lraspp/scratch": (_FRESH, "model.options.reduced_tail=false"),
    "lraspp/reduced-tail": (_FRESH, "model.options.reduced_tail=true"),
    "lraspp/classifier": (),
    "lraspp/paper-dilation": ("model.options.dilation_policy=paper",),
    "lraspp/stride-32": ("model.options.dilated=false",),
    "ssdlite/scratch": (_FRESH, "model.options.reduced_tail=false"),
    "ssdlite/classifier": (),
}
#: Images that are tested on; those for choosing are as many as the recipe has.
TESTS = 1000


def runs() -> Iterator[tuple[str, int]]:
    """Variant and seed of every run, one seed after the other: a part of a study says something, too."""
    return ((variant, seed) for seed in SEEDS for variant in VARIANTS)


def assignments(variant: str, seed: int) -> list[str]:
    """What a run changes in its recipe."""
    return [*VARIANTS[variant], f"data.options.seed={seed}", f"seed={seed}"]


def recipe_of(variant: str, seed: int) -> Any:
    """The recipe of a run."""
    from mnv3lib.recipe import load, overridden

    return overridden(load(RECIPES[variant.split("/")[0]]), assignments(variant, seed))


def folder_of(variant: str, seed: int) -> Path:
    """Where a run keeps its files; its result lies beside."""
    return RUNS / NAME / f"{variant.replace('/', '-')}-{seed}"


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


def run_one(variant: str, seed: int) -> None:
    """One run, in this process; its file is written when all is done."""
    import torch

    from mnv3lib import cost
    from mnv3lib.provenance import made
    from mnv3lib.training.memory import keep_freed_memory
    from mnv3lib.training.run import train

    torch.set_num_threads(1)
    keep_freed_memory()
    about = made(ROOT, threads=1, packages=["pycocotools"])
    recipe, folder = recipe_of(variant, seed), folder_of(variant, seed)
    result = train(recipe, folder)
    report = cost.profile(result.model.config, recipe.data.eval_size)
    found = {
        "variant": variant,
        "seed": seed,
        "test": tested(recipe, result.model),
        "best": {"which": result.which, "epoch": result.epoch, result.measure: round(result.best, 5)},
        "parameters": report.parameters,
        "macs": report.macs,
        "seconds": round(sum(row["seconds"] for row in result.rows), 1),
        "assignments": assignments(variant, seed),
        "epochs": {key: [round(row[key], 5) for row in result.rows] for key in result.rows[0]},
        **about,
    }
    write(found, folder)


def join() -> Path:
    """All runs in one file, what is the same everywhere said once."""
    kept: list[dict[str, Any]] = []
    shared: list[dict[str, Any]] = []
    for variant, seed in runs():
        folder = folder_of(variant, seed)
        found = json.loads(folder.with_name(f"{folder.name}.json").read_text(encoding="utf-8"))
        if found["assignments"] != assignments(variant, seed):
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, one thread each (default: 1)")
    parser.add_argument("--only", nargs=2, metavar=("VARIANT", "SEED"), help="one run, in this process")
    options = parser.parse_args()
    if options.only:
        run_one(options.only[0], int(options.only[1]))
        return 0
    scripts = {}
    for variant, seed in runs():
        folder = folder_of(variant, seed)
        if not folder.with_name(f"{folder.name}.json").exists():
            scripts[f"{variant}, seed {seed}"] = [__file__, "--only", variant, str(seed)]
    if not all_done(scripts, options.jobs):
        return 1
    print(f"Written: {join().relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
