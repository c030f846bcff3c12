"""Images per second in training: this library's loop in several ways, against a plain one on torchvision's network.

    make bench
    python benchmarks/training_step.py --compile

Speeds of one machine at one moment mean little, ratios in one run do. So all candidates live in one process and take
turns, a few steps each, many rounds; what counts is the ratio within a round, its median and its spread. The plain loop
is what one writes first: torchvision's network, PyTorch's RMSprop, images as they come. This library's command line
keeps the memory that a step gives back (:mod:`mnv3lib.training.memory`), and so do its candidates here; one line says
what it is without. A candidate takes a step that does not count whenever its turn comes. One thread is timed by the
processor's clock, which stands still while other programs have the core.

With ``--compile`` the network of this loop is compiled, too, by ``torch.compile``, which takes minutes for each size.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import torch
import torchvision
from measuring import start, write
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

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


def ours(
    recipe: Recipe, images: Noise, *settings: str, task: Classification | None = None, compiled: bool = False
) -> Callable[[], None]:
    """A step of this library's loop, with more settings of the recipe."""
    training = Training(overridden(recipe, settings), images, images, task=task)
    if compiled:
        training.wrapped.compile(dynamic=False)

    def step() -> None:
        if training.position.step == training.order.steps:
            training.next_epoch()
        training.advance()
        training.flush(force=True)

    return step


def seconds_of(step: Callable[[], None]) -> float:
    """Of one call."""
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


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
#: What the ratios are taken to.
OURS, PLAIN = "this loop", "plain loop, torchvision's network"
PRODUCTS = "precision.matrix_products=true"


def candidates(recipe: Recipe, images: Noise) -> dict[str, Candidate]:
    """What takes turns: steps, and what becomes of the memory that they free."""
    here = ours(recipe, images)
    return {
        OURS: (here, keep_freed_memory),
        f"{OURS}, matrix products": (ours(recipe, images, PRODUCTS), keep_freed_memory),
        f"{OURS}, memory not kept": (here, return_freed_memory),
        f"{OURS}, torchvision's network": (ours(recipe, images, task=Theirs(recipe)), keep_freed_memory),
        PLAIN: (plain(recipe, images), return_freed_memory),
    }


def compiled(recipe: Recipe, images: Noise) -> dict[str, Candidate]:
    """The same loop with its network compiled; the first step compiles."""
    return {
        f"{OURS}, compiled": (ours(recipe, images, compiled=True), keep_freed_memory),
        f"{OURS}, matrix products, compiled": (ours(recipe, images, PRODUCTS, compiled=True), keep_freed_memory),
    }


def measure(
    candidates: dict[str, Candidate], rounds: int, say: str, *, clock: Callable[[], float]
) -> dict[str, list[float]]:
    """Seconds of a few steps of each candidate, in turns."""
    found: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in tqdm(range(rounds), desc=say, unit="round"):
        for name, (step, memory) in candidates.items():
            memory()
            step()
            began = clock()
            for _ in range(STEPS):
                step()
            found[name].append(clock() - began)
    return found


def three(ratios: Sequence[float]) -> list[float]:
    """Median and quartiles."""
    low, _, high = statistics.quantiles(ratios, n=4)
    return [round(value, 3) for value in (statistics.median(ratios), low, high)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure every network and size, print a table and write the file."""
    commands = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands.add_argument("--rounds", type=int, default=15, help="two or more (default: 15)")
    commands.add_argument("--networks", nargs="+", default=["mobilenet_v3_small", "mobilenet_v3_large"])
    commands.add_argument("--sides", nargs="+", type=int, default=[64, 224], help="of the images (default: 64 224)")
    commands.add_argument("--threads", type=int, default=1)
    commands.add_argument("--compile", action="store_true", help="measure compiled networks, too")
    commands.add_argument("--out", type=Path, help="the file to write (default: one named after the processor)")
    options = commands.parse_args(arguments)
    about = start(options.threads, keep_memory=False)
    clock = time.process_time if options.threads == 1 else time.perf_counter
    lines = []
    for name in options.networks:
        for side in options.sides:
            assignments = [f"model.name={name}", f"batch_size={BATCH}", "epochs=100000", "averaging.ema_decay=0",
                           f"data.train_size={side}", f"data.eval_size={side}"]  # fmt: skip
            recipe, images = overridden(load("digitscenes"), assignments), Noise(side)
            more = compiled(recipe, images) if options.compile else {}
            first_step = {way: round(seconds_of(step), 1) for way, (step, _) in more.items()}
            turns = candidates(recipe, images) | more
            seconds = measure(turns, options.rounds, f"{name} at {side}", clock=clock)
            for way, times in seconds.items():
                faster_by, *quartiles = three([one / own for one, own in zip(times, seconds[OURS], strict=True)])
                lines.append(
                    {
                        "network": name,
                        "side": side,
                        "against": way,
                        "images_per_second": round(BATCH * STEPS / statistics.median(times), 1),
                        "faster_by": faster_by,
                        "quartiles": quartiles,
                        "speedup": three([one / own for one, own in zip(seconds[PLAIN], times, strict=True)]),
                    }
                    | ({"seconds_of_first_step": first_step[way]} if way in first_step else {})
                )
    print(f"\n{'network':20}{'side':>5}  {'candidate':36}{'images/s':>9}{'times the plain loop':>24}")
    for line in lines:
        middle, low, high = line["speedup"]
        print(
            f"{line['network']:20}{line['side']:5}  {line['against']:36}{line['images_per_second']:9}"
            f"{middle:12.2f} ({low:.2f}–{high:.2f})"
        )
    print(write("training", options.out, {**about, "batch": BATCH, "rounds": options.rounds, "lines": lines}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
