"""The explorer: a network at every width and resolution, layer by layer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from numbers import Real
from pathlib import Path
from typing import Any

import traitlets

from mnv3lib.config import VARIANTS
from mnv3lib.cost import profile
from mnv3lib.explore.tables import (
    REFERENCE,
    RESOLUTIONS,
    ROUNDINGS,
    WIDTHS,
    Feature,
    explorer_table,
    features,
)
from mnv3lib.explore.widget import StaticWidget

__all__ = ["CONTROLS", "Explorer"]

_HERE = Path(__file__).parent

#: The explorer's controls, in the order shown.
CONTROLS = ("variant", "width_mult", "resolution", "reduced_tail", "dilated", "rounding")


class OneOf(traitlets.TraitType[Any, Any]):
    """A trait with a fixed set of values; an error names the trait, the value and the range."""

    def __init__(self, values: Sequence[Any], default: Any, *, words: str = "") -> None:
        super().__init__(default)
        self.values = tuple(values)
        self.info_text = words or "one of " + ", ".join(map(repr, values))

    def validate(self, obj: Any, value: Any) -> Any:
        number = isinstance(value, Real) and not isinstance(value, bool)
        for allowed in self.values:
            # A slider's 0.1 + 0.2 is 0.3; True is not 1.
            if number and not isinstance(allowed, str | bool) and abs(allowed - value) < 1e-9:
                return allowed
            if type(value) is type(allowed) and value == allowed:
                return allowed
        raise traitlets.TraitError(f"{self.name} must be {self.info_text}, got {value!r}")


class Explorer(StaticWidget):
    """MobileNetV3 at every width and resolution: channels and multiply-adds per layer, parameters, activations.

    All arguments are traits: they can be set and observed, and they follow the controls.

    Args:
        variant: ``"large"``, ``"small"``, ``"large_minimalistic"`` or ``"small_minimalistic"``.
        width_mult: 0.25, 0.30, … 2.00.
        resolution: 96, 128, … 320 pixels.
        reduced_tail: halve the last stage.
        dilated: keep the last stage at the resolution before it.
        rounding: rounding rule, ``"torchvision"`` or ``"paper"``.
        controls: names of the arguments above that the reader can change; the others stay as given. One name
            may stand alone.

    Raises:
        TraitError: naming the argument, the value and the range. A misspelt argument is a TypeError.
    """

    _esm = _HERE / "explorer.js"
    _css = _HERE / "explorer.css"
    page_name = "explorer"
    page_traits = (*CONTROLS, "controls")
    repr_traits = CONTROLS

    variant = OneOf(tuple(VARIANTS), "large").tag(sync=True)
    width_mult = OneOf(WIDTHS, REFERENCE[0], words="0.25, 0.30, 0.35, … 2.00").tag(sync=True)
    resolution = OneOf(RESOLUTIONS, REFERENCE[1], words="a multiple of 32 from 96 to 320").tag(sync=True)
    reduced_tail = OneOf((False, True), False, words="True or False").tag(sync=True)
    dilated = OneOf((False, True), False, words="True or False").tag(sync=True)
    rounding = OneOf(ROUNDINGS, "torchvision").tag(sync=True)
    controls = traitlets.List(list(CONTROLS)).tag(sync=True)
    table = traitlets.Dict(read_only=True).tag(sync=True)

    def __init__(
        self,
        *,
        variant: str = "large",
        width_mult: float = 1.0,
        resolution: int = 224,
        reduced_tail: bool = False,
        dilated: bool = False,
        rounding: str = "torchvision",
        controls: str | Iterable[str] = CONTROLS,
    ) -> None:
        super().__init__(
            variant=variant, width_mult=width_mult, resolution=resolution, reduced_tail=reduced_tail,
            dilated=dilated, rounding=rounding, controls=controls if isinstance(controls, str) else list(controls),
        )  # fmt: skip

    @traitlets.default("table")
    def _default_table(self) -> dict[str, Any]:
        return explorer_table()

    @traitlets.validate("controls")
    def _valid_controls(self, proposal: dict[str, Any]) -> list[str]:
        for name in proposal["value"]:
            if name not in CONTROLS:
                raise traitlets.TraitError(f"controls must be names out of {CONTROLS}, got {name!r}")
        return [name for name in CONTROLS if name in proposal["value"]]

    @classmethod
    def shared(cls) -> dict[str, Any]:
        return {"table": explorer_table()}

    def fallback(self) -> str:
        variant = VARIANTS[self.variant]
        network = variant.config(
            width_mult=self.width_mult,
            reduced_tail=self.reduced_tail,
            dilated=self.dilated,
            rounding=self.rounding,
        )
        report = profile(network, self.resolution)
        words = [f"MobileNetV3 {variant.label}", f"width {self.width_mult}", f"{self.resolution} px"]
        words += [name.replace("_", " ") for name in ("reduced_tail", "dilated") if getattr(self, name)]
        words += [f"{self.rounding} rounding rule"] if self.rounding != "torchvision" else []
        lines = [
            "<table>",
            f"<caption>{', '.join(words)}: {report.parameters:,} parameters, "
            f"{report.macs:,} multiply-adds, at most {report.peak_memory():,} bytes of activations "
            "at once (float32)</caption>",
            "<thead><tr>" + "".join(f'<th scope="col">{name}</th>' for name in _HEADS) + "</tr></thead>",
            "<tbody>",
            *map(_fallback_row, features(network, report)),
            "</tbody>",
            "</table>",
        ]
        return "\n".join(lines)


_HEADS = ("Layer", "Kernel", "Stride", "Exp", "Out", "SE", "NL", "Size", "Parameters", "Multiply-adds")


def _fallback_row(row: Feature) -> str:
    cells = (
        f"{row.kernel}×{row.kernel}",
        str(row.stride),
        str(row.exp or "–"),
        str(row.out),
        "✓" if row.se else "–",
        row.activation,
        f"{row.side}²",
        f"{row.parameters:,}",
        f"{sum(row.macs.values()):,}",
    )
    return f'<tr><th scope="row">{row.name}</th>' + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"
