"""A training recipe as data: everything that decides how the weights come about, and nothing else.

A recipe is a tree of frozen dataclasses that is written to YAML and read back unchanged. What it describes is built
elsewhere: :mod:`~mnv3lib.training.optimisers`, :mod:`~mnv3lib.recipe.schedule`,
:mod:`~mnv3lib.training.averaging`, :mod:`~mnv3lib.training.augment`. Recipes that ship with the library are in the
folder ``published``, by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from mnv3lib._checks import boolean, non_negative_int, positive_int, positive_real, unknown
from mnv3lib.recipe._fields import below_one, check_fields, of_type, optional, setting, string, word
from mnv3lib.recipe._tree import build, plain, read_yaml, write_yaml
from mnv3lib.recipe.sections import (
    NETWORKS,
    SECTIONS,
    Augment,
    Averaging,
    Data,
    Model,
    Optimiser,
    Precision,
    Quantisation,
    Schedule,
)

__all__ = ["NETWORKS", "Augment", "Averaging", "Data", "Model", "Optimiser", "Precision", "Quantisation", "Recipe",
           "Schedule", "Task", "load", "names", "overridden", "replace_at"]  # fmt: skip

Task = Literal["classification", "segmentation", "detection"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A training run, but for the machine it runs on.

    Attributes:
        name: under which it is known.
        task: what is learnt.
        source: where the numbers come from; ``"unverified: …"`` where a part of them is a guess.
        epochs: passes over the training images.
        batch_size: images per step of the optimiser, over all processes and accumulated batches.
        accumulate: batches whose gradients are added before a step.
        clip_norm: largest norm of all gradients together; None for no clipping.
        label_smoothing: part of the target that is spread evenly over all classes.
        sync_batch_norm: batch statistics over all processes (GPUs only).
        seed: of initialisation, order and augmentation.
    """

    name: str = field(metadata={"check": word})
    task: Task = "classification"
    source: str = setting(string, "")
    epochs: int = setting(positive_int, 8)
    batch_size: int = setting(positive_int, 128)
    accumulate: int = setting(positive_int, 1)
    clip_norm: float | None = setting(optional(positive_real), None)
    label_smoothing: float = setting(below_one, 0.0)
    sync_batch_norm: bool = setting(boolean, False)
    seed: int = setting(non_negative_int, 0)
    data: Data = setting(of_type(Data), factory=Data)
    model: Model = setting(of_type(Model), factory=Model)
    optimiser: Optimiser = setting(of_type(Optimiser), factory=Optimiser)
    schedule: Schedule = setting(of_type(Schedule), factory=Schedule)
    augment: Augment = setting(of_type(Augment), factory=Augment)
    averaging: Averaging = setting(of_type(Averaging), factory=Averaging)
    precision: Precision = setting(of_type(Precision), factory=Precision)
    quantisation: Quantisation | None = setting(optional(of_type(Quantisation)), None)

    def __post_init__(self) -> None:
        check_fields(self, "recipe")
        self._check_together()

    def _check_together(self) -> None:
        if self.batch_size % self.accumulate:
            raise ValueError(
                f"recipe.batch_size must be a multiple of recipe.accumulate, which is {self.accumulate}, "
                f"got {self.batch_size}"
            )
        if self.schedule.warmup_epochs >= self.epochs:
            raise ValueError(
                f"recipe.schedule.warmup_epochs must be below recipe.epochs, which is {self.epochs}, "
                f"got {self.schedule.warmup_epochs!r}"
            )
        none = Augment()
        for name, tasks in _ONLY_FOR.items():
            if self.task not in tasks and getattr(self.augment, name) != getattr(none, name):
                raise ValueError(
                    f"recipe.augment.{name} is for {' and '.join(tasks)}; for {self.task} it must be "
                    f"{getattr(none, name)!r}, got {getattr(self.augment, name)!r}"
                )
        if self.task != "classification":
            if self.label_smoothing:
                raise ValueError(f"recipe.label_smoothing must be 0 for {self.task}, got {self.label_smoothing!r}")
            if self.quantisation is not None:
                raise ValueError(f"recipe.quantisation must be None for {self.task}, got {self.quantisation!r}")

    def check_channels(self) -> None:
        """Refuse a network that takes other than the three channels that images of all data sets come with.

        Raises:
            ValueError: naming the option. Images of your own may have other channels, so a recipe as such may, too.
        """
        channels = self.model.options.get("in_channels", 3)
        if channels != 3:
            raise ValueError(
                f"recipe.model.options.in_channels must be 3 for the images of {self.data.name!r}, which have three "
                f"channels, got {channels!r}"
            )

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain data: mappings, lists, numbers, words, True, False and None."""
        return plain(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Recipe:
        """A recipe from what :meth:`to_dict` gives; what is left out keeps its default.

        Raises:
            TypeError, ValueError: naming the field by its full path, e.g. ``recipe.optimiser.lr``, the value and the
                range; for an unknown name the nearest known one.
        """
        return build(cls, data, "recipe", SECTIONS)

    def to_yaml(self) -> str:
        """All fields as YAML text."""
        return write_yaml(self.to_dict())

    @classmethod
    def from_yaml(cls, text: str) -> Recipe:
        """A recipe from YAML text; errors as in :meth:`from_dict`, and ValueError for what is not YAML."""
        return cls.from_dict(read_yaml(text, "the recipe"))


#: Augmentation that does not make sense everywhere: the automatic policies turn images but not their boxes.
_ONLY_FOR: dict[str, tuple[Task, ...]] = {
    "crop_scale": ("classification", "segmentation"),
    "scale_range": ("segmentation",),
    "iou_crop": ("detection",),
    "policy": ("classification",),
    "erase": ("classification",),
    "mixup": ("classification",),
    "cutmix": ("classification",),
}


def names() -> tuple[str, ...]:
    """Names of the recipes that come with the library."""
    folder = files("mnv3lib.recipe").joinpath("published")
    return tuple(sorted(entry.name[: -len(".yaml")] for entry in folder.iterdir() if entry.name.endswith(".yaml")))


def load(name_or_path: str | Path) -> Recipe:
    """The recipe of a name in :func:`names`, or of a YAML file (``*.yaml``, ``*.yml``).

    Raises:
        FileNotFoundError: for a file that is not there.
        TypeError, ValueError: for an unknown name, and as in :meth:`Recipe.from_dict`; the file is named.
    """
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        if name_or_path not in names():
            raise unknown("the library", str(name_or_path), names())
        text = files("mnv3lib.recipe").joinpath("published", f"{name_or_path}.yaml").read_text(encoding="utf-8")
        return Recipe.from_yaml(text)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not text in UTF-8: {error.reason} at byte {error.start}") from error
    data = read_yaml(text, str(path))
    try:
        return Recipe.from_dict(data)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{path}: {error}") from error


def replace_at(recipe: Recipe, path: str, value: Any) -> Recipe:
    """The recipe with another value at a dotted path, e.g. ``"optimiser.lr"`` or ``"model.options.width_mult"``.

    Raises:
        TypeError, ValueError: as in :meth:`Recipe.from_dict`.
    """
    return _replaced(recipe, {path: value})


def overridden(recipe: Recipe, assignments: Iterable[str]) -> Recipe:
    """The recipe with values from the command line, e.g. ``["optimiser.lr=1e-3", "augment.policy=null"]``.

    Values are read as YAML. All are put in before the whole is checked, so that fields which depend on each other can
    change together.

    Raises:
        TypeError, ValueError: for what is no assignment, and as in :meth:`Recipe.from_dict`.
    """
    values = {}
    for assignment in assignments:
        path, sign, text = assignment.partition("=")
        if not sign:
            raise ValueError(f"an assignment must be path=value, e.g. optimiser.lr=0.1, got {assignment!r}")
        values[path.strip()] = read_yaml(text, assignment)
    return _replaced(recipe, values)


def _replaced(recipe: Recipe, values: Mapping[str, Any]) -> Recipe:
    data = recipe.to_dict()
    for path, value in values.items():
        *sections, last = path.removeprefix("recipe.").split(".")
        place, so_far = data, "recipe"
        for section in sections:
            if section not in place:
                raise unknown(so_far, section, place)
            if place[section] is None and so_far == "recipe":
                place[section] = {}
            place, so_far = place[section], f"{so_far}.{section}"
            if not isinstance(place, dict):
                raise ValueError(f"{so_far} has no parts, so {path!r} cannot be set")
        place[last] = plain(value)
    return Recipe.from_dict(data)
