"""The study "kernels": two short trainings of chapter 11, the same seed under the kernels of several processors.

    python experiments/kernels.py

Sums of floats depend on the kernels that PyTorch picks for a processor, and a training makes much of a last bit. How
much is what this measures: each run differs from the others in its kernels alone, those of this machine and those that
``tools/portable.py`` makes it take. Runs are minutes long, so they are run one after the other. The result is
``book/_data/measured/kernels.json``, in the form of the other studies; ``kernels`` of what a run was made with names
them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))

from run import JOINED, ROOT, read_study, runs_of, train_one

RECIPE = "digitscenes"
ABOUT = (
    "How far two short trainings of chapter 11 go apart by the kernels alone, with the same seed: two epochs of the "
    "ablation's sgd, and the colours of ink, four epochs of 3,000 images. Other processors are emulated."
)
#: As this machine picks them, and as these settings of tools/portable.py do; with one thread the others repeat them.
USUAL, EMULATED = "own", ("sse", "avx2", "intel", "mixed-2")
#: As in chapter 11.
COLOURS = (
    "model.options.width_mult=0.35",
    "epochs=4",
    "schedule.warmup_epochs=1",
    "data.options.labels=colour",
    "data.options.difficulty=0",
    "data.options.size=3000",
    "data.options.eval_images=500",
)


def variants() -> dict[str, list[str]]:
    """What each training changes in the recipe."""
    sgd = next(assignments for variant, _, assignments in runs_of(read_study("ablation")) if variant == "sgd")
    return {"sgd": [*sgd, "epochs=2"], "colours": list(COLOURS)}


def run_one(variant: str) -> None:
    """Train in this process and print the result as JSON."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MNV3LIB_CACHE"] = folder
        print(json.dumps(train_one(RECIPE, variants()[variant], Path(folder) / "run", variant)))


def joined(results: list[tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    """Return all runs in the form of a study, each with the name of its kernels."""
    kept, shared = [], []
    for kernels, found in results:
        about = {key: found[key] for key in ("commit", "versions", "cpu", "threads")} | {"kernels": kernels}
        if about not in shared:
            shared.append(about)
        columns = {key: [round(row[key], 5) for row in found["rows"]] for key in found["rows"][0]}
        names = ("variant", "seed", "test", "best", "parameters", "macs", "seconds", "assignments")
        kept.append({**{key: found[key] for key in names}, "epochs": columns, "made": shared.index(about)})
    command = "python experiments/kernels.py"
    return {"about": ABOUT, "command": command, "recipe": RECIPE, "made": shared, "runs": kept}


def main() -> int:
    """Run all, one after the other, and store them."""
    from portable import prepared, threads
    from tqdm import tqdm

    commands = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands.add_argument("--one", choices=list(variants()), help="one run, in this process")
    options = commands.parse_args()
    if options.one:
        run_one(options.one)
        return 0
    results = []
    with tempfile.TemporaryDirectory() as folder:
        settings = {USUAL: threads(1), **prepared(EMULATED, Path(folder))}
        for variant in tqdm(variants(), unit="training"):
            for kernels, variables in settings.items():
                command = [sys.executable, __file__, "--one", variant]
                done = subprocess.run(
                    command, env={**os.environ, **variables}, capture_output=True, text=True, check=False
                )
                if done.returncode:
                    raise SystemExit(f"{variant} with the kernels {kernels} failed:\n{done.stderr}")
                results.append((kernels, json.loads(done.stdout.splitlines()[-1])))
    target = JOINED / "kernels.json"
    target.write_text(json.dumps(joined(results), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"Written: {target.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
