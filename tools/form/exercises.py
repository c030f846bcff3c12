"""What the exercises of a chapter keep: solved, checked, folded, and the reader's answers left alone."""

from __future__ import annotations

import ast
import re

from IPython.core.inputtransformer2 import TransformerManager
from nbformat import NotebookNode

from .reading import HIDDEN, code_cells, prose, tags


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
    return {
        node.name
        for node in ast.parse(cell.source).body
        if isinstance(node, ast.FunctionDef)
        and any(isinstance(line, ast.Expr) and getattr(line.value, "value", None) is ... for line in node.body)
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
    found: list[str] = []
    asked: dict[str, int] = {}
    for place, cell in code_cells(notebook):
        found += [f"cell {place} overwrites {name} of cell {asked[name]}" for name in bound_names(cell) & set(asked)]
        asked.update(dict.fromkeys(stub_names(cell), place))
    return found if asked else ["no self-checking exercise has a stub"]


def open_solutions(notebook: NotebookNode) -> list[str]:
    """Solutions are folded in JupyterLab and on Colab, texts and outputs too; otherwise only code that pages fold."""
    found, inside = [], False
    for place, cell in enumerate(notebook.cells):
        edges = re.findall(r"\{solution-(start|end)\}", cell.source) if cell.cell_type == "markdown" else []
        solves = inside or "start" in edges
        inside = edges[-1] == "start" if edges else inside
        hidden = cell.metadata.get("jupyter", {})
        aside = solves or bool(HIDDEN & tags(cell))
        if bool(hidden.get("source_hidden")) != aside:
            found.append(f"cell {place} is {'open' if aside else 'folded'} in JupyterLab")
        if cell.cell_type == "code" and (bool(hidden.get("outputs_hidden")), cell.metadata.get("cellView")) != (
            (True, "form") if solves else (False, None)
        ):
            found.append(f"cell {place} is {'open' if solves else 'folded'} on Colab, or its outputs are")
        if solves and re.search(r"\{exercise|^## |\{solution-end\}\n```\n+\S", cell.source, flags=re.M):
            found.append(f"cell {place} holds more than a solution")
    return found
