"""What a run will take, before it starts: images, steps, learning rates, parameters, multiply-adds, memory and time."""

from __future__ import annotations

from dataclasses import dataclass

from mnv3lib.training.recipe import Recipe

__all__ = ["Plan", "describe"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """See :func:`describe`."""

    recipe: Recipe


def describe(
    recipe: Recipe,
    *,
    images: int | None = None,
    num_classes: int | None = None,
    images_per_second: float | None = None,
) -> Plan:
    """The plan of a recipe."""
    return Plan(recipe=recipe)
