"""Weights from addresses and the hub: nothing half-fetched is kept, every failure is named.

Downloads are from a server on 127.0.0.1; nothing else is reached.
"""

from __future__ import annotations

import hashlib
import io
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from reference import assert_same_state

from mnv3lib.weights import DownloadError, WeightsError, fetch, load_network, network_for, read, save
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
    for address in ("http://example.com/w.pth", "ftp://127.0.0.1/w.pth", "file:///etc/passwd", "http://127.0.0.1.x/w",
                    "http://models.org/w.pth", "http://zoo.org/w.pth"):  # fmt: skip
        with pytest.raises(ValueError, match=r"source must be https://…, or http://… on this machine or with all 64"):
            fetch(address)
    with pytest.raises(ValueError, match="source must be https"):
        fetch("http://example.invalid/w.pth", sha256="a" * 63)
    with pytest.raises(TypeError, match="positional"):
        fetch("http://example.invalid/w.pth", "a" * 64)  # type: ignore[misc]
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
