"""CIFAR-10, in files as its authors pickled them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datafiles import NAMES, SmallCifar10, is_image

from mnv3lib.data import BrokenFileError
from mnv3lib.data.cifar import Cifar10

pytestmark = pytest.mark.usefixtures("own_cache")


def test_cifar_is_read_and_split(cifar: Path) -> None:
    train, val, test = (SmallCifar10(cifar, split, validation=8) for split in ("train", "val", "test"))
    assert (len(train), len(val), len(test)) == (22, 8, 6)
    assert train.classes == tuple(NAMES)
    assert train.num_classes == 10
    everything = [*train, *val, *test]
    rng = np.random.default_rng(2)  # the second batch
    data = rng.integers(0, 255, (6, 3072), dtype=np.uint8)
    labels = rng.integers(0, 10, 6).tolist()
    for row in range(6):
        image, label = everything[6 + row]
        is_image(image, 32, 32)
        assert np.array_equal(image.numpy().ravel(), data[row])
        assert type(label) is int
        assert label == labels[row]
    everything[0][0].zero_()
    assert train[0][0].any(), "an item is a copy"
    assert torch.equal(train[-1][0], everything[21][0])
    assert len(SmallCifar10(cifar, "train", validation=0)) == 30


def test_cifar_names_what_is_missing_or_damaged(cifar: Path) -> None:
    path = cifar / "cifar-10-batches-py" / "data_batch_4"
    data = path.read_bytes()
    path.write_bytes(data[:-1] + b"x")
    with pytest.raises(BrokenFileError, match=rf"{path}: does not have the MD5 [0-9a-f]{{32}}. Unpack cifar-10-python"):
        SmallCifar10(cifar)
    path.unlink()
    with pytest.raises(BrokenFileError, match=f"{path}: there is no such file") as raised:
        SmallCifar10(cifar)
    assert raised.value.path == str(path)
    with pytest.raises(FileNotFoundError, match=r"cifar-10-batches-py.*cifar-10-python.tar.gz, from https://"):
        Cifar10(cifar / "elsewhere")
    path.write_bytes(data)
    with pytest.raises(BrokenFileError, match="does not have the MD5 c99cafc152244af753f735de768cd75f"):
        Cifar10(cifar)  # the published sums hold for the published files


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"skip_broken": True}, "skip_broken must be False for CIFAR-10"),
        ({"validation": 30}, "validation must leave some of 30 training images, got 30"),
        ({"validation": -1}, "validation must be an integer >= 0"),
        ({"split": "val", "validation": 0}, "split must be 'train' or 'test' for CIFAR-10 with validation=0"),
        ({"split": "all"}, "split must be one of"),
    ],
)
def test_cifar_refuses_what_it_cannot_do(cifar: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SmallCifar10(cifar, **{"validation": 5, **options})


@pytest.mark.parametrize("validation", [True, 5.0, "5", None])
def test_the_size_of_validation_is_an_integer(cifar: Path, validation: Any) -> None:
    with pytest.raises(TypeError, match=f"validation must be an integer >= 0, got {validation!r}"):
        SmallCifar10(cifar, validation=validation)


def test_cifar_is_told_apart_by_its_fingerprint(cifar: Path) -> None:
    parts = [
        SmallCifar10(cifar, split, validation=n) for split, n in (("train", 5), ("train", 6), ("val", 5), ("test", 5))
    ]
    assert len({part.fingerprint for part in parts}) == 4
    assert parts[0].fingerprint == SmallCifar10(cifar, "train", validation=5).fingerprint
    assert (parts[0].broken, parts[0].skipped) == ([], [])
