"""Would the quick tests notice? Cosmic Ray changes the library at random places, and each change must turn a test red.

    python tools/mutants.py ROOM [--sample 100] [--seed 0] [--jobs 1] [--only FILE]

A mutant is one change of one file: another operator, another number, a decorator or a loop left out. The tests that
belong to its room (``ROOMS``) run against a copy of the library with the change in it, until one fails; the working
tree is never touched. A process that has loaded torch, but not the library, forks for each mutant, so that nothing is
loaded twice. A first run without a change notes which tests reach which lines; against a mutant only those that reach
its lines are run, the shortest first. Mutants that do the same as the library are listed, with the reason, in
``tools/equivalent_mutants.toml``.

Fails if fewer than 85 % are killed. Left out are changes of annotations, which nothing reads at run time.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
import traceback
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from types import MappingProxyType
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
LIBRARY = ROOT / "mnv3lib"
FIGURES = ROOT / "book" / "figures"
EQUIVALENT = Path(__file__).with_name("equivalent_mutants.toml")
BAR = 0.85
LIMIT = 600  # seconds for the run without a change
#: Seconds for a mutant, beside three times what its tests take without it; one that runs longer counts as killed.
PATIENCE = 30


class Room(NamedTuple):
    """Files of the library, as patterns, and the tests that belong to them; only their quick ones are run."""

    files: tuple[str, ...]
    tests: tuple[str, ...]


ROOMS = {
    "config": Room(
        ("rows.py", "config.py", "_scaling.py", "_checks.py"),
        ("test_checks.py", "test_rows_at_the_edges.py", "test_config.py", "test_cost.py"),
    ),
    "cost": Room(
        ("cost.py", "_walk.py"),
        ("test_rows_at_the_edges.py", "test_cost.py", "test_segmentation.py", "test_costs_*.py"),
    ),
    "blocks": Room(
        ("blocks.py",), ("test_blocks_at_the_edges.py", "test_parity.py", "test_network.py", "test_properties.py")
    ),
    "network": Room(("network.py",), ("test_blocks_at_the_edges.py", "test_parity.py", "test_network.py")),
    "recipe": Room(("recipe/*.py",), ("test_recipe.py", "test_schedule.py", "test_published.py")),
    "data": Room(
        ("data/*.py",),
        ("test_scene_cache.py", "test_coco.py", "test_voc.py", "test_folder.py", "test_listing.py", "test_reading.py",
         "test_cifar.py", "test_datasets.py", "test_scenes.py"),
    ),
    "deploy": Room(
        ("deploy/*.py", "deploy/engine/*.py", "pointwise.py"),
        ("test_latency.py", "test_roofline.py", "test_fold.py", "test_pointwise.py", "test_engine.py",
         "test_optimize.py", "test_export.py", "test_deploy_cli.py", "test_qat.py", "test_quantize.py", "test_table.py",
         "test_breakdown.py"),
    ),
    "tasks": Room(
        ("heads.py", "detectors.py", "tasks/*.py"),
        ("test_tasks*.py", "test_augment.py", "test_segmentation.py", "test_detection.py"),
    ),
    "weights": Room(("weights/*.py",), ("test_weight*.py", "test_downloads.py", "test_shipped.py")),
    "wild": Room(("wild/*.py",), ("test_wild.py", "test_portrait.py")),
    "training": Room(
        ("training/*.py",),
        ("test_reproducible.py", "test_optimisers.py", "test_averaging.py", "test_augment.py", "test_checkpoint.py",
         "test_loop.py", "test_resume.py", "test_memory.py", "test_plan.py", "test_distributed.py",
         "test_training_cli.py"),
    ),
}  # fmt: skip
#: What the server loads before it forks; of these nothing imports the library.
HEAVY = (
    "hypothesis", "matplotlib.figure", "numpy", "PIL.Image", "pytest", "scipy.ndimage", "timm.models.mobilenetv3",
    "torch.utils.flop_counter", "torchvision.models", "torchvision.transforms.v2", "yaml",
)  # fmt: skip
OPTIONS = (
    "-x", "-q", "-m", "not slow and not browser", "-p", "no:cacheprovider", "-p", "no:ledger", "--rootdir", str(ROOT),
)  # fmt: skip
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONDONTWRITEBYTECODE": "1"}


def original(file: str) -> Path:
    """A file by its name in the library, e.g. ``"cost.py"``, or ``"figures/data.py"`` for one of the book's."""
    return ROOT / "book" / file if file.startswith("figures/") else LIBRARY / file


def in_copy(file: str) -> str:
    """Where that file is in a copy of the library."""
    return file if file.startswith("figures/") else f"mnv3lib/{file}"


class Mutant(NamedTuple):
    """One change: the file, beside the lines that go and those that come."""

    file: str
    line: int
    old: str
    new: str
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}\n  - {self.old}\n  + {self.new}"


class Outcome(NamedTuple):
    """What became of one run of the tests."""

    status: int
    failed: list[str]
    errors: list[str]
    library: list[str]
    log: str
    seconds: Mapping[str, float] = MappingProxyType({})  # what each test took
    lines: Mapping[str, dict[str, list[int]]] = MappingProxyType({})  # for each test, or "import", those it reached
    hung: bool = False

    @property
    def killed_by(self) -> str | None:
        """The test that failed; None if all passed."""
        if self.hung:
            return "the limit of time"
        if self.status == 0:
            return None
        by = [*self.failed, *self.errors]
        assert by, f"the tests did not run:\n{self.log}"
        return by[0]


# --- mutants ----------------------------------------------------------------------------------------------------------


class _WithoutAnnotations(ast.NodeTransformer):
    """Drops what a change of cannot be seen at run time under ``from __future__ import annotations``."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        node.annotation = ast.Constant(None)
        return self.generic_visit(node)


def meaning(text: str) -> str:
    """What remains of a source without annotations and layout."""
    return ast.dump(_WithoutAnnotations().visit(ast.parse(text)))


def places_of(file: str) -> list[tuple[str, str, int]]:
    """Where a file of the library can be changed: file, operator of Cosmic Ray, and its occurrence."""
    from cosmic_ray import plugins
    from cosmic_ray.ast import ast_nodes, get_ast

    nodes = list(ast_nodes(get_ast(original(file).read_text(encoding="utf-8"))))
    kinds = {name: plugins.get_operator(name) for name in plugins.operator_names()}
    free = {name: kind() for name, kind in kinds.items() if not kind.arguments()}
    numbers = {name: sum(len(list(kind.mutation_positions(node))) for node in nodes) for name, kind in free.items()}
    return [(file, name, occurrence) for name, number in numbers.items() for occurrence in range(number)]


def mutant_at(file: str, name: str, occurrence: int) -> Mutant | None:
    """The mutant of a place; None if it is no Python, or differs in annotations alone."""
    from cosmic_ray import plugins
    from cosmic_ray.mutating import mutate_code

    source = original(file).read_text(encoding="utf-8")
    text = mutate_code(source, plugins.get_operator(name)(), occurrence)
    try:
        if not text or meaning(text) == meaning(source):
            return None
    except SyntaxError:
        return None
    return Mutant(file, *_difference(source.splitlines(), text.splitlines()), text)


def _difference(before: Sequence[str], after: Sequence[str]) -> tuple[int, str, str]:
    """The first line that differs, and all that go and come, each as one string.

    With a decorator go the empty lines and comments above it, which no test reaches; the line is the decorator's.
    """
    blocks = [code for code in difflib.SequenceMatcher(None, before, after).get_opcodes() if code[0] != "equal"]
    gone = [place for _, a, b, _, _ in blocks for place in range(a, b) if before[place].partition("#")[0].strip()]
    old = " ".join(line.strip() for _, a, b, _, _ in blocks for line in before[a:b])
    new = " ".join(line.strip() for _, _, _, a, b in blocks for line in after[a:b])
    return (gone[0] if gone else blocks[0][1]) + 1, old, new


def equivalents(path: Path = EQUIVALENT) -> dict[tuple[str, str, str], str]:
    """The mutants that do what the library does: (file, old, new) and the reason."""
    listed = tomllib.loads(path.read_text(encoding="utf-8")).get("mutant", [])
    return {(each["file"], each["old"], each["new"]): each["why"] for each in listed}


# --- inside the server ------------------------------------------------------------------------------------------------


class Witness:
    """A pytest plugin that notes which tests failed, what each took and, if asked, which lines it reached.

    Args:
        copy: where the library is.
        watched: its files whose lines are to be noted.
        chosen: the tests to run, in this order; all if there are none.
    """

    def __init__(self, copy: Path, watched: Sequence[str], chosen: Sequence[str]) -> None:
        self.watched = {str(copy / in_copy(file)): file for file in watched}
        self.chosen = {name: place for place, name in enumerate(chosen)}
        self.failed: list[str] = []
        self.errors: list[str] = []
        self.seconds: dict[str, float] = {}
        self.lines: dict[str, dict[str, set[int]]] = {}
        self._watch("import")

    def _watch(self, test: str) -> None:
        if not self.watched:
            return
        reached = self.lines[test] = {file: set() for file in self.watched.values()}

        def enter(frame: Any, event: str, argument: Any) -> Any:
            file = self.watched.get(frame.f_code.co_filename)
            if file is None:
                return None
            seen = reached[file]

            def step(frame: Any, event: str, argument: Any) -> Any:
                seen.add(frame.f_lineno)
                return step

            return step(frame, event, argument)

        sys.settrace(enter)
        threading.settrace(enter)

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        if self.chosen:
            items[:] = [item for item in items if item.nodeid in self.chosen]
            items.sort(key=lambda item: self.chosen[item.nodeid])

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._watch(nodeid)

    def pytest_runtest_logreport(self, report: Any) -> None:
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0.0) + report.duration
        if report.failed and report.when == "call":
            self.failed.append(report.nodeid)
        elif report.failed and report.nodeid not in self.failed:  # a test that failed leaves fixtures unfinished
            self.errors.append(report.nodeid)

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            self.errors.append(report.nodeid)

    def pytest_internalerror(self, excinfo: Any) -> None:
        if excinfo.errisinstance(SystemExit):  # which pytest takes for a fault of its own while it collects
            self.errors.append("an import that ends Python")


def _run_tests(copy: Path, tests: Sequence[str], watched: Sequence[str], chosen: Sequence[str]) -> None:
    """Run tests against the library in ``copy``, and leave ``outcome.json`` and ``log.txt`` beside it."""
    import pytest

    log = os.open(copy / "log.txt", os.O_WRONLY | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.path.insert(0, str(copy))
    os.environ["PYTHONPATH"] = str(copy)  # for what the tests start
    os.chdir(copy)
    witness = Witness(copy, watched, chosen)
    options = [*OPTIONS, "--basetemp", str(copy / "tmp"), "-o", f"pythonpath={copy}"]
    status = pytest.main([*options, *(str(ROOT / "tests" / test) for test in tests)], plugins=[witness])
    sys.settrace(None)
    names = [name for name in sys.modules if name.partition(".")[0] in ("mnv3lib", "figures")]
    outcome = {
        "status": int(status),
        "failed": witness.failed,
        "errors": witness.errors,
        "library": [str(getattr(sys.modules[name], "__file__", None)) for name in names],
        "seconds": witness.seconds,
        "lines": {test: {file: sorted(n) for file, n in found.items()} for test, found in witness.lines.items()},
    }
    (copy / "outcome.json").write_text(json.dumps(outcome))


def serve() -> None:
    """Load what takes long, then fork for each order on a line of input and answer when it is done."""
    import importlib

    for name in HEAVY:
        importlib.import_module(name)
    import hypothesis
    import torch

    phases = [hypothesis.Phase.explicit, hypothesis.Phase.generate]  # no search for a smaller example
    hypothesis.settings.register_profile("mutants", phases=phases, database=None, derandomize=True)
    hypothesis.settings.load_profile("mutants")
    torch.set_num_threads(1)
    with torch.device("meta"), torch.utils.flop_counter.FlopCounterMode(display=False):
        torch.nn.Sequential(torch.nn.Conv2d(1, 1, 1), torch.nn.BatchNorm2d(1))(torch.empty(2, 1, 3, 3))
    assert not [name for name in sys.modules if name.startswith("mnv3lib")]
    print("ready", flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            os.setsid()  # so that what hangs can be ended with all that it started
            try:
                _run_tests(Path(order["copy"]), order["tests"], order["watched"], order["chosen"])
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(0)
        hung = not _ended(child, order["limit"])
        print("hung" if hung else "done", flush=True)


def _ended(child: int, seconds: float) -> bool:
    """Wait for a process, at most so long; then end its group."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if os.waitpid(child, os.WNOHANG)[0]:
            return True
        time.sleep(0.02)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


# --- outside of it ----------------------------------------------------------------------------------------------------


class Runner:
    """A server, and a folder for the copies that it runs; to be closed."""

    def __init__(self, folder: Path) -> None:
        if not hasattr(os, "fork"):
            raise NotImplementedError("mutants are run by forks of a process, and this system has none")
        self.folder = folder
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "PYTHONPATH"))}
        self.server = subprocess.Popen(
            [sys.executable, "-P", __file__, "--serve"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=folder, env={**inherited, **ENVIRONMENT},
        )  # fmt: skip
        assert self._answer() == "ready\n"

    def _answer(self) -> str:
        assert self.server.stdout is not None
        return self.server.stdout.readline()

    def __call__(
        self,
        changed: dict[str, str],
        tests: Sequence[str],
        *,
        watched: Sequence[str] = (),
        chosen: Sequence[str] = (),
        limit: float = LIMIT,
    ) -> Outcome:
        """Run tests against a copy of the library and the book's figures in which some files have another text."""
        copy = Path(tempfile.mkdtemp(dir=self.folder))
        try:
            shutil.copytree(LIBRARY, copy / "mnv3lib")
            shutil.copytree(FIGURES, copy / "figures")
            for file, text in changed.items():
                (copy / in_copy(file)).write_text(text, encoding="utf-8")
            assert self.server.stdin is not None
            order = {"tests": [*tests], "watched": [*watched], "chosen": [*chosen], "limit": limit}
            self.server.stdin.write(json.dumps({"copy": str(copy), **order}) + "\n")
            self.server.stdin.flush()
            answer = self._answer()
            log = (copy / "log.txt").read_text(encoding="utf-8", errors="replace")
            if answer == "hung\n":
                return Outcome(-1, [], [], [], log, hung=True)
            assert answer == "done\n", answer
            if not (copy / "outcome.json").exists():
                return Outcome(-1, [], ["the process died"], [], log)
            outcome = Outcome(**json.loads((copy / "outcome.json").read_text()), log=log)
            strays = [file for file in outcome.library if not Path(file).is_relative_to(copy)]
            assert not strays, f"not the copy was what ran: {strays}"
            return outcome
        finally:
            shutil.rmtree(copy, ignore_errors=True)

    def close(self) -> None:
        assert self.server.stdin is not None
        assert self.server.stdout is not None
        self.server.stdin.close()
        self.server.wait()
        self.server.stdout.close()


@dataclass
class Tally:
    """What became of the mutants of a room."""

    killed: list[tuple[Mutant, str]] = field(default_factory=list)
    survived: list[Mutant] = field(default_factory=list)
    equivalent: list[Mutant] = field(default_factory=list)

    @property
    def rate(self) -> float:
        judged = len(self.killed) + len(self.survived)
        return len(self.killed) / judged if judged else 1.0


def lines_of(mutant: Mutant) -> set[int]:
    """The lines of the innermost statement that a mutant changes, of a compound one those of its head."""
    tree = ast.parse(original(mutant.file).read_text(encoding="utf-8"))
    ranges = []
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt):
            body = getattr(node, "body", None)
            end = max(node.lineno, body[0].lineno - 1) if body else node.end_lineno or node.lineno
            start = min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", ()))])
            if start <= mutant.line <= end:
                ranges.append((end - start, start, end))
    _, start, end = min(ranges, default=(0, mutant.line, mutant.line))
    return set(range(start, end + 1))


def telling(mutant: Mutant, control: Outcome) -> list[str]:
    """The tests that reach a mutant's lines, the shortest first; all of them if these run at import."""
    wanted = lines_of(mutant)
    at_import = wanted & {*control.lines["import"].get(mutant.file, ())}
    reach = [test for test in control.seconds if wanted & {*control.lines[test].get(mutant.file, ())}]
    return sorted(control.seconds if at_import else reach, key=control.seconds.__getitem__)


def judge(mutants: Sequence[Mutant], tests: Sequence[str], *, jobs: int = 1) -> Tally:
    """Run tests against each mutant, over several processes."""
    tally, listed = Tally(), equivalents()
    runners: SimpleQueue[Runner] = SimpleQueue()

    def one(mutant: Mutant) -> tuple[Mutant, Outcome]:
        chosen = telling(mutant, control)
        if not chosen:
            return mutant, Outcome(0, [], [], [], "no test reaches it")
        files = [name for name in tests if any(test.startswith(f"tests/{name}") for test in chosen)]
        limit = PATIENCE + 3 * sum(control.seconds[test] for test in chosen)
        runner = runners.get()
        try:
            return mutant, runner({mutant.file: mutant.text}, files, chosen=chosen, limit=limit)
        finally:
            runners.put(runner)

    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(jobs) as pool:
        started = [Runner(Path(folder)) for _ in range(jobs)]
        try:
            control = started[0]({}, tests, watched=sorted({mutant.file for mutant in mutants}))
            if control.status:
                sys.exit(f"{', '.join(tests)} fail without any change:\n{control.log}")
            for runner in started:
                runners.put(runner)
            tried = []
            for mutant in mutants:
                same = (mutant.file, mutant.old, mutant.new) in listed
                (tally.equivalent if same else tried).append(mutant)
            for mutant, outcome in pool.map(one, tried):
                if outcome.killed_by is None:
                    tally.survived.append(mutant)
                    print(f"survived  {mutant}", flush=True)
                else:
                    tally.killed.append((mutant, outcome.killed_by))
        finally:
            for runner in started:
                runner.close()
    return tally


def expanded(patterns: Iterable[str], folder: Path) -> list[str]:
    """The files of a folder that match, by their names in it."""
    return [str(path.relative_to(folder)) for pattern in patterns for path in sorted(folder.glob(pattern))]


def sample(room: str, number: int, seed: int, only: str | None = None) -> list[Mutant]:
    """A random sample of a room's mutants, the same whenever the room is the same."""
    files = [file for file in expanded(ROOMS[room].files, LIBRARY) if only in (None, file)]
    places = [place for file in files for place in places_of(file)]
    random.Random(seed).shuffle(places)
    found: dict[tuple[str, str], Mutant] = {}
    for place in places:
        mutant = mutant_at(*place) if len(found) < number else None
        if mutant is not None:
            found.setdefault((mutant.file, meaning(mutant.text)), mutant)
    print(f"{room}: {len(found)} mutants, of {len(places)} places", flush=True)
    return sorted(found.values())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("room", choices=sorted(ROOMS))
    parser.add_argument("--sample", type=int, default=100, help="how many mutants to try")
    parser.add_argument("--seed", type=int, default=0, help="of the random choice")
    parser.add_argument("--jobs", type=int, default=1, help="processes at once")
    parser.add_argument("--only", metavar="FILE", help="one file of the room")
    options = parser.parse_args()
    began = time.monotonic()
    mutants = sample(options.room, options.sample, options.seed, options.only)
    tally = judge(mutants, expanded(ROOMS[options.room].tests, ROOT / "tests"), jobs=options.jobs)
    print(
        f"{options.room}: {len(tally.killed)} killed, {len(tally.survived)} survived, {len(tally.equivalent)} "
        f"equivalent; {tally.rate:.0%} killed; {time.monotonic() - began:.0f} s"
    )
    killers = Counter(by.partition("[")[0].rpartition("/")[2] for _, by in tally.killed)
    print("killed by", ", ".join(f"{test} ({number})" for test, number in killers.most_common()))
    return 0 if tally.rate >= BAR else 1


if __name__ == "__main__":
    if sys.argv[1:] == ["--serve"]:
        serve()
    else:
        sys.exit(main())
