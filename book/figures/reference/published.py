"""Published accuracy and costs, each count beside the library's."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from figures.reference.tables import MILLION, NOTHING, Table, millions

from mnv3lib import facts
from mnv3lib.config import VARIANTS
from mnv3lib.cost import profile

DIGITS = {"macs": 0, "params": 1}  # of published millions


def published(table: str) -> Table:
    """The lines of a published table, each count beside the library's.

    Args:
        table: ``"table9"``, ``"tf-slim"`` or ``"torchvision"``.
    """
    scales = {"millions": MILLION, "billions": 1000 * MILLION}
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
                counts += [f"{printed:,}", f"{count:,}"]
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
