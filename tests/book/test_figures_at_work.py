"""The figures of the first chapter: what is kept of a photograph, a turned line, and which networks none beats."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
import torch
from figures import at_work
from figures.choose import PROCESSORS
from figures.families import peers
from PIL import Image

GREY = Image.new("RGB", (64, 32), (90, 90, 90))


def pixels(picture: at_work.Picture) -> np.ndarray:
    (data,) = re.findall(r"data:image/jpeg;base64,([^\"]+)", picture._repr_svg_())
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")).astype(int)


@pytest.mark.parametrize(("threshold", "share"), [(0.2, 100), (0.5, 50), (0.9, 0)])
def test_pixels_from_the_threshold_on_are_kept(threshold: float, share: int) -> None:
    person = torch.cat([torch.full((32, 32), 0.25), torch.full((32, 32), 0.75)], 1)
    found = at_work.kept(GREY, person, threshold=threshold, backdrop="plain")
    assert f"with {share} % of its pixels kept, at the threshold {threshold:g}" in found.alt
    assert found.alt in found._repr_svg_()
    shown = pixels(found)
    assert shown.shape[1] == 2 * shown.shape[0]
    same = np.abs(shown - 90).max(2) < 12
    left, right = same[:, : shown.shape[1] // 2 - 20], same[:, shown.shape[1] // 2 + 20 :]
    assert (left.mean() > 0.99) == (threshold <= 0.25)
    assert (right.mean() > 0.99) == (threshold <= 0.75)


def test_another_backdrop_is_refused() -> None:
    with pytest.raises(ValueError, match="backdrop must be one of 'blurred', 'plain', got 'beach'"):
        at_work.kept(GREY, torch.zeros(4, 4), threshold=0.5, backdrop="beach")


def test_a_line_turns_against_the_clock_on_white() -> None:
    flat, up = (at_work.turned("to the right: .", degrees) for degrees in (0, 90))
    assert (up.width, up.height) == (flat.height, flat.width)
    ink = 255 - np.asarray(up.convert("L")).astype(int)
    assert ink[[0, -1]].max() < 60
    rows = np.nonzero(ink.max(1) > 128)[0]
    assert ink[: up.height // 2].sum() < ink[up.height // 2 :].sum(), "the line's end, a dot, is at the top"
    assert rows.min() < 20
    upside = at_work.turned("to", 180)
    assert np.array_equal(np.asarray(upside), np.asarray(at_work.turned("to", 0).rotate(180)))


def test_the_bar_is_the_probability() -> None:
    drawing = at_work.said("Read me", 45, 0.71)
    assert drawing.data == {"upside down": 0.71}
    assert "turned by 45 degrees. Upside down with probability 0.71." in drawing.alt
    assert [patch.get_width() for patch in drawing.figure.axes[1].patches] == [0.71]


@pytest.mark.parametrize("processor", PROCESSORS)
def test_unbeaten_is_what_no_other_beats(processor: str) -> None:
    column = PROCESSORS[processor]
    found = at_work.unbeaten(column)
    rows = peers()
    beaten = {
        row["model"]
        for row in rows
        for other in rows
        if other[column] >= row[column] and other["top1"] >= row["top1"]
        and (other[column], other["top1"]) != (row[column], row["top1"])
    }  # fmt: skip
    assert set(found) == {row["model"] for row in rows} - beaten
    drawing = at_work.where_they_stand(processor)
    assert drawing.data == {"front": found}
    assert f"{len(rows)} dots" in drawing.alt


def test_every_generation_is_drawn() -> None:
    names = [row["model"].removeprefix("tf_") for row in peers()]
    for start, *_ in at_work.GENERATIONS.values():
        assert sum(name.startswith(start) for name in names) >= 3
