"""Would the tests notice? Canonical mistakes are made in a copy of the library, and each must turn a test red.

A mistake is one replacement of text that occurs exactly once, so that a change of the library cannot disarm it
unnoticed. The copy is first on the path of a process that has loaded torch but not the library; that process forks
for every mistake and runs a part of the quick tests, until one fails. The table goes to the proof ledger.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

TESTS = Path(__file__).resolve().parent

#: What runs against each copy, most telling first.
SUITE = (
    "test_parity.py::test_convolution_is_the_paper_s",
    "test_parity.py::test_gate_is_hard",
    "test_parity.py::test_gate_is_theirs_and_the_paper_s",
    "test_parity.py::test_block_is_theirs_and_the_paper_s",
    "test_cost.py::test_known_totals",
    "test_config.py",
    "test_parity.py::test_equal_to_torchvision",
    "test_properties.py::test_any_rows_are_what_the_paper_describes",
    "test_properties.py::test_any_table_is_what_torchvision_builds",
    "test_cost.py::test_layers_equal_the_modules_they_name",
    "test_cost.py::test_receptive_field_is_what_the_gradient_reaches",
    "test_cost.py::test_peak_activations",
    "test_network.py::test_taps_give_the_last_map_of_each_resolution",
)


class Mistake(NamedTuple):
    """One replacement in one file of the library."""

    name: str
    file: str
    old: str
    new: str


MISTAKES = [
    Mistake("no squeeze-and-excitation", "blocks.py", "        if row.use_se:\n", "        if False:\n"),
    Mistake("sigmoid as the gate", "blocks.py", "self.scale_activation = nn.Hardsigmoid()",
            "self.scale_activation = nn.Sigmoid()"),
    Mistake(
        "squeeze-and-excitation before the activation",
        "blocks.py",
        "            layers.append(SqueezeExcitation(expanded, row.squeeze_channels))\n",
        "            act, layers[-1][2] = layers[-1][2], nn.Identity()\n"
        "            layers.append(SqueezeExcitation(expanded, row.squeeze_channels))\n"
        "            layers[-1].register_forward_hook(lambda module, inputs, output: act(output))\n",
    ),
    Mistake("squeeze to a quarter of the block's output", "blocks.py",
            "SqueezeExcitation(expanded, row.squeeze_channels)",
            "SqueezeExcitation(expanded, make_divisible(max(1, row.out_channels // 4)))"),
    Mistake("squeezed width not rounded to 8", "rows.py",
            "        return make_divisible(max(1, self.expanded_channels // 4))",
            "        return max(1, self.expanded_channels // 4)"),
    Mistake("squeeze and excite registered in the other order", "blocks.py",
            "        self.fc1 = nn.Conv2d(channels, squeeze_channels, 1)\n"
            "        self.fc2 = nn.Conv2d(squeeze_channels, channels, 1)\n",
            "        self.fc2 = nn.Conv2d(squeeze_channels, channels, 1)\n"
            "        self.fc1 = nn.Conv2d(channels, squeeze_channels, 1)\n"),
    Mistake("squeeze by a linear layer: the same sums, other bits", "blocks.py",
            "self.fc1(self.avgpool(x))",
            "nn.functional.linear(self.avgpool(x).flatten(1), self.fc1.weight.flatten(1), self.fc1.bias)"
            "[:, :, None, None]"),
    Mistake("no shortcut", "blocks.py", "return y + x if self.use_res_connect else y", "return y"),
    Mistake("shortcut wherever the convolution takes no stride", "rows.py",
            "return self.stride == 1 and self.input", "return self.conv_stride == 1 and self.input"),
    Mistake("ReLU for h-swish", "blocks.py",
            "return nn.Hardswish(inplace=True) if", "return nn.ReLU(inplace=True) if"),
    Mistake("swish for h-swish", "blocks.py",
            "return nn.Hardswish(inplace=True) if", "return nn.SiLU(inplace=True) if"),
    Mistake("activation after the projection", "blocks.py",
            "ConvNormActivation(expanded, row.out_channels, norm=norm)",
            "ConvNormActivation(expanded, row.out_channels, norm=norm, activation=row.activation)"),
    Mistake("batch norm's ε left at 1e-5", "blocks.py", "eps=0.001, ", ""),
    Mistake("batch norm's momentum left at 0.1", "blocks.py", "eps=0.001, momentum=0.01", "eps=0.001"),
    Mistake("dilation without its padding", "blocks.py",
            "zeros = (kernel_size - 1) * positive_int(\"dilation\", dilation)", "zeros = kernel_size - 1"),
    Mistake("kernel 3 where the table says 5", "blocks.py", "kernel_size=row.kernel,", "kernel_size=3,"),
    Mistake("expansion kept where it does not widen", "rows.py",
            "return self.expanded_channels != self.input_channels", "return True"),
    Mistake("stem of stride 1", "network.py", "                stride=2,\n", "                stride=1,\n"),
    Mistake("ε of the configuration ignored", "network.py", "eps=config.norm_eps, ", ""),
    Mistake("momentum of the configuration ignored", "network.py", "momentum=config.norm_momentum)", "momentum=0.01)"),
    Mistake("SAME pads top and left first", "blocks.py",
            "return needed // 2, most - needed // 2", "return (needed + 1) // 2, most - (needed + 1) // 2"),
    Mistake("SAME on odd sides too as on even ones", "blocks.py",
            "needed = most - (size - 1) % self.stride[0]", "needed = most - 1"),
    Mistake("SAME in the blocks, not in the stem", "network.py", "                padding=config.padding,\n", ""),
    Mistake("stochastic depth also outside training", "blocks.py", "if not self.training or self.rate == 0:",
            "if self.rate == 0:"),
    Mistake("stochastic depth for the whole batch at once", "blocks.py",
            "torch.empty(x.shape[0], dtype", "torch.empty(1, dtype"),
    Mistake("what stochastic depth keeps is not scaled", "blocks.py",
            "scale = kept / (1 - self.rate) if self.rate < 1 else kept", "scale = kept"),
    Mistake("stochastic depth as often in the first block as in the last", "config.py",
            "self.stochastic_depth * number / len(self.rows)", "self.stochastic_depth"),
    Mistake("no activation in the head", "network.py", "            activation_layer(config.activation),\n",
            "            nn.Identity(),\n"),
    Mistake("dropout after the last linear layer", "network.py",
            "            nn.Dropout(config.dropout, inplace=config.activation == \"HS\"),\n"
            "            nn.Linear(config.last_channel, config.num_classes),\n",
            "            nn.Linear(config.last_channel, config.num_classes),\n"
            "            nn.Dropout(config.dropout, inplace=config.activation == \"HS\"),\n"),
    Mistake("initialised by fan-in", "network.py", 'mode="fan_out"', 'mode="fan_in"'),
    Mistake("nearest multiple of 8 without the 90 % rule", "rows.py",
            "return rounded if rounded >= 0.9 * channels else rounded + divisor", "return rounded"),
    Mistake("rounding down instead of to the nearest", "rows.py", "int(channels + divisor / 2)", "int(channels)"),
    Mistake("last convolution six times its block's input", "_scaling.py",
            "return scaled, 6 * scaled[-1].out_channels,", "return scaled, 6 * scaled[-1].input_channels,"),
    Mistake("reduced tail halves the first expansion too", "_scaling.py",
            "halved = [replace(rows[start], out_channels",
            "halved = [replace(rows[start], expanded_channels=rows[start].expanded_channels // 2, out_channels"),
    Mistake("the paper's rule thins the head", "_scaling.py", "last_channel * max(1.0, width)", "last_channel * width"),
    Mistake("timm's rule thins the stem", "_scaling.py", 'printed_stem = self.rounding == "timm" and width < 0.75',
            "printed_stem = False"),
    Mistake("timm's rule widens the head", "_scaling.py",
            'last_channel if self.rounding == "timm" else ', ""),
    Mistake("dilation policies swapped", "_scaling.py",
            'dilation=2) if policy == "torchvision" else', 'dilation=2) if policy == "paper" else'),
    Mistake("depthwise counted as a full convolution", "_walk.py",
            "weights = out * (channels // groups) * kernel", "weights = out * channels * kernel"),
    Mistake("batch norm's parameters not counted", "_walk.py", "weights + 2 * out, ", "weights, "),
    Mistake("biases not counted", "_walk.py", "weights + out, weights, saved", "weights, weights, saved"),
    Mistake("map sides rounded down", "_walk.py", "-(-height // stride), -(-width // stride)",
            "height // stride, width // stride"),
    Mistake("receptive field without dilation", "_walk.py", "(kernel - 1) * dilation * self.output_stride",
            "(kernel - 1) * self.output_stride"),
    Mistake("memory of the shortcut forgotten", "_walk.py", "before + after + self.shortcut)", "before + after)"),
    Mistake("taps one layer late", "network.py", "            if index in self.indices:\n",
            "            if index - 1 in self.indices:\n"),
]  # fmt: skip
QUICK = ("sigmoid as the gate", "nearest multiple of 8 without the 90 % rule")
RUNNER = {"OMP_NUM_THREADS": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONDONTWRITEBYTECODE": "1"}


class Outcome(NamedTuple):
    """What became of one run of the suite."""

    status: int
    failed: list[str]
    errors: list[str]
    library: list[str]
    log: str


# --- inside the runner ------------------------------------------------------------------------------------------------


class Witness:
    """A pytest plugin that notes which tests failed, and which files of the library were loaded."""

    def __init__(self) -> None:
        self.failed: list[str] = []
        self.errors: list[str] = []

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed and report.when == "call":
            self.failed.append(report.nodeid)
        elif report.failed and report.nodeid not in self.failed:  # a test that failed leaves fixtures unfinished
            self.errors.append(report.nodeid)

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            self.errors.append(report.nodeid)


def run_suite(copy: Path) -> None:
    """Run the suite against the library in ``copy`` and leave ``outcome.json`` and ``log.txt`` beside it."""
    log = os.open(copy / "log.txt", os.O_WRONLY | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.path.insert(0, str(copy))
    witness = Witness()
    options = ["-x", "-q", "-m", "not slow", "-p", "no:cacheprovider", "--rootdir", str(TESTS.parent)]
    status = pytest.main(options + [str(TESTS / target) for target in SUITE], plugins=[witness])
    names = [name for name in sys.modules if name.partition(".")[0] == "mnv3lib"]
    library = [str(getattr(sys.modules[name], "__file__", None)) for name in names]
    outcome = {"status": int(status), "failed": witness.failed, "errors": witness.errors, "library": library}
    (copy / "outcome.json").write_text(json.dumps(outcome))


def serve() -> None:
    """Load what takes long, then fork for each folder named on a line of input and answer when it is done."""
    import hypothesis
    import torch.utils.flop_counter
    import torchvision.models  # noqa: F401

    phases = [hypothesis.Phase.explicit, hypothesis.Phase.generate]  # no search for a smaller example
    hypothesis.settings.register_profile("mutants", phases=phases)
    hypothesis.settings.load_profile("mutants")

    torch.set_num_threads(1)
    with torch.device("meta"), torch.utils.flop_counter.FlopCounterMode(display=False):
        torch.nn.Sequential(torch.nn.Conv2d(1, 1, 1), torch.nn.BatchNorm2d(1))(torch.empty(2, 1, 3, 3))
    assert not [name for name in sys.modules if name.startswith("mnv3lib")]
    print("ready", flush=True)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            try:
                run_suite(Path(line.strip()))
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(0)
        os.waitpid(child, 0)
        print("done", flush=True)


# --- the tests --------------------------------------------------------------------------------------------------------

Try = Callable[[Mistake | None], Outcome]


@pytest.fixture(scope="module")
def attempt(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Try]:
    """Run the suite against a copy of the library with one mistake in it, or with none."""
    if not hasattr(os, "fork"):
        pytest.skip("needs os.fork")
    import mnv3lib

    original = Path(mnv3lib.__file__).parent
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "PYTHONPATH"))}
    command = [sys.executable, "-P", str(Path(__file__).resolve())]  # -P: not the folder of the tests
    server = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=tmp_path_factory.mktemp("elsewhere"),
        env={**inherited, **RUNNER},
    )
    assert server.stdin
    assert server.stdout
    assert server.stdout.readline() == "ready\n"

    def run(mistake: Mistake | None) -> Outcome:
        copy = tmp_path_factory.mktemp("copy")
        skip = shutil.ignore_patterns("__pycache__", "explore")
        shutil.copytree(original, copy / "mnv3lib", ignore=skip)
        if mistake:
            path = copy / "mnv3lib" / mistake.file
            text = path.read_text(encoding="utf-8")
            path.write_text(text.replace(mistake.old, mistake.new), encoding="utf-8")
        server.stdin.write(f"{copy}\n")
        server.stdin.flush()
        assert server.stdout.readline() == "done\n"
        log = (copy / "log.txt").read_text(encoding="utf-8")
        assert (copy / "outcome.json").exists(), log
        outcome = Outcome(**json.loads((copy / "outcome.json").read_text()), log=log)
        assert outcome.library, log
        assert all(Path(file).is_relative_to(copy) for file in outcome.library), "the copy was not what ran"
        return outcome

    yield run
    server.stdin.close()
    server.wait()
    server.stdout.close()


def caught_by(outcome: Outcome) -> str | None:
    """The test that failed, e.g. "test_parity.py::test_gate_is_hard"; None if the mistake went unnoticed."""
    assert not outcome.errors, f"broken, not wrong:\n{outcome.log}"
    assert outcome.status == (1 if outcome.failed else 0), outcome.log
    return outcome.failed[0].partition("/")[2].partition("[")[0] if outcome.failed else None


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
def test_mistakes_fit_the_library(mistake: Mistake) -> None:
    import mnv3lib

    text = (Path(mnv3lib.__file__).parent / mistake.file).read_text(encoding="utf-8")
    assert text.count(mistake.old) == 1
    compile(text.replace(mistake.old, mistake.new), mistake.file, "exec")


def test_names_differ() -> None:
    assert len({mistake.name for mistake in MISTAKES}) == len(MISTAKES) >= 18
    assert set(QUICK) <= {mistake.name for mistake in MISTAKES}


@pytest.mark.parametrize("name", QUICK)
def test_two_mistakes_are_caught(name: str, attempt: Try) -> None:
    (mistake,) = [mistake for mistake in MISTAKES if mistake.name == name]
    assert caught_by(attempt(mistake))


@pytest.mark.slow
def test_every_mistake_is_caught(attempt: Try, record_property: Callable[[str, object], None]) -> None:
    control = attempt(None)
    assert caught_by(control) is None, control.log
    table = [
        {"mistake": mistake.name, "file": mistake.file, "caught_by": caught_by(attempt(mistake))}
        for mistake in MISTAKES
    ]
    record_property("mutants", table)
    assert [row["mistake"] for row in table if row["caught_by"] is None] == []


if __name__ == "__main__":
    serve()
