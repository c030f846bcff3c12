"""PaddleOCR's text direction classifier, from the package that publishes it to what the library ships.

    pip download --no-deps rapidocr-onnxruntime==1.4.4
    python tools/convert_text_direction.py rapidocr_onnxruntime-1.4.4-py3-none-any.whl

Takes the wheel or the ``.onnx`` in it, by its SHA-256 and no other. Every weight in the file is used once, under the
name that ``mnv3lib.wild.TextDirection`` has for it, and no number is changed. Nothing is written unless the filled
network then gives the logits that ONNX Runtime computes from the file. Written are the weights
(``mnv3lib/wild/shipped/text_direction.safetensors``) and what the tests compare with: lines of text as pixels
(``tests/data/text_direction.png``) and ONNX Runtime's logits of them (``text_direction.json``).
"""

from __future__ import annotations

import argparse
import io
import json
import platform
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import PIL
import torch
from onnx import numpy_helper
from PIL import Image
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent))

import conversion
from conversion import ROOT
from figures.text_lines import draw_line

from mnv3lib.wild.direction import TextDirection

MEMBER = "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx"
SHA256 = "e47acedf663230f8863ff1ab0e64dd2d82b838fceb5957146dab185a89d6215c"
LOGITS = "linear_1.tmp_1"  # what goes into the softmax
ABOUT = {
    "source": "PaddleOCR, ch_ppocr_mobile_v2.0_cls, as ONNX in the PyPI package rapidocr-onnxruntime 1.4.4",
    "source_file": MEMBER,
    "source_sha256": SHA256,
    "license": "Apache-2.0",
    "copyright": "Copyright (c) 2020 PaddlePaddle Authors",
    "changes": "names and container; the linear layer's weight transposed; no number changed",
}
#: Beyond this fraction of the largest logit the network is not the one in the file.
TOLERANCE = 1e-5
#: What the lines say, in ink and on paper of these colours; each is drawn upright and upside down.
LINES = {
    "Searching for MobileNetV3": ("#000000", "#ffffff"),
    "48 by 192 pixels": ("#f5e663", "#16305c"),
    "Total: 1,024.50": ("#8c1c13", "#e8e4d8"),
    "no entry after 6 pm": ("#ffffff", "#2f6b3a"),
}
#: Numbers in the file that are operands and no weights: 0, 3 and 6 of h-swish, shapes, and the width 200.
_OPERANDS = re.compile(r"Constant@\d+|fill_constant_1\.tmp_0")
_PARTS = {"_weights": "0.weight", "_bn_scale": "1.weight", "_bn_offset": "1.bias", "_bn_mean": "1.running_mean",
          "_bn_variance": "1.running_var"}  # fmt: skip


def published(path: Path, sha256: str = SHA256) -> bytes:
    """The file as it was published, itself or out of the wheel.

    Raises:
        ValueError: if it is another file.
    """
    return conversion.published(path, MEMBER, sha256)


def tensors_in(data: bytes) -> dict[str, Tensor]:
    """All weights of a graph, whether they are initialisers or come out of Constant nodes.

    Raises:
        ValueError: for a name that is there twice.
    """
    graph = onnx.load_from_string(data).graph
    named = [(tensor.name, tensor) for tensor in graph.initializer]
    for node in graph.node:
        if node.op_type == "Constant":
            named += [(node.output[0], each.t) for each in node.attribute if each.name == "value"]
    found: dict[str, Tensor] = {}
    for name, tensor in named:
        if name in found:
            raise ValueError(f"the file has {name!r} twice")
        if not _OPERANDS.fullmatch(name):
            found[name] = torch.from_numpy(numpy_helper.to_array(tensor).copy())
    return found


def names(network: TextDirection) -> dict[str, str]:
    """What the file calls each tensor of the network, counters of batches left out."""
    layers = {"features.0": "conv1", f"features.{len(network.features) - 1}": "conv_last"}
    for index in range(1, len(network.features) - 1):
        block, theirs = network.features[index].block, f"conv{index + 1}"
        kinds = ("expand", "depthwise", "linear") if len(block) == 3 else ("expand", "depthwise", "se", "linear")
        for place, kind in enumerate(kinds):
            layers[f"features.{index}.block.{place}"] = f"{theirs}_{kind}"
    found = {"classifier.weight": "fc_0.w_0", "classifier.bias": "fc_0.b_0"}
    for ours, theirs in layers.items():
        if theirs.endswith("_se"):
            for number in (1, 2):
                found[f"{ours}.fc{number}.weight"] = f"{theirs}_{number}_weights"
                found[f"{ours}.fc{number}.bias"] = f"{theirs}_{number}_offset"
        else:
            found |= {f"{ours}.{part}": f"{theirs}{end}" for end, part in _PARTS.items()}
    return found


def translated(tensors: Mapping[str, Tensor], network: TextDirection) -> dict[str, Tensor]:
    """The state dict of the network out of the file's tensors, each used once.

    Raises:
        ValueError: naming what is missing, left over, of another shape or type.
    """
    called, own = names(network), network.state_dict()
    wrong = [f"{name} is missing" for name in called.values() if name not in tensors]
    wrong += [f"{name} is left over" for name in tensors if name not in called.values()]
    state = {}
    for name, target in own.items():
        if name.endswith("num_batches_tracked"):
            state[name] = torch.zeros_like(target)
        elif called[name] in tensors:
            tensor = tensors[called[name]]
            tensor = tensor.T if name == "classifier.weight" else tensor
            if tensor.dtype != target.dtype or tensor.shape != target.shape:
                wrong.append(
                    f"{called[name]} is {tensor.dtype} of the shape {tuple(tensor.shape)}, "
                    f"{name} is {target.dtype} of {tuple(target.shape)}"
                )
            state[name] = tensor.contiguous()
    if wrong:
        raise ValueError("the file does not fit the network:\n" + "\n".join(wrong))
    return state


def logits_of(data: bytes, output: str = LOGITS) -> Any:
    """A function of a batch that gives the file's logits, before its softmax, as ONNX Runtime computes them."""
    model = onnx.load_from_string(data)
    model.graph.output.append(onnx.helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda images: torch.from_numpy(session.run([output], {name: np.asarray(images)})[0])


def worst(network: nn.Module, theirs: Any, images: Tensor) -> float:
    """Largest difference of a logit, as a fraction of the largest logit; the images as one batch and one by one."""
    with torch.no_grad():
        ours = torch.cat([network(images), *map(network, images.split(1))])
    expected = torch.cat([theirs(images), *map(theirs, images.split(1))])
    return float((ours - expected).abs().max() / expected.abs().max())


def drawn_lines() -> np.ndarray[Any, Any]:
    """The lines, upright and upside down, as bytes (lines, 48, 192, 3), RGB; none needs resizing."""
    drawn = [
        draw_line(text, upside_down=turned, ink=ink, paper=paper).resize((192, 48))
        for text, (ink, paper) in LINES.items()
        for turned in (False, True)
    ]
    return np.stack([np.asarray(line) for line in drawn])


def batch(lines: np.ndarray[Any, Any]) -> Tensor:
    """BGR from -1 to 1; written down once more, so that a fault of ``prepare_line`` shows in a test."""
    return torch.from_numpy(np.ascontiguousarray(lines[..., ::-1].transpose(0, 3, 1, 2), np.float32) / 127.5 - 1)


def main() -> None:
    parser = argparse.ArgumentParser(description="Convert PaddleOCR's text direction classifier.")
    parser.add_argument("path", type=Path, help="the wheel of rapidocr-onnxruntime 1.4.4, or the .onnx in it")
    parser.add_argument("--root", type=Path, default=ROOT, help="of the repository to write to")
    chosen = parser.parse_args()
    torch.set_num_threads(1)

    data = published(chosen.path)
    network = TextDirection().eval()
    network.load_state_dict(translated(tensors_in(data), network))
    theirs, lines = logits_of(data), drawn_lines()
    noise = torch.rand(5, 3, 48, 192, generator=torch.Generator().manual_seed(0)) * 2 - 1
    for what, images in (("lines", batch(lines)), ("noise", noise)):
        difference = worst(network, theirs, images)
        print(f"{what}: the logits are within {difference:.1e} of the largest of ONNX Runtime's")
        if not difference <= TOLERANCE:
            sys.exit(f"nothing was written: that is further than {TOLERANCE:g}")
    expected = {
        "about": {**ABOUT, "computed_by": f"ONNX Runtime {onnxruntime.__version__}, {platform.machine()}",
                  "drawn_by": f"Pillow {PIL.__version__}, DejaVu Sans"},
        "lines": [[text, upside_down] for text in LINES for upside_down in (False, True)],
        "logits": [theirs(image)[0].tolist() for image in batch(lines).split(1)],
    }  # fmt: skip
    picture = io.BytesIO()
    Image.fromarray(lines.reshape(-1, *lines.shape[2:])).save(picture, "png", optimize=True)
    conversion.write(chosen.root, {
        "mnv3lib/wild/shipped/text_direction.safetensors": conversion.packed(network.state_dict(), ABOUT),
        "tests/data/text_direction.png": picture.getvalue(),
        "tests/data/text_direction.json": (json.dumps(expected, indent=1) + "\n").encode(),
    })  # fmt: skip


if __name__ == "__main__":
    main()
