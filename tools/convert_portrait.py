"""MediaPipe's portrait segmenter, from the package that publishes it to what the library ships.

    pip download --no-deps mediapipe==0.10.21
    pip install ai-edge-litert==2.3.0
    python tools/convert_portrait.py mediapipe-0.10.21-*.whl

Takes the wheel or the ``.tflite`` in it, by its SHA-256 and no other. Every weight in the file is used once, under the
name that ``mnv3lib.wild.PortraitSegmenter`` has for it, in float16 as published; no number is changed. Nothing is
written unless the filled network then gives the probabilities that LiteRT computes from the file, on a photograph
of an astronaut (``book/_data/astronaut.jpg``), on ten crops of it and on noise. Written are the weights
(``mnv3lib/wild/shipped/portrait.safetensors``) and what the tests compare with (``tests/data/portrait.npz``): the
crops, every third row and column of LiteRT's probabilities as float16, and the mean of all of them.
"""

from __future__ import annotations

import argparse
import io
import json
import platform
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from flatbuffers import encode
from flatbuffers.number_types import Int32Flags, Uint32Flags, UOffsetTFlags
from flatbuffers.table import Table
from PIL import Image
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent))

import conversion
from conversion import ROOT

from mnv3lib.wild.portrait import PortraitSegmenter, prepare_portrait

MEMBER = "mediapipe/modules/selfie_segmentation/selfie_segmentation.tflite"
SHA256 = "9ee168ec7c8f2a16c56fe8e1cfbc514974cbbb7e434051b455635f1bd1462f5c"
ABOUT = {
    "source": "MediaPipe, selfie segmentation, the general model, in the PyPI package mediapipe 0.10.21",
    "source_file": MEMBER,
    "source_sha256": SHA256,
    "license": "Apache-2.0",
    "copyright": "Copyright The MediaPipe Authors",
    "changes": "names and container; axes of the kernels in PyTorch's order; no number changed",
}
#: Beyond this difference of a probability the network is not the one in the file.
TOLERANCE = 2e-3
PHOTOGRAPH = ROOT / "book" / "_data" / "astronaut.jpg"
#: Left, top, right and bottom of the photograph as a whole, and of ten crops of other sizes and proportions.
CROPS = ((0, 0, 512, 512), (100, 0, 356, 256), (0, 0, 256, 512), (150, 20, 300, 170), (0, 256, 256, 512),
         (256, 256, 512, 512), (60, 40, 460, 440), (120, 0, 330, 320), (0, 100, 512, 400), (300, 0, 512, 212),
         (190, 60, 254, 124))  # fmt: skip
#: Every how many rows and columns are stored; odd, so that all places in windows of 2 to 16 are among them.
STEP = 3
#: Numbers in the schema of TensorFlow Lite, version 3: the fields that are read, and the type float16.
_SUBGRAPHS, _BUFFERS = 2, 4
_TENSORS = 0
_SHAPE, _TYPE, _BUFFER, _NAME = range(4)
_FLOAT16 = 1


def _field(table: Table, number: int) -> int:
    """Where a field of a table lies, from the table's start; 0 if it is not there."""
    return table.Offset(4 + 2 * number)


def _tables(table: Table, number: int) -> list[Table]:
    """The tables in a field that is a vector of them."""
    offset = _field(table, number)
    start = table.Vector(offset)
    return [Table(table.Bytes, table.Indirect(start + 4 * at)) for at in range(table.VectorLen(offset))]


def tensors_in(data: bytes) -> dict[str, Tensor]:
    """All float16 tensors of a TensorFlow Lite file; the others are the sizes that bilinear resizing takes.

    Raises:
        ValueError: for a name that is there twice.
    """
    model = Table(data, encode.Get(UOffsetTFlags.packer_type, data, 0))
    buffers = _tables(model, _BUFFERS)
    found: dict[str, Tensor] = {}
    for tensor in _tables(_tables(model, _SUBGRAPHS)[0], _TENSORS):
        kind = _field(tensor, _TYPE)
        content = buffers[tensor.GetSlot(4 + 2 * _BUFFER, 0, Uint32Flags)]
        if not kind or data[tensor.Pos + kind] != _FLOAT16 or not _field(content, 0):
            continue
        name = tensor.String(tensor.Pos + _field(tensor, _NAME)).decode()
        if name in found:
            raise ValueError(f"the file has {name!r} twice")
        start, length = content.Vector(_field(content, 0)), content.VectorLen(_field(content, 0))
        shape = tensor.GetVectorAsNumpy(Int32Flags, _field(tensor, _SHAPE)).tolist()
        found[name] = torch.from_numpy(np.frombuffer(data, np.float16, length // 2, start).copy()).reshape(shape)
    return found


def names(network: nn.Module) -> dict[str, str]:
    """What the file calls each layer of the network: Keras counts kinds of layers in the order they were made in."""
    counts = {"conv2d": 0, "depthwise_conv2d": 0}
    called = {}
    for name, module in network.named_modules():
        if isinstance(module, nn.ConvTranspose2d):
            called[name] = "segment"
        elif isinstance(module, nn.Conv2d):
            kind = "depthwise_conv2d" if module.groups > 1 else "conv2d"
            called[name] = f"{kind}_{counts[kind]}" if counts[kind] else kind
            counts[kind] += 1
    return called


def translated(tensors: Mapping[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """The state dict of the network out of the file's tensors, each used once, in float16.

    Kernels are stored as (output, height, width, input), depthwise and transposed ones with an output of 1.

    Raises:
        ValueError: naming what is missing, left over or of another shape.
    """
    layers = names(network)
    called = {f"{ours}.{part}": f"{theirs}/{end}" for ours, theirs in layers.items()
              for part, end in (("weight", "Kernel"), ("bias", "Bias"))}  # fmt: skip
    wrong = [f"{name} is missing" for name in called.values() if name not in tensors]
    wrong += [f"{name} is left over" for name in tensors if name not in called.values()]
    state = {}
    for name, target in network.state_dict().items():
        if called[name] not in tensors:
            continue
        tensor = tensors[called[name]]
        if tensor.ndim == 4:
            depthwise = called[name].startswith(("depthwise", "segment"))
            tensor = tensor.permute(3, 0, 1, 2) if depthwise else tensor.permute(0, 3, 1, 2)
        if tensor.shape != target.shape:
            wrong.append(f"{called[name]} has the shape {tuple(tensor.shape)}, {name} {tuple(target.shape)}")
        state[name] = tensor.contiguous()
    if wrong:
        raise ValueError("the file does not fit the network:\n" + "\n".join(wrong))
    return state


def litert(data: bytes) -> Callable[[Tensor], Tensor]:
    """A function of a batch that gives the probabilities that LiteRT computes from the file."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=data, num_threads=1)
    interpreter.allocate_tensors()
    (entry,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()

    def probabilities(images: Tensor) -> Tensor:
        found = []
        for image in images.permute(0, 2, 3, 1).contiguous().split(1):
            interpreter.set_tensor(entry["index"], image.numpy())
            interpreter.invoke()
            found.append(torch.from_numpy(interpreter.get_tensor(result["index"]).copy()))
        return torch.cat(found).permute(0, 3, 1, 2)

    return probabilities


def pictures() -> Tensor:
    """The photograph and its crops, prepared, (11, 3, 256, 256)."""
    photograph = Image.open(PHOTOGRAPH)
    return torch.cat([prepare_portrait(photograph.crop(box)) for box in CROPS])


def worst(network: nn.Module, expected: Tensor, images: Tensor) -> float:
    """Largest difference of a probability."""
    with torch.no_grad():
        return float((network(images) - expected).abs().max())


def kept(expected: Tensor) -> np.ndarray:
    """Every third row and column, as float16."""
    return expected[:, 0, ::STEP, ::STEP].numpy().astype(np.float16)


def main() -> None:
    parser = argparse.ArgumentParser(description="Convert MediaPipe's portrait segmenter.")
    parser.add_argument("path", type=Path, help="the wheel of mediapipe 0.10.21, or the .tflite in it")
    parser.add_argument("--root", type=Path, default=ROOT, help="of the repository to write to")
    chosen = parser.parse_args()
    torch.set_num_threads(1)

    data = conversion.published(chosen.path, MEMBER, SHA256)
    network = PortraitSegmenter().eval()
    state = translated(tensors_in(data), network)
    network.load_state_dict(state)
    theirs, images = litert(data), pictures()
    expected = theirs(images)
    noise = torch.rand(3, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    for what, batch, found in (("pictures", images, expected), ("noise", noise, theirs(noise))):
        difference = worst(network, found, batch)
        print(f"{what}: the probabilities are within {difference:.1e} of LiteRT's")
        if not difference <= TOLERANCE:
            sys.exit(f"nothing was written: that is further than {TOLERANCE:g}")
    stored = io.BytesIO()
    np.savez_compressed(
        stored,
        about=json.dumps({**ABOUT, "computed_by": f"LiteRT {version('ai-edge-litert')}, {platform.machine()}"}),
        crops=np.array(CROPS, np.int16),
        probabilities=kept(expected),
        means=expected.double().mean((1, 2, 3)).numpy(),
    )
    conversion.write(
        chosen.root,
        {
            "mnv3lib/wild/shipped/portrait.safetensors": conversion.packed(state, ABOUT),
            "tests/data/portrait.npz": stored.getvalue(),
        },
    )


if __name__ == "__main__":
    main()
