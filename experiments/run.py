"""Run a study: the same recipe with one thing changed at a time, several seeds each, every run in a file of its own.

    python experiments/run.py ablation --jobs 2
    python experiments/run.py widths --jobs 2
    python experiments/run.py widths --measure

A study is a YAML file beside this one: a recipe, what all runs change in it, the variants by name and the seeds. A run
that has a file is not run again, and one that was stopped goes on, so that a study can be interrupted at any time. When
all are there they are joined into ``book/_data/measured/STUDY.json``, which the book plots. ``--measure`` tests the
kept networks of finished runs again, for measures that this script did not take yet when they ran.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
RUNS = ROOT / "runs" / "experiments"
JOINED = ROOT / "book" / "_data" / "measured"
#: Degrees of the axes of hue that colours are reduced to.
AXES = range(0, 180, 30)


def read_study(name: str) -> dict[str, Any]:
    """The study of a name; its variants are lists of assignments, each added to those of the one it follows."""
    import yaml

    study = yaml.safe_load((HERE / f"{name}.yaml").read_text(encoding="utf-8"))
    wanted = {"about", "recipe", "common", "cumulative", "seeds", "variants"}
    if set(study) != wanted:
        raise ValueError(f"{name}.yaml must have {', '.join(sorted(wanted))}, got {', '.join(sorted(study))}")
    return study


def runs_of(study: dict[str, Any]) -> Iterator[tuple[str, int, list[str]]]:
    """Variant, seed and assignments of every run, one seed after the other: a part of a study says something, too."""
    for seed in study["seeds"]:
        so_far = list(study["common"])
        for variant, assignments in study["variants"].items():
            so_far = [*(so_far if study["cumulative"] else study["common"]), *assignments]
            yield variant, seed, [*so_far, f"seed={seed}"]


def changed(recipe: Any, model: Any, change: Any) -> float:
    """Top-1 on the test images, each changed before it is prepared for the network."""
    from torchvision.transforms import v2

    from mnv3lib.training.evaluation import evaluate, make_task, open_dataset

    images = open_dataset(recipe, "test")
    images.transform = v2.Compose([change, images.transform])
    return evaluate(recipe, model, images, task=make_task(recipe, images.num_classes))["top1"]


def in_grey(recipe: Any, model: Any) -> float:
    """Top-1 on the test images in shades of grey: what is left to a network if colours are taken from it."""
    from torchvision.transforms import v2

    return changed(recipe, model, v2.Grayscale(3))


def by_ink(recipe: Any, model: Any) -> dict[str, float]:
    """Top-1 on the test images of each colour of ink that there is."""
    from torch.utils.data import Subset

    from mnv3lib.data.render import COLOURS
    from mnv3lib.training.evaluation import evaluate, make_task, open_dataset

    images = open_dataset(recipe, "test")
    places: dict[str, list[int]] = {}
    for place in range(len(images)):
        places.setdefault(COLOURS[images.scene(place)["colours"][0]], []).append(place)
    task = make_task(recipe, images.num_classes)
    return {
        f"{ink}_top1": evaluate(recipe, model, Subset(images, places[ink]), task=task)["top1"]
        for ink in COLOURS
        if ink in places
    }


def along_hue(image: Any, degrees: float) -> Any:
    """An image whose colours keep their brightness, the mean of their channels, and their part along one axis of hue.

    The axis of 0 degrees goes from cyan through grey to red, that of 60 from blue to yellow, of 120 from magenta to
    green.
    """
    import torch
    from torchvision.tv_tensors import Image

    turns = torch.tensor([math.cos(math.radians(degrees - third)) for third in (0, 120, 240)])
    axis = (turns / turns.norm())[:, None, None]
    values = image.as_subclass(torch.Tensor).float()
    grey = values.mean(0, keepdim=True)
    kept = grey + axis * (axis * (values - grey)).sum(0, keepdim=True)
    return Image(kept.round().clamp(0, 255).to(torch.uint8))


def by_axis(recipe: Any, model: Any) -> dict[str, float]:
    """Top-1 on the test images with colours along one axis of hue only."""
    from torchvision.transforms import v2
    from torchvision.tv_tensors import Image

    return {
        f"axis_{degrees}_top1": changed(recipe, model, v2.Lambda(partial(along_hue, degrees=degrees), Image))
        for degrees in AXES
    }


def tested(recipe: Any, model: Any) -> dict[str, float]:
    """All measures on the test images."""
    from mnv3lib.training.evaluation import measure

    found = measure(recipe, model, "test") | {"grey_top1": in_grey(recipe, model)}
    return found | by_ink(recipe, model) | by_axis(recipe, model)


def train_one(recipe_name: str, assignments: list[str], folder: Path, variant: str) -> dict[str, Any]:
    """Train, measure on the test images, and say everything that a reader needs to do the same."""
    import torch

    from mnv3lib import cost
    from mnv3lib.provenance import made
    from mnv3lib.recipe import load, overridden
    from mnv3lib.training.memory import keep_freed_memory
    from mnv3lib.training.run import train

    torch.set_num_threads(1)
    keep_freed_memory()
    about = made(ROOT, threads=1)  # now: the commit may be another one at the end
    recipe = overridden(load(recipe_name), assignments)
    result = train(recipe, folder)
    found = tested(recipe, result.model)
    report = cost.profile(result.model.config, recipe.data.eval_size)
    return {
        "variant": variant,
        "seed": recipe.seed,
        "test": found,
        "best": {"which": result.which, "epoch": result.epoch, result.measure: result.best},
        "rows": result.rows,
        "parameters": report.parameters,
        "macs": report.macs,
        "seconds": round(sum(row["seconds"] for row in result.rows), 1),
        "assignments": assignments,
        "recipe": recipe.to_dict(),
        **about,
    }


def run_one(name: str, variant: str, seed: int) -> None:
    """One run, in this process; its file is written when all is done."""
    study = read_study(name)
    (assignments,) = [a for v, s, a in runs_of(study) if (v, s) == (variant, seed)]
    folder = RUNS / name / f"{variant}-{seed}"
    found = train_one(study["recipe"], assignments, folder, variant)
    write(found, folder)


def write(found: dict[str, Any], folder: Path) -> None:
    """Write the file of a run beside its folder, whole or not at all."""
    # Not with_suffix, which takes the ".25-1" of "small-0.25-1" for one.
    path, part = (folder.with_name(folder.name + ending) for ending in (".json", ".part"))
    part.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    part.replace(path)


def measure_again(name: str) -> None:
    """Test the networks that are kept of finished runs; what their files know already must come out the same."""
    import torch
    from tqdm import tqdm

    from mnv3lib import weights
    from mnv3lib.recipe import load, overridden

    torch.set_num_threads(1)
    study = read_study(name)
    folders = [(RUNS / name / f"{variant}-{seed}", assignments) for variant, seed, assignments in runs_of(study)]
    finished = [(folder, *rest) for folder, *rest in folders if folder.with_name(f"{folder.name}.json").exists()]
    there = [(folder, *rest) for folder, *rest in finished if (folder / "model.safetensors").exists()]
    if len(there) < len(finished):
        print(f"{len(finished) - len(there)} networks are not kept: what is known of them stays as it is")
    for folder, assignments in tqdm(there, unit="run"):
        found = json.loads(folder.with_name(f"{folder.name}.json").read_text(encoding="utf-8"))
        network = weights.load_network(folder / "model.safetensors")
        new = tested(overridden(load(study["recipe"]), assignments), network)
        if differing := sorted(key for key, value in found["test"].items() if new.get(key) != value):
            raise SystemExit(f"{folder} is no longer what was measured: {', '.join(differing)} differ")
        write({**found, "test": new}, folder)


def join(name: str) -> Path:
    """All runs of a study in one file, epochs as columns, what is the same everywhere said once."""
    study = read_study(name)
    kept, shared = [], {}
    for variant, seed, assignments in runs_of(study):
        path = RUNS / name / f"{variant}-{seed}.json"
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["assignments"] != assignments:
            raise SystemExit(f"{path} is from another study of this name: delete it and run again")
        columns = {key: [round(row[key], 5) for row in found["rows"]] for key in found["rows"][0]}
        about = {key: found[key] for key in ("commit", "versions", "cpu", "threads")}
        shared.setdefault(json.dumps(about, sort_keys=True), about)
        kept.append(
            {
                **{key: found[key] for key in ("variant", "seed", "test", "best", "parameters", "macs", "seconds")},
                "assignments": found["assignments"],
                "epochs": columns,
                "made": list(shared).index(json.dumps(about, sort_keys=True)),
            }
        )
    JOINED.mkdir(exist_ok=True)
    target = JOINED / f"{name}.json"
    joined = {
        "about": study["about"],
        "command": f"python experiments/run.py {name}",
        "recipe": study["recipe"],
        "made": list(shared.values()),
        "runs": kept,
    }
    target.write_text(json.dumps(joined, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return target


def all_done(scripts: Mapping[str, Sequence[str]], jobs: int) -> bool:
    """Run scripts, some at a time, with one thread each; whether all of them ended well.

    Args:
        scripts: what is said of one that fails, and its file and arguments.
        jobs: how many at a time.
    """
    from tqdm import tqdm

    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

    def start(what: str) -> tuple[str, str]:
        done = subprocess.run(
            [sys.executable, *scripts[what]], env=environment, capture_output=True, text=True, check=False
        )
        return what, done.stderr if done.returncode else ""

    failed = False
    with ThreadPoolExecutor(jobs) as pool, tqdm(total=len(scripts), unit="run") as bar:
        for future in as_completed([pool.submit(start, what) for what in scripts]):
            what, error = future.result()
            bar.update()
            if error:
                failed = True
                tqdm.write(f"{what} failed:\n{error}")
    return not failed


def main() -> int:
    """Run what is missing, several at a time, and join what is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", help="name of a YAML file in this folder")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, one thread each (default: 1)")
    parser.add_argument("--only", nargs=2, metavar=("VARIANT", "SEED"), help="one run, in this process")
    parser.add_argument("--measure", action="store_true", help="test the networks of finished runs again")
    options = parser.parse_args()
    if options.only:
        run_one(options.study, options.only[0], int(options.only[1]))
        return 0
    todo = [
        (variant, seed)
        for variant, seed, _ in runs_of(read_study(options.study))
        if not (RUNS / options.study / f"{variant}-{seed}.json").exists()
    ]
    if options.measure:
        measure_again(options.study)
        print(f"{len(todo)} runs are missing" if todo else f"Written: {join(options.study).relative_to(ROOT)}")
        return 0
    scripts = {
        f"{variant}, seed {seed}": [__file__, options.study, "--only", variant, str(seed)] for variant, seed in todo
    }
    if not all_done(scripts, options.jobs):
        return 1
    print(f"Written: {join(options.study).relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
