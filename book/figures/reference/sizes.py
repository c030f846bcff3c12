"""What a width does to channels and costs, and what the size of an image does to its feature maps."""

from __future__ import annotations

from figures.reference.tables import SIZES, Table

from mnv3lib.config import ROUNDINGS, VARIANTS, Options
from mnv3lib.cost import profile

WIDTHS = (0.35, 0.5, 0.75, 1.0, 1.25)
SIDES = (96, 128, 160, 192, 224, 225, 256, 288, 320, 384, 512)


def widths(name: str) -> Table:
    """Channels, parameters and multiply-adds at 224×224, by width and rounding rule.

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
        f"{report.parameters:,}", f"{report.macs:,}", str(config.stem_channels), str(config.last_conv),
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
