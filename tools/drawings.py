"""Compare the drawings of two HTML outputs as drawings, and everything around them to the letter.

The last bits of a coordinate differ between processors; nobody sees them. So two drawings are the same if they hold the
same elements in the same order with the same words and attributes, where

* a coordinate, length or path may differ by a tenth of a pixel (``UNITS``),
* a channel of a colour by one level of 255 (``LEVELS``), for a shade is computed and then rounded,
* a picture's pixels by a few levels (``PIXEL_LEVELS``),
* an id that Matplotlib makes from its content, coordinates included, in its name alone.

A flipbook keeps its frames in ``data-state``; they are compared in the same way.
"""

from __future__ import annotations

import base64
import io
import json
import re
from html.parser import HTMLParser
from itertools import zip_longest
from typing import Any, NamedTuple

__all__ = ["differences"]

#: Of a drawing's own units. The book's column is 688 pixels wide and a drawing is 316 units or more: 0.1 of a pixel.
UNITS = 0.05
#: What a factor or an angle (in degrees) may differ by: it moves a point 330 units away by the same tenth of a pixel.
FACTOR = 0.00015
LEVELS = 1
PIXEL_LEVELS = 4
MOST = 5  # differences that are told

LENGTHS = re.compile(
    "d|points|(?:width|height|viewbox)|[dfrc]?[xy]|[xy][12]|r|stroke-(?:width|dasharray|dashoffset)",
)
OPACITY = re.compile(r"(?:\w+-)?opacity")
NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?", flags=re.I)
COLOUR = re.compile(r"#[0-9a-f]{6}\b", flags=re.I)
#: Matplotlib's generated ids: of a clipping path, a marker, a hatch, a picture, a path of a collection.
GENERATED = re.compile(r"\b(?:[phm]|image|C[0-9a-f]+_[0-9a-f]+_)[0-9a-f]{10}\b")
#: A flipbook's first frame as pixels; the frame itself is compared.
STILL = re.compile(r'(<img class="mnv3-still" [^>]*?src=)"data:image/png;base64,[A-Za-z0-9+/=]+"')
PICTURE = re.compile(r"data:image/(?:png|jpeg);base64,([A-Za-z0-9+/=\s]+)")
FUNCTION = re.compile(r"(\w+)\(([^)]*)\)")
MOVES = {
    "translate": 0,
    "rotate": 1,
    "scale": 9,
    "skewX": 9,
    "skewY": 9,
    "matrix": 4,
}  # first argument that is a length


class Token(NamedTuple):
    """A tag, or what stands between two."""

    kind: str
    text: str  # to the letter
    name: str = ""
    attributes: tuple[tuple[str, str | None], ...] = ()
    drawn: bool = False  # inside a drawing
    where: str = ""


class Reader(HTMLParser):
    """Split HTML into tokens; each tag of a drawing knows the drawing and the group that it is in."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=False)
        self.tokens: list[Token] = []
        self.drawings = 0
        self.depth = 0
        self.group = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open(tag, attrs)
        self.depth += tag == "svg"

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open(tag, attrs)

    def open(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.drawings += tag == "svg" and not self.depth
        if tag == "g":
            self.group = dict(attrs).get("id") or self.group
        drawn = tag == "svg" or self.depth > 0
        where = f"drawing {self.drawings}, {self.group or 'top'}" if drawn else "page"
        self.tokens.append(Token("start", self.get_starttag_text() or "", tag, tuple(attrs), drawn, where))

    def handle_endtag(self, tag: str) -> None:
        self.depth -= tag == "svg"
        self.text(f"</{tag}>")

    def text(self, text: str) -> None:
        if self.tokens and self.tokens[-1].kind == "text":
            self.tokens[-1] = self.tokens[-1]._replace(text=self.tokens[-1].text + text)
        else:
            self.tokens.append(Token("text", text, where=f"drawing {self.drawings}" if self.depth else "page"))

    def handle_data(self, data: str) -> None:
        self.text(data)

    def handle_entityref(self, name: str) -> None:
        self.text(f"&{name};")

    def handle_charref(self, name: str) -> None:
        self.text(f"&#{name};")

    def handle_comment(self, data: str) -> None:
        self.text(f"<!--{data}-->")

    def handle_decl(self, decl: str) -> None:
        self.text(f"<!{decl}>")

    def handle_pi(self, data: str) -> None:
        self.text(f"<?{data}>")

    def unknown_decl(self, data: str) -> None:
        self.text(f"<![{data}]>")


class Names:
    """Which generated id of one drawing stands for which of the other: one for one."""

    def __init__(self) -> None:
        self.there: dict[str, str] = {}
        self.back: dict[str, str] = {}

    def same(self, old: str, new: str) -> bool:
        """Whether two values are equal but for generated ids, and these stand for each other everywhere."""
        if GENERATED.sub("", old) != GENERATED.sub("", new):
            return False
        pairs = list(zip(GENERATED.findall(old), GENERATED.findall(new), strict=True))
        return all(self.there.setdefault(a, b) == b and self.back.setdefault(b, a) == a for a, b in pairs)


def close(old: str, new: str, tolerance: float) -> bool:
    """Whether two texts are equal but for numbers, and these within the tolerance."""
    if NUMBER.sub("0", old) != NUMBER.sub("0", new):
        return False
    pairs = zip(NUMBER.findall(old), NUMBER.findall(new), strict=True)
    return all(abs(float(a) - float(b)) <= tolerance for a, b in pairs)


def same_transform(old: str, new: str) -> bool:
    """Whether two transforms move every point of a drawing to the same place."""
    if FUNCTION.sub(r"\1", old) != FUNCTION.sub(r"\1", new):
        return False
    for (name, before), (_, after) in zip(FUNCTION.findall(old), FUNCTION.findall(new), strict=True):
        numbers = [[float(number) for number in NUMBER.findall(text)] for text in (before, after)]
        first = MOVES.get(name, len(numbers[0]))
        if len(numbers[0]) != len(numbers[1]) or any(
            abs(a - b) > (UNITS if place >= first else FACTOR)
            for place, (a, b) in enumerate(zip(*numbers, strict=True))
        ):
            return False
    return True


def same_colours(old: str, new: str) -> bool:
    """Whether two texts are equal but for colours, and these by no more than a level of each channel."""
    if COLOUR.sub("#", old) != COLOUR.sub("#", new):
        return False
    pairs = zip(COLOUR.findall(old), COLOUR.findall(new), strict=True)
    channels = ((bytes.fromhex(a[1:]), bytes.fromhex(b[1:])) for a, b in pairs)
    return all(abs(x - y) <= LEVELS for a, b in channels for x, y in zip(a, b, strict=True))


def same_picture(old: str, new: str) -> bool:
    """Whether two addresses hold the same picture but for some levels of its pixels."""
    from PIL import Image, ImageChops

    before, after = PICTURE.fullmatch(old), PICTURE.fullmatch(new)
    if before is None or after is None:
        return False
    pictures = [Image.open(io.BytesIO(base64.b64decode(match[1]))).convert("RGBA") for match in (before, after)]
    if pictures[0].size != pictures[1].size:
        return False
    extremes = ImageChops.difference(*pictures).getextrema()
    return all(most <= PIXEL_LEVELS for _, most in extremes)


def same_style(old: str, new: str, names: Names) -> bool:
    """Whether two lists of declarations say the same, declaration by declaration."""
    before, after = old.split(";"), new.split(";")
    if len(before) != len(after):
        return False
    for a, b in zip(before, after, strict=True):
        (name, _, value), (other, _, now) = a.partition(":"), b.partition(":")
        if name != other or not same_value(name.strip(), value, now, names):
            return False
    return True


def same_value(name: str, old: str, new: str, names: Names) -> bool:
    """Whether an attribute or a property of a drawing says the same in both."""
    if name == "style":
        return same_style(old, new, names)
    if PICTURE.fullmatch(old):
        return old == new or same_picture(old, new)
    if GENERATED.search(old):
        return names.same(old, new)
    if old == new:
        return True
    if name == "transform":
        return same_transform(old, new)
    if LENGTHS.fullmatch(name):
        return close(old, new, UNITS)
    if OPACITY.fullmatch(name):
        return close(old, new, LEVELS / 255)
    return same_colours(old, new)


def said(old: str, new: str) -> str:
    """What is told of two texts: the neighbourhood of the first difference."""
    first = next((i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
    start = max(0, first - 20)
    return f"{old[start : first + 40]!r} is now {new[start : first + 40]!r}"


def state_differences(old: str, new: str) -> list[str]:
    """What differs between two states of a widget; HTML inside is compared as HTML."""

    def walk(before: Any, after: Any, where: str) -> list[str]:
        if type(before) is not type(after):
            return [f"{where}: {said(repr(before), repr(after))}"]
        if isinstance(before, dict):
            if list(before) != list(after):
                return [f"{where}: {said(repr(list(before)), repr(list(after)))}"]
            return [text for key in before for text in walk(before[key], after[key], f"{where}.{key}")]
        if isinstance(before, list):
            if len(before) != len(after):
                return [f"{where}: {len(before)} items are now {len(after)}"]
            pairs = enumerate(zip(before, after, strict=True))
            return [text for place, (a, b) in pairs for text in walk(a, b, f"{where}[{place}]")]
        if isinstance(before, str) and "<svg" in before:
            return [f"{where}: {text}" for text in differences(before, after)]
        return [] if before == after else [f"{where}: {said(repr(before), repr(after))}"]

    try:
        states = json.loads(old), json.loads(new)
    except json.JSONDecodeError:
        return [said(old, new)]
    return walk(*states, "state")


def token_differences(old: Token, new: Token, names: Names) -> list[str]:
    """What differs between two tokens that stand in the same place."""
    if old.text == new.text and not GENERATED.search(old.text):
        return []
    if old.kind == "text" or (old.kind, old.name) != (new.kind, new.name):
        return [f"{old.where}: {said(old.text, new.text)}"]
    if [name for name, _ in old.attributes] != [name for name, _ in new.attributes]:
        return [f"{old.where}: {said(old.text, new.text)}"]
    found = []
    for (name, before), (_, after) in zip(old.attributes, new.attributes, strict=True):
        before, after = before or "", after or ""
        where = f"{old.where}, {old.name} {name}"
        if old.drawn and new.drawn:
            if not same_value(name, before, after, names):
                found.append(f"{where}: {said(before, after)}")
        elif name == "data-state" and before != after:
            found += [f"{old.where}, {text}" for text in state_differences(before, after)]
        elif before != after and not (name == "src" and same_picture(before, after)):
            found.append(f"{where}: {said(before, after)}")
    if not found and not old.drawn and not {"data-state", "src"} & set(dict(old.attributes)):
        found.append(f"{old.where}: {said(old.text, new.text)}")  # the same attributes, written in another way
    return found


def differences(old: str, new: str) -> list[str]:
    """Say in what a reader would see two HTML outputs differ; the first five, and nothing if they are the same."""
    old, new = (STILL.sub(r"\1", text) for text in (old, new))
    if old == new:
        return []
    found: list[str] = []
    names = Names()
    drawing = ""
    for before, after in zip_longest(Reader(old).tokens, Reader(new).tokens):
        if before is None or after is None:
            here, absent = (after, "more") if before is None else (before, "less")
            return [*found, f"{here.where}: {absent}: {here.text[:60]!r}"][:MOST]
        if before.name == "svg" and before.where != drawing:
            names, drawing = Names(), before.where
        told = token_differences(before, after, names)
        found += told
        if before.kind != after.kind or before.name != after.name or len(found) >= MOST:
            break  # what follows is out of step
    return found[:MOST]
