"""What was measured for the book, as data: studies that took longer than a reader wants to wait.

Each file is written by ``experiments/run.py``, which says how to make it again, and is read here. Every run carries the
commit, the versions and the processor that it was made with, its seed and the seconds that it took.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from mnv3lib._checks import one_of

__all__ = ["NAMES", "Run", "Study", "load"]

_FOLDER = Path(__file__).resolve().parents[1] / "_data" / "measured"

#: The studies by name.
NAMES = tuple(sorted(path.stem for path in _FOLDER.glob("*.json")))


@dataclass(frozen=True)
class Run:
    """One training run, from its first step to its test.

    Attributes:
        variant: what is special about it, by the name that the study gave it.
        seed: of weights, order and augmentation.
        assignments: what it changes in the recipe, e.g. ``"optimiser.lr=0.004"``, in order.
        test: measures on the test images, e.g. ``{"top1": 0.74, "loss": …}``, of the weights that validation chose;
            in studies of ``run.py``, ``grey_top1`` is top-1 on the same images without their colours, ``red_top1`` to
            ``magenta_top1`` on those with that ink, and, of networks that were kept, ``axis_0_top1`` to
            ``axis_150_top1`` on all images with their colours along that axis of hue only.
        best: which weights these are, ``"last"``, ``"ema"`` or ``"averaged"``, after which epoch, and their measure on
            the validation images.
        parameters: of the network.
        macs: multiply-adds of one image.
        seconds: wall time of the training steps, on a machine that did other things as well.
        epochs: columns of the table of epochs.
        made: ``commit``, ``versions``, ``cpu`` and ``threads``.
    """

    variant: str
    seed: int
    assignments: tuple[str, ...]
    test: Mapping[str, float]
    best: Mapping[str, Any]
    parameters: int
    macs: int
    seconds: float
    epochs: Mapping[str, tuple[float, ...]]
    made: Mapping[str, Any]


@dataclass(frozen=True)
class Study:
    """Variants of a recipe, each trained from several seeds.

    Attributes:
        name: of its file.
        about: what it is for.
        command: makes it again.
        recipe: by name; what all runs start from.
        runs: in the order of the study, one seed after the other.
    """

    name: str
    about: str
    command: str
    recipe: str
    runs: tuple[Run, ...]

    @property
    def variants(self) -> tuple[str, ...]:
        """The variants in the order of the study."""
        return tuple(dict.fromkeys(run.variant for run in self.runs))

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds, each of which every variant was trained from."""
        return tuple(dict.fromkeys(run.seed for run in self.runs))

    def of(self, variant: str) -> tuple[Run, ...]:
        """The runs of a variant, one for each seed.

        Raises:
            ValueError: for a variant that is not in the study.
        """
        one_of("variant", variant, self.variants)
        return tuple(run for run in self.runs if run.variant == variant)

    def values(self, variant: str, measure: str = "top1") -> tuple[float, ...]:
        """A measure on the test images of a variant, one for each seed."""
        return tuple(run.test[measure] for run in self.of(variant))

    def mean(self, variant: str, measure: str = "top1") -> float:
        """The mean of :meth:`values`."""
        return statistics.fmean(self.values(variant, measure))

    def spread(self, variant: str, measure: str = "top1") -> float:
        """The standard deviation of :meth:`values` between seeds, with n − 1."""
        return statistics.stdev(self.values(variant, measure))

    def steps(self, measure: str = "top1") -> Iterator[tuple[str, str, tuple[float, ...]]]:
        """Each variant after the first, the one before it, and the gains between them, seed by seed."""
        for before, after in zip(self.variants, self.variants[1:], strict=False):
            pairs = zip(self.values(before, measure), self.values(after, measure), strict=True)
            yield after, before, tuple(new - old for old, new in pairs)


@cache
def load(name: str) -> Study:
    """A study by its name.

    Raises:
        ValueError: for a name that is not in ``NAMES``.
    """
    one_of("name", name, NAMES)
    data = json.loads((_FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    runs = tuple(
        Run(
            variant=run["variant"],
            seed=run["seed"],
            assignments=tuple(run["assignments"]),
            test=run["test"],
            best=run["best"],
            parameters=run["parameters"],
            macs=run["macs"],
            seconds=run["seconds"],
            epochs={column: tuple(values) for column, values in run["epochs"].items()},
            made=data["made"][run["made"]],
        )
        for run in data["runs"]
    )
    return Study(name=name, about=data["about"], command=data["command"], recipe=data["recipe"], runs=runs)
