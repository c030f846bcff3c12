"""The study on transfer is what its script defines, and a part of it comes out again."""

from __future__ import annotations

import json

import pytest
from conftest import ROOT
from figures import measured
from scripts import load_script

from mnv3lib import cost
from mnv3lib.recipe import load, overridden

TRANSFER = load_script(ROOT / "experiments" / "transfer.py")
PATH = ROOT / "book" / "_data" / "measured" / "transfer.json"


def chosen() -> dict[tuple[str, str], float]:
    """The learning rates that the file's own trials choose."""
    tried = json.loads(PATH.read_text(encoding="utf-8"))["rates"]["tried"]
    expected = {(*pair, rate) for pair in TRANSFER.CHOOSING for rate in TRANSFER.RATES}
    assert {(one["task"], one["strategy"], one["rate"]) for one in tried} == expected
    rates: dict[tuple[str, str], float] = TRANSFER.best_rates(
        {(one["task"], one["strategy"], one["rate"]): one["top1"] for one in tried}
    )
    return rates


def test_the_file_holds_every_run_at_the_rate_that_was_chosen() -> None:
    study, rates = measured.load("transfer"), chosen()
    expected = [
        (
            f"{task}/{strategy}/{images}" + "/longer" * (longer > 1),
            seed,
            TRANSFER.assignments(task, strategy, images, rates[task, strategy], seed, longer),
        )
        for seed in TRANSFER.SEEDS
        for task, strategy, images, longer in TRANSFER.plan()
    ]
    assert [(run.variant, run.seed, run.assignments) for run in study.runs] == expected
    assert (study.about, study.recipe) == (TRANSFER.ABOUT, TRANSFER.RECIPE)
    assert study.command == "python experiments/transfer.py"
    assert len(study.seeds) >= 3


def test_every_run_takes_the_steps_that_the_chapter_says() -> None:
    for run in measured.load("transfer").runs:
        recipe = overridden(load("digitscenes"), run.assignments)
        images = recipe.data.options["size"]
        assert isinstance(images, int)
        steps = recipe.epochs * -(-images // recipe.batch_size)
        assert steps == TRANSFER.STEPS * (3 if run.variant.endswith("/longer") else 1)
        assert recipe.data.options["seed"] == recipe.seed == run.seed != TRANSFER.CHOOSER


def test_every_run_says_how_it_was_made() -> None:
    for run in measured.load("transfer").runs:
        classes = 6 if run.variant.startswith("colour") else 10
        recipe = overridden(load("digitscenes"), run.assignments)
        report = cost.profile(recipe.model.config(num_classes=classes), recipe.data.eval_size)
        assert (run.parameters, run.macs) == (report.parameters, report.macs)
        assert len(run.made["commit"]) == 40, "made from code that is in no commit"
        assert run.seconds > 0
        diverged = run.epochs["train_loss"][-1] is None
        assert run.test["top1"] == 0 if diverged else 0 < run.test["top1"] <= 1
        assert ("old_top1" in run.test) is (run.variant.startswith("turned") and run.variant.endswith("300"))


def test_the_lowest_of_equal_rates_is_taken() -> None:
    found = dict(zip(TRANSFER.RATES, (0.5, 0.7, 0.7, 0.6, 0.0), strict=True))
    rates = TRANSFER.best_rates({(*pair, rate): value for pair in TRANSFER.CHOOSING for rate, value in found.items()})
    assert {rates[pair] for pair in TRANSFER.CHOOSING} == {0.1}
    assert {rates[task, "graded"] for task in TRANSFER.TASKS} == {0.3}
    assert set(rates) == {(task, strategy) for task in TRANSFER.TASKS for strategy in TRANSFER.STRATEGIES}


@pytest.mark.slow
def test_a_run_comes_out_again() -> None:
    """The shortest; with another processor's last bits it may be off by an image or two."""
    again = TRANSFER.run_one("colour", "frozen", 50, chosen()["colour", "frozen"], 1)
    (run,) = (run for run in measured.load("transfer").of("colour/frozen/50") if run.seed == 1)
    assert again["assignments"] == list(run.assignments)
    assert again["test"]["top1"] == pytest.approx(run.test["top1"], abs=0.02)
