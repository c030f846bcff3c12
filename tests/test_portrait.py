"""MediaPipe's portrait segmenter: the published one, pixel for pixel; with what it changed of Small."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import ROOT
from ledger import Deviation
from PIL import Image
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mnv3lib import weights, wild
from mnv3lib.blocks import SamePaddedConv2d, SqueezeExcitation
from mnv3lib.config import SMALL, MobileNetV3Config
from mnv3lib.cost import profile

SHIPPED = Path(wild.__file__).with_name("shipped")
PHOTOGRAPH = ROOT / "book" / "_data" / "astronaut.jpg"
#: Every third row and column of LiteRT's probabilities, for the photograph and ten crops of it; written by
#: tools/convert_portrait.py.
EXPECTED = np.load(Path(__file__).with_name("data") / "portrait.npz")
ABOUT = json.loads(str(EXPECTED["about"]))


@cache
def network() -> wild.PortraitSegmenter:
    return wild.portrait_segmenter()


@cache
def prepared() -> Tensor:
    """The photograph and the crops whose probabilities are known."""
    photograph = Image.open(PHOTOGRAPH)
    return torch.cat([wild.prepare_portrait(photograph.crop(tuple(box))) for box in EXPECTED["crops"].tolist()])


def kept(probabilities: Tensor) -> Tensor:
    """What is stored of pictures: every third row and column."""
    return probabilities[:, 0, ::3, ::3]


def worst(segmenter: nn.Module) -> float:
    """Largest difference from LiteRT's probabilities of the photograph."""
    with torch.no_grad():
        found = kept(segmenter(prepared()[:1]))
    return float((found - torch.from_numpy(EXPECTED["probabilities"][:1]).float()).abs().max())


def card(title: str) -> str:
    """What the table of the card says of something."""
    text = (SHIPPED / "portrait.md").read_text(encoding="utf-8")
    (found,) = re.findall(rf"^\| {re.escape(title)} \| (.+?) \|$", text, flags=re.M)
    return found


# --- the trained network ----------------------------------------------------------------------------------------------


@pytest.mark.proves(
    "MediaPipe's portrait segmenter: probabilities of a photograph and ten crops of it",
    against="LiteRT's, stored, from the published file",
    tolerance=2e-3,
    unit="absolute",
)
def test_probabilities_are_those_of_the_published_file(deviation: Deviation) -> None:
    assert EXPECTED["probabilities"].shape == (11, 86, 86)
    assert len({tuple(box) for box in EXPECTED["crops"].tolist()}) == 11
    with torch.no_grad():
        found = network()(prepared())
    stored = torch.from_numpy(EXPECTED["probabilities"]).float()
    for each, expected in zip(kept(found), stored, strict=True):
        deviation(float((each - expected).abs().max()))
    for each, mean in zip(found.double().mean((1, 2, 3)), EXPECTED["means"], strict=True):
        deviation(abs(float(each) - float(mean)))


def test_stored_pictures_have_edges_to_get_wrong() -> None:
    """A picture that is all person or all background would be right in many wrong networks."""
    undecided = ((EXPECTED["probabilities"] > 0.02) & (EXPECTED["probabilities"] < 0.98)).mean((1, 2))
    assert (undecided > 0.02).all()


def test_pictures_do_not_see_each_other() -> None:
    with torch.no_grad():
        torch.testing.assert_close(network()(prepared()[2:4]), network()(prepared())[2:4], rtol=0, atol=1e-4)


def test_a_person_is_cut_out() -> None:
    with torch.no_grad():
        person = network()(prepared()[:1])[0, 0] > 0.5
    assert person.float().mean() == pytest.approx(0.545, abs=0.005)
    assert person[50, 115]  # the face
    assert person[200, 60]  # the suit
    assert not person[20:80, 200:].any()  # the shuttle
    assert not person[:60, :50].any()  # the flag


def hard_gate(model: wild.PortraitSegmenter) -> None:
    model.features[5].block[2].scale_activation = nn.Hardsigmoid()


def hard_gate_of_the_decoder(model: wild.PortraitSegmenter) -> None:
    model.decoder[0].gate.scale_activation = nn.Hardsigmoid()


def no_shortcut(model: wild.PortraitSegmenter) -> None:
    model.features[7].use_res_connect = False


def symmetric_padding(model: wild.PortraitSegmenter) -> None:
    stem = model.features[0][0]
    stem.zeros = lambda size: (1, 1)


def no_skip(model: wild.PortraitSegmenter) -> None:
    model.decoder[2].register_forward_pre_hook(lambda module, given: (given[0], torch.zeros_like(given[1])))


def corners_aligned(model: wild.PortraitSegmenter) -> None:
    model.decoder[1].register_forward_pre_hook(
        lambda module, given: (
            F.interpolate(given[0], size=given[1].shape[-2:], mode="bilinear", align_corners=True),
            given[1],
        )
    )


def linear_head(model: wild.PortraitSegmenter) -> None:
    model.head.cbr[2] = nn.Identity()


def transposed_kernel(model: wild.PortraitSegmenter) -> None:
    with torch.no_grad():
        model.last.weight.copy_(model.last.weight.transpose(2, 3).clone())


@pytest.mark.parametrize(
    "mistake",
    [hard_gate, hard_gate_of_the_decoder, no_shortcut, symmetric_padding, no_skip, corners_aligned, linear_head,
     transposed_kernel],
)  # fmt: skip
def test_each_mistake_shows(mistake: Callable[[wild.PortraitSegmenter], None]) -> None:
    segmenter = wild.portrait_segmenter()
    assert worst(segmenter) < 2e-3
    mistake(segmenter)
    assert worst(segmenter) > 2e-2


def test_the_network_is_what_its_card_says() -> None:
    path = SHIPPED / "portrait.safetensors"
    assert path.stat().st_size < 250_000
    assert card("SHA-256") == f"`{hashlib.sha256(path.read_bytes()).hexdigest()}`"
    assert card("size") == f"{path.stat().st_size:,} bytes"
    assert card("parameters") == f"{sum(parameter.numel() for parameter in network().parameters()):,}"
    with torch.no_grad(), FlopCounterMode(display=False) as counted:
        network()(torch.zeros(1, 3, *wild.PORTRAIT_SIZE))
    assert card("multiply-adds, 256×256") == f"{counted.get_total_flops() // 2:,}"
    assert not network().training


def test_weights_are_float16_in_the_file_and_the_same_numbers_in_the_network() -> None:
    stored = weights.read(SHIPPED / "portrait.safetensors").tensors
    state = network().state_dict()
    assert {tensor.dtype for tensor in stored.values()} == {torch.float16}
    assert {tensor.dtype for tensor in state.values()} == {torch.float32}
    assert stored.keys() == state.keys()
    assert all(torch.equal(tensor.float(), state[name]) for name, tensor in stored.items())


def test_origin_and_licence_are_beside_the_weights() -> None:
    said = weights.read(SHIPPED / "portrait.safetensors").metadata
    assert said["license"] == ABOUT["license"] == "Apache-2.0"
    for name, title in (("source_sha256", "SHA-256 of the source"), ("copyright", "copyright"), ("changes", "changes")):
        assert said[name] == ABOUT[name] == card(title).strip("`")
    assert ABOUT["computed_by"].startswith("LiteRT 2.3.0")


# --- what differs from the family -------------------------------------------------------------------------------------


def test_rows_are_small_s_with_fewer_channels() -> None:
    rows = wild.PORTRAIT_ROWS
    assert rows[:3] == SMALL[:3]
    for row, printed in zip(rows, SMALL[:8], strict=True):
        assert (row.kernel, row.use_se, row.activation, row.stride) == (
            printed.kernel, printed.use_se, printed.activation, printed.stride
        )  # fmt: skip
    assert [row.out_channels for row in rows] == [16, 24, 24, 32, 32, 32, 32, 32]
    assert [row.expanded_channels for row in rows] == [16, 72, 88, 96, 128, 128, 96, 96]
    assert [row.squeeze_channels for row in rows if row.use_se] == [8, 24, 32, 32, 24, 24]


def test_what_differs_in_the_blocks() -> None:
    features = network().features
    gates = [module for module in features.modules() if isinstance(module, SqueezeExcitation)]
    assert [gate.fc1.out_channels for gate in gates] == [8, 24, 32, 32, 24, 24]
    assert {type(gate.scale_activation) for gate in gates} == {nn.Sigmoid}
    strided = [module for module in features.modules() if isinstance(module, SamePaddedConv2d)]
    assert [conv.kernel_size[0] for conv in strided] == [3, 3, 3, 5]
    assert [len(block.block) for block in features[1:]] == [4, 3, 3, 4, 4, 4, 4, 4]
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network().modules())
    assert all(module.bias is not None for module in network().modules() if isinstance(module, nn.Conv2d))


def test_the_rows_cost_what_the_cost_model_says() -> None:
    """But for row 1's expansion, 16 by 16 on 128 × 128, and biases where batch norm has two numbers a channel."""
    backbone = MobileNetV3Config(wild.PORTRAIT_ROWS, last_conv=8, last_channel=8)
    layers = [layer for layer in profile(backbone, 256).layers if layer.feature < 9]
    macs: list[int] = []
    for module in network().features.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda m, _, out: macs.append(out[0].numel() * m.weight[0].numel()))
    with torch.no_grad():
        network()(torch.zeros(1, 3, 256, 256))
    network.cache_clear()  # the hooks go with it
    assert sum(macs) - sum(layer.macs for layer in layers) == 16 * 16 * 128 * 128
    norms = sum(layer.output[0] for layer in layers if layer.kind not in ("squeeze", "excite"))
    found = sum(parameter.numel() for parameter in network().features.parameters())
    assert found - sum(layer.parameters for layer in layers) == 16 * 16 + 16 - norms


def test_a_step_of_the_decoder_by_hand() -> None:
    """In NumPy, from the graph's operators one by one."""
    step = network().decoder[0]
    source = np.random.default_rng(0)
    coarse, skip = source.random((1, 128, 4, 4)), source.random((1, 24, 8, 8))

    def conv(layer: nn.Conv2d, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        weight, bias = layer.weight.detach().double().numpy()[:, :, 0, 0], layer.bias.detach().double().numpy()
        return np.einsum("oi,nihw->nohw", weight, x) + bias[:, None, None]

    # Twice as high and wide, with centres at halves: a quarter of the neighbour, the edge repeated.
    def doubled(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        before, after = np.roll(x, 1, -1), np.roll(x, -1, -1)
        before[..., 0], after[..., -1] = x[..., 0], x[..., -1]
        return np.stack([0.75 * x + 0.25 * before, 0.75 * x + 0.25 * after], -1).reshape(*x.shape[:-1], -1)

    up = conv(step.thin, doubled(doubled(coarse).swapaxes(2, 3)).swapaxes(2, 3))
    squeezed = np.maximum(conv(step.gate.fc1, (skip + up).mean((2, 3), keepdims=True)), 0)
    gate = 1 / (1 + np.exp(-conv(step.gate.fc2, squeezed)))
    fused = np.maximum(conv(step.fuse[0], skip * gate + up), 0)
    padded = np.pad(fused, ((0, 0), (0, 0), (1, 1), (1, 1)))
    kernel, bias = (getattr(step.refine[0], name).detach().double().numpy() for name in ("weight", "bias"))
    around = sum(padded[..., y : y + 8, x : x + 8] * kernel[:, 0, y, x, None, None] for y in range(3) for x in range(3))
    expected = fused + np.maximum(around + bias[:, None, None], 0)
    with torch.no_grad():
        found = step(*(torch.from_numpy(each).float() for each in (coarse, skip)))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-4)


# --- what goes in -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(16, 16), (144, 256), (256, 128)])
def test_other_sizes_of_multiples_of_16(size: tuple[int, int]) -> None:
    with torch.no_grad():
        found = network()(torch.rand(2, 3, *size))
    assert found.shape == (2, 1, *size)
    assert ((found >= 0) & (found <= 1)).all()


@pytest.mark.parametrize(
    "shape", [(3, 256, 256), (1, 1, 256, 256), (1, 4, 256, 256), (1, 3, 255, 256), (1, 3, 256, 8), (1, 3, 0, 256)]
)
def test_what_does_not_work_is_refused(shape: tuple[int, ...]) -> None:
    said = rf"x must have the shape \(N, 3, H, W\), H and W multiples of 16, got {re.escape(str(shape))}"
    with pytest.raises(ValueError, match=said):
        network()(torch.zeros(shape))


def test_a_picture_is_stretched_to_the_size() -> None:
    pixels = np.zeros((100, 60, 3), np.uint8)
    pixels[:50, :, 0] = 255
    pixels[:, 30:, 2] = 51
    found = wild.prepare_portrait(pixels)
    assert found.shape == (1, 3, 256, 256)
    assert found.dtype == torch.float32
    assert (found[0, 0, :126] == 1).all()
    assert (found[0, 0, 130:] == 0).all()
    torch.testing.assert_close(found[0, 2, :, 131:], torch.full((256, 125), 0.2))
    torch.testing.assert_close(found, wild.prepare_portrait(Image.fromarray(pixels)))
    same = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
    torch.testing.assert_close(
        wild.prepare_portrait(same)[0] * 255, torch.from_numpy(same).permute(2, 0, 1).float(), rtol=0, atol=1e-4
    )


@pytest.mark.parametrize(
    ("image", "error", "said"),
    [
        (np.zeros((48, 192), np.uint8), ValueError, r"shape \(H, W, 3\), H and W >= 1, got \(48, 192\)"),
        (np.zeros((0, 48, 3), np.uint8), ValueError, r"got \(0, 48, 3\)"),
        (np.zeros((48, 192, 3)), TypeError, r"array of bytes \(uint8\), got float64"),
        ("portrait.png", TypeError, "image must be an image or an array of bytes"),
    ],
)
def test_what_is_no_picture_is_refused(image: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        wild.prepare_portrait(image)


# --- what can be done with it -----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_it_can_be_exported_for_any_batch() -> None:
    images = prepared()[:4]
    program = torch.export.export(network(), (images,), dynamic_shapes=({0: torch.export.Dim("pictures")},))
    with torch.no_grad():
        torch.testing.assert_close(program.module()(images[:3]), network()(images[:3]), rtol=0, atol=1e-4)


def test_every_parameter_can_be_trained() -> None:
    torch.manual_seed(0)
    learner = wild.PortraitSegmenter()
    F.binary_cross_entropy(learner(torch.rand(2, 3, 32, 32)), torch.rand(2, 1, 32, 32).round()).backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in learner.parameters())
    assert learner.features[0][0].weight.grad.abs().max() > 0
