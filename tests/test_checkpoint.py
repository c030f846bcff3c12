"""Nothing lost: whatever happens to a process, a disk or a file, a run goes on as if it had not happened."""

from __future__ import annotations

import errno
import io
import os
import pickle
import random
import re
import resource
import shutil
import signal
import time
import warnings
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from ledger import Deviation
from runs import EVERYTHING, Child, Nursery, differing, nursery, position, same_files, tiny, until, workers
from torch import nn

from mnv3lib import _files
from mnv3lib.training.checkpoint import Checkpoints, differences, load_exactly, read, write, write_bytes
from mnv3lib.training.errors import CheckpointError
from mnv3lib.training.logs import read_rows

STATE = {"weights": torch.arange(1000.0), "position": [1, 2], "rows": [{"epoch": 1, "loss": 0.5}], "nothing": None}
OTHER = {**STATE, "position": [1, 3]}


@pytest.fixture(scope="module")
def fork(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    with nursery(tmp_path_factory.mktemp("nursery")) as made:
        yield made


# -- files -------------------------------------------------------------------------------------------------------------


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write(tmp_path / "new" / "a.pt", STATE)
    assert differing(read(tmp_path / "new" / "a.pt"), STATE) == []
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.pt"]


def test_the_one_before_is_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.load() is None
    for step in range(4):
        checkpoints.save({"step": step})
        assert checkpoints.load() == {"step": step}
        assert not step or read(checkpoints.previous) == {"step": step - 1}
    checkpoints.last.unlink()  # as after a crash between the two renames
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert checkpoints.load() == {"step": 2}


class FullDisk(io.FileIO):
    """A file on a disk that has room for some bytes."""

    room = 5_000

    def write(self, data: Any) -> int:
        written = super().write(bytes(data)[: self.room])
        type(self).room -= written
        if written < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return written


@pytest.mark.parametrize("room", [0, 1, 4_000, 5_000])
def test_a_full_disk_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(STATE)
    monkeypatch.setattr(FullDisk, "room", room)
    monkeypatch.setattr(_files, "open", lambda path, mode: FullDisk(path, mode), raising=False)
    with pytest.raises(CheckpointError, match=r"last\.pt cannot be written: No space left on device") as caught:
        checkpoints.save(OTHER)
    assert "last.pt is as it was" in str(caught.value)
    monkeypatch.undo()
    assert differing(checkpoints.load(), STATE) == []
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"], "left something half-written"


def test_a_limit_of_the_system_leaves_the_old_one(tmp_path: Path) -> None:
    """The real thing: the kernel refuses to let the file grow."""
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(STATE)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    assert before[0] == resource.RLIM_INFINITY or before[0] > 10_000
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, before[1]))
        with pytest.raises(CheckpointError, match="cannot be written: File too large"):
            checkpoints.save(OTHER)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert differing(checkpoints.load(), STATE) == []
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]


def test_written_and_on_disk_before_it_takes_the_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order that makes it atomic, also when the machine loses its power."""
    happened: list[str] = []
    fsync, replace = os.fsync, os.replace

    def plain(path: str | Path) -> str:
        return re.sub(r"\.\d+-[0-9a-f]+\.tmp", ".tmp", Path(path).name)  # process and chance are in the name

    def synced(handle: int) -> None:
        happened.append(f"sync {plain(os.readlink(f'/proc/self/fd/{handle}'))}")
        fsync(handle)

    def replaced(old: Path, new: Path) -> None:
        happened.append(f"{plain(old)} -> {plain(new)}")
        replace(old, new)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(STATE)
    checkpoints.save(STATE)
    first = ["sync .last.pt.tmp", ".last.pt.tmp -> last.pt", f"sync {tmp_path.name}"]
    assert happened == [*first, first[0], "last.pt -> previous.pt", *first[1:]]


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CheckpointError, match=r"a\.pt cannot be written: (Not a directory|File exists)"):
        write_bytes(tmp_path / "file" / "a.pt", b"")


@pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_one_falls_back(tmp_path: Path, part: float) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(STATE)
    checkpoints.save(OTHER)
    whole = checkpoints.last.read_bytes()
    checkpoints.last.write_bytes(whole[: int(part * len(whole))])
    with pytest.warns(RuntimeWarning, match=r"last\.pt is damaged .*going on from .*previous\.pt"):
        assert differing(checkpoints.load(), STATE) == []
    # The damaged one must not become the one that is kept.
    checkpoints.save(OTHER)
    assert differing(read(checkpoints.last), OTHER) == []
    assert {path.name for path in tmp_path.iterdir()} == {"last.pt", "last.pt.damaged", "previous.pt"}
    assert differing(read(checkpoints.previous), STATE) == []


def test_a_flipped_bit_is_noticed(tmp_path: Path) -> None:
    """One in the weights, which torch.load alone would take for good."""
    path = tmp_path / "a.pt"
    write(path, STATE)
    data = bytearray(path.read_bytes())
    place = data.index(torch.arange(1000.0).numpy().tobytes()) + 2_001
    data[place] ^= 1
    path.write_bytes(data)
    assert not torch.equal(torch.load(path, weights_only=True)["weights"], STATE["weights"])
    with pytest.raises(CheckpointError, match=r"is damaged or no checkpoint.*checksum"):
        read(path)


def test_both_damaged_is_an_error_that_names_both(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(STATE)
    checkpoints.save(OTHER)
    for path in (checkpoints.last, checkpoints.previous):
        path.write_bytes(b"PK" + bytes(100))
    with pytest.raises(CheckpointError, match=r"can be read: .*last\.pt is damaged.*previous\.pt is damaged"):
        checkpoints.load()


class Bomb:
    """Unpickling it would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("archive", [True, False])
def test_a_pickle_bomb_is_refused(tmp_path: Path, archive: bool) -> None:
    bomb, path = Bomb(tmp_path / "exploded"), tmp_path / "a.pt"
    torch.save({"model": bomb}, path) if archive else path.write_bytes(pickle.dumps({"model": bomb}))
    with pytest.raises(CheckpointError, match="is refused: it holds more than" if archive else "no checkpoint"):
        read(path)
    assert not (tmp_path / "exploded").exists()
    torch.save([1, 2], path)
    with pytest.raises(CheckpointError, match="is no checkpoint: it holds a list"):
        read(path)


def test_another_architecture_is_told_by_name() -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    before = {name: value.clone() for name, value in module.state_dict().items()}
    state = {
        **{name: value + 1 for name, value in before.items()},
        "0.weight": torch.zeros(4, 5),
        "2.weight": torch.zeros(1),
    }
    del state["1.running_mean"]
    with pytest.raises(CheckpointError) as caught:
        load_exactly(module, state, source="a.pt")
    for words in (
        "a.pt is of another architecture",
        "missing: 1.running_mean",
        "unexpected: 2.weight",
        "0.weight is (4, 5) there, (4, 3) here",
    ):
        assert words in str(caught.value)
    assert differing(dict(module.state_dict()), before) == [], "half of it was loaded"


def test_differences_name_the_fields() -> None:
    then, now = tiny().to_dict(), tiny("optimiser.lr=1", "data.options.size=7", "augment.crop_scale=[0.5,1]").to_dict()
    assert differences(then, then) == []
    assert differences(then, now) == [
        "data.options.size: 200 there, 7 here",
        "optimiser.lr: 0.05 there, 1.0 here",
        "augment.crop_scale: None there, [0.5, 1.0] here",
    ]
    assert differences({"a": (1, 2)}, {"a": [1, 2], "b": 0}) == ["b: None there, 0 here"]
    for one, other in (([1, 2], [1, 3]), ([1, 3], [1, 2]), ([1], [1, 2]), ([1, 2], [1])):
        assert differences({"a": one}, {"a": other}) == [f"a: {one} there, {other} here"]


# -- kill -9 -----------------------------------------------------------------------------------------------------------

#: Epochs of a run, and steps of an epoch.
EPOCHS, STEPS = 4, 7


def recipe_file(folder: Path, *assignments: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(tiny(*EVERYTHING, f"epochs={EPOCHS}", *assignments).to_yaml())
    return path


def alone(fork: Nursery, arguments: Sequence[object], log: Path) -> Generator[list[int], None, None]:
    """Start a process, and again whenever it was killed, until its run is complete; give its number each time."""
    code = -signal.SIGKILL
    while code == -signal.SIGKILL:
        child = fork.start(arguments, log=log)
        yield [child.pid]
        code = child.wait()
    assert code == 0, log.read_text()


def together(
    fork: Nursery, processes: int, arguments: Sequence[object], log: Path, *, restarts: int
) -> Generator[list[int], None, None]:
    """Start torchrun, which starts all again whenever one was killed; give their numbers each time."""
    agent, known = fork.torchrun(processes, arguments, restarts=restarts, log=log), list[int]()
    try:
        while True:
            until(lambda: len(set(workers(agent.pid)) - set(known)) == processes or not agent.runs, step=0.01)
            if not agent.runs:
                break
            known[:] = workers(agent.pid)
            yield known[:]
        assert agent.wait() == 0, log.read_text()
    finally:
        if agent.runs:
            agent.kill(signal.SIGTERM)
            agent.wait()


def modified(path: Path) -> int:
    """When a file was written last, in nanoseconds; 0 if it is not there."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def come_to(out: Path, step: int) -> None:
    """Wait for the checkpoint of a step of the run, or of a later one."""
    seen = 0

    def there() -> bool:
        nonlocal seen
        written, reached = modified(out / "last.pt"), False
        if written != seen:
            epoch, done = position(out)
            seen, reached = written, epoch * STEPS + done >= step
        return reached or step == 0

    until(there)


def killed_runs(fork: Nursery, folder: Path, processes: int, *, runs: int, kills: int) -> Iterator[Path]:
    """Complete runs in each of which a process was killed so many times, each of them about as often as the others.

    Every moment lies in a part of its own of the run, soon after a checkpoint, which may be while the next is written.
    One in five is any time after a start instead, which may be while one is read. How long that is, the same recipe's
    run in ``whole`` tells, which was not killed.
    """
    moments, struck = random.Random(0), []
    pace = sum(row["seconds"] for row in read_rows(folder / "whole" / "epochs.csv")) / (EPOCHS * STEPS)
    for run in range(runs):
        for attempt in range(3):
            out, log = folder / f"run-{run}-{attempt}", folder / "log.txt"
            arguments = ["--recipe", folder / "recipe.yaml", "--out", out, "--save-every", "1", "--quiet"]
            early = moments.sample(range(kills - 1), kills // 5)
            ranks = moments.sample([number % processes for number in range(kills)], kills)
            starts = (
                alone(fork, arguments, log)
                if processes == 1
                else together(fork, processes, arguments, log, restarts=kills)
            )
            with closing(starts):
                for number, started in enumerate(starts):
                    if number == kills:
                        continue
                    if number in early:
                        time.sleep(moments.uniform(0, 10 * pace))
                    else:
                        # Some steps before the end: a signal that a busy machine delays must still find a process.
                        come_to(out, int(moments.uniform(number, number + 1) / kills * (EPOCHS * STEPS - 5)))
                        time.sleep(moments.uniform(0, 2 * pace))
                    with suppress(ProcessLookupError):
                        os.kill(started[ranks[number]], signal.SIGKILL)
                    struck.append(position(out))
            assert number == kills, f"{number} of {kills} times a process was at work when it was killed: {struck}"
            # In every run by itself: two runs may well be struck at the same steps. Where the machine stalled, the run
            # went on unseen, and many kills came at one step: then once more.
            steps = struck[-kills:]
            if len(set(map(tuple, steps))) >= kills // 2:
                break
        else:
            raise AssertionError(f"the moments were not spread over the run: {steps}")
        yield out


def differing_values(one: Path, other: Path) -> list[int]:
    """Number of values that differ in the last checkpoints, the best and the averaged weights; tables must agree."""
    assert sorted(path.name for path in one.glob("epoch-*")) == sorted(path.name for path in other.glob("epoch-*"))
    tables = [(folder / "epochs.csv").read_text().splitlines() for folder in (one, other)]
    assert [row.split(",")[:2] for row in tables[0]] == [row.split(",")[:2] for row in tables[1]]
    assert [row.partition(",")[0] for row in tables[0]] == ["epoch", "1", "2", "3", "4"]
    return [len(same_files(one, other, name)) for name in ("last.pt", "best.pt", "averaged.pt")]


@pytest.mark.slow
@pytest.mark.proves(
    "Killed (kill -9) at 20 random moments and resumed: weights, optimiser, averages and tables of one process",
    against="the same run uninterrupted, on a CPU",
    tolerance=0,
    unit="count",
)
def test_killed_twenty_times(fork: Nursery, tmp_path: Path, deviation: Deviation) -> None:
    path = recipe_file(tmp_path)
    assert fork.start(["--recipe", path, "--out", tmp_path / "whole", "--quiet"]).wait() == 0
    for out in killed_runs(fork, tmp_path, 1, runs=2, kills=10):
        for values in differing_values(tmp_path / "whole", out):
            deviation(values)


@pytest.mark.slow
@pytest.mark.proves(
    "Any of 2 processes under torchrun killed (kill -9) at 20 random moments, of 3 at 5: weights, optimiser, averages",
    against="the same processes uninterrupted, on a CPU",
    tolerance=0,
    unit="count",
)
@pytest.mark.parametrize(("processes", "runs", "kills"), [(2, 2, 10), (3, 1, 5)])
def test_killed_together(
    fork: Nursery, tmp_path: Path, processes: int, runs: int, kills: int, deviation: Deviation
) -> None:
    """The agent is torchrun's own, told to fork what it starts from a process that has imported everything."""
    path = recipe_file(tmp_path, "accumulate=1")
    assert fork.torchrun(processes, ["--recipe", path, "--out", tmp_path / "whole", "--quiet"]).wait() == 0
    for out in killed_runs(fork, tmp_path, processes, runs=runs, kills=kills):
        for values in differing_values(tmp_path / "whole", out):
            deviation(values)


# -- runs --------------------------------------------------------------------------------------------------------------


def start(fork: Nursery, folder: Path, *more: object, **env: str) -> tuple[Child, Path]:
    log = folder / "log.txt"
    arguments = ["--recipe", folder / "recipe.yaml", "--out", folder / "out", "--save-every", "1", *more]
    return fork.start(arguments, log=log, **env), log


@pytest.mark.slow
def test_a_run_on_a_full_disk_stops_and_goes_on(fork: Nursery, tmp_path: Path) -> None:
    """The second checkpoint does not fit; with room again the run ends as one that always had it."""
    (tmp_path / "recipe.yaml").write_text(tiny("epochs=2", "averaging.ema_decay=0.9").to_yaml())
    child, log = start(fork, tmp_path)
    assert child.wait() == 0, log.read_text()
    shutil.move(tmp_path / "out", tmp_path / "whole")
    child, log = start(fork, tmp_path)
    until(lambda: position(tmp_path / "out") >= [0, 2])
    size = (tmp_path / "whole" / "last.pt").stat().st_size  # of the running one it may be between two names just now
    resource.prlimit(child.pid, resource.RLIMIT_FSIZE, (size // 2, size // 2))
    assert child.wait() == 1
    said = log.read_text()
    assert "last.pt cannot be written: File too large" in said
    assert "Traceback" not in said
    assert position(tmp_path / "out") >= [0, 2]
    child, log = start(fork, tmp_path)
    assert child.wait() == 0
    assert "goes on after step" in log.read_text()
    assert same_files(tmp_path / "whole", tmp_path / "out", "last.pt") == []


@pytest.mark.slow
def test_a_run_with_a_damaged_checkpoint_goes_on_from_the_one_before(fork: Nursery, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(tiny("epochs=2").to_yaml())
    child, log = start(fork, tmp_path)
    assert child.wait() == 0
    shutil.copytree(tmp_path / "out", tmp_path / "whole")
    last = tmp_path / "out" / "last.pt"
    last.write_bytes(last.read_bytes()[:10_000])
    child, log = start(fork, tmp_path)
    assert child.wait() == 0
    assert f"{last} is damaged" in log.read_text()
    assert same_files(tmp_path / "whole", tmp_path / "out", "last.pt") == []
    # A checkpoint of another network that claims to be of this recipe.
    state = read(last)
    state["model"]["features.0.0.weight"] = torch.zeros(1, 2, 3)
    write(last, state)
    before = last.read_bytes()
    child, log = start(fork, tmp_path)
    assert child.wait() == 1
    assert "is of another architecture (another shape: features.0.0.weight is (1, 2, 3) there" in log.read_text()
    assert last.read_bytes() == before
