"""Images per second in training: this library's loop against torchvision's network in it, and against a plain loop.

    make bench

Speeds of one machine at one moment mean little, ratios in one run do. So all candidates live in one process and take
turns, a few steps each, many rounds; what counts is the ratio within a round, its median and its spread. The plain loop
is what one writes first: torchvision's network, PyTorch's RMSprop, images as they come. This library's command line
keeps the memory that a step gives back (:mod:`mnv3lib.training.memory`), and so do its candidates here; one line says
what it is without. A candidate takes a step that does not count whenever its turn comes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from mnv3lib.provenance import made
from mnv3lib.recipe import Recipe, load, overridden
from mnv3lib.tasks import Classification
from mnv3lib.training.loop import Training
from mnv3lib.training.memory import keep_freed_memory, return_freed_memory

BATCH, CLASSES, STEPS = 32, 10, 3


class Noise(Dataset[Any]):
    """Random images with random classes, ready for a network: reading and augmenting are measured elsewhere."""

    num_classes = CLASSES

    def __init__(self, side: int, size: int = 4 * BATCH) -> None:
        generator = torch.Generator().manual_seed(0)
        self.images = torch.randn(size, 3, side, side, generator=generator)
        self.labels = torch.randint(CLASSES, (size,), generator=generator).tolist()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.images[index], self.labels[index]


class Theirs(Classification):
    """The same task with torchvision's network, of the recipe's name and options."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe.model.config(num_classes=CLASSES), label_smoothing=recipe.label_smoothing)
        self.model = recipe.model

    def build_model(self, *, pretrained: bool = True) -> nn.Module:
        return getattr(torchvision.models, self.model.name)(num_classes=CLASSES, **self.model.options)


def ours(recipe: Recipe, images: Noise, task: Classification | None = None) -> Callable[[], None]:
    """A step of this library's loop."""
    training = Training(recipe, images, images, task=task)

    def step() -> None:
        if training.position.step == training.order.steps:
            training.next_epoch()
        training.advance()
        training.flush(force=True)

    return step


def plain(recipe: Recipe, images: Noise) -> Callable[[], None]:
    """A step of the loop that one writes first."""
    torch.manual_seed(0)
    build = getattr(torchvision.models, recipe.model.name)
    model = build(num_classes=CLASSES, **recipe.model.options).train()
    optimiser = torch.optim.RMSprop(
        model.parameters(), lr=recipe.optimiser.lr, alpha=0.9, momentum=0.9, eps=0.0316, weight_decay=1e-5
    )
    criterion = nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)
    batches = cycle(DataLoader(images, batch_size=BATCH, shuffle=True))

    def step() -> None:
        inputs, labels = next(batches)
        loss = criterion(model(inputs), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        loss.item()

    return step


Candidate = tuple[Callable[[], None], Callable[[], bool]]


def measure(candidates: dict[str, Candidate], rounds: int, say: str) -> dict[str, list[float]]:
    """Seconds of a few steps of each candidate, in turns."""
    found: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in tqdm(range(rounds), desc=say, unit="round"):
        for name, (step, memory) in candidates.items():
            memory()
            step()
            began = time.perf_counter()
            for _ in range(STEPS):
                step()
            found[name].append(time.perf_counter() - began)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure every network and size, print a table and write the file."""
    commands = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands.add_argument("--rounds", type=int, default=9, help="two or more (default: 9)")
    commands.add_argument("--networks", nargs="+", default=["mobilenet_v3_small", "mobilenet_v3_large"])
    commands.add_argument("--sides", nargs="+", type=int, default=[64, 224], help="of the images (default: 64 224)")
    commands.add_argument("--threads", type=int, default=1)
    commands.add_argument("--out", type=Path, default=Path(__file__).with_name("training_step.json"))
    options = commands.parse_args(arguments)
    torch.set_num_threads(options.threads)
    about = made(Path(__file__).resolve().parent.parent, threads=options.threads)
    lines = []
    for name in options.networks:
        for side in options.sides:
            assignments = [f"model.name={name}", f"batch_size={BATCH}", "epochs=100000", "averaging.ema_decay=0",
                           f"data.train_size={side}", f"data.eval_size={side}"]  # fmt: skip
            recipe, images = overridden(load("digitscenes"), assignments), Noise(side)
            here = ours(recipe, images)
            candidates = {
                "this loop": (here, keep_freed_memory),
                "this loop, memory not kept": (here, return_freed_memory),
                "this loop, torchvision's network": (ours(recipe, images, Theirs(recipe)), keep_freed_memory),
                "plain loop, torchvision's network": (plain(recipe, images), return_freed_memory),
            }
            seconds = measure(candidates, options.rounds, f"{name} at {side}")
            first = seconds["this loop"]
            for other, times in seconds.items():
                ratios = sorted(theirs / mine for theirs, mine in zip(times, first, strict=True))
                lines.append(
                    {
                        "network": name,
                        "side": side,
                        "against": other,
                        "images_per_second": round(BATCH * STEPS / statistics.median(times), 1),
                        "faster_by": round(statistics.median(ratios), 3),
                        "quartiles": [round(q, 3) for q in statistics.quantiles(ratios, n=4)[::2]],
                    }
                )
    print(f"\n{'network':20}{'side':>5}  {'candidate':36}{'images/s':>9}{'this loop is faster by':>24}")
    for line in lines:
        low, high = line["quartiles"]
        print(
            f"{line['network']:20}{line['side']:5}  {line['against']:36}{line['images_per_second']:9}"
            f"{line['faster_by']:12.2f} ({low:.2f}–{high:.2f})"
        )
    about = {**about, "batch": BATCH, "rounds": options.rounds, "lines": lines}
    options.out.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
