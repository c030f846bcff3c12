"""The rubric of a chapter: fifteen items, each met or not, from the notebook and its run time alone.

A rule sees form. It does not see whether a reference is independent, a refutation right, or a figure beautiful.
"""

from __future__ import annotations

from dataclasses import dataclass

from nbformat import NotebookNode

from . import beliefs, chapters, exercises, prose, rules, spread
from .rules import Rule

SECONDS = 60  # for the cells of a notebook, on a machine that does nothing else
TRAINING_SECONDS = 180  # for those of a chapter that trains
TRAINING = ("11_training_recipe", "12_transfer_learning", "13_scaling_out")


@dataclass(frozen=True)
class Item:
    """One item: what it asks for, the rules that say what is wrong, and whether a chapter has to meet it."""

    asks: str
    rules: tuple[Rule, ...]
    required: bool = False


@dataclass(frozen=True)
class Verdict:
    """What became of an item; it is met if nothing is wrong."""

    number: int
    faults: tuple[str, ...]

    @property
    def met(self) -> bool:
        """Whether nothing is wrong."""
        return not self.faults


#: The items in the order of their numbers, from 1. The fourteenth looks at the time besides.
ITEMS = (
    Item(
        "It opens with a picture of its result, its code hidden, and says in three to six lines what you will be able "
        "to do. What you should know before, the reading time and the run time stand in a folded box.",
        (chapters.paperwork_first, chapters.missing_aims, chapters.missing_prerequisites),
    ),
    Item(
        f"The problem comes before its solution: within {chapters.NUMBER_WITHIN} words you know it as a number.",
        (chapters.late_number,),
    ),
    Item(
        f"Code comes within {chapters.CODE_WITHIN} words; from one code cell to the next there are "
        f"{spread.BETWEEN[0]} to {spread.BETWEEN[1]} words in the median, and there are never more than "
        f"{spread.WITHOUT_A_STOP} without a figure, code or an equation.",
        (chapters.late_code, spread.uneven_code, spread.long_text),
    ),
    Item(
        f"Cells are short: {rules.MEDIAN_LINES} lines in the median at most, {rules.MOST_LINES} lines and "
        f"{rules.COLUMNS} columns at the most.",
        (rules.long_cells,),
    ),
    Item(
        "By hand first: in its first half, a cell computes an operation on numbers small enough to check on paper.",
        (spread.not_by_hand,),
    ),
    Item(
        "Three cells or more assert something, mostly that two computations agree.",
        (rules.without_parity,),
        required=True,
    ),
    Item(
        "Every number in the prose is printed by a checked cell or stands in the fact file with its source.",
        (prose.undeclared,),
        required=True,
    ),
    Item(
        f"There is a figure for every {spread.WORDS_A_FIGURE} words, each with a caption and a number, and the text "
        "refers to it.",
        (spread.few_figures, chapters.unnumbered_figures),
    ),
    Item(
        "Every picture says in words what there is to see, in each form in which it is stored.",
        (rules.pictures_without_words, rules.unseen_before_a_run),
        required=True,
    ),
    Item(
        "There is something to move: a prediction is asked for before, and what is to see is said after.",
        (chapters.unasked_controls,),
    ),
    Item(
        "Four exercises or more have an executed, folded solution, and two or more check your answer themselves.",
        (
            exercises.unsolved_exercises,
            exercises.unchecked_exercises,
            exercises.overwritten_answers,
            exercises.open_solutions,
        ),
        required=True,
    ),
    Item(
        f"At least {chapters.QUESTIONS} questions of recall have an answer and a word on each wrong option.",
        (chapters.poor_recall,),
    ),
    Item("A false belief is quoted with its source, and a cell refutes it.", (beliefs.nothing_refuted,)),
    Item(
        f"All cells run in order and without an error, in {SECONDS} seconds at most; in {TRAINING_SECONDS} in a "
        "chapter that trains.",
        (rules.not_executed_in_order, rules.errors),
        required=True,
    ),
    Item(
        f"It closes with a summary of at most {chapters.SENTENCES} sentences, the terms of the chapter, what to read "
        "on and what comes next, and cites three works or more.",
        (chapters.poor_ending, rules.poor_citations),
    ),
)
TIMED = 14
ENOUGH = 13  # points of a chapter, with all items that are required


def limit(stem: str) -> int:
    """Return the seconds that the notebook of this name may take."""
    return TRAINING_SECONDS if stem in TRAINING else SECONDS


def score(notebook: NotebookNode, seconds: float | None, limit: float = SECONDS) -> list[Verdict]:
    """Judge a notebook by the items.

    Args:
        notebook: as it is stored, with its outputs.
        seconds: that all its cells took; None if nobody measured them.
        limit: the seconds that they may take, from :func:`limit`.

    Returns:
        A verdict on each item, in order; the score is the number of those that are met.
    """
    late = ["its run time was not measured"] if seconds is None else []
    if seconds is not None and seconds > limit:
        late.append(f"ran for {seconds:g} seconds; {limit:g} are allowed")
    return [
        Verdict(
            number, (*(fault for rule in item.rules for fault in rule(notebook)), *(late if number == TIMED else ()))
        )
        for number, item in enumerate(ITEMS, start=1)
    ]
