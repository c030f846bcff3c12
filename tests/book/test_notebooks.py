"""The notebooks as files: they run as committed, and keep the form that CONTRIBUTING.md describes.

The rules are those of tools/form: each is a function that returns what is wrong, and each is itself tested here on a
small notebook broken in that way.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import nbformat
import notebooks as tool
import pytest
from conftest import ROOT
from form import CHAPTER, FOR_CHAPTERS, FOR_PAGES, GENERAL, RULES, rules_for
from form.beliefs import REFUTING_LINES, nothing_refuted, unrefuted_beliefs
from form.chapters import (
    CODE_WITHIN,
    NUMBER_WITHIN,
    late_code,
    late_number,
    missing_aims,
    missing_prerequisites,
    paperwork_first,
    poor_ending,
    poor_recall,
    unasked_controls,
    unnumbered_figures,
)
from form.exercises import open_solutions, overwritten_answers, unchecked_exercises, unsolved_exercises
from form.reading import TIMES, code_cells, prose, words
from form.rubric import SECONDS, limit
from form.rules import (
    VIEW,
    Rule,
    absolute_paths,
    broken_widgets,
    errors,
    ignored_outputs,
    long_cells,
    long_floats,
    not_executed_in_order,
    not_tidy,
    pictures_without_words,
    poor_citations,
    silenced_by_semicolon,
    unseen_before_a_run,
    without_parity,
)
from ledger import Deviation
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from samples import checks, code, good, replace, sample
from validation import validate

NOTEBOOKS = sorted((ROOT / "book").glob("*.ipynb"))
LONGER = 3  # times what a chapter declares, at the most


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
    assert re.fullmatch(rf"# {int(path.stem[:2])}\u00a0·\u00a0[^:]+: \S.+", title)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_file_is_what_the_tool_writes(path: Path) -> None:
    assert tool.is_tidy(path)


# The rules on a notebook broken in one way ---------------------------------------------------------------------------


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
    "code that draws, open in JupyterLab": (
        open_solutions,
        lambda n: next(c for c in n.cells if "hide-input" in c.metadata.get("tags", [])).metadata.pop("jupyter"),
    ),
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
    "a figure that nobody mentions": (unnumbered_figures, lambda n: replace(n, " <fig-line>", "")),
    "two citations": (poor_citations, lambda n: replace(n, "{cite:t}`hu2018squeeze`", "nothing")),
    "an unknown citation": (poor_citations, lambda n: replace(n, "hu2018squeeze", "nobody1999")),
    "the time of execution": (not_tidy, lambda n: code(n, 0).metadata.update(execution={"iopub.execute_input": "now"})),
    "the exact Python": (not_tidy, lambda n: n.metadata.language_info.update(version="3.11.7")),
    "a random cell id": (not_tidy, lambda n: n.cells[0].update(id="8f0c2b1a")),
    "another figure's number": (not_tidy, lambda n: replace(n, "Fig. 2 <fig-line>", "Fig. 1 <fig-line>")),
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
    assert seconds <= 2 * limit(path.stem)  # tests share the machine
    assert slower_than_declared(notebook, seconds) == []


def validated(source: str, folder: Path) -> tuple[Path, str, int]:
    """Validate a notebook of this one cell, which has printed "one"; what `verdict` takes."""
    cell = new_code_cell(source, outputs=[new_output("stream", name="stdout", text="one\n")], execution_count=1)
    path = folder / "changed.ipynb"
    path.write_text(tool.dump(tool.tidy(new_notebook(cells=[cell]))), encoding="utf-8")
    (folder / "alone").mkdir()
    return (path, *validate(path, folder / "alone"))


@pytest.mark.slow
def test_nbval_passes_an_unchanged_cell(tmp_path: Path) -> None:
    verdict(*validated("print('one')", tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("source", ["print('two')", "print('one'); import warnings; warnings.warn('no')", "1 / 0"])
def test_nbval_catches_a_changed_cell(tmp_path: Path, source: str) -> None:
    found = validated(source, tmp_path)
    with pytest.raises(AssertionError):
        verdict(*found)


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
