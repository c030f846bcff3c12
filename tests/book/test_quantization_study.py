"""The study of 8 bits is what its script defines, and a part of it comes out again."""

from __future__ import annotations

import json

import pytest
import torch
from conftest import ROOT
from figures import measured
from scripts import load_script

from mnv3lib import cost
from mnv3lib.deploy.quantization import BACKENDS
from mnv3lib.recipe import load, overridden

SCRIPT = load_script(ROOT / "experiments" / "quantization.py")
IMAGES = 2000
PATH = ROOT / "book" / "_data" / "measured" / "quantization.json"


def test_the_file_holds_every_run() -> None:
    study = measured.load("quantization")
    expected = [(variant, seed, SCRIPT.assignments(variant, seed)) for variant, seed in SCRIPT.plan()]
    assert [(run.variant, run.seed, run.assignments) for run in study.runs] == expected
    assert (study.about, study.recipe) == (SCRIPT.ABOUT, SCRIPT.RECIPE)
    assert study.command == "python experiments/quantization.py"
    assert study.seeds == SCRIPT.SEEDS
    assert len(SCRIPT.SEEDS) == 3
    assert set(study.variants) == {SCRIPT.FLOAT, SCRIPT.TRAINED, *BACKENDS}


def test_every_run_says_how_it_was_made() -> None:
    network = SCRIPT.network()
    for run in measured.load("quantization").runs:
        recipe = overridden(load(SCRIPT.RECIPE), run.assignments)
        report = cost.profile(network.config, recipe.data.eval_size)
        assert (run.parameters, run.macs) == (report.parameters, report.macs)
        assert len(run.made["commit"]) == 40, "made from code that is in no commit"
        assert {"torch", "torchao", "onnxruntime", "mnv3lib"} <= set(run.made["versions"])
        assert run.made["cpu"]
        assert run.seconds > 0
        trained = run.variant == SCRIPT.TRAINED
        assert run.epochs.get("epoch", ()) == (tuple(range(1, recipe.epochs + 1)) if trained else ())
        if trained:
            assert run.best["top1"] == pytest.approx(max(run.epochs["last_top1"]), abs=1e-5)
        for measure in ("top1", "onnxruntime_top1"):
            right = IMAGES * run.test[measure]
            assert right == pytest.approx(round(right))
            assert 0.8 < run.test[measure] < 1


def test_training_is_the_recipe_s_for_fewer_steps() -> None:
    whole = load(SCRIPT.RECIPE)
    shorter = overridden(whole, SCRIPT.assignments(SCRIPT.TRAINED, 1))
    assert shorter.epochs * shorter.data.options["size"] < whole.epochs * whole.data.options["size"]
    assert shorter.quantisation.observer_epochs < shorter.epochs
    assert f"{shorter.data.options['size']:,} images" in SCRIPT.ABOUT


def test_each_calibration_sees_images_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    images = torch.arange(1000.0).reshape(-1, 1)
    monkeypatch.setattr(SCRIPT, "images_of", lambda split: (images, None))
    monkeypatch.setattr(SCRIPT, "network", lambda: None)
    monkeypatch.setattr("mnv3lib.deploy.quantize", lambda model, batches, **how: seen.append((torch.cat(batches), how)))
    for seed in SCRIPT.SEEDS:
        SCRIPT.calibrated("fbgemm", seed)
    assert [len(batch) for batch, _ in seen] == [SCRIPT.CALIBRATION] * 3
    assert len(torch.cat([batch for batch, _ in seen]).unique()) == 3 * SCRIPT.CALIBRATION
    assert {how["backend"] for _, how in seen} == {"fbgemm"}


def test_a_file_in_8_bits_is_smaller_by_a_quarter_of_the_numbers() -> None:
    """And half of it, notes of the exporter: the chapter says so."""
    runs = json.loads(PATH.read_text(encoding="utf-8"))["runs"]
    plain = next(run for run in runs if run["variant"] == SCRIPT.FLOAT)
    for run in runs:
        if run["variant"] != SCRIPT.FLOAT:
            assert 0.4 < run["bytes_of_notes"] / run["bytes"] < 0.6
            smaller, larger = (one["bytes"] - one["bytes_of_notes"] for one in (run, plain))
            assert smaller < 0.45 * larger


def test_integers_saturate_where_there_is_no_instruction_for_them() -> None:
    """What the chapter shows of a processor without VNNI; one with it would give the graph's answers."""
    study = measured.load("quantization")
    assert "AVX2" in study.of("onednn")[0].made["cpu"], "the chapter's text is about a processor without VNNI"
    eight, seven = (study.values(backend, "onnxruntime_error") for backend in ("onednn", "fbgemm"))
    assert min(eight) > max(seven)
    assert study.values(SCRIPT.FLOAT, "onnxruntime_error") < (1e-4,)


@pytest.mark.slow
def test_a_calibration_comes_out_again() -> None:
    """With another processor's last bits it may be off by a few images."""
    pytest.importorskip("torchao")
    (run,) = (run for run in measured.load("quantization").of("qnnpack") if run.seed == 2)
    _, labels = SCRIPT.images_of("test")
    right = SCRIPT.logits(SCRIPT.calibrated("qnnpack", 2)).argmax(1) == labels
    assert right.double().mean().item() == pytest.approx(run.test["top1"], abs=0.003)
