"""The command line of speed and files: what it makes of its arguments, and that it says in a line what is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from networks import pictures, small_network
from reference import same_bits
from torch import Tensor, nn

from mnv3lib import weights
from mnv3lib.deploy import Exported, ExportError, Unavailable
from mnv3lib.deploy import __main__ as commands
from mnv3lib.deploy.__main__ import main, network, parser


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return weights.save(small_network(), tmp_path / "mine.safetensors", classes=["a", "b", "c", "d"])


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """What the commands would do."""
    found: dict[str, Any] = {}

    def export(model: nn.Module, path: Path, example: Tensor, **options: Any) -> Exported:
        found.update(model=model, path=path, example=example, **options)
        return Exported(path, path.with_name(path.name + ".json"), 1.5e-6)

    def optimize(model: nn.Module, example: Tensor, precision: str, **options: Any) -> str:
        found.update(model=model, example=example, precision=precision, **options)
        return "the report"

    monkeypatch.setattr(commands, "export", export)
    monkeypatch.setattr(commands, "optimize", optimize)
    monkeypatch.chdir(tmp_path)
    return found


def test_a_checkpoint_is_exported(asked: dict[str, Any], checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["export", str(checkpoint), "--to", "pt2", "--size", "48x33", "--batch", "2", "--precision", "bf16"]
    assert main([*arguments, "--values", "grey", "--threads", "2"]) == 0
    assert asked["threads"] == 2
    assert (asked["path"], asked["to"], asked["precision"], asked["values"]) == (
        Path("mine.pt2"),
        "pt2",
        "bf16",
        "grey",
    )
    assert asked["example"].shape == (2, 3, 48, 33)
    assert asked["example"].std() > 0.5
    assert not asked["model"].training
    assert asked["model"].classes == ("a", "b", "c", "d")
    images = pictures(2, 3, 48, 33)
    with torch.no_grad():
        assert same_bits(asked["model"](images), small_network()(images))
    said = capsys.readouterr()
    assert said.out == "mine.pt2: logits within 1.5e-06 standard deviations of the network's; mine.pt2.json says more\n"
    assert said.err == ""
    example = asked["example"]
    assert main([*arguments, "--out", "other.pt2"]) == 0
    assert asked["path"] == Path("other.pt2")
    assert same_bits(asked["example"], example), "the same images every time"


def test_a_name_is_measured(asked: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["benchmark", "mobilenet_v3_small", "--width", "0.5", "--num-classes", "3", "--reduced-tail"]) == 0
    assert asked["model"].config == weights.config_for(
        "mobilenet_v3_small", width_mult=0.5, num_classes=3, reduced_tail=True
    )
    assert asked["example"].shape == (1, 3, 224, 224)
    assert (asked["precision"], asked["threads"], asked["rounds"]) == ("fp32", 1, 15)
    said = capsys.readouterr()
    assert said.out == "the report\n"
    assert "the weights are fresh" in said.err
    more = ["--precision", "bf16", "--threads", "2", "--rounds", "5", "--size", "160", "--batch", "4"]
    assert main(["benchmark", "shipped:digitscenes_small_050", *more]) == 0
    assert asked["example"].shape == (4, 3, 160, 160)
    assert (asked["precision"], asked["threads"], asked["rounds"]) == ("bf16", 2, 5)
    assert "fresh" not in capsys.readouterr().err


def test_weights_for_a_name(tmp_path: Path) -> None:
    torch.manual_seed(3)
    made = weights.network_for("mobilenetv3_small_050", num_classes=1000)
    torch.save(made.state_dict(), tmp_path / "plain.pth")
    arguments = ["benchmark", "mobilenetv3_small_050.lamb_in1k", "--weights", str(tmp_path / "plain.pth")]
    found = network(parser().parse_args(arguments))
    assert same_bits(found.state_dict()["features.0.0.weight"], made.state_dict()["features.0.0.weight"])
    assert not found.training


def test_names_of_files(asked: dict[str, Any]) -> None:
    for name, path in (
        ("shipped:digitscenes_small_050", "digitscenes_small_050.onnx"),
        ("mobilenetv3_small_050.lamb_in1k", "mobilenetv3_small_050.lamb_in1k.onnx"),
    ):
        assert main(["export", name, "--to", "onnx"]) == 0
        assert asked["path"] == Path(path)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "the following arguments are required: benchmark|export"),
        (["exprot", "x"], "invalid choice: 'exprot'"),
        (["export"], "the following arguments are required: NETWORK"),
        (["export", "mobilenet_v3_small"], "--to or --out must be given"),
        (["export", "mobilenet_v3_small", "--to", "tflite"], "argument --to: invalid choice: 'tflite'"),
        (["export", "mobilenet_v3_small", "--out", "a.txt"], "path must end in one of '.onnx', '.xml', '.pte', '.pt2'"),
        (["export", "mobilenet_v3_small", "--to", "pt2", "--out", "a.pte"], "path must end in '.pt2' for 'pt2'"),
        (
            ["export", "mobilenet_v3_small", "--to", "onnx", "--precision", "bf16"],
            "precision for 'onnx' must be one of 'fp32', 'int8', got 'bf16'",
        ),
        (["benchmark", "mobilenet_v3_smal"], "did you mean 'mobilenet_v3_small'?"),
        (["benchmark", "nowhere.pth"], "NETWORK must be a checkpoint that is there, or a name"),
        (["benchmark", "mobilenetv3_rw"], "it is an earlier variant"),
        (["benchmark", "shipped:nothing"], "'nothing'"),
        (["benchmark", "hf-hub:nonsense"], "nonsense"),
        (["benchmark", "CHECKPOINT", "--width", "0.5"], "--width-mult must not be given for a checkpoint"),
        (["benchmark", "CHECKPOINT", "--weights", "a.pth"], "--weights goes with the name of a network"),
        (
            ["benchmark", "mobilenet_v3_small", "--weights", "CHECKPOINT", "--num-classes", "3"],
            "--num-classes must not be given with --weights",
        ),
        (["benchmark", "mobilenet_v3_small", "--weights", "CHECKPOINT"], "nothing was loaded"),
        (["benchmark", "mobilenet_v3_small", "--weights", "nowhere.pth"], "there is no weight file at nowhere.pth"),
        (["benchmark", "mobilenetv3_small_050", "--width", "0.5"], "width_mult must not be given"),
        (["benchmark", "mobilenet_v3_small", "--width", "-1"], "width_mult must be a finite number > 0, got -1.0"),
        (["benchmark", "mobilenet_v3_small", "--size", "0"], "argument --size: must be a number of pixels or two"),
        (["benchmark", "mobilenet_v3_small", "--size", "9x"], "as in 160 or 128x256, got '9x'"),
        (["benchmark", "mobilenet_v3_small", "--batch", "0"], "--batch must be an integer from 1 to 65536, got 0"),
        (["benchmark", "mobilenet_v3_small", "--rounds", "4"], "--rounds must be an integer from 5 to 1000000, got 4"),
        (["benchmark", "mobilenet_v3_small", "--threads", "0"], "--threads must be an integer from 1 to "),
    ],
)
def test_bad_arguments(
    arguments: list[str], words: str, asked: dict[str, Any], checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main([str(checkpoint) if word == "CHECKPOINT" else word for word in arguments])
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert words in said, said
    assert not asked


@pytest.mark.parametrize(
    ("problem", "status", "line"),
    [
        (Unavailable("it needs a thing"), 1, "error: it needs a thing"),
        (ExportError("it strays"), 1, "error: it strays"),
        (PermissionError(13, "cannot be written (Permission denied)", "x.onnx"), 1, "error: [Errno 13] cannot be writ"),
        (ValueError("example must be"), 1, "error: example must be"),
        (MemoryError(), 1, "error: not enough memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), 1, "error: not enough memory"),
        (KeyboardInterrupt(), 130, "stopped; nothing was left behind"),
    ],
)
def test_what_fails_is_told_in_a_line(
    problem: BaseException,
    status: int,
    line: str,
    checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fails(*arguments: Any, **options: Any) -> None:
        raise problem

    monkeypatch.setattr(commands, "export", fails)
    monkeypatch.delenv("MNV3LIB_DEBUG", raising=False)
    arguments = ["export", str(checkpoint), "--out", "x.onnx"]
    assert main(arguments) == status
    assert capsys.readouterr().err.startswith(line)
    if status == 1:
        monkeypatch.setenv("MNV3LIB_DEBUG", "1")
        with pytest.raises(type(problem)):
            main(arguments)


def test_a_fault_of_its_own_is_not_hidden(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*arguments: Any, **options: Any) -> None:
        raise RuntimeError("a fault")

    monkeypatch.setattr(commands, "optimize", fails)
    with pytest.raises(RuntimeError, match="a fault"):
        main(["benchmark", str(checkpoint)])


def test_help_names_all_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    for command, options in (
        ("benchmark", ("--size", "--batch", "--threads", "--precision", "--rounds", "--weights", "--width-mult")),
        ("export", ("--to", "--out", "--values", "--precision", "onnx", "openvino", "executorch", "pt2")),
    ):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        said = capsys.readouterr().out
        assert all(option in said for option in options)
        assert "exit status" in said


@pytest.mark.slow
def test_from_a_shell(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-m", "mnv3lib.deploy", "export", "shipped:digitscenes_small_050"]
    command += ["--size", "64", "--out", "runs/small.onnx"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    card = json.loads((tmp_path / "runs" / "small.onnx.json").read_text())
    assert card["network"]["num_classes"] == 10
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["small.onnx", "small.onnx.json"]
