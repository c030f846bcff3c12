"""The studies that the book plots: whole, of the code's own recipes, and made again by the script that they name."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conftest import ROOT
from figures import measured
from scripts import load_script
from torchvision.tv_tensors import Image

from mnv3lib import cost
from mnv3lib.data import DigitScenes
from mnv3lib.data.render import COLOURS
from mnv3lib.recipe import load, overridden

EXPERIMENTS = ROOT / "experiments"


RUN = load_script(EXPERIMENTS / "run.py")
#: Those that ``run.py`` makes; others have a script of their own.
STUDIES = [name for name in measured.NAMES if (EXPERIMENTS / f"{name}.yaml").exists()]


# -- what is in the package --------------------------------------------------------------------------------------------


def test_every_study_has_its_definition_and_the_other_way_round() -> None:
    definitions = {path.stem for path in (*EXPERIMENTS.glob("*.yaml"), *EXPERIMENTS.glob("*.py"))} - {"run"}
    assert set(measured.NAMES) == definitions
    assert "ablation" in STUDIES, "no study came with the package"


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_is_whole_and_of_its_definition(name: str) -> None:
    study, defined = measured.load(name), RUN.read_study(name)
    expected = [(variant, seed, tuple(assignments)) for variant, seed, assignments in RUN.runs_of(defined)]
    assert [(run.variant, run.seed, run.assignments) for run in study.runs] == expected
    assert study.recipe == defined["recipe"]
    assert study.about == defined["about"]
    assert study.command == f"python experiments/run.py {name}"
    assert len(study.seeds) >= 3


@pytest.mark.parametrize("name", STUDIES)
def test_every_run_says_how_it_was_made_and_agrees_with_itself(name: str) -> None:
    study = measured.load(name)
    for run in study.runs:
        recipe = overridden(load(study.recipe), run.assignments)
        report = cost.profile(recipe.model.config(num_classes=10), recipe.data.eval_size)
        assert (run.parameters, run.macs) == (report.parameters, report.macs)
        assert len(run.made["commit"]) == 40, "made from code that is in no commit"
        assert {"torch", "torchvision", "python", "mnv3lib"} <= set(run.made["versions"])
        assert run.made["cpu"]
        assert run.seconds > 0
        assert run.epochs["epoch"] == tuple(range(1, recipe.epochs + 1))
        assert set(run.epochs) >= {"lr", "train_loss", "last_top1", "images_per_second"}
        columns = [values for column, values in run.epochs.items() if column.endswith("_top1")]
        assert run.best["top1"] == pytest.approx(max(map(max, columns)), abs=1e-5)
        assert 0 < run.test["top1"] <= run.test["top5"] <= 1
        assert 0 <= run.test["grey_top1"] <= 1
        inks = [run.test[f"{ink}_top1"] for ink in COLOURS]
        assert min(inks) <= run.test["top1"] <= max(inks)
        assert abs(run.test["top1"] - run.best["top1"]) < 0.1, "test and validation images are of one kind"


# -- the reader --------------------------------------------------------------------------------------------------------


def result(variant: str, seed: int, top1: float) -> dict[str, Any]:
    """A run as the files hold it."""
    return {"variant": variant, "seed": seed, "assignments": [f"seed={seed}"], "test": {"top1": top1}, "best": {},
            "parameters": 1, "macs": 2, "seconds": 3.0, "epochs": {"epoch": [1]}, "made": 0}  # fmt: skip


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[measured.Study]:
    runs = [result("a", 1, 0.5), result("b", 1, 0.75), result("a", 2, 0.25), result("b", 2, 0.625)]
    data = {"about": "x", "command": "y", "recipe": "z", "made": [{"commit": "c"}], "runs": runs}
    (tmp_path / "made.json").write_text(json.dumps(data))
    monkeypatch.setattr(measured, "_FOLDER", tmp_path)
    monkeypatch.setattr(measured, "NAMES", ("made",))
    measured.load.cache_clear()
    yield measured.load("made")
    measured.load.cache_clear()


def test_values_are_in_order_of_seeds(study: measured.Study) -> None:
    assert (study.variants, study.seeds) == (("a", "b"), (1, 2))
    assert study.values("a") == (0.5, 0.25)
    assert study.mean("b") == 0.6875
    assert study.spread("b") == pytest.approx(statistics.stdev([0.75, 0.625]))
    assert list(study.steps()) == [("b", "a", (0.25, 0.375))]
    assert study.runs[0].made == {"commit": "c"}


def test_unknown_names_are_refused(study: measured.Study) -> None:
    with pytest.raises(ValueError, match=r"variant must be one of 'a', 'b', got 'c'"):
        study.of("c")
    with pytest.raises(ValueError, match=r"name must be .*'made'.*, got 'ablations'"):
        measured.load("ablations")


# -- the script --------------------------------------------------------------------------------------------------------

TINY = {
    "about": "Tiny.",
    "recipe": "digitscenes",
    "cumulative": True,
    "seeds": [4, 5],
    "common": ["epochs=1", "data.options.size=96", "data.options.eval_images=20", "model.options.width_mult=0.35",
               "data.options.cache=false", "schedule.warmup_epochs=0"],
    "variants": {"first": [], "second": ["label_smoothing=0"], "third-0.25": ["averaging.ema_decay=0"]},
}  # fmt: skip


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, folder in (("HERE", "."), ("RUNS", "runs"), ("JOINED", "measured")):
        monkeypatch.setattr(RUN, name, tmp_path / folder)
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(TINY, sort_keys=False))
    return tmp_path


def test_variants_follow_each_other_or_stand_alone() -> None:
    runs = {(variant, seed): assignments for variant, seed, assignments in RUN.runs_of(TINY)}
    assert list(runs)[:4] == [("first", 4), ("second", 4), ("third-0.25", 4), ("first", 5)]
    assert runs["third-0.25", 5] == [*TINY["common"], "label_smoothing=0", "averaging.ema_decay=0", "seed=5"]
    alone = {variant: assignments for variant, _, assignments in RUN.runs_of({**TINY, "cumulative": False})}
    assert alone["third-0.25"] == [*TINY["common"], "averaging.ema_decay=0", "seed=5"]


@pytest.mark.slow
def test_runs_are_made_joined_and_made_again_bit_for_bit(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variant, seed, _ in RUN.runs_of(TINY):
        RUN.run_one("tiny", variant, seed)
    joined = RUN.join("tiny")
    monkeypatch.setattr(measured, "_FOLDER", place / "measured")
    monkeypatch.setattr(measured, "NAMES", ("tiny",))
    study = measured.load("tiny")
    assert study.variants == ("first", "second", "third-0.25")
    assert study.seeds == (4, 5)
    assert "ema_top1" in study.of("second")[0].epochs
    assert "ema_top1" not in study.of("third-0.25")[0].epochs
    first = json.loads(joined.read_text())
    (place / "runs" / "tiny" / "second-5.json").unlink()
    (place / "runs" / "tiny" / "second-5").rename(place / "gone")
    with pytest.raises(FileNotFoundError, match=r"second-5\.json"):
        RUN.join("tiny")
    assert json.loads(joined.read_text()) == first, "a study that is not whole replaces nothing"
    RUN.run_one("tiny", "second", 5)
    RUN.join("tiny")
    again = json.loads(joined.read_text())
    for old, new in zip(first["runs"], again["runs"], strict=True):
        assert old["test"] == new["test"]
        assert old["best"] == new["best"]
    measured.load.cache_clear()


def test_colours_are_taken_away_and_nothing_else() -> None:
    recipe, seen = overridden(load(TINY["recipe"]), TINY["common"]), []

    class Eye(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            seen.append(images)
            return torch.nn.functional.one_hot(torch.full((len(images),), 3), 10).float()

    threes = RUN.in_grey(recipe, Eye())
    mean, std = (torch.tensor(value)[:, None, None] for value in (recipe.augment.mean, recipe.augment.std))
    grey = 255 * (torch.cat(seen) * std + mean)
    plain = DigitScenes("test", size=20, cache=False, difficulty=recipe.data.options["difficulty"])
    expected = torch.stack([plain[i][0].as_subclass(torch.Tensor) for i in range(20)]).float()
    weights = torch.tensor([0.2989, 0.587, 0.114])[:, None, None]
    assert (grey - (expected * weights).sum(1, keepdim=True)).abs().max() < 1.01
    assert threes == pytest.approx(sum(plain[i][1] == 3 for i in range(20)) / 20)


def test_every_ink_is_measured_by_itself() -> None:
    recipe = overridden(load(TINY["recipe"]), [*TINY["common"], "data.options.eval_images=200"])

    class Threes(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.one_hot(torch.full((len(images),), 3), 10).float()

    scenes = DigitScenes("test", size=200, cache=False, difficulty=recipe.data.options["difficulty"])
    found = RUN.by_ink(recipe, Threes())
    for number, ink in enumerate(COLOURS):
        here = [scenes[i][1] == 3 for i in range(200) if scenes.scene(i)["colours"][0] == number]
        assert found.pop(f"{ink}_top1") == pytest.approx(sum(here) / len(here))
        assert any(here), "a test of zeros"
    assert not found


def test_colours_are_reduced_to_an_axis() -> None:
    """Axes go through red, yellow and green; opposite colours are at the ends of one."""
    grey = torch.full((3, 1, 1), 128, dtype=torch.uint8)

    def seen(colour: tuple[int, int, int], degrees: float) -> list[int]:
        image = Image(grey + torch.tensor(colour, dtype=torch.uint8)[:, None, None])
        kept = RUN.along_hue(image, degrees)
        assert isinstance(kept, Image)
        return [int(value) - 128 for value in kept.flatten()]

    assert seen((60, 60, 60), 30) == [60, 60, 60], "brightness stays"
    for degrees, colour, lighter in ((0, (60, 0, 0), 20), (60, (60, 60, 0), 40), (120, (0, 60, 0), 20)):
        assert seen(colour, degrees) == list(colour), "a colour on its own axis stays"
        assert seen(colour, degrees + 90) == [lighter] * 3, "across it grey is left"
        opposite = tuple(60 - value for value in colour)
        assert seen(opposite, degrees) == list(opposite)
    assert seen((60, 0, 0), 60) == [30, 30, 0], "half of red is on the axis of yellow and blue"


def test_every_axis_is_measured() -> None:
    recipe, seen = overridden(load(TINY["recipe"]), TINY["common"]), []

    class Eye(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            seen.append(images)
            return torch.nn.functional.one_hot(torch.full((len(images),), 3), 10).float()

    found = RUN.by_axis(recipe, Eye())
    assert list(found) == [f"axis_{degrees}_top1" for degrees in (0, 30, 60, 90, 120, 150)]
    assert len(set(found.values())) == 1, "the digits are the same"
    std = torch.tensor(recipe.augment.std)[:, None, None]
    mean = torch.tensor(recipe.augment.mean)[:, None, None]
    pixels = (255 * (torch.cat(seen) * std + mean)).round()
    plain = DigitScenes("test", size=20, cache=False, difficulty=recipe.data.options["difficulty"])
    for place, degrees in enumerate(RUN.AXES):
        expected = torch.stack([RUN.along_hue(plain[i][0], degrees) for i in range(20)])
        assert pixels[20 * place : 20 * (place + 1)].equal(expected.as_subclass(torch.Tensor).float())


@pytest.mark.slow
def test_networks_are_measured_again_and_nothing_else_changes(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    RUN.run_one("tiny", "first", 4)
    path = place / "runs" / "tiny" / "first-4.json"
    whole = json.loads(path.read_text())
    path.write_text(json.dumps({**whole, "test": {"top1": whole["test"]["top1"]}}))
    monkeypatch.setattr(sys, "argv", ["run.py", "tiny", "--measure"])
    assert RUN.main() == 0
    assert "5 runs are missing" in capsys.readouterr().out
    assert json.loads(path.read_text()) == whole
    assert {"top5", "grey_top1", "red_top1", "axis_90_top1"} <= set(whole["test"])
    kept = place / "runs" / "tiny" / "first-4" / "model.safetensors"
    kept.rename(kept.with_suffix(".away"))
    RUN.measure_again("tiny")
    assert "1 networks are not kept: what is known of them stays as it is" in capsys.readouterr().out
    assert json.loads(path.read_text()) == whole
    kept.with_suffix(".away").rename(kept)
    wrong = {**whole, "test": {**whole["test"], "top5": 2.0}}
    path.write_text(json.dumps(wrong))
    with pytest.raises(SystemExit, match=r"first-4 is no longer what was measured: top5 differ"):
        RUN.measure_again("tiny")
    assert json.loads(path.read_text()) == wrong


def test_runs_of_another_study_are_not_joined(place: Path) -> None:
    for variant, seed, assignments in RUN.runs_of(TINY):
        path = place / "runs" / "tiny" / f"{variant}-{seed}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"assignments": [*assignments, "epochs=2"], "rows": [{"epoch": 1}]}))
    with pytest.raises(SystemExit, match="is from another study"):
        RUN.join("tiny")


def test_a_definition_with_a_slip_is_refused(place: Path) -> None:
    (place / "slip.yaml").write_text(yaml.safe_dump({**TINY, "seed": [1]}))
    with pytest.raises(ValueError, match=r"slip\.yaml must have about, common"):
        RUN.read_study("slip")


def test_a_run_that_fails_is_told_and_nothing_is_joined(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["run.py", "tiny"])
    monkeypatch.setattr(RUN.subprocess, "run", lambda *_, **__: type("Done", (), {"returncode": 1, "stderr": "broke"}))
    assert RUN.main() == 1
    assert "first, seed 4 failed:\nbroke" in capsys.readouterr().out
    assert not (place / "measured").exists()
