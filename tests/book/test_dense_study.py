"""The study "dense": its runs are recipes that can be followed, and what is joined is what was measured."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from scripts import load_script

from mnv3lib.training.evaluation import make_task

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"
#: What makes a run a matter of seconds.
SHORT = ["epochs=1", "schedule.warmup_epochs=0", "batch_size=4", "data.options.size=8", "data.options.eval_images=4",
         "data.options.cache=false", "averaging.ema_decay=0"]  # fmt: skip


@pytest.fixture(scope="module")
def study() -> ModuleType:
    return load_script(EXPERIMENTS / "dense.py")


def test_every_run_is_a_recipe_of_its_own(study: ModuleType) -> None:
    runs = list(study.runs())
    assert len({study.folder_of(*one) for one in runs}) == len(runs) == 21
    networks: dict[str, set[Any]] = {}
    for variant, seed in runs:
        recipe = study.recipe_of(variant, seed)
        network, changed = variant.split("/")
        assert network in recipe.model.name
        assert (recipe.seed, recipe.data.options["seed"]) == (seed, seed)
        task = make_task(recipe, 11)
        assert (task.weights_backbone is None) == (changed in ("scratch", "reduced-tail"))
        networks.setdefault(variant, set()).add(task.config)
    (plain,), (fresh,) = networks["lraspp/classifier"], networks["lraspp/scratch"]
    assert plain == fresh, "the starts differ in more than their weights"
    assert networks["ssdlite/classifier"] == networks["ssdlite/scratch"]
    (halved,), (paper,), (coarse,) = (
        networks[f"lraspp/{name}"] for name in ("reduced-tail", "paper-dilation", "stride-32")
    )
    assert [row.out_channels for row in halved.backbone.rows[-3:]] == [24, 24, 24]
    assert [row.dilation for row in paper.backbone.rows[-3:]] == [1, 2, 2]
    assert [row.dilation for row in plain.backbone.rows[-3:]] == [2, 2, 2]
    assert [row.dilation for row in coarse.backbone.rows[-3:]] == [1, 1, 1]


@pytest.mark.slow
def test_a_run_is_measured_and_joined(study: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from figures import measured

    of_study = study.assignments
    monkeypatch.setattr(study, "assignments", lambda variant, seed: [*of_study(variant, seed), *SHORT])
    for name, value in {"RUNS": tmp_path, "JOINED": tmp_path / "joined", "SEEDS": (1,), "TESTS": 5}.items():
        monkeypatch.setattr(study, name, value)
    monkeypatch.setattr(study, "VARIANTS", {"lraspp/classifier": (), "ssdlite/classifier": ()})
    for one in study.runs():
        study.run_one(*one)
    target = study.join()
    found: dict[str, Any] = json.loads(target.read_text(encoding="utf-8"))
    masks, boxes = found["runs"]
    assert [run["variant"] for run in (masks, boxes)] == ["lraspp/classifier", "ssdlite/classifier"]
    assert {"miou", "background_iou", "9_iou", "pixel_accuracy"} <= set(masks["test"])
    assert {"ap", "ap50", "ap75"} <= set(boxes["test"])
    assert {"commit", "versions", "cpu", "threads"} <= set(found["made"][0])
    monkeypatch.setattr(measured, "_FOLDER", tmp_path / "joined")
    monkeypatch.setattr(measured, "NAMES", ("dense",))
    assert measured.load.__wrapped__("dense").values("lraspp/classifier", "miou") == (masks["test"]["miou"],)
    monkeypatch.setattr(study, "assignments", of_study)
    with pytest.raises(SystemExit, match="is from another study of this name"):
        study.join()
