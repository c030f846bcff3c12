"""Every number in the prose is declared: printed by a checked cell of that notebook, or held by the fact data.

Looked at are numerals of three or more digits, numbers with a decimal point, percentages and numbers with a unit, in
Markdown cells, captions and pages. Numbers that the prose works out by hand are printed by a cell tagged
``remove-cell`` at the end of the chapter, so that nbval checks them with the rest.
"""

from __future__ import annotations

import re
from decimal import Decimal
from importlib.resources import files

from nbformat import NotebookNode

NUMBER = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?(?:e[-−]?\d+)?"
UNIT = (
    r"(?:\s|\u202f|-)?(?:%|per cent|million|thousand|[MGk]B\b|M\b|ms\b|seconds?|minutes?|points?\b|times\b|pixels|px\b|"
    r"channels|parameters|multiply-adds|rows)"
)
#: Names, not quantities: "Table 9", "Section 6.2", "version 5", "Python 3.11", "chapter 05".
LABEL = r"(?:Table|Tables|Section|Sections|Figure|Fig\.|Part|[Vv]ersion|Python|[Cc]hapter|Equation|issue|request)\s*"


def value(text: str) -> Decimal:
    """A numeral as a number, so that 1.00 is 1 and 2,542,856 is 2542856."""
    return Decimal(text.replace(",", "").replace("−", "-")).normalize()


def numbers(text: str) -> set[Decimal]:
    """All numbers of a text; its digits may be grouped by commas or narrow spaces."""
    return {value(found) for found in re.findall(NUMBER, text.replace("\u202f", ""))}


def plain(markdown: str) -> str:
    """Markdown without code, directives' first lines, roles' names, addresses and labels."""
    text = re.sub(r"```\{code-cell\}.*?```", " ", markdown, flags=re.DOTALL)
    text = re.sub(r"^(?:```|:::)+.*$|^:[\w-]+:.*$", " ", text, flags=re.MULTILINE)
    text = re.sub(r"\{[\w:]+\}`[^`]*`|`[^`]*`", " ", text)
    text = re.sub(r"\]\([^)]*\)|https?://\S+|<[^>]*>", " ", text)
    return re.sub(LABEL + r"\d+(?:\.\d+)*(?:(?:,| and| to)\s\d+(?:\.\d+)*)*", " ", text)


#: What stands behind a number that is a count rounded, and the power of ten that it stands for.
SCALES = {"thousand": 3, "million": 6, "M": 6, "MB": 6, "billion": 9, "G": 9, "GB": 9}


def is_rounded(text: str, after: str, counts: set[int]) -> bool:
    """Whether a number and the unit after it are one of the counts, rounded: 216.6 million is 216,589,760."""
    unit = re.match(r"[\s\u202f-]*([A-Za-z]+)", after)
    if unit is None or unit[1] not in SCALES:
        return False
    said = Decimal(text.replace(",", ""))
    return any(Decimal(count).scaleb(-SCALES[unit[1]]).quantize(said) == said for count in counts)


def claims(markdown: str, counts: set[int] | None = None) -> list[tuple[Decimal, str]]:
    """The numbers that need a source, each with the words around it; not those that are one of the counts, rounded."""
    text = plain(markdown)
    found = []
    for match in re.finditer(rf"(?<![\w.])({NUMBER})({UNIT})?", text):
        number = match[1]
        if is_rounded(number, text[match.end(1) :], counts or set()):
            continue
        if match[2] or "." in number or "," in number or len(number) >= 3:
            around = text[max(0, match.start() - 30) : match.end() + 20].replace("\n", " ")
            found.append((value(number), around))
    return found


def output_text(notebook: NotebookNode) -> str:
    """What checked cells print and show."""
    parts = []
    for cell in notebook.cells:
        if cell.cell_type != "code" or "nbval-ignore-output" in cell.metadata.get("tags", []):
            continue
        for output in cell.outputs:
            data = output.get("data", {})
            parts += [output.get("text", ""), data.get("text/plain", "")]
            # Of a drawing only its words count: coordinates are not claims.
            for kind in ("text/html", "image/svg+xml"):
                said = re.findall(r'(?:\b(?:aria-label|alt)="([^"]*)"|>([^<]+)<)', data.get(kind, ""))
                parts.append(" ".join(label or text for label, text in said))
    return "\n".join(parts)


def prose(notebook: NotebookNode) -> str:
    """Markdown cells and captions."""
    parts = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
        else:
            parts.append(cell.metadata.get("mystnb", {}).get("figure", {}).get("caption", ""))
    return "\n\n".join(parts)


def fact_numbers() -> set[Decimal]:
    return numbers(files("mnv3lib").joinpath("facts.yaml").read_text(encoding="utf-8"))


#: Reading and run times stand in one line at the head of a chapter; the tests print what they measured.
TIMES = re.compile(r"^Reading: \d+ minutes\. All cells together: about \d+ seconds.*$", re.MULTILINE)


def undeclared(notebook: NotebookNode) -> list[str]:
    """Numbers of the prose that no checked cell prints and no fact holds."""
    printed = numbers(output_text(notebook))
    known, counts = printed | fact_numbers(), {int(number) for number in printed if number == int(number) >= 1000}
    return [around for number, around in claims(TIMES.sub("", prose(notebook)), counts) if number not in known]
