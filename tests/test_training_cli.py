"""The command line: plans, runs, goes on, and says in one line what is wrong."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from runs import Nursery, environment, noise, nursery, tiny, until

import mnv3lib.training
from mnv3lib import recipe as recipes
from mnv3lib import weights
from mnv3lib.config import large
from mnv3lib.cost import profile
from mnv3lib.training import evaluation
from mnv3lib.training.__main__ import chosen_recipe, default_folder, main, parser
from mnv3lib.training.checkpoint import read
from mnv3lib.training.evaluation import measure
from mnv3lib.training.logs import read_rows

SMALL = ("data.options.size=64", "data.options.eval_images=20", "epochs=1")


@pytest.fixture(scope="module")
def fork(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    with nursery(tmp_path_factory.mktemp("nursery")) as made:
        yield made


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(tiny(*SMALL).to_yaml())
    return path


def chosen(*arguments: str) -> recipes.Recipe:
    return chosen_recipe(parser().parse_args(arguments))


# -- arguments ---------------------------------------------------------------------------------------------------------


def test_arguments_change_the_recipe() -> None:
    assert chosen() == recipes.load("digitscenes")
    assert chosen("--recipe", "paper") == recipes.load("paper")
    short = chosen(
        "--model", "mobilenet_v3_large", "--width-mult", "0.5", "--epochs", "3", "--batch-size", "32", "--seed", "7"
    )
    assert (short.model.name, short.model.options["width_mult"]) == ("mobilenet_v3_large", 0.5)
    assert (short.epochs, short.batch_size, short.seed) == (3, 32, 7)
    assert short.schedule.warmup_epochs == 2, "it fits"
    long = chosen(
        "--set", "optimiser.lr=1e-3", "--set", "augment.policy=randaugment", "--epochs", "3", "--set", "epochs=4"
    )
    assert (long.optimiser.lr, long.augment.policy, long.epochs) == (0.001, "randaugment", 4)


def test_a_run_of_one_epoch_needs_no_other_argument() -> None:
    assert chosen("--epochs", "1").schedule.warmup_epochs == 0.25
    assert chosen("--epochs", "2").schedule.warmup_epochs == 0.5
    assert chosen("--epochs", "1", "--set", "schedule.warmup_epochs=0.1").schedule.warmup_epochs == 0.1
    with pytest.raises(ValueError, match=r"recipe\.epochs must be an integer >= 1, got 0"):
        chosen("--epochs", "0")


def test_a_folder_of_its_own_for_each_network() -> None:
    assert default_folder(chosen()) == Path("runs/digitscenes-mobilenet_v3_small")
    assert default_folder(chosen("--width-mult", "0.5")) == Path("runs/digitscenes-mobilenet_v3_small-0.5")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--recipe", "papr"], "did you mean 'paper'?"),
        (["--recipe", "nowhere.yaml"], "No such file or directory: 'nowhere.yaml'"),
        (["--set", "optimiser.lrr=1"], "recipe.optimiser has no 'lrr'"),
        (["--set", "optimiser.lr"], "an assignment must be path=value"),
        (["--epochs", "0"], "recipe.epochs must be an integer >= 1, got 0"),
        (["--width-mult", "-1"], "width_mult must be"),
        (["--workers", "-1"], "--workers must be an integer >= 0, got -1"),
        (["--threads", "0"], "--threads must be an integer >= 1, got 0"),
        (["--save-every", "0"], "--save-every must be an integer >= 1, got 0"),
        (["--device", "tpu"], "argument --device: invalid choice: 'tpu'"),
    ],
)
def test_bad_arguments(arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        status = main([*arguments, "--out", str(tmp_path / "out"), "--dry-run", "--no-trial"])
    except SystemExit as end:
        status = end.code
    said = capsys.readouterr().err
    assert status in (1, 2)
    assert words in said, said
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_done_is_said_in_one_line(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["--recipe", str(recipe), "--out", str(tmp_path / "out"), "--device", "cpu", "--set"]
    for assignment, words in (
        ("sync_batch_norm=true", "error: sync_batch_norm must be False on a CPU"),
        ("data.options.nonsense=1", "has no option 'nonsense'"),
        ("batch_size=128 accumulate=128", "batch_size must leave every process an image"),
    ):
        assert main([*arguments, *" --set ".join(assignment.split()).split()]) == 1
        said = capsys.readouterr().err
        assert words in said
        assert len(said.splitlines()) == 1
    monkeypatch.setenv("MNV3LIB_DEBUG", "1")
    with pytest.raises(ValueError, match="sync_batch_norm must be False"):
        main([*arguments, "sync_batch_norm=true"])


# -- plans -------------------------------------------------------------------------------------------------------------


def test_a_plan_without_a_trial_needs_no_images(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--recipe", "paper", "--dry-run", "--no-trial"]) == 0
    said = capsys.readouterr().out
    assert "5,483,032" in said, "the parameters"
    assert f"{profile(large()).macs / 1e6:.2f} million" in said, "the multiply-adds"
    assert "images/s" not in said


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in recipes.names() if name != "digitscenes"])
def test_every_published_recipe_has_a_plan(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody has said where the images are, and nothing is fetched."""
    assert main(["--recipe", name, "--dry-run", "--device", "cpu"]) == 0
    said = capsys.readouterr().out
    quantised = name == "torchvision-qat"
    reason = (
        "this version does not train with recipe.q" if quantised else "recipe.data.root does not name the folder of"
    )
    assert said.splitlines()[-1].startswith(f"No trial, because {reason}")
    for row in ("parameters", "multiply-adds", "memory"):
        assert f"\n{row}  " in said


def test_a_trial_takes_few_images_at_a_time(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    images = noise(2000)
    monkeypatch.setattr(evaluation, "open_dataset", lambda _, split: images[split != "train"])
    arguments = ["--recipe", str(recipe), "--set", "batch_size=2000", "--set", "data.options.size=2000"]
    assert main([*arguments, "--dry-run", "--device", "cpu"]) == 0
    assert 7 * 62 <= len(images[0].asked) <= 7 * 64  # seven steps; an epoch has 32 of 62 or 63
    said = capsys.readouterr().out
    assert "of 2,000 images" in said
    assert said.splitlines()[-1] == "The speed is that of steps of 64 images."


def test_a_plan_without_images_says_why_there_was_no_trial(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = ["--recipe", "paper", "--set", f"data.root={tmp_path}/nowhere", "--device", "cpu"]
    assert main([*missing, "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "No trial, because the images cannot be read" in said
    assert "nowhere" in said
    assert "5,483,032" in said


def test_a_plan_with_a_trial_estimates_the_time(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MNV3LIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    assert main(["--recipe", str(recipe), "--dry-run", "--device", "cpu"]) == 0
    said = capsys.readouterr().out
    assert "images/s" in said
    assert "64 an epoch" in said
    assert not (tmp_path / "runs").exists(), "a plan leaves nothing behind"


# -- runs --------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_on_a_fresh_machine(tmp_path: Path) -> None:
    """The command of the book, with less of everything: no cache, no home, no settings."""
    command = [sys.executable, "-W", "error", "-m", "mnv3lib.training", "--recipe", "digitscenes"]
    command += ["--model", "mobilenet_v3_small", "--width-mult", "0.5", "--out", "runs/x"]
    for assignment in (
        *SMALL,
        "schedule.warmup_epochs=0.5",
        "data.train_size=32",
        "data.eval_size=32",
        "batch_size=32",
    ):
        command += ["--set", assignment]
    env = environment(HOME=str(tmp_path / "home"))
    env.pop("MNV3LIB_CACHE", None)
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "epoch 1/1:" in done.stdout
    out = tmp_path / "runs" / "x"
    assert {path.name for path in out.iterdir()} == {
        ".lock", "best.pt", "epochs.csv", "last.pt", "model.safetensors", "recipe.yaml", "result.json",
        "summary.png", "summary.svg", "summary.txt",
    }  # fmt: skip
    network = weights.load_network(out / "model.safetensors")
    assert network.config.num_classes == 10
    report = json.loads((out / "result.json").read_text())
    assert len(read_rows(out / "epochs.csv")) == 1
    saved = recipes.load(out / "recipe.yaml")
    assert saved.model.options == {"norm_momentum": 0.1, "width_mult": 0.5}
    # The file holds what was measured.
    again = measure(
        recipes.overridden(saved, [f"data.options.cache={tmp_path / 'cache'}"]), network, "val", device="cpu"
    )
    assert again["top1"] == report["best"]["top1"]


@pytest.mark.slow
def test_ctrl_c_then_the_same_command(fork: Nursery, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(tiny("epochs=3").to_yaml())
    arguments = ["--recipe", tmp_path / "recipe.yaml", "--out", tmp_path / "out"]
    child = fork.start(arguments, log=tmp_path / "first")
    until(lambda: (tmp_path / "out" / "last.pt").exists())
    child.kill(signal.SIGINT)
    assert child.wait() == 128 + signal.SIGINT
    said = (tmp_path / "first").read_text()
    assert f"stopped by SIGINT. {tmp_path / 'out' / 'last.pt'} is whole; the same command goes on from it." in said
    assert "Traceback" not in said
    epoch, step = read(tmp_path / "out" / "last.pt")["position"]
    assert [3, 0] > [epoch, step] > [0, 0]
    assert fork.start(arguments, log=tmp_path / "second").wait() == 0
    assert f"out goes on after step {epoch * 7 + step} of the run" in (tmp_path / "second").read_text()
    assert fork.start(arguments, log=tmp_path / "third").wait() == 0
    assert "out is complete" in (tmp_path / "third").read_text()
    # With workers of its own, and saying nothing.
    more = [*arguments[:2], "--out", tmp_path / "other", "--workers", "1", "--quiet", "--save-every", "2"]
    assert fork.start(more, log=tmp_path / "quiet").wait() == 0
    assert (tmp_path / "quiet").read_text() == ""
    same = [read(tmp_path / name / "last.pt")["model"]["classifier.3.weight"] for name in ("out", "other")]
    assert same[0].equal(same[1]), "workers must not change what is learnt"


@pytest.mark.slow
def test_another_recipe_in_the_folder(fork: Nursery, recipe: Path, tmp_path: Path) -> None:
    arguments = ["--recipe", recipe, "--out", tmp_path / "out", "--quiet"]
    assert fork.start(arguments).wait() == 0
    assert fork.start([*arguments, "--seed", "5"], log=tmp_path / "log").wait() == 1
    said = (tmp_path / "log").read_text()
    assert "holds a run of another recipe (seed: 0 there, 5 here)" in said
    assert "Traceback" not in said
    assert fork.start([*arguments, "--seed", "5", "--restart"]).wait() == 0
    assert read(tmp_path / "out.old-1" / "last.pt")["recipe"]["seed"] == 0
    assert read(tmp_path / "out" / "last.pt")["recipe"]["seed"] == 5
    # What was learnt is where another run can start from.
    start = f"model.weights={tmp_path / 'out' / 'model.safetensors'}"
    fine = ["--recipe", recipe, "--out", tmp_path / "fine", "--set", start, "--set", "data.options.labels=parity"]
    code = fork.start([*fine, "--set", "model.freeze=backbone"], log=tmp_path / "fine.log").wait()
    said = (tmp_path / "fine.log").read_text()
    assert code == 0, said
    assert "classifier.3.weight: 10 classes in the file, 2 here: drawn anew" in said
    states = [read(tmp_path / name / "last.pt")["model"] for name in ("out", "fine")]
    best = read(tmp_path / "out" / "best.pt")["model"]
    assert states[1]["features.0.0.weight"].equal(best["features.0.0.weight"])
    assert states[1]["classifier.3.weight"].shape[0] == 2


def test_names_arrive_when_they_are_used() -> None:
    assert mnv3lib.training.load is recipes.load
    assert set(mnv3lib.training.__all__) <= set(dir(mnv3lib.training))
    for name in mnv3lib.training.__all__:
        assert getattr(mnv3lib.training, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'trian'"):
        _ = mnv3lib.training.trian
    assert yaml.safe_load(tiny().to_yaml()) == tiny().to_dict()
