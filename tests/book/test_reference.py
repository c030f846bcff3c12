"""The page of facts: each of its tables against something that did not make it."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterator
from typing import Any

import pytest
import timm
import torch
from conftest import ROOT
from figures import reference
from figures.reference import FORMULAS, Table, table
from PIL import Image
from torch import nn
from torchvision import models

import mnv3lib
from mnv3lib import config, cost, facts, recipe
from mnv3lib.rows import make_divisible
from mnv3lib.training.order import steps_per_epoch

PAGE = (ROOT / "book" / "reference.md").read_text(encoding="utf-8")
NONE = "–"


def column(found: Table, name: str) -> list[str]:
    return [row[found.header.index(name)] for row in found.rows]


def number(cell: str) -> float:
    return float(cell.replace(",", ""))


@pytest.mark.parametrize("name", reference.TABLES)
def test_a_table_has_a_cell_for_each_column_and_a_sentence_above_it(name: str) -> None:
    found = table(name)
    assert found.rows
    assert {len(row) for row in found.rows} == {len(found.header)}
    assert all(cell.strip() and "|" not in cell for row in found.rows for cell in row)
    assert re.search(rf"^[^#`\n].*\.\n\n```{{facts}} {name}\n|^### .*\n\n```{{facts}} {name}\n", PAGE, flags=re.M)


def test_the_page_has_every_table_once() -> None:
    assert re.findall(r"^```\{facts\} (\S+)", PAGE, flags=re.M) == list(reference.TABLES)
    with pytest.raises(ValueError, match=r"name must be one of 'large', .*, got 'larger'; did you mean 'large'\?"):
        table("larger")


@pytest.mark.parametrize("variant", ["large", "small"])
def test_the_lines_of_a_network_are_the_papers(variant: str) -> None:
    """But for the misprinted gate, and the classifier, which is linear here."""
    printed = facts.specification(variant)
    found = table(variant)
    assert len(found.rows) == len(printed["rows"])
    for ours, cells in zip(found.rows, printed["rows"], strict=True):
        line = dict(zip(printed["columns"], cells, strict=True))
        named = dict(zip(found.header, ours, strict=True))
        side, channels = line["input"], line["in_channels"]
        assert named["input"] == (f"{side}² × {channels}" if side > 1 else str(channels))
        if line["operator"] in ("conv", "bneck"):
            assert named["operator"] == f"{line['operator']} {line['kernel']}×{line['kernel']}"
            assert named["NL"] == {"RE": "ReLU", "HS": "h-swish"}[line["nl"]]
            assert named["s"] == str(line["s"])
            assert named["output"] == f"{side // line['s']}²"
        if line["operator"] == "bneck":
            same = line["s"] == 1 and line["out"] == channels
            assert named["exp"] == str(line["exp"])
            assert named["out"] == str(line["out"]) + (" +" if same else "")
            assert named["SE"] == (str(make_divisible(line["exp"] // 4)) if line["se"] else NONE)
        elif line["out"] not in (None, "k"):
            assert named["out"] == str(line["out"])


def test_the_order_of_operations_is_torchvisions() -> None:
    """A convolution of theirs has a bias or a norm, never both; what follows it is what the table says."""
    with torch.device("meta"):
        network = models.mobilenet_v3_large()
    block = network.features[4].block  # with all that a block can have
    told = {row[0].partition(",")[0]: row[2:] for row in table("order").rows}
    theirs = {
        "stem": network.features[0],
        "expansion": block[0],
        "depthwise": block[1],
        "projection": block[3],
        "last convolution": network.features[-1],
    }
    for name, module in theirs.items():
        convolution, norm, *after = module
        bias = "yes" if convolution.bias is not None else "no"
        normed = "yes" if isinstance(norm, nn.BatchNorm2d) else "no"
        assert told[name][:2] == [bias, normed]
        known = {"ReLU": "ReLU", "Hardswish": "h-swish"}
        assert [known[type(one).__name__] in told[name][2] for one in after] or told[name][2] == NONE
    gate = block[2]
    assert [gate.fc1.bias is not None, gate.fc2.bias is not None] == [True, True]
    assert told["SE: mean"] == ["yes", "no", type(gate.activation).__name__]
    assert told["SE: excite"] == ["yes", "no", {"Hardsigmoid": "h-sigmoid"}[type(gate.scale_activation).__name__]]
    assert [type(one).__name__ for one in network.classifier] == ["Linear", "Hardswish", "Dropout", "Linear"]
    assert told["hidden layer"] == ["yes", "no", "h-swish"]
    assert told["logits"] == ["yes", "no", NONE]
    names = [row[0] for row in table("order").rows]
    assert [name.partition(",")[0] for name in names[1:7]] == [
        "expansion", "depthwise", "SE: mean", "SE: excite", "projection", "shortcut: plus the block's input",
    ]  # fmt: skip


@pytest.mark.parametrize("size", ["large", "small"])
def test_the_parameters_at_each_width_are_torchvisions_and_timms(size: str) -> None:
    found = table(f"widths-{size}")
    counted = {
        (float(width), rule): number(parameters)
        for width, rules, parameters in zip(
            *(column(found, name) for name in ("width", "rule", "parameters")), strict=True
        )
        for rule in (config.ROUNDINGS if rules == "all" else rules.split(", "))
    }
    assert {rule for _, rule in counted} == set(config.ROUNDINGS)
    for width in reference.WIDTHS:
        with torch.device("meta"):
            theirs = models.get_model(f"mobilenet_v3_{size}", width_mult=width)
        assert counted[width, "torchvision"] == sum(each.numel() for each in theirs.parameters())
    for name, parameters in facts.load()["timm"]["parameters"].items():
        if size in name:
            assert counted[int(name[-3:]) / 100, "timm"] == parameters


def sides(network: nn.Module, side: int) -> Iterator[int]:
    """Sides of the feature maps of a network, by running it without numbers."""
    x = torch.zeros(1, 3, side, side, device="meta")
    for layer in network.features:
        x = layer(x)
        yield x.shape[-1]


def test_the_feature_maps_have_these_sides_when_a_network_runs() -> None:
    with torch.device("meta"):
        plain = mnv3lib.MobileNetV3(config.small()).eval()
        dilated = mnv3lib.MobileNetV3(config.small(dilated=True)).eval()
    rows = {int(row[0]): [int(cell) for cell in row[1:]] for row in table("sizes").rows}
    assert tuple(rows) == reference.SIDES
    for image in (96, 225, 512):
        *halved, kept = rows[image]
        assert list(dict.fromkeys(sides(plain, image))) == halved
        assert list(sides(dilated, image))[-1] == kept


@pytest.mark.parametrize("name", ["table9", "tf-slim", "torchvision"])
def test_published_figures_are_those_of_the_fact_file_and_what_differs_has_a_note(name: str) -> None:
    found = table(name)
    for row, line in zip(found.rows, facts.published(table=name), strict=True):
        label, width, side, top1, macs, macs_counted, parameters, parameters_counted, *rest = row
        assert (float(width), int(side), float(top1)) == (line["width"], line["resolution"], line["top1"])
        assert rest in ([], [str(line.get("pixel1"))])
        scale = 1000 if name == "torchvision" else 1
        assert number(macs) == pytest.approx(line["macs"]["printed"] * scale)
        assert number(parameters) == line["params"]["printed"]
        differs = abs(number(macs) - number(macs_counted)) >= 1 or (
            abs(number(parameters) - number(parameters_counted)) >= 0.1
        )
        mark = re.search(r"[⁰¹²³⁴⁵⁶⁷⁸⁹]+$", label)
        assert mark or not differs, row
        assert not mark or any(note.startswith(f"{mark[0]} ") for note in found.notes)
        if float(width) == 1 and line["variant"] == "large":
            with torch.device("meta"):
                theirs = sum(each.numel() for each in models.mobilenet_v3_large().parameters())
            shown = number(parameters_counted)
            assert shown == (theirs if name == "torchvision" else round(theirs / 1e6, 2))


def test_batch_norm_has_these_constants() -> None:
    """As ``test_disagreements.py`` measures and quotes them, and PyTorch's own."""
    assert [row[1:] for row in table("norms").rows] == [
        ["0.00001", "0.1"],
        ["0.001", "0.01"],
        ["0.001", "0.01"],
        ["0.00001", "0.1"],
        ["0.001", "0.1"],
        ["*not stated*", "*0.01*"],
        ["*0.001*", "*0.001*"],
        ["*0.001*", "*0.003*"],
    ]
    assert (nn.BatchNorm2d(1).eps, nn.BatchNorm2d(1).momentum) == (1e-5, 0.1)


def three(cell: str, what: str) -> torch.Tensor:
    """Three numbers, or one that stands for three, or ImageNet's."""
    if cell == "ImageNet's":
        return torch.tensor({"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}[what])
    return torch.tensor([float(part) for part in cell.split(", ")]).expand(3)


def test_torchvisions_transforms_do_what_the_table_says() -> None:
    """To an image of one colour: its size comes out as said, and its colour normalised as said."""
    image = Image.new("RGB", (700, 560), (50, 100, 200))
    for shown, resized, crop, smooth, mean, std in table("torchvision-preprocessing").rows:
        name, version = re.findall(r"`([^`]+)`", shown)
        transform = models.get_model_weights(name)[version].transforms()
        made = transform(image)
        if name.startswith(("ssdlite", "fasterrcnn")):  # the network does it
            with torch.device("meta"):
                inside = models.get_model(name, weights=None, weights_backbone=None).transform
            made = inside.normalize(made)
        elif crop == NONE:
            assert min(made.shape[1:]) == int(resized)
        else:
            assert (list(made.shape[1:]), transform.resize_size) == ([int(crop)] * 2, [int(resized)])
        wanted = (torch.tensor([50, 100, 200]) / 255 - three(mean, "mean")) / three(std, "std")
        # 8-bit colours, resized in floats: a thousandth of a level.
        assert torch.allclose(made[:, 9, 9], wanted, atol=1e-4), name
        assert smooth.startswith("bilinear")


def test_timms_transforms_do_what_the_table_says() -> None:
    for shown, resized, crop, smooth, mean, std in table("timm-preprocessing").rows:
        about = timm.models.get_pretrained_cfg(shown.strip("`"))
        transform = timm.data.create_transform(**timm.data.resolve_data_config(pretrained_cfg=about.to_dict()))
        resize, centre, *_, normalise = transform.transforms
        assert (resize.size, tuple(centre.size)) == (int(resized), (int(crop), int(crop))), shown
        assert resize.interpolation.value == smooth
        assert torch.allclose(normalise.mean.flatten(), three(mean, "mean"))
        assert torch.allclose(normalise.std.flatten(), three(std, "std"))


@pytest.mark.parametrize(
    ("name", "columns"),
    [("recipes-classification", reference.CLASSIFICATION), ("recipes-dense", reference.DENSE)],
)
def test_a_recipe_is_there_with_every_field_that_is_known_of_it(name: str, columns: dict[str, str]) -> None:
    found = table(name)
    fields = [cell.strip("`") for cell in column(found, "field")]
    assert len(set(fields)) == len(fields)
    for each, title in columns.items():
        shown = dict(zip(fields, column(found, title), strict=True))
        known = facts.load()["recipes"][each]
        for part in ("published", "derived", "ours"):
            for path, value in known[part].items():
                cell = shown[path]
                assert ("†" in cell, cell.startswith("*")) == (part == "derived", part == "ours"), (each, path)
                bare = cell.removesuffix(" †").strip("*").strip("`")
                if isinstance(value, bool) or value is None:
                    assert bare == {True: "yes", False: "no", None: "none"}[value]
                elif isinstance(value, str):
                    assert bare == value.rpartition("/")[2]
                else:
                    numbers = value if isinstance(value, list) else [value]
                    shown_numbers = [] if bare == "none" else [float(part.split()[-1]) for part in bare.split(", ")]
                    assert shown_numbers in ([], numbers), (each, path)
                    assert bare != "none" or value == 0


def test_what_a_recipe_does_not_do_is_not_shown_as_if_it_did() -> None:
    first = dict(zip(column(table("recipes-classification"), "field"),
                     column(table("recipes-classification"), "torchvision's first"), strict=True))  # fmt: skip
    assert first["`schedule.warmup_factor`"] == first["`averaging.ema_every`"] == NONE
    assert first["`augment.mixup`"] == first["`averaging.ema_decay`"] == "none"
    assert first["`optimiser.norm_weight_decay`"] == "as all"
    assert first["`model.options.dropout`"] == "0.2"
    paper = dict(zip(column(table("recipes-classification"), "field"),
                     column(table("recipes-classification"), "the paper's"), strict=True))  # fmt: skip
    assert recipe.load("paper").augment.colour == (0.12549, 0, 0.5, 0)
    assert paper["`augment.colour`"] == "*brightness 0.12549, contrast 0, saturation 0.5, hue 0*"
    assert recipe.load("torchvision-v1").optimiser.norm_weight_decay is None


# Formulas ------------------------------------------------------------------------------------------------------------


def evaluate(what: str, **letters: Any) -> Any:
    (found,) = [each for each in FORMULAS if each.what == what]
    return eval(found.python, {"round8": make_divisible}, letters)


def convolutions() -> Iterator[tuple[nn.Conv2d, dict[str, int]]]:
    for k in (1, 3, 5):
        for s in (1, 2):
            for d in (1, 2):
                for g in (1, 8):
                    p = d * (k - 1) // 2
                    layer = nn.Conv2d(16, 24, k, s, p, d, g, device="meta")
                    yield layer, {"k": k, "s": s, "d": d, "g": g, "p": p, "c": 16, "o": 24}


def test_the_formulas_of_convolutions_hold() -> None:
    for layer, letters in convolutions():
        for n in (7, 28, 33):
            h = w = layer(torch.zeros(1, 16, n, n, device="meta")).shape[-1]
            assert evaluate("output side", n=n, **letters) == h
            assert evaluate("output side with that padding", n=n, **letters) == h
            walk = cost.Walk((16, n, n))
            walk.conv("x", "expand", 24, layer.kernel_size[0], layer.stride[0], layer.dilation[0], layer.groups)
            (counted,) = walk.profile().layers
            assert evaluate("multiply-adds of a convolution", h=h, w=w, **letters) == counted.macs
        assert evaluate("padding that keeps the side at stride 1", **letters) == letters["p"]
        numbers = sum(each.numel() for each in layer.parameters())
        assert evaluate("parameters of a convolution or linear layer with bias", **letters) == numbers
        normed = numbers - 24 + sum(each.numel() for each in nn.BatchNorm2d(24).parameters())
        assert evaluate("parameters of a convolution with batch norm", **letters) == normed


def test_the_formulas_of_gates_and_rounding_hold() -> None:
    for c in (3, 8, 11, 12, 16 * 0.75, 18, 60, 99.5, 960 * 0.35):
        assert evaluate("rounding to multiples of 8", c=c) == make_divisible(c)
    for row in (*config.LARGE, *config.SMALL):
        q = evaluate("squeeze width", e=row.expanded_channels)
        assert q == row.squeeze_channels
        gate = mnv3lib.blocks.SqueezeExcitation(row.expanded_channels, q)
        numbers = sum(each.numel() for each in gate.parameters())
        assert evaluate("parameters of squeeze-and-excitation", e=row.expanded_channels, q=q) == numbers
        work = sum(m.weight.numel() for m in gate.modules() if isinstance(m, nn.Conv2d))
        assert evaluate("multiply-adds of squeeze-and-excitation", e=row.expanded_channels, q=q) == work


def test_the_other_formulas_hold() -> None:
    r, j = 1, 1
    for layer in cost.profile(config.large()).layers:
        if layer.kind in ("stem", "expand", "depthwise", "project", "last conv"):
            r = evaluate(
                "receptive field, j pixels from one input to the next", r=r, k=layer.kernel, d=layer.dilation, j=j
            )
            j *= layer.stride
            assert (r, j) == (layer.receptive_field, layer.output_stride)
    for images, batch in ((10, 10), (11, 10), (1_281_167, 1024)):
        assert evaluate("steps of an epoch", N=images, B=batch) == steps_per_epoch(images, batch)
    for x in (-4.0, -3.0, -1.0, 0.0, 2.5, 7.0):
        at = torch.tensor(x, dtype=torch.float64)
        assert math.isclose(evaluate("hard sigmoid", x=x), nn.functional.hardsigmoid(at).item())
        assert math.isclose(evaluate("h-swish", x=x), nn.functional.hardswish(at).item())


def test_every_formula_is_evaluated() -> None:
    """The three tests above name each of them; what they name is there."""
    tree = ast.parse((ROOT / "tests" / "book" / "test_reference.py").read_text(encoding="utf-8"))
    calls = [
        node for node in ast.walk(tree) if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "evaluate"
    ]
    named = {argument.value for call in calls for argument in call.args[:1] if isinstance(argument, ast.Constant)}
    assert named == {each.what for each in FORMULAS}
