"""Files that are no weight files or are damaged: said as what they are, and other weights never loaded in silence."""

from __future__ import annotations

import functools
import gzip
import io
import json
import random
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from reference import same_bits

from mnv3lib import config, mobilenet_v3_small, weights
from mnv3lib.network import MobileNetV3
from mnv3lib.training import checkpoint
from mnv3lib.training.errors import CheckpointError
from mnv3lib.weights import Checkpoint, WeightsError, read, save

TENSORS = {"a": torch.arange(6.0).reshape(2, 3), "b.c": torch.tensor(3)}


def in_memory(write: Callable[[io.BytesIO], Any]) -> bytes:
    stream = io.BytesIO()
    write(stream)
    return stream.getvalue()


def zipped(*names: str) -> bytes:
    def write(stream: io.BytesIO) -> None:
        with zipfile.ZipFile(stream, "w") as archive:
            for name in names:
                archive.writestr(name, "hello")

    return in_memory(write)


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"
#: What a file is, what it is called then, and why.
OTHER: dict[str, tuple[bytes, str]] = {
    "Git-LFS": (POINTER, "a Git-LFS pointer, which stands for the file: run `git lfs pull`"),
    "HTML": (b"\n<!DOCTYPE html>\n<html><body>404</body></html>", "a web page: the address leads to a page"),
    "XML": (b"\xef\xbb\xbf<?xml version='1.0'?><Error>AccessDenied</Error>", "a web page"),
    "JSON": (b'{"error": "Repository not found"}', "JSON that begins with"),
    "JSON like a header": (b'[{"a":1},{"b": 2}]', "JSON that begins with"),
    "text": ("die Größe der Gewichte\n".encode() * 60, "text that begins with 'die Größe der Gewichte die Größe"),
    "cut in a character": ("ö".encode() * 600, "text that begins with"),
    "ONNX": (b"\x08\x08\x12\x07pytorch\x1a\x032.0:\xff" + bytes(range(256)), "an ONNX model"),
    "TFLite": (b"\x1c\0\0\0TFL3\x14\0\x20\0" + bytes(50), "a TFLite model"),
    "NumPy": (in_memory(lambda stream: np.save(stream, np.zeros(3))), "a NumPy array without a name"),
    "NumPy, several": (in_memory(lambda stream: np.savez(stream, a=np.zeros(3))), "a zip archive of a.npy"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(100), "HDF5, as Keras saves it"),
    "Keras": (zipped("metadata.json", "config.json", "model.weights.h5", "x"), "a zip archive of .*h5 and 1 more"),
    "gzip": (gzip.compress(POINTER), "a compressed file: unpack it"),
    "bzip2": (b"BZh91AY&SY" + bytes(50), "a compressed file: unpack it"),
    "xz": (b"\xfd7zXZ\0" + bytes(50), "a compressed file: unpack it"),
    "Zstandard": (b"\x28\xb5\x2f\xfd" + bytes(50), "a compressed file: unpack it"),
    "7z": (b"7z\xbc\xaf\x27\x1c" + bytes(50), "a compressed file: unpack it"),
    "GGUF": (b"GGUF\3\0\0\0" + bytes(50), "GGUF, which holds no convolutional networks"),
    "tar": (b"w.pth".ljust(257, b"\0") + b"ustar\x0000" + bytes(300), "a tar archive: unpack it"),
    "zip": (zipped("w.pth"), "a zip archive of w.pth"),
    "zip, a long name": (zipped("n" * 100), r"a zip archive of n{60}(?!n)"),
    "PNG": (b"\x89PNG\r\n\x1a\n" + bytes(50), "an image"),
    "JPEG": (b"\xff\xd8\xff\xe0\0\x10JFIF" + bytes(50), "an image"),
    "PDF": (b"%PDF-1.7\n" + bytes(50), "a PDF"),
    "TorchScript": (zipped("n/data.pkl", "n/constants.pkl"), r"a TorchScript program: load it by torch\.jit\.load"),
}  # fmt: skip


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
@pytest.mark.parametrize("kind", OTHER)
def test_other_files_are_called_by_what_they_are(kind: str, name: str, tmp_path: Path) -> None:
    data, words = OTHER[kind]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(WeightsError, match=rf"{name} is no weight file: it is {words}") as caught:
        read(tmp_path / name)
    assert len(str(caught.value)) < 400
    assert "could run code" not in str(caught.value)


@pytest.mark.parametrize("data", [
    bytes(100), b"PK\x03\x04junk", b"PK\x05\x06" + bytes(18), b"\x10\0\0\0\0\0\0\0{junk", b"\x80\x02",
    struct.pack("<Q", 10**7) + b'{"a": 1}', struct.pack("<Q", 2) + b"{}junk", b"\x80\x02K\x03.",
    struct.pack("<Q", 62) + b'{"a":{"dtype":"F77","shape":[1],"data_offsets":[0,4]}}        ' + bytes(4),
    struct.pack("<Q", 62) + b'{"a":{"dtype":"F32","shape":[9],"data_offsets":[0,4]}}        ' + bytes(4),
    b"\0", b"hello", bytes(range(256)), b"a word in \xff\xfe\xfd\xfc\xfb" * 9,
])  # fmt: skip
def test_a_file_of_nothing_known_is_damaged(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(data)
    with pytest.raises(WeightsError, match=r"w.bin is damaged") as caught:
        read(tmp_path / "w.bin")
    assert len(str(caught.value)) < 500
    assert "\n" not in str(caught.value)


def test_an_empty_file_is_empty(tmp_path: Path) -> None:
    (tmp_path / "w.pth").touch()
    with pytest.raises(WeightsError, match=r"w\.pth is empty"):
        read(tmp_path / "w.pth")


# --- checksums in the files -------------------------------------------------------------------------------------------


def small_network() -> MobileNetV3:
    rows = (config.InvertedResidualConfig(8, 3, 8, 8, False, "RE", 1),)
    torch.manual_seed(0)
    return MobileNetV3(config.MobileNetV3Config(rows, 8, 8, num_classes=2))


@functools.cache
def files() -> dict[str, bytes]:
    """One network in each kind of file that has checksums."""
    state, network = small_network().state_dict(), small_network()

    def ours(stream: io.BytesIO) -> None:
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            stream.write(save(network, Path(folder) / "w", classes=["cat", "dog"]).read_bytes())

    return {
        "pth": in_memory(lambda stream: torch.save(state, stream)),
        "pth of a training program": in_memory(lambda stream: torch.save({"model": state, "epoch": 3}, stream)),
        "safetensors": in_memory(ours),
    }


def flipped(data: bytes, number: int, seed: int) -> Iterator[bytes]:
    """``data`` with one bit or one byte changed, or a few bytes of it lost, in the head, the tail and anywhere."""
    generator = random.Random(seed)
    for turn in range(number):
        where = generator.choice([range(200), range(len(data) - 400, len(data)), range(len(data))])
        place = generator.choice(where)
        changed = bytearray(data)
        if turn % 8 == 0:
            changed[place : place + generator.randint(1, 8)] = b""
        elif turn % 4 == 0:
            changed[place] = generator.randrange(256)
        else:
            changed[place] ^= 1 << generator.randrange(8)
        yield bytes(changed)


def unchanged(found: Checkpoint, whole: Checkpoint) -> bool:
    """Whether a damaged file gave what it had, so that nothing of it matters: numbers, names, metadata."""
    said = {key: text for key, text in found.metadata.items() if "sha256" not in key}
    kept = {key: text for key, text in whole.metadata.items() if "sha256" not in key}
    lost = len(said) - len(kept)  # the name of the checksum may be what changed
    return (
        list(found.tensors) == list(whole.tensors)
        and all(same_bits(tensor, whole.tensors[name]) for name, tensor in found.tensors.items())
        and lost in (0, 1)
        and all(said[key] == text for key, text in kept.items())
    )


@pytest.mark.parametrize("kind", ["pth", "pth of a training program", "safetensors"])
def test_a_changed_bit_is_found_or_changes_nothing(kind: str, tmp_path: Path) -> None:
    path, refusals = tmp_path / "w", 0
    path.write_bytes(files()[kind])
    whole = read(path)
    for data in flipped(files()[kind], 150, seed=7):
        path.write_bytes(data)
        try:
            found = read(path)
        except WeightsError:
            refusals += 1
            continue
        assert unchanged(found, whole)
    assert refusals > 75, "most of it matters"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pth", "safetensors"])
@pytest.mark.parametrize("seed", range(10))
def test_many_changed_bits_are_found_or_change_nothing(kind: str, seed: int, tmp_path: Path) -> None:
    path = tmp_path / "w"
    path.write_bytes(files()[kind])
    whole = read(path)
    for data in flipped(files()[kind], 400, seed=100 + seed):
        path.write_bytes(data)
        try:
            assert unchanged(read(path), whole)
        except WeightsError:
            continue


def test_every_number_of_a_file_is_under_a_checksum(tmp_path: Path) -> None:
    """A flipped bit in the numbers themselves is always found, in the first as in the last of them."""
    for kind, data in files().items():
        for value in small_network().state_dict().values():
            if not value.is_floating_point() or not value.any() or value.numel() < 8:
                continue
            place = data.index(value.numpy().tobytes())
            for position in (place, place + 4 * value.numel() - 1):
                changed = bytearray(data)
                changed[position] ^= 1
                (tmp_path / "w").write_bytes(changed)
                with pytest.raises(WeightsError, match=r"is damaged.*(checksum|SHA-256)"):
                    read(tmp_path / "w")
        assert kind


def test_a_training_checkpoint_and_a_weight_file_are_compared_alike(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    checkpoint.write(path, {"model": TENSORS})
    data = bytearray(path.read_bytes())
    data[data.index(TENSORS["a"].numpy().tobytes())] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"damaged or no checkpoint .*the checksum of .*/data/0 differs"):
        checkpoint.read(path)
    with pytest.raises(
        WeightsError, match=r"damaged, or no weight file: BadZipFile: the checksum of .*/data/0 differs"
    ):
        read(path)


def test_a_safetensors_file_changed_by_another_program_is_refused(tmp_path: Path) -> None:
    network = mobilenet_v3_small(width_mult=0.25, num_classes=2)
    path = save(network, tmp_path / "w.safetensors")
    kept = read(path)
    for tensors, metadata in (
        ({**kept.tensors, "classifier.3.bias": torch.ones(2)}, kept.metadata),
        ({name: tensor.double() for name, tensor in kept.tensors.items()}, kept.metadata),
        (kept.tensors, {**kept.metadata, "note": "new"}),
        (kept.tensors, {**kept.metadata, "mnv3lib_config": kept.metadata["mnv3lib_config"].replace("0.001", "0.002")}),
    ):
        safetensors.torch.save_file(tensors, path, metadata)
        with pytest.raises(
            WeightsError, match=r"is damaged, or another program changed it: the SHA-256 of its content"
        ):
            read(path)
    safetensors.torch.save_file(kept.tensors, path, {"note": "of another program", "mnv3lib_sha256 ": "x"})
    assert read(path).metadata["note"], "files without the checksum are read"


def test_files_of_older_versions_are_read(tmp_path: Path) -> None:
    """Before they had a checksum, a kind and names of classes."""
    network = small_network()
    metadata = {
        "format": "pt", "mnv3lib_version": "0.1.0", "num_classes": "2", "classes": "somebody's own note",
        "mnv3lib_config": json.dumps(network.config.to_dict()),
    }  # fmt: skip
    safetensors.torch.save_file(network.state_dict(), tmp_path / "w.safetensors", metadata)
    found = read(tmp_path / "w.safetensors")
    assert (found.classes, found.kind) == (None, "classification")
    again = weights.load_network(found)
    assert again.classes is None
    assert again.config == network.config
    assert weights.read(weights.fetch("shipped:digitscenes_small_050")).kind == "classification"
    assert Checkpoint({}, {}, "x").kind is None
