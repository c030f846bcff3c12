"""The steps of chapter 18 compute a convolution, the chapter shows what is compiled, and its players add correctly."""

from __future__ import annotations

import os
import re
import shutil
from typing import Any

import nbformat
import pytest
import torch
from conftest import ROOT
from figures import kernel_steps as steps
from figures import speed
from figures import writing_the_kernel as figures
from ledger import Deviation
from torch.nn import functional as F

from mnv3lib.deploy import Unavailable
from mnv3lib.deploy.engine import build

CHAPTER = ROOT / "book" / "18_writing_the_kernel.ipynb"
COMPILER = os.environ.get("CXX", "c++")
needs_compiler = pytest.mark.skipif(
    shutil.which(COMPILER) is None and not os.environ.get("CI"),
    reason=f"no C++ compiler {COMPILER!r}: install one (Debian: apt-get install g++)",
)


@pytest.mark.proves(
    "The kernels of chapter 18: every step of both layers",
    against="PyTorch's convolution and h-swish",
    tolerance=1e-5,
    unit="absolute",
)
@needs_compiler
@pytest.mark.parametrize("kind", ["expand", "depthwise"])
def test_every_step_is_the_layer(kind: str, deviation: Deviation) -> None:
    layer = next(layer for layer in steps.layers() if layer.kind == kind)
    make, names = {"expand": (steps.pointwise, steps.POINTWISE), "depthwise": (steps.depthwise, steps.DEPTHWISE)}[kind]
    x, weight, bias = steps.operands(layer, seed=3)
    expected = F.hardswish(F.conv2d(x[None], weight, bias, padding=layer.kernel // 2, groups=layer.groups))[0]
    assert torch.equal(steps.expected(layer, x, weight, bias), expected)
    kernels = make(x, weight, bias)
    assert tuple(kernels) == names
    for kernel in kernels.values():
        assert kernel.result.shape == expected.shape
        deviation((kernel.result - expected).abs().max())


@needs_compiler
def test_another_map_and_what_does_not_fill_a_tile() -> None:
    x, weight, bias = torch.randn(16, 4, 7), torch.randn(96, 16, 1, 1), torch.randn(96)
    expected = F.hardswish(F.conv2d(x[None], weight, bias))[0]
    for kernel in steps.pointwise(x, weight, bias).values():
        torch.testing.assert_close(kernel.result, expected, rtol=1e-4, atol=1e-4)
    for message, wrong in (
        ("channels in must be a multiple of", (x[:3], weight[:, :3], bias)),
        ("channels out must be a multiple of", (x, weight[:97 - 2], bias[:95])),
        ("positions must be a multiple of", (x[:, :3, :5], weight, bias)),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            steps.pointwise(*wrong)


@needs_compiler
def test_a_step_alone_with_options_of_its_own() -> None:
    code = steps.compiled(f'extern "C" {steps.source("naive")}', "-O1")
    x, weight, bias = steps.operands(steps.layers()[0])
    alone = steps.pointwise(x, weight, bias, code)
    assert list(alone) == ["naive"]
    # the compiler may join a product and a sum into one instruction or not, by its options
    torch.testing.assert_close(alone["naive"].result, steps.expected(steps.layers()[0], x, weight, bias))


def test_without_a_compiler_or_with_a_wrong_text_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(Unavailable, match="no-such-compiler"):
        steps.compiled("int one() { return 1; }")


@needs_compiler
def test_the_words_of_the_compiler_are_handed_on() -> None:
    with pytest.raises(Unavailable, match="refused the text"):
        steps.compiled("this is no C++")


def test_a_name_that_is_no_step() -> None:
    with pytest.raises(ValueError, match="name must be one of"):
        steps.source("fast")


def test_the_blocked_layout_there_and_back() -> None:
    x = torch.arange(2 * 3 * 4).reshape(4, 2, 3)
    panels = steps.blocked(x, 2)
    assert panels.shape == (2, 2, 3, 2)
    assert panels[1, 1, 2].tolist() == [x[2, 1, 2].item(), x[3, 1, 2].item()]
    assert torch.equal(steps.unblocked(panels), x)


def test_the_chapter_shows_what_is_compiled() -> None:
    """Each C++ function in the text stands in the file, and each fragment in the engine."""
    text = "\n".join(cell.source for cell in nbformat.read(CHAPTER, as_version=4).cells if cell.cell_type == "markdown")
    blocks = re.findall(r"```cpp\n(.*?)```", text, flags=re.S)
    own = {steps.source(name).strip() for name in ("naive", "contiguous", "vectors", "tiles", "product", "fused")}
    engine = " ".join(" ".join(path.read_text().split()) for path in build.sources())
    shown = [block.strip() for block in blocks]
    assert own <= set(shown)
    for block in set(shown) - own:
        assert " ".join(block.split()) in engine
    assert all(block.count("\n") <= 30 for block in shown)


def test_bars_are_multiples_of_the_floor() -> None:
    lines = [
        {"step": name, "milliseconds": ms} for name, ms in (("naive", 10), ("PyTorch", 3), ("-O1", 9), ("fused", 1.5))
    ]
    drawing = figures.times_the_floor({"floor_ms": 0.5, "lines": lines}, cpu="this one")
    assert drawing.data == {"PyTorch": 6, "naive": 20, "fused": 3}
    bars = drawing.figure.axes[0].patches
    assert [bar.get_x() + bar.get_width() for bar in bars] == pytest.approx([6, 20, 3])
    assert drawing.alt.endswith("of the this one: PyTorch 6, 1 loops 20, 6 fused 3.")


def test_measured_steps_fit_the_axis() -> None:
    for measured in speed.load("steps"):
        for result, names in zip(measured["results"], (steps.POINTWISE, steps.DEPTHWISE), strict=True):
            drawing = figures.times_the_floor(result, cpu=measured["cpu"])
            assert list(drawing.data) == ["PyTorch", *names]
            assert max(drawing.data.values()) < drawing.figure.axes[0].get_xlim()[1] / 2


def test_the_tile_ends_with_the_matrix_product() -> None:
    pixels, weights = torch.tensor(figures._PIXELS), torch.tensor(figures._WEIGHTS)
    product = pixels @ weights + torch.tensor(figures._BIAS)
    last = figures.register_tile(figures.TILE_STEPS[-1])
    assert [last.data["done"][p] for p in range(6)] == product.tolist()
    first = figures.register_tile("tile 1, bias")
    assert list(first.data["done"]) == [0, 1, 2]
    assert first.data["sums"][3] == figures._BIAS
    half = figures.register_tile("tile 1, k = 1")
    partly = pixels[3:, :2] @ weights[:2] + torch.tensor(figures._BIAS)
    assert [half.data["sums"][p] for p in (3, 4, 5)] == partly.tolist()
    assert half.data["k"] == 1
    assert "load 2 vectors and 3 numbers, 6 multiply-adds" in half.alt


def colours(sketch: figures.Sketch) -> dict[str, int]:
    return {colour: sketch._repr_svg_().count(f'fill="{colour}"') for colour in figures.COLOURS.values()}


def test_a_tile_colours_what_it_loads_and_holds() -> None:
    found = colours(figures.register_tile("tile 0, k = 2"))
    assert (found[figures.COLOURS["orange"]], found[figures.COLOURS["green"]]) == (8, 3)
    assert found[figures.ACCENT] == 24
    assert figures.register_tile("tile 0, store")._repr_svg_().count(f'fill="{figures.REFERENCE}"') == 24


def test_the_row_ends_with_the_convolution() -> None:
    lines, kernel = (torch.tensor(numbers, dtype=torch.float) for numbers in (figures._LINES, figures._KERNEL))
    expected = F.conv2d(lines[None, None], kernel[None, None]).flatten()
    last = figures.depthwise_row("store")
    assert last.data == {"sums": expected.int().tolist(), "loads": 27, "products": 36}
    first_line = F.conv2d(lines[None, None, :1], kernel[None, None, :1]).flatten()
    assert figures.depthwise_row("line 0, pixel 5").data["sums"] == first_line.int().tolist()
    assert figures.depthwise_row("line 0, pixel 3").alt.startswith(
        "line 0, pixel 3: 1 load; multiply-adds with taps 2, 1, 0;"
    )
    assert figures.depthwise_row("line 0, pixel 2")._repr_svg_().count("<path") == 3
    assert figures.depthwise_row("line 1, pixel 0")._repr_svg_().count("<path") == 1


@pytest.mark.parametrize(("draw", "stop"), [(figures.register_tile, "tile 9"), (figures.depthwise_row, "line 9")])
def test_stops_that_are_none(draw: Any, stop: str) -> None:
    with pytest.raises(ValueError, match="step must be one of"):
        draw(stop)


@needs_compiler
def test_tiles_are_the_engine_s() -> None:
    code = steps.compiled('#include "matmul.h"\nextern "C" int registers() { return mnv3::REGISTERS; }\n'
                          'extern "C" int height(int nv) { return mnv3::tallest(nv); }')  # fmt: skip
    for panels in (1, 2, 3):
        assert figures.tallest(panels, code.registers()) == code.height(panels)


def test_tiles_that_registers_hold() -> None:
    found = figures.tile_choices(16).data
    assert found["ours"] == [(14, 1), (6, 2), (4, 3)]
    assert found["loads"][4, 3] == max(found["loads"].values()) == 12 / 7
    assert (5, 3) not in found["loads"]
    assert set(found["ours"]) <= set(figures.tile_choices(32).data["loads"])


def test_every_file_of_the_engine_is_explained() -> None:
    files = figures.engine_files()
    here = {path.name for path in steps.ENGINE.iterdir() if path.suffix in (".h", ".cpp", ".py")}
    assert {name for name, *_ in files} == here
    by_name = {name: (lines, about) for name, lines, about, _ in files}
    assert by_name["layout.h"][1] == "How a feature map lies in memory, and the vectors that read it"
    assert by_name["plan.cpp"][0] == len((steps.ENGINE / "plan.cpp").read_text().splitlines())
    text = "\n".join(cell.source for cell in nbformat.read(CHAPTER, as_version=4).cells if cell.cell_type == "markdown")
    headings = re.findall(r"^## (.+)", text, flags=re.M)
    for _, _, _, where in files:
        if not where.startswith("steps"):
            assert any(where in heading.lower() for heading in headings), where


def test_decisions_compare_ours_with_the_best_other() -> None:
    """Intervals that meet are no difference; another precision's way counts only where it is allowed."""
    small = [
        {"way": "engine", "ratio": [0.3, 0.28, 0.32]},
        {"way": "OpenVINO", "ratio": [0.4, 0.33, 0.45]},
        {"way": "OpenVINO, int8", "ratio": [0.25, 0.2, 0.28]},
        {"way": "ONNX Runtime", "ratio": [0.5, 0.49, 0.51]},
    ]
    large = [*small, {"way": "engine, int8", "ratio": [0.1, 0.09, 0.11]}]
    results = [
        {"network": "mobilenet_v3_small", "batch": 1, "lines": small},
        {"network": "mobilenet_v3_large", "batch": 1, "lines": large},
    ]
    assert figures.decisions([{"cpu": "a core", "results": results}]) == [
        ("a core", 1, "float32", "engine 0.30\n< OpenVINO 0.40", "engine 0.30\n< OpenVINO 0.40"),
        (
            "a core",
            1,
            "8 bits allowed",
            "OpenVINO, int8 0.25\n≈ engine 0.30",
            "engine, int8 0.10\n< OpenVINO, int8 0.25",
        ),
    ]


@pytest.mark.parametrize(
    ("ours", "theirs", "pair", "sign"),
    [
        ([0.3, 0.28, 0.35], [0.4, 0.33, 0.45], [0.75, 0.7, 0.8], "<"),
        ([0.3, 0.28, 0.32], [0.4, 0.33, 0.45], [0.75, 0.7, 1.0], "≈"),
        ([0.3, 0.28, 0.35], [0.25, 0.2, 0.29], [1.2, 1.1, 1.3], "<"),
    ],
)
def test_a_paired_ratio_decides_before_the_intervals_do(
    ours: list[float], theirs: list[float], pair: list[float], sign: str
) -> None:
    lines = [
        {"way": "engine", "ratio": ours, "against": "OpenVINO", "ratio_to_it": pair},
        {"way": "OpenVINO", "ratio": theirs},
    ]
    results = [{"network": f"mobilenet_v3_{size}", "batch": 1, "lines": lines} for size in ("small", "large")]
    ((*_, small, large),) = figures.decisions([{"cpu": "a core", "results": results}])
    assert small == large
    assert f"\n{sign} " in small


def test_what_the_chapter_concludes_is_in_the_table() -> None:
    ours = {"float32": "engine ", "bfloat16 allowed": "engine, bf16 "}
    for cpu, batch, precision, small, large in figures.decisions(speed.load("inference")):
        assert precision == "float32" or ("AVX-512" if "bfloat16" in precision else "AVX2") in cpu
        if precision in ours:
            assert [cell.startswith(ours[precision]) for cell in (small, large)] == [True, True], (cpu, batch)
        else:
            assert small.startswith("engine 0")
            assert re.search(r"OpenVINO, int8 [\d.]+\n≈|≈ OpenVINO, int8", large), (cpu, batch)
