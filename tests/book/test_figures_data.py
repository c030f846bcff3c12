"""The contact sheet: its words count what it draws."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from figures.data import contact_sheet, panels, split_scores
from matplotlib.patches import Rectangle

from mnv3lib.data import DigitScenes


def scenes(**options: Any) -> DigitScenes:
    return DigitScenes(size=10, resolution=32, cache=False, **options)


def frames(drawing: Any) -> list[Any]:
    return [frame for frame in drawing.figure.axes if frame.images]


@pytest.mark.slow
def test_classes_are_written_above_and_counted() -> None:
    dataset = scenes()
    drawing = contact_sheet(dataset, 5, columns=2, first=3)
    labels = [dataset[i][1] for i in range(3, 8)]
    assert [frame.get_title(loc="left") for frame in frames(drawing)] == [str(label) for label in labels]
    for frame, index in zip(frames(drawing), range(3, 8), strict=True):
        assert np.array_equal(frame.images[0].get_array(), dataset[index][0].permute(1, 2, 0))
    counts = ", ".join(f"{labels.count(label)} of {label}" for label in sorted(set(labels)))
    size = "digits from {:.3g} to {:.3g} of the frame".format(*dataset.config.scale)
    assert drawing.alt == f"5 images with their classes above, {size}; images by class: {counts}."
    assert drawing._repr_svg_().count("<image") == 5
    assert len(frames(contact_sheet(dataset, 99))) == 10


@pytest.mark.slow
def test_boxes_are_drawn_around_their_pixels() -> None:
    dataset = scenes(task="detection")
    drawing = contact_sheet(dataset, 3)
    total = 0
    for frame, (_, target) in zip(frames(drawing), [dataset[i] for i in range(3)], strict=True):
        drawn = [patch.get_bbox().extents + 0.5 for patch in frame.patches if isinstance(patch, Rectangle)]
        assert np.array_equal(drawn, target["boxes"])
        names = [dataset.classes[label] for label in target["labels"].tolist()]
        assert frame.get_title(loc="left") == " ".join(names)
        total += len(names)
    assert drawing.alt.startswith("3 images with boxes, digits from ")
    assert sum(int(part.split(" of ")[0]) for part in drawing.alt[:-1].split(": ")[1].split(", ")) == total


def test_masks_cover_what_they_name() -> None:
    dataset = scenes(task="segmentation")
    drawing = contact_sheet(dataset, 3)
    for frame, (_, mask) in zip(frames(drawing), [dataset[i] for i in range(3)], strict=True):
        over = frame.images[1].get_array()
        assert np.array_equal(~np.ma.getmaskarray(over), np.asarray(mask) > 0)
        here = [value for value in mask.unique().tolist() if value]
        assert frame.get_title(loc="left") == " ".join(dataset.classes[value] for value in here)
        for place, value in enumerate(here):
            assert (over[np.asarray(mask) == value] == place).all()
    assert drawing.alt.startswith("3 images with masks over them, digits from ")


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(ValueError, match="n must be an integer >= 1, got 0"):
        contact_sheet(scenes(), 0)
    with pytest.raises(ValueError, match="first must be an index of 10 images, got 10"):
        contact_sheet(scenes(), first=10)


def test_panels_show_what_they_are_given() -> None:
    grey, colour = np.eye(4), np.full((3, 4, 4), 51.0)
    drawing = panels({"one\nhalf": grey, "two": colour, "three": 1 - grey}, columns=2, what="things")
    assert [frame.get_title(loc="left") for frame in frames(drawing)] == ["one\nhalf", "two", "three"]
    shown = [frame.images[0] for frame in frames(drawing)]
    assert np.array_equal(shown[0].get_array(), grey)
    assert np.allclose(shown[1].get_array(), 0.2)
    assert all(image.get_clim() == (0, 1) for image in shown)
    said = "one half, 25% bright; two, 20% bright; three, 75% bright"
    assert drawing.alt == f"3 things: {said}."
    with pytest.raises(ValueError, match="pictures must not be empty"):
        panels({})


def test_bars_of_scores_are_those_of_the_words() -> None:
    drawing = split_scores({"shuffled\nafter": (1.0, 0.84), "before": (0.96, 0.11)})
    (frame,) = drawing.figure.axes
    lengths = [[bar.get_width() for bar in bars] for bars in frame.containers]
    assert lengths == [[1.0, 0.96], [0.84, 0.11]]
    assert drawing.alt == (
        "Accuracy with true and with random labels: shuffled after 100% and 84%; before 96% and 11%. "
        "Dotted: guessing, 10%."
    )
    assert [label.get_text() for label in frame.texts] == ["100%", "96%", "84%", "11%"]
    with pytest.raises(ValueError, match="scores must not be empty"):
        split_scores({})
