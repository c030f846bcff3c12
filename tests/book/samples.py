"""Small notebooks that keep every rule of tools/form, and what it takes to break them."""

from __future__ import annotations

import html
import json

import notebooks
from form.beliefs import BELIEFS, unrefuted_beliefs
from form.chapters import QUESTIONS
from form.reading import HIDDEN, code_cells, tags
from form.rules import Rule
from form.spread import BETWEEN, BY_HAND
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output


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
            "See {ref}`Fig. 1 <fig-opening>`.\n\n"
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
        new_markdown_cell(":::{dropdown} Answer\n**What you see.** The line of {ref}`Fig. 2 <fig-line>`.\n:::"),
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
    return notebooks.tidy(notebook)


def excellent() -> NotebookNode:
    """Return a good notebook that meets every item of the rubric: with words between its cells, and one by hand."""
    notebook = good()
    shown = [cell for _, cell in code_cells(notebook) if not HIDDEN & tags(cell)]
    shown[0].metadata["tags"] = [BY_HAND]
    cells = []
    for cell in notebook.cells:
        cells.append(cell)
        if cell in shown:
            cells.append(new_markdown_cell("word " * BETWEEN[0]))
    notebook.cells = cells
    return notebooks.tidy(notebook)


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
    return notebooks.tidy(new_notebook(cells=[*cells, new_markdown_cell("## And more\n\nElsewhere.")]))


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
