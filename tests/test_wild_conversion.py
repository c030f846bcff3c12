"""The converter of PaddleOCR's text direction classifier: every weight once, or nothing is written."""

from __future__ import annotations

import hashlib
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
import torch
from conftest import ROOT
from onnx import numpy_helper
from scripts import load_script
from torch import Tensor, nn

from mnv3lib import weights, wild

TOOL = load_script(ROOT / "tools" / "convert_text_direction.py")


def a_network() -> wild.TextDirection:
    """Of weights that all differ, also the statistics."""
    made, generator = wild.TextDirection().eval(), torch.Generator().manual_seed(0)
    for tensor in made.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.1)
    return made


def called_as_published(network: wild.TextDirection) -> dict[str, Tensor]:
    """Its weights under the file's names."""
    state = network.state_dict()
    found = {theirs: state[ours] for ours, theirs in TOOL.names(network).items()}
    found["fc_0.w_0"] = found["fc_0.w_0"].T
    return found


def as_file(tensors: dict[str, Tensor], *, constants: bool = True, more: tuple[str, ...] = ()) -> bytes:
    """A graph that holds tensors, as Constant nodes like the published one or as initialisers."""
    made = [numpy_helper.from_array(tensor.numpy().copy(), name) for name, tensor in tensors.items()]
    made += [numpy_helper.from_array(torch.zeros(()).numpy(), name) for name in more]
    nodes = [onnx.helper.make_node("Constant", [], [tensor.name], value=tensor) for tensor in made]
    graph = onnx.helper.make_graph(nodes if constants else [], "weights", [], [], [] if constants else made)
    return onnx.helper.make_model(graph).SerializeToString()


@pytest.mark.parametrize("constants", [True, False])
def test_every_weight_arrives_under_its_name(constants: bool) -> None:
    network = a_network()
    data = as_file(called_as_published(network), constants=constants, more=("Constant@12", "fill_constant_1.tmp_0"))
    found, expected = TOOL.translated(TOOL.tensors_in(data), wild.TextDirection()), network.state_dict()
    assert list(found) == list(expected)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_names_are_the_published_ones() -> None:
    called = TOOL.names(wild.TextDirection())
    assert len(set(called.values())) == len(called)
    assert called["features.0.0.weight"] == "conv1_weights"
    assert called["features.1.block.2.fc2.bias"] == "conv2_se_2_offset"
    assert called["features.2.block.2.1.running_var"] == "conv3_linear_bn_variance"
    assert called["features.11.block.3.1.bias"] == "conv12_linear_bn_offset"
    assert called["features.12.1.running_mean"] == "conv_last_bn_mean"


def missing(tensors: dict[str, Tensor]) -> None:
    del tensors["conv5_se_1_offset"]


def left_over(tensors: dict[str, Tensor]) -> None:
    tensors["conv13_weights"] = torch.zeros(3)


def misshaped(tensors: dict[str, Tensor]) -> None:
    tensors["conv2_depthwise_weights"] = tensors["conv2_depthwise_weights"][:, :, :2]


def not_transposed(tensors: dict[str, Tensor]) -> None:
    tensors["fc_0.w_0"] = tensors["fc_0.w_0"].T


def halved(tensors: dict[str, Tensor]) -> None:
    tensors["conv_last_bn_mean"] = tensors["conv_last_bn_mean"].half()


@pytest.mark.parametrize(
    ("mistake", "said"),
    [
        (missing, "conv5_se_1_offset is missing"),
        (left_over, "conv13_weights is left over"),
        (misshaped, r"conv2_depthwise_weights is torch.float32 of the shape \(8, 1, 2, 3\), features\.1\.block\.1\.0"),
        (not_transposed, r"fc_0\.w_0 is torch.float32 of the shape \(200, 2\), classifier\.weight"),
        (halved, r"conv_last_bn_mean is torch.float16 of the shape \(200,\), .* is torch.float32"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(mistake: Callable[[dict[str, Tensor]], None], said: str) -> None:
    tensors = called_as_published(a_network())
    mistake(tensors)
    with pytest.raises(ValueError, match=said):
        TOOL.translated(TOOL.tensors_in(as_file(tensors)), wild.TextDirection())


def test_a_name_that_is_there_twice_is_refused() -> None:
    twice = onnx.load_from_string(as_file({"conv1_weights": torch.zeros(2)}))
    twice.graph.node.append(twice.graph.node[0])
    with pytest.raises(ValueError, match="the file has 'conv1_weights' twice"):
        TOOL.tensors_in(twice.SerializeToString())


def test_only_the_published_file_is_taken_itself_or_from_the_wheel(tmp_path: Path) -> None:
    file, wheel, other = tmp_path / "x.onnx", tmp_path / "x.whl", tmp_path / "other.whl"
    file.write_bytes(b"weights")
    for path, member in ((wheel, TOOL.MEMBER), (other, "another/model.onnx")):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(member, b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()
    assert TOOL.published(file, digest) == TOOL.published(wheel, digest) == b"weights"
    with pytest.raises(ValueError, match=f"is not the published file: its SHA-256 is {digest}, not {TOOL.SHA256}"):
        TOOL.published(file)
    with pytest.raises(ValueError, match="is not the published file"):
        TOOL.published(wheel)
    with pytest.raises(ValueError, match=f"has no {TOOL.MEMBER}"):
        TOOL.published(other, digest)


def test_the_file_s_logits_are_those_before_its_softmax() -> None:
    """Of a graph small enough for paper: means of the channels, times 2, and a softmax."""
    make = onnx.helper.make_node
    nodes = [
        make("Constant", [], ["two"], value=numpy_helper.from_array(torch.tensor(2.0).numpy())),
        make("ReduceMean", ["x"], ["mean"], axes=[2, 3], keepdims=0),
        make("Mul", ["mean", "two"], [TOOL.LOGITS]),
        make("Softmax", [TOOL.LOGITS], ["y"], axis=1),
    ]
    ends = [
        onnx.helper.make_tensor_value_info(name, 1, shape) for name, shape in (("x", ["n", 2, 4, 4]), ("y", ["n", 2]))
    ]
    graph = onnx.helper.make_graph(nodes, "small", ends[:1], ends[1:])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 11)], ir_version=7)
    theirs, images = TOOL.logits_of(model.SerializeToString()), torch.rand(3, 2, 4, 4)
    torch.testing.assert_close(theirs(images), 2 * images.mean((2, 3)))

    class Twice(nn.Module):
        def __init__(self, factor: float) -> None:
            super().__init__()
            self.factor = factor

        def forward(self, x: Tensor) -> Tensor:
            return self.factor * x.mean((2, 3))

    assert TOOL.worst(Twice(2), theirs, images) < 1e-6
    assert TOOL.worst(Twice(2.002), theirs, images) == pytest.approx(0.001, rel=1e-2)


@pytest.mark.slow
@pytest.mark.parametrize("faithful", [True, False])
def test_what_gives_other_logits_is_not_written(
    faithful: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    network = wild.text_direction()
    data = as_file(called_as_published(network))
    judge = wild.text_direction()
    if not faithful:
        with torch.no_grad():
            judge.features[5].block[2].fc2.bias[3] += 0.01
    monkeypatch.setattr(TOOL, "published", lambda path: data)
    monkeypatch.setattr(TOOL, "logits_of", lambda data: lambda images: judge(images).detach())
    monkeypatch.setattr(sys, "argv", ["convert", "x.onnx", "--root", str(tmp_path)])
    if not faithful:
        with pytest.raises(SystemExit, match="nothing was written"):
            TOOL.main()
        assert not list(tmp_path.iterdir())
        return
    TOOL.main()
    written = tmp_path / "mnv3lib" / "wild" / "shipped" / "text_direction.safetensors"
    # The very file that the library ships: the container has one form for the same numbers.
    assert written.read_bytes() == (ROOT / written.relative_to(tmp_path)).read_bytes()
    assert weights.read(written).metadata["source_sha256"] == TOOL.SHA256
    assert {path.name for path in (tmp_path / "tests" / "data").iterdir()} == {
        "text_direction.json", "text_direction.png"
    }  # fmt: skip
    assert "the largest of ONNX Runtime's" in capsys.readouterr().out
