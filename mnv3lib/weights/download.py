"""From a path, an address or a name on the Hugging Face hub to a file on this machine, checked and complete."""

from __future__ import annotations

import hashlib
import ipaddress
import os
import re
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from mnv3lib._files import VARIABLE, cache_folder, whole_file
from mnv3lib.weights.errors import DownloadError
from mnv3lib.weights.storage import check, digest_in_name, digits, sha256_of

__all__ = ["fetch", "is_remote", "shipped"]

HUB = "hf-hub:"
#: Before the name of a checkpoint that comes with this library, e.g. ``shipped:digitscenes_small_050``.
SHIPPED = "shipped:"
#: Names looked for in a repository of the hub where none is given.
HUB_FILES = ("model.safetensors", "pytorch_model.bin")
TIMEOUT_SECONDS = 30

_HUB_ID = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[^:@]+))?(?::(?P<file>[^:]+))?")
_CHUNK_BYTES = 1 << 20
_SHIPPED = Path(__file__).resolve().with_name("shipped")
_OFFLINE = "Without a network, fetch the file elsewhere and give its path"


def fetch(source: str | os.PathLike[str], *, sha256: str | None = None) -> Path:
    """Return the path of a file on this machine; what is not here is downloaded once and kept.

    Args:
        source: a path; an address, ``https://…`` or, on this machine or with the whole ``sha256``, ``http://…``;
            ``hf-hub:owner/name``, with ``@revision`` and ``:file`` after it if wanted, looked up at ``HF_ENDPOINT``; or
            ``shipped:name`` for a file that comes with this library, by a name of :func:`shipped`.
        sha256: what the file's SHA-256 is or begins with, 8 to 64 hexadecimal digits. Where it is not given, a
            download is compared with the digits at the end of its name (torchvision's and timm's have them).

    Returns:
        The path given, or one in the folder that ``MNV3LIB_CACHE`` names (by default the system's for caches; that of
        the hub's own library for its files). An address that was downloaded once is not asked again.

    Raises:
        FileNotFoundError: if there is no such file here.
        DownloadError: if it cannot be fetched whole and unchanged; nothing is kept then.
        WeightsError: if a file that was here is not the one that ``sha256`` says.
        ValueError: for an address of another kind.
    """
    expected = digits(sha256)
    if isinstance(source, str) and source.startswith(SHIPPED):
        path = _shipped(source.removeprefix(SHIPPED))
    elif isinstance(source, str) and source.startswith(HUB):
        path = _from_hub(source)
    elif isinstance(source, str) and "://" in source:
        return _from_address(source, expected)
    else:
        path = Path(source).expanduser()
        if not path.is_file():
            raise FileNotFoundError(f"there is no weight file at {path}")
    if expected:
        check(path, expected)
    return path


def is_remote(source: str | os.PathLike[str]) -> bool:
    """Whether :func:`fetch` looks for it elsewhere than in a file of this machine: an address, or a name on the hub."""
    return isinstance(source, str) and (source.startswith(HUB) or "://" in source)


def shipped() -> tuple[str, ...]:
    """Names of the checkpoints that come with this library; the card of each lies beside it."""
    return tuple(sorted(path.stem for path in _SHIPPED.glob("*.safetensors")))


def _shipped(name: str) -> Path:
    if name not in shipped():
        raise FileNotFoundError(f"{name!r} does not come with this library, only {', '.join(map(repr, shipped()))} do")
    return _SHIPPED / f"{name}.safetensors"


# --- addresses --------------------------------------------------------------------------------------------------------


def _shown(address: str) -> str:
    """An address without what may be secret: name and password, query."""
    parts = urlsplit(address)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _on_this_machine(host: str | None) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


def _allow(address: str, sha256: str | None) -> None:
    """Anyone on the way can change what comes by ``http``; the whole SHA-256 would show it."""
    parts = urlsplit(address)
    known = sha256 is not None and len(sha256) == 64
    if parts.scheme == "https" or (parts.scheme == "http" and (known or _on_this_machine(parts.hostname))):
        return
    raise ValueError(
        "source must be https://…, or http://… on this machine or with all 64 digits of sha256, "
        f"got {_shown(address)!r}"
    )


class _SafeRedirects(HTTPRedirectHandler):
    """Follow redirects only to where a download may come from."""

    def __init__(self, sha256: str | None) -> None:
        self.sha256 = sha256

    def redirect_request(self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Request | None:
        try:
            _allow(urljoin(req.full_url, newurl), self.sha256)
        except ValueError as error:
            raise DownloadError(f"{_shown(req.full_url)} redirects to where nothing is fetched from: {error}") from None
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _from_address(address: str, sha256: str | None) -> Path:
    _allow(address, sha256)
    name = re.sub(r"[^\w.-]", "_", Path(unquote(urlsplit(address).path)).name)
    if not name.strip("._"):
        raise ValueError(f"source must end in the name of a file, got {_shown(address)!r}")
    expected = sha256 or digest_in_name(name)
    target = cache_folder() / "weights" / hashlib.sha256(address.encode()).hexdigest()[:16] / name
    if not target.is_file() or (expected and not sha256_of(target).startswith(expected)):
        _download(address, target, sha256, expected)
    return target


def _download(address: str, target: Path, sha256: str | None, expected: str | None) -> None:
    shown, found, size = _shown(address), hashlib.sha256(), 0
    try:
        response = build_opener(_SafeRedirects(sha256)).open(
            Request(address, headers={"User-Agent": "mnv3lib"}), timeout=TIMEOUT_SECONDS
        )
    except HTTPError as error:
        error.close()
        raise DownloadError(f"{shown}: the server answers {error.code} {error.reason}") from None
    except DownloadError:
        raise
    except (URLError, HTTPException, OSError) as error:
        raise DownloadError(f"{shown} cannot be reached: {getattr(error, 'reason', error)}. {_OFFLINE}") from error
    with response, whole_file(target) as stream:
        while True:
            try:
                chunk = response.read(_CHUNK_BYTES)
            except (HTTPException, OSError) as error:
                raise DownloadError(f"{shown} broke off after {size:,} bytes: {error}; nothing is kept") from error
            if not chunk:
                break
            stream.write(chunk)
            found.update(chunk)
            size += len(chunk)
        announced = response.headers.get("Content-Length")
        if announced is not None and size != int(announced):
            raise DownloadError(f"{shown} broke off after {size:,} of {int(announced):,} bytes; nothing is kept")
        if expected and not found.hexdigest().startswith(expected):
            raise DownloadError(
                f"{shown}: the SHA-256 of what came is {found.hexdigest()}, it must begin with {expected}; "
                "nothing is kept"
            )


# --- the hub ----------------------------------------------------------------------------------------------------------


def _from_hub(source: str) -> Path:
    parts = _HUB_ID.fullmatch(source.removeprefix(HUB))
    if parts is None:
        raise ValueError(
            f"source must be hf-hub:owner/name, with @revision and :file after it if wanted, got {source!r}"
        )
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
    except ImportError as error:
        raise ImportError(f"{source} needs huggingface_hub: pip install 'mnv3lib[weights]'") from error
    names = (parts["file"],) if parts["file"] else HUB_FILES
    for name in names:
        try:
            found = hf_hub_download(
                parts["repo"],
                name,
                revision=parts["revision"],
                endpoint=os.environ.get("HF_ENDPOINT"),
                cache_dir=cache_folder() / "weights" / "hub" if os.environ.get(VARIABLE) else None,
            )
            return Path(found)
        except LocalEntryNotFoundError as error:  # also an EntryNotFoundError, but says that the hub was not reached
            reason = error.__cause__ or error
            raise DownloadError(f"{source}: neither here nor to be had ({reason}). {_OFFLINE}") from error
        except EntryNotFoundError:
            continue
        except Exception as error:  # its errors are its HTTP client's, which changes
            raise DownloadError(f"{source}: {type(error).__name__}: {error}") from error
    raise DownloadError(f"{source}: no file {' or '.join(names)} there")
