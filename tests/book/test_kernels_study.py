"""The study of kernels: what chapter 11 trains, once for each kind of kernels, and how far the runs come apart."""

from __future__ import annotations

from typing import Any

import nbformat
import numpy as np
import pytest
from conftest import ROOT
from figures import measured
from scripts import load_script

SCRIPT = load_script(ROOT / "experiments" / "kernels.py")
KINDS = (SCRIPT.USUAL, *SCRIPT.EMULATED)


@pytest.mark.parametrize("variant", SCRIPT.variants())
def test_each_training_was_run_with_every_kind_of_kernels_and_nothing_else_changed(variant: str) -> None:
    runs = measured.load("kernels").of(variant)
    assert tuple(run.made["kernels"] for run in runs) == KINDS
    assert {run.assignments for run in runs} == {tuple(SCRIPT.variants()[variant])}
    assert len({run.seed for run in runs}) == 1
    assert len({(run.made["cpu"], run.made["threads"], str(run.made["versions"])) for run in runs}) == 1
    losses = np.array([run.epochs["train_loss"] for run in runs])
    assert np.ptp(losses, axis=0).min() > 0, "kernels that change nothing"


def test_the_colours_are_those_of_chapter_11() -> None:
    notebook = nbformat.read(ROOT / "book" / "11_training_recipe.ipynb", as_version=4)
    (cell,) = (cell for cell in notebook.cells if "quick = overridden(" in cell.source and cell.cell_type == "code")
    found: dict[str, Any] = {"overridden": lambda recipe, assignments: assignments, "recipe": None}
    exec(cell.source[cell.source.index("quick = ") :], found)
    assert tuple(found["quick"]) == SCRIPT.COLOURS


def test_runs_are_joined_with_their_kernels() -> None:
    run = dict.fromkeys(("variant", "seed", "test", "best", "parameters", "macs", "seconds", "assignments"), 0)
    run |= {"commit": "c", "versions": {}, "cpu": "a", "threads": 1, "rows": [{"epoch": 1, "train_loss": 0.1234567}]}
    joined = SCRIPT.joined([("own", run), ("sse", run), ("own", run)])
    assert [made["kernels"] for made in joined["made"]] == ["own", "sse"]
    assert [found["made"] for found in joined["runs"]] == [0, 1, 0]
    assert joined["runs"][0]["epochs"] == {"epoch": [1], "train_loss": [0.12346]}
