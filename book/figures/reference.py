"""The tables of the page *Reference*, made from the library, the installed packages and the fact file.

A cell is a line of Markdown. ``book/_ext/reference_tables.py`` puts the tables on the page when the book is built, so
that no number of the page is typed twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from functools import cache, partial
from typing import Any, NamedTuple

import torch
from torch import nn

from mnv3lib import facts, recipe
from mnv3lib._checks import value_of
from mnv3lib.config import ROUNDINGS, VARIANTS, InvertedResidualConfig, Options
from mnv3lib.cost import Layer, profile
from mnv3lib.network import MobileNetV3

__all__ = ["FORMULAS", "TABLES", "Formula", "Table", "table"]

NOTHING = "–"
WIDTHS = (0.35, 0.5, 0.75, 1.0, 1.25)
SIDES = (96, 128, 160, 192, 224, 225, 256, 288, 320, 384, 512)
MILLION = 1_000_000
DIGITS = {"macs": 0, "params": 1}  # of published millions
ACTIVATIONS = {"ReLU": "ReLU", "Hardswish": "h-swish", "Hardsigmoid": "h-sigmoid"}
SIZES = {"large": "Large", "small": "Small"}


class Table(NamedTuple):
    """A table of Markdown cells.

    Attributes:
        header: names of the columns.
        rows: as many cells each.
        notes: what stands under the table.
    """

    header: list[str]
    rows: list[list[str]]
    notes: Sequence[str] = ()


def grouped(number: int) -> str:
    """An integer with narrow spaces between thousands."""
    return f"{number:,}".replace(",", "\u202f")


def millions(number: int) -> str:
    """A count in millions, two decimals."""
    return f"{number / MILLION:.2f}"


# The networks --------------------------------------------------------------------------------------------------------


def layers(name: str) -> Table:
    """Every line of a variant at 224 × 224: the paper's columns, the squeeze width and what comes out.

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


# Widths and resolutions ----------------------------------------------------------------------------------------------


def widths(name: str) -> Table:
    """Channels, parameters and multiply-adds at 224 × 224, by width and rounding rule.

    Args:
        name: ``"large"`` or ``"small"``.
    """
    rows = []
    for width in WIDTHS:
        found: dict[tuple[str, ...], list[str]] = {}  # the rules that give the same channels
        for rounding in ROUNDINGS:
            found.setdefault(_widths(name, {"width_mult": width, "rounding": rounding}), []).append(rounding)
        rows += [[f"{width:.2f}", ", ".join(rules), *cells] for cells, rules in found.items()]
    for row in rows:
        row[1] = "all" if row[1].count(",") == len(ROUNDINGS) - 1 else row[1]
    return Table(["width", "rule", "parameters", "multiply-adds", "stem", "last", "hidden", "out"], rows)


def _widths(name: str, options: Options) -> tuple[str, ...]:
    config = VARIANTS[name].config(**options)
    report = profile(config)
    out = [str(row.out_channels) for row in config.rows]
    steps = [width for number, width in enumerate(out) if number == 0 or width != out[number - 1]]
    return (
        grouped(report.parameters), grouped(report.macs), str(config.stem_channels), str(config.last_conv),
        str(config.last_channel), " ".join(steps),
    )  # fmt: skip


def sizes() -> Table:
    """Side of the feature map after each stride, by side of the image; Large and Small agree."""
    rows = []
    for side in SIDES:
        (line,) = {tuple(_sides(name, side)) for name in SIZES}
        (kept,) = {_sides(name, side, dilated=True)[-1] for name in SIZES}
        rows.append([str(side), *map(str, line), str(kept)])
    return Table(["image", "stride 2", "4", "8", "16", "32", "last stage, dilated"], rows)


def _sides(name: str, side: int, *, dilated: bool = False) -> list[int]:
    config = VARIANTS[name].config(dilated=dilated)
    last = {layer.feature: layer.output[1] for layer in profile(config, side).layers}
    return [last[index] for index in config.stages]


# What was published --------------------------------------------------------------------------------------------------


def published(table: str) -> Table:
    """The lines of a published table, each count beside the library's.

    Args:
        table: ``"table9"``, ``"tf-slim"`` or ``"torchvision"``.
    """
    scales = {"millions": MILLION, "thousand millions": 1000 * MILLION}
    units = facts.table(table)["units"]
    rows, notes = [], []
    for line in facts.published(table=table):
        report = profile(
            VARIANTS[line["variant"]].config(width_mult=line["width"], rounding=_rule(line)), line["resolution"]
        )
        counts = []
        for metric, count in (("macs", report.macs), ("params", report.parameters)):
            printed = line[metric]["printed"]
            if units[metric] == "one":
                counts += [grouped(printed), grouped(count)]
            else:
                scaled = Decimal(str(printed)) * scales[units[metric]] / MILLION
                counts += [f"{scaled:.{DIGITS[metric]}f}", millions(count)]
        said = _said(line)
        if said and said not in notes:
            notes.append(said)
        marks = _mark(notes.index(said) + 1) if said else ""
        more = (
            ", 8 bits" if "bits" in line else f", `{line['weights'].rpartition('.')[2]}`" if "weights" in line else ""
        )
        name = VARIANTS[line["variant"]].label + more + marks
        rows.append([
            name, f"{line['width']:.2f}", str(line["resolution"]), f"{line['top1']}", *counts,
            str(line.get("pixel1", NOTHING)),
        ])  # fmt: skip
    header = ["", "width", "px", "top-1, %", "M multiply-adds", "counted", "M parameters", "counted", "Pixel 1, ms"]
    if table == "torchvision":
        header[6], rows = "parameters", [row[:-1] for row in rows]
        header.pop()
    return Table(header, rows, [f"{_mark(number)} {said}" for number, said in enumerate(notes, start=1)])


def _rule(line: Mapping[str, Any]) -> Any:
    """The rounding rule of who published a line; they coincide at width 1."""
    return "torchvision" if line["table"] == "torchvision" else "paper"


def _said(line: Mapping[str, Any]) -> str:
    """What the fact file says about a line: of the row, and of each count that is not reproduced."""
    reasons = [line[metric].get("reason") for metric in ("macs", "params")]
    labelled = [
        f"{what}: {reason}" for what, reason in zip(("Multiply-adds", "Parameters"), reasons, strict=True) if reason
    ]
    return " ".join([*(line[key] for key in ("note", "gap") if key in line), *labelled])


def _mark(number: int) -> str:
    return str(number).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))


# Defaults and preprocessing ------------------------------------------------------------------------------------------


def norms() -> Table:
    """Batch norm's two constants, by who built the network."""
    from torchvision import models

    with torch.device("meta"):
        measured: dict[str, nn.Module] = {
            "PyTorch, `BatchNorm2d`": nn.BatchNorm2d(1),
            "this library": MobileNetV3(VARIANTS["large"].config()),
            "torchvision": models.mobilenet_v3_large(),
            "timm, `mobilenetv3_…`": _timm("mobilenetv3_large_100"),
            "timm, `tf_mobilenetv3_…`": _timm("tf_mobilenetv3_large_100"),
        }
    rows = [[name, *_constants(network)] for name, network in measured.items()]
    quoted = {row["id"]: row for row in facts.load()["implementations"]["rows"]}
    for name, words in (("paper", "*paper*"), ("keras", "*Keras*"), ("tf-slim", "*TF-slim*")):
        rows.append([words, *(f"*{quoted[row][name]}*" for row in ("bn-eps", "bn-momentum"))])
    return Table(["", "ε", "momentum"], rows)


def _constants(network: nn.Module) -> tuple[str, str]:
    found = {(norm.eps, norm.momentum) for norm in network.modules() if isinstance(norm, nn.BatchNorm2d)}
    ((eps, momentum),) = found
    return plain(eps), plain(momentum)


def _timm(name: str) -> nn.Module:
    import timm

    return timm.create_model(name, pretrained=False)


PREPROCESSING = ["weights", "shorter side to", "crop", "interpolation", "mean", "standard deviation"]


def torchvision_preprocessing() -> Table:
    """What torchvision does to an image before each of its weights, from the weights' own transforms."""
    from torchvision import models

    rows = []
    for name in ("mobilenet_v3_large", "mobilenet_v3_small", "quantized_mobilenet_v3_large",
                 "lraspp_mobilenet_v3_large", "deeplabv3_mobilenet_v3_large"):  # fmt: skip
        for weights in models.get_model_weights(name):
            preset = weights.transforms()
            (resize,) = preset.resize_size
            crop = str(preset.crop_size[0]) if hasattr(preset, "crop_size") else NOTHING
            smooth = f"{preset.interpolation.value}{', antialiased' if preset.antialias else ''}"
            shown = f"`{name}`<br>`{weights.name}`"
            rows.append([shown, str(resize), crop, smooth, _three(preset.mean), _three(preset.std)])
    for name in ("ssdlite320_mobilenet_v3_large", "fasterrcnn_mobilenet_v3_large_320_fpn",
                 "fasterrcnn_mobilenet_v3_large_fpn"):  # fmt: skip
        with torch.device("meta"):
            inside = models.get_model(name, weights=None, weights_backbone=None).transform
        if inside.fixed_size:
            size = f"exactly {inside.fixed_size[1]} × {inside.fixed_size[0]}"
        else:
            size = f"{inside.min_size[0]}, the longer at most {inside.max_size}"
        (weights,) = models.get_model_weights(name)
        shown = f"`{name}`<br>`{weights.name}`"
        rows.append([shown, size, NOTHING, "bilinear", _three(inside.image_mean), _three(inside.image_std)])
    return Table(PREPROCESSING, rows)


def timm_preprocessing() -> Table:
    """What timm does to an image before each of its weights that this library can load, from timm's configurations."""
    import timm

    from mnv3lib.weights import NAMES

    rows, notes = [], []
    for name in timm.list_pretrained("*mobilenetv3*"):
        if name.partition(".")[0] not in NAMES:
            continue
        about: Any = timm.models.get_pretrained_cfg(name)
        side = about.input_size[-1]
        rows.append([
            f"`{name}`", str(int(side / about.crop_pct)), str(side), about.interpolation, _three(about.mean),
            _three(about.std),
        ])  # fmt: skip
        if about.test_input_size:
            tested = about.test_input_size[-1]
            notes.append(
                f"`{name}` was also evaluated at {tested}, the shorter side to {int(tested / about.test_crop_pct)}."
            )
    return Table(PREPROCESSING, rows, notes)


def _three(values: Iterable[float]) -> str:
    found = [plain(value) for value in values]
    return found[0] if len(set(found)) == 1 else ", ".join(found)


# Recipes -------------------------------------------------------------------------------------------------------------

#: The published recipes by task: name of the recipe to the name of its column.
CLASSIFICATION = {
    "paper": "the paper's",
    "torchvision-v1": "torchvision's first",
    "torchvision-v2-style": "in the style of its second",
    "torchvision-qat": "its 8 bits",
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
    off = value is None or (not isinstance(value, bool) and value == 0 and path.partition(".")[0] in OFF)
    return "none" if off else plain(value)


#: Sections in which 0 means that a thing is not done.
OFF = ("augment", "averaging", "label_smoothing")


def plain(value: Any) -> str:
    """A value of a recipe as a reader writes it: no powers of ten, no brackets, and of an address its file."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return format(Decimal(str(value)).normalize(), "f")
    if isinstance(value, list | tuple):
        return ", ".join(map(plain, value))
    return f"`{value.rpartition('/')[2]}`" if isinstance(value, str) else str(value)


# Formulas ------------------------------------------------------------------------------------------------------------


class Formula(NamedTuple):
    """A rule as an equation, and as Python, which the tests compute.

    Attributes:
        what: it gives.
        latex: the equation.
        python: the same, of the same letters.
    """

    what: str
    latex: str
    python: str


#: n side, k kernel, s stride, d dilation, p padding, g groups, c and o channels in and out, h × w positions of the
#: output, e expanded channels, q squeeze width, N images, B batch.
FORMULAS = (
    Formula("output side", r"\left\lfloor \frac{n + 2p - d(k-1) - 1}{s} \right\rfloor + 1",
            "(n + 2*p - d*(k - 1) - 1)//s + 1"),
    Formula("padding that keeps the side at stride 1", r"d\,\frac{k-1}{2}", "d*(k - 1)//2"),
    Formula("output side with that padding", r"\left\lceil \frac{n}{s} \right\rceil", "-(-n//s)"),
    Formula("multiply-adds of a convolution", r"k^2\,\frac{c}{g}\,o\,h\,w", "k*k * c//g * o * h*w"),
    Formula("parameters of a convolution with batch norm", r"k^2\,\frac{c}{g}\,o + 2o", "k*k * c//g * o + 2*o"),
    Formula("parameters of a convolution or linear layer with bias", r"k^2\,\frac{c}{g}\,o + o",
            "k*k * c//g * o + o"),
    Formula("rounding to multiples of 8", r"\begin{cases} r & r \ge 0.9\,c \\ r + 8 & \text{else} \end{cases},\ "
            r"r = \max\!\left(8,\ 8\left\lfloor \tfrac{c + 4}{8} \right\rfloor\right)",
            "(r := max(8, int(c + 4)//8*8)) + 8*(r < 0.9*c)"),
    Formula("squeeze width", r"q = \operatorname{round}_8 \lfloor e / 4 \rfloor", "round8(e//4)"),
    Formula("parameters of squeeze-and-excitation", r"2\,e\,q + q + e", "2*e*q + q + e"),
    Formula("multiply-adds of squeeze-and-excitation", r"2\,e\,q", "2*e*q"),
    Formula("receptive field, j pixels from one input to the next", r"r + (k-1)\,d\,j", "r + (k - 1)*d*j"),
    Formula("steps of an epoch", r"\left\lceil \frac{N}{B} \right\rceil", "-(-N//B)"),
    Formula("hard sigmoid", r"\frac{\min(\max(x + 3,\ 0),\ 6)}{6}", "min(max(x + 3, 0), 6)/6"),
    Formula("h-swish", r"x\,\frac{\min(\max(x + 3,\ 0),\ 6)}{6}", "x*min(max(x + 3, 0), 6)/6"),
)  # fmt: skip


def formulas() -> Table:
    """The rules, as equations and as Python."""
    return Table(["", "equation", "Python"], [[each.what, f"${each.latex}$", f"`{each.python}`"] for each in FORMULAS])


_MADE: dict[str, Callable[[], Table]] = {
    **{name: partial(layers, name) for name in SIZES},
    "order": order,
    **{f"widths-{name}": partial(widths, name) for name in SIZES},
    "sizes": sizes,
    **{table: partial(published, table) for table in ("table9", "tf-slim", "torchvision")},
    "norms": norms,
    "torchvision-preprocessing": torchvision_preprocessing,
    "timm-preprocessing": timm_preprocessing,
    "recipes-classification": partial(recipes, CLASSIFICATION),
    "recipes-dense": partial(recipes, DENSE),
    "formulas": formulas,
}
#: Names of the tables.
TABLES = tuple(_MADE)


def table(name: str) -> Table:
    """A table by its name.

    Raises:
        ValueError: for a name that is not in :data:`TABLES`.
    """
    return value_of("name", name, _MADE)()
