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
        ValueError: for what is not YAML, a key that is given twice, or a tag beyond plain data.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise ValueError(f"{where} is not valid YAML: {error}") from error
