"""The comparison of drawings: last bits pass, and what a reader would see does not.

The mistakes are planted in figures drawn as the book's are, and in every drawing that the notebooks hold.
"""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping
from html import escape
from itertools import cycle
from typing import Any

import nbformat
import pytest
from conftest import ROOT
from PIL import Image
from scripts import load_script

from mnv3lib.explore.drawing import Drawing, in_style, new_figure
from mnv3lib.explore.palette import ACCENT, COLOURS

drawings = load_script(ROOT / "tools" / "drawings.py")
differences: Callable[[str, str], list[str]] = drawings.differences

NOISE = 2e-5  # what the same figure's coordinates were seen to differ by between processors, and a little more
COORDINATES = re.compile(r'(?<= )(?:d|x|y|transform)="[^"]*"')

CURVE = {1: 3.0, 2: 9.0, 4: 40.0, 8: 90.0}
SHADES = ((0.1, 0.4, 0.9), (0.2, 0.3, 0.6))
DRAWN: Mapping[str, Any] = {
    "scale": "log",
    "colours": (ACCENT, COLOURS["vermilion"]),
    "shades": SHADES,
    "level": 35.5,
    "heights": (4.0, 2.0, 3.0),
    "label": 20.0,
    "alt": "Three panels: a curve with its mean, bars of two kinds, and a map of shades.",
}


@in_style
def figure(**changed: Any) -> str:
    """Return a figure with all that the book's have: a curve, bars of two kinds, a map of shades and a label."""
    drawn = {**DRAWN, **changed}
    sheet, (curve, bars, shades) = new_figure(height=5, nrows=3)
    curve.plot(list(CURVE), list(CURVE.values()), marker="o", color=ACCENT)
    curve.axhline(drawn["level"], linestyle="--")
    curve.set_yscale(drawn["scale"])
    curve.annotate("saturated", (2, 9), (drawn["label"], 20), textcoords="offset points")
    places = range(len(drawn["heights"]))
    bars.bar(places, drawn["heights"], color=[drawn["colours"][place % 2] for place in places])
    bars.set(ylim=(0, 5))
    shades.imshow(drawn["shades"], cmap="viridis", vmin=0, vmax=1)
    return Drawing(sheet, drawn["alt"])._repr_svg_()


def found() -> Iterator[tuple[str, str]]:
    """Find the drawings that the notebooks show, of a flipbook the frame that it opens at; give each a name."""
    for path in sorted((ROOT / "book").glob("*.ipynb")):
        for place, cell in enumerate(nbformat.read(path, as_version=4).cells):
            for output in cell.get("outputs", []):
                html = "".join(output.get("data", {}).get(kind, "") for kind in ("text/html", "image/svg+xml"))
                for number, svg in enumerate(re.findall(r"<svg\b.*?</svg>", html, flags=re.S)):
                    yield f"{path.stem}-{place}-{number}", svg


@pytest.fixture(scope="module")
def stored() -> dict[str, str]:
    """Every drawing of the book, by name."""
    return dict(found())


@pytest.fixture(scope="module")
def right() -> str:
    """A figure without a mistake."""
    return figure()


def jitter(svg: str, noise: float) -> str:
    """Change every coordinate a little."""
    sign = cycle((1, -1))

    def change(match: re.Match[str]) -> str:
        return re.sub(r"\d+\.\d+", lambda number: f"{float(number[0]) + next(sign) * noise:.6f}", match[0])

    return COORDINATES.sub(change, svg)


def first(pattern: str, svg: str) -> re.Match[str]:
    """Return the first place of a pattern, which has to have one."""
    match = re.search(pattern, svg, flags=re.S)
    assert match, pattern
    return match


# What passes ---------------------------------------------------------------------------------------------------------


def test_every_drawing_of_the_book_passes_with_other_last_bits(stored: dict[str, str]) -> None:
    changed = {name: jitter(svg, NOISE) for name, svg in stored.items()}
    assert sum(changed[name] != svg for name, svg in stored.items()) > 50
    assert {name: told for name, svg in stored.items() if (told := differences(svg, changed[name]))} == {}


def test_generated_names_may_be_others_but_only_one_for_one(right: str) -> None:
    clips = sorted(set(re.findall(r"\bp[0-9a-f]{10}\b", right)))
    assert len(clips) >= 2
    renamed = right.replace(clips[0], "p0123456789")
    assert differences(right, renamed) == []
    assert differences(right, renamed.replace(clips[1], "p0123456789")) != [], "two are one now"
    assert differences(right, right.replace(f"url(#{clips[0]})", f"url(#{clips[1]})", 1)) != [], "one is another"
    assert differences(right, right.replace(f"url(#{clips[0]})", "url(#p0123456789)", 1)) != [], "one is two now"
    assert differences(right + right, renamed + right) == [], "each drawing has names of its own"


def test_a_colour_may_be_a_level_off_and_no_more() -> None:
    before = '<svg><path d="M 0 0" style="fill: #a0b0c0; opacity: 0.5"/></svg>'
    assert differences(before, before.replace("#a0b0c0", "#a1afc0")) == []
    assert differences(before, before.replace("#a0b0c0", "#a0b0c2")) != []
    assert differences(before, before.replace("0.5", "0.503")) == []
    assert differences(before, before.replace("0.5", "0.51")) != []


@pytest.mark.parametrize(
    ("before", "after", "same"),
    [
        ("translate(10 20)", "translate(10.04 20)", True),
        ("translate(10 20)", "translate(10.1 20)", False),
        ("rotate(-90 10 20)", "rotate(-90 10.04 20)", True),
        ("rotate(-90 10 20)", "rotate(-89.9 10 20)", False),
        ("rotate(-0 10 20)", "rotate(0 10 20)", True),
        ("scale(1 -1) translate(0 -5)", "scale(1 -1) translate(0 -5.01)", True),
        ("scale(1 -1)", "scale(1.01 -1)", False),
        ("scale(1 -1)", "scale(1)", False),
        ("translate(10 20)", "scale(10 20)", False),
        ("matrix(1 0 0 1 5 5)", "matrix(1 0 0 1 5.04 5)", True),
        ("matrix(1 0 0 1 5 5)", "matrix(1 0.01 0 1 5 5)", False),
    ],
)
def test_a_transform_is_compared_by_what_it_moves(before: str, after: str, same: bool) -> None:
    drawn = f'<svg><g transform="{before}"></g></svg>'
    assert (differences(drawn, drawn.replace(before, after)) == []) is same


# What does not -------------------------------------------------------------------------------------------------------

MISTAKES: dict[str, dict[str, Any]] = {
    "a linear axis for a logarithmic one": {"scale": "linear"},
    "the colours of two kinds swapped": {"colours": DRAWN["colours"][::-1]},
    "the shades of a map swapped": {"shades": SHADES[::-1]},
    "a shade of a map that is a little lighter": {"shades": ((0.1, 0.4, 0.93), SHADES[1])},
    "the median for the mean": {"level": 24.5},
    "a bar less": {"heights": DRAWN["heights"][:2]},
    "a bar at another height": {"heights": (4.0, 2.0, 3.02)},
    "a label moved by a pixel": {"label": DRAWN["label"] + 0.75},
    "other words": {"alt": DRAWN["alt"].replace("mean", "median")},
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_a_figure_is_caught(mistake: str, right: str) -> None:
    assert differences(right, figure(**MISTAKES[mistake])) != []


def moved(svg: str) -> str:
    """Move the first element that has a place by one pixel."""
    match = first(r'(?<=[ "(])(?:(?:x|x1|cx)="|translate\(|d="M )(-?[\d.]+)', svg)
    return svg[: match.start(1)] + str(float(match[1]) + 0.75) + svg[match.end(1) :]


def without_an_element(svg: str) -> str:
    """Remove the first path, rectangle or text."""
    match = first(r"<(path|rect|text|line|circle|use|image)\b[^>]*?(?:/>|>.*?</\1>)", svg)
    return svg[: match.start()] + svg[match.end() :]


def recoloured(svg: str) -> str:
    """Give the first coloured element another colour."""
    match = first(r"(?:fill|stroke)(?:: ?|=\")(#[0-9a-f]{6}|currentColor)", svg)
    return svg[: match.start(1)] + "#123456" + svg[match.end(1) :]


def reworded(svg: str) -> str:
    """Say something else to those who do not see it."""
    return svg.replace('aria-label="', 'aria-label="Not: ', 1)


@pytest.mark.parametrize("damage", [moved, without_an_element, recoloured, reworded])
def test_a_mistake_in_any_drawing_of_the_book_is_caught(damage: Callable[[str], str], stored: dict[str, str]) -> None:
    unseen = [name for name, svg in stored.items() if differences(svg, damage(svg)) == []]
    assert unseen == []


def test_a_picture_beside_a_drawing_is_compared_by_its_pixels() -> None:
    def page(level: int, size: tuple[int, int] = (2, 1)) -> str:
        file = io.BytesIO()
        Image.new("RGB", size, (level, 100, 100)).save(file, format="PNG")
        return f'<p><img src="data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}" alt="Red."></p>'

    assert differences(page(100), page(102)) == []
    assert differences(page(100), page(110)) != []
    assert differences(page(100), page(100, (1, 2))) != []
    assert differences('<img src="a.png">', '<img src="b.png">') != []


@pytest.mark.slow
def test_what_differs_is_told_with_its_place(right: str) -> None:
    told = differences(right, figure(label=DRAWN["label"] + 0.75))
    assert all(re.match(r"drawing 1, text_\d+, text \w+: .* is now ", text) for text in told)
    assert len(told) == 2, "its x, and the point around which it is turned"
    assert len(differences(right, figure(alt="Short.", scale="linear", heights=(1, 1, 1)))) == drawings.MOST


# Around drawings, and inside widgets ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("<p>12.3456</p>", "<p>12.3457</p>"),
        ('<td x="1.00001">a</td>', '<td x="1.00002">a</td>'),
        ("<table><tr><td>1</td></tr></table>", "<table><tr><td>1</td><td>2</td></tr></table>"),
        ("<p>a &lt; b</p>", "<p>a &gt; b</p>"),
        ("<p class='a'>b</p>", '<p class="a">b</p>'),
        ("<p>a</p><!-- b -->", "<p>a</p><!-- c -->"),
        ("<p>a</p>", "<p>a</p> "),
        ("<svg></svg>", "<p></p>"),
        ("<svg></svg>", "<svg></svg><svg></svg>"),
        ("<svg><text>12.3456</text></svg>", "<svg><text>12.3457</text></svg>"),
        ('<svg><g style="fill: #0072b2"></g></svg>', '<svg><g style="stroke: #0072b2"></g></svg>'),
        ('<svg><g style="fill: none; opacity: 0"></g></svg>', '<svg><g style="fill: none"></g></svg>'),
        ('<svg><rect x="1"/></svg>', '<svg><rect y="1"/></svg>'),
        ('<svg><rect x="1"/></svg>', '<svg><line x="1"/></svg>'),
        ('<svg><path d="M 1 2"/></svg>', '<svg><path d="L 1 2"/></svg>'),
        ('<svg><path d="M 1 2"/></svg>', '<svg><path d="M 1 2 3"/></svg>'),
        ('<svg><g class="a 1.00"></g></svg>', '<svg><g class="a 1.01"></g></svg>'),
        ("<p data-state='{\"a\": 1}'></p>", "<p data-state='{\"b\": 1}'></p>"),
        ("<p data-state='{\"a\": 1}'></p>", "<p data-state='{\"a\": 1.5}'></p>"),
        ('<p data-state=\'{"a": "1"}\'></p>', '<p data-state=\'{"a": "2"}\'></p>'),
    ],
)
def test_everything_but_drawings_is_compared_to_the_letter(before: str, after: str) -> None:
    assert differences(before, before) == []
    assert differences(before, after) != []


def widget(*frames: str, **more: Any) -> str:
    """Return a flipbook as a notebook holds it."""
    state = escape(json.dumps({"frames": frames, "position": [0], **more}), quote=False).replace("'", "&#x27;")
    return f"<div class=\"mnv3-widget\" data-state='{state}'>\n{frames[0]}\n</div>"


def test_the_frames_of_a_flipbook_are_drawings(right: str) -> None:
    before = widget(right, right)
    assert differences(before, widget(jitter(right, NOISE), jitter(right, -NOISE))) == []
    (told,) = differences(before, widget(right, reworded(right)))
    assert "state.frames[1]" in told
    for damaged in (widget(right), widget(right, right, position=[1]), before.replace("[0]", "")):
        assert differences(before, damaged) != []
