"""Where implementations differ: torchvision's and timm's side measured here, the others' quoted from the fact data.

The rows go to the proof ledger. Of every row the fact file says what the paper, Keras and TF-slim do, and where that
can be read; what the two installed packages do is found out by building their networks.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import timm
import torch
from torch import nn
from torchvision import models

import mnv3lib
from mnv3lib import config, facts

MEASURED = ("torchvision", "timm")
QUOTED = ("paper", "keras", "tf-slim")


@cache
def network(package: str, name: str) -> nn.Module:
    """A network without storage, built by the package's public function."""
    build = {
        "torchvision": lambda: getattr(models, f"mobilenet_v3_{name}")(),
        "timm": lambda: timm.create_model(name, pretrained=False),
    }
    with torch.device("meta"):
        return build[package]()


def wide(package: str, size: str, width: float) -> nn.Module:
    """Large or Small at a width below 1, by the package's own rule, through its public or private door."""
    with torch.device("meta"):
        if package == "torchvision":
            return getattr(models, f"mobilenet_v3_{size}")(width_mult=width)
        from timm.models.mobilenetv3 import _gen_mobilenet_v3

        return _gen_mobilenet_v3(f"mobilenetv3_{size}_100", width)


def norms(package: str, name: str) -> list[nn.BatchNorm2d]:
    return [module for module in network(package, name).modules() if isinstance(module, nn.BatchNorm2d)]


def one(values: Any) -> Any:
    (value,) = set(values)
    return value


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def convolutions(module: nn.Module) -> list[nn.Conv2d]:
    return [part for part in module.modules() if isinstance(part, nn.Conv2d)]


def epsilon(package: str) -> str:
    if package == "torchvision":
        return f"{one(n.eps for n in norms(package, 'large')):g}"
    native, ported = (one(n.eps for n in norms(package, f"{kind}mobilenetv3_large_100")) for kind in ("", "tf_"))
    return f"{native:g}; `tf_…` {ported:g}"


def momentum(package: str) -> str:
    name = {"torchvision": "large", "timm": "mobilenetv3_large_100"}[package]
    return f"{one(n.momentum for n in norms(package, name)):g}"


def widths(package: str) -> str:
    """Expanded width of Large's row 8 at width 0.75."""
    found = convolutions(wide(package, "large", 0.75))
    return str([c.groups for c in found if c.groups > 1][7])


def stem(package: str) -> str:
    return str(convolutions(wide(package, "large", 0.5))[0].out_channels)


def hidden(package: str) -> str:
    return str([m for m in wide(package, "large", 0.75).modules() if isinstance(m, nn.Linear)][-1].in_features)


def count(size: str, width: float) -> Callable[[str], str]:
    return lambda package: f"{parameters(wide(package, size, width)):,}"


def padding(package: str) -> str:
    """What is left of a stride-2 convolution over ones: equal borders mean symmetric padding."""
    kinds = {"torchvision": ["large"], "timm": ["mobilenetv3_large_100", "tf_mobilenetv3_large_100"]}[package]
    found = []
    for name in kinds:
        layer = convolutions(network(package, name))[0]
        twin = type(layer)(1, 1, 3, stride=2, padding=layer.padding, bias=False).eval()
        nn.init.ones_(twin.weight)
        with torch.no_grad():
            corner = twin(torch.ones(1, 1, 8, 8))[0, 0, 0, 0].item()
        found.append({4.0: "symmetric", 9.0: "SAME: below and right"}[corner])
    return found[0] if len(found) == 1 else f"{found[0]}; `tf_…` {found[1]}"


def dilation(package: str) -> str:
    """Rates of the depthwise convolutions in the dilated last stage of Large."""
    if package == "torchvision":
        with torch.device("meta"):
            net = models.mobilenet_v3_large(dilated=True)
    else:
        with torch.device("meta"):
            net = timm.create_model("mobilenetv3_large_100", features_only=True, output_stride=16)
    rates = [c.dilation[0] for c in convolutions(net) if c.groups > 1][-3:]
    return ", ".join(map(str, rates))


def depthwise_initialisation(package: str) -> str:
    """Standard deviation of a 5×5 depthwise kernel over 960 channels, against He et al.'s for 25 inputs."""
    torch.manual_seed(0)
    net = models.mobilenet_v3_large() if package == "torchvision" else timm.create_model("mobilenetv3_large_100")
    weight = [c.weight for c in convolutions(net) if c.groups == 960][-1]
    ratio = weight.std().item() / (2 / 25) ** 0.5
    return f"{ratio:.2f} of √(2/k²)"


def linear_initialisation(package: str) -> str:
    torch.manual_seed(0)
    net = models.mobilenet_v3_large() if package == "torchvision" else timm.create_model("mobilenetv3_large_100")
    weight = [m for m in net.modules() if isinstance(m, nn.Linear)][-1].weight
    kurtosis = ((weight / weight.std()) ** 4).mean().item()
    kind = "normal" if abs(kurtosis - 3) < 0.1 else "uniform" if abs(kurtosis - 1.8) < 0.1 else "other"
    return f"{kind}, standard deviation {weight.std().item():.3f}"


def head(package: str) -> str:
    """Kinds of the layers after the last convolution of the backbone."""
    if package == "torchvision":
        return "linear" if isinstance(network(package, "large").classifier[0], nn.Linear) else "1×1 convolution"
    layer = network(package, "mobilenetv3_large_100").conv_head
    return "1×1 convolution" if isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1) else "linear"


def dropout(package: str) -> str:
    if package == "torchvision":
        return f"{one(m.p for m in network(package, 'large').modules() if isinstance(m, nn.Dropout)):g}"
    return f"{network(package, 'mobilenetv3_large_100').drop_rate:g}"


def last_gate(package: str) -> str:
    """Whether Small's last 1×1 convolution is followed by squeeze-and-excitation."""
    if package == "torchvision":
        last = network(package, "small").features[-1]
    else:
        last = network(package, "mobilenetv3_small_100").blocks[-1]
    return "yes" if len(convolutions(last)) > 1 else "no"


MEASURE: dict[str, Callable[[str], str]] = {
    "bn-eps": epsilon,
    "bn-momentum": momentum,
    "expanded-width": widths,
    "stem-width": stem,
    "hidden-width": hidden,
    "parameters-large-075": count("large", 0.75),
    "parameters-small-050": count("small", 0.5),
    "padding": padding,
    "dilation": dilation,
    "depthwise-init": depthwise_initialisation,
    "linear-init": linear_initialisation,
    "head": head,
    "dropout": dropout,
    "small-last-conv-se": last_gate,
}
ROWS = facts.load()["implementations"]["rows"]


def test_every_row_is_measured_and_quoted() -> None:
    assert [row["id"] for row in ROWS] == list(MEASURE)
    for row in ROWS:
        assert set(row) == {"id", "what", *QUOTED}, row["id"]


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["id"])
def test_implementations_disagree(row: dict[str, Any], record_property: Callable[[str, object], None]) -> None:
    """At least two of them do not do the same, or the row would not be worth a line."""
    cells = {**{name: row[name] for name in QUOTED}, **{name: MEASURE[row["id"]](name) for name in MEASURED}}
    stated = {value for value in cells.values() if value not in ("not stated", "has none")}
    assert len(stated) > 1, "all the same"
    record_property("disagreements", [{"what": row["what"], **cells}])


def test_both_channel_rules_and_dilation_policies_are_ours() -> None:
    """What the table shows as a choice can be chosen here."""
    by_id = {row["id"]: row for row in ROWS}
    for rounding, package in (("torchvision", "torchvision"), ("paper", "timm")):
        large = config.large(width_mult=0.75, rounding=rounding)
        assert str(large.rows[7].expanded_channels) == widths(package)
        assert str(large.last_channel) == hidden(package)
        with torch.device("meta"):
            assert f"{parameters(mnv3lib.MobileNetV3(large)):,}" == count("large", 0.75)(package)
    for policy, package in (("torchvision", "torchvision"), ("paper", "timm")):
        rows = config.large(dilated=True, dilation_policy=policy).rows
        assert ", ".join(str(row.dilation) for row in rows[-3:]) == dilation(package)
    assert by_id["dilation"]["tf-slim"] == dilation("timm")
