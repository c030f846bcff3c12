"""The converter of MediaPipe's portrait segmenter: every weight once, or nothing is written."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import flatbuffers
import numpy as np
import pytest
import torch
from conftest import ROOT
from scripts import load_script
from torch import Tensor

from mnv3lib import weights, wild

TOOL = load_script(ROOT / "tools" / "convert_portrait.py")
FLOAT16, INT32 = 1, 2


def a_network() -> wild.PortraitSegmenter:
    """Of weights that all differ, numbers of float16."""
    made, generator = wild.PortraitSegmenter().eval(), torch.Generator().manual_seed(0)
    for tensor in made.state_dict().values():
        tensor.copy_(torch.rand(tensor.shape, generator=generator).half())
    return made


def called_as_published(network: wild.PortraitSegmenter) -> dict[str, Tensor]:
    """Its weights under the file's names, with the axes in TensorFlow's order."""
    found = {}
    for ours, theirs in TOOL.names(network).items():
        layer = network.get_submodule(ours)
        first = theirs.startswith(("depthwise", "segment"))
        found[f"{theirs}/Kernel"] = layer.weight.detach().permute(*((1, 2, 3, 0) if first else (0, 2, 3, 1))).half()
        found[f"{theirs}/Bias"] = layer.bias.detach().half()
    return found


def vector(builder: flatbuffers.Builder, offsets: list[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return builder.EndVector()


def as_file(tensors: dict[str, Tensor], *, more: tuple[str, ...] = ()) -> bytes:
    """A TensorFlow Lite file that holds tensors and no operators, after an activation and sizes under other names."""
    builder = flatbuffers.Builder()
    held: dict[str, tuple[int, np.ndarray]] = {
        "input": (0, np.zeros((2, 0), np.float32)),
        "size": (INT32, np.array([32, 32], np.int32)),
        **{name: (FLOAT16, tensor.numpy().copy()) for name, tensor in tensors.items()},
    }
    entries, buffers = [], []
    for name, (kind, content) in [*held.items(), *((name, held[name]) for name in more)]:
        data = builder.CreateByteVector(content.tobytes()) if content.size else 0
        builder.StartObject(1)
        if data:
            builder.PrependUOffsetTRelativeSlot(0, data, 0)
        buffers.append(builder.EndObject())
        shape, said = builder.CreateNumpyVector(np.array(content.shape, np.int32)), builder.CreateString(name)
        builder.StartObject(4)
        builder.PrependUOffsetTRelativeSlot(0, shape, 0)
        builder.PrependInt8Slot(1, kind, 0)
        builder.PrependUint32Slot(2, len(buffers) - 1, 0)
        builder.PrependUOffsetTRelativeSlot(3, said, 0)
        entries.append(builder.EndObject())
    inside = vector(builder, entries)
    builder.StartObject(1)
    builder.PrependUOffsetTRelativeSlot(0, inside, 0)
    graphs = vector(builder, [builder.EndObject()])
    stored = vector(builder, buffers)
    builder.StartObject(5)
    builder.PrependUOffsetTRelativeSlot(2, graphs, 0)
    builder.PrependUOffsetTRelativeSlot(4, stored, 0)
    builder.Finish(builder.EndObject(), b"TFL3")
    return bytes(builder.Output())


def test_every_weight_arrives_under_its_name() -> None:
    network = a_network()
    found = TOOL.translated(TOOL.tensors_in(as_file(called_as_published(network))), wild.PortraitSegmenter())
    expected = network.state_dict()
    assert list(found) == list(expected)
    assert {tensor.dtype for tensor in found.values()} == {torch.float16}
    assert all(torch.equal(found[name].float(), expected[name]) for name in expected)


def test_names_are_the_published_ones() -> None:
    called = TOOL.names(wild.PortraitSegmenter())
    assert len(set(called.values())) == len(called) == 43 + 11 + 1
    assert called["features.0.0"] == "conv2d"
    assert called["features.1.block.1.0"] == "depthwise_conv2d"
    assert called["features.1.block.2.fc2"] == "conv2d_3"
    assert called["features.8.block.3.0"] == "conv2d_28"
    assert called["head.scale.1"] == "conv2d_30"
    assert called["decoder.2.refine.0"] == "depthwise_conv2d_10"
    assert called["last"] == "segment"


def missing(tensors: dict[str, Tensor]) -> None:
    del tensors["conv2d_3/Bias"]


def left_over(tensors: dict[str, Tensor]) -> None:
    tensors["conv2d_43/Kernel"] = torch.zeros(3).half()


def misshaped(tensors: dict[str, Tensor]) -> None:
    tensors["depthwise_conv2d/Kernel"] = tensors["depthwise_conv2d/Kernel"][:, :2].contiguous()


@pytest.mark.parametrize(
    ("mistake", "said"),
    [
        (missing, "conv2d_3/Bias is missing"),
        (left_over, "conv2d_43/Kernel is left over"),
        (
            misshaped,
            r"depthwise_conv2d/Kernel has the shape \(16, 1, 2, 3\), features\.1\.block\.1\.0\.weight \(16, 1,",
        ),
    ],
)
def test_a_file_that_does_not_fit_is_refused(mistake: Callable[[dict[str, Tensor]], None], said: str) -> None:
    tensors = called_as_published(a_network())
    mistake(tensors)
    with pytest.raises(ValueError, match=said):
        TOOL.translated(TOOL.tensors_in(as_file(tensors)), wild.PortraitSegmenter())


def test_a_name_that_is_there_twice_is_refused() -> None:
    data = as_file({"conv2d/Bias": torch.zeros(16).half()}, more=("conv2d/Bias",))
    with pytest.raises(ValueError, match="the file has 'conv2d/Bias' twice"):
        TOOL.tensors_in(data)


@pytest.mark.slow
@pytest.mark.parametrize("faithful", [True, False])
def test_what_gives_other_probabilities_is_not_written(
    faithful: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    judge = wild.portrait_segmenter()
    data = as_file(called_as_published(judge))
    if not faithful:
        with torch.no_grad():
            judge.decoder[2].thin.bias[3] += 0.3
    monkeypatch.setattr(TOOL.conversion, "published", lambda path, member, sha256: data)
    monkeypatch.setattr(TOOL, "litert", lambda data: lambda images: judge(images).detach())
    monkeypatch.setattr(TOOL, "version", lambda package: "0")
    monkeypatch.setattr(sys, "argv", ["convert", "x.tflite", "--root", str(tmp_path)])
    if not faithful:
        with pytest.raises(SystemExit, match="nothing was written"):
            TOOL.main()
        assert not list(tmp_path.iterdir())
        return
    TOOL.main()
    written = tmp_path / "mnv3lib" / "wild" / "shipped" / "portrait.safetensors"
    # The very file that the library ships: the container has one form for the same numbers.
    assert written.read_bytes() == (ROOT / written.relative_to(tmp_path)).read_bytes()
    assert weights.read(written).metadata["source_sha256"] == TOOL.SHA256
    assert [path.name for path in (tmp_path / "tests" / "data").iterdir()] == ["portrait.npz"]
    assert "of LiteRT's" in capsys.readouterr().out
