"""The published recipes, field by field."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from figures.reference.tables import NOTHING, Table, plain

from mnv3lib import facts, recipe

#: The published recipes by task: name of the recipe to the name of its column.
CLASSIFICATION = {
    "paper": "the paper's",
    "torchvision-v1": "torchvision's first",
    "torchvision-v2-style": "in the style of its second",
    "torchvision-qat": "quantisation-aware",
}
DENSE = {
    "torchvision-lraspp": "LR-ASPP",
    "torchvision-deeplabv3": "DeepLabV3",
    "torchvision-ssdlite": "SSDLite",
    "torchvision-fasterrcnn": "Faster R-CNN",
}
#: A field that counts only where another one is set, and what it needs.
ONLY_WITH: dict[str, Callable[[Mapping[str, Any]], bool]] = {
    "optimiser.alpha": lambda fields: fields["optimiser.name"].startswith("rmsprop"),
    "optimiser.eps": lambda fields: fields["optimiser.name"].startswith("rmsprop"),
    "schedule.step_epochs": lambda fields: fields["schedule.name"] == "step",
    "schedule.gamma": lambda fields: fields["schedule.name"] in ("step", "multistep"),
    "schedule.milestones": lambda fields: fields["schedule.name"] == "multistep",
    "schedule.power": lambda fields: fields["schedule.name"] == "poly",
    "schedule.warmup_factor": lambda fields: bool(fields["schedule.warmup_epochs"]),
    "augment.mean": lambda fields: fields["task"] != "detection",  # their networks normalise
    "augment.std": lambda fields: fields["task"] != "detection",
    "averaging.ema_every": lambda fields: bool(fields["averaging.ema_decay"]),
    "averaging.ema_warmup": lambda fields: bool(fields["averaging.ema_decay"]),
}
#: Fields that matter although no recipe changes them.
ALWAYS = ("optimiser.norm_weight_decay", "augment.mean", "augment.std")
#: What the numbers of a field that has several stand for.
INSIDE = {"augment.colour": ("brightness", "contrast", "saturation", "hue")}
#: Sections in which 0 means that a thing is not done.
OFF = ("augment", "averaging", "label_smoothing")


def recipes(columns: Mapping[str, str]) -> Table:
    """Every field that one of some recipes sets, as each of them has it.

    Args:
        columns: name of a recipe to the name of its column.
    """
    known = facts.load()["recipes"]
    values = {name: _fields(name) for name in columns}
    told = {name: known[name]["published"] | known[name]["derived"] | known[name]["ours"] for name in columns}
    wanted = dict.fromkeys([*ALWAYS, *(path for fields in told.values() for path in fields)])
    rows = []
    for path in sorted(wanted, key=_position):
        cells = []
        for name, fields in values.items():
            entry = known[name]
            shown = _setting(path, fields)
            # torchvision's scripts have a default for all fields; the paper is silent about what it does not print.
            ours = path in entry["ours"] or (name == "paper" and path not in entry["published"] | entry["derived"])
            emphasised = ours and shown != NOTHING
            cells.append(f"{shown} †" if path in entry["derived"] else f"*{shown}*" if emphasised else shown)
        rows.append([f"`{path}`", *cells])
    notes = [f"† {title}: {known[name]['how']}" for name, title in columns.items()]
    return Table(["field", *columns.values()], rows, notes)


def _fields(name: str) -> dict[str, Any]:
    """All fields of a recipe by their paths, the options of its network included."""
    loaded = recipe.load(name)
    found = dict(_flat(loaded.to_dict()))
    if loaded.model.name in recipe.NETWORKS:
        config = loaded.model.config()
        found |= {f"model.options.{option}": getattr(config, option) for option in ("dropout", "norm_momentum")}
    return found


def _flat(section: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in section.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


def _position(path: str) -> tuple[int, int]:
    """Where a field stands in a recipe: its section, and its place in that."""
    fields = recipe.Recipe(name="any").to_dict()
    section, _, rest = path.partition(".")
    inside = fields[section]
    key = rest.partition(".")[0]
    return list(fields).index(section), list(inside).index(key) if isinstance(inside, dict) else 0


def _setting(path: str, fields: Mapping[str, Any]) -> str:
    """A field's value in words; nothing where it does not count."""
    counts = ONLY_WITH.get(path)
    if path not in fields or (counts is not None and not counts(fields)):
        return NOTHING
    value = fields[path]
    if path == "optimiser.norm_weight_decay" and value is None:
        return "as all"
    if path in INSIDE and value is not None:
        return ", ".join(f"{what} {plain(one)}" for what, one in zip(INSIDE[path], value, strict=True))
    off = value is None or (not isinstance(value, bool) and value == 0 and path.partition(".")[0] in OFF)
    return "none" if off else plain(value)
