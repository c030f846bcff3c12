"""Weight files: nothing in them is run, nothing half-written is kept, every failure is named."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import pickle
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from reference import same_bits

from mnv3lib import mobilenet_v3_small, weights
from mnv3lib._files import whole_file
from mnv3lib.weights import WeightsError, fetch, load, load_network, network_for, read, save

TENSORS = {"a": torch.arange(6.0).reshape(2, 3), "b.c": torch.tensor(3)}


def pickled(value: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream)
    return stream.getvalue()


def tensors_in(path: Path | str) -> dict[str, torch.Tensor]:
    return read(path).tensors


def leftovers(folder: Path) -> list[str]:
    """All files under a folder, hidden and temporary ones too."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


# --- formats ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["w.pth", "w.pt", "w.bin", "w.safetensors", "no ending"])
@pytest.mark.parametrize("kind", ["safetensors", "pytorch", "old pytorch"])
def test_the_file_says_what_it_is(kind: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if kind == "safetensors":
        safetensors.torch.save_file(TENSORS, path, {"k": "v"})
    else:
        torch.save(TENSORS, path, _use_new_zipfile_serialization=kind == "pytorch")
    found = read(path)
    assert list(found.tensors) == list(TENSORS)
    assert all(same_bits(tensor, TENSORS[name]) for name, tensor in found.tensors.items())
    assert found.metadata == ({"k": "v"} if kind == "safetensors" else {})
    assert found.source == str(path)


class Bomb:
    """Unpickled, it would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("kind", ["zip", "old", "bare pickle", "as an entry"])
def test_a_pickle_bomb_is_refused(kind: str, tmp_path: Path) -> None:
    path, struck = tmp_path / "bomb.pth", tmp_path / "struck"
    bomb = Bomb(struck)
    if kind == "bare pickle":
        path.write_bytes(pickle.dumps({"a": bomb}, protocol=2))
    elif kind == "as an entry":
        torch.save({"model": {**TENSORS, "x": bomb}}, path)
    else:
        torch.save({**TENSORS, "x": bomb}, path, _use_new_zipfile_serialization=kind == "zip")
    network = mobilenet_v3_small(num_classes=2, width_mult=0.25)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    for attempt in (read, partial(load, network), partial(load_network, name="mobilenet_v3_small")):
        with pytest.raises(
            WeightsError,
            match=r"bomb\.pth is refused, it holds more than tensors and could run code: it names \w+.mkdir",
        ):
            attempt(path)
    assert not struck.exists()
    assert all(same_bits(tensor, before[name]) for name, tensor in network.state_dict().items())
    # The bomb is a real one.
    (torch.load(path, weights_only=False) if kind != "bare pickle" else pickle.loads(path.read_bytes()))
    assert struck.is_dir()


def test_a_network_as_a_pickle_is_refused(tmp_path: Path) -> None:
    torch.save(mobilenet_v3_small(num_classes=2, width_mult=0.25), tmp_path / "whole.pt")
    with pytest.raises(
        WeightsError,
        match=r"is refused, it holds more than tensors and could run code: it names mnv3lib\.network\.MobileNetV3",
    ):
        read(tmp_path / "whole.pt")


@pytest.mark.parametrize("kind", ["safetensors", "pytorch", "old pytorch"])
def test_a_file_cut_anywhere_is_damaged(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "w"
    if kind == "safetensors":
        data = safetensors.torch.save(TENSORS)
    else:
        stream = io.BytesIO()
        torch.save(TENSORS, stream, _use_new_zipfile_serialization=kind == "pytorch")
        data = stream.getvalue()
    for length in sorted({1, 4, 8, 9, 12, *range(20, len(data), max(1, len(data) // 40)), len(data) - 1}):
        path.write_bytes(data[:length])
        with pytest.raises(WeightsError, match=r"is damaged|is refused|is no weight file") as caught:
            read(path)
        assert str(path) in str(caught.value)
    path.write_bytes(b"")
    with pytest.raises(WeightsError, match="is empty"):
        read(path)


def test_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no weight file at .*absent\.pth"):
        read(tmp_path / "absent.pth")
    with pytest.raises(FileNotFoundError, match="there is no weight file at"):
        read(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    torch.save(TENSORS, tmp_path / "w.pth")
    assert fetch("~/w.pth") == tmp_path / "w.pth"


# --- checksums --------------------------------------------------------------------------------------------------------


def test_checksums_of_files_here(tmp_path: Path) -> None:
    path = tmp_path / "w-00000000.pth"
    torch.save(TENSORS, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert read(path).tensors, "the name of a file here is its owner's business"
    for known in (digest, digest[:8], digest.upper()):
        assert fetch(path, sha256=known) == path
    with pytest.raises(WeightsError, match=rf"its SHA-256 is {digest}, it must begin with 12345678"):
        read(path, sha256="12345678")
    for bad in ("1234567", digest + "0", "x" * 64, 12345678, ""):
        with pytest.raises(ValueError, match="sha256 must be 8 to 64 hexadecimal digits, got"):
            fetch(path, sha256=bad)


# --- writing ----------------------------------------------------------------------------------------------------------


def test_what_was_there_stays_until_the_new_one_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "w.safetensors"
    save(network_for("mobilenetv3_small_050", num_classes=2), path)
    old = path.read_bytes()

    def break_off() -> None:
        with whole_file(path) as stream:
            stream.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        break_off()
    assert (path.read_bytes(), leftovers(tmp_path)) == (old, ["w.safetensors"])

    def full(number: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"cannot be written \(No space left on device\)") as caught:
        save(mobilenet_v3_small(width_mult=0.25), path)
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename == str(path)
    assert (path.read_bytes(), leftovers(tmp_path)) == (old, ["w.safetensors"])
    monkeypatch.undo()
    save(mobilenet_v3_small(width_mult=0.25, num_classes=2), path)
    assert path.read_bytes() != old
    assert leftovers(tmp_path) == ["w.safetensors"]


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="cannot be written") as caught:
        save(mobilenet_v3_small(width_mult=0.25, num_classes=2), tmp_path / "file" / "w.safetensors")
    assert str(tmp_path / "file") in str(caught.value)


@pytest.mark.slow
def test_a_disk_that_is_full(tmp_path: Path) -> None:
    """The system takes no byte more in the middle of a file: here it limits files to 100,000 bytes."""
    pytest.importorskip("resource", reason="needs a system that can limit the size of files")
    script = (
        "import resource, sys, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "from mnv3lib import mobilenet_v3_small, weights\n"
        "try:\n    weights.save(mobilenet_v3_small(width_mult=0.25), sys.argv[1])\n"
        "except OSError as error:\n    print(error)\n"
    )
    path = tmp_path / "w.safetensors"
    path.write_bytes(b"old")
    answer = run(script, path)
    assert "cannot be written (File too large)" in answer
    assert (path.read_bytes(), leftovers(tmp_path)) == (b"old", ["w.safetensors"])


def run(script: str, *arguments: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_killed_while_saving(tmp_path: Path) -> None:
    """Killed at many moments, a file is the network last saved or the next one, never a part or an older one.

    Who saves is forked from a process that has saved once, and so imported everything: that takes seconds, and is not
    what is tested.
    """
    script = (
        "import os, sys, torch\nfrom mnv3lib import mobilenet_v3_small, weights\n"
        "network = mobilenet_v3_small(width_mult=0.35, num_classes=2)\nweights.save(network, sys.argv[1])\n"
        "for line in sys.stdin:\n"
        "    if (child := os.fork()) != 0:\n"
        "        status = os.waitpid(child, 0)[1]\n        print(os.waitstatus_to_exitcode(status), flush=True)\n"
        "        continue\n"
        "    print(os.getpid(), flush=True)\n    turn = int(line)\n"
        "    while True:\n"
        "        [torch.nn.init.constant_(p, turn) for p in network.parameters()]\n"
        "        weights.save(network, sys.argv[1])\n        print(turn, flush=True)\n        turn += 1\n"
    )
    path = tmp_path / "w.safetensors"
    with subprocess.Popen(
        [sys.executable, "-c", script, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as parent:
        assert parent.stdin
        assert parent.stdout
        for moment in range(6):
            print(1000 * moment, file=parent.stdin, flush=True)
            child, saved = (int(parent.stdout.readline()) for _ in range(2))
            assert saved == 1000 * moment
            time.sleep(0.037 * moment)
            os.kill(child, signal.SIGKILL)
            while (said := int(parent.stdout.readline())) != -signal.SIGKILL:
                saved = said
            values = {
                float(value) for p in load_network(path).parameters() for value in (p.detach().min(), p.detach().max())
            }
            assert len(values) == 1, "a mixture"
            assert values <= {saved, saved + 1}
        parent.stdin.close()


@pytest.mark.slow
def test_light_until_used() -> None:
    """Neither the hub's library nor safetensors is loaded before a file needs it."""
    script = (
        "import sys; from mnv3lib import weights; weights.network_for('mobilenetv3_small_050', num_classes=2)\n"
        "print([name for name in ('huggingface_hub', 'safetensors', 'timm', 'torchvision') if name in sys.modules])"
    )
    assert run(script).strip() == "[]"
    assert weights.__all__ == sorted(weights.__all__, key=lambda name: (name.islower(), not name.isupper(), name))
