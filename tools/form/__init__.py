"""The form of the book's notebooks: rules that return what is wrong, and to whom they apply.

A chapter is a notebook whose name starts with its number; what only chapters need is not asked of the other notebooks,
and what only one of them has is asked of it alone.
"""

from __future__ import annotations

import re
from itertools import chain

from . import beliefs, chapters, exercises, rules
from .rules import Rule

__all__ = ["CHAPTER", "FOR_CHAPTERS", "FOR_PAGES", "GENERAL", "RULES", "Rule", "rules_for"]

CHAPTER = re.compile(r"(?!00)\d\d_\w+")
GENERAL: list[Rule] = [
    rules.not_executed_in_order,
    rules.errors,
    rules.absolute_paths,
    rules.pictures_without_words,
    rules.unseen_before_a_run,
    rules.long_cells,
    rules.ignored_outputs,
    rules.poor_citations,
    rules.not_tidy,
    rules.broken_widgets,
    rules.silenced_by_semicolon,
    rules.without_parity,
    rules.long_floats,
]
FOR_CHAPTERS: list[Rule] = [
    exercises.unsolved_exercises,
    exercises.unchecked_exercises,
    exercises.overwritten_answers,
    exercises.open_solutions,
    chapters.missing_aims,
    chapters.missing_prerequisites,
    chapters.paperwork_first,
    chapters.late_number,
    chapters.late_code,
    chapters.unasked_controls,
    beliefs.nothing_refuted,
    chapters.poor_recall,
    chapters.poor_ending,
    chapters.unnumbered_figures,
]
FOR_PAGES: dict[str, list[Rule]] = {
    "00_a_network_at_work": [chapters.late_number, chapters.unasked_controls, chapters.unnumbered_figures],
    "misconceptions": [beliefs.unrefuted_beliefs],
    "in_the_wild": FOR_CHAPTERS,
}
RULES = list(dict.fromkeys([*GENERAL, *FOR_CHAPTERS, *chain.from_iterable(FOR_PAGES.values())]))


def rules_for(stem: str) -> list[Rule]:
    """Return the rules for the notebook of this name."""
    return [*GENERAL, *(FOR_CHAPTERS if CHAPTER.fullmatch(stem) else FOR_PAGES.get(stem, []))]
