"""The two networks line by line, and the order of the operations in them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache

import torch
from figures.reference.tables import NOTHING, SIZES, Table
from torch import nn

from mnv3lib.config import VARIANTS, InvertedResidualConfig
from mnv3lib.cost import Layer, profile
from mnv3lib.network import MobileNetV3

ACTIVATIONS = {"ReLU": "ReLU", "Hardswish": "h-swish", "Hardsigmoid": "h-sigmoid"}


def layers(name: str) -> Table:
    """Every line of a variant at 224×224: the paper's columns, the squeeze width and what comes out.

    Args:
        name: ``"large"`` or ``"small"``.
    """
    config = VARIANTS[name].config()
    report = profile(config)
    rows = [[str(number), *_row(row, report.features[number])] for number, row in enumerate(config.rows, start=1)]
    stem, last, pool, hidden, logits = (
        next(layer for layer in report.layers if layer.kind == kind)
        for kind in ("stem", "last conv", "pool", "hidden", "logits")
    )
    none, act = NOTHING, _nl(config.activation)
    ends = [
        ["stem", _entering(stem), "conv 3×3", none, str(stem.output[0]), none, act, "2", _side(stem)],
        ["last", _entering(last), "conv 1×1", none, str(last.output[0]), none, act, "1", _side(last)],
        ["pool", _entering(pool), "average", none, str(pool.output[0]), none, none, none, _side(pool)],
        ["hidden", _entering(hidden), "linear", none, str(hidden.output[0]), none, act, none, _side(hidden)],
        ["logits", _entering(logits), "linear", none, str(logits.output[0]), none, none, none, _side(logits)],
    ]
    header = ["row", "input", "operator", "exp", "out", "SE", "NL", "s", "output"]
    return Table(header, [ends[0], *rows, *ends[1:]])


def _row(row: InvertedResidualConfig, inside: Sequence[Layer]) -> list[str]:
    return [
        _entering(inside[0]),
        f"bneck {row.kernel}×{row.kernel}",
        str(row.expanded_channels),
        str(row.out_channels) + (" +" if row.use_shortcut else ""),
        str(row.squeeze_channels) if row.use_se else NOTHING,
        _nl(row.activation),
        str(row.stride),
        _side(inside[-1]),
    ]


def _entering(layer: Layer) -> str:
    channels, side, _ = layer.input
    return f"{side}² × {channels}" if side > 1 else str(channels)


def _side(layer: Layer) -> str:
    return f"{layer.output[1]}²" if layer.output[1] > 1 else NOTHING


def _nl(activation: str) -> str:
    return {"RE": "ReLU", "HS": "h-swish"}[activation]


#: Kinds of layers in the order that they run, in words.
OPERATIONS = {
    "stem": "stem, 3×3",
    "expand": "expansion, 1×1",
    "depthwise": "depthwise, 3×3 or 5×5",
    "squeeze": "SE: mean, then squeeze, 1×1",
    "excite": "SE: excite, 1×1, then product",
    "project": "projection, 1×1",
    "shortcut": "shortcut: plus the block's input",
    "last conv": "last convolution, 1×1",
    "pool": "mean of all positions",
    "hidden": "hidden layer, linear",
    "dropout": "dropout, in training",
    "logits": "logits, linear",
}
#: When a layer of a kind is there.
PRESENT = {
    "expand": "if exp ≠ input",
    "squeeze": "if the row has SE",
    "excite": "if the row has SE",
    "shortcut": "if s = 1 and out = input",
}


@cache
def _networks() -> tuple[tuple[MobileNetV3, tuple[Layer, ...]], ...]:
    """Large and Small without storage, each with its layers."""
    with torch.device("meta"):
        return tuple((MobileNetV3(VARIANTS[name].config()), profile(VARIANTS[name].config()).layers) for name in SIZES)


def _facts_of(network: MobileNetV3, layer: Layer) -> tuple[bool, bool, str]:
    """Whether a layer has a bias and a batch norm, and what follows: an activation, dropout, or nothing."""
    module = network.get_submodule(layer.name)
    parts = list(module.modules())
    weighted = next(part for part in parts if isinstance(part, nn.Conv2d | nn.Linear))
    after = [part for part in parts if type(part).__name__ in ACTIVATIONS]
    if layer.kind in ("squeeze", "excite"):
        gate = network.get_submodule(layer.name.rpartition(".")[0])
        after = [getattr(gate, "activation" if layer.kind == "squeeze" else "scale_activation")]
    if layer.kind == "hidden":
        after = [network.classifier[1]]
    named = ACTIVATIONS[type(after[0]).__name__] if after else NOTHING
    return weighted.bias is not None, any(isinstance(part, nn.BatchNorm2d) for part in parts), named


def order() -> Table:
    """The operations of a network in the order that they run, as the modules of Large and Small have them."""
    rows = []
    for kind, words in OPERATIONS.items():
        found = [
            _facts_of(network, layer)
            for network, described in _networks()
            for layer in described
            if layer.kind == kind != "pool"
        ]
        biases, norms = {which[0] for which in found}, {which[1] for which in found}
        if len(biases) > 1 or len(norms) > 1:
            raise AssertionError(f"layers of the kind {kind!r} differ")
        after = " or ".join(sorted({which[2] for which in found})) or NOTHING
        rows.append([words, PRESENT.get(kind, "always"), *(_yes(each) for each in (biases, norms)), after])
    return Table(["operation", "there", "bias", "batch norm", "then"], rows)


def _yes(answers: Iterable[bool]) -> str:
    return {(): NOTHING, (True,): "yes", (False,): "no"}[tuple(answers)]
