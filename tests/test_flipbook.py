"""Figures with sliders: every position is Python's drawing, in a notebook and on a page."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

import pytest
from figures.configs import rounding_staircase
from traitlets import TraitError

from mnv3lib.explore import Flipbook
from mnv3lib.explore import page as pages


def svg(alt: str) -> str:
    return f'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9" role="img" aria-label="{alt}"></svg>'


class Card:
    """The smallest drawing: a labelled picture."""

    def __init__(self, n: int, colour: str = "blue") -> None:
        self.alt = f"{n} in {colour}"

    def _repr_svg_(self) -> str:
        return svg(self.alt)


def book(**changes: Any) -> Flipbook:
    return Flipbook(Card, **({"n": (1, 2, 3), "colour": ("blue", "green"), "start": {"n": 2}} | changes))


def test_frames_are_all_combinations_and_the_last_control_turns_fastest() -> None:
    made = book()
    alts = [f"{n} in {colour}" for n in (1, 2, 3) for colour in ("blue", "green")]
    assert made.frames == [svg(alt) for alt in alts]
    for index, alt in enumerate(alts):
        made.position = divmod(index, 2)
        assert made.index() == index
        assert made.alt == alt


def test_it_starts_where_asked_and_says_so() -> None:
    assert repr(book()) == "Flipbook(n=2 of 1, 2, 3; colour=blue of blue, green)"
    assert book(start={"n": 3, "colour": "green"}).alt == "3 in green"


def test_the_page_holds_the_state_and_the_starting_picture() -> None:
    made = book(labels={"n": "how many"})
    data, _ = made._repr_mimebundle_()
    state = json.loads(html.unescape(re.search(r"data-state='([^']*)'", data["text/html"])[1]))
    assert state["position"] == [1, 0]
    assert [control["label"] for control in state["controls"]] == ["how many", "colour"]
    fallback = data["text/html"].split("\n", 1)[1]
    assert '<img class="mnv3-still" alt="2 in blue" src="data:image/png;base64,' in fallback
    assert "<svg" not in fallback, "where HTML is sanitised it falls to pieces"
    assert data["text/html"] == book(labels={"n": "how many"})._repr_mimebundle_()[0]["text/html"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"n": ()}, "stops must hold"),
        ({"n": range(101)}, "1 to 200 combinations, got 202"),
        ({"start": {"m": 1}}, "'m'"),
        ({"start": {"n": 7}}, r"start\['n'\] must be one of \(1, 2, 3\), got 7"),
        ({"labels": {"m": "x"}}, "'m'"),
    ],
)
def test_bad_arguments_are_named(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        book(**changes)


@pytest.mark.parametrize("position", [[3, 0], [0, 2], [-1, 0], [0], [0, 0, 0]])
def test_a_position_outside_is_refused(position: list[int]) -> None:
    made = book()
    with pytest.raises(TraitError, match="position must hold"):
        made.position = position
    assert made.position == [1, 0]


@pytest.mark.browser
def test_a_page_shows_every_frame_at_its_place(browser: Any, tmp_path: Path) -> None:
    stairs = Flipbook(rounding_staircase, highest=(16, 32, 48, 64), start={"highest": 32})
    cards = book()
    (tmp_path / "w.js").write_text(pages.static_script(), encoding="utf-8")
    (tmp_path / "w.css").write_text(pages.static_style(), encoding="utf-8")
    (tmp_path / "index.html").write_text(
        '<!doctype html><meta charset="utf-8"><title>x</title><link rel="stylesheet" href="w.css">'
        f'<script defer src="w.js"></script><body>{cards.page_html()}{stairs.page_html()}',
        encoding="utf-8",
    )
    context = browser.new_context()
    page = context.new_page()
    errors: list[str] = []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.goto((tmp_path / "index.html").as_uri())
    place = page.locator("div.mnv3-widget").first
    place.locator("xpath=self::*[@data-live]").wait_for()

    thumb = "getComputedStyle(document.querySelector('input[type=range]')).getPropertyValue('--mnv3x-accent')"
    assert page.evaluate(thumb).strip(), "without a colour the slider is not drawn"
    label = lambda: place.locator("svg").get_attribute("aria-label")  # noqa: E731
    assert label() == "2 in blue"
    slider = place.locator("input[data-control=n]")
    slider.focus()
    page.keyboard.press("End")
    page.wait_for_function("document.querySelector('svg').getAttribute('aria-label') === '3 in blue'")
    place.locator("input[data-control=colour]").focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("document.querySelector('svg').getAttribute('aria-label') === '3 in green'")
    assert slider.get_attribute("aria-valuetext") == "3"
    page.wait_for_function("document.querySelector('.mnv3x-spoken').textContent === '3 in green'")

    second = page.locator("div.mnv3-widget").nth(1)
    shown = set()
    second.locator("input").focus()
    page.keyboard.press("Home")
    for _ in range(4):
        page.wait_for_timeout(50)
        shown.add(second.locator("svg").get_attribute("aria-label"))
        page.keyboard.press("ArrowRight")
    assert shown == set(stairs._alts)
    assert errors == []
    context.close()
