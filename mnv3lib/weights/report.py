"""What became of every tensor of a file and of a network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

__all__ = ["Report", "Shape", "few"]

Shape = tuple[int, ...]


def few(entries: Iterable[str], most: int = 3) -> str:
    """The first ones on one line of moderate length, and how many more there are.

    >>> few(["a", "b", "c", "d", "e"])
    'a, b, c and 2 more'
    """
    listed = [" ".join(entry.split()) for entry in entries]
    shown = [entry if len(entry) <= 160 else f"{entry[:157]}…" for entry in listed[:most]]
    return ", ".join(shown) + (f" and {len(listed) - most:,} more" if len(listed) > most else "")


@dataclass(frozen=True)
class Report:
    """What became of every tensor of a file and of a network. Printed, it says all but the plain successes.

    Attributes:
        source: where the weights came from.
        layout: whose names the file has.
        loaded: names in the network of the tensors that were copied.
        renamed: name in the network to name in the file, where they differ.
        adapted: name in the network to what was done to make it fit, in words.
        missing: names in the network that the file does not have.
        unexpected: names in the file that the network does not have.
        misshaped: name in the network to shape in the file and shape in the network.
        conflicts: tensors of a kind that cannot be copied or with numbers that do not fit, and what the network does
            otherwise than the one that was trained, in words.
        left_out: names in the file of parts that were not asked for, or that lie beside the network.
    """

    source: str
    layout: str
    loaded: tuple[str, ...] = ()
    renamed: Mapping[str, str] = field(default_factory=dict)
    adapted: Mapping[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    misshaped: Mapping[str, tuple[Shape, Shape]] = field(default_factory=dict)
    conflicts: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        """Whether something was loaded, and nothing is missing, unexpected, of another shape or in conflict."""
        return bool(self.loaded) and not (self.missing or self.unexpected or self.misshaped or self.conflicts)

    def __str__(self) -> str:
        lines = [self._first_line()]
        for title, entries in self._sections():
            lines += [f"  {title} ({len(entries)}):", *(f"    {entry}" for entry in entries)]
        return "\n".join(lines)

    def short(self) -> str:
        """The same on a few lines, with the first entries of each kind."""
        return "\n".join([self._first_line(), *(f"  {title} ({len(e)}): {few(e)}" for title, e in self._sections())])

    def _first_line(self) -> str:
        return f"{self.source}: {len(self.loaded)} tensors of {self.layout}, {len(self.renamed)} under other names"

    def _sections(self) -> list[tuple[str, list[str]]]:
        """Title and entries of what there is to tell."""
        shapes = [f"{name}: {theirs} in the file, {ours} here" for name, (theirs, ours) in self.misshaped.items()]
        sections: tuple[tuple[str, list[str]], ...] = (
            ("adapted", [f"{name}: {text}" for name, text in self.adapted.items()]),
            ("missing from the file", list(self.missing)),
            ("not in the network", list(self.unexpected)),
            ("of another shape", shapes),
            ("in conflict", list(self.conflicts)),
            ("left out", list(self.left_out)),
        )
        return [(title, entries) for title, entries in sections if entries]
