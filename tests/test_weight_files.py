"""Weight files: nothing in them is run, nothing half-fetched or half-written is kept, every failure is named.

Downloads are from a server on 127.0.0.1; nothing else is reached.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from reference import assert_same_state, same_bits

from mnv3lib import mobilenet_v3_small, weights
from mnv3lib._files import whole_file
from mnv3lib.weights import DownloadError, WeightsError, fetch, load, load_network, network_for, read, save
from mnv3lib.weights import download as downloads

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
        with pytest.raises(WeightsError, match=r"is damaged|is refused") as caught:
            read(path)
        assert str(path) in str(caught.value)
    path.write_bytes(b"")
    with pytest.raises(WeightsError, match="is empty"):
        read(path)


OTHER = {
    "a page": b"<html>404</html>",
    "a pointer": b"version https://git-lfs.github.com/spec/v1\n",
    "no zip": b"PK\x03\x04junk",
    "zeros": bytes(100),
    "no safetensors": b"\x10\0\0\0\0\0\0\0{junk",
}


@pytest.mark.parametrize("data", OTHER.values(), ids=OTHER)
def test_other_files_are_no_weight_files(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    path.write_bytes(data)
    with pytest.raises(WeightsError, match=r"w.pth is (damaged|refused)"):
        read(path)


def test_a_zip_of_something_else(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "w.pth", "w") as archive:
        archive.writestr("hello.txt", "hello")
    with pytest.raises(WeightsError, match=r"w.pth is damaged, or no weight file"):
        read(tmp_path / "w.pth")


def test_files_of_training_programs(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save({"model": TENSORS, "epoch": 3, "optimizer": {"lr": 0.1}}, path)
    assert list(tensors_in(path)) == list(TENSORS)
    torch.save({"state_dict": TENSORS, "state_dict_ema": {"a": TENSORS["a"]}, "arch": "x"}, path)
    with pytest.raises(WeightsError, match=r"say entry= one of \['state_dict', 'state_dict_ema'\]"):
        read(path)
    assert list(read(path, entry="state_dict_ema").tensors) == ["a"]
    with pytest.raises(WeightsError, match=r"no tensors in entry 'arch'; its entries: \['arch', 'state_dict'"):
        read(path, entry="arch")
    for value, words in (
        ({"a": TENSORS["a"], "n": 3}, r"must hold tensors by name, it holds n \(int\)"),
        ({"epoch": 3}, r"it holds epoch \(int\)"),
        ({}, "it holds nothing"),
        ([TENSORS["a"]], "it holds a list"),
        (TENSORS["a"], "it holds a Tensor"),
    ):
        torch.save(value, path)
        with pytest.raises(WeightsError, match=words):
            read(path)
    safetensors.torch.save_file(TENSORS, path)
    with pytest.raises(ValueError, match="entry must be None for safetensors, got 'model'"):
        read(path, entry="model")


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


# --- downloads --------------------------------------------------------------------------------------------------------

Answer = Callable[[BaseHTTPRequestHandler], None]


class Site:
    """A server on this machine: answers by path, and what it was asked."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.answers: dict[str, Answer] = {}
        self.asked: list[str] = []

    def serve(self, path: str, data: bytes, **headers: str) -> str:
        """Serve ``data`` at ``path`` and return the address."""

        def answer(request: BaseHTTPRequestHandler) -> None:
            request.send_response(200)
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            for name, value in {"Content-Length": str(len(data)), **named}.items():
                request.send_header(name, value)
            request.end_headers()
            if request.command == "GET":
                request.wfile.write(data)

        self.answers[path] = answer
        return self.address + path


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Site]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            served.asked.append(f"{self.command} {self.path}")
            if path in served.answers:
                served.answers[path](self)
            else:
                self.send_error(404)

        do_HEAD = do_GET

        def log_message(self, format: str, *args: Any) -> None:
            pass

    monkeypatch.setenv("MNV3LIB_CACHE", str(tmp_path / "cache"))
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        served = Site(f"http://127.0.0.1:{server.server_address[1]}")
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield served
        server.shutdown()


def test_a_download_is_kept(site: Site, tmp_path: Path) -> None:
    data = pickled(TENSORS)
    digest = hashlib.sha256(data).hexdigest()
    address = site.serve(f"/models/w-{digest[:8]}.pth", data)
    path = fetch(address)
    assert path.read_bytes() == data
    assert path.name == f"w-{digest[:8]}.pth"
    assert leftovers(tmp_path / "cache") == [str(path.relative_to(tmp_path / "cache"))]
    assert fetch(address) == path
    assert len(site.asked) == 1, "asked once"
    assert list(tensors_in(address)) == list(TENSORS)

    path.write_bytes(data[:-1])  # damaged here: fetched anew
    assert fetch(address).read_bytes() == data
    assert len(site.asked) == 2
    plain, other = site.serve("/1/w.pth", data), site.serve("/2/w.pth", pickled({"other": torch.zeros(1)}))
    assert list(tensors_in(plain)) == list(TENSORS)
    assert list(tensors_in(other)) == ["other"], "each address has a place of its own"


@pytest.mark.proves(
    "Weights by an address, and by a name on the hub",
    against="the network they were saved from; servers on 127.0.0.1",
    tolerance=0,
    unit="absolute",
)
@pytest.mark.parametrize("kind", ["address", "hub"])
def test_a_network_from_afar(
    kind: str, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deviation: Any
) -> None:
    from ledger import worst_of

    network = network_for("mobilenetv3_small_050", num_classes=3)
    data = save(network, tmp_path / "w.safetensors").read_bytes()
    if kind == "address":
        source = site.serve("/w.safetensors", data)
    else:
        monkeypatch.setenv("HF_ENDPOINT", site.address)
        hub_file(site, "someone/net", "main", "model.safetensors", data)
        source = "hf-hub:someone/net"
    again = load_network(source)
    assert_same_state(again, network)
    assert again.config == network.config
    deviation(worst_of(again.state_dict(), network.state_dict()))


def test_a_wrong_checksum_keeps_nothing(site: Site, tmp_path: Path) -> None:
    data = pickled(TENSORS)
    address = site.serve("/w-12345678.pth", data)
    with pytest.raises(
        DownloadError, match=r"the SHA-256 of what came is \w{64}, it must begin with 12345678; nothing"
    ):
        fetch(address)
    assert leftovers(tmp_path) == []
    digest = hashlib.sha256(data).hexdigest()
    assert fetch(address, sha256=digest).read_bytes() == data, "what is said outright counts, not the name"
    with pytest.raises(DownloadError, match="it must begin with aaaaaaaa"):
        fetch(address, sha256="a" * 8)
    assert [Path(left).name for left in leftovers(tmp_path)] == ["w-12345678.pth"]


def test_a_download_that_breaks_off_keeps_nothing(site: Site, tmp_path: Path) -> None:
    data = pickled(TENSORS)
    address = site.serve("/w.pth", data, Content_Length=str(len(data) + 10))
    with pytest.raises(
        DownloadError, match=rf"broke off after {len(data):,} of {len(data) + 10:,} bytes; nothing is kept"
    ):
        fetch(address)

    def chunked(request: BaseHTTPRequestHandler) -> None:
        request.protocol_version = "HTTP/1.1"
        request.send_response(200)
        request.send_header("Transfer-Encoding", "chunked")
        request.end_headers()
        request.wfile.write(b"ff\r\n" + data[:100])

    site.answers["/chunked.pth"] = chunked
    with pytest.raises(DownloadError, match="broke off after"):
        fetch(site.address + "/chunked.pth")
    assert leftovers(tmp_path) == []


def test_a_server_that_falls_silent(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "TIMEOUT_SECONDS", 0.2)
    done = threading.Event()

    def silent(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", "1000")
        request.end_headers()
        request.wfile.write(b"x" * 10)
        request.wfile.flush()
        done.wait(10)

    site.answers["/w.pth"] = silent
    with pytest.raises(DownloadError, match=r"broke off after .* timed out"):
        fetch(site.address + "/w.pth")
    done.set()
    assert leftovers(tmp_path) == []


def test_errors_of_a_server_and_no_server(site: Site, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=r"/absent.pth: the server answers 404 Not Found"):
        fetch(site.address + "/absent.pth?token=secret")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with pytest.raises(DownloadError, match=r"cannot be reached: .*refused.*give its path") as caught:
        fetch(f"http://127.0.0.1:{port}/w.pth?token=secret")
    assert "secret" not in str(caught.value)
    with pytest.raises(
        DownloadError, match=r"https://no-such-host.invalid/w.pth cannot be reached: .*Without a network"
    ):
        fetch("https://no-such-host.invalid/w.pth")
    assert leftovers(tmp_path) == []


def test_where_downloads_may_come_from(site: Site) -> None:
    for address in ("http://example.com/w.pth", "ftp://127.0.0.1/w.pth", "file:///etc/passwd", "http://127.0.0.1.x/w"):
        with pytest.raises(ValueError, match=r"source must be https://…, or http://… on this machine or with all 64"):
            fetch(address)
    with pytest.raises(ValueError, match="source must be https"):
        fetch("http://example.invalid/w.pth", sha256="a" * 63)
    with pytest.raises(DownloadError, match=r"example.invalid/w.pth cannot be reached"):
        fetch("http://example.invalid/w.pth", sha256="a" * 64)
    for address in (site.address, site.address + "/", site.address + "/..", site.address + "/%2E%2E"):
        with pytest.raises(ValueError, match="source must end in the name of a file"):
            fetch(address)
    assert site.asked == []


def test_redirects_stay_where_downloads_may_come_from(site: Site, tmp_path: Path) -> None:
    def redirect(target: str) -> Answer:
        def answer(request: BaseHTTPRequestHandler) -> None:
            request.send_response(302)
            request.send_header("Location", target)
            request.send_header("Content-Length", "0")
            request.end_headers()

        return answer

    data = pickled(TENSORS)
    site.serve("/there.pth", data)
    site.answers["/here.pth"] = redirect("/there.pth")
    assert fetch(site.address + "/here.pth").read_bytes() == data
    for target in ("http://example.com/w.pth", "ftp://127.0.0.1/w.pth"):
        site.answers["/away.pth"] = redirect(target)
        with pytest.raises(DownloadError, match="redirects to where nothing is fetched from"):
            fetch(site.address + "/away.pth")
    site.answers["/round.pth"] = redirect("/round.pth")
    with pytest.raises(DownloadError, match="302"):
        fetch(site.address + "/round.pth")
    assert len(leftovers(tmp_path)) == 1


def test_names_cannot_leave_the_cache(site: Site, tmp_path: Path) -> None:
    data = pickled(TENSORS)
    path = fetch(site.serve("/a/%2E%2E%2F%2E%2E%2Fup%20there.pth", data))
    assert path.name == "up_there.pth"
    assert path.is_relative_to(tmp_path / "cache" / "weights")


# --- the hub ----------------------------------------------------------------------------------------------------------


def hub_file(site: Site, repository: str, revision: str, name: str, data: bytes) -> None:
    """Serve a file as the hub does."""
    site.serve(
        f"/{repository}/resolve/{revision}/{name}",
        data,
        ETag=f'"{hashlib.sha256(data).hexdigest()}"',
        X_Repo_Commit=hashlib.sha1(repository.encode()).hexdigest(),
    )


@pytest.fixture
def hub(site: Site, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setenv("HF_ENDPOINT", site.address)

    def missing(path: str) -> None:
        def answer(request: BaseHTTPRequestHandler) -> None:
            request.send_response(404)
            request.send_header("X-Error-Code", "EntryNotFound")
            request.send_header("Content-Length", "0")
            request.end_headers()

        site.answers[path] = answer

    missing("/some.one/old-net/resolve/main/model.safetensors")
    missing("/some.one/old-net/resolve/main/other.bin")
    return site


def test_files_of_the_hub(hub: Site, tmp_path: Path) -> None:
    data = pickled(TENSORS)
    hub_file(hub, "some.one/old-net", "main", "pytorch_model.bin", data)
    hub_file(hub, "some.one/old-net", "v1.0", "sub/w.pth", data + b"")
    path = fetch("hf-hub:some.one/old-net")
    assert path.read_bytes() == data
    assert path.is_relative_to(tmp_path / "cache")
    assert list(tensors_in(fetch("hf-hub:some.one/old-net@v1.0:sub/w.pth"))) == list(TENSORS)
    digest = hashlib.sha256(data).hexdigest()
    assert fetch("hf-hub:some.one/old-net:pytorch_model.bin", sha256=digest) == path
    with pytest.raises(WeightsError, match="it must begin with 00000000"):
        fetch("hf-hub:some.one/old-net:pytorch_model.bin", sha256="0" * 8)


def test_what_the_hub_does_not_have(hub: Site) -> None:
    with pytest.raises(DownloadError, match=r"hf-hub:some\.one/old-net:other\.bin: no file other.bin there"):
        fetch("hf-hub:some.one/old-net:other.bin")
    with pytest.raises(DownloadError, match=r"hf-hub:no/body: neither here nor to be had \(.*404"):
        fetch("hf-hub:no/body")
    for bad in ("hf-hub:", "hf-hub:name", "hf-hub:a/b/c", "hf-hub:a/b@", "hf-hub:a/b:", "hf-hub:a b/c"):
        with pytest.raises(ValueError, match="source must be hf-hub:owner/name"):
            fetch(bad)


def test_without_a_network_the_hub_s_files_that_are_here_still_are(hub: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    data = pickled(TENSORS)
    hub_file(hub, "some.one/old-net", "main", "pytorch_model.bin", data)
    path = fetch("hf-hub:some.one/old-net:pytorch_model.bin")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{port}")
    assert fetch("hf-hub:some.one/old-net:pytorch_model.bin") == path
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # the hub's library tries again after ever longer pauses
    with pytest.raises(DownloadError, match=r"hf-hub:some/one: neither here nor to be had \(.*refused.*give its path"):
        fetch("hf-hub:some/one")


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
    """Killed at many moments, a file is the network last saved or the next one, never a part or an older one."""
    script = (
        "import sys, torch\nfrom mnv3lib import mobilenet_v3_small, weights\n"
        "network = mobilenet_v3_small(width_mult=0.35, num_classes=2)\nturn = int(sys.argv[2])\n"
        "while True:\n"
        "    [torch.nn.init.constant_(p, turn) for p in network.parameters()]\n"
        "    weights.save(network, sys.argv[1])\n    print(turn, flush=True)\n    turn += 1\n"
    )
    path = tmp_path / "w.safetensors"
    for moment in range(6):
        child = subprocess.Popen(
            [sys.executable, "-c", script, str(path), str(1000 * moment)],
            stdout=subprocess.PIPE,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert child.stdout
        assert int(child.stdout.readline()) == 1000 * moment
        time.sleep(0.037 * moment)
        child.send_signal(signal.SIGKILL)
        child.wait()
        saved = int((b"%d\n" % (1000 * moment) + child.stdout.read()).splitlines()[-1])
        child.stdout.close()
        values = {
            float(value) for p in load_network(path).parameters() for value in (p.detach().min(), p.detach().max())
        }
        assert len(values) == 1, "a mixture"
        assert values <= {saved, saved + 1}


def test_light_until_used() -> None:
    """Neither the hub's library nor safetensors is loaded before a file needs it."""
    script = (
        "import sys; from mnv3lib import weights; weights.network_for('mobilenetv3_small_050', num_classes=2)\n"
        "print([name for name in ('huggingface_hub', 'safetensors', 'timm', 'torchvision') if name in sys.modules])"
    )
    assert run(script).strip() == "[]"
    assert weights.__all__ == sorted(weights.__all__, key=lambda name: (name.islower(), not name.isupper(), name))
