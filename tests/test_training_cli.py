"""The command line: plans, runs, goes on, and says in one line what is wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from runs import Noise, Nursery, environment, noise, nursery, tiny, until

import mnv3lib.training
from mnv3lib import recipe as recipes
from mnv3lib import weights
from mnv3lib.config import large
from mnv3lib.cost import profile
from mnv3lib.data import BrokenFileError
from mnv3lib.training import evaluation, run
from mnv3lib.training.__main__ import chosen_recipe, default_folder, main, parser
from mnv3lib.training.checkpoint import read
from mnv3lib.training.errors import Interrupted
from mnv3lib.training.evaluation import measure
from mnv3lib.training.launch import Launch, launched
from mnv3lib.training.logs import read_rows

#: Threads and workers that a process may have on this machine.
MOST = 16 * (os.cpu_count() or 1)
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
        (
            ["--workers", "-1"],
            f"--workers must be an integer from 0 to {MOST}, 16 for each CPU of this machine, got -1",
        ),
        (["--workers", f"{MOST + 1}"], f"--workers must be an integer from 0 to {MOST}"),
        (["--threads", "0"], f"--threads must be an integer from 1 to {MOST}, 16 for each CPU of this machine, got 0"),
        (["--threads", f"{MOST + 1}"], f"--threads must be an integer from 1 to {MOST}"),
        (["--threads", "1000000"], f"--threads must be an integer from 1 to {MOST}"),
        (["--save-every", "0"], "--save-every must be an integer >= 1, got 0"),
        (["--device", "tpu"], "argument --device: invalid choice: 'tpu'"),
        (["--threads", "1.5"], "argument --threads: invalid int value: '1.5'"),
        (["--width-mult", "1e300"], "width_mult must leave all layers at most 1,048,576 channels wide, got 1e+300"),
        (["--width-mult", "nan"], "width_mult must be a finite number > 0, got 'nan'"),
        (["--epochs", "9" * 20], "epochs=99999999999999999999 holds an integer of more than 64 bits"),
        (["--set", "data.options={size: 9223372036854775808}"], "holds an integer of more than 64 bits"),
        (["--set", "optimiser.lr=[1"], "optimiser.lr=[1 is not valid YAML: expected ',' or ']', but got"),
        (["--set", "name=2026-13-45"], "name=2026-13-45 is not valid YAML: month must be in 1..12"),
        (["--set", "name=&a [*a]"], "name=&a [*a] refers to itself"),
        (["--set", "name=" + "[" * 3000], "is nested too deeply"),
        (["--set", "name=" + "{a: " * 3000 + "}" * 3000], "is nested too deeply"),
        (["--set", "quantisation=3"], "recipe.quantisation must be a mapping, got 3"),
    ],
)
def test_bad_arguments(arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        status = main([*arguments, "--out", str(tmp_path / "out"), "--dry-run", "--no-trial"])
    except SystemExit as end:
        status = end.code
    said = capsys.readouterr().err
    assert status == 2
    assert words in said.splitlines()[-1], said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("name: Größe\n".encode("latin-1"), "is not text in UTF-8: invalid start byte at byte 8"),
        (bytes(range(256)), "is not text in UTF-8"),
        (b"", "recipe must be a mapping, got None"),
        (b"name: a\ndata: &a {options: {x: *a}}\n", "refers to itself"),
        (b"a: &a [1,1,1,1,1,1,1,1,1]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n"
         b"d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]\n",
         "holds more than 100,000 values"),
        (b"name: a\nepochs: [1\n", "is not valid YAML: expected ',' or ']', but got '<stream end>' (line 3, column 1)"),
        (b"name: a\nseed: 99999999999999999999\n", "holds an integer of more than 64 bits"),
    ],
)  # fmt: skip
def test_a_recipe_that_cannot_be_read_is_named(
    content: bytes, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.yaml").write_bytes(content)
    with pytest.raises(SystemExit, match="2"):
        main(["--recipe", str(tmp_path / "mine.yaml"), "--dry-run", "--no-trial"])
    line = capsys.readouterr().err.splitlines()[-1]
    assert f"error: {tmp_path / 'mine.yaml'}" in line
    assert words in line


def test_numbers_of_64_bits_and_networks_that_are_wide_are_read() -> None:
    """The limits are where they are said to be."""
    assert chosen("--seed", f"{2**63 - 1}").seed == 2**63 - 1
    assert chosen("--set", f"data.options.x={-(2**63)}").data.options["x"] == -(2**63)
    assert chosen("--width-mult", "700").model.options["width_mult"] == 700
    assert chosen("--set", "data.options={x: &a [1], y: *a, z: *a}").data.options["z"] == [1]


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"RANK": "x", "WORLD_SIZE": "2"}, "RANK must be an integer from 0 to 1, got 'x'"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "RANK must be an integer from 0 to 1, got '2'"),
        ({"RANK": "-1", "WORLD_SIZE": "2"}, "RANK must be an integer from 0 to 1, got '-1'"),
        ({"RANK": "0", "WORLD_SIZE": "abc"}, "WORLD_SIZE must be an integer >= 1, got 'abc'"),
        ({"RANK": "0", "WORLD_SIZE": "0"}, "WORLD_SIZE must be an integer >= 1, got '0'"),
        ({"WORLD_SIZE": "2"}, "RANK must be an integer from 0 to 1, it is not set"),
        ({"RANK": "1"}, "WORLD_SIZE must be an integer >= 1, it is not set"),
        ({"RANK": "1", "WORLD_SIZE": "1"}, "RANK must be an integer from 0 to 0, got '1'"),
        ({"RANK": "1", "WORLD_SIZE": "2"}, "MASTER_ADDR must name the machine of process 0, it is not set"),
        ({"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "a"}, "MASTER_PORT must be an integer from 1 to 65535, it is"),
        ({"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "a", "MASTER_PORT": "65536"}, "MASTER_PORT must be an int"),
        ({"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "a", "MASTER_PORT": "0"}, "MASTER_PORT must be an int"),
        ({"TORCHELASTIC_RESTART_COUNT": "once"}, "TORCHELASTIC_RESTART_COUNT must be an integer >= 0, got 'once'"),
        ({"LOCAL_RANK": "-1"}, "LOCAL_RANK must be an integer >= 0, got '-1'"),
    ],
)
def test_variables_of_torchrun_are_checked(
    variables: dict[str, str],
    words: str,
    recipe: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    set_only(monkeypatch, **variables)
    assert main(["--recipe", str(recipe), "--out", str(tmp_path / "out"), "--device", "cpu"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: the environment variable ")
    assert words in said
    assert len(said.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def set_only(monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    """Set these of torchrun's variables and no others."""
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RESTART_COUNT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def test_variables_of_torchrun_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    set_only(monkeypatch)
    assert launched() == Launch() == (0, 1, 0, 0)
    there = {"MASTER_ADDR": "a", "MASTER_PORT": "65535"}
    set_only(monkeypatch, RANK="5", WORLD_SIZE="6", LOCAL_RANK="1", TORCHELASTIC_RESTART_COUNT="3", **there)
    assert launched() == (5, 6, 1, 3)
    set_only(monkeypatch, WORLD_SIZE="1", LOCAL_RANK="2")
    assert launched() == (0, 1, 2, 0)


def test_processes_that_do_not_find_each_other_say_where(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise torch.distributed.DistNetworkError("no route\nC++ CapturedTraceback")

    monkeypatch.setattr(torch.distributed, "rendezvous", refused)
    for rank, lines in (("0", ["error: the processes do not find each other at a:7: no route"]), ("1", [])):
        set_only(monkeypatch, RANK=rank, WORLD_SIZE="2", MASTER_ADDR="a", MASTER_PORT="7")
        assert main(["--recipe", str(recipe), "--out", str(tmp_path / "out"), "--device", "cpu"]) == 1
        assert capsys.readouterr().err.splitlines() == lines


@pytest.mark.parametrize("error", [KeyboardInterrupt(), MemoryError("no room"), OverflowError("too large")])
def test_whatever_stops_a_run_is_said_in_one_line(
    error: BaseException, recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C before the first step among them."""

    def stopped(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(run, "train", stopped)
    status = main(["--recipe", str(recipe)])
    (line,) = capsys.readouterr().err.splitlines()
    if isinstance(error, KeyboardInterrupt):
        assert (status, line) == (
            130, "stopped at once; what was saved before is whole, and the same command goes on from it"
        )  # fmt: skip
    else:
        assert (status, line) == (1, f"error: {error}")


def test_the_exit_status_names_the_signal(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise Interrupted(signal.SIGTERM, "stopped by SIGTERM")

    monkeypatch.setattr(run, "train", stopped)
    assert main(["--recipe", str(recipe)]) == 128 + signal.SIGTERM
    assert capsys.readouterr().err == "stopped by SIGTERM\n"


def test_a_fault_of_our_own_is_told_with_where_it_happened(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failed(*_: object, **__: object) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(run, "train", failed)
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        main(["--recipe", str(recipe)])


def test_what_a_process_that_prepares_images_says_is_one_line(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Broken(Noise):
        classes = tuple("abcdefghij")

        def __getitem__(self, index: int) -> Any:
            raise BrokenFileError("a.jpg: is damaged", "a.jpg", "is damaged")

    monkeypatch.setattr(run, "open_dataset", lambda *_: Broken(20))
    for workers in ("0", "1"):
        out = str(recipe.parent / "out")
        assert main(["--recipe", str(recipe), "--out", out, "--workers", workers, "--device", "cpu"]) == 1
        assert capsys.readouterr().err == "error: a.jpg: is damaged\n"


@pytest.mark.parametrize("out", ["file", "file/below"])
def test_an_out_that_cannot_be_a_folder_is_named(
    out: str, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    for more in ((), ("--restart",)):
        assert main(["--recipe", str(recipe), "--out", str(tmp_path / out), "--device", "cpu", *more]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"error: {tmp_path / out} cannot be the folder of a run: ")
    assert (tmp_path / "file").read_text() == "in the way"


def test_every_option_arrives(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr(run, "train", lambda *args, **options: given.update(options, recipe=args[0], out=args[1]))
    monkeypatch.setattr(torch, "set_num_threads", lambda number: given.update(threads=number))
    defaults = {"device": "auto", "workers": 0, "save_every": None, "restart": False, "allow_changes": False,
                "tensorboard": False, "progress": True}  # fmt: skip
    assert main(["--recipe", str(recipe)]) == 0
    read_back = recipes.load(recipe)
    assert given == {**defaults, "recipe": read_back, "out": default_folder(read_back)}
    given.clear()
    words = (
        "--out x --device cpu --workers 2 --save-every 3 --restart --allow-changes --tensorboard --quiet --threads 1"
    )
    assert main(["--recipe", str(recipe), *words.split()]) == 0
    switched = {"restart": True, "allow_changes": True, "tensorboard": True, "progress": False, "threads": 1}
    assert given == {"device": "cpu", "workers": 2, "save_every": 3, "recipe": read_back, "out": Path("x"), **switched}


def test_what_cannot_be_done_is_said_in_one_line(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["--recipe", str(recipe), "--out", str(tmp_path / "out"), "--device", "cpu", "--set"]
    for assignment, words in (
        ("sync_batch_norm=true", "error: sync_batch_norm must be False on a CPU"),
        ("data.options.nonsense=1", "recipe.data.options has no 'nonsense' for 'digitscenes'"),
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
    assert f"{profile(large()).macs:,} for an image" in said, "the multiply-adds"
    assert "images/s" not in said


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in recipes.names() if recipes.load(name).data.name != "digitscenes"])
def test_every_published_recipe_has_a_plan(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody has said where the images are, and nothing is fetched."""
    assert main(["--recipe", name, "--dry-run", "--device", "cpu"]) == 0
    said = capsys.readouterr().out
    assert said.splitlines()[-1].startswith("No trial, because recipe.data.root does not name the folder of")
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


def test_a_plan_says_that_its_weights_are_not_there(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = ["--recipe", str(recipe), "--dry-run", "--no-trial", "--set"]
    assert main([*plan, "model.weights=/nowhere/small.pth"]) == 0
    assert "there is no weight file at /nowhere/small.pth: the run would stop there" in capsys.readouterr().err
    for there in ("null", "hf-hub:timm/mobilenetv3_small_050.lamb_in1k", "https://example.org/small.pth"):
        assert main([*plan, f"model.weights={there}"]) == 0
        assert "weight file" not in capsys.readouterr().err


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
        ".lock", "best.pt", "classes.txt", "epochs.csv", "last.pt", "model.safetensors", "recipe.yaml", "result.json",
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
