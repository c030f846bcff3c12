"""What a chapter keeps from its opening to its ending, besides its exercises."""

from __future__ import annotations

import re

from nbformat import NotebookNode

from .reading import (
    FOLDED,
    HIDDEN,
    PICTURES,
    TIMES,
    WORD,
    body,
    code_cells,
    html_outputs,
    plain,
    prose,
    sections,
    tags,
    text_of,
)

NUMBER_WITHIN, CODE_WITHIN = 150, 400  # words of the text
QUESTIONS, SENTENCES = 5, 5
#: Names, years and sizes of images, not quantities: "row 13", "2025", "224×224".
NAMED = re.compile(
    r"\b(?:[Tt]able|[Ss]ection|[Cc]hapter|[Ff]igure|[Rr]ow|[Vv]ersion|Python|issue|request)s? "
    r"\d[\d.]*(?: (?:to|and) \d+)?|\b(?:19|20)\d\d\b|\d+(?:×\d+)+|\d+\.\d+\.\d+|`[^`]*`"
)
SPELLED = "two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|fifteen|twenty|thirty|hundred|thousand|million"
#: "1,332", "0.1", "8 %"; "three points in four", "seven points". A single digit alone measures nothing.
MEASURE = re.compile(
    r"(?<![\w-])(?:\d[\d,.]*\d(?!\w)|\d ?(?:%|(?:per cent|points|times|thousand|million|[kMG]B|m?s|seconds)\b))"
    rf"|\b(?:{SPELLED}) (?:\w+ in (?:{SPELLED})|points)\b",
    flags=re.I,
)


def missing_aims(notebook: NotebookNode) -> list[str]:
    """A chapter opens with three to six things that the reader will be able to do."""
    block = re.search(r"^(`{3,}|:{3,})\{admonition\} You will be able to\n(.*?)^\1", prose(notebook), flags=re.S | re.M)
    if block is None:
        return ["no admonition 'You will be able to'"]
    aims = re.findall(r"^[-*] (.*)", block.group(2), flags=re.M)
    found = [] if 3 <= len(aims) <= 6 else [f"{len(aims)} aims instead of 3 to 6"]
    return found + [f"does not start with a verb in bold: {aim}" for aim in aims if not re.match(r"\*\*[a-z]", aim)]


def missing_prerequisites(notebook: NotebookNode) -> list[str]:
    """A chapter says what to know already, how much it matters and where to learn it, and declares its times."""
    opening = text_of(sections(notebook)[0])
    found = [] if TIMES.search(opening) else ["no line 'Reading: … minutes. All cells together: about … seconds on …'"]
    head = r"^\| you should know \| how much it matters \| [^|\n]+ \|\n\|(?:-+\|){3}\n"
    table = re.search(rf"{head}((?:\|.*\|\n)+)", opening, flags=re.M)
    if table is None:
        return [*found, "no table '| you should know | how much it matters | … |' with a row"]
    poor = [row for row in table.group(1).splitlines() if not re.fullmatch(r"\|( *[^|\s][^|]*\|){3}", row)]
    return found + [f"not three filled columns: {row}" for row in poor]


def paperwork_first(notebook: NotebookNode) -> list[str]:
    """A chapter opens with a picture of its result, its code hidden; prerequisites and answers are folded."""
    text, found = prose(notebook), []
    aims = next((n for n, c in enumerate(notebook.cells) if "} You will be able to" in c.source), len(notebook.cells))
    shown = [
        cell
        for cell in notebook.cells[:aims]
        if cell.cell_type == "code" and any(PICTURES & set(output.get("data", {})) for output in cell.outputs)
    ]
    if not shown:
        found.append("no picture before the aims")
    elif any(not HIDDEN & tags(cell) for _, cell in code_cells(notebook) if notebook.cells.index(cell) < aims):
        found.append("code in sight before the aims")
    folded = "".join(box.group() for box in FOLDED.finditer(text))
    if "| you should know |" not in folded:
        found.append("prerequisites in sight")
    if text.count("**What you see.**") > folded.count("**What you see.**"):
        found.append("an answer in sight")
    return found


def late_number(notebook: NotebookNode) -> list[str]:
    """The first section has the problem in numbers, within 150 words."""
    parts = re.split(r"^## ", text_of(body(notebook)), flags=re.M)
    text = NAMED.sub(" ", plain("\n".join(parts[:2])))
    first = MEASURE.search(text)
    if first is None:
        return ["no number in the first section"]
    before = len(WORD.findall(text[: first.start()]))
    return [] if before < NUMBER_WITHIN else [f"{before} words before the first number, {first.group()}"]


def late_code(notebook: NotebookNode) -> list[str]:
    """Real code within 400 words; code that is folded away does not count."""
    cells = body(notebook)
    shown = [place for place, cell in enumerate(cells) if cell.cell_type == "code" and not HIDDEN & tags(cell)]
    if not shown:
        return ["no code after the line of times"]
    before = len(WORD.findall(plain(text_of(cells[: shown[0]]))))
    return [] if before <= CODE_WITHIN else [f"{before} words before the first code"]


def unasked_controls(notebook: NotebookNode) -> list[str]:
    """The reader moves something: a prediction is asked for before, and what is to see is said after."""
    controls = {place for place, page in html_outputs(notebook) if page.select(".mnv3-widget")}
    steps = r"^[`:]{3,}\{admonition\} (Predict first)$|^\*\*What you see\.\*\* "
    order = []
    for place, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown":
            order += ["prediction" if asks else "remark" for asks in re.findall(steps, cell.source, flags=re.M)]
        elif place in controls:
            order.append("control")
    initials = "".join(step[0] for step in order)
    return [] if re.fullmatch(r"[cr]*(pc+r[cr]*)+", initials) else [f"the order is {order}"]


def poor_recall(notebook: NotebookNode) -> list[str]:
    """Five questions or more, each with a folded answer that says a word on every wrong option."""
    recall = next((text_of(cells) for cells in sections(notebook)[1:] if cells[0].source.startswith("## Recall\n")), "")
    questions = re.split(r"^(?=\*\*\d+\.\*\* )", recall, flags=re.M)[1:]
    found = [] if len(questions) >= QUESTIONS else [f"{len(questions)} questions of recall; a chapter has {QUESTIONS}"]
    for number, question in enumerate(questions, start=1):
        asked, _, answer = question.partition(":::{dropdown} ")
        answer = answer.partition("\n:::")[0]
        options = set(re.findall(r"^\* \((\w)\) \S", asked, flags=re.M))
        right = set(re.findall(r"\*\*\((\w)\)\*\*", answer))
        hints = set(re.findall(r"(?<!\*)\*\((\w)\)\*(?!\*)[^*]*[^\W\d_]", answer))
        wrong = {
            "fewer than two options": len(options) < 2,
            "no dropdown with one of them in bold": len(right) != 1 or not right <= options,
            f"no word on {sorted(options - right - hints)}": options - right - hints != set(),
        }
        found += [f"question {number}: {fault}" for fault, holds in wrong.items() if holds]
    return found


def poor_ending(notebook: NotebookNode) -> list[str]:
    """A chapter closes with a summary in five sentences, its words, what to read on, and what comes next."""
    marks = r"(.+?)\*\*Words of this chapter\*\*(.+?)\*\*Read on\*\*(.+?)\*\*Next\*\*(.+)"
    parts = re.fullmatch(rf"## Summary\n{marks}", text_of(sections(notebook)[-1]), flags=re.S)
    if parts is None:
        return ["the last section is not Summary, **Words of this chapter**, **Read on**, **Next**"]
    summary, terms, works, following = parts.groups()
    sentences = len(re.findall(r"[.!?](?=\s|$)", plain(summary)))
    wrong = {
        f"a summary of {sentences} sentences": not 1 <= sentences <= SENTENCES,
        "no {term} among the words of the chapter": "{term}`" not in terms,
        "nothing cited to read on": "{cite" not in works,
        "nothing comes next": not WORD.search(following),
    }
    return [fault for fault, holds in wrong.items() if holds]


def unnumbered_figures(notebook: NotebookNode) -> list[str]:
    """A figure whose code is folded away has a caption and a name, by which the prose refers to it."""
    drawings = {
        place
        for place, page in html_outputs(notebook)
        if any(not drawing.find_parent(class_="mnv3-widget") for drawing in page.find_all(["svg", "img"]))
    }
    text, found = prose(notebook), []
    for place, cell in code_cells(notebook):
        picture = any(kind.startswith("image/") for o in cell.outputs for kind in o.get("data", {}))
        if not {"hide-input", "remove-input"} & tags(cell) or not (picture or place in drawings):
            continue
        figure = cell.metadata.get("mystnb", {}).get("figure", {})
        name = figure.get("name", "")
        wrong = {
            "no caption": not figure.get("caption", "").strip(),
            "no name": not name,
            f"no reference to {name}": f"<{name}>`" not in text,
        }
        found += [f"cell {place}: {fault}" for fault, holds in wrong.items() if holds]
    return found
