"""The repository as its readers find it: what documents promise exists, what is pinned fits, what is built installs."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from conftest import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import mnv3lib

LARGEST = 1_150_000  # a notebook holds each drawing as SVG and as PNG, and a flipbook all its frames


def tracked() -> list[Path]:
    """Return the files that git knows or would add; in a copy without git, all that are not built or hidden."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    if (ROOT / ".git").exists():
        listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        return [ROOT / name for name in listing.split("\0") if name and (ROOT / name).is_file()]
    skipped = re.compile(r"\.(?!ci$)|_build$|build$|__pycache__$|.*\.egg-info$")
    files = (path for path in ROOT.rglob("*") if path.is_file())
    return [path for path in files if not any(map(skipped.match, path.relative_to(ROOT).parts))]


def run(*command: str, cwd: Path = ROOT, **environment: str) -> str:
    """Run a command and return what it says; fail with that if it fails."""
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_ruff_finds_nothing() -> None:
    run(sys.executable, "-m", "ruff", "check", ".")


def test_the_code_is_formatted() -> None:
    run(sys.executable, "-m", "ruff", "format", "--check", ".")


@pytest.mark.slow
def test_mypy_finds_nothing() -> None:
    run(sys.executable, "-m", "mypy")


def targets() -> set[str]:
    """Return the targets of the Makefile."""
    return set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.M))


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "book/index.md", ".ci/run"])
def test_documents_name_commands_that_exist(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert set(re.findall(r"^\s*make (\w+)|`make (\w+)", text, flags=re.M)) != set()
    named = {
        target for pair in re.findall(r"^\s*make (\w+)|`make (\w+)", text, flags=re.M) for target in pair if target
    }
    assert named <= targets()


def version(text: str) -> tuple[int, ...]:
    """A version as numbers, so that 3.9 is below 3.11."""
    return tuple(map(int, text.split(".")))


def untried(workflow: str, pyproject: str, readme: str, requirements: str) -> list[str]:
    """What is out of line between the Pythons that are promised and those that the workflow tries."""
    jobs = yaml.safe_load(workflow)["jobs"]
    quick = jobs["quick"]["strategy"]["matrix"]["python"]
    steps = {name: " ".join(str(step.get("run", "")) for step in job["steps"]) for name, job in jobs.items()}
    project = tomllib.loads(pyproject)["project"]
    classified = [match[1] for c in project["classifiers"] if (match := re.fullmatch(r".* :: Python :: (3\.\d+)", c))]
    oldest = min(quick, key=version)
    promised = re.search(r"Python (3\.\d+) or newer \(tried: ([^)]+)\)", readme)
    wrong = {
        "classifiers of pyproject.toml": classified != quick,
        "requires-python": project["requires-python"] != f">={oldest}",
        "README": promised is None or (promised[1], promised[2].split(", ")) != (oldest, quick),
        "requirements.txt": f"Python {oldest} or newer" not in requirements,
        "make book and make quick with each": not re.search(r"\bbook .*\bquick\b", steps["quick"]),
        "all tests with the oldest": f"make PYTHON=python{oldest} test" not in steps["all"],
        "types": f'python_version = "{oldest}"' not in pyproject,
    }
    return [what for what, holds in wrong.items() if holds]


PROMISES = (".github/workflows/test.yml", "pyproject.toml", "README.md", "requirements.txt")


def test_the_pythons_that_are_promised_are_tried() -> None:
    assert untried(*((ROOT / name).read_text(encoding="utf-8") for name in PROMISES)) == []


@pytest.mark.parametrize(
    ("place", "old", "new"),
    [
        (0, '"3.13"', '"3.14"'),
        (0, '["3.11", "3.12", "3.13"]', '["3.12", "3.13"]'),
        (0, "PYTHON=python3.11 test", "PYTHON=python3.11 quick"),
        (0, "}} quick", "}} book"),
        (1, ":: 3.12", ":: 3.10"),
        (1, ">=3.11", ">=3.12"),
        (2, "3.12, 3.13)", "3.12)"),
        (3, "3.11", "3.12"),
    ],
)
def test_a_python_out_of_line_is_found(place: int, old: str, new: str) -> None:
    texts = [(ROOT / name).read_text(encoding="utf-8") for name in PROMISES]
    assert old in texts[place]
    texts[place] = texts[place].replace(old, new)
    assert untried(*texts) != []


def test_the_readme_names_the_main_commands() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert all(f"make {target}" in text for target in ("book", "lab", "test", "quick", "clean"))


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_documents_link_to_files_that_exist(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#\s]+)", text) if "://" not in link]
    assert [link for link in links if not (ROOT / link).exists()] == []
    named = re.findall(r"`((?:book|tests|tools)/\w+\.\w+)`", text)
    assert [path for path in named if "NN" not in path and not (ROOT / path).exists()] == []


def pins() -> dict[str, str]:
    """Return the pinned versions."""
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    found = {}
    for line in lines:
        if line and not line.startswith("#"):
            match = re.fullmatch(r"([A-Za-z0-9._-]+)==([0-9][\w.]*)", line)
            assert match, f"not an exact pin: {line!r}"
            name = canonicalize_name(match[1])
            assert name not in found, f"pinned twice: {line!r}"
            found[name] = match[2]
    return found


def test_the_pins_are_exact_and_within_the_librarys_ranges() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pinned = pins()
    wanted = [
        *project["dependencies"],
        *(line for extra in project["optional-dependencies"].values() for line in extra),
    ]
    for requirement in map(Requirement, wanted):
        name = canonicalize_name(requirement.name)
        if name != "mnv3lib":
            assert requirement.specifier.contains(pinned[name]), f"{requirement} is pinned to {pinned[name]}"


def test_the_theme_stays() -> None:
    assert pins()["sphinx-book-theme"] == "1.2.0", "later ones add a second header and search box to every page"
    assert pins()["jupyter-book"].startswith("1."), "2 is another program"


def test_files_are_small() -> None:
    files = [path for path in tracked() if path.parent.name != "shipped"]  # checkpoints have a limit of their own
    assert [(path.name, path.stat().st_size) for path in files if path.stat().st_size > LARGEST] == []


def test_no_file_names_a_place_on_the_authors_machine() -> None:
    common = {Path("/"), Path("/tmp"), Path("/home"), Path("/root"), Path("/Users")}
    places = {ROOT, ROOT.parent, Path.home()} - common
    pattern = re.compile("|".join(rf"(?<![\w.-]){re.escape(str(place))}(?![\w-])" for place in places) or r"(?!)")
    found = []
    for path in tracked():
        text = path.read_text(encoding="utf-8", errors="ignore")
        found += [f"{path.relative_to(ROOT)}: {match.group()}" for match in pattern.finditer(text)]
    assert found == []


def calls_on_import(source: str) -> list[str]:
    """Return the calls that a module makes for their effect while it is imported, other than of its decorators."""
    statements = [node for node in ast.parse(source).body if isinstance(node, ast.Expr)]
    said = [ast.unparse(node) for node in statements if isinstance(node.value, ast.Call)]
    return [call for call in said if not call.startswith("takes_options(")]


def test_an_import_changes_nothing_for_others() -> None:
    # A level set for a logger, a filter for warnings, a number of threads: whoever runs next in the process has it.
    modules = [*ROOT.glob("mnv3lib/**/*.py"), *ROOT.glob("book/figures/**/*.py")]
    assert len(modules) > 50
    assert {path.name: found for path in modules if (found := calls_on_import(path.read_text(encoding="utf-8")))} == {}
    assert calls_on_import("import logging\nlogging.getLogger('torch').setLevel(40)") != []


def test_no_script_is_vendored() -> None:
    ours = {"book/_assets", "mnv3lib/explore"}
    scripts = [path.relative_to(ROOT) for path in tracked() if path.suffix in (".js", ".mjs", ".wasm")]
    assert [path for path in scripts if str(path.parent) not in ours] == []
    assert [path for path in scripts if (ROOT / path).stat().st_size > 50_000] == []


def test_the_citation_can_be_read() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == mnv3lib.__version__
    assert {"title", "message", "authors", "license"} <= set(citation)
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    assert citation["title"] == config["title"]
    assert citation["repository-code"] == config["repository"]["url"]
    assert f"## {mnv3lib.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_library_installs_alone(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    library = [path for path in tracked() if path.is_relative_to(ROOT / "mnv3lib")]
    for path in tracked():
        copy = source / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    options = ("--disable-pip-version-check", "--no-input", "--quiet", "--no-deps", "--no-build-isolation")
    run(sys.executable, "-m", "pip", "install", *options, "--target", str(target), str(source))
    assert [path for path in library if not (target / path.relative_to(ROOT)).is_file()] == []
    assert {path.name for path in target.iterdir()} == {"mnv3lib", f"mnv3lib-{mnv3lib.__version__}.dist-info"}
    code = "import mnv3lib, mnv3lib.explore; print(mnv3lib.__file__, mnv3lib.__version__)"
    said = run(sys.executable, "-P", "-c", code, cwd=tmp_path, PYTHONPATH=str(target)).split()
    assert said == [str(target / "mnv3lib" / "__init__.py"), mnv3lib.__version__]


def make(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run make without what an outer make has set."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(["make", *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def test_make_says_what_there_is(tmp_path: Path) -> None:
    place = tmp_path / "a path with spaces"
    place.mkdir()
    shutil.copy(ROOT / "Makefile", place)
    said = make("-C", str(place), cwd=tmp_path).stdout
    assert all(f"  {target} " in said for target in targets())


@pytest.mark.slow
def test_make_refuses_an_old_python_and_an_interrupted_install(tmp_path: Path) -> None:
    place = tmp_path / "a path with spaces"
    place.mkdir()
    shutil.copy(ROOT / "Makefile", place)
    for name in ("requirements.txt", "pyproject.toml"):
        (place / name).touch()
    old = place / "old python"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.9.1\n[ "$1" != -c ]\n', encoding="utf-8")
    old.chmod(0o755)
    refused = make("quick", f"PYTHON={old}", cwd=place)
    assert refused.returncode != 0
    assert "needs Python 3.11 or newer" in refused.stderr
    absent = make("quick", "PYTHON=no-such-python", cwd=place)
    assert absent.returncode != 0
    assert "No no-such-python here" in absent.stderr

    (place / "requirements.txt").write_text("no-such-package @ file:///nowhere/at/all.whl\n", encoding="utf-8")
    failed = make("quick", f"PYTHON={sys.executable}", cwd=place)
    assert failed.returncode != 0
    assert "ERROR:" in failed.stderr, "the log of pip is shown"
    assert "==> Failed:" in failed.stderr
    assert not (place / ".venv" / ".complete").exists()
