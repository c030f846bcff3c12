"""A Sphinx extension that writes the tables of the proof ledger from what the tests noted.

::

    ```{ledger} proofs
    ```

The other tables are ``mutants`` and ``disagreements``. The numbers come from ``_data/ledger.json`` in the book's
folder, which ``make ledger`` writes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

FILE = "_data/ledger.json"
UNITS = {"absolute": "", "count": "", "relative to the spread": " of the spread", "relative to the largest":
         " of the largest"}  # fmt: skip
#: What the files of the tests are about, in the order of the book.
SUBJECTS = {
    "The network": ("parity", "properties", "network", "as_torchvisions"),
    "Its cost": ("cost", "figures_counting_cost", "published", "plan"),
    "Segmentation": ("segmentation", "costs_segmentation"),
    "Detection": ("detection", "costs_detection"),
    "Its speed": ("engine", "figures_writing_the_kernel", "export", "fold", "pointwise", "quantize", "qat"),
    "Data": ("scenes", "datasets", "cifar", "coco", "folder", "listing", "reading", "voc", "augment"),
    "Training": (
        *("loop", "matrix_products", "optimisers", "schedule", "averaging", "tasks_losses", "tasks_metrics"),
        "tasks_networks",
    ),
    "Several processes, and runs that were killed": ("distributed", "checkpoint"),
    "Weights from elsewhere": (
        *("weights", "weight_containers", "weight_damage", "weight_files", "weight_fit", "weight_saving"),
        *("weight_tensors", "downloads", "wild", "portrait"),
    ),
    "The book": ("explore", "site", "notebooks"),
}
MEASURED, QUOTED = ("torchvision", "timm"), ("paper", "keras", "tf-slim")


def power(value: float) -> str:
    """A small number to one digit, as a power of ten where that reads better."""
    if value == 0 or 0.01 <= value < 1000:
        return f"{value:.1g}" if value else "0"
    digit, exponent = f"{value:.0e}".split("e")
    return f"{digit}\u00a0·\u00a010{str(int(exponent)).translate(str.maketrans('-0123456789', '⁻⁰¹²³⁴⁵⁶⁷⁸⁹'))}".replace(
        "1\u00a0·\u00a0", "", 1 if digit == "1" else 0
    )


def small(name: str) -> str:
    """A test, in small letters under what it is about."""
    file, _, function = name.partition("::")
    return f"<br>`{file}` `{function}`"


def proofs(rows: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """What is proven, against what, how exactly."""
    header = ["claim, and its test", "compared with", "tolerance", "worst seen", "times"]
    body = [
        [
            row["claim"] + small(row["test"]),
            row["against"],
            "none" if row["tolerance"] == 0 else power(row["tolerance"]) + UNITS[row["unit"]],
            power(row["worst"]),
            f"{row['cases']:,}",
        ]
        for row in rows
    ]
    return header, body


def mutants(rows: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """What was broken, where, and which test saw it."""
    body = [[row["mistake"], f"`{row['file']}`", small(row["caught_by"]).removeprefix("<br>")] for row in rows]
    return ["mistake", "made in", "first test to fail"], body


def disagreements(rows: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """What the implementations do; quoted cells in italics."""
    body = [[row["what"], *(row[n] for n in MEASURED), *(f"*{row[n]}*" for n in QUOTED)] for row in rows]
    return ["", *MEASURED, *(f"*{name}*" for name in ("paper", "Keras", "TF-slim"))], body


def subject(row: dict[str, Any]) -> str:
    """What a proof is about, by the file of its test.

    Raises:
        ValueError: for a file that is not in :data:`SUBJECTS`.
    """
    name = row["test"].partition(".py::")[0].removeprefix("test_")
    found = [title for title, files in SUBJECTS.items() if name in files]
    if not found:
        raise ValueError(f"{row['test']} has no place in the ledger: add its file to SUBJECTS")
    return found[0]


TABLES = {"proofs": proofs, "mutants": mutants, "disagreements": disagreements}


class LedgerDirective(SphinxDirective):
    """``{ledger}``: one table of the ledger."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        name = self.arguments[0]
        if name not in TABLES:
            raise self.error(f"ledger must be one of {', '.join(TABLES)}, got {name!r}")
        path = Path(self.env.srcdir) / FILE
        self.env.note_dependency(str(path))
        rows = json.loads(path.read_text(encoding="utf-8"))[name]
        if name != "proofs":
            return [self._table(*TABLES[name](rows), source=str(path))]
        made: list[nodes.Node] = []
        for title in SUBJECTS:
            of_it = [row for row in rows if subject(row) == title]
            if of_it:
                made += [nodes.rubric("", f"{title} ({len(of_it)})"), self._table(*proofs(of_it), source=str(path))]
        return made

    def _table(self, header: list[str], body: list[list[str]], *, source: str) -> nodes.Node:
        lines = [header, ["---"] * len(header), *body]
        text = ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]
        holder = nodes.container(classes=["ledger"])
        self.state.nested_parse(StringList(text, source=source), 0, holder)
        return holder


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("ledger", LedgerDirective)
    return {"parallel_read_safe": True}
