"""Going on with a run: its checkpoint must be complete, and recipe and images those that the run was started with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import NoneType
from typing import Any

import mnv3lib
from mnv3lib.recipe import Recipe
from mnv3lib.training.checkpoint import Checkpoints, differences
from mnv3lib.training.errors import CheckpointError, OtherData, OtherRecipe
from mnv3lib.weights.report import few

__all__ = ["CHANGEABLE", "FORMAT", "check_data", "described", "distinct_classes", "load_state"]

FORMAT = 1

#: What a checkpoint must hold, and as what; the first ones held no more than this.
_PARTS: dict[str, tuple[type, ...]] = {
    "recipe": (dict,),
    "rows": (list,),
    "position": (list,),
    "running": (dict,),
    "model": (dict,),
    "optimiser": (dict,),
    "scaler": (dict,),
    "average": (dict, NoneType),
}
#: Fields of a recipe that say nothing about the weights: they may always differ.
_FREE = ("name", "source", "data.root")
#: Fields that only decide about the steps to come: they may change within a run, if that is asked for.
CHANGEABLE = ("epochs", "clip_norm", "label_smoothing", "optimiser.lr", "optimiser.weight_decay", "schedule")

_ELSE = "take another folder, or restart to put this run aside (--restart)"


def load_state(folder: Path, recipe: Recipe, *, allow_changes: bool = False) -> dict[str, Any] | None:
    """Read the newest whole checkpoint in a folder; None if there is none.

    Args:
        folder: of the run.
        recipe: to go on with. A field that the checkpoint does not have, because a later version brought it, had its
            default.
        allow_changes: accept other values of the fields in ``CHANGEABLE``.

    Returns:
        What the file holds, and as ``"changed"`` the fields that differ, in words.

    Raises:
        CheckpointError: if no checkpoint can be read, or this version does not understand it.
        OtherRecipe: naming the fields that differ.
    """
    state = Checkpoints(folder).load()
    if state is None:
        return None
    if state.get("format") != FORMAT:
        raise CheckpointError(f"{folder} is of format {state.get('format')!r}, this version reads {FORMAT}")
    missing = [name for name, kinds in _PARTS.items() if not isinstance(state.get(name, ...), kinds)]
    if missing:
        raise CheckpointError(f"the checkpoint in {folder} is incomplete: it has no {', '.join(missing)}. {_ELSE}")
    lines = differences(_recipe_of(state, folder).to_dict(), recipe.to_dict())
    fields = [line for line in lines if not _among(line, _FREE)]
    fixed = [line for line in fields if not _among(line, CHANGEABLE)]
    if fields and not allow_changes:
        hint = "" if fixed else ", or go on with this recipe from here on (--allow-changes)"
        raise OtherRecipe(f"{folder} holds a run of another recipe ({'; '.join(fields)}): {_ELSE}{hint}")
    if fixed:
        raise OtherRecipe(
            f"{folder} holds a run of another recipe, and within a run only {', '.join(CHANGEABLE)} may change, "
            f"not {'; '.join(fixed)}: {_ELSE}"
        )
    return {**state, "changed": fields}


def _recipe_of(state: Mapping[str, Any], folder: Path) -> Recipe:
    """The recipe of a checkpoint, with the defaults of what it leaves out."""
    try:
        return Recipe.from_dict(state["recipe"])
    except (TypeError, ValueError) as error:
        versions = state.get("versions")
        writer = versions.get("mnv3lib", "?") if isinstance(versions, Mapping) else "?"
        raise CheckpointError(
            f"the run in {folder} was written by mnv3lib {writer}, and this version, {mnv3lib.__version__}, does not "
            f"understand its recipe: {error}. Go on with that version, {_ELSE}"
        ) from error


def _among(line: str, fields: tuple[str, ...]) -> bool:
    """Whether a line of :func:`differences` is about one of the fields, or a part of it."""
    path = line.partition(":")[0]
    return any(path == field or path.startswith(f"{field}.") for field in fields)


def described(train_set: Any, eval_set: Any) -> dict[str, Any]:
    """What a checkpoint says about the images: the names of the classes, or None, and how many there are."""
    classes = getattr(train_set, "classes", None)
    return {
        "classes": None if classes is None else [str(name) for name in classes],
        "num_classes": int(train_set.num_classes),
        "images": {"train": len(train_set), "val": len(eval_set)},
    }


def distinct_classes(data: Mapping[str, Any]) -> list[str] | None:
    """The names of the classes, if a file of weights can hold them: one for each output, all different."""
    names = data["classes"]
    good = names is not None and len(set(names)) == len(names) == data["num_classes"] and all(map(str.strip, names))
    return names if good else None


def check_data(then: Mapping[str, Any], now: Mapping[str, Any], folder: Path) -> None:
    """Compare the images of a run, as :func:`described`, with those it is to go on with.

    Labels are positions in the list of classes, and the order of the images depends on their number: with others the
    run would go on with other labels, or see some images twice and others never.

    Raises:
        OtherData: naming what differs.
    """
    found = []
    before, after = then.get("classes"), now["classes"]
    if before is not None and after is not None:
        gone, new = ([name for name in one if name not in other] for one, other in ((before, after), (after, before)))
        found += [f"without the {_classes(gone)}"] * bool(gone) + [f"with the new {_classes(new)}"] * bool(new)
        if before != after and not found:
            found.append(f"with the classes in another order ({few(after)}; before: {few(before)})")
    elif then.get("num_classes") != now["num_classes"]:
        found.append(f"with {now['num_classes']} classes instead of {then.get('num_classes')}")
    for split, word in (("train", "training"), ("val", "validation")):
        images = then.get("images", {}).get(split)
        if images != now["images"][split]:
            found.append(f"with {now['images'][split]} {word} images instead of {images}")
    if found:
        raise OtherData(
            f"{folder} holds a run on other data, which is now {', '.join(found)}: bring back the images as they were; "
            f"or {_ELSE}, from the weights of this run if you like (model.weights={folder / 'best.pt'})"
        )


def _classes(names: list[str]) -> str:
    return f"class{'es' * (len(names) > 1)} {few(map(repr, names))}"
