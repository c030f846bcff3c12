"""What others call the tensors of a network: torchvision's heads wrap the backbone, timm numbers it by stages.

Nothing is listed: the names follow from the rows of a configuration. Names here are those of a state dict, "ours" are
torchvision's classification networks' too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import groupby
from typing import NamedTuple

from mnv3lib.config import MobileNetV3Config
from mnv3lib.rows import LARGE, SMALL, InvertedResidualConfig, Padding
from mnv3lib.weights.errors import WeightsError

__all__ = ["FIRST", "LAYOUTS", "Layout", "layout_of", "names_in_file"]


class Layout(NamedTuple):
    """A way of naming.

    Attributes:
        name: short.
        words: what has it.
        mark: pattern of a name's beginning that no other has.
        last: pattern of the layers, by their names in the network, that have as many outputs as there are classes.
        first: pattern of the name of the first layer's weight.
        backbone: beginnings of the names of all layers before the pooling.
        others: beginnings of names of what is no part of the network, the heads of other tasks.
        settings: pairs of norm_eps and padding that such a network can have been trained with; () for any.
    """

    name: str
    words: str
    mark: str
    last: str
    first: str
    backbone: tuple[str, ...]
    others: tuple[str, ...] = ()
    settings: tuple[tuple[float, Padding], ...] = ()


_SYMMETRIC: Padding = "symmetric"
_LAST = r"classifier\.3"

#: The first whose mark is found is the one; the last has no mark.
LAYOUTS = (
    Layout(
        "timm",
        "a timm network",
        r"conv_stem\.",
        _LAST,
        first=r"conv_stem\.weight",
        backbone=("conv_stem.", "bn1.", "blocks."),
        settings=((1e-5, _SYMMETRIC), (1e-3, "same")),
    ),
    Layout(
        "ssdlite",
        "torchvision's SSDLite",
        r"backbone\.features\.[01]\.\d+\.(\d|block)",  # cut in two; ours in a module called backbone is not
        r"head\.classification_head\.module_list\.\d+\.1",
        first=r"backbone\.features\.0\.0\.0\.weight",
        backbone=("backbone.features.",),
        others=("backbone.extra.", "head."),
        settings=((1e-3, _SYMMETRIC),),
    ),
    Layout(
        "fasterrcnn",
        "torchvision's Faster R-CNN",
        r"backbone\.body\.",
        r"roi_heads\.box_predictor\.(cls_score|bbox_pred)",
        first=r"backbone\.body\.0\.0\.weight",
        backbone=("backbone.body.",),
        others=("backbone.fpn.", "rpn.", "roi_heads."),
        settings=((1e-5, _SYMMETRIC),),  # its batch norm is built without the ε of the others
    ),
    Layout(
        "segmentation",
        "torchvision's LR-ASPP or DeepLabV3",
        r"backbone\.\d",
        r"classifier\.(low_classifier|high_classifier|4)|aux_classifier\.4",
        first=r"backbone\.0\.0\.weight",
        backbone=("backbone.",),
        others=("classifier.", "aux_classifier."),
        settings=((1e-3, _SYMMETRIC),),
    ),
    Layout(
        "torchvision",
        "torchvision's classification network, and ours",
        "",
        _LAST,
        first=r"features\.0\.0\.weight",
        backbone=("features.",),
    ),
)
#: Pattern of the first layer's weight in any layout.
FIRST = "|".join(layout.first for layout in LAYOUTS)


def layout_of(names: Iterable[str]) -> Layout:
    """The way of naming that ``names`` follow; torchvision's if none is recognised."""
    names = list(names)
    return next(layout for layout in LAYOUTS if not layout.mark or any(re.match(layout.mark, name) for name in names))


def names_in_file(config: MobileNetV3Config, layout: Layout, ours: Iterable[str]) -> dict[str, str]:
    """What each of ``ours`` is called in a file; what such a file does not have is left out.

    Raises:
        WeightsError: if no network of these rows has such names.
    """
    if layout.name == "torchvision":
        return {name: name for name in ours}
    modules = _timm_modules(config) if layout.name == "timm" else _wrapped_modules(config, layout)
    found = {}
    for name in ours:
        # The longest module that holds the tensor, e.g. features.3.block.1 before features.3.
        parts = name.split(".")
        for end in range(len(parts) - 1, 0, -1):
            theirs = modules.get(".".join(parts[:end]))
            if theirs is not None:
                found[name] = ".".join((theirs, *parts[end:]))
                break
    return found


def _wrapped_modules(config: MobileNetV3Config, layout: Layout) -> dict[str, str]:
    """The backbone inside torchvision's networks for other tasks."""
    count = len(config.rows) + 2
    if layout.name == "segmentation":
        return {f"features.{index}": f"backbone.{index}" for index in range(count)}
    if layout.name == "fasterrcnn":
        return {f"features.{index}": f"backbone.body.{index}" for index in range(count)}
    # SSDLite cuts the backbone inside the first block of the last stage, after its expansion (paper, Section 6.3).
    cut = max((number for number, row in enumerate(config.rows, start=1) if row.stride > 1), default=0)
    if cut == 0 or not config.rows[cut - 1].use_expansion:
        raise WeightsError("SSDLite's names need a last stage that opens with a stride of 2 and an expansion")
    before = {f"features.{index}": f"backbone.features.0.{index}" for index in range(cut)}
    after = {f"features.{index}": f"backbone.features.1.{index - cut}" for index in range(cut + 1, count)}
    block = f"features.{cut}.block"
    inside = {f"{block}.{step}": f"backbone.features.1.0.{step}" for step in range(1, 4)}
    return {**before, f"{block}.0": f"backbone.features.0.{cut}", **inside, **after}


def _timm_modules(config: MobileNetV3Config) -> dict[str, str]:
    """Convolutions and norms stand side by side in timm, and blocks are numbered within stages."""
    modules = {"features.0.0": "conv_stem", "features.0.1": "bn1"}
    positions = _timm_positions(config.rows)
    for number, (row, position) in enumerate(zip(config.rows, positions, strict=True), start=1):
        theirs = "blocks.{}.{}".format(*position)
        convolutions = ["conv_pw", "conv_dw", "conv_pwl"] if row.use_expansion else ["conv_dw", "conv_pw"]
        step = 0
        for order, convolution in enumerate(convolutions, start=1):
            if order == len(convolutions) and row.use_se:
                modules[f"features.{number}.block.{step}.fc1"] = f"{theirs}.se.conv_reduce"
                modules[f"features.{number}.block.{step}.fc2"] = f"{theirs}.se.conv_expand"
                step += 1
            modules[f"features.{number}.block.{step}.0"] = f"{theirs}.{convolution}"
            modules[f"features.{number}.block.{step}.1"] = f"{theirs}.bn{order}"
            step += 1
    last, stages = len(config.rows) + 1, positions[-1][0] + 1
    modules[f"features.{last}.0"] = f"blocks.{stages}.0.conv"
    modules[f"features.{last}.1"] = f"blocks.{stages}.0.bn1"
    return {**modules, "classifier.0": "conv_head", "classifier.3": "classifier"}


def _timm_positions(rows: tuple[InvertedResidualConfig, ...]) -> list[tuple[int, int]]:
    """Stage and position in it of each row: a stage of timm is what has one width in the paper's table."""
    for table in (LARGE, SMALL):
        # Other widths may round two stages to the same, so the printed ones count.
        if [row.stride for row in rows] == [row.stride for row in table]:
            groups = [list(group) for _, group in groupby(row.out_channels for row in table)]
            return [(stage, index) for stage, group in enumerate(groups) for index in range(len(group))]
    raise WeightsError("timm's names are known for the rows of Large and Small only, at any width")
