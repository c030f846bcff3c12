"""The study "transfer": DigitScenes' own network learns two new tasks from few images, by several strategies.

    python experiments/transfer.py

Runs are short, so that all of them share this process. Everyone takes as many steps, and the last weights are
measured: who has 50 labels has none to spare for choosing. The learning rates from scratch and of all weights are
chosen once for each task, by runs from a seed of their own, at 300 images and on validation images. A run whose loss
becomes infinite counts as never right, in the choice and in the study. The result is
``book/_data/measured/transfer.json``, in the form of the other studies; the runs that chose are in it, too.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from run import JOINED, ROOT

from mnv3lib.provenance import made

SOURCE = "shipped:digitscenes_small_050"
ABOUT = (
    "What the weights of digitscenes_small_050 are worth for two new tasks: the digits with all colours turned by 180 "
    "degrees, and the colour of the ink. Strategies: from scratch, with the trunk frozen, with batch norm frozen, all "
    "weights, and all weights with a tenth of the learning rate in the trunk (graded); longer: three times the steps. "
    "Without a choice of its own, frozen takes 0.1, frozen batch norm the rate of all weights, graded three times that."
)
RECIPE = "digitscenes"
CHOOSER, SEEDS = 100, (1, 2, 3)
IMAGES, STEPS, BATCH = (50, 100, 300, 1000), 60, 50
MIDDLE = 300
RATES = (0.03, 0.1, 0.3, 1.0, 3.0)
CHOOSING = [(task, strategy) for task in ("turned", "colour") for strategy in ("scratch", "all")]
#: Images that are measured on; those for choosing are half as many.
TESTS = 1000

COMMON = (
    "model.options.width_mult=0.5",
    "optimiser.name=sgd",
    "optimiser.nesterov=true",
    f"batch_size={BATCH}",
    "augment.crop_scale=null",
    "averaging.ema_decay=0",
    "data.options.cache=false",
    f"data.options.eval_images={TESTS}",
)
TASKS = {"turned": ("data.options.hue=180",), "colour": ("data.options.labels=colour",)}
STRATEGIES = {
    "scratch": (),
    "frozen": (f"model.weights={SOURCE}", "model.freeze=backbone"),
    "norm": (f"model.weights={SOURCE}", "model.freeze=norm"),
    "all": (f"model.weights={SOURCE}",),
    "graded": (f"model.weights={SOURCE}", "optimiser.lr_factors={features: 0.1}"),
}
#: What is run at every number of images, what at 300 alone, and what for three times as long.
CURVES, POINTS = ("scratch", "frozen", "all"), (("turned", "norm"), ("turned", "graded"))
LONGER = (("turned", "scratch", 1000), ("colour", "scratch", MIDDLE), ("colour", "all", MIDDLE))


def plan() -> list[tuple[str, str, int, int]]:
    """Task, strategy, number of images and factor on the steps of all runs from one seed."""
    parts = [(task, curve, images, 1) for task in TASKS for curve in CURVES for images in IMAGES]
    return [*parts, *((*point, MIDDLE, 1) for point in POINTS), *((*what, 3) for what in LONGER)]


def best_rates(tried: dict[tuple[str, str, float], float]) -> dict[tuple[str, str], float]:
    """The learning rate of each task and strategy, from accuracies by both and rate; of equals the lowest."""
    found = {pair: max(RATES, key=lambda rate: tried[*pair, rate]) for pair in CHOOSING}
    for task in TASKS:
        of_all = found[task, "all"]
        found |= {(task, "frozen"): 0.1, (task, "norm"): of_all, (task, "graded"): round(3 * of_all, 2)}
    return found


def assignments(task: str, strategy: str, images: int, rate: float, seed: int, longer: int = 1) -> tuple[str, ...]:
    """What a run changes in the recipe; a seed decides its weights, their order and the images it learns from."""
    epochs = longer * STEPS * BATCH // images
    return (
        *COMMON,
        *TASKS[task],
        *STRATEGIES[strategy],
        f"data.options.size={images}",
        f"data.options.seed={seed}",
        f"epochs={epochs}",
        f"schedule.warmup_epochs={epochs / 10:g}",
        f"optimiser.lr={rate:g}",
        f"seed={seed}",
    )


@cache
def images_of(split: str, task: str, size: int, seed: int) -> Any:
    """Transformed images, made once; nothing is random about them without augmentation."""
    from mnv3lib.recipe import load, overridden
    from mnv3lib.training.evaluation import open_dataset

    changes = [*COMMON, *TASKS[task], f"data.options.size={size}", f"data.options.seed={seed}"]
    if split != "train":
        changes.append(f"data.options.eval_images={size}")
    data = open_dataset(overridden(load(RECIPE), changes), split)
    return Kept([data[place] for place in range(size)], data.num_classes)


class Kept(list):  # type: ignore[type-arg]
    """Images and targets in memory."""

    def __init__(self, samples: Any, num_classes: int) -> None:
        super().__init__(samples)
        self.num_classes = num_classes


def run_one(task: str, strategy: str, images: int, rate: float, seed: int, longer: int = 1) -> dict[str, Any]:
    """Train and measure once; on validation images from the seed that chooses, on test images from all others."""
    from mnv3lib import cost
    from mnv3lib.recipe import load, overridden
    from mnv3lib.training.errors import NotFinite
    from mnv3lib.training.evaluation import evaluate, make_task
    from mnv3lib.training.loop import Training

    changes = assignments(task, strategy, images, rate, seed, longer)
    recipe = overridden(load(RECIPE), changes)
    train_set = images_of("train", task, images, seed)
    tests = images_of("val", task, TESTS // 2, 0) if seed == CHOOSER else images_of("test", task, TESTS, 0)
    began = time.process_time()
    training = Training(recipe, train_set, tests, classes=train_set.num_classes)
    losses, diverged = [], False
    while not training.complete and not diverged:
        for _ in range(training.order.steps):
            training.advance()
        try:
            losses.append(fmean(done.loss for done in training.flush(force=True)))
        except NotFinite:
            diverged = True
        training.next_epoch()
    seconds = time.process_time() - began
    found = {"top1": 0.0} if diverged else training.evaluate(training.model)
    if task == "turned" and images == MIDDLE and longer == 1 and seed != CHOOSER and not diverged:
        # The plain digits with the same classes: what is left of the old task.
        plain = overridden(recipe, ["data.options.hue=0"])
        old = evaluate(plain, training.model, plain_digits(), task=make_task(plain, 10))
        found = {**found, "old_top1": old["top1"]}
    report = cost.profile(training.model.config, recipe.data.eval_size)
    return {
        "variant": f"{task}/{strategy}/{images}" + "/longer" * (longer > 1),
        "seed": seed,
        "test": {name: round(value, 5) for name, value in found.items()},
        "best": {"which": "last", "epoch": recipe.epochs},
        "parameters": report.parameters,
        "macs": report.macs,
        "seconds": round(seconds, 2),
        "assignments": list(changes),
        "epochs": {"epoch": [recipe.epochs], "train_loss": [None if diverged else round(losses[-1], 5)]},
        "made": 0,
    }


@cache
def plain_digits() -> Any:
    """Test images of the old task."""
    from mnv3lib.recipe import load, overridden
    from mnv3lib.training.evaluation import open_dataset

    data = open_dataset(overridden(load(RECIPE), COMMON), "test")
    return Kept([data[place] for place in range(TESTS)], data.num_classes)


def main() -> int:
    """Choose the learning rates, then run everything."""
    import torch
    from tqdm import tqdm

    from mnv3lib.training.memory import keep_freed_memory

    commands = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands.add_argument("--out", type=Path, default=JOINED / "transfer.json", help="file to write")
    options = commands.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    about = made(ROOT, threads=1)
    parts = plan()
    with tqdm(total=len(CHOOSING) * len(RATES) + len(parts) * len(SEEDS), unit="run") as bar:

        def run(*what: Any) -> dict[str, Any]:
            found = run_one(*what)
            bar.set_postfix_str(f"{found['variant']} {found['test']['top1']:.3f}")
            bar.update()
            return found

        tried = {(*pair, rate): run(*pair, MIDDLE, rate, CHOOSER) for pair in CHOOSING for rate in RATES}
        chosen = best_rates({what: found["test"]["top1"] for what, found in tried.items()})
        runs = [
            run(task, strategy, images, chosen[task, strategy], seed, longer)
            for seed in SEEDS
            for task, strategy, images, longer in parts
        ]
    scan = [
        {"task": task, "strategy": strategy, "rate": rate, "top1": found["test"]["top1"]}
        for (task, strategy, rate), found in tried.items()
    ]
    joined = {
        "about": ABOUT,
        "command": "python experiments/transfer.py",
        "recipe": RECIPE,
        "made": [about],
        "rates": {"images": MIDDLE, "seed": CHOOSER, "steps": STEPS, "tried": scan},
        "runs": runs,
    }
    options.out.parent.mkdir(exist_ok=True)
    options.out.write_text(json.dumps(joined, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"Written: {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
