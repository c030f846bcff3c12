"""The settled words: where the book once said something of its own, it says what papers and libraries say.

Looked at is the running text of all pages, as :func:`test_terms.prose` finds it, without code, equations and links; of
a ``{term}`` role the text that is shown; and of the library its docstrings, comments and messages. A departure is a
word in a sense for which another one is settled. Phrases in which the same word means something else stand beside it;
what a single page has to say stands below, with the reason.
"""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest
from conftest import ROOT
from test_terms import TERM, blank, markdown, prose

MODULES = sorted((ROOT / "mnv3lib").rglob("*.py"))
PAGES = sorted([*(ROOT / "book").glob("*.ipynb"), *(ROOT / "book").glob("*.md")])


@dataclass(frozen=True)
class Departure:
    """A private word, as a regular expression, the settled one, and phrases that are neither."""

    said: str
    settled: str
    fine: tuple[str, ...] = ()


BEFORE_A_NOUN = "a|an|the|this|that|which|what|its|their|equal|large|larger|small|smaller"
DEPARTURES = [
    Departure(r"(?<!feature )maps?", "feature map", (r"(?:linear|network) maps?", r"maps? of the (?:network|book)")),
    Departure(r"places?", "position", (r"in place", r"decimal places?", r"tak(?:es?|ing) (?:the )?place")),
    Departure(r"trunks?", "backbone"),
    Departure(r"channel rules?", "rounding rule"),
    Departure(r"half-widths?", "saturation point"),
    Departure(r"codes|(?:input|output|integer|quantised) code|code (?:of|for|is) \d\S*|code \d\S*", "quantised value"),
    Departure(r"thousand[- ]million(?:s|th|ths)?", "billion"),
    Departure(r"(?<!standard )deviations?", "standard deviation"),
    Departure(rf"(?:{BEFORE_A_NOUN}) shares?(?! (?:a|one|the)\b)|share of", "fraction"),
    Departure(r"relative (?:deviation|difference|distance)s?", "relative error"),
    Departure(r"kept (?:activations|feature maps)|(?:activations|feature maps) kept", "saved activations"),
    Departure(r"(?:is|are|was|were) born(?: as)?|at birth", "initialisation"),
    Departure(r"fine ?tun(?:e|ed|es|ing)", "fine-tuning"),
    Departure(r"frozen (?:body|base|features)", "frozen backbone"),
    Departure(r"graded (?:learning )?rates", "layer-wise learning rates"),
    Departure(r"raster", "grid"),
    Departure(r"nailed(?: down)?", "fixed"),
    Departure(r"dear(?:er|est)?", "costly, costlier"),
    Departure(r"cosine (?:between|of the angle)", "cosine similarity"),
]

#: What one page has to say, as it stands there, and why.
EXCEPTIONS = {
    ("12_transfer_learning", '"a lot of codes"'): "a quotation",
    ("glossary", "*activation map*, or *map* for short"): "synonyms, which the search finds",
    ("glossary", "*channel rule* and *channel rounding*"): "a synonym, which the search finds",
    ("glossary", "*half-width* of the ramp"): "a synonym, which the search finds",
}

#: Other senses of the same words that a library needs.
IN_CODE = r"memory map|(?:Map|maps) (?:a|the) file|Map of|the map needs no widgets|share memory|its place"


def shown(text: str) -> str:
    """The running text of a page in one line, links to the glossary as readers see them."""
    said = TERM.sub(lambda role: role.group().split("`")[1].split("<")[0].strip(), prose(text))
    return " ".join(said.split())


def departures(text: str) -> list[str]:
    """What a text says in words of its own, each with the settled word and the words around it."""
    found = []
    for departure in DEPARTURES:
        here = text
        for phrase in departure.fine:
            here = blank(rf"\b(?:{phrase})\b", here, re.IGNORECASE)
        for match in re.finditer(rf"(?<![\w-])(?:{departure.said})(?![\w-])", here, re.IGNORECASE):
            around = text[max(0, match.start() - 40) : match.end() + 30]
            found.append(f"{departure.settled}, not {match.group()!r}: …{around}…")
    return found


def read(path: Path) -> str:
    """A page as Markdown."""
    return markdown(nbformat.read(path, as_version=4)) if path.suffix == ".ipynb" else path.read_text(encoding="utf-8")


def excepted(page: str) -> list[str]:
    """The phrases that only this page may say."""
    return [phrase for where, phrase in EXCEPTIONS if where == page]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_a_page_says_what_the_field_says(path: Path) -> None:
    text = shown(read(path))
    for phrase in excepted(path.stem):
        assert phrase in text, "an exception that nothing needs any more"
        text = text.replace(phrase, "")
    assert departures(text) == []


def spoken(source: str) -> Iterator[tuple[int, str]]:
    """The docstrings, comments and messages of a module with their lines, without names in backquotes and fields."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT or (token.type == tokenize.STRING and " " in token.string):
            text = re.sub(r"``.*?``|`[^`]*`|\{[^{}]*\}", " ", token.string, flags=re.S)
            yield token.start[0], " ".join(re.sub(r"^#:? ?", "", text).split())


def said_in_code(source: str) -> list[str]:
    """What a module says in words of its own, with the line."""
    return [f"line {line}: {found}" for line, text in spoken(source) for found in departures(blank(IN_CODE, text))]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: "/".join(path.relative_to(ROOT).parts))
def test_a_module_says_what_the_field_says(path: Path) -> None:
    assert said_in_code(path.read_text(encoding="utf-8")) == []


# The rule on planted words -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sentence", "settled"),
    [
        ("The map has 7×7 values.", "feature map"),
        ("Its {term}`maps <feature map>` shrink.", "feature map"),
        ("Each kernel is used at every place.", "position"),
        ("The frozen trunk guesses.", "backbone"),
        ("There are two channel rules.", "rounding rule"),
        ("A half-width of 3 is best.", "saturation point"),
        ("3 falls between two codes.", "quantised value"),
        ("1 is code 32.", "quantised value"),
        ("The output code is 170.", "quantised value"),
        ("That is 0.2 thousand millions.", "billion"),
        ("Outputs are around a thousand-millionth.", "billion"),
        ("A mean and a deviation.", "standard deviation"),
        ("It costs this share of the other.", "fraction"),
        ("We ask for a relative difference.", "relative error"),
        ("The batch is limited by the feature maps kept.", "saved activations"),
        ("Biases are born as zeros.", "initialisation"),
        ("Fine tuning takes minutes.", "fine-tuning"),
        ("The body learns at graded rates.", "layer-wise learning rates"),
        ("The raster is coarse.", "grid"),
        ("5×5 kernels would make it dearer.", "costlier"),
        ("The cosine between the two is 0.2.", "cosine similarity"),
        ("A line may\nend within a thousand\nmillion.", "billion"),
    ],
)
def test_a_planted_word_is_found(sentence: str, settled: str) -> None:
    (found,) = departures(shown(sentence))
    assert settled in found.split(", not ")[0]


@pytest.mark.parametrize(
    "sentence",
    [
        "A {term}`feature map` and another feature map; feature\nmaps shrink.",
        "A matrix is a linear map, and the map of the network a drawing.",
        "ReLU works in place; it takes the place of a sigmoid; a test takes place.",
        "The code is in `code/`, in codecs and barcodes; see [the trunk](trunk.html), {doc}`map` and $map$.",
        "A standard deviation, a billion, two rows that share the work.",
        "```python\nplace = map(code)\n```",
        "A cosine schedule is fixed.",
    ],
)
def test_other_senses_are_left_alone(sentence: str) -> None:
    assert departures(shown(sentence)) == []


def test_a_planted_word_is_found_in_code() -> None:
    sentences = ('"""A map of 7×7."""', "# the trunk", 'raise ValueError(f"place {place} is not there")')
    assert [len(said_in_code(sentence)) for sentence in sentences] == [1, 1, 1]
    assert said_in_code("x = map(place, codes)  # ``place`` of `map`\ny = f\"{', '.join(map(repr, x))} or so\"") == []


def test_every_exception_names_a_page() -> None:
    assert {page for page, _ in EXCEPTIONS} <= {path.stem for path in PAGES}
