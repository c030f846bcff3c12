"""The numbers behind the explorer: every stop of every control, as one small table that can be written as JSON.

The explorer's JavaScript knows no cost formula. It looks numbers up in this table and does one line of arithmetic:
all resolutions are multiples of 32, where the multiply-adds of a convolution grow exactly with the area and those of
squeeze-and-excitation and classifier do not grow at all. So with ``s`` = resolution / 32

* multiply-adds = number × s² for the kinds that grow, the number itself for those named in ``table["fixed"]``;
* most activations alive at once = number × s²; side of a feature map = number × s.

Layout (``table`` below is what :func:`explorer_table` returns)::

    table["widths"], table["resolutions"]           the stops
    table["series"][i][j]                           one number at width j
    variant = table["variants"]["large"]
    variant["features"][f]                          name, kinds of multiply-adds, kernel, stride, …
    settings = variant["settings"]["paper/0/1"]     key: rounding/reduced_tail/dilated
    settings["peak"]                                series of the activations alive at once
    settings["columns"][f]                          series of feature f: exp, out, parameters, then one per kind
    variant["top1"]                                 published accuracy: width, resolution, per cent, where
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import product
from typing import Any, NamedTuple

from mnv3lib import facts
from mnv3lib.config import VARIANTS, MobileNetV3Config
from mnv3lib.cost import Layer, Profile, profile
from mnv3lib.explore.palette import KINDS, LABELS

__all__ = ["FIXED", "REFERENCE", "RESOLUTIONS", "ROUNDINGS", "TOP1_FROM", "WIDTHS", "Feature", "explorer_table",
           "features", "published_top1"]  # fmt: skip

#: Stops of the width slider.
WIDTHS: tuple[float, ...] = tuple(round(0.25 + 0.05 * step, 2) for step in range(36))
#: Stops of the resolution slider, pixels. The table relies on their being multiples of 32.
RESOLUTIONS: tuple[int, ...] = tuple(range(96, 321, 32))
#: The rounding rules to choose from; timm's differs from the paper's in the two ends only.
ROUNDINGS = ("torchvision", "paper")
#: What changes are compared with: width and resolution, no options.
REFERENCE = (1.0, 224)

#: Where published accuracies are taken from, the first that has a network, and how the explorer names it.
TOP1_FROM = {"table9": "paper, Table 9", "tf-slim": "TF-slim's checkpoint"}

#: Families of multiply-adds (see :data:`mnv3lib.explore.palette.KINDS`) that do not depend on the resolution.
FIXED = ("se", "classifier")
_FAMILY = {"squeeze": "se", "excite": "se", "pool": "classifier", "hidden": "classifier", "logits": "classifier"}
_KINDS = {"stem": ("stem",), "block": ("expand", "depthwise", "se", "project"), "last conv": ("last conv",)}
_BASE = 32


class Feature(NamedTuple):
    """One line of the explorer: the stem, a block, the last convolution or the classifier.

    ``exp`` is 0 where nothing is expanded; the classifier's hidden layer stands there, as no column is its own.
    """

    name: str
    kernel: int
    stride: int
    dilation: int
    exp: int
    out: int
    se: bool
    activation: str
    side: int
    parameters: int
    macs: dict[str, int]


def features(network: MobileNetV3Config, report: Profile) -> list[Feature]:
    """The rows of the explorer for a network and its cost (a :func:`mnv3lib.cost.profile` of the same network)."""
    return list(_features(network, report))


def _features(network: MobileNetV3Config, report: Profile) -> Iterator[Feature]:
    stem, *blocks, last, classifier = report.features
    yield _feature("stem", "stem", stem, 1, 0, network.activation)
    for number, (row, layers) in enumerate(zip(network.rows, blocks, strict=True), start=1):
        yield _feature(f"block {number}", "block", layers, row.dilation, row.expanded_channels, row.activation)
    yield _feature("last conv", "last conv", last, 1, 0, network.activation)
    yield _feature("classifier", "classifier", classifier, 1, network.last_channel, network.activation)


def _feature(name: str, group: str, layers: Sequence[Layer], dilation: int, exp: int, activation: str) -> Feature:
    macs = dict.fromkeys(_KINDS.get(group, ("classifier",)), 0)
    for layer in layers:
        macs[_FAMILY.get(layer.kind, layer.kind)] += layer.macs
    return Feature(
        name,
        kernel=max(layer.kernel for layer in layers),
        stride=max(layer.stride for layer in layers),
        dilation=dilation,
        exp=exp,
        out=layers[-1].output[0],
        se=any(layer.kind == "squeeze" for layer in layers),
        activation=activation,
        side=layers[-1].output[1],
        parameters=sum(layer.parameters for layer in layers),
        macs=macs,
    )


def published_top1(variant: str) -> list[tuple[float, int, float, str]]:
    """Published top-1 on ImageNet of a variant in float32, with neither a reduced tail nor dilation.

    Widths other than 1 are those of the paper's rounding rule.

    Returns:
        Width, resolution in pixels, top-1 in per cent and where it was published, for each network once.
    """
    found: dict[tuple[float, int], tuple[float, str]] = {}
    for table, where in TOP1_FROM.items():
        for row in facts.published(table=table, variant=variant):
            if row.get("bits", 32) == 32:
                found.setdefault((row["width"], row["resolution"]), (row["top1"], where))
    return [(*network, *said) for network, said in found.items()]


class _Series:
    """Rows of numbers, one per width, each kept once."""

    def __init__(self) -> None:
        self.index: dict[tuple[int, ...], int] = {}

    def add(self, numbers: Sequence[int]) -> int:
        return self.index.setdefault(tuple(numbers), len(self.index))


@cache
def explorer_table() -> dict[str, Any]:
    """The table; see the head of this module. It is shared: do not change it.

    >>> table = explorer_table()
    >>> series = table["variants"]["small"]["settings"]["torchvision/0/0"]["columns"][0][2]
    >>> table["series"][series][table["widths"].index(1.0)]  # parameters of the stem
    464
    """
    series = _Series()
    variants = {
        name: {
            "label": variant.label,
            "features": _layout(variant.config),
            "top1": [list(row) for row in published_top1(name)],
            "settings": {
                f"{rounding}/{tail:d}/{dilated:d}": _settings(series, variant.config, rounding, tail, dilated)
                for rounding, tail, dilated in product(ROUNDINGS, (False, True), (False, True))
            },
        }
        for name, variant in VARIANTS.items()
    }
    table: dict[str, Any] = {
        "kinds": {kind: {"label": LABELS[kind], "colour": colour} for kind, colour in KINDS.items()},
        "widths": list(WIDTHS),
        "resolutions": list(RESOLUTIONS),
        "reference": list(REFERENCE),
        "roundings": list(ROUNDINGS),
        "fixed": list(FIXED),
        "series": [list(numbers) for numbers in series.index],
        "variants": variants,
    }
    for name, entry in variants.items():
        network = VARIANTS[name].config(width_mult=REFERENCE[0])
        entry["scales"] = _scales(entry, table["series"], features(network, profile(network, REFERENCE[1])))
    return table


def _layout(make: Callable[..., MobileNetV3Config]) -> list[dict[str, Any]]:
    """What does not depend on the width. Pairs are (as printed, dilated)."""
    plain, dilated = (
        features(network, profile(network, _BASE)) for network in (make(dilated=False), make(dilated=True))
    )
    return [
        {
            "name": row.name,
            "kinds": list(row.macs),
            "kernel": row.kernel,
            "stride": [row.stride, other.stride],
            "dilation": [row.dilation, other.dilation],
            "side": [row.side, other.side],
            "se": row.se,
            "activation": row.activation,
        }
        for row, other in zip(plain, dilated, strict=True)
    ]


def _settings(
    series: _Series, make: Callable[..., MobileNetV3Config], rounding: str, tail: bool, dilated: bool
) -> dict[str, Any]:
    peaks, stops = [], []
    for width in WIDTHS:
        network = make(width_mult=width, reduced_tail=tail, dilated=dilated, rounding=rounding)
        base = profile(network, _BASE)
        rows = features(network, base)
        # Twice the side shows that the numbers grow as said; at three widths a third size has to agree.
        for factor in (2, 7) if width in (WIDTHS[0], 1.0, WIDTHS[-1]) else (2,):
            _check_growth(network, base, rows, factor)
        peaks.append(base.peak_activations)
        stops.append([(row.exp, row.out, row.parameters, *row.macs.values()) for row in rows])
    columns = [[series.add(numbers) for numbers in zip(*row, strict=True)] for row in zip(*stops, strict=True)]
    return {"peak": series.add(peaks), "columns": columns}


def _check_growth(network: MobileNetV3Config, base: Profile, rows: Sequence[Feature], factor: int) -> None:
    larger = profile(network, _BASE * factor)
    area = factor * factor
    grown = [{kind: n if kind in FIXED else n * area for kind, n in row.macs.items()} for row in rows]
    if (
        grown != [row.macs for row in features(network, larger)]
        or larger.peak_activations != base.peak_activations * area
    ):
        raise AssertionError(f"costs do not grow with the area from {_BASE} to {_BASE * factor} px: {network}")


def _scales(variant: dict[str, Any], series: Sequence[Sequence[int]], reference: Sequence[Feature]) -> dict[str, int]:
    """Full length of the bars, one for all settings of a variant.

    Channels: the widest stop fits. The head (last convolution and classifier) has its own, or it would squeeze the
    rest. Multiply-adds span a factor of a hundred, so the reference takes some 2/5 and what is beyond is marked.
    """
    settings = variant["settings"].values()
    head = len(variant["features"]) - 2

    def widest(column: int, rows: slice) -> int:
        return max(max(series[row[column]]) for setting in settings for row in setting["columns"][rows])

    costliest = max(sum(row.macs.values()) for row in reference)
    return {
        "exp": widest(0, slice(head)),
        "out": widest(1, slice(head)),
        "head": max(widest(0, slice(head, None)), widest(1, slice(head, None))),
        "macs": _nice(2.5 * costliest),
    }


def _nice(number: float) -> int:
    """The next 1, 1.2, 1.6, 2, 2.4, 3.2, 4, 6 or 8 times a power of ten: divides well by four."""
    power = 10 ** (len(str(int(number))) - 1)
    return next(step * power // 10 for step in (10, 12, 16, 20, 24, 32, 40, 60, 80, 100) if step * power >= 10 * number)
