"""``import mnv3lib`` is light, its lazy names arrive, and the arrows between the rooms only go down."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import TypeVar

import pytest

import mnv3lib

PACKAGE = Path(mnv3lib.__file__).parent
HEAVY = ("torch", "torchvision", "numpy", "yaml", "ipywidgets", "anywidget", "matplotlib", "IPython")

#: What each room, a file or a package, may import of the others: those above it in this table, never one below.
ARROWS: dict[str, set[str]] = {
    "_checks": set(),
    "_files": set(),
    "_lazy": set(),
    "facts": set(),
    "provenance": set(),
    "rows": {"_checks"},
    "_scaling": {"_checks", "rows"},
    "config": {"_checks", "_scaling", "rows"},
    "heads": {"_checks", "_scaling", "config", "rows"},
    "detectors": {"_checks", "_scaling", "config", "rows"},
    "_walk": {"_checks", "rows"},
    "cost": {"_checks", "_walk", "config", "detectors", "heads", "rows"},
    "pointwise": set(),
    "blocks": {"_checks", "rows"},
    "network": {"_checks", "blocks", "config"},
    "recipe": {"_checks", "config"},
    "data": {"_lazy", "_checks", "_files", "recipe"},
    "tasks": {"_lazy", "_checks", "blocks", "config", "detectors", "heads", "network"},
    "weights": {"_checks", "_files", "config", "detectors", "heads", "network", "rows", "tasks"},
    "wild": {"_checks", "blocks", "config", "rows", "weights"},
    "deploy": {
        "_checks",
        "_files",
        "blocks",
        "config",
        "cost",
        "network",
        "pointwise",
        "provenance",
        "rows",
        "weights",
    },
    "training": {
        "_lazy",
        "_checks",
        "_files",
        "config",
        "cost",
        "data",
        "deploy",
        "detectors",
        "pointwise",
        "recipe",
        "tasks",
        "weights",
    },
    "explore": {"_lazy", "_checks", "config", "cost", "facts", "rows"},
    "__init__": {"_lazy", "config", "cost", "network", "tasks"},  # network and tasks for type checkers only
}
#: Rooms that can be used without PyTorch and NumPy.
LIGHT = ("_checks", "_files", "_lazy", "_scaling", "_walk", "config", "cost", "detectors", "facts", "heads", "recipe",
         "rows")  # fmt: skip


def loaded_by(code: str) -> list[str]:
    """Names of all modules in a fresh Python after ``code``."""
    script = f"{code}\nimport json, sys; print(json.dumps(sorted(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return json.loads(answer.stdout.splitlines()[-1])


def rooms(path: Path) -> set[str]:
    """Which rooms of the package a file imports, wherever in the file, e.g. {"config", "explore"}."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] == "mnv3lib" and len(parts) > 1:
                found.add(parts[1])
    return found


@pytest.mark.parametrize(
    "code",
    [
        "import mnv3lib",
        "import mnv3lib.config",
        "import mnv3lib.cost",
        "from mnv3lib import config, cost; cost.profile(config.large(width_mult=0.5), 160).macs",
        "import mnv3lib; dir(mnv3lib), mnv3lib.__version__",
    ],
)
def test_light_rooms_load_nothing_heavy(code: str) -> None:
    loaded = set(loaded_by(code))
    assert "mnv3lib.config" in loaded
    assert not loaded & set(HEAVY)
    assert not loaded & {"mnv3lib.blocks", "mnv3lib.network", "mnv3lib.explore"}


@pytest.mark.slow
def test_torch_comes_with_the_first_name_that_needs_it() -> None:
    loaded = set(loaded_by("import sys, mnv3lib; assert 'torch' not in sys.modules; mnv3lib.mobilenet_v3_small"))
    assert {"torch", "mnv3lib.network", "mnv3lib.blocks"} <= loaded
    assert not {"torchvision", "ipywidgets", "matplotlib"} & loaded


def test_lazy_names_are_the_things_themselves() -> None:
    from mnv3lib import blocks, network

    assert mnv3lib.MobileNetV3 is network.MobileNetV3
    assert mnv3lib.FeatureTaps is network.FeatureTaps
    assert mnv3lib.mobilenet_v3_large is network.mobilenet_v3_large
    assert mnv3lib.mobilenet_v3_small is network.mobilenet_v3_small
    assert mnv3lib.blocks is blocks
    assert mnv3lib.network is network
    for name in mnv3lib.__all__:
        assert getattr(mnv3lib, name) is not None
    with pytest.raises(AttributeError, match="module 'mnv3lib' has no attribute 'mobilenet_v4'"):
        _ = mnv3lib.mobilenet_v4
    with pytest.raises(ImportError, match="mobilenet_v4"):
        from mnv3lib import mobilenet_v4  # noqa: F401


@pytest.mark.slow
def test_every_room_is_an_attribute_of_the_library() -> None:
    public = [room for room in ARROWS if not room.startswith("_")]
    code = "import mnv3lib; assert {0!r} in dir(mnv3lib); assert mnv3lib.{0}.__name__ == 'mnv3lib.{0}'"
    for room in public:
        loaded_by(code.format(room))


def test_dir_lists_what_can_be_had() -> None:
    listed = dir(mnv3lib)
    assert listed == sorted(listed)
    assert {*mnv3lib.__all__, "blocks", "network", "explore", "__version__"} <= set(listed)


@pytest.mark.parametrize("name", ["config", "cost", "detectors", "heads", "blocks", "network", "facts"])
def test_all_is_what_there_is(name: str) -> None:
    module = getattr(mnv3lib, name, None) or __import__(f"mnv3lib.{name}", fromlist=["*"])
    assert sorted(module.__all__) == sorted(set(module.__all__))
    assert all(hasattr(module, exported) for exported in module.__all__)
    own = {
        exported
        for exported, value in vars(module).items()
        if getattr(value, "__module__", None) == module.__name__ and not isinstance(value, TypeVar)
    }
    public = {exported for exported in own if not exported.startswith("_")}
    assert public - set(module.__all__) <= {"takes_options"}, "public, but not exported"


def files_of(room: str) -> list[Path]:
    """The files of a room."""
    return [PACKAGE / f"{room}.py"] if (PACKAGE / f"{room}.py").is_file() else sorted((PACKAGE / room).rglob("*.py"))


def test_the_table_of_arrows_has_every_room() -> None:
    rooms_there = {path.stem for path in PACKAGE.glob("*.py")} | {path.parent.name for path in PACKAGE.glob("*/*.py")}
    assert rooms_there == set(ARROWS), "a room was added or removed: draw its arrows"


def test_the_table_of_arrows_goes_down() -> None:
    above: set[str] = set()
    for room, allowed in ARROWS.items():
        assert allowed <= above, f"{room} may import {allowed - above}, which come after it"
        above.add(room)


@pytest.mark.parametrize("room", ARROWS)
def test_a_room_imports_what_its_arrows_allow(room: str) -> None:
    for path in files_of(room):
        assert rooms(path) - {room} <= ARROWS[room], path.relative_to(PACKAGE)


@pytest.mark.parametrize("room", LIGHT)
def test_a_light_room_names_nothing_heavy(room: str) -> None:
    for path in files_of(room):
        tree = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        named = {alias.name.split(".")[0] for node in tree if isinstance(node, ast.Import) for alias in node.names}
        assert not named & {*HEAVY} - {"yaml"}, path.relative_to(PACKAGE)


def test_the_library_knows_nothing_of_the_book() -> None:
    for path in PACKAGE.rglob("*.py"):
        assert not re.search(r"^\s*(from|import) figures\b", path.read_text(encoding="utf-8"), re.MULTILINE), path
