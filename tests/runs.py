"""Small training runs for tests: a recipe, images made of noise, and processes that can be killed without regret."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from mnv3lib import recipe as recipes
from mnv3lib import training
from mnv3lib.recipe import Recipe
from mnv3lib.training.checkpoint import read

#: What ``python -m mnv3lib.training`` runs.
COMMAND_LINE = Path(training.__file__).with_name("__main__.py")

SIDE = 32
BASE = Recipe(
    name="tiny",
    epochs=3,
    batch_size=32,
    data=recipes.Data(train_size=SIDE, eval_size=SIDE, options={"size": 200, "eval_images": 50, "progress": False}),
    model=recipes.Model(options={"width_mult": 0.25}),
    optimiser=recipes.Optimiser(name="sgd", lr=0.05),
)

#: Everything that has a state or draws random numbers, at once.
EVERYTHING = (
    "optimiser.name=rmsprop-tf",
    "optimiser.lr=0.002",
    "schedule.warmup_epochs=0.5",
    "augment.crop_scale=[0.5,1]",
    "augment.flip=0.5",
    "augment.policy=trivialaugment",
    "augment.erase=0.2",
    "augment.mixup=0.2",
    "augment.cutmix=1.0",
    "averaging.ema_decay=0.9",
    "averaging.checkpoints=2",
    "model.options.stochastic_depth=0.2",
    "label_smoothing=0.1",
    "clip_norm=5",
    "accumulate=2",
)


def tiny(*assignments: str) -> Recipe:
    """The small recipe with other values, as from the command line."""
    return recipes.overridden(BASE, assignments)


class Noise(Dataset[Any]):
    """Images of noise with classes that can be told from them, and random numbers in every item if asked."""

    num_classes = 10

    def __init__(self, images: int, *, jitter: float = 0.0, side: int = SIDE) -> None:
        generator = torch.Generator().manual_seed(images)
        self.labels = torch.randint(self.num_classes, (images,), generator=generator)
        self.images = torch.randn(images, 3, side, side, generator=generator) + self.labels[:, None, None, None] / 5
        self.jitter = jitter
        self.asked: list[int] = []

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        self.asked.append(index)
        image = self.images[index]
        return image + self.jitter * torch.randn_like(image) if self.jitter else image, int(self.labels[index])


def noise(images: int = 50, evaluated: int = 21, **options: Any) -> tuple[Noise, Noise]:
    """Images to train with and to evaluate on."""
    return Noise(images, **options), Noise(evaluated)


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(**more: str) -> dict[str, str]:
    """Of a process that computes on one thread and finds this package."""
    root = str(Path(__file__).resolve().parent.parent)
    return {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONPATH": root, **more}


def torchrun(
    processes: int, arguments: Sequence[str], *, restarts: int = 0, log: Path, meeting: str | None = None, **env: str
) -> Any:
    """Start the command line under torchrun on this machine, writing to a file.

    With ``meeting``, an address, it waits there for a second one, as on two machines.
    """
    command = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={processes}"]
    if meeting is None:
        command += ["--standalone"]
    else:
        command += ["--nnodes=2", "--rdzv-backend=c10d", f"--rdzv-endpoint={meeting}", "--rdzv-id=test"]
    command += [f"--max-restarts={restarts}", "--monitor-interval=0.1", "-m", "mnv3lib.training", *arguments]
    with open(log, "wb") as file:
        return subprocess.Popen(command, stdout=file, stderr=file, env=environment(**env))


def workers(parent: int) -> list[int]:
    """Processes that a process started and that still run; torchrun's in the order of their ranks."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(fields[1]) == parent and fields[0] != "Z":
                found.append(int(entry.name))
    return sorted(found)


@dataclass
class Child:
    """A process that the :class:`Nursery` forked."""

    nursery: Nursery
    pid: int

    def kill(self, signum: int = signal.SIGKILL) -> None:
        """Send a signal, if it still runs."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signum)

    def wait(self) -> int:
        """Its exit status; minus the signal that ended it."""
        return self.nursery.ask("wait", pid=self.pid)

    @property
    def runs(self) -> bool:
        """Whether it has not ended yet."""
        return self.nursery.ask("runs", pid=self.pid)


class Nursery:
    """A process that has imported everything and forks the command line: each start takes milliseconds, not seconds."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(MNV3LIB_CACHE=str(folder / "cache")),
        )

    def ask(self, what: str, **about: Any) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps({"what": what, **about}), file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())

    def start(self, arguments: Sequence[object], *, log: Path | None = None, **env: str) -> Child:
        """Start ``python -m mnv3lib.training`` with arguments; what it says goes to a file."""
        log = log or self.folder / "log.txt"
        return Child(self, self.ask("start", arguments=[str(one) for one in arguments], log=str(log), env=env))

    def torchrun(
        self, processes: int, arguments: Sequence[object], *, restarts: int = 0, log: Path | None = None
    ) -> Child:
        """Start the command line under torchrun, whose agent forks its workers, at first and whenever one was lost."""
        options = (
            "--standalone", f"--nproc-per-node={processes}", f"--max-restarts={restarts}", "--monitor-interval=0.02",
            f"--log-dir={self.folder / 'torchrun'}", "--start-method=fork", "--run-path", COMMAND_LINE,
        )  # fmt: skip
        words, log = [str(one) for one in (*options, *arguments)], log or self.folder / "log.txt"
        return Child(self, self.ask("start", arguments=words, log=str(log), env={}, torchrun=True))

    def start_together(self, processes: int, arguments: Sequence[object], *, log: Path | None = None) -> list[Child]:
        """Start processes that train together, told who they are as torchrun tells them."""
        port = str(free_port())
        shared = {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        return [
            self.start(arguments, log=log, RANK=str(rank), LOCAL_RANK=str(rank), **shared) for rank in range(processes)
        ]

    def close(self) -> None:
        """End it; its children are waited for elsewhere."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


@contextlib.contextmanager
def nursery(folder: Path) -> Iterator[Nursery]:
    """A :class:`Nursery` that is ended after the tests."""
    made = Nursery(folder)
    try:
        yield made
    finally:
        made.close()


def until(condition: Any, *, seconds: float = 60.0, step: float = 0.002) -> None:
    """Wait for a condition, and fail if it does not come true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(step)


def position(folder: Path) -> list[int]:
    """Where the newest checkpoint of a run stands, which may be writing another; before there is one, at the start."""
    for name in ("last.pt", "previous.pt"):  # between two renames there is only the one before
        with contextlib.suppress(FileNotFoundError):
            return read(folder / name)["position"]
    return [0, 0]


def same_files(one: Path, other: Path, name: str) -> list[str]:
    """Names of the tensors and other values in which two checkpoint files differ."""
    return differing(*(torch.load(folder / name, weights_only=True) for folder in (one, other)))


def differing(one: Any, other: Any, path: str = "") -> list[str]:
    """Where two trees of tensors and plain data differ, bit by bit; times are not compared."""
    if isinstance(one, dict) and isinstance(other, dict):
        if one.keys() != other.keys():
            return [f"{path}: other keys"]
        timed = ("seconds", "images_per_second")
        return [where for key in one if key not in timed for where in differing(one[key], other[key], f"{path}/{key}")]
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        if len(one) != len(other):
            return [f"{path}: other lengths"]
        return [where for place in range(len(one)) for where in differing(one[place], other[place], f"{path}/{place}")]
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        same = one.dtype == other.dtype and one.shape == other.shape
        same = same and one.contiguous().view(-1).numpy().tobytes() == other.contiguous().view(-1).numpy().tobytes()
        return [] if same else [path]
    return [] if one == other else [f"{path}: {one!r}, {other!r}"]


def _serve() -> None:
    """Fork on request."""
    import random  # noqa: F401 - imported before the fork, like all that follows

    import numpy  # noqa: F401
    import torch.distributed.run
    import torchvision  # noqa: F401
    from matplotlib.figure import Figure  # noqa: F401
    from tqdm import tqdm  # noqa: F401

    import mnv3lib.data.datasets
    import mnv3lib.data.sources
    import mnv3lib.training.plan
    import mnv3lib.training.run
    from mnv3lib.training.__main__ import main

    mnv3lib.data.sources.sources("train")
    ended: dict[int, int] = {}

    def torchrun(arguments: list[str]) -> int:
        """Run torchrun; what it forks gets its signals as a new program gets them, not those that torchrun handles."""

        def reset() -> None:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
                signal.signal(number, signal.SIG_DFL)

        os.register_at_fork(after_in_child=reset)
        torch.distributed.run.main(arguments)
        return 0

    def reap(pid: int, flags: int) -> bool:
        if pid not in ended:
            found, status = os.waitpid(pid, flags)
            if found:
                ended[pid] = os.waitstatus_to_exitcode(status)
        return pid in ended

    for line in sys.stdin:
        request = json.loads(line)
        answer: Any = None
        if request["what"] == "start":
            answer = os.fork()
            if answer == 0:
                os.environ.update(request["env"])
                handle = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
                os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
                os.dup2(handle, 1)
                os.dup2(handle, 2)
                code = 70
                try:
                    code = (torchrun if request.get("torchrun") else main)(request["arguments"])
                except SystemExit as end:
                    code = int(end.code or 0)
                except BaseException:
                    import traceback

                    traceback.print_exc()
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        elif request["what"] == "runs":
            answer = not reap(request["pid"], os.WNOHANG)
        elif request["what"] == "wait":
            reap(request["pid"], 0)
            answer = ended[request["pid"]]
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    _serve()
