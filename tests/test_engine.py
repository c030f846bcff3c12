"""The engine gives what the network gives, whatever the network, the input, the instructions and the threads."""

from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ledger import Deviation
from networks import pictures, shaken
from reference import relative_error, same_bits, tables
from torch import nn
from torchvision import models

import mnv3lib
from mnv3lib import MobileNetV3
from mnv3lib.config import MobileNetV3Config, large, small
from mnv3lib.deploy import Engine, Unavailable, fold_batch_norm
from mnv3lib.deploy.engine import build
from mnv3lib.deploy.engine.build import library

#: On networks that amplify, PyTorch's own float32 is up to 2.9e-5 away from float64.
TOLERANCE = 3e-5
COMPILER = os.environ.get("CXX", "c++")
if shutil.which(COMPILER) is None and not os.environ.get("CI"):
    pytest.skip(f"no C++ compiler {COMPILER!r}: install one (Debian: apt-get install g++)", allow_module_level=True)

LANES = {"avx2": 8, "sse2": 4}
WIDTHS = (0.25, 0.35, 0.5, 0.6, 0.75, 0.9, 1.0, 1.25, 1.3, 1.5, 2.0)


def network(config: MobileNetV3Config) -> Any:
    return shaken(MobileNetV3(config)).eval()


def error(model: nn.Module, images: torch.Tensor, **options: Any) -> float:
    """Of the engine's logits against the network's in float64, in standard deviations of these.

    It is of the size of PyTorch's own in float32.
    """
    with torch.no_grad():
        expected, single = copy.deepcopy(model).double()(images.double()), model(images)
    found = relative_error(Engine(model, **options)(images), expected)
    assert found <= 4 * relative_error(single, expected) + 5e-6
    return found


@pytest.mark.slow
@pytest.mark.proves(
    "The engine: logits of both variants over widths, tails, dilation and odd sizes",
    against="the network in float64, 2 variants × 11 widths × tail × dilation",
    tolerance=TOLERANCE,
    unit="relative to the spread",
)
@pytest.mark.parametrize(("tail", "dilated"), [(False, False), (False, True), (True, False), (True, True)])
@pytest.mark.parametrize("variant", [large, small])
def test_the_engine_gives_the_network_s_logits(variant: Any, tail: bool, dilated: bool, deviation: Deviation) -> None:
    for number, width in enumerate(WIDTHS):
        config = variant(num_classes=13, width_mult=width, reduced_tail=tail, dilated=dilated)
        deviation(error(network(config), pictures(1 + number % 2, 3, 60 + number, 75)))


@pytest.mark.proves(
    "The engine: any rows, with either padding, any channels, any size",
    against="the network in float64",
    tolerance=TOLERANCE,
    unit="relative to the spread",
)
def test_the_engine_takes_any_rows(deviation: Deviation) -> None:
    @settings(max_examples=40, deadline=None)
    @given(
        rows=tables(), same=st.booleans(), channels=st.integers(1, 5), activation=st.sampled_from(("RE", "HS")),
        shape=st.tuples(st.integers(1, 3), st.integers(1, 40), st.integers(1, 40)),
    )  # fmt: skip
    def check(rows: Any, same: bool, channels: int, activation: Any, shape: tuple[int, int, int]) -> None:
        config = MobileNetV3Config(
            tuple(rows), last_conv=21, last_channel=19, num_classes=5, in_channels=channels, activation=activation,
            padding="same" if same else "symmetric",
        )  # fmt: skip
        images, *side = shape
        deviation(error(network(config), pictures(images, channels, *side)))

    check()


@pytest.mark.slow
@pytest.mark.proves(
    "The engine with vectors of 8 and of 4 floats",
    against="the network in float64",
    tolerance=TOLERANCE,
    unit="relative to the spread",
)
@pytest.mark.parametrize("instructions", LANES)
def test_vectors_of_every_length_give_the_same(instructions: str, deviation: Deviation) -> None:
    for variant, tail in product((large, small), (False, True)):
        model = network(
            variant(num_classes=13, width_mult=0.35, reduced_tail=tail, padding="same" if tail else "symmetric")
        )
        assert Engine(model, instructions=instructions).lanes == LANES[instructions]
        for shape in ((1, 3, 97, 131), (2, 3, 1, 1), (3, 3, 32, 17)):
            deviation(error(model, pictures(*shape), instructions=instructions))


@pytest.mark.proves(
    "The engine reads torchvision's network, and one whose batch norm is folded already",
    against="the network in float64",
    tolerance=TOLERANCE,
    unit="relative to the spread",
)
def test_the_engine_reads_torchvision_s_network_and_a_folded_one(deviation: Deviation) -> None:
    model: Any = shaken(models.mobilenet_v3_small(num_classes=11)).eval()
    deviation(error(model, pictures(2, 3, 64, 48)))
    deviation(error(fold_batch_norm(model), pictures(2, 3, 64, 48)))
    model.classifier[3] = nn.Linear(1024, 3, bias=False)  # a head of one's own
    deviation(error(model, pictures(2, 3, 64, 48)))


def test_bfloat16_is_nearer_than_pytorch_s_or_refused() -> None:
    """Maps and weights have 8 bits; sums are in float32, as is what the depthwise layers read."""
    model, images = network(large(num_classes=100, width_mult=0.5)), pictures(3, 3, 64, 75)
    if "#define __AVX512BF16__ " not in build._known(build.INSTRUCTIONS["native"]):
        with pytest.raises(Unavailable, match="bf16 needs AVX512BF16"):
            Engine(model, precision="bf16")
        return
    engine = Engine(model, precision="bf16")
    with torch.no_grad():
        expected = copy.deepcopy(model).double()(images.double())
        theirs = copy.deepcopy(model).bfloat16()(images.bfloat16())
    found = relative_error(engine(images), expected)
    assert 1e-3 < found < 0.7 * relative_error(theirs, expected)
    torch.testing.assert_close(torch.cat([engine(image[None]) for image in images]), engine(images), rtol=0, atol=0)


def test_a_precision_that_instructions_lack_is_refused() -> None:
    with pytest.raises(Unavailable, match="bf16 needs AVX512BF16, and 'avx2' instructions lack it"):
        library("avx2", "bf16")
    with pytest.raises(ValueError, match="precision must be one of 'fp32', 'bf16', got 'int8'"):
        library("native", "int8")


def test_the_engine_is_compiled_for_several_threads() -> None:
    compiled = Path(library()._name).read_bytes()
    assert b"GOMP_parallel" in compiled or b"__kmpc_fork_call" in compiled


def test_threads_batches_and_order_do_not_change_a_bit() -> None:
    engine = Engine(network(small(num_classes=9, width_mult=0.5)))
    images = pictures(5, 3, 50, 66)
    together = engine(images)
    try:
        for threads in (2, 3):
            torch.set_num_threads(threads)
            assert same_bits(engine(images), together)
    finally:
        torch.set_num_threads(1)
    assert same_bits(torch.cat([engine(image[None]) for image in images]), together)
    assert same_bits(engine(images.flip(0)).flip(0), together)
    assert same_bits(engine(images.to(memory_format=torch.channels_last)), together)


def test_inputs_of_many_sizes_and_callers_do_not_disturb_each_other() -> None:
    engine = Engine(network(small(num_classes=9, width_mult=0.35)))
    inputs = [pictures(1 + i % 3, 3, 20 + 3 * i, 40 - i) for i in range(9)]
    expected = [engine(images) for images in inputs]
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda i: engine(inputs[i % 9]), range(90)))
    assert all(same_bits(logits, expected[i % 9]) for i, logits in enumerate(found))
    assert len(engine._idle) <= 4


def test_what_is_not_a_number_stays_so() -> None:
    engine = Engine(network(small(num_classes=9, width_mult=0.35)))
    images = pictures(2, 3, 40, 40)
    images[1, 0, 20, 20] = torch.nan
    logits = engine(images)
    assert logits[0].isfinite().all()
    assert logits[1].isnan().all()


def test_the_engine_has_copied_the_weights() -> None:
    model = network(small(num_classes=9, width_mult=0.35))
    engine, images = Engine(model), pictures(1, 3, 40, 40)
    before = engine(images)
    with torch.no_grad():
        model.classifier[3].weight.zero_()
    assert same_bits(engine(images), before)
    assert engine(images[:0]).shape == (0, 9)


def put(model: Any, path: str, name: str, value: Any) -> Any:
    """The network with one attribute of one of its modules changed."""
    setattr(model.get_submodule(path), name, value)
    return model


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda model: model.train(), "evaluation mode"),
        (lambda model: nn.Linear(3, 3).eval(), "MobileNetV3 for classification, got Linear"),
        (lambda model: models.mobilenet_v2().eval(), "'features.0.2', got ReLU6"),
        (lambda model: MobileNetV3(model.config, lambda n: nn.GroupNorm(1, n)).eval(), "'features.0.1', got GroupNorm"),
        (lambda model: put(model, "features.4.block", "3", nn.SiLU()), "'features.4.block.3', got SiLU"),
        (lambda model: put(model, "features.1.block.0.0", "groups", 4), "'features.1.block.0.0'"),
        (lambda model: put(model, "features.5.block.2", "scale_activation", nn.Sigmoid()), "'features.5.block.2'"),
        (
            lambda model: put(model, "", "avgpool", nn.Sequential(nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(1))),
            "the mean over all positions at 'avgpool'",
        ),
        (
            lambda model: put(model, "features.5.block.2", "avgpool", nn.AdaptiveMaxPool2d(1)),
            "the mean over all positions at 'features.5.block.2.avgpool'",
        ),
        (
            lambda model: put(model, "", "auxiliary", nn.Linear(2, 2)),
            "nothing besides features, avgpool, classifier at 'auxiliary'",
        ),
        (
            lambda model: put(model, "classifier", "4", nn.Softmax(1)),
            "a linear layer, an activation and a linear layer",
        ),
    ],
)
def test_what_the_engine_does_not_know_is_refused_by_name(change: Any, message: str) -> None:
    model = change(mnv3lib.mobilenet_v3_small(num_classes=9, width_mult=0.35).eval())
    with pytest.raises((TypeError, ValueError), match=message):
        Engine(model)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(1, 3, 8, 8, dtype=torch.float64), "float32 tensor on the CPU, got torch.float64"),
        ([[0.0]], r"float32 tensor on the CPU, got \[\[0.0\]\]"),
        (torch.zeros(1, 3, 8, 8, device="meta"), "on meta"),
        (torch.zeros(3, 8, 8), r"shape \(N, 3, H, W\), got \(3, 8, 8\)"),
        (torch.zeros(1, 1, 8, 8), r"shape \(N, 3, H, W\), got \(1, 1, 8, 8\)"),
        (torch.zeros(1, 3, 0, 8), r"shape \(N, 3, H, W\), got \(1, 3, 0, 8\)"),
        (torch.zeros(1, 3, 8, 8, requires_grad=True), "gradients"),
        (torch.empty(1, 3, 1, 1).expand(1, 3, 40_000, 40_000), "too large"),
    ],
)
def test_wrong_images_are_refused(images: Any, message: str) -> None:
    engine = Engine(mnv3lib.mobilenet_v3_small(num_classes=9, width_mult=0.35).eval())
    with pytest.raises((TypeError, ValueError), match=message):
        engine(images)


# --- the library that is compiled -------------------------------------------------------------------------------------

TRY = """
import json, sys, torch
from mnv3lib import mobilenet_v3_small
from mnv3lib.deploy import Engine, Unavailable
torch.manual_seed(0)
try:
    logits = Engine(mobilenet_v3_small(num_classes=3, width_mult=0.25).eval())(torch.ones(1, 3, 32, 32))
    print(json.dumps(logits.tolist()))
except Unavailable as error:
    print(json.dumps(str(error)))
"""


def run(code: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code], env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip


def answer(process: subprocess.Popen[str]) -> Any:
    out, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return json.loads(out.splitlines()[-1])


@pytest.mark.slow
def test_without_a_compiler_it_says_what_to_install() -> None:
    assert "C++17 compiler, and 'no-such-compiler' is not here" in answer(run(TRY, CXX="no-such-compiler"))


@pytest.mark.slow
def test_a_compiler_that_fails_is_told() -> None:
    assert "the compiler refused" in answer(run(TRY, CXX="false"))


@pytest.mark.slow
def test_a_cache_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    said = answer(run(TRY, MNV3LIB_CACHE=str(tmp_path / "file")))
    assert "cannot be kept in" in said
    assert "MNV3LIB_CACHE" in said


STANDS_IN = """#!/bin/sh
# A compiler that takes a second: it gives what the real one has made before.
for word; do [ "$before" = -o ] && out=$word; before=$word; done
case " $* " in
    *" -shared "*) cp MADE "$out" ;;
    *" -c "*) sleep 1; : > "$out" ;;
    *) exec COMPILER "$@" ;;
esac
"""


@pytest.fixture
def quick_compiler(tmp_path: Path) -> str:
    path = tmp_path / "compiler"
    path.write_text(STANDS_IN.replace("MADE", library()._name).replace("COMPILER", COMPILER))
    path.chmod(0o755)
    return str(path)


@pytest.mark.slow
def test_two_processes_that_compile_at_once_share_one_library(tmp_path: Path, quick_compiler: str) -> None:
    cache = tmp_path / "cache"
    first, second = (run(TRY, MNV3LIB_CACHE=str(cache), CXX=quick_compiler) for _ in range(2))
    assert answer(first) == answer(second)
    assert sorted(path.suffix for path in (cache / "engine").iterdir()) == [".lock", ".so"]


@pytest.mark.slow
def test_a_process_that_was_killed_while_compiling_leaves_nothing_in_the_way(
    tmp_path: Path, quick_compiler: str
) -> None:
    cache = tmp_path / "cache"
    process = run(TRY, MNV3LIB_CACHE=str(cache), CXX=quick_compiler)
    while not list(cache.glob("engine/.building-*/build.ninja")):
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.communicate()
    assert not list((cache / "engine").glob("*.so"))
    assert len(answer(run(TRY, MNV3LIB_CACHE=str(cache), CXX=quick_compiler))[0]) == 3


@pytest.mark.slow
def test_a_damaged_library_is_compiled_anew(tmp_path: Path, quick_compiler: str) -> None:
    cache = tmp_path / "cache"
    before = answer(run(TRY, MNV3LIB_CACHE=str(cache), CXX=quick_compiler))
    (kept,) = (cache / "engine").glob("*.so")
    size = kept.stat().st_size
    kept.write_bytes(kept.read_bytes()[: size // 2])  # which would end a process that loads it
    assert answer(run(TRY, MNV3LIB_CACHE=str(cache), CXX=quick_compiler)) == before
    assert sum(path.stat().st_size for path in (cache / "engine").glob("*.so")) > size // 2


SANITIZED = """
import torch
from mnv3lib import MobileNetV3
from mnv3lib.config import large, small
from mnv3lib.deploy.engine import Engine, build
library = build.library
import mnv3lib.deploy.engine as engine
engine.library = lambda *names: library(*names, *OPTIONS)
for variant in large, small:
    for options in {"dilated": True}, {"padding": "same", "reduced_tail": True}:
        model = MobileNetV3(variant(num_classes=7, width_mult=0.35, **options)).eval()
        made = Engine(model, instructions="INSTRUCTIONS")
        for shape in (1, 3, 1, 1), (2, 3, 33, 50), (1, 3, 64, 64):
            made(torch.randn(shape))
print(1)
"""


#: All checks but three that take minutes to compile; a pointer that is wrong is found by the address sanitizer too.
SANITIZERS = (
    *("-O1", "-fsanitize=address,undefined", "-fno-sanitize=null,object-size,alignment", "-fno-sanitize-recover=all"),
    *("--param", "asan-instrumentation-with-call-threshold=0"),
)


@pytest.mark.slow
@pytest.mark.parametrize("instructions", ["native", "sse2"])
def test_sanitizers_find_nothing(instructions: str) -> None:
    names = ("libasan.so", "libubsan.so")
    paths = [subprocess.check_output([COMPILER, f"-print-file-name={name}"], text=True).strip() for name in names]
    code = SANITIZED.replace("INSTRUCTIONS", instructions).replace("OPTIONS", repr(SANITIZERS))
    process = run(code, LD_PRELOAD=" ".join(paths), ASAN_OPTIONS="detect_leaks=0", PYTHONMALLOC="malloc")
    assert answer(process) == 1


def test_unknown_instructions_are_refused() -> None:
    with pytest.raises(ValueError, match="instructions must be one of 'native', 'avx512'"):
        library("mmx")
