"""The words of the book: a chapter links a glossary term where its text first uses it, and not again.

Looked at is what a reader reads from the first section on: paragraphs, lists, tables, boxes, answers. Not looked at are
the head of a chapter (aims, what you should know), headings and titles, code, equations, captions, the texts of links,
the options of a recall question, which become buttons, and the list *Words of this chapter*.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from conftest import ROOT
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

CHAPTERS = sorted((ROOT / "book").glob("[0-9]*.ipynb"))
GLOSSARY = (ROOT / "book" / "glossary.md").read_text(encoding="utf-8")

#: Phrases in which a word is not the term.
PHRASES = {
    "groups": [r"groups of channels"],
    "head": [r"in (?:your|the) head", r"shows? heads"],
    "last stage": [r"efficient last stage"],  # the paper's name for the redesigned end
    "row": [r"rows? and columns?", r"row or column", r"rows of a matrix", r"in a row"],
}

TERM = re.compile(r"\{term\}`(?:[^`<]*<([^`>]+)>|([^`]+))`")
FENCE = re.compile(r"(`{3,}|:{3,})(?:\{([\w-]+)\})?")
SILENT = {None, "math", "code-cell", "explorer"}  # boxes whose contents are no text; None is a plain block of code
WORDS = re.compile(r"^\*\*Words of this chapter\*\*.*?(?=\n\s*\n|\Z)", flags=re.DOTALL | re.MULTILINE)


def glossary_terms(text: str) -> list[str]:
    """The terms of a page's glossary, aliases included."""
    (body,) = re.findall(r"^:::\{glossary\}\n(.*?)^:::", text, flags=re.DOTALL | re.MULTILINE)
    return re.findall(r"^(?! )(.+)$", body, flags=re.MULTILINE)


def markdown(notebook: NotebookNode) -> str:
    """All Markdown cells of a notebook."""
    return "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def blank(pattern: str, text: str, flags: int = 0) -> str:
    """Put spaces where the pattern is found, so that every other word keeps its place."""
    return re.sub(pattern, lambda match: re.sub(r"[^\n]", " ", match.group()), text, flags=flags)


def without_fences(text: str) -> str:
    """Blank code, equations, headings, options and the first lines of boxes; keep what boxes say."""
    lines = text.split("\n")
    boxes: list[tuple[str, str | None]] = []  # those that are open, by fence and name
    for number, line in enumerate(lines):
        fence = FENCE.match(line)
        silent = bool(boxes) and boxes[-1][1] in SILENT
        if fence and boxes and line.rstrip() == boxes[-1][0]:
            boxes.pop()
        elif fence and not silent:
            boxes.append((fence[1], fence[2]))
        elif not (silent or re.match(r":[\w-]+:|#+ |\* \([a-z]\)", line)):
            continue
        lines[number] = " " * len(line)
    return "\n".join(lines)


def prose(text: str) -> str:
    """A chapter's running text in its place, everything else blank; ``{term}`` roles stay."""
    start = re.search(r"^## ", text, flags=re.MULTILINE)
    head = start.start() if start else 0
    text = blank(r".+", text[:head]) + without_fences(text[head:])
    text = blank(r"\$\$.*?\$\$(?: \([\w-]+\))?", text, re.DOTALL)
    span = re.compile(r"(\{[\w:]+\})?(`+)[^`]+\2")  # code, or a role and its text
    text = span.sub(lambda found: found[0] if found[1] == "{term}" else blank(r".+", found[0]), text)
    text = blank(r"!?\[[^\]]*\]\([^)]*\)|https?://\S+|\$[^$\n]+\$", text)
    return blank(WORDS.pattern, text, WORDS.flags)


def linked(text: str) -> list[str]:
    """The targets of all ``{term}`` roles, in order."""
    return [match[1] or match[2] for match in TERM.finditer(text)]


def first_uses(text: str, terms: list[str]) -> dict[str, re.Match[str]]:
    """For each term that a chapter says without a link before it links it, where it first does so."""
    text, found = prose(text), {}
    links: dict[str, int] = {}
    for match in TERM.finditer(text):
        links.setdefault(match[1] or match[2], match.start())
    text = blank(TERM.pattern, text)
    for term in sorted(terms, key=len, reverse=True):  # "output stride" before "stride"
        here = text
        for phrase in PHRASES.get(term, []):
            here = blank(phrase.replace(" ", r"\s+"), here, re.IGNORECASE)
        form = r"(?<![\w-])" + r"\s+".join(map(re.escape, term.split())) + r"(?:s|es)?(?![\w-])"
        first = re.search(form, here, flags=re.IGNORECASE)
        if first and first.start() < links.get(term, len(text)):
            found[term] = first
        text = blank(form, text, re.IGNORECASE)
    return found


# The rules -----------------------------------------------------------------------------------------------------------


def unlinked(text: str, terms: list[str]) -> list[str]:
    """A term is a link where the text first uses it."""
    shown = prose(text)
    return [
        f"{term}: …{' '.join(shown[max(0, use.start() - 40) : use.end() + 30].split())}…"
        for term, use in sorted(first_uses(text, terms).items(), key=lambda pair: pair[1].start())
    ]


def linked_twice(text: str, terms: list[str]) -> list[str]:
    """Once is enough: a page is no sea of links."""
    targets = linked(prose(text))
    return [f"{term}: {targets.count(term)} links" for term in terms if targets.count(term) > 1]


def unknown(text: str, terms: list[str]) -> list[str]:
    """Every link leads to a term."""
    return [target for target in linked(text) if target not in terms]


def empty_words(text: str, terms: list[str]) -> list[str]:
    """The list at the end of a chapter exists and names what the chapter has used."""
    words = WORDS.search(text)
    if words is None:
        return ["no list of the words of this chapter"]
    used = linked(prose(text))
    return [word for word in linked(words.group()) if word not in used] if linked(words.group()) else ["it is empty"]


Rule = Callable[[str, list[str]], list[str]]
RULES: list[Rule] = [unlinked, linked_twice, unknown, empty_words]


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_a_chapter_links_its_terms(path: Path, rule: Rule) -> None:
    assert rule(markdown(nbformat.read(path, as_version=4)), glossary_terms(GLOSSARY)) == []


def test_every_term_is_used_by_a_chapter() -> None:
    used = {target for path in CHAPTERS for target in linked(prose(markdown(nbformat.read(path, as_version=4))))}
    assert [term for term in glossary_terms(GLOSSARY) if term not in used] == []


def test_the_glossary_is_in_order_and_names_nothing_twice() -> None:
    (body,) = re.findall(r"^:::\{glossary\}\n(.*?)^:::", GLOSSARY, flags=re.DOTALL | re.MULTILINE)
    first = [entry.split("\n")[0].lower().replace("-", " ") for entry in re.split(r"\n\n", body.strip())]
    assert first == sorted(first)
    assert len(set(glossary_terms(GLOSSARY))) == len(glossary_terms(GLOSSARY))
    assert set(PHRASES) <= set(glossary_terms(GLOSSARY))


# The rules on a chapter broken in one way ----------------------------------------------------------------------------

TERMS = ["gate", "map", "output stride", "row", "shard", "stride"]
GOOD = """
# A map

```{admonition} You will be able to
- **draw** a map
```

| a gate | helps |
|---|---|

## The map

A {term}`map` has places. `map` is a name, $map$ an equation, [a map](map.html) a link. Each {term}`row`, each
{term}`output stride <output stride>` and each {term}`gates <gate>` is linked once; later a gate and maps are not.

```{admonition} A title with a stride
:class: danger
Rows and columns are everyday words. We say {doc}`stride`, {cite:p}`stride` and h-stride.
```

```{math}
:label: eq-map
stride
```

```text
stride
```

$$
stride
$$ (eq-stride)

* (a) A stride.

**Words of this chapter**: {term}`map`, {term}`gate`,
{term}`row`.

**Next**: maps.
"""

BROKEN: dict[str, tuple[Rule, Callable[[str], str]]] = {
    "a term without a link": (unlinked, lambda text: text.replace("{term}`map` has", "map has")),
    "a plural without a link": (unlinked, lambda text: text.replace("{term}`map` has", "set of maps has")),
    "a capital without a link": (unlinked, lambda text: text.replace("A {term}`map` has", "Maps. {term}`map` has")),
    "a link after the first use": (unlinked, lambda text: text.replace("A {term}`map`", "A map is a {term}`map`. It")),
    "a term in a box": (unlinked, lambda text: text.replace("Rows and", "A stride, rows and")),
    "a term in a table": (unlinked, lambda text: text.replace("## The map\n", "## The map\n\n| a stride |\n|---|\n")),
    "a term in an answer": (unlinked, lambda text: text + "\n:::{dropdown} Answer\nThe stride.\n:::\n"),
    "a term after a block of code": (unlinked, lambda text: text.replace("**Words", "A stride.\n\n**Words")),
    "a term in a list": (unlinked, lambda text: text.replace("* (a) A", "* A")),
    "a term over the end of a line": (unlinked, lambda text: text.replace("The map\n", "It\n\nAn output\nstride.\n")),
    "two links": (linked_twice, lambda text: text.replace("later a gate", "later a {term}`gate`")),
    "a link to nothing": (unknown, lambda text: text.replace("{term}`map` has", "{term}`chart`, a {term}`map`, has")),
    "no list of words": (empty_words, lambda text: text.replace("**Words of this chapter**", "**Words**")),
    "a list without words": (empty_words, lambda text: WORDS.sub("**Words of this chapter**: none.", text)),
    "a word the chapter does not use": (empty_words, lambda text: text.replace("{term}`gate`,\n", "{term}`shard`,\n")),
}  # fmt: skip


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_a_good_chapter_passes(rule: Rule) -> None:
    assert rule(GOOD, TERMS) == []


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_chapter_is_caught(name: str) -> None:
    rule, damage = BROKEN[name]
    assert damage(GOOD) != GOOD
    assert rule(damage(GOOD), TERMS) != []


def test_every_rule_is_tested() -> None:
    assert {rule for rule, _ in BROKEN.values()} == set(RULES)


def test_a_place_in_the_prose_is_the_place_in_the_text() -> None:
    text = GOOD.replace("{term}`map` has", "map has")
    use = first_uses(text, TERMS)["map"]
    assert text[use.start() : use.end() + 11] == "map has places"
    assert len(prose(text)) == len(text)


def test_code_cells_are_not_read() -> None:
    notebook = new_notebook(cells=[new_markdown_cell("## A"), new_code_cell("# map"), new_markdown_cell("b")])
    assert markdown(notebook) == "## A\n\nb"


def test_the_terms_of_a_glossary_are_its_lines_at_the_margin() -> None:
    page = "# Glossary\n\n:::{glossary}\nbottleneck\ninverted residual\n  One row.\n\nmap\n  A grid.\n:::\n"
    assert glossary_terms(page) == ["bottleneck", "inverted residual", "map"]
