"""What is said of widely held beliefs: where they are found, and the cell that refutes them."""

from __future__ import annotations

import re

from nbformat import NotebookNode

from .reading import SOURCE, asserts, output_texts, sections, text_of

BELIEFS, REFUTING_LINES = 15, 12


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
