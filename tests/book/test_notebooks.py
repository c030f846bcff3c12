"""The notebooks as files: they run as committed, and keep the form that CONTRIBUTING.md describes.

A chapter is a notebook whose name starts with its number; what only chapters need is not asked of the other pages, and
what only one page has is asked of it alone. Each rule is a function that returns what is wrong, and each is itself
tested on a small notebook broken in that way.
"""

from __future__ import annotations

import ast
import html
import json
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup
from conftest import ROOT
from IPython.core.inputtransformer2 import TransformerManager
from ledger import Deviation
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from scripts import load_script

BOOK = ROOT / "book"
NOTEBOOKS = sorted(BOOK.glob("*.ipynb"))
CHAPTER = re.compile(r"(?!00)\d\d_\w+")
MEDIAN_LINES, MOST_LINES, COLUMNS = 8, 30, 79
BELIEFS, REFUTING_LINES = 15, 12
NUMBER_WITHIN, CODE_WITHIN = 150, 400  # words of the text
QUESTIONS, SENTENCES = 5, 5
ALT_LENGTH = 30
IGNORED_SHARE = 0.15
SIGNIFICANT = 3  # digits of a float that is compared
SECONDS = 60  # for the cells of a notebook, on a machine that does nothing else
TRAINING_SECONDS = 180  # for those of a chapter that trains
TRAINING = ("11_training_recipe", "12_transfer_learning", "13_scaling_out")
LONGER = 3  # times what a chapter declares, at the most
HIDDEN = {"hide-input", "hide-cell", "remove-input", "remove-cell"}
VIEW = "application/vnd.jupyter.widget-view+json"
WORD = re.compile(r"[^\W\d_][\w’'-]*")
#: The line of times at the head of a chapter; what follows a comma says where the seconds go.
TIMES = re.compile(
    r"^Reading: (\d+) minutes\. All cells together: about (\d+) seconds on (?:one CPU core|two CPU cores)(?:, .+)?\.$",
    flags=re.M,
)
#: "12.5", "1,399.7", "2e-05"; not "2.15.0", which is a version.
FLOAT = re.compile(r"(?<![\w.,])\d[\d,]*(?:\.\d+(?:e[-+]?\d+)?|e[-+]?\d+)(?![\w]|\.\d)", flags=re.I)
#: What says where something was found.
SOURCE = r"\]\(\S+\)|\{cite|\b(?:Table|Section) \d"
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


tool = load_script(ROOT / "tools" / "notebooks.py")
validate = load_script(ROOT / "tools" / "validation.py").validate


# Reading -------------------------------------------------------------------------------------------------------------


#: What a cell shows that is a picture or a control; the tags that hide its code; a box that is closed at first.
PICTURES = {"image/svg+xml", "image/png", "image/jpeg", "text/html"}
HIDDEN = {"hide-input", "hide-cell", "remove-input", "remove-cell"}
FOLDED = re.compile(r"^(:{3,}|`{3,})\{dropdown\}.*?^\1$", flags=re.DOTALL | re.MULTILINE)


def code_cells(notebook: NotebookNode) -> list[tuple[int, NotebookNode]]:
    """Return the code cells with their places."""
    return [(place, cell) for place, cell in enumerate(notebook.cells) if cell.cell_type == "code"]


def tags(cell: NotebookNode) -> set[str]:
    """Return a cell's tags."""
    return set(cell.metadata.get("tags", []))


def text_of(cells: list[NotebookNode]) -> str:
    """Return the Markdown of some cells."""
    return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


def prose(notebook: NotebookNode) -> str:
    """Return all Markdown, one cell after the other."""
    return text_of(notebook.cells)


def plain(text: str) -> str:
    """Return Markdown without directives, equations and addresses."""
    text = re.sub(r"\$\$[^$]*\$\$|\$[^$\n]*\$", " ", text)
    text = re.sub(r"^[`:]{3,}.*$|^:[\w-]+:.*$", " ", text, flags=re.M)
    return re.sub(r"\]\([^)]*\)|\{[\w:]+\}`[^`]*`", " ", text)


def words(notebook: NotebookNode) -> int:
    """Count the words of the prose."""
    return len(WORD.findall(plain(prose(notebook))))


def sections(notebook: NotebookNode) -> list[list[NotebookNode]]:
    """Return what stands before the first heading of the second order, then what stands under each."""
    found: list[list[NotebookNode]] = [[]]
    for cell in notebook.cells:
        if cell.cell_type == "code":
            found[-1].append(cell)
            continue
        for part in re.split(r"^(?=## )", cell.source, flags=re.M):
            if part.startswith("## "):
                found.append([])
            found[-1].append(new_markdown_cell(part))
    return found


def body(notebook: NotebookNode) -> list[NotebookNode]:
    """Return what follows the line of times; nothing where there is none."""
    for place, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown" and (line := TIMES.search(cell.source)):
            return [new_markdown_cell(cell.source[line.end() :]), *notebook.cells[place + 1 :]]
    return []


def output_texts(cell: NotebookNode) -> Iterator[str]:
    """Return the texts of a cell's outputs, without pictures."""
    for output in cell.outputs:
        if output.output_type == "stream":
            yield output.text
        for kind, data in output.get("data", {}).items():
            if not kind.startswith("image/"):
                yield data if isinstance(data, str) else json.dumps(data)


def asserts(cell: NotebookNode) -> bool:
    """Whether a code cell holds an assert statement; a word in a comment is none."""
    try:
        tree = ast.parse(re.sub(r"^(\s*)[%!].*$", r"\1pass", cell.source, flags=re.M))
    except SyntaxError:
        return False
    return any(isinstance(node, ast.Assert) for node in ast.walk(tree))


def html_outputs(notebook: NotebookNode) -> Iterator[tuple[int, BeautifulSoup]]:
    """Return the HTML and SVG outputs with the places of their cells."""
    for place, cell in code_cells(notebook):
        for output in cell.outputs:
            for kind in ("text/html", "image/svg+xml"):
                if kind in output.get("data", {}):
                    yield place, BeautifulSoup(output.data[kind], "html.parser")


# The rules -----------------------------------------------------------------------------------------------------------


def not_executed_in_order(notebook: NotebookNode) -> list[str]:
    """Un-run cells pass nbval with nothing compared."""
    counts = [cell.execution_count for _, cell in code_cells(notebook)]
    return [] if counts == list(range(1, len(counts) + 1)) else [f"cells ran in the order {counts}"]


def errors(notebook: NotebookNode) -> list[str]:
    """No cell raises, unless it says so, and none writes to stderr."""
    return list(tool.faults(notebook))


def absolute_paths(notebook: NotebookNode) -> list[str]:
    """What a reader sees must not depend on where the author works."""
    own = [str(ROOT), str(Path.home()), tempfile.gettempdir(), sys.prefix]
    pattern = "|".join(rf"{re.escape(path)}(?![\w-])" for path in own if len(path) > 1)
    pattern += r"|(?<![\w.:/<-])/(?:home|root|Users|tmp|opt|mnt|var|usr|private)/\w|\b[A-Z]:\\\w"
    return [
        f"cell {place}: {match.group()}"
        for place, cell in enumerate(notebook.cells)
        for text in [cell.source, *(output_texts(cell) if cell.cell_type == "code" else ())]
        for match in re.finditer(pattern, text)
    ]


def pictures_without_words(notebook: NotebookNode) -> list[str]:
    """Every picture says in words what there is to see."""
    found = []
    for place, cell in code_cells(notebook):
        alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
        # An SVG has its words itself; the PNG beside it has them in its metadata.
        bundles = [o.get("data", {}) for o in cell.outputs]
        bare = any(
            "image/svg+xml" not in bundle and any(kind.startswith("image/") for kind in bundle) for bundle in bundles
        )
        if bare and len(alt) < ALT_LENGTH:
            found.append(f"cell {place}: metadata mystnb.image.alt is {alt!r}")
    for place, page in html_outputs(notebook):
        if "remove-output" in tags(notebook.cells[place]):
            continue
        for drawing in page.find_all("svg"):
            title = drawing.find("title")
            alt = str(drawing.get("aria-label") or (title.get_text() if title else ""))
            if drawing.get("aria-hidden") != "true" and (drawing.get("role") != "img" or len(alt) < ALT_LENGTH):
                found.append(f"cell {place}: svg with role {drawing.get('role')!r} and words {alt!r}")
        found += [f"cell {place}: {i}" for i in page.find_all("img") if len(str(i.get("alt", ""))) < ALT_LENGTH]
    text = prose(notebook)
    found += [f"image without alt text: {m}" for m in re.findall(r"!\[\s*\]\([^)]*\)", text)]
    found += [f"image without alt text: {m}" for m in re.findall(r"<img(?![^>]*\balt=[\"'][^\"']{5,})[^>]*>", text)]
    for block in re.findall(r"^[`:]{3,}\{(?:image|figure)\}.*?^[`:]{3,}", text, flags=re.S | re.M):
        if not re.search(r"^:alt: \S.{4,}", block, flags=re.M):
            found.append(f"image without alt text: {block.splitlines()[0]}")
    return found


def unseen_before_a_run(notebook: NotebookNode) -> list[str]:
    """Where HTML is sanitised and SVG not trusted a drawing is seen as PNG, with its words."""
    found = []
    for place, cell in code_cells(notebook):
        for output in cell.outputs:
            data = output.get("data", {})
            if "<svg" in re.sub(r"data-state='[^']*'", "", data.get("text/html", "")):
                found.append(f"cell {place}: SVG in HTML falls to pieces where HTML is sanitised")
            if "image/svg+xml" in data and "image/png" not in data:
                found.append(f"cell {place}: an SVG without a PNG")
            if "image/svg+xml" in data and len(output.metadata.get("image/png", {}).get("alt", "")) < ALT_LENGTH:
                found.append(f"cell {place}: a PNG without words")
    return found


def long_cells(notebook: NotebookNode) -> list[str]:
    """One idea in each cell, readable on a phone."""
    found = []
    for place, cell in code_cells(notebook):
        lines = cell.source.split("\n")
        if len(lines) > MOST_LINES:
            found.append(f"cell {place} has {len(lines)} lines")
        found += [f"cell {place}: {len(line)} columns: {line}" for line in lines if len(line) > COLUMNS]
    visible = [cell.source.split("\n") for _, cell in code_cells(notebook) if not HIDDEN & tags(cell)]
    shown = [sum(bool(line.strip()) for line in lines) for lines in visible]
    if shown and statistics.median(shown) > MEDIAN_LINES:
        found.append(f"the median cell has {statistics.median(shown)} lines")
    return found


def unsolved_exercises(notebook: NotebookNode) -> list[str]:
    """Every exercise has a collapsed solution with at least one executed cell; four make a ladder."""
    text = prose(notebook)
    asked = re.findall(r"\{exercise(?:-start)?\}[^\n]*\n(?::[^\n]*\n)*?:label: (\S+)", text)
    found = [] if len(asked) >= 4 else [f"{len(asked)} exercises; a chapter has four or more"]
    if len(asked) != len(re.findall(r"\{exercise(?:-start)?\}", text)):
        found.append("an exercise has no :label:")
    solved: dict[str, int] = {}
    inside: str | None = None
    for cell in notebook.cells:
        if cell.cell_type == "code":
            if inside is not None and cell.execution_count:
                solved[inside] += 1
            continue
        for start, label, options in re.findall(r"\{solution(-start|-end)\}[ ]?(\S*)\n?((?::[^\n]*\n?)*)", cell.source):
            inside = label if start == "-start" else None
            if inside is not None:
                solved[inside] = 0
                if "dropdown" not in options:
                    found.append(f"the solution of {label} is not collapsed: give it `:class: dropdown`")
    found += [f"exercise {label} has no executed solution" for label in asked if not solved.get(label)]
    found += [f"a solution of {label}, which is no exercise" for label in solved if label not in asked]
    return found


def unchecked_exercises(notebook: NotebookNode) -> list[str]:
    """Two or more exercises check themselves: the empty stub fails its check, the solution passes the same one."""
    found, verdicts = [], {"stub": 0, "solution": 0}
    inside = False
    for place, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown":
            for edge in re.findall(r"\{solution-(start|end)\}", cell.source):
                inside = edge == "start"
        elif re.search(r"(?<!import )\bcheck\(", cell.source):
            kind, word = ("solution", "Correct: ") if inside else ("stub", "Not yet: ")
            said = "".join(output.get("text", "") for output in cell.outputs)
            verdicts[kind] += 1
            if word not in said:
                found.append(f"cell {place}: the check of the {kind} does not say {word!r}")
            if inside and "assert check(" not in cell.source:
                found.append(f"cell {place}: a solution asserts its check")
    if not verdicts["stub"] == verdicts["solution"] >= 2:
        found.append(f"{verdicts}: two or more stubs, each with a solution")
    return found


def stub_names(cell: NotebookNode) -> set[str]:
    """Return the functions that a self-checking exercise leaves to the reader."""
    if not re.search(r"(?<!import )\bcheck\(", cell.source):
        return set()
    empty = (ast.Expr, ast.Constant)
    return {
        node.name
        for node in ast.parse(cell.source).body
        if isinstance(node, ast.FunctionDef)
        and any(isinstance(line, empty[0]) and getattr(line.value, "value", None) is ... for line in node.body)
    }


def bound_names(cell: NotebookNode) -> set[str]:
    """Return the names that a cell gives a value."""
    tree = ast.parse(TransformerManager().transform_cell(cell.source))
    defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    stored = {
        name.id
        for line in tree.body
        if not isinstance(line, ast.FunctionDef | ast.ClassDef)
        for name in ast.walk(line)
        if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store)
    }
    return defined | stored


def overwritten_answers(notebook: NotebookNode) -> list[str]:
    """What the reader writes survives *Run All*: no later cell gives a stub's name another value."""
    found, asked = [], {}
    for place, cell in code_cells(notebook):
        found += [f"cell {place} overwrites {name} of cell {asked[name]}" for name in bound_names(cell) & set(asked)]
        asked.update(dict.fromkeys(stub_names(cell), place))
    return found if asked else ["no self-checking exercise has a stub"]


def open_solutions(notebook: NotebookNode) -> list[str]:
    """Solutions are folded in JupyterLab and on Colab, texts and outputs too, and nothing else is."""
    found, inside = [], False
    for place, cell in enumerate(notebook.cells):
        edges = re.findall(r"\{solution-(start|end)\}", cell.source) if cell.cell_type == "markdown" else []
        solves = inside or "start" in edges
        inside = edges[-1] == "start" if edges else inside
        hidden = cell.metadata.get("jupyter", {})
        if bool(hidden.get("source_hidden")) != solves:
            found.append(f"cell {place} is {'open' if solves else 'folded'} in JupyterLab")
        if cell.cell_type == "code" and (bool(hidden.get("outputs_hidden")), cell.metadata.get("cellView")) != (
            (True, "form") if solves else (False, None)
        ):
            found.append(f"cell {place} is {'open' if solves else 'folded'} on Colab, or its outputs are")
        if solves and re.search(r"\{exercise|^## |\{solution-end\}\n```\n+\S", cell.source, flags=re.M):
            found.append(f"cell {place} holds more than a solution")
    return found


def ignored_outputs(notebook: NotebookNode) -> list[str]:
    """Few cells escape nbval, and those by a tag that readers do not see."""
    cells = code_cells(notebook)
    ignored = [place for place, cell in cells if "nbval-ignore-output" in tags(cell)]
    found = [f"cell {place}: use tags, not comments" for place, cell in cells if re.search(r"#\s*NBVAL", cell.source)]
    found += [f"cell {place} is skipped by nbval" for place, cell in cells if "nbval-skip" in tags(cell)]
    if len(ignored) > IGNORED_SHARE * len(cells):
        found.append(f"the outputs of {len(ignored)} of {len(cells)} cells are ignored: {ignored}")
    return found


def missing_aims(notebook: NotebookNode) -> list[str]:
    """A chapter opens with three to six things that the reader will be able to do."""
    block = re.search(r"^(`{3,}|:{3,})\{admonition\} You will be able to\n(.*?)^\1", prose(notebook), flags=re.S | re.M)
    if block is None:
        return ["no admonition 'You will be able to'"]
    aims = re.findall(r"^[-*] (.*)", block.group(2), flags=re.M)
    found = [] if 3 <= len(aims) <= 6 else [f"{len(aims)} aims instead of 3 to 6"]
    return found + [f"does not start with a verb in bold: {aim}" for aim in aims if not re.match(r"\*\*[a-z]", aim)]


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


def poor_citations(notebook: NotebookNode) -> list[str]:
    """A chapter cites three or more works, all in the bibliography."""
    keys = re.findall(r"^@\w+\{([^,\s]+)", (BOOK / "references.bib").read_text(encoding="utf-8"), flags=re.M)
    roles = re.findall(r"\{cite(?::\w+)?\}`([^`]+)`", prose(notebook))
    cited = {key.strip() for role in roles for key in role.split(",")}
    found = [f"{key} is not in references.bib" for key in sorted(cited - set(keys))]
    return found if len(cited) >= 3 else [*found, f"cites only {sorted(cited)}"]


def not_tidy(notebook: NotebookNode) -> list[str]:
    """Notebooks are stored in one form (tools/notebooks.py)."""
    before = tool.dump(notebook)
    after = tool.dump(tool.tidy(nbformat.reads(before, as_version=4)))
    return [] if before == after else ["not in the stored form: run `python tools/notebooks.py --tidy`"]


def broken_widgets(notebook: NotebookNode) -> list[str]:
    """Widgets carry their state in their HTML, not in models that need a kernel."""
    found = ["metadata.widgets is stored"] if "widgets" in notebook.metadata else []
    for place, cell in code_cells(notebook):
        if any(VIEW in output.get("data", {}) for output in cell.outputs):
            found.append(f"cell {place} stores the view of a live widget")
    for place, page in html_outputs(notebook):
        for widget in page.select(".mnv3-widget"):
            try:
                state = json.loads(str(widget.get("data-state", "")))
            except json.JSONDecodeError as error:
                found.append(f"cell {place}: data-state is not JSON: {error}")
                continue
            fallback = widget.find("table") or widget.find("img", alt=True)
            if not isinstance(state, dict) or not widget.get("data-widget") or not fallback:
                found.append(f"cell {place}: a widget needs data-widget, a state and a table or figure for all others")
    return found


def silenced_by_semicolon(notebook: NotebookNode) -> list[str]:
    """A trailing semicolon silences a front end, but not nbval: write `_ = …`."""
    return [f"cell {place} ends in `;`" for place, cell in code_cells(notebook) if cell.source.rstrip().endswith(";")]


def without_parity(notebook: NotebookNode) -> list[str]:
    """Three or more cells assert something; a claim that nothing checks is an opinion."""
    number = sum(asserts(cell) for _, cell in code_cells(notebook))
    return [] if number >= 3 else [f"{number} cells with an assert; a notebook has three or more"]


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


def beliefs(cell: NotebookNode) -> list[str]:
    """Return the boxes *Widely believed* of a Markdown cell, and what stands under a quotation as heading."""
    box = r"^(`{3,}|:{3,})\{admonition\} Widely believed\n(?::[^\n]*\n)*(.*?)^\1"
    under = r'^#{2,} "[^\n]+"\n.*?(?=^#|\Z)'
    boxes = [said for _, said in re.findall(box, cell.source, flags=re.M | re.S)]
    return boxes + re.findall(under, cell.source, flags=re.M | re.S)


def nothing_refuted(notebook: NotebookNode) -> list[str]:
    """One belief or more: quoted, with the source where it is found, and refuted by a later cell of its section."""
    found = []
    for cells in sections(notebook):
        for place, cell in enumerate(cells):
            for belief in beliefs(cell) if cell.cell_type == "markdown" else ():
                said, _, where = belief.partition("Found")
                later = [other for other in cells[place:] if other.cell_type == "code"]
                wrong = {
                    "no quotation marks": not re.search(r'".+"', said, flags=re.S),
                    "no source where it is found": not re.search(SOURCE, where),
                    "no cell with an assert after it": not any(asserts(other) for other in later),
                }
                faults = [fault for fault, holds in wrong.items() if holds]
                if not faults:
                    return []
                found.append(f"{' '.join(belief.split())[:60]}…: {', '.join(faults)}")
    return found or ["no box 'Widely believed', and no belief as a heading"]


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
            f"no {{numref}} to {name}": not re.search(rf"\{{numref\}}`(?:[^`<]*<)?{re.escape(name)}>?`", text),
        }
        found += [f"cell {place}: {fault}" for fault, holds in wrong.items() if holds]
    return found


def paragraph(name: str, text: str) -> str:
    """Return the paragraph that starts with this name in bold; nothing if there is none."""
    match = re.search(rf"^\*\*{name}:\*\* (.+?)(?:\n\n|\Z)", text, flags=re.M | re.S)
    return match[1] if match else ""


def unrefuted_beliefs(notebook: NotebookNode) -> list[str]:
    """Fifteen or more beliefs: where each is found, a short cell that asserted the contrary, and what is true."""
    sections: list[list[NotebookNode]] = [[]]
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and re.search(r"^## ", cell.source, flags=re.M):
            sections.append([])
        sections[-1].append(cell)
    opening = text_of(sections[0])
    beliefs = [section for section in sections if re.search(r"^(## [\d\"]|\(belief-)", section[0].source, flags=re.M)]
    found = [] if len(beliefs) >= BELIEFS else [f"{len(beliefs)} beliefs; the page has {BELIEFS} or more"]
    for number, section in enumerate(beliefs, start=1):
        cells = [cell for cell in section if cell.cell_type == "code"]
        proof = section.index(cells[0]) if cells else len(section)
        head = re.match(rf'\((belief-[\w-]+)\)=\n## {number}\. ".+"\n', section[0].source)
        where = paragraph("Where it is found", text_of(section[:proof]))
        truth = paragraph("The truth", text_of(section[proof:]))
        lines = [sum(bool(line.strip()) for line in cell.source.split("\n")) for cell in cells]
        wrong = {
            'no label and heading of the form (belief-…)= and ## N. "…"': head is None,
            "not in the table at the top": head is not None and f"(#{head[1]})" not in opening,
            "no source where it is found": not re.search(SOURCE, where),
            "nothing to read after its truth": not re.search(r"\{doc\}|\{cite", truth),
            "no cell with an assert that ran": not any(asserts(cell) and cell.execution_count for cell in cells),
            "prints no number": not any(re.search(r"\d", text) for cell in cells for text in output_texts(cell)),
            f"a cell of more than {REFUTING_LINES} lines": max(lines, default=0) > REFUTING_LINES,
        }
        found += [f"belief {number}: {fault}" for fault, holds in wrong.items() if holds]
    return found


def compared_words(html: str) -> Iterator[str]:
    """Return what of HTML is compared to the letter: words, also those said aloud, not where a drawing's lines go."""
    page = BeautifulSoup(html, "html.parser")
    for widget in page.select("[data-state]"):
        state = json.loads(str(widget["data-state"]))
        frames = state.pop("frames", []) if isinstance(state, dict) else []
        yield json.dumps(state)
        for frame in frames:
            yield from compared_words(frame)
    for part in page.find_all(["style", "script"]):
        part.decompose()
    for part in page.find_all(True):
        yield from (str(value) for name, value in part.attrs.items() if name in ("aria-label", "alt", "title"))
    yield from page.stripped_strings


def long_floats(notebook: NotebookNode) -> list[str]:
    """No compared output depends on a float's last bits: three significant digits, unless the cell itself says more."""
    found = []
    for place, cell in code_cells(notebook):
        if "nbval-ignore-output" in tags(cell):
            continue
        texts = [output.text for output in cell.outputs if output.output_type == "stream"]
        for kind, data in chain.from_iterable(output.get("data", {}).items() for output in cell.outputs):
            if kind in ("text/html", "image/svg+xml"):
                texts += compared_words(data)
            elif kind.startswith("text/"):
                texts.append(data)
        for number in dict.fromkeys(chain.from_iterable(FLOAT.findall(text) for text in texts)):
            digits = re.sub(r"e.*", "", number, flags=re.I).replace(",", "").replace(".", "").lstrip("0")
            if len(digits) > SIGNIFICANT and not re.search(rf"(?<![\d.]){re.escape(number)}(?![\d.])", cell.source):
                found.append(f"cell {place}: {number}")
    return found


Rule = Callable[[NotebookNode], list[str]]
GENERAL: list[Rule] = [
    not_executed_in_order,
    errors,
    absolute_paths,
    pictures_without_words,
    unseen_before_a_run,
    long_cells,
    ignored_outputs,
    poor_citations,
    not_tidy,
    broken_widgets,
    silenced_by_semicolon,
    without_parity,
    long_floats,
]
FOR_CHAPTERS: list[Rule] = [
    unsolved_exercises,
    unchecked_exercises,
    overwritten_answers,
    open_solutions,
    missing_aims,
    missing_prerequisites,
    paperwork_first,
    late_number,
    late_code,
    unasked_controls,
    nothing_refuted,
    poor_recall,
    poor_ending,
    unnumbered_figures,
]
FOR_PAGES: dict[str, list[Rule]] = {
    "00_a_network_at_work": [late_number, unasked_controls, unnumbered_figures],
    "misconceptions": [unrefuted_beliefs],
    "in_the_wild": FOR_CHAPTERS,
}
RULES = list(dict.fromkeys([*GENERAL, *FOR_CHAPTERS, *chain.from_iterable(FOR_PAGES.values())]))


def rules_for(stem: str) -> list[Rule]:
    """Return the rules for the notebook of this name."""
    return [*GENERAL, *(FOR_CHAPTERS if CHAPTER.fullmatch(stem) else FOR_PAGES.get(stem, []))]


@pytest.mark.parametrize(
    ("rule", "path"),
    [
        pytest.param(rule, path, id=f"{rule.__name__}-{path.stem}")
        for path in NOTEBOOKS
        for rule in rules_for(path.stem)
    ],
)
def test_a_notebook_keeps_its_rules(rule: Rule, path: Path) -> None:
    assert rule(nbformat.read(path, as_version=4)) == []


def test_the_rules_go_to_whom_they_concern() -> None:
    assert rules_for("05_configs") == [*GENERAL, *FOR_CHAPTERS]
    assert rules_for("misconceptions") == [*GENERAL, unrefuted_beliefs]
    assert rules_for("another_page") == GENERAL
    assert set(FOR_PAGES) <= {path.stem for path in NOTEBOOKS}, "rules for a page that is not there"


def test_all_notebooks_are_in_the_table_of_contents_and_chapters_in_order() -> None:
    listed = re.findall(r"file: (\S+)", (ROOT / "_toc.yml").read_text(encoding="utf-8"))
    stems = [path.stem for path in NOTEBOOKS]
    chapters = [stem for stem in stems if CHAPTER.fullmatch(stem)]
    assert chapters
    assert [name for name in listed if CHAPTER.fullmatch(name)] == chapters
    assert [stem for stem in stems if stem not in listed] == []


NUMBERED = [path for path in NOTEBOOKS if re.match(r"\d\d_", path.stem)]


@pytest.mark.parametrize("path", NUMBERED, ids=lambda path: path.stem)
def test_a_title_has_the_chapters_number_and_a_word_to_search_for(path: Path) -> None:
    title = next(line for line in prose(nbformat.read(path, as_version=4)).split("\n") if line.startswith("# "))
    assert re.fullmatch(rf"# {int(path.stem[:2])} · [^:]+: \S.+", title)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_file_is_what_the_tool_writes(path: Path) -> None:
    assert tool.is_tidy(path)


# The rules on a notebook broken in one way ---------------------------------------------------------------------------


def good() -> NotebookNode:
    """Return a small notebook that keeps every rule."""
    ladder = [
        (
            f"```{{exercise}}\n:label: ex-{step}\n```\n\n```{{solution-start}} ex-{step}\n:class: dropdown\n```",
            "assert 1 + 1 == 2",
            "```{solution-end}\n```",
        )
        for step in ("recall", "compute", "modify", "extend")
    ]
    state = html.escape(json.dumps({"width_mult": 1.0}))
    widget = f'<div class="mnv3-widget" data-widget="explorer" data-state="{state}"><table></table></div>'
    words = "A line that rises from the left to the right."
    drawn = {"image/svg+xml": f'<svg role="img" aria-label="{words}"></svg>', "image/png": "AAAA", "text/plain": words}
    figure = {"figure": {"caption": "A line.\n", "name": "fig-line"}}
    answer = ":::{dropdown} Answer\n**(b)** A sum. *(a)*: one is too few. *(c)*: that is a product.\n:::"
    questions = [f"**{n}.** How many?\n\n* (a) 1\n* (b) 2\n* (c) 4\n\n{answer}" for n in range(1, QUESTIONS + 1)]
    opening = {"figure": {"caption": "A point.\n", "name": "fig-opening"}}
    cells = [
        new_markdown_cell("# A chapter\n\nA sum in 2 parts."),
        new_code_cell(
            "draw()",
            metadata={"tags": ["hide-input"], "mystnb": opening},
            outputs=[new_output("execute_result", drawn, metadata={"image/png": {"alt": words}}, execution_count=1)],
        ),
        new_markdown_cell(
            "See {numref}`fig-opening`.\n\n"
            "```{admonition} You will be able to\n- **count** layers\n- **draw** them\n- **doubt** it\n```\n\n"
            ":::{dropdown} Before you start\n\n"
            "| you should know | how much it matters | if you do not |\n|---|---|---|\n| sums | needed | below |\n\n"
            "Reading: 5 minutes. All cells together: about 10 seconds on two CPU cores.\n:::\n\n"
            "## Too much work\n\nA row takes 217 million multiply-adds for 224×224 pixels.\n\n"
            "See {cite:p}`howard2019searching,sandler2018mobilenetv2` and {cite:t}`hu2018squeeze`. ![a net](net.svg)"
        ),
        new_code_cell("print('one')", outputs=[new_output("stream", name="stdout", text="one\n")]),
        new_code_cell(
            "plot()",
            metadata={"mystnb": {"image": {"alt": "A curve that rises faster and faster to the right."}}},
            outputs=[new_output("display_data", {"image/png": "AAAA", "text/plain": "<Figure>"})],
        ),
        new_markdown_cell("```{admonition} Predict first\nWhich?\n```"),
        new_code_cell("Explorer()", outputs=[new_output("execute_result", {"text/html": widget}, execution_count=4)]),
        new_markdown_cell(":::{dropdown} Answer\n**What you see.** The line of {numref}`fig-line`.\n:::"),
        new_code_cell(
            "draw()",
            metadata={"tags": ["hide-input"], "mystnb": figure},
            outputs=[new_output("execute_result", drawn, metadata={"image/png": {"alt": words}}, execution_count=5)],
        ),
        new_markdown_cell(
            '```{admonition} Widely believed\n:class: danger\n*"The sum is three."* Found in: [a post](https://a.org/b).\n```'
        ),
        new_code_cell("assert 1 + 1 == 2"),
        new_markdown_cell("## Exercises"),
    ]
    for before, code, after in ladder:
        cells += [new_markdown_cell(before), new_code_cell(code), new_markdown_cell(after)]
    for step in ("compute", "modify"):
        stub = new_code_cell(
            f"def f_{step}(x):\n    ...\n\n\n_ = check(f_{step}, cases)",
            outputs=[new_output("stream", text="Not yet: f() is empty.\n")],
        )
        passed = new_code_cell(
            f"def solved_{step}(x):\n    return x\n\n\nassert check(solved_{step}, cases)",
            outputs=[new_output("stream", text="Correct: 1 of 1 cases.\n")],
        )
        place = next(i for i, cell in enumerate(cells) if f"ex-{step}" in cell.source)
        question, start = cells[place].source.split("\n\n", 1)
        cells[place : place + 1] = [new_markdown_cell(question), stub, new_markdown_cell(start), passed]
    cells.append(
        new_markdown_cell(
            "\n\n".join(["## Recall", *questions]) + "\n\n## Summary\n\nA sum is two. It costs 0.5 seconds.\n\n"
            "**Words of this chapter**: {term}`row`.\n\n"
            "**Read on**: {cite:t}`sandler2018mobilenetv2`. **Next**, another sum."
        )
    )
    notebook = new_notebook(cells=cells)
    for count, (_, cell) in enumerate(code_cells(notebook), start=1):
        cell.execution_count = count
    return tool.tidy(notebook)


def good_page() -> NotebookNode:
    """Return a small page of beliefs that keeps its rule."""
    rows = "".join(f"| [{n}](#belief-{n}) |\n" for n in range(1, BELIEFS + 1))
    cells = [new_markdown_cell(f"# Beliefs\n\n| |\n|---|\n{rows}")]
    for number in range(1, BELIEFS + 1):
        cells += [
            new_markdown_cell(
                f'(belief-{number})=\n## {number}. "There are {number}"\n\n**Where it is found:** [a port](https://a.org/b).'
            ),
            new_code_cell(
                f"assert {number} + 1\nprint({number})",
                outputs=[new_output("stream", name="stdout", text=f"{number}\n")],
                execution_count=number,
            ),
            new_markdown_cell("**The truth:** one more.\nMore in {doc}`05_configs`."),
        ]
    return tool.tidy(new_notebook(cells=[*cells, new_markdown_cell("## And more\n\nElsewhere.")]))


def sample(rule: Rule) -> NotebookNode:
    """Return a notebook that the rule is content with."""
    return good_page() if rule is unrefuted_beliefs else good()


def replace(notebook: NotebookNode, old: str, new: str) -> None:
    """Replace a text wherever it stands in the sources and HTML outputs; it has to stand somewhere."""
    before = json.dumps(notebook)
    for cell in notebook.cells:
        cell.source = cell.source.replace(old, new)
        for output in cell.get("outputs", []):
            for kind in {"text/html", "image/svg+xml"} & set(output.get("data", {})):
                output.data[kind] = output.data[kind].replace(old, new)
    assert json.dumps(notebook) != before


def code(notebook: NotebookNode, number: int) -> NotebookNode:
    """Return the code cell of this number, from 0, not counting the picture that a chapter opens with."""
    return [cell for _, cell in code_cells(notebook) if "fig-opening" not in str(cell.metadata)][number]


def checks(notebook: NotebookNode) -> list[NotebookNode]:
    """Return the cells that check an exercise: stub, solution, stub, solution."""
    return [cell for _, cell in code_cells(notebook) if "check(" in cell.source]


BROKEN: dict[str, tuple[Rule, Callable[[NotebookNode], object]]] = {
    "a cell that did not run": (not_executed_in_order, lambda n: code(n, 1).update(execution_count=None)),
    "a cell run twice": (not_executed_in_order, lambda n: code(n, 1).update(execution_count=9)),
    "a cell that raised": (errors, lambda n: code(n, 0).update(outputs=[new_output("error", ename="E", evalue="")])),
    "a cell that warned": (errors, lambda n: code(n, 0).outputs[0].update(name="stderr")),
    "the author's home in an output": (absolute_paths, lambda n: code(n, 0).outputs[0].update(text="/home/me/x.py\n")),
    "the repository's place in a cell": (absolute_paths, lambda n: code(n, 0).update(source=f"open('{ROOT}/x')")),
    "a figure without words": (pictures_without_words, lambda n: code(n, 1).metadata.pop("mystnb")),
    "a figure with one word": (pictures_without_words, lambda n: code(n, 1).metadata.mystnb.image.update(alt="Plot")),
    "a drawing without words": (pictures_without_words, lambda n: replace(n, "aria-label", "data-label")),
    "a drawing without a role": (pictures_without_words, lambda n: replace(n, 'role="img" ', "")),
    "a Markdown image without words": (pictures_without_words, lambda n: replace(n, "![a net]", "![]")),
    "an image directive without words": (
        pictures_without_words,
        lambda n: replace(n, "# A chapter", "# A chapter\n\n```{image} net.svg\n:width: 50%\n```\n"),
    ),
    "an HTML image without words": (pictures_without_words, lambda n: replace(n, "# A", '<img src="net.svg">\n\n# A')),
    "a drawing in HTML": (unseen_before_a_run, lambda n: code(n, 2).outputs[0].data.update({"text/html": "<svg>"})),
    "a drawing without a PNG": (unseen_before_a_run, lambda n: code(n, 3).outputs[0].data.pop("image/png")),
    "a PNG without words": (unseen_before_a_run, lambda n: code(n, 3).outputs[0].metadata.clear()),
    "a cell of 31 lines": (long_cells, lambda n: code(n, 0).update(source="\n".join(["x = 1"] * 31))),
    "a line of 80 columns": (long_cells, lambda n: code(n, 0).update(source="x" * 80)),
    "long cells throughout": (long_cells, lambda n: [c.update(source="x\n" * 8 + "x") for _, c in code_cells(n)]),
    "an exercise without a solution": (unsolved_exercises, lambda n: replace(n, "start} ex-modify", "start} ex-other")),
    "a solution that did not run": (unsolved_exercises, lambda n: code(n, 5).update(execution_count=None)),
    "a solution in plain sight": (unsolved_exercises, lambda n: replace(n, ":class: dropdown\n", "")),
    "an exercise without a label": (unsolved_exercises, lambda n: replace(n, ":label: ex-recall\n", "")),
    "a stub that passes": (unchecked_exercises, lambda n: checks(n)[0].outputs[0].update(text="Correct: 1 of 1")),
    "a solution that fails": (unchecked_exercises, lambda n: checks(n)[1].outputs[0].update(text="Not yet: f() is 1.")),
    "a solution that only looks": (unchecked_exercises, lambda n: checks(n)[1].update(source="_ = check(f, cases)")),
    "a solution under the reader's name": (overwritten_answers, lambda n: replace(n, "solved_modify", "f_modify")),
    "an answer that is assigned": (overwritten_answers, lambda n: checks(n)[3].update(source="f_modify = 1")),
    "no stub": (overwritten_answers, lambda n: [c.update(source="pass") for c in checks(n)]),
    "a solution in sight in JupyterLab": (open_solutions, lambda n: checks(n)[1].metadata.pop("jupyter")),
    "a solution in sight on Colab": (open_solutions, lambda n: checks(n)[1].metadata.pop("cellView")),
    "a folded stub": (open_solutions, lambda n: checks(n)[0].metadata.update(jupyter={"source_hidden": True})),
    "an exercise folded with a solution": (
        open_solutions,
        lambda n: replace(n, "```{solution-start} ex-recall", "```{exercise}\n```\n```{solution-start} x"),
    ),
    "one self-checking exercise": (unchecked_exercises, lambda n: [c.update(source="pass") for c in checks(n)[2:]]),
    "three exercises": (unsolved_exercises, lambda n: n.cells.__delitem__(slice(-4, -1))),
    "outputs ignored at will": (
        ignored_outputs,
        lambda n: [code(n, number).metadata.update(tags=["nbval-ignore-output"]) for number in (0, 1, 2)],
    ),
    "a visible nbval comment": (ignored_outputs, lambda n: code(n, 0).update(source="# NBVAL_IGNORE_OUTPUT\nx")),
    "a cell that nbval skips": (ignored_outputs, lambda n: code(n, 0).metadata.update(tags=["nbval-skip"])),
    "no aims": (missing_aims, lambda n: replace(n, "You will be able to", "Aims")),
    "two aims": (missing_aims, lambda n: replace(n, "- **doubt** it\n", "")),
    "an aim without a verb": (missing_aims, lambda n: replace(n, "- **count** layers", "- layers")),
    "no prerequisites": (missing_prerequisites, lambda n: replace(n, "| you should know |", "| know |")),
    "prerequisites without a row": (missing_prerequisites, lambda n: replace(n, "| sums | needed | below |\n", "")),
    "a prerequisite to learn nowhere": (missing_prerequisites, lambda n: replace(n, "| below |", "|  |")),
    "no times": (missing_prerequisites, lambda n: replace(n, "about 10 seconds", "soon")),
    "times too late": (missing_prerequisites, lambda n: replace(n, "Reading:", "## Times\n\nReading:")),
    "aims before the picture": (paperwork_first, lambda n: n.cells.insert(1, n.cells.pop(2))),
    "an opening that shows nothing": (paperwork_first, lambda n: n.cells[1].outputs.clear()),
    "an opening that shows its code": (paperwork_first, lambda n: n.cells[1].metadata.pop("tags")),
    "prerequisites in sight": (paperwork_first, lambda n: replace(n, ":::{dropdown} Before you start", "Before")),
    "an answer in sight": (
        paperwork_first,
        lambda n: replace(n, ":::{dropdown} Answer\n**What you see.**", "**What you see.**"),
    ),
    "a problem without a number": (late_number, lambda n: replace(n, "217 million", "one of 7")),
    "a number for a problem's name": (late_number, lambda n: replace(n, "takes 217 million", "13 has")),
    "a number in the next section": (late_number, lambda n: replace(n, "217", "many\n\n## A number\n\n217")),
    "a number after 150 words": (late_number, lambda n: replace(n, "A row", "word " * NUMBER_WITHIN)),
    "code after 400 words": (late_code, lambda n: replace(n, "A row", "word " * CODE_WITHIN)),
    "folded code alone": (late_code, lambda n: [c.metadata.update(tags=["hide-cell"]) for _, c in code_cells(n)]),
    "no prediction": (unasked_controls, lambda n: replace(n, "Predict first", "Look")),
    "a prediction too late": (unasked_controls, lambda n: n.cells.insert(7, n.cells.pop(5))),
    "a prediction and nothing to move": (unasked_controls, lambda n: code(n, 2).update(outputs=[])),
    "a control without a remark": (unasked_controls, lambda n: replace(n, "**What you see.**", "Well:")),
    "no belief": (nothing_refuted, lambda n: replace(n, "Widely believed", "Note")),
    "a belief that nobody says": (nothing_refuted, lambda n: replace(n, '*"The sum is three."*', "The sum.")),
    "a belief without a source": (nothing_refuted, lambda n: replace(n, "[a post](https://a.org/b)", "places")),
    "a belief that is left standing": (nothing_refuted, lambda n: code(n, 4).update(source="1 + 1")),
    "a belief refuted elsewhere": (nothing_refuted, lambda n: n.cells.insert(10, new_markdown_cell("## More"))),
    "four questions": (poor_recall, lambda n: replace(n, "**5.** ", "")),
    "a question without options": (poor_recall, lambda n: replace(n, "* (", "(")),
    "a question without an answer": (poor_recall, lambda n: replace(n, ":::{dropdown} Answer", "Answer")),
    "an answer that is no option": (poor_recall, lambda n: replace(n, "**(b)**", "**(d)**")),
    "a wrong option without a hint": (poor_recall, lambda n: replace(n, "*(c)*: that is a product.", "")),
    "a hint without a word": (poor_recall, lambda n: replace(n, "*(c)*: that is a product.", "*(c)*: 4.")),
    "no summary": (poor_ending, lambda n: replace(n, "## Summary", "## Close")),
    "a summary that does not close": (poor_ending, lambda n: n.cells.append(new_markdown_cell("## More"))),
    "a summary of six sentences": (poor_ending, lambda n: replace(n, "It costs", "It is. " * 4 + "It costs")),
    "no words of the chapter": (poor_ending, lambda n: replace(n, "**Words of this chapter**", "Words")),
    "words without a link": (poor_ending, lambda n: replace(n, "{term}`row`", "row")),
    "nothing to read on": (poor_ending, lambda n: replace(n, "**Read on**: {cite:t}", "**Read on**: ")),
    "nothing comes next": (poor_ending, lambda n: replace(n, "**Next**, another sum.", "**Next**.")),
    "a figure without a caption": (unnumbered_figures, lambda n: code(n, 3).metadata.mystnb.figure.pop("caption")),
    "a figure without a name": (unnumbered_figures, lambda n: code(n, 3).metadata.mystnb.figure.pop("name")),
    "a picture without a number": (unnumbered_figures, lambda n: code(n, 1).metadata.update(tags=["remove-input"])),
    "a figure that nobody mentions": (unnumbered_figures, lambda n: replace(n, "{numref}`fig-line`", "the figure")),
    "two citations": (poor_citations, lambda n: replace(n, "{cite:t}`hu2018squeeze`", "nothing")),
    "an unknown citation": (poor_citations, lambda n: replace(n, "hu2018squeeze", "nobody1999")),
    "the time of execution": (not_tidy, lambda n: code(n, 0).metadata.update(execution={"iopub.execute_input": "now"})),
    "the exact Python": (not_tidy, lambda n: n.metadata.language_info.update(version="3.11.7")),
    "a random cell id": (not_tidy, lambda n: n.cells[0].update(id="8f0c2b1a")),
    "a stream in pieces": (not_tidy, lambda n: code(n, 0).outputs.append(code(n, 0).outputs[0])),
    "stored widget models": (broken_widgets, lambda n: n.metadata.update(widgets={})),
    "a live widget": (broken_widgets, lambda n: code(n, 2).outputs[0].data.update({VIEW: {"model_id": "0"}})),
    "a widget state cut short": (broken_widgets, lambda n: replace(n, "1.0}", "1.0")),
    "a widget without a table": (broken_widgets, lambda n: replace(n, "<table></table>", "")),
    "a semicolon": (silenced_by_semicolon, lambda n: code(n, 1).update(source="plot();")),
    "a float of four digits": (long_floats, lambda n: code(n, 0).outputs[0].update(text="0.1234\n")),
    "a float of four digits in thousands": (long_floats, lambda n: code(n, 0).outputs[0].update(text="1,234.5\n")),
    "a float of four digits and an exponent": (long_floats, lambda n: code(n, 0).outputs[0].update(text="1.234e-5\n")),
    "a rounded float that shows zeros": (long_floats, lambda n: code(n, 0).outputs[0].update(text="75.00\n")),
    "a long float as result": (long_floats, lambda n: code(n, 1).outputs[0].data.update({"text/plain": "0.99975"})),
    "a long float in a drawing's words": (long_floats, lambda n: replace(n, "A line that", "A line of 12.34 that")),
    "a long float written in a drawing": (long_floats, lambda n: replace(n, "</svg>", "<text>12.34</text></svg>")),
    "a long float in a widget's state": (long_floats, lambda n: replace(n, "1.0}", "1.2345}")),
    "a long float in a widget's frame": (
        long_floats,
        lambda n: replace(n, "&quot;width_mult&quot;: 1.0", "&quot;frames&quot;: [&quot;&lt;p>12.345&lt;/p>&quot;]"),
    ),
    "a long float in a table": (long_floats, lambda n: replace(n, "<table>", "<table><td>12.34</td>")),
    "no assert": (without_parity, lambda n: replace(n, "assert 1 + 1 == 2", "1 + 1  # assert")),
    "fourteen beliefs": (unrefuted_beliefs, lambda n: n.cells.__delitem__(slice(-4, -1))),
    "a belief without quotation marks": (unrefuted_beliefs, lambda n: replace(n, '"There are 3"', "There are 3")),
    "a belief without a number": (unrefuted_beliefs, lambda n: replace(n, "## 3. ", "## ")),
    "a belief without a label": (unrefuted_beliefs, lambda n: replace(n, "(belief-3)=\n", "")),
    "a belief out of its place": (unrefuted_beliefs, lambda n: replace(n, "## 3. ", "## 4. ")),
    "a belief missing from the table": (unrefuted_beliefs, lambda n: replace(n, "| [3](#belief-3) |\n", "")),
    "a belief without a place": (
        unrefuted_beliefs,
        lambda n: replace(n, '3"\n\n**Where it is found:** [a port](https://a.org/b).', '3"\n'),
    ),
    "a belief found somewhere": (unrefuted_beliefs, lambda n: replace(n, "[a port](https://a.org/b)", "everywhere")),
    "a belief that no cell refutes": (unrefuted_beliefs, lambda n: replace(n, "assert 3 + 1", "3 + 1  # assert")),
    "a refutation that did not run": (unrefuted_beliefs, lambda n: code(n, 2).update(execution_count=None)),
    "a refutation without a number": (unrefuted_beliefs, lambda n: code(n, 2).outputs[0].update(text="true\n")),
    "a long refutation": (unrefuted_beliefs, lambda n: replace(n, "print(3)", "print(3)\n" * REFUTING_LINES)),
    "a belief without its truth": (unrefuted_beliefs, lambda n: replace(n, "**The truth:**", "Well,")),
    "a truth before its proof": (unrefuted_beliefs, lambda n: n.cells.insert(2, n.cells.pop(3))),
    "a truth with nothing to read": (unrefuted_beliefs, lambda n: replace(n, "More in {doc}`05_configs`.", "")),
}  # fmt: skip


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_a_good_notebook_passes(rule: Rule) -> None:
    assert rule(sample(rule)) == []


@pytest.mark.parametrize(
    "shown",
    [
        "12.3 and 1,234,567",
        "0.00123",
        "torch 2.15.0",
        "2e-05",
        "cut at 12.345",
        '<svg><path d="M 12.3456 0"></path></svg>',
    ],
)
def test_integers_rounded_floats_constants_and_coordinates_may_be_compared(shown: str) -> None:
    notebook = good()
    code(notebook, 2).outputs[0].data["text/html"] = shown
    code(notebook, 2).source = "cut(12.345)"
    assert long_floats(notebook) == []


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_notebook_is_caught(name: str) -> None:
    rule, damage = BROKEN[name]
    notebook = sample(rule)
    damage(notebook)
    assert rule(notebook) != []


def test_every_rule_is_tested() -> None:
    assert {rule for rule, _ in BROKEN.values()} == set(RULES)


def test_tidying_twice_changes_nothing() -> None:
    once = tool.dump(good())
    assert tool.dump(tool.tidy(nbformat.reads(once, as_version=4))) == once


# Running -------------------------------------------------------------------------------------------------------------


def slower_than_declared(notebook: NotebookNode, seconds: float) -> list[str]:
    """Tests share the machine: three times what the chapter declares is allowed, and a minute always."""
    line = TIMES.search(prose(notebook))
    if line is None or seconds <= max(LONGER * int(line[2]), SECONDS):
        return []
    return [f"ran for {seconds:.0f} s; the chapter says {line[2]}"]


@pytest.mark.parametrize(
    ("declared", "seconds", "kept"), [(10, 60, True), (10, 61, False), (45, 135, True), (45, 136, False)]
)
def test_a_chapter_that_is_slower_than_it_says_is_caught(declared: int, seconds: int, kept: bool) -> None:
    line = f"Reading: 5 minutes. All cells together: about {declared} seconds on two CPU cores."
    notebook = new_notebook(cells=[new_markdown_cell(f"# A chapter\n\n{line}\n\nText.")])
    assert (slower_than_declared(notebook, seconds) == []) is kept


def verdict(path: Path, said: str, status: int) -> None:
    """Accept nothing but every cell passed: an xfail or xpass is a cell after one that ran out of time."""
    cells = len(code_cells(nbformat.read(path, as_version=4)))
    assert status == 0, said
    assert re.search(rf"^{cells} passed( in [^,]*)?$", said, flags=re.M), said


@pytest.mark.proves(
    "Notebooks, each run alone in a folder outside the repository: cells that print something else",
    against="what the pages show",
    tolerance=0,
    unit="count",
)
@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_alone_and_prints_what_it_printed(
    path: Path, tmp_path: Path, deviation: Deviation, record_property: Callable[[str, object], None]
) -> None:
    start = time.perf_counter()
    said, status = validate(path, tmp_path)
    seconds = time.perf_counter() - start
    notebook = nbformat.read(path, as_version=4)
    record_property("measured", f"{path.stem}: {words(notebook):,} words, runs in {seconds:.0f} s")
    verdict(path, said, status)
    deviation(len(code_cells(notebook)) - int(re.search(r"(\d+) passed", said)[1]))
    assert seconds <= 2 * (TRAINING_SECONDS if path.stem in TRAINING else SECONDS)  # tests share the machine
    assert slower_than_declared(notebook, seconds) == []


@pytest.mark.slow
@pytest.mark.parametrize("source", ["print('two')", "print('one'); import warnings; warnings.warn('no')", "1 / 0"])
def test_nbval_catches_a_changed_cell(tmp_path: Path, source: str) -> None:
    cell = new_code_cell("print('one')", outputs=[new_output("stream", name="stdout", text="one\n")], execution_count=1)
    notebook = tool.tidy(new_notebook(cells=[cell]))
    path = tmp_path / "changed.ipynb"
    for text, passes in (("print('one')", True), (source, False)):
        notebook.cells[0].source = text
        path.write_text(tool.dump(notebook), encoding="utf-8")
        folder = tmp_path / str(passes)
        folder.mkdir()
        said, status = validate(path, folder)
        if passes:
            verdict(path, said, status)
        else:
            with pytest.raises(AssertionError):
                verdict(path, said, status)


@pytest.mark.slow
def test_the_tool_runs_a_notebook_and_refuses_a_faulty_one(tmp_path: Path) -> None:
    path = tmp_path / "new.ipynb"
    path.write_text(tool.dump(new_notebook(cells=[new_code_cell("1 + 1")])), encoding="utf-8")
    assert tool.main([str(path)]) == 0
    assert tool.is_tidy(path)
    assert nbformat.read(path, as_version=4).cells[0].outputs[0].data["text/plain"] == "2"
    for source in ("1 / 0", "import sys; print('no', file=sys.stderr)"):
        before = tool.dump(tool.tidy(new_notebook(cells=[new_code_cell(source)])))
        path.write_text(before, encoding="utf-8")
        assert tool.main([str(path)]) == 1
        assert path.read_text(encoding="utf-8") == before
