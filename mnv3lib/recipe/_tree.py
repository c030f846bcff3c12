"""Dataclasses in dataclasses, to plain data and YAML and back."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from copy import deepcopy
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, TypeVar

import yaml

from mnv3lib._checks import unknown

__all__ = ["build", "plain", "read_yaml", "write_yaml"]

T = TypeVar("T")

#: Values that a YAML text may hold, each reference counted anew; a recipe has about a hundred.
_MOST_NODES = 100_000


def plain(section: Any) -> Any:
    """What YAML can hold: mappings for dataclasses, lists for tuples; nothing is shared with ``section``."""
    if is_dataclass(section):
        return {field.name: plain(getattr(section, field.name)) for field in fields(section)}
    if isinstance(section, tuple):
        return [plain(one) for one in section]
    return deepcopy(section)


def build(kind: type[T], data: Any, path: str, sections: Mapping[str, type]) -> T:
    """A dataclass from a mapping that may leave out what has a default.

    Args:
        kind: the dataclass.
        data: names of fields to values; ``sections`` as mappings or already built.
        path: what errors call it.
        sections: the fields that hold dataclasses themselves.

    Raises:
        TypeError, ValueError: naming the full path, and for an unknown key the nearest known one.
    """
    if not isinstance(data, Mapping):
        raise TypeError(f"{path} must be a mapping, got {data!r}")
    known = fields(kind)  # type: ignore[arg-type]
    names = [field.name for field in known]
    for key in data:
        if key not in names:
            raise unknown(path, key, names)
    for field in known:
        if field.default is MISSING and field.default_factory is MISSING and field.name not in data:
            raise ValueError(f"{path}.{field.name} is missing")
    values = dict(data)
    for name in sections.keys() & values.keys():
        if values[name] is not None and not isinstance(values[name], sections[name]):
            values[name] = build(sections[name], values[name], f"{path}.{name}", {})
    return kind(**values)


class _Loader(yaml.SafeLoader):
    """YAML's plain data, with 1e-5 as a number and without a key given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key, _ in node.value:
            word = getattr(key, "value", None)
            if isinstance(word, str) and word in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{word!r} is given twice", key.start_mark)
            seen.add(word if isinstance(word, str) else id(key))
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Writes what the loader reads, so words that look like its numbers stand in quotes."""


# PyYAML follows YAML 1.1, where 1e-5 without a point is a word; YAML 1.2 made it a number, and everybody writes it.
for _kind in (_Loader, _Dumper):
    _kind.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9][0-9_]*(?:\.[0-9_]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
    )


def write_yaml(data: Any) -> str:
    """Plain data as YAML text, mappings in their order."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, width=100)


def read_yaml(text: str, where: str) -> Any:
    """The data in a YAML text; ``where`` it came from is named in errors.

    Raises:
        ValueError: for what is not YAML, a key that is given twice, or a tag beyond plain data; also for data that
            refers to itself, is nested too deeply, holds too much, or an integer of more than 64 bits.
    """
    try:
        data = yaml.load(text, Loader=_Loader)
    except RecursionError:
        raise ValueError(f"{where} is nested too deeply") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        raise ValueError(f"{where} is not valid YAML: {error.problem or error.context}{place}") from error
    except (yaml.YAMLError, ValueError) as error:  # a ValueError for a date like 2026-13-45
        raise ValueError(f"{where} is not valid YAML: {' '.join(str(error).split())}") from error
    _check_size(data, where)
    return data


def _check_size(data: Any, where: str) -> None:
    """Refuse what a few lines of YAML with references (``&a``, ``*a``) can make: endless or astronomically large data.

    Integers of more than 64 bits are refused here for all fields, as PyTorch and floats cannot hold them.
    """
    nodes, open_nodes = 0, set[int]()

    def visit(value: Any) -> None:
        nonlocal nodes
        nodes += 1
        if nodes > _MOST_NODES:
            raise ValueError(f"{where} holds more than {_MOST_NODES:,} values")
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise ValueError(f"{where} holds an integer of more than 64 bits")
        if isinstance(value, (dict, list)):
            if id(value) in open_nodes:
                raise ValueError(f"{where} refers to itself")
            open_nodes.add(id(value))
            for one in [*value, *value.values()] if isinstance(value, dict) else value:
                visit(one)
            open_nodes.discard(id(value))

    visit(data)
