"""Going on with a run: with the same recipe and images, or not at all; and what is kept of the best epochs."""

from __future__ import annotations

import json
import math
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import Noise, differing, noise, tiny

from mnv3lib import weights
from mnv3lib.recipe import Recipe
from mnv3lib.training import resume
from mnv3lib.training.checkpoint import read, write
from mnv3lib.training.errors import (
    CheckpointError,
    Interrupted,
    NotFinite,
    OtherData,
    OtherRecipe,
    TrainingError,
    explained,
    last_line,
)
from mnv3lib.training.evaluation import start_worker
from mnv3lib.training.guard import locked, put_aside, signals
from mnv3lib.training.loop import Training
from mnv3lib.training.progress import _Stream, say
from mnv3lib.training.run import Result, train


class Named(Noise):
    """Images whose classes have names."""

    def __init__(self, images: int, classes: tuple[str, ...] = tuple("abcdefghij")) -> None:
        super().__init__(images)
        self.classes = classes


def named(images: int = 50, evaluated: int = 21, **options: Any) -> tuple[Named, Named]:
    return Named(images, **options), Named(evaluated, **options)


def run(recipe: Recipe, out: Path | None, sets: Any = None, **options: Any) -> Result:
    return train(recipe, out, datasets=sets or noise(), device="cpu", **options)


def change(folder: Path, **parts: Any) -> None:
    """Write the last checkpoint of a run anew, with other parts; ``...`` leaves a part out."""
    state = {**read(folder / "last.pt"), **parts}
    write(folder / "last.pt", {name: value for name, value in state.items() if value is not ...})


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of two epochs, after the first; the tests copy it."""
    folder = tmp_path_factory.mktemp("stopped") / "run"
    measure = iter([0.5])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Training, "evaluate", lambda *_: {"top1": next(measure)})
        with pytest.raises(StopIteration):
            run(tiny("epochs=2"), folder, named())
    (folder / ".lock").unlink()
    return folder


@pytest.fixture
def folder(stopped: Path, tmp_path: Path) -> Path:
    """A run of two epochs, after the first."""
    (tmp_path / "run").mkdir()
    for path in stopped.iterdir():
        (tmp_path / "run" / path.name).write_bytes(path.read_bytes())
    return tmp_path / "run"


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that says what is measured from now on, one value after the other."""

    def give(*values: float) -> None:
        left = iter(values)
        monkeypatch.setattr(Training, "evaluate", lambda *_: {"top1": next(left)})

    return give


# -- the recipe --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", ["all but one field", "all but a section", "what differs from the defaults"])
def test_fields_that_an_older_version_did_not_have_are_defaults(folder: Path, kept: str) -> None:
    recipe = read(folder / "last.pt")["recipe"]
    if kept == "all but one field":
        del recipe["label_smoothing"], recipe["optimiser"]["nesterov"]
    elif kept == "all but a section":
        del recipe["averaging"]
    else:
        default = Recipe(name="default").to_dict()
        recipe = {name: value for name, value in recipe.items() if value != default[name]}
    change(folder, recipe=recipe)
    assert run(tiny("epochs=2"), folder, named()).rows[-1]["epoch"] == 2
    change(folder, recipe=recipe)
    with pytest.raises(OtherRecipe, match=r"another recipe \(label_smoothing: 0\.0 there, 0\.1 here\)"):
        run(tiny("epochs=2", "label_smoothing=0.1"), folder, named())


def test_fields_of_a_newer_version_are_named(folder: Path) -> None:
    state = read(folder / "last.pt")
    state["recipe"]["optimiser"]["lookahead"] = 5
    change(folder, recipe=state["recipe"], versions={"mnv3lib": "9.1"})
    with pytest.raises(CheckpointError, match=r"written by mnv3lib 9\.1, and this version.*has no 'lookahead'.*Go on "):
        run(tiny("epochs=2"), folder, named())


@pytest.mark.parametrize("part", ["recipe", "rows", "position", "running", "model", "optimiser", "scaler", "average"])
def test_a_checkpoint_without_a_part_is_refused(folder: Path, part: str) -> None:
    change(folder, **{part: ...})
    with pytest.raises(CheckpointError, match=f"the checkpoint in {folder} is incomplete: it has no {part}"):
        run(tiny("epochs=2"), folder, named())


@pytest.mark.parametrize(
    "parts",
    [
        {"position": []}, {"position": [1, 2, 3]}, {"running": {}}, {"optimiser": {"state": {}}}, {"rows": [3]},
        {"since": "x"},
    ],
)  # fmt: skip
def test_a_part_that_is_something_else_is_refused(folder: Path, parts: dict[str, Any]) -> None:
    change(folder, **parts)
    with pytest.raises(CheckpointError, match="its checkpoint does not fit"):
        run(tiny("epochs=2"), folder, named())


def test_another_format_is_refused(folder: Path) -> None:
    change(folder, format=2)
    with pytest.raises(CheckpointError, match="is of format 2, this version reads 1"):
        run(tiny("epochs=2"), folder, named())


# -- changes within a run ----------------------------------------------------------------------------------------------


def test_after_not_a_number_a_lower_rate_goes_on_from_the_last_checkpoint(folder: Path) -> None:
    """What the error advises is possible, and the files say what was done."""
    high, lower = tiny("epochs=2", "optimiser.lr=1e30"), tiny("epochs=2", "optimiser.weight_decay=0.5", "clip_norm=1")
    with pytest.raises(NotFinite, match="the loss is nan in epoch 2 of 2, step 2"):
        run(high, folder, named(), allow_changes=True)
    with pytest.raises(NotFinite) as caught:
        run(high, folder, named())
    said = str(caught.value)
    assert "the same command would end here again" in said
    assert "--allow-changes" in said
    assert "--restart" in said
    assert "the same command goes on" not in said
    with pytest.raises(OtherRecipe, match=r"optimiser\.lr.*or go on with this recipe from here on \(--allow-changes\)"):
        run(lower, folder, named())
    result = run(lower, folder, named(), allow_changes=True)
    assert [row["epoch"] for row in result.rows] == [1, 2]
    last = read(folder / "last.pt")
    for group in last["optimiser"]["param_groups"]:
        assert (group["initial_lr"], group["weight_decay"]) == (0.05, 0.5), "the old settings came back"
    assert last["recipe"] == lower.to_dict()
    up, down = last["changes"]
    assert up == {"position": [1, 0], "fields": ["optimiser.lr: 0.05 there, 1e+30 here"]}
    assert down["position"] == [1, 0]
    assert [line.partition(":")[0] for line in down["fields"]] == [
        "clip_norm", "optimiser.lr", "optimiser.weight_decay"
    ]  # fmt: skip
    assert json.loads((folder / "result.json").read_text())["changes"] == last["changes"]
    assert json.loads(weights.read(folder / "model.safetensors").metadata["changes"]) == last["changes"]
    run(lower, folder, named())  # which is now the recipe of the run


def test_a_change_is_in_the_checkpoint_at_once(
    folder: Path, measured: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    measured()
    more = tiny("epochs=3", "schedule.name=poly")
    with pytest.raises(StopIteration):
        run(more, folder, named(), allow_changes=True, progress=True)
    assert read(folder / "last.pt")["recipe"] == more.to_dict()
    assert read(folder / "last.pt")["position"] == [1, 0]
    fields = "epochs: 2 there, 3 here; schedule.name: 'cosine' there, 'poly' here"
    assert f"changed from here on: {fields}\n" in capsys.readouterr().out
    with pytest.raises(StopIteration):
        run(more, folder, named(), allow_changes=True, progress=True)
    assert "changed" not in capsys.readouterr().out
    assert len(read(folder / "last.pt")["changes"]) == 1


@pytest.mark.parametrize(
    "field",
    [
        "optimiser.lr_factors={classifier: 2}",
        "seed=1",
        "batch_size=10",
        "optimiser.momentum=0.5",
        "averaging.ema_decay=0.9",
        "model.freeze=norm",
    ],
)
def test_only_what_decides_about_later_steps_may_change(folder: Path, field: str) -> None:
    before = (folder / "last.pt").read_bytes()
    name = field.partition("=")[0]
    with pytest.raises(OtherRecipe, match=f"within a run only epochs, .* may change, not {name}"):
        run(tiny("epochs=2", "optimiser.lr=0.01", field), folder, named(), allow_changes=True)
    with pytest.raises(OtherRecipe, match=r"this run aside \(--restart\)$"):
        run(tiny("epochs=2", field), folder, named())
    assert (folder / "last.pt").read_bytes() == before


# -- the images --------------------------------------------------------------------------------------------------------

ANIMALS = ("cat", "dog", "emu", *"abcdefg")


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        (named(classes=("ape", *ANIMALS[:1], *ANIMALS[2:])), "without the class 'dog', with the new class 'ape'"),
        (named(classes=(*ANIMALS[1::-1], *ANIMALS[2:])), "with the classes in another order"),
        (named(12, classes=ANIMALS), "with 12 training images instead of 50"),
        (named(90, classes=ANIMALS), "with 90 training images instead of 50"),
        (named(50, 20, classes=ANIMALS), "with 20 validation images instead of 21"),
        (named(49, 20, classes=ANIMALS), "with 49 training images instead of 50, with 20 validation images instead"),
    ],
    ids=["renamed", "reordered", "deleted", "added", "validation", "both"],
)
def test_other_images_are_refused(folder: Path, sets: Any, words: str) -> None:
    change(folder, data=resume.described(*named(classes=ANIMALS)))
    before = (folder / "last.pt").read_bytes()
    with pytest.raises(OtherData) as caught:
        run(tiny("epochs=2"), folder, sets)
    assert words in str(caught.value)
    assert "bring back the images as they were; or take another folder, or restart" in str(caught.value)
    assert f"model.weights={folder / 'best.pt'}" in str(caught.value)
    assert (folder / "last.pt").read_bytes() == before


def test_unnamed_classes_are_counted() -> None:
    then, now = resume.described(*noise()), resume.described(*noise())
    resume.check_data(then, now, Path("run"))
    with pytest.raises(OtherData, match="with 10 classes instead of 9"):
        resume.check_data({**then, "num_classes": 9}, now, Path("run"))
    resume.check_data(then, resume.described(*named()), Path("run"))


def test_an_old_checkpoint_that_says_nothing_of_its_images_goes_on(
    folder: Path, measured: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    """And not of the epochs since which the best count: all do."""
    change(folder, data=..., since=..., changes=...)
    measured(0.1)
    result = run(tiny("epochs=2"), folder, named(), progress=True)
    assert (len(result.rows), result.best, result.epoch) == (2, 0.5, 1)
    assert "does not say what the images were, so they were not compared\n" in capsys.readouterr().out
    run(tiny("epochs=2"), folder, named(), progress=True)
    assert "not compared" not in capsys.readouterr().out


def test_the_names_of_the_classes_are_in_the_folder(tmp_path: Path) -> None:
    result = run(tiny("epochs=1"), tmp_path, named(classes=("Größe", *ANIMALS[1:])))
    assert (tmp_path / "classes.txt").read_text(encoding="utf-8").splitlines() == ["Größe", *ANIMALS[1:]]
    assert read(tmp_path / "best.pt")["class_names"] == ["Größe", *ANIMALS[1:]]
    assert read(tmp_path / "last.pt")["data"] == {
        "classes": ["Größe", *ANIMALS[1:]], "num_classes": 10, "images": {"train": 50, "val": 21}
    }  # fmt: skip
    network = weights.load_network(tmp_path / "model.safetensors")
    assert network.classes == ("Größe", *ANIMALS[1:])
    assert differing(dict(network.state_dict()), dict(result.model.state_dict())) == []


@pytest.mark.parametrize("classes", [("a",) * 10, ("", *"bcdefghij"), tuple("abc"), None])
def test_names_that_weights_cannot_hold_do_not_stop_a_run(classes: tuple[str, ...] | None) -> None:
    assert resume.distinct_classes({"classes": classes, "num_classes": 10}) is None


# -- the best ----------------------------------------------------------------------------------------------------------


def test_not_a_number_is_never_the_best(tmp_path: Path, measured: Callable[..., None]) -> None:
    measured(math.nan, 0.2, 0.1, math.inf, math.nan)
    with pytest.warns(RuntimeWarning) as told:
        result = run(tiny("epochs=4", "averaging.checkpoints=1"), tmp_path)
    said = [str(one.message).partition(":")[0] for one in told if "do not count" in str(one.message)]
    assert said == ["top1 (last) is nan after epoch 1", "top1 (last) is inf after epoch 4"]
    assert kept_epochs(tmp_path) == ["epoch-0002.pt"]
    best = read(tmp_path / "best.pt")
    assert (best["epoch"], result.best, result.epoch) == (2, 0.2, 2)


@pytest.fixture
def nan_everywhere(measured: Callable[..., None]) -> None:
    measured(math.nan, math.nan)


@pytest.mark.usefixtures("nan_everywhere")
def test_without_any_number_there_is_no_best(tmp_path: Path) -> None:
    with (
        pytest.warns(RuntimeWarning, match="do not count as the best"),
        pytest.raises(
            TrainingError, match=r"top1 was not a finite number after any epoch.*last epoch are in .*last\.pt"
        ),
    ):
        run(tiny("epochs=2"), tmp_path)
    assert not (tmp_path / "best.pt").exists()
    assert read(tmp_path / "last.pt")["position"] == [2, 0]


def kept_epochs(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("epoch-*"))


def interrupted(folder: Path, recipe: Recipe, step: int) -> None:
    """Run until a step of the run and stop there."""
    images = noise()
    first = len(images[0].asked)

    class Stop(Noise):
        def __getitem__(self, index: int) -> Any:
            item = super().__getitem__(index)
            if len(self.asked) == first + step * 25:
                os.kill(os.getpid(), signal.SIGTERM)
            return item

    with pytest.raises(Interrupted):
        train(recipe, folder, datasets=(Stop(50), images[1]), device="cpu")


@pytest.mark.parametrize(
    "damage",
    ["missing", *(pytest.param(one, marks=pytest.mark.slow) for one in ("damaged", "another's", "the average's"))],
)
def test_best_weights_that_are_lost_are_noticed_at_once(
    tmp_path: Path, measured: Callable[..., None], damage: str
) -> None:
    recipe, out = tiny("epochs=4"), tmp_path / "run"
    measured(0.9, 0.3)
    interrupted(out, recipe, 5)  # in the third epoch
    assert read(out / "last.pt")["position"] == [2, 1]
    best = out / "best.pt"
    if damage == "missing":
        best.unlink()
    elif damage == "damaged":
        best.write_bytes(best.read_bytes()[:5_000])
    else:
        write(best, {**read(best), **({"epoch": 2} if damage == "another's" else {"which": "ema"})})
    measured(0.1, 0.2)
    words = {"missing": "best.pt is missing", "damaged": "best.pt is damaged"}
    lost = r".*of epoch 1 \(top1 0\.9\), are lost; from here on the best since epoch 3 count"
    with pytest.warns(RuntimeWarning, match=words.get(damage, "holds other weights") + lost):
        result = run(recipe, out)
    assert (result.best, result.epoch) == (0.2, 4)
    assert (out / "best.pt.damaged").exists() == (damage == "damaged")
    again = run(recipe, out)  # silent: it is known by now
    assert (again.best, again.epoch) == (0.2, 4)


@pytest.mark.parametrize("which", ["last", "ema"])
def test_best_weights_that_the_checkpoint_holds_are_written_anew(
    tmp_path: Path, measured: Callable[..., None], which: str
) -> None:
    """As after a crash between the checkpoint of an epoch and the file of its weights."""
    recipe = tiny("epochs=2", "averaging.ema_decay=0.5", "averaging.checkpoints=1")
    measured(0.1, 0.2, *((0.7, 0.6) if which == "last" else (0.6, 0.7)), 0.0)
    first = run(recipe, tmp_path)
    before = read(tmp_path / "best.pt"), read(tmp_path / "epoch-0002.pt")
    (tmp_path / "best.pt").unlink()
    (tmp_path / "epoch-0002.pt").unlink()
    measured(0.0)
    again = run(recipe, tmp_path)
    assert (again.which, again.epoch, again.best) == (which, 2, 0.7)
    assert differing((read(tmp_path / "best.pt"), read(tmp_path / "epoch-0002.pt")), before) == []
    assert differing(dict(again.model.state_dict()), dict(first.model.state_dict())) == []


def test_an_average_is_over_the_epochs_that_are_left(tmp_path: Path, measured: Callable[..., None]) -> None:
    recipe = tiny("epochs=4", "averaging.checkpoints=2")
    measured(0.4, 0.5, 0.1)
    interrupted(tmp_path, recipe, 7)
    assert kept_epochs(tmp_path) == ["epoch-0001.pt", "epoch-0002.pt"]
    (tmp_path / "epoch-0001.pt").unlink()
    measured(0.2, 0.3)
    with pytest.warns(RuntimeWarning, match=r"epoch-0001\.pt is missing: the weights of epoch 1 are lost and will not"):
        run(recipe, tmp_path)
    assert kept_epochs(tmp_path) == ["epoch-0002.pt", "epoch-0004.pt"]


def test_weights_are_written_after_their_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a crash in between leaves a checkpoint that still holds them."""
    from mnv3lib.training import checkpoint

    written: list[str] = []
    plain = checkpoint.write_bytes

    def noted(path: Path, data: bytes, **options: Any) -> None:
        written.append(path.name)
        plain(path, data, **options)

    monkeypatch.setattr(checkpoint, "write_bytes", noted)
    run(tiny("epochs=1", "averaging.checkpoints=1"), tmp_path)
    assert written == ["last.pt", "best.pt", "epoch-0001.pt", "averaged.pt"]


# -- folders, signals and words ----------------------------------------------------------------------------------------


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for out, reason in (("file", "there is a file of this name"), ("file/below/it", "Not a directory")):
        with pytest.raises(TrainingError, match=f"{tmp_path / out} cannot be the folder of a run: {reason}"):
            run(tiny(), tmp_path / out)
    with (
        pytest.raises(TrainingError, match=r"/proc/run cannot be the folder of a run: No such file"),
        locked(Path("/proc/run")),
    ):
        pytest.fail("must not be reached")


def test_the_current_folder_can_be_put_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "last.pt").write_text("of before")
    monkeypatch.chdir(tmp_path / "run")
    run(tiny("epochs=1"), Path(), restart=True)
    assert (tmp_path / "run.old-1" / "last.pt").read_text() == "of before"
    assert read(tmp_path / "run" / "last.pt")["position"] == [1, 0]


def test_no_run_that_was_put_aside_is_overwritten(tmp_path: Path) -> None:
    for number in range(1, 5):
        (tmp_path / "run").mkdir()
        assert put_aside(tmp_path / "run") == tmp_path / f"run.old-{number}"
    assert len(list(tmp_path.iterdir())) == 4


def test_processes_that_see_other_images_are_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    other = resume.described(*noise(49))
    monkeypatch.setattr("mnv3lib.training.distributed.Processes.gather", lambda _, value: [value, value, other])
    with pytest.raises(TrainingError, match="the processes see different images or classes"):
        run(tiny(), None)


def test_a_folder_that_cannot_be_renamed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError(16, "Device or resource busy")

    monkeypatch.setattr(Path, "rename", refused)
    with pytest.raises(TrainingError, match=r"run cannot be renamed to run\.old-1: Device or resource busy"):
        put_aside(tmp_path / "run")


@pytest.fixture
def handlers() -> Iterator[dict[int, Any]]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield before
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_closed_terminal_asks_to_stop(tmp_path: Path, handlers: dict[int, Any]) -> None:
    sets = noise()

    class HangUp(Noise):
        def __getitem__(self, index: int) -> Any:
            if len(self.asked) == 13:
                os.kill(os.getpid(), signal.SIGHUP)
                os.kill(os.getpid(), signal.SIGHUP)  # the shell's and the system's
            return super().__getitem__(index)

    with pytest.raises(Interrupted, match=r"stopped by SIGHUP.*last\.pt is whole") as caught:
        train(tiny("batch_size=10"), tmp_path, datasets=(HangUp(50), sets[1]), device="cpu")
    assert caught.value.signum == signal.SIGHUP
    assert read(tmp_path / "last.pt")["position"] == [0, 2]
    assert {number: signal.getsignal(number) for number in handlers} == handlers


@pytest.mark.usefixtures("handlers")
def test_an_ignored_signal_stays_ignored() -> None:
    """What nohup does."""
    asked: list[int] = []
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with signals(asked.append):
        os.kill(os.getpid(), signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        assert signal.getsignal(signal.SIGTERM) != signal.SIG_DFL
        os.kill(os.getpid(), signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL, "the second one must end the process"
    assert asked == [signal.SIGTERM]


@pytest.mark.usefixtures("handlers")
def test_processes_that_prepare_images_leave_signals_to_the_main_one() -> None:
    start_worker(0)
    ignored = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM)]
    assert ignored == [signal.SIG_IGN, signal.SIG_IGN, signal.SIG_DFL]


def test_a_run_goes_on_when_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe whose reader has gone, as in ``… | head``."""
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as stream, monkeypatch.context() as patch:
        patch.setattr("sys.stdout", stream)
        say("lost")
        say("lost too")
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as stream:
        bar = _Stream(stream)
        bar.write("lost")
        bar.flush()
        bar.flush()
        assert bar.isatty() is False


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ("DataLoader worker (pid 7) is killed by signal: Killed. ", "a process that prepares images was killed"),
        ("DataLoader worker (pid(s) 7, 8) exited unexpectedly", "a process that prepares images was killed"),
        ("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried", "there is not enough memory: lower"),
        ("CUDA out of memory. Tried to allocate", "there is not enough memory: lower"),
        ("[gloo/transport/tcp/pair.cc] Connection closed by peer", "another process was lost"),
        ("first line\nNCCL error", "another process was lost"),
    ],
)
def test_known_errors_are_explained_in_one_line(error: str, words: str) -> None:
    found = explained(RuntimeError(error))
    assert str(found).startswith(words)
    assert "\n" not in str(found)
    assert f" ({error.splitlines()[0].strip()})" in str(found)
    assert " go on. (" in str(explained(RuntimeError(error), "So you go on."))


def test_unknown_errors_are_not_explained_away() -> None:
    assert explained(RuntimeError("mat1 and mat2 shapes cannot be multiplied")) is None


def test_what_a_process_that_prepares_images_said() -> None:
    said = "Caught ValueError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n  File x\n"
    assert last_line(ValueError(f"{said}ValueError: a.jpg: is damaged\n")) == "a.jpg: is damaged"
    assert last_line(ValueError("a: b")) == "a: b"


def test_a_killed_process_that_prepares_images_is_told_in_one_line(tmp_path: Path) -> None:
    main = os.getpid()

    class Killed(Noise):
        def __getitem__(self, index: int) -> Any:
            if os.getpid() != main:
                os.kill(os.getpid(), signal.SIGKILL)
            return super().__getitem__(index)

    with pytest.raises(TrainingError, match=r"images was killed, often for want of memory.*no checkpoint from before"):
        train(tiny(), tmp_path, datasets=(Killed(50), noise()[1]), device="cpu", workers=1)


def test_numbers_of_the_python_interface_are_checked() -> None:
    with pytest.raises(ValueError, match="workers must be an integer >= 0, got -1"):
        run(tiny(), None, workers=-1)
    with pytest.raises(ValueError, match="save_every must be an integer >= 1, got 0"):
        run(tiny(), None, save_every=0)
    with pytest.raises(TypeError, match=r"save_every must be an integer >= 1, got 1\.5"):
        run(tiny(), None, save_every=1.5)  # type: ignore[arg-type]


def test_results_are_json_also_without_a_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Training, "evaluate", lambda *_: {"top1": 0.5, "loss": math.nan})
    run(tiny("epochs=1"), tmp_path)
    report = json.loads((tmp_path / "result.json").read_text(), parse_constant=pytest.fail)
    assert report["last"]["last_loss"] is None
    assert report["best"] == {"which": "last", "epoch": 1, "top1": 0.5}
    assert "changes" not in report
    assert torch.isfinite(torch.tensor(report["last"]["train_loss"]))
