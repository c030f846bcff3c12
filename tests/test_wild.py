"""Networks in the wild: the published ones, number for number; with what they changed; as good as their cards say."""

from __future__ import annotations

import copy
import hashlib
import json
import random
import re
import string
import tomllib
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import ROOT
from figures.text_lines import draw_line
from ledger import Deviation
from PIL import Image
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mnv3lib import mobilenet_v3_small, weights, wild
from mnv3lib.config import small
from mnv3lib.deploy import Engine, fold_batch_norm
from mnv3lib.deploy.engine.reading import flatten
from mnv3lib.pointwise import with_matrix_products
from mnv3lib.wild.pieces import squeeze_excitation

SHIPPED = Path(wild.__file__).with_name("shipped")
#: Lines as pixels, upright and upside down in turn, and ONNX Runtime's logits of them from the published file; both
#: written by tools/convert_text_direction.py.
DATA = Path(__file__).with_name("data")
EXPECTED = json.loads((DATA / "text_direction.json").read_text(encoding="utf-8"))


@cache
def network() -> wild.TextDirection:
    return wild.text_direction()


def pictures() -> list[Image.Image]:
    """The lines whose logits are known."""
    sheet = Image.open(DATA / "text_direction.png").convert("RGB")
    return [sheet.crop((0, top, 192, top + 48)) for top in range(0, sheet.height, 48)]


def prepared() -> Tensor:
    return torch.cat([wild.prepare_line(picture) for picture in pictures()])


def probability(picture: Any, upside_down: bool) -> float:
    """Of what is right."""
    with torch.no_grad():
        return float(network()(wild.prepare_line(picture)).softmax(1)[0, int(upside_down)])


def card(title: str) -> str:
    """What the table of the card says of something."""
    text = (SHIPPED / "text_direction.md").read_text(encoding="utf-8")
    (found,) = re.findall(rf"^\| {re.escape(title)} \| (.+?) \|$", text, flags=re.M)
    return found


# --- the trained network ----------------------------------------------------------------------------------------------


@pytest.mark.proves(
    "PaddleOCR's text direction classifier: logits of eight lines, alone and as a batch",
    against="ONNX Runtime's, stored, from the published file",
    tolerance=1e-5,
    unit="relative to the largest",
)
def test_logits_are_those_of_the_published_file(deviation: Deviation) -> None:
    images, expected = prepared(), torch.tensor(EXPECTED["logits"])
    with torch.no_grad():
        for found in (network()(images), torch.cat([network()(image) for image in images.split(1)])):
            assert found.shape == expected.shape == (8, 2)
            deviation(float((found - expected).abs().max() / expected.abs().max()))


def test_stored_lines_are_told_apart() -> None:
    found = torch.tensor(EXPECTED["logits"]).argmax(1).tolist()
    assert [bool(direction) for direction in found] == [turned for _, turned in EXPECTED["lines"]]
    assert found == [0, 1] * 4


def test_lines_drawn_here_are_told_apart() -> None:
    for text in ("the paper", "stride of 2", "Howard et al.", "width 0.35"):
        for upside_down in (False, True):
            assert probability(draw_line(text, upside_down=upside_down), upside_down) > 0.9, (text, upside_down)


def test_the_network_is_what_its_card_says() -> None:
    path = SHIPPED / "text_direction.safetensors"
    assert card("SHA-256") == f"`{hashlib.sha256(path.read_bytes()).hexdigest()}`"
    assert card("size") == f"{path.stat().st_size:,} bytes"
    assert card("parameters") == f"{sum(parameter.numel() for parameter in network().parameters()):,}"
    counted = copy.deepcopy(network())
    macs: list[int] = []
    for module in counted.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(lambda m, _, out: macs.append(out.numel() * m.weight[0].numel()))
    with torch.no_grad():
        counted(torch.zeros(1, 3, *wild.LINE_SIZE))
    assert card("multiply-adds, 48×192") == f"{sum(macs):,}"
    assert not network().training
    assert wild.TextDirection.classes == ("upright", "upside down")


@pytest.mark.slow
def test_torch_counts_the_same_multiply_adds() -> None:
    with torch.no_grad(), FlopCounterMode(display=False) as counted:
        network()(torch.zeros(1, 3, *wild.LINE_SIZE))
    assert card("multiply-adds, 48×192") == f"{counted.get_total_flops() // 2:,}"


def test_origin_and_licence_are_beside_the_weights() -> None:
    said = weights.read(SHIPPED / "text_direction.safetensors").metadata
    assert said["license"] == EXPECTED["about"]["license"] == "Apache-2.0"
    for name, title in (("source_sha256", "SHA-256 of the source"), ("copyright", "copyright"), ("changes", "changes")):
        assert said[name] == EXPECTED["about"][name] == card(title).strip("`")
    licence = (SHIPPED / "LICENSE-APACHE-2.0.txt").read_bytes()
    # The text as apache.org has it.
    assert hashlib.sha256(licence).hexdigest() == "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    data = bytearray((SHIPPED / "text_direction.safetensors").read_bytes())
    data[-1_000] ^= 1
    (tmp_path / "damaged.safetensors").write_bytes(data)
    with pytest.raises(weights.WeightsError, match="is damaged"):
        weights.load(wild.TextDirection(), tmp_path / "damaged.safetensors")


WORDS = ("channel", "gate", "height", "kernel", "large", "line", "model", "network", "paper", "picture", "small",
         "stride", "text", "the", "upright", "width", "192", "224", "2019", "48")  # fmt: skip


def words(source: random.Random, least: int, most: int) -> str:
    return " ".join(source.choice(WORDS) for _ in range(source.randint(least, most)))


def letters(source: random.Random, least: int, most: int, of: str = string.ascii_letters) -> str:
    return "".join(source.choice(of) for _ in range(source.randint(least, most)))


#: By what the card calls them: a line, and the size of its letters.
KINDS: dict[str, tuple[Callable[[random.Random], str], int]] = {
    "two to four words": (partial(words, least=2, most=4), 32),
    "6 to 16 letters at random": (partial(letters, least=6, most=16), 32),
    "the same at half the size": (partial(letters, least=6, most=16), 16),
    "4 to 12 of H, I, N, O, S, X and Z": (partial(letters, least=4, most=12, of="HINOSXZ"), 32),
    "two letters": (partial(letters, least=2, most=2), 32),
    "ten words": (partial(words, least=10, most=10), 32),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_accuracy_is_what_the_card_says(kind: str) -> None:
    draw, size = KINDS[kind]
    source, right = random.Random(0), 0
    for text in [draw(source) for _ in range(200)]:
        lines = [draw_line(text, upside_down=turned, size=size) for turned in (False, True)]
        with torch.no_grad():
            logits = network()(torch.cat([wild.prepare_line(line) for line in lines]))
        right += int((logits.argmax(1) == torch.tensor([0, 1])).sum())
    # Another Pillow draws a little differently, and what is close to ½ goes either way.
    said = float(card(kind).removesuffix(" %")) / 100
    assert right / 400 == pytest.approx(said, abs=0.005 if said > 0.98 else 0.03)


# --- what differs from the family -------------------------------------------------------------------------------------


def test_widths_kernels_and_activations_are_the_family_s() -> None:
    ours = mobilenet_v3_small(width_mult=0.35)
    same = 0
    for theirs, own in zip(network().features[1:-1], ours.features[1:-1], strict=True):
        block = list(theirs.block)[0 if len(theirs.block) == len(own.block) else 1 :]
        for found, expected in zip(block, own.block, strict=True):
            if isinstance(expected, nn.Sequential):
                assert found[0].weight.shape == expected[0].weight.shape
                assert [type(layer) for layer in found] == [type(layer) for layer in expected]
                same += 1
        assert theirs.use_res_connect == own.use_res_connect
    assert same == 11 + 11 + 10  # depthwise convolutions, projections, and expansions but for row 1


def test_what_differs_from_the_family() -> None:
    rows = small(width_mult=0.35).rows
    features = network().features
    assert len(features) == 13
    gates = [block.block[2] for block in features[1:-1] if len(block.block) == 4]
    assert [gate.fc1.out_channels for gate in gates] == [2, 8, 22, 22, 10, 12, 26, 50, 50]
    assert [row.squeeze_channels for row in rows if row.use_se] == [8, 8, 24, 24, 16, 16, 24, 48, 48]
    assert {gate.scale_activation.slope for gate in gates} == {0.2}
    assert [block.block[1][0].stride for block in features[1:-1]] == [
        (2, 1), (2, 1), (1, 1), (2, 1), *[(1, 1)] * 4, (2, 1), (1, 1), (1, 1)
    ]  # fmt: skip
    assert features[0][0].stride == (2, 2)
    assert features[1].block[0][0].weight.shape == (8, 8, 1, 1)
    assert features[-1][0].out_channels == 200 == network().classifier.in_features
    assert network().classifier.out_features == 2
    assert {m.eps for m in network().modules() if isinstance(m, nn.BatchNorm2d)} == {1e-5}


def test_maps_are_wide_and_low() -> None:
    sizes, x = [], torch.zeros(1, 3, 48, 192)
    with torch.no_grad():
        for layer in network().features:
            x = layer(x)
            sizes.append((x.shape[2], x.shape[3]))
        assert sizes == [(24, 96), (12, 96), *[(6, 96)] * 2, *[(3, 96)] * 5, *[(2, 96)] * 4]
        assert network().maxpool(x).shape == (1, 200, 1, 48)
        # Of 2×2 the largest, and only then the mean.
        by_hand = x.reshape(1, 200, 2, 48, 2).amax((2, 4)).mean(2)
        torch.testing.assert_close(network()(torch.zeros(1, 3, 48, 192)), network().classifier(by_hand))
        assert network()(torch.zeros(2, 3, 33, 3)).shape == (2, 2)
        with pytest.raises(RuntimeError, match="Output size is too small"):
            network()(torch.zeros(1, 3, 32, 192))


@pytest.mark.parametrize("slope", [0.2, 1 / 6])
def test_hard_sigmoid_by_hand(slope: float) -> None:
    gate, x = wild.HardSigmoid(slope), torch.tensor([-9.0, -3.0, -2.6, -1.0, 0.0, 1.0, 2.6, 3.0, 9.0])
    expected = [min(max(slope * value + 0.5, 0), 1) for value in x.tolist()]
    torch.testing.assert_close(gate(x), torch.tensor(expected))
    assert torch.allclose(gate(x), F.hardsigmoid(x), atol=1e-6) == (slope < 0.2)
    assert f"slope={slope:g}" in repr(gate)


def test_a_slope_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match=r"slope must be a finite number > 0, got -0\.2"):
        wild.HardSigmoid(-0.2)
    with pytest.raises(TypeError, match="slope must be a finite number > 0, got 'steep'"):
        wild.HardSigmoid("steep")  # type: ignore[arg-type]


def test_a_gate_of_another_function_weighs_by_it() -> None:
    block, x = squeeze_excitation(6, 4, nn.Sigmoid()), torch.rand(2, 6, 3, 5)
    means = x.mean((2, 3), keepdim=True)
    gates = torch.sigmoid(block.fc2(block.fc1(means).relu()))
    torch.testing.assert_close(block(x), x * gates)


# --- pictures ---------------------------------------------------------------------------------------------------------


def resized(pixels: np.ndarray[Any, Any], height: int, width: int) -> np.ndarray[Any, Any]:
    """Bilinear with centres of pixels at halves, as OpenCV defines it, one axis after the other."""
    for axis, size in ((0, height), (1, width)):
        sides = pixels.shape[axis]
        where = np.clip((np.arange(size) + 0.5) * sides / size - 0.5, 0, sides - 1)
        low = np.floor(where).astype(int)
        high = np.minimum(low + 1, sides - 1)
        part = (where - low).reshape([-1 if each == axis else 1 for each in range(3)])
        pixels = np.take(pixels, low, axis) * (1 - part) + np.take(pixels, high, axis) * part
    return pixels


@pytest.mark.parametrize(
    ("height", "width", "taken"),
    [(48, 192, 192), (48, 100, 100), (24, 31, 62), (31, 50, 78), (96, 800, 192), (7, 1, 7), (48, 193, 192)],
)
def test_a_picture_is_resized_and_filled_up(height: int, width: int, taken: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    found = wild.prepare_line(pixels)
    assert found.shape == (1, 3, 48, 192)
    assert found.dtype == torch.float32
    assert (found[..., taken:] == 0).all()
    grey = (found[0, :, :, :taken].permute(1, 2, 0).numpy() + 1) * 127.5
    expected = resized(pixels.astype(float), 48, taken)[..., ::-1]  # BGR
    assert np.abs(grey - expected).max() <= 0.51  # rounded to whole levels
    torch.testing.assert_close(found, wild.prepare_line(Image.fromarray(pixels)))


def test_colours_are_blue_green_red() -> None:
    found = wild.prepare_line(Image.new("RGB", (192, 48), (255, 102, 0)))
    for channel, value in enumerate((-1, 102 / 127.5 - 1, 1)):
        torch.testing.assert_close(found[0, channel], torch.full((48, 192), float(value)))
    grey = wild.prepare_line(Image.new("L", (10, 48), 255))
    assert (grey[..., :10] == 1).all()


@pytest.mark.parametrize(
    ("image", "error", "said"),
    [
        (np.zeros((48, 192), np.uint8), ValueError, r"shape \(H, W, 3\), H and W >= 1, got \(48, 192\)"),
        (np.zeros((48, 192, 4), np.uint8), ValueError, r"got \(48, 192, 4\)"),
        (np.zeros((48, 192, 1), np.uint8), ValueError, r"got \(48, 192, 1\)"),
        (np.zeros((1, 48, 3, 3), np.uint8), ValueError, r"got \(1, 48, 3, 3\)"),
        (np.zeros((48, 0, 3), np.uint8), ValueError, r"got \(48, 0, 3\)"),
        (np.zeros((48, 192, 3), bool), TypeError, r"array of bytes \(uint8\), got bool"),
        (np.zeros((48, 192, 3)), TypeError, r"array of bytes \(uint8\), got float64"),
        ("line.png", TypeError, "image must be an image or an array of bytes"),
    ],
)
def test_what_is_no_picture_is_refused(image: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        wild.prepare_line(image)


def test_a_line_turned_is_the_line_by_half_a_turn() -> None:
    upright, turned = (np.asarray(draw_line("paper", upside_down=each, ink="navy")) for each in (False, True))
    assert upright.shape[0] == 48
    assert (turned == upright[::-1, ::-1]).all()
    assert not (turned == upright).all()
    assert (upright == (0, 0, 128)).all(2).any()
    assert (upright[0] == 255).all()


# --- what can be done with it -----------------------------------------------------------------------------------------


def test_it_can_be_folded_and_made_of_matrix_products() -> None:
    images = prepared()
    folded = fold_batch_norm(network())
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    with torch.no_grad():
        expected = network()(images)
        for other in (folded, with_matrix_products(folded)):
            torch.testing.assert_close(other(images), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_it_can_be_exported_for_any_batch() -> None:
    images = prepared()
    program = torch.export.export(network(), (images,), dynamic_shapes=({0: torch.export.Dim("lines")},))
    with torch.no_grad():
        torch.testing.assert_close(program.module()(images[:3]), network()(images[:3]))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of other projects, about each other
def test_quantised_it_decides_the_same() -> None:
    quantizer = pytest.importorskip("executorch.backends.xnnpack.quantizer.xnnpack_quantizer")
    pt2e = pytest.importorskip("torchao.quantization.pt2e.quantize_pt2e")
    images = prepared()
    recipe = quantizer.XNNPACKQuantizer().set_global(quantizer.get_symmetric_quantization_config(is_per_channel=True))
    with torch.no_grad():
        watched = pt2e.prepare_pt2e(torch.export.export(network(), (images,)).module(), recipe)
        watched(images)
        found, expected = pt2e.convert_pt2e(watched)(images), network()(images)
    assert found.argmax(1).tolist() == [0, 1] * 4
    assert 0 < float((found - expected).abs().max()) < 0.15 * float(expected.std())


def test_every_parameter_can_be_trained() -> None:
    torch.manual_seed(0)
    learner = wild.TextDirection()
    F.cross_entropy(learner(prepared()), torch.tensor([0, 1] * 4)).backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in learner.parameters())
    assert learner.features[0][0].weight.grad.abs().max() > 0


def test_the_engine_refuses_it_by_name() -> None:
    with pytest.raises(TypeError, match="model must be a MobileNetV3 for classification, got TextDirection"):
        Engine(network())


def narrowed(model: nn.Module) -> None:
    model.features[2].block[1][0].stride = (2, 1)


def regated(model: nn.Module) -> None:
    model.features[1].block[1].scale_activation = wild.HardSigmoid(0.2)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (narrowed, r"depthwise convolution as the family has them at 'features\.2\.block\.1\.0'"),
        (regated, r"ReLU and h-sigmoid at 'features\.1\.block\.1', got SqueezeExcitation"),
    ],
)
def test_the_engine_refuses_each_difference_by_itself(change: Callable[[nn.Module], None], said: str) -> None:
    model = mobilenet_v3_small(width_mult=0.35, num_classes=2).eval()
    flatten(model)
    change(model)
    with pytest.raises(ValueError, match=said):
        flatten(model)


def test_the_wheel_says_both_licences() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["license"] == "MIT AND Apache-2.0"
    (code, theirs) = project["license-files"]
    assert (ROOT / code).read_text(encoding="utf-8").startswith("MIT License")
    assert (ROOT / theirs).read_bytes() == (SHIPPED / "LICENSE-APACHE-2.0.txt").read_bytes()
