"""What a change of MobileNetV3 saves or costs in time: the variants of chapter 15, each against the network as it is.

    python benchmarks/claims.py

All variants of a network and a way take turns, and what counts are their ratios to the network as it is within a round.
Where its time goes in PyTorch, layer by layer, is measured beside.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace

from measuring import arguments, images, multiply_adds, runs, shaken, start, three, write
from torch import Tensor, nn
from torch.nn import functional as F

from mnv3lib import MobileNetV3
from mnv3lib.blocks import ConvNormActivation, InvertedResidual
from mnv3lib.config import VARIANTS, InvertedResidualConfig, MobileNetV3Config
from mnv3lib.deploy import compare
from mnv3lib.deploy.breakdown import breakdown

BASELINE = "as it is"
WAYS = ("PyTorch", "ONNX Runtime", "OpenVINO", "engine")


class NaiveHardswish(nn.Module):
    """h-swish as its formula, four operations one after the other."""

    def forward(self, x: Tensor) -> Tensor:
        return x * F.relu6(x + 3) / 6


class OldTail(nn.Module):
    """The network with the last stage of MobileNetV2, which widens to 1280 channels before the pooling."""

    def __init__(self, config: MobileNetV3Config) -> None:
        super().__init__()
        last = config.rows[-1].out_channels
        row = InvertedResidualConfig(last, 3, config.last_conv, 2 * last, False, config.activation, 1)
        self.features = nn.Sequential(
            *MobileNetV3(config).features[:-1],
            InvertedResidual(row),
            ConvNormActivation(2 * last, config.last_channel, activation=config.activation),
        )
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(config.last_channel, config.num_classes)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


def exchanged(model: nn.Module, old: type[nn.Module], new: Callable[[], nn.Module]) -> nn.Module:
    """The model with modules of one class made anew."""
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, old):
                setattr(parent, name, new())
    return model


def with_rows(
    config: MobileNetV3Config, change: Callable[[InvertedResidualConfig], InvertedResidualConfig]
) -> MobileNetV3Config:
    """The network with all rows changed."""
    return replace(config, rows=tuple(map(change, config.rows)))


def narrower(config: MobileNetV3Config, by: int) -> MobileNetV3Config:
    """Every width so many channels thinner, so that none is a multiple of 8."""

    def less(row: InvertedResidualConfig) -> InvertedResidualConfig:
        return replace(
            row,
            input_channels=row.input_channels - by,
            expanded_channels=row.expanded_channels - by,
            out_channels=row.out_channels - by,
        )

    thinner = with_rows(config, less)
    return replace(thinner, last_conv=config.last_conv - by, last_channel=config.last_channel - by)


def wide_stem(config: MobileNetV3Config) -> MobileNetV3Config:
    """32 filters in the stem, as MobileNetV2 has them; row 1 is as wide as the stem."""
    first = config.rows[0]
    expanded = 32 if first.expanded_channels == first.input_channels else first.expanded_channels
    return replace(config, rows=(replace(first, input_channels=32, expanded_channels=expanded), *config.rows[1:]))


def variants(size: str) -> dict[str, nn.Module]:
    """The network as it is, and changed."""
    build = VARIANTS[size].config
    config = build()
    found: dict[str, nn.Module] = {
        BASELINE: MobileNetV3(config),
        "reduced tail": MobileNetV3(build(reduced_tail=True)),
        "old last stage": OldTail(config),
        "stem of 32 filters": MobileNetV3(wide_stem(config)),
        "without SE": MobileNetV3(with_rows(config, lambda row: replace(row, use_se=False))),
        "ReLU everywhere": MobileNetV3(
            replace(with_rows(config, lambda row: replace(row, activation="RE")), activation="RE")
        ),
        "h-swish everywhere": MobileNetV3(with_rows(config, lambda row: replace(row, activation="HS"))),
        "naive h-swish": exchanged(MobileNetV3(config), nn.Hardswish, NaiveHardswish),
        "swish": exchanged(MobileNetV3(config), nn.Hardswish, nn.SiLU),
        "3×3 kernels everywhere": MobileNetV3(with_rows(config, lambda row: replace(row, kernel=3))),
        "1 channel fewer": MobileNetV3(narrower(config, 1)),
        "4 channels fewer": MobileNetV3(narrower(config, 4)),
    }
    return {name: shaken(model) for name, model in found.items()}


def main(given: Sequence[str] | None = None) -> int:
    """Measure and write the file."""
    commands = arguments(__doc__, rounds=25)
    commands.add_argument("--side", type=int, default=224, help="of the images (default: 224)")
    commands.add_argument("--sizes", nargs="+", choices=VARIANTS, default=["large", "small"])
    options = commands.parse_args(given)
    begun = start(options.threads, keep_memory=True)
    results, breakdowns = [], []
    for size in options.sizes:
        models = variants(size)
        where = breakdown(models[BASELINE], images(1, options.side), rounds=options.rounds, threads=options.threads)
        found_in = {kind: round(seconds / where.seconds, 4) for kind, seconds in where.by_kind().items()}
        breakdowns.append({"network": size, "way": "PyTorch", "fractions": found_in})
        macs = {name: multiply_adds(model, options.side) for name, model in models.items()}
        for way in options.ways or WAYS:
            passes, refused = runs(models, images(1, options.side), way, threads=options.threads)
            found = compare(passes, baseline=BASELINE, rounds=options.rounds, threads=options.threads)
            print(f"\n{size}, {way}\n{found}", flush=True)
            lines = [
                {"variant": name, "macs_ratio": round(macs[name] / macs[BASELINE], 4),
                 "ratio": three(found, name, BASELINE)}
                for name in passes
            ]  # fmt: skip
            results.append({"network": size, "way": way, "noise": round(found.noise, 4),
                            "milliseconds": round(found.median(BASELINE) * 1e3, 4), "lines": lines,
                            "refused": refused})  # fmt: skip
    written = {**begun, "rounds": options.rounds, "side": options.side, "results": results, "breakdowns": breakdowns}
    print(write("claims", options.out, written))
    return 0


if __name__ == "__main__":
    sys.exit(main())
