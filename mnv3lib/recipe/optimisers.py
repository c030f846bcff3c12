"""The optimisers that a recipe can name: what builds each, what it takes of the recipe, and what it keeps."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["OPTIMISERS", "Entry"]


class Entry(NamedTuple):
    """An optimiser.

    Attributes:
        path: module and name of the class, which is called with groups of parameters and the learning rate.
        fields: of the recipe's section, that it takes as keywords too.
        states: numbers that it keeps for each parameter.
        states_without_momentum: the same where the recipe's momentum is 0.
    """

    path: str
    fields: tuple[str, ...]
    states: int
    states_without_momentum: int


OPTIMISERS = {
    "rmsprop-tf": Entry("mnv3lib.training.optimisers.RMSpropTF", ("momentum", "alpha", "eps"), 2, 2),
    "rmsprop": Entry("torch.optim.RMSprop", ("momentum", "alpha", "eps"), 2, 1),
    "sgd": Entry("torch.optim.SGD", ("momentum", "nesterov"), 1, 0),
    "adamw": Entry("torch.optim.AdamW", ("betas", "eps"), 2, 2),
}
