"""Several processes train one network: as one would, whatever the shares, and also when one of them is killed."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from ledger import Deviation, worst_of
from runs import Child, Nursery, free_port, nursery, position, same_files, tiny, torchrun, until, workers
from torch import nn

from mnv3lib.network import MobileNetV3
from mnv3lib.recipe import load
from mnv3lib.training.checkpoint import read
from mnv3lib.training.distributed import (
    Processes,
    _fresh_store,
    choose_device,
    process_group,
    synchronise_batch_norm,
)
from mnv3lib.training.errors import TrainingError
from mnv3lib.training.evaluation import make_task, measure
from mnv3lib.training.logs import read_rows
from mnv3lib.training.order import reseed

#: 50 images in steps of at most 16: four steps of 12 and 13, which neither 2 nor 3 processes share evenly.
UNEVEN = ("data.options.size=50", "data.options.eval_images=31", "batch_size=16", "epochs=2")
FIXED = ("model.freeze=norm", "model.options.dropout=0", "augment.flip=0.5", "augment.crop_scale=[0.5,1]")


@pytest.fixture(scope="module")
def fork(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    with nursery(tmp_path_factory.mktemp("nursery")) as made:
        yield made


@pytest.fixture
def trained(fork: Nursery, tmp_path: Path) -> Callable[..., Path]:
    """Return a function that trains with so many processes, or goes on, and gives the folder of the run."""

    def train(name: str, processes: int, *assignments: str) -> Path:
        (tmp_path / f"{name}.yaml").write_text(tiny(*assignments).to_yaml())
        log = tmp_path / f"{name}.log"
        arguments = ["--recipe", tmp_path / f"{name}.yaml", "--out", tmp_path / name]
        children = fork.start_together(processes, arguments, log=log)
        assert [child.wait() for child in children] == [0] * processes, log.read_text()
        return tmp_path / name

    return train


def deviation_of(one: Path, other: Path) -> float:
    """Largest difference of a weight between two runs, relative to the largest change that training made to one."""
    states, recipe = [read(folder / "last.pt")["model"] for folder in (one, other)], load(other / "recipe.yaml")
    reseed(recipe.seed, "weights")
    untrained = make_task(recipe, read(other / "best.pt")["classes"]).build_model().state_dict()
    return worst_of(*states) / worst_of(states[1], untrained)


def assert_same_measures(one: Path, other: Path, *counted: str) -> None:
    """The tables of two runs agree: what was counted, and losses but for rounding."""
    for mine, theirs in zip(*(read_rows(folder / "epochs.csv") for folder in (one, other)), strict=True):
        assert [mine[name] for name in counted] == [theirs[name] for name in counted]
        for loss in ("last_loss", "train_loss"):
            assert mine[loss] == pytest.approx(theirs[loss], rel=1e-6)


@pytest.mark.slow
@pytest.mark.proves(
    "2 and 3 processes that share uneven batches, batch statistics fixed: what 8 steps of SGD change in the weights",
    against="1 process with the whole batches",
    tolerance=1e-5,
    unit="relative to the largest",
)
def test_processes_train_as_one(
    trained: Callable[..., Path], deviation: Deviation, record_property: Callable[..., None]
) -> None:
    one = trained("one", 1, *UNEVEN, *FIXED)
    for world in (2, 3):
        several = trained(f"several-{world}", world, *UNEVEN, *FIXED)
        found = deviation_of(several, one)
        deviation(found)
        assert found > 0, "not a float was added in another order: were there several processes?"
        # 31 images are measured in shares of 16 and 15, or 11, 10 and 10: each exactly once.
        assert_same_measures(several, one, "last_top1")
        record_property("measured", f"{world} processes against one: weights differ by {found:.1e} of what they learnt")


@pytest.mark.slow
@pytest.mark.proves(
    "2 processes, live batch statistics: weights after 8 steps of SGD",
    against="1 process that accumulates 2 batches, whose statistics are of the same images",
    tolerance=1e-6,
    unit="relative to the largest",
)
def test_two_processes_are_two_accumulated_batches(
    trained: Callable[..., Path], fork: Nursery, deviation: Deviation, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = (*UNEVEN, "model.options.dropout=0.2", "augment.mixup=0.2", "model.options.norm_momentum=0.5")
    one, two = trained("one", 1, *live, "accumulate=2"), trained("two", 2, *live)
    states = [read(folder / "last.pt")["model"] for folder in (one, two)]
    weights = [{n: v for n, v in state.items() if "running" not in n and "num_batches" not in n} for state in states]
    deviation(worst_of(*weights) / max(float(value.abs().max()) for value in weights[0].values()))
    # The running statistics are the first process's: of its half of each batch only, 8 updates instead of 16.
    assert [int(state["features.0.1.num_batches_tracked"]) for state in states] == [16, 8]
    # It is these that both measured with, not each with its own.
    monkeypatch.setenv("MNV3LIB_CACHE", str(fork.folder / "cache"))
    recipe = tiny(*live)
    network = MobileNetV3(recipe.model.config(num_classes=10))
    network.load_state_dict(states[1])
    row = read_rows(two / "epochs.csv")[-1]
    assert measure(recipe, network, "val", device="cpu")["loss"] == pytest.approx(row["last_loss"], rel=1e-6)
    undivided = trained("undivided", 1, *live)
    assert (
        worst_of({n: v for n, v in read(undivided / "last.pt")["model"].items() if n in weights[0]}, weights[0]) > 1e-4
    )


@pytest.mark.slow
@pytest.mark.proves(
    "LR-ASPP on DigitScenes by 2 processes, batch statistics fixed: what an epoch of SGD changes in the weights",
    against="1 process with the whole batches",
    tolerance=1e-5,
    unit="relative to the largest",
)
def test_two_processes_segment_as_one(trained: Callable[..., Path], deviation: Deviation) -> None:
    """22 images in three steps of 7 and 8; images that were made smaller leave pixels that count nowhere."""
    dense = (
        "task=segmentation", "model.name=lraspp_mobilenet_v3_large", "model.options={}", "model.freeze=norm",
        "augment.scale_range=[0.5,2]", "augment.flip=0.5", "epochs=1", "batch_size=8", "data.options.size=22",
        "data.options.eval_images=9",
    )  # fmt: skip
    one, two = (trained(f"{processes}", processes, *dense) for processes in (1, 2))
    found = deviation_of(two, one)
    deviation(found)
    assert found > 0
    assert_same_measures(two, one, "last_miou", "last_pixel_accuracy")


@pytest.mark.slow
@pytest.mark.proves(
    "2 processes killed (kill -9), then 1 and 3 that go on, batch statistics fixed: what SGD changes in the weights",
    against="the 2 processes uninterrupted",
    tolerance=1e-5,
    unit="relative to the largest",
)
def test_fewer_or_more_go_on(trained: Callable[..., Path], fork: Nursery, tmp_path: Path, deviation: Deviation) -> None:
    whole, out = trained("whole", 2, *UNEVEN, *FIXED), tmp_path / "killed"
    children = fork.start_together(2, ["--recipe", tmp_path / "whole.yaml", "--out", out, "--save-every", "1"])
    until((out / "last.pt").exists)
    for child in children:
        child.kill()
    codes = [child.wait() for child in children]
    assert codes[0] == -signal.SIGKILL  # the other may have missed it before it was killed itself
    assert [0, 0] < position(out) < [2, 0]
    for world in (1, 3):
        shutil.copytree(out, tmp_path / f"resumed-{world}")
        resumed = trained(f"resumed-{world}", world, *UNEVEN, *FIXED)
        assert f"{resumed} goes on after step" in (tmp_path / f"resumed-{world}.log").read_text()
        deviation(deviation_of(resumed, whole))
        assert_same_measures(resumed, whole, "last_top1")


@pytest.mark.slow
@pytest.mark.proves(
    "Under torchrun, a worker killed in the middle of an epoch: started again, weights, optimiser and averages",
    against="the same two processes uninterrupted",
    tolerance=0,
    unit="count",
)
def test_a_killed_worker_is_started_again(
    trained: Callable[..., Path], fork: Nursery, tmp_path: Path, deviation: Deviation
) -> None:
    changes = ("averaging.ema_decay=0.9", "augment.flip=0.5", "epochs=4")
    whole = trained("whole", 2, *changes)
    out, log = tmp_path / "killed", tmp_path / "killed.log"
    arguments = ["--recipe", str(tmp_path / "whole.yaml"), "--out", str(out), "--save-every", "2", "--restart"]
    cache = str(fork.folder / "cache")
    run = torchrun(2, arguments, restarts=2, log=log, MNV3LIB_CACHE=cache)
    try:
        until(lambda: position(out)[1] > 0, step=0.05)
        killed = workers(run.pid)
        assert len(killed) == 2
        os.kill(killed[1], signal.SIGKILL)
        assert run.wait(timeout=60) == 0, log.read_text()
    finally:
        run.terminate()  # which ends its workers too
        run.wait()
    said = log.read_text()
    assert f"{out} goes on after step" in said
    assert said.count("epoch 4/4:") == 1
    deviation(len(same_files(whole, out, "last.pt")))
    deviation(len(same_files(whole, out, "best.pt")))
    assert not list(tmp_path.glob("killed.old*")), "--restart must not start anew after a crash"
    assert [row["epoch"] for row in read_rows(out / "epochs.csv")] == [1, 2, 3, 4]


@pytest.mark.slow
def test_two_launchers_are_two_machines(trained: Callable[..., Path], fork: Nursery, tmp_path: Path) -> None:
    """What chapter 13 tells for two machines, with two launchers on this one: a worker is killed, and nothing lost."""
    whole = trained("whole", 2, "averaging.ema_decay=0.9", "augment.flip=0.5", "epochs=4")
    out, cache = tmp_path / "out", str(fork.folder / "cache")
    arguments = ["--recipe", str(tmp_path / "whole.yaml"), "--out", str(out), "--save-every", "2"]
    meeting = f"localhost:{free_port()}"
    launchers = [
        torchrun(1, arguments, restarts=2, log=tmp_path / f"{number}.log", meeting=meeting, MNV3LIB_CACHE=cache)
        for number in range(2)
    ]
    try:
        until(lambda: position(out)[1] > 0, step=0.05, seconds=180)
        (killed,) = workers(launchers[1].pid)
        os.kill(killed, signal.SIGKILL)
        codes = [run.wait(timeout=300) for run in launchers]
    finally:
        for run in launchers:
            run.terminate()
            run.wait()
    said = "".join((tmp_path / f"{number}.log").read_text() for number in range(2))
    assert codes == [0, 0], said
    assert f"{out} goes on after step" in said
    assert same_files(whole, out, "last.pt") == []


@pytest.mark.slow
def test_addresses_of_dead_processes_are_not_used(
    fork: Nursery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store of torchrun outlives the processes that it starts; those started again must not read the old ones."""
    store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    env = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port), "TORCHELASTIC_USE_AGENT_STORE": "True"}
    (tmp_path / "recipe.yaml").write_text(tiny("epochs=1", "data.options.size=64").to_yaml())
    for out in ("first", "second"):
        arguments = ["--recipe", tmp_path / "recipe.yaml", "--out", tmp_path / out]
        children = []
        for rank in range(2):
            children.append(fork.start(arguments, log=tmp_path / "log", RANK=str(rank), WORLD_SIZE="2", **env))
            time.sleep(0.5)  # in which the first would read the old address of the other
        assert [child.wait() for child in children] == [0, 0], (tmp_path / "log").read_text()
    assert same_files(tmp_path / "first", tmp_path / "second", "last.pt") == []


@pytest.mark.slow
def test_ctrl_c_stops_all_at_the_same_step(fork: Nursery, tmp_path: Path) -> None:
    """The signal reaches the processes in different steps; they agree on the one to stop after."""
    (tmp_path / "recipe.yaml").write_text(tiny("epochs=30").to_yaml())
    arguments = ["--recipe", tmp_path / "recipe.yaml", "--out", tmp_path / "out", "--save-every", "1"]
    children: list[Child] = fork.start_together(2, arguments, log=tmp_path / "log")
    until(lambda: (tmp_path / "out" / "last.pt").exists())
    children[1].kill(signal.SIGINT)  # to one of them only
    assert sorted(child.wait() for child in children) == [128 + signal.SIGINT, 128 + signal.SIGTERM]
    said = (tmp_path / "log").read_text()
    assert said.count("last.pt is whole; the same command goes on from it") == 1
    assert "Traceback" not in said
    assert read(tmp_path / "out" / "last.pt")["position"] != [30, 0]


@pytest.mark.slow
def test_not_a_number_stops_all(fork: Nursery, tmp_path: Path) -> None:
    recipe = tiny("optimiser.lr=1e20", "schedule.name=constant")
    (tmp_path / "recipe.yaml").write_text(recipe.to_yaml())
    arguments = ["--recipe", tmp_path / "recipe.yaml", "--out", tmp_path / "out"]
    children = fork.start_together(2, arguments, log=tmp_path / "log")
    assert [child.wait() for child in children] == [1, 1]
    said = (tmp_path / "log").read_text()
    assert said.count("error: the loss is") == 1
    assert "Traceback" not in said


@pytest.mark.slow
def test_what_fails_in_the_first_fails_in_all(fork: Nursery, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(tiny("data.options.nonsense=1").to_yaml())
    arguments = ["--recipe", tmp_path / "recipe.yaml", "--out", tmp_path / "out"]
    children = fork.start_together(3, arguments, log=tmp_path / "log")
    assert [child.wait() for child in children] == [1, 1, 1]
    said = (tmp_path / "log").read_text()
    assert said.count("nonsense") == 1, said
    assert "Traceback" not in said


def test_synchronised_statistics_are_refused_on_a_cpu() -> None:
    with pytest.raises(
        ValueError, match="sync_batch_norm must be False on a CPU, where PyTorch's SyncBatchNorm does not"
    ):
        synchronise_batch_norm(nn.BatchNorm2d(3), torch.device("cpu"))


def test_alone_there_is_nobody_to_talk_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with process_group(torch.device("cpu")) as processes:
        assert (processes.rank, processes.world, processes.first) == (0, 1, True)
        values = torch.ones(2)
        assert processes.all_reduce(values) is values
        assert processes.gather("a") == ["a"]
        assert processes.broadcast("b") == "b"
        model = nn.Linear(2, 2)
        assert processes.wrap(model) is model
        with processes.accumulating(model), processes.one_after_first():
            pass
    assert not torch.distributed.is_initialized()


def test_devices_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device() == torch.device("cpu")
    with pytest.raises(ValueError, match=r"device must be 'cpu' or 'auto' on a machine without a GPU.*got 'cuda'"):
        choose_device("cuda")
    with pytest.raises(ValueError, match="device must be one of 'auto', 'cpu', 'cuda', got 'tpu'"):
        choose_device("tpu")


def test_processes_of_a_machine_share_its_gpus_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.delenv("RANK", raising=False)
    for rank, name in enumerate(("auto", "cuda", "auto")):
        monkeypatch.setenv("LOCAL_RANK", str(rank))
        assert choose_device(name) == torch.device("cuda", rank % 2) == chosen[-1]
    assert choose_device("cpu") == torch.device("cpu")
    assert len(chosen) == 3


@pytest.mark.parametrize(("device", "backend"), [("cpu", "gloo"), ("cuda", "nccl")])
def test_gpus_talk_by_nccl_and_cpus_by_gloo(monkeypatch: pytest.MonkeyPatch, device: str, backend: str) -> None:
    asked: list[str] = []
    there = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}
    for name, value in there.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.distributed, "rendezvous", lambda *_, **__: iter([(None, 1, 2)]))
    monkeypatch.setattr("mnv3lib.training.distributed._fresh_store", lambda store, *_: store)
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda name, **_: asked.append(name))
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 1)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "destroy_process_group", lambda: asked.append("ended"))
    with process_group(torch.device(device)) as processes:
        assert (processes.rank, processes.world) == (1, 2)
    assert asked == [backend, "ended"]


def test_what_is_taken_over_is_the_first_processs(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Any] = []
    monkeypatch.setattr(torch.distributed, "broadcast", lambda value, src: sent.append((value.shape, src)))
    Processes(1, 2).copy_first(nn.Linear(3, 2))
    assert sent == [((2, 3), 0), ((2,), 0)]


def test_processes_that_start_again_agree_on_a_store_of_their_own() -> None:
    """Although what earlier ones left is still there."""
    store, limit = torch.distributed.HashStore(), timedelta(seconds=10)
    store.set("number/1", "of a process that died")
    store.set("number/2", "of another")
    with ThreadPoolExecutor(3) as pool:
        stores = list(pool.map(lambda rank: _fresh_store(store, rank, 3, limit), (0, 1, 2)))
    stores[0].set("address", "here")
    assert [one.get("address") for one in stores] == [b"here"] * 3
    assert not store.check(["address"])
    with pytest.raises(TrainingError, match=r"processes \[1\] did not start within 0:00:00"):
        _fresh_store(torch.distributed.HashStore(), 0, 2, timedelta(milliseconds=30))


class Recorded(Processes):
    """Processes whose words are recorded."""

    def broadcast(self, value: Any) -> Any:
        heard.append(value)
        return answer


heard: list[Any] = []
answer: Any = None


def test_the_others_wait_for_the_first_and_fail_with_it() -> None:
    global answer
    heard.clear()
    with Recorded(0, 2).one_after_first():
        assert heard == [], "the others were let in too early"
    assert heard == [True]
    with pytest.raises(KeyError), Recorded(0, 2).one_after_first():
        raise KeyError
    assert heard == [True, False]
    answer = True
    with Recorded(1, 2).one_after_first():
        assert heard == [True, False, None]
    answer = False
    with pytest.raises(RuntimeError, match="process 1: the first process failed"), Recorded(1, 2).one_after_first():
        pytest.fail("must not be reached")
