"""What decides an image decides the name of its cache; what was found is given back for the same question alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mnv3lib.data import DigitScenes, cache, scenes


def test_other_sources_or_another_version_are_another_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def files() -> int:
        DigitScenes("val", size=2, resolution=16, cache=tmp_path)
        return len(list(tmp_path.glob("*.records")))

    assert [files(), files()] == [1, 1]
    monkeypatch.setattr(scenes, "fingerprint", lambda: "other photographs")
    assert files() == 2
    monkeypatch.setattr(scenes, "VERSION", "another")
    assert files() == 3


def test_a_file_of_another_question_is_asked_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two questions with one name: what the file answers is compared with what is asked."""
    monkeypatch.setattr(cache, "_name", lambda name, key: name)
    asked: list[int] = []

    def find() -> int:
        asked.append(len(asked))
        return asked[-1]

    keys: list[dict[str, Any]] = [{"a": 1}, {"a": 1}, {"a": 2}, {"a": 1}]
    assert [cache.remembered(tmp_path, "it", key, find) for key in keys] == [0, 0, 1, 2]


def test_records_of_another_question_are_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_name", lambda name, key: name)
    kind = np.dtype([("n", "<i4")])

    def made(key: dict[str, Any], number: int) -> list[int]:
        records, _ = cache.records(
            tmp_path, "it", key, kind, 3, lambda index: np.array((number + index,), dtype=kind), progress=False
        )
        return [int(n) for n in records["n"]]

    assert made({"a": 1}, 10) == [10, 11, 12]
    assert made({"a": 1}, 20) == [10, 11, 12]
    with pytest.warns(UserWarning, match="made with other parameters: it is made anew"):
        assert made({"a": 2}, 20) == [20, 21, 22]


def test_records_are_in_their_order_over_several_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_CHUNK_BYTES", 3 * 4)
    kind = np.dtype([("n", "<i4")])
    records, _ = cache.records(
        tmp_path, "it", {}, kind, 8, lambda index: np.array((index,), dtype=kind), progress=False
    )
    assert records["n"].tolist() == [*range(8)]
