"""What several tests share: one thread for torch, the built book, and a browser that reaches nothing outside."""

from __future__ import annotations

import os

# Before anything imports torch: sums of floats depend on the number of threads.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"

import functools
import http.server
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import ledger
import pytest
from ledger import deviation, elsewhere  # noqa: F401 - fixtures

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Request

# A shell's background jobs ignore Ctrl-C, and so would every process that the tests start.
for _number, _handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _handler)

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / "_build" / "html"
NO_BROWSER = "no Chromium found: install it (Debian: apt-get install chromium) or set CHROMIUM to its path"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def chromium() -> str | None:
    """Return the path of a Chromium to test with."""
    named = os.environ.get("CHROMIUM")
    return named or next(filter(None, map(shutil.which, BROWSERS)), None)


@dataclass
class Visit:
    """A page as a browser shows it, with what went wrong and what it asked for."""

    page: Page
    outside: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    finished: list[Request] = field(default_factory=list)

    @property
    def transferred(self) -> dict[str, int]:
        """How many bytes have come from a server, by address."""
        return {request.url: request.sizes()["responseBodySize"] for request in self.finished}


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serve files without a line per request."""

    def log_message(self, format: str, *args: Any) -> None:
        pass


class Server(http.server.ThreadingHTTPServer):
    """A server that is silent when a browser hangs up."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the test out of the reader's cache."""
    monkeypatch.setenv("MNV3LIB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def animals(tmp_path: Path) -> Path:
    """Folders of images, three classes in train and two of them in val."""
    from datafiles import make_animals

    return make_animals(tmp_path)


@pytest.fixture
def cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """CIFAR-10 in files of six images."""
    from datafiles import make_cifar

    return make_cifar(tmp_path, monkeypatch)


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """Three images of Pascal VOC 2012."""
    from datafiles import make_voc

    return make_voc(tmp_path)


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """Five images of COCO 2017."""
    from datafiles import make_coco

    return make_coco(tmp_path)


@pytest.fixture(scope="session")
def site() -> Path:
    """Return the folder of the built book."""
    if not (SITE / "index.html").is_file():
        pytest.fail("the book is not built: run `make book`", pytrace=False)
    return SITE


@pytest.fixture(scope="session")
def served(site: Path) -> Iterator[str]:
    """Serve the built book on a free port of this machine and return its address."""
    handler = functools.partial(Quiet, directory=str(site))
    with Server(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Start Chromium without a network; a machine without it skips, but CI fails."""
    path = chromium()
    if path is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(NO_BROWSER)
    from playwright.sync_api import sync_playwright

    switches = [
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--disable-dev-shm-usage",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    ]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=switches)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[..., Visit]]:
    """Return a function that opens an address with every outside request refused and recorded."""
    contexts = []

    def is_local(address: str) -> bool:
        parts = urlsplit(address)
        return parts.scheme in ("file", "data", "blob", "about") or parts.hostname == "127.0.0.1"

    def open_page(address: str, *, width: int = 1280, scheme: str = "light", touch: bool = False) -> Visit:
        context = browser.new_context(
            viewport={"width": width, "height": 800},
            color_scheme=scheme,  # type: ignore[arg-type]
            has_touch=touch,
            reduced_motion="reduce",
            permissions=["clipboard-read", "clipboard-write"] if address.startswith("http") else [],
        )
        contexts.append(context)
        context.set_default_timeout(60_000)  # a machine may be busy; speed is not what is tested
        context.route(lambda url: not is_local(url), lambda route: route.abort())
        page = context.new_page()
        seen = Visit(page)

        page.on("request", lambda request: None if is_local(request.url) else seen.outside.append(request.url))
        page.on("console", lambda message: seen.errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: seen.errors.append(str(error)))
        page.on("requestfailed", lambda request: note_failure(seen, request))
        page.on("requestfinished", lambda request: request.url.startswith("http") and seen.finished.append(request))
        page.goto(address, wait_until="load")
        # Equations are drawn after the page has loaded.
        page.evaluate("async () => { await window.MathJax?.startup?.promise; await document.fonts.ready }")
        return seen

    def note_failure(seen: Visit, request: Any) -> None:
        if request.failure != "net::ERR_ABORTED":  # the browser's own, when the page is left before all has arrived
            seen.errors.append(f"failed: {request.url}: {request.failure}")

    yield open_page
    for context in contexts:
        context.close()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Writing the proof ledger is asked for, comparing with it is not."""
    parser.addoption("--write-ledger", action="store_true", help="keep what this whole run proves for the book's page")


def pytest_configure(config: pytest.Config) -> None:
    """Gather what the tests prove."""
    ledger.configure(config)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say what was measured, and say it loudly when the built book was not looked at."""
    reports = [report for group in terminalreporter.stats.values() for report in group]
    properties = [item for report in reports for item in getattr(report, "user_properties", [])]
    lines = sorted({str(text) for name, text in properties if name == "measured"})
    if lines:
        terminalreporter.section("measured")
        for line in lines:
            terminalreporter.line(line)
    skipped = [report for report in terminalreporter.stats.get("skipped", []) if NO_BROWSER in str(report.longrepr)]
    if skipped:
        terminalreporter.section("NOT TESTED IN A BROWSER", sep="!", red=True, bold=True)
        terminalreporter.line(f"{len(skipped)} tests were skipped: {NO_BROWSER}")
