"""What became of every tensor of a file and of a network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Report", "Shape"]

Shape = tuple[int, ...]


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
        conflicts: types of numbers that do not agree, and what the network does otherwise than the one that was
            trained, in words.
        left_out: names in the file of parts that were not asked for.
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
        """Whether nothing is missing, unexpected, of another shape or in conflict."""
        return not (self.missing or self.unexpected or self.misshaped or self.conflicts)

    def __str__(self) -> str:
        lines = [f"{self.source}: {len(self.loaded)} tensors of {self.layout}, {len(self.renamed)} under other names"]
        shapes = [f"{name}: {theirs} in the file, {ours} here" for name, (theirs, ours) in self.misshaped.items()]
        for title, entries in (
            ("adapted", tuple(f"{name}: {text}" for name, text in self.adapted.items())),
            ("missing from the file", self.missing),
            ("not in the network", self.unexpected),
            ("of another shape", shapes),
            ("in conflict", self.conflicts),
            ("left out", self.left_out),
        ):
            if entries:
                lines += [f"  {title} ({len(entries)}):", *(f"    {entry}" for entry in entries)]
        return "\n".join(lines)
