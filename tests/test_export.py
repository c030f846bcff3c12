"""What is written for another engine gives the network's logits there, and is there whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import pytest
import torch
from ledger import Deviation
from networks import pictures, shaken, short_network, small_network
from reference import relative_error
from torch import Tensor, nn

from mnv3lib import MobileNetV3, weights
from mnv3lib._files import whole_files
from mnv3lib.deploy import ExportError, Unavailable, export, formats, packages
from mnv3lib.deploy.fastest import TOLERANCES
from mnv3lib.deploy.formats import FORMATS, Format

ONE = pictures(2, 3, 40, 33)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class Kept(NamedTuple):
    """A format that keeps a model as it is, and what a test makes of what it wrote and gives."""

    writes: Callable[[Path], None]
    gives: Callable[[Tensor], Tensor]

    def form(self, *parts: str, any_batch: bool = True) -> Format:
        written: dict[str, nn.Module] = {}

        def write(model: nn.Module, example: Tensor, path: Path, precision: str, batch: bool) -> None:
            assert batch == any_batch
            for one in (path, *(path.with_suffix(part) for part in parts)):
                one.write_text(f"new {one.suffix}")
            written["model"] = model
            self.writes(path)

        def read(path: Path, threads: int, precision: str) -> Callable[[Tensor], Tensor]:
            return lambda images: self.gives(written["model"](images).detach())

        return Format(".onnx", write, read, (), "run {name}", any_batch=any_batch, parts=parts)


class Twice(nn.Module):
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return images, images


@pytest.fixture
def keeps(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Stand in for the onnx format, which takes seconds."""

    def install(
        *parts: str,
        any_batch: bool = True,
        writes: Callable[[Path], None] = lambda path: None,
        gives: Callable[[Tensor], Tensor] = lambda logits: logits,
    ) -> None:
        monkeypatch.setitem(FORMATS, "onnx", Kept(writes, gives).form(*parts, any_batch=any_batch))

    return install


# --- files ------------------------------------------------------------------------------------------------------------


def test_a_file_and_its_card(keeps: Any, tmp_path: Path) -> None:
    keeps(".bin", gives=lambda logits: logits + 1e-6 * logits.std())
    model = small_network()
    model.classes = ("ant", "bee", "cat", "dög")
    done = export(model, tmp_path / "deep" / "a b.onnx", ONE, values="RGB from 0 to 1")
    assert (done.path, done.card) == (tmp_path / "deep" / "a b.onnx", tmp_path / "deep" / "a b.onnx.json")
    assert done.error == pytest.approx(1e-6, rel=0.2)
    assert names(tmp_path / "deep") == ["a b.bin", "a b.onnx", "a b.onnx.json"]
    card = json.loads(done.card.read_text(encoding="utf-8"))
    digests = {name: hashlib.sha256(f"new {name[3:]}".encode()).hexdigest() for name in ("a b.onnx", "a b.bin")}
    assert (card["file"], card["format"], card["sha256"]) == ("a b.onnx", "onnx", digests)
    assert card["network"]["config"] == json.loads(json.dumps(model.config.to_dict()))
    assert card["network"]["classes"] == ["ant", "bee", "cat", "dög"]
    assert card["network"]["num_classes"] == 4
    assert card["network"]["parameters"] == sum(p.numel() for p in model.parameters())
    assert card["input"]["shape"] == ["any", 3, 40, 33]
    assert card["input"]["values"] == "RGB from 0 to 1"
    assert card["output"]["per image"] == [4]
    assert (card["precision"], card["usage"]) == ("fp32", "run a b.onnx")
    assert card["error"]["largest"] == pytest.approx(done.error, rel=0.1)
    assert card["error"]["allowed"] == TOLERANCES["fp32"]
    assert card["made"]["versions"]["torch"] == torch.__version__
    assert "commit" in card["made"]


def test_a_card_of_a_fixed_batch_and_of_another_network(keeps: Any, tmp_path: Path) -> None:
    keeps(any_batch=False)
    model = nn.Sequential(nn.Conv2d(3, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    card = json.loads(export(model, tmp_path / "x.onnx", ONE, to="onnx").card.read_text())
    assert card["input"]["shape"] == [2, 3, 40, 33]
    assert card["network"] == {"class": "Sequential", "parameters": 56}


def test_a_file_is_packed_for_so_many_threads(keeps: Any, tmp_path: Path) -> None:
    seen = []
    keeps(writes=lambda path: seen.append(torch.get_num_threads()))
    before = torch.get_num_threads()
    card = json.loads(export(small_network(), tmp_path / "x.onnx", ONE, threads=before + 2).card.read_text())
    assert (seen, card["made"]["threads"], torch.get_num_threads()) == ([before + 2], before + 2, before)


def test_a_library_outside_of_a_repository_has_no_commit(
    keeps: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeps()
    for command in (
        ["init", "-q"],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "a", "--allow-empty"],
    ):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)  # somebody else's, with the library inside
    monkeypatch.setattr("mnv3lib.__file__", str(tmp_path / "site-packages" / "mnv3lib" / "__init__.py"))
    (tmp_path / "site-packages").mkdir()
    card = json.loads(export(small_network(), tmp_path / "x.onnx", ONE).card.read_text())
    assert card["made"]["commit"] is None
    monkeypatch.undo()
    keeps()
    monkeypatch.setenv("PATH", str(tmp_path))  # nor where there is no git
    card = json.loads(export(small_network(), tmp_path / "y.onnx", ONE).card.read_text())
    assert card["made"]["commit"] is None


WRONG: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "stray": (lambda logits: logits + 2e-4 * logits.std(), r"are 2\.0e-04 standard deviations from the model's"),
    "nan": (lambda logits: logits * torch.nan, "nan standard deviations"),
    "one": (lambda logits: logits[:1], r"gives the shape \(1, 4\), the model \(2, 4\)"),
    "one batch only": (lambda logits: logits[:2], r"gives the shape \(2, 4\), the model \(3, 4\)"),
    "raises": (lambda logits: 1 // 0, "cannot be run and was not kept: integer division or modulo by zero"),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
def test_a_file_that_fails_the_check_is_not_kept(keeps: Any, tmp_path: Path, wrong: str) -> None:
    old = {"x.onnx": b"old", "x.bin": b"old bin", "x.onnx.json": b"old card"}
    for name, content in old.items():
        (tmp_path / name).write_bytes(content)
    gives, message = WRONG[wrong]
    keeps(".bin", gives=gives)
    with pytest.raises(ExportError, match=message):
        export(small_network(), tmp_path / "x.onnx", ONE)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == old
    keeps(".bin")
    export(small_network(), tmp_path / "x.onnx", ONE)
    assert names(tmp_path) == sorted(old)
    assert (tmp_path / "x.bin").read_bytes() == b"new .bin"
    assert (tmp_path / "x.onnx").read_bytes() == b"new .onnx"


@pytest.mark.parametrize("problem", [KeyboardInterrupt(), ExportError("no"), OSError(28, "No space left on device")])
def test_writing_that_breaks_off_leaves_nothing(keeps: Any, tmp_path: Path, problem: BaseException) -> None:
    def breaks(path: Path) -> None:
        assert path.exists()
        raise problem

    keeps(writes=breaks)
    with pytest.raises(type(problem)) as caught:
        export(small_network(), tmp_path / "x.onnx", ONE)
    assert names(tmp_path) == []
    if isinstance(problem, OSError):
        assert caught.value.filename == str(tmp_path / "x.onnx")  # type: ignore[attr-defined]


@pytest.mark.parametrize("failing", ["x.bin", "x.onnx", "x.onnx.json"])
def test_older_files_come_back_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    path, part, card = (tmp_path / name for name in ("x.onnx", "x.bin", "x.onnx.json"))
    path.write_text("old")
    part.write_text("old")
    replace = os.replace

    def fails(source: Path, target: Path) -> None:
        if target.name == failing and target.parent == tmp_path and source.read_text() == "new":
            raise PermissionError(13, "Permission denied", str(source))
        replace(source, target)

    monkeypatch.setattr(os, "replace", fails)

    def write() -> None:
        with whole_files(path, parts=[part], notes=[card]) as folder:
            for one in (path, part, card):
                (folder / one.name).write_text("new")

    with pytest.raises(PermissionError, match="cannot be written") as caught:
        write()
    assert caught.value.filename == str(path)
    assert {one.name: one.read_text() for one in tmp_path.iterdir()} == {"x.onnx": "old", "x.bin": "old"}


def test_a_file_is_never_beside_the_parts_of_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, part = tmp_path / "x.onnx", tmp_path / "x.bin"
    seen, replace = [], os.replace

    def watched(source: Path, target: Path) -> None:
        replace(source, target)
        seen.append(tuple(one.read_text() if one.exists() else None for one in (path, part)))

    monkeypatch.setattr(os, "replace", watched)
    for content in ("first", "second"):
        with whole_files(path, parts=[part]) as folder:
            (folder / path.name).write_text(content)
            (folder / part.name).write_text(content)
    assert all(one is None or one == other for one, other in seen), seen
    assert seen[-1] == ("second", "second")


KILLED = """
import os, signal, sys
from pathlib import Path
from mnv3lib._files import whole_files
folder, left, replace = Path(sys.argv[1]), int(sys.argv[2]), os.replace
def dying(source, target):
    global left
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
    replace(source, target)
os.replace = dying
path, part, card = (folder / name for name in ("x.onnx", "x.bin", "x.onnx.json"))
with whole_files(path, parts=[part], notes=[card]) as place:
    for one in (path, part, card):
        (place / one.name).write_text("new")
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_a_killed_writer_leaves_no_mixture(tmp_path: Path) -> None:
    path, part, card = (tmp_path / name for name in ("x.onnx", "x.bin", "x.onnx.json"))
    statuses = []
    for step in range(6):
        for one in (path, part, card):
            one.write_text("old")
        done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), str(step)], check=False)
        statuses.append(done.returncode)
        assert not path.exists() or path.read_text() == part.read_text()
        assert card.read_text() in ("old", "new")
        with whole_files(path, parts=[part], notes=[card]) as place:  # what was left is in nobody's way
            for one in (path, part, card):
                (place / one.name).write_text("newer")
        assert {one.read_text() for one in (path, part, card)} == {"newer"}
    assert statuses == [-9] * 5 + [0], "every renaming was the last one once"


def test_two_that_write_at_once_leave_files_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, part = tmp_path / "x.onnx", tmp_path / "x.bin"
    ready, replace = threading.Barrier(2), os.replace

    def slow(source: Path, target: Path) -> None:  # without a lock: A's part, B's part, B's file, A's file
        first = threading.current_thread().name == "A"
        if target == part:
            time.sleep(0 if first else 0.05)
        if target == path:
            time.sleep(0.15 if first else 0)
        replace(source, target)

    def write() -> None:
        with whole_files(path, parts=[part]) as folder:
            for one in (path, part):
                (folder / one.name).write_text(threading.current_thread().name)
            ready.wait()

    monkeypatch.setattr(os, "replace", slow)
    threads = [threading.Thread(target=write, name=name) for name in "AB"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert names(tmp_path) == ["x.bin", "x.onnx"]
    assert path.read_text() == part.read_text()


def test_folders_that_cannot_be_written(keeps: Any, tmp_path: Path) -> None:
    keeps()
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="cannot be written") as caught:
        export(small_network(), tmp_path / "file" / "x.onnx", ONE)
    assert caught.value.filename == str(tmp_path / "file" / "x.onnx")
    (tmp_path / "x.onnx").mkdir()
    with pytest.raises(IsADirectoryError, match="cannot be written"):
        export(small_network(), tmp_path / "x.onnx", ONE)
    assert names(tmp_path) == ["file", "x.onnx"]


# --- arguments --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": print}, "model must be a torch.nn.Module"),
        ({"model": small_network().train()}, "evaluation mode"),
        ({"model": nn.Identity().eval(), "example": ONE[0]}, r"example must have the shape \(N, C, H, W\)"),
        ({"example": ONE.double()}, "example must be a float32 tensor"),
        ({"example": ONE[:, :2]}, r"example must be images that the model takes, \(2, 2, 40, 33\) are not: "),
        ({"model": Twice().eval()}, "model must give a tensor, or a dictionary with one under 'out', it gave a tuple"),
        ({"path": 3}, "path must be a path, got 3"),
        ({"path": "x.txt"}, "path must end in one of '.onnx', '.xml', '.pte', '.pt2', got 'x.txt'"),
        ({"path": "x"}, "path must end in one of"),
        ({"path": "x.pte", "to": "pt2"}, "path must end in '.pt2' for 'pt2', got 'x.pte'"),
        ({"to": "tflite"}, "to must be one of 'onnx', 'openvino', 'executorch', 'pt2', got 'tflite'"),
        ({"precision": "bf16"}, "precision for 'onnx' must be one of 'fp32', 'int8', got 'bf16'"),
        ({"precision": "int8"}, "precision must be 'int8' for a quantised model, and for no other, got 'int8'"),
        ({"path": "x.pt2", "precision": "int4"}, "precision for 'pt2' must be one of 'fp32', 'bf16', got 'int4'"),
        ({"threads": 0}, "threads must be an integer >= 1, got 0"),
        ({"values": 255}, "values must be text, got 255"),
    ],
)
def test_wrong_arguments_are_named(
    changes: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given = {"model": small_network(), "path": "x.onnx", "example": ONE, **changes}
    with pytest.raises((TypeError, ValueError), match=message):
        export(**given)
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("path", "package"), [("x.onnx", "onnxruntime"), ("x.xml", "openvino"), ("x.pte", "executorch")]
)
def test_a_package_that_is_not_here_is_named(
    path: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> Any:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(packages, "import_module", missing)
    with pytest.raises(Unavailable, match=f"it needs the package '{package}': pip install {package}"):
        export(small_network(), tmp_path / path, ONE)
    assert names(tmp_path) == []


def test_a_compiler_or_a_precision_that_is_not_here_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats.shutil, "which", lambda name: "/usr/bin/c++")
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False, raising=False)
    with pytest.raises(Unavailable, match="PyTorch does not compute in bfloat16 on this processor"):
        export(small_network(), tmp_path / "x.pt2", ONE, precision="bf16")
    monkeypatch.setattr(formats.shutil, "which", lambda name: None)
    with pytest.raises(Unavailable, match=r"needs a C\+\+ compiler, .* the environment variable CXX"):
        export(small_network(), tmp_path / "x.pt2", ONE)
    assert names(tmp_path) == []


def test_openvino_computes_in_bfloat16_only_where_the_processor_does(monkeypatch: pytest.MonkeyPatch) -> None:
    class Core:
        def set_property(self, settings: dict[str, Any]) -> None:
            pass

        def get_property(self, device: str, name: str) -> list[str]:
            return ["FP32", "INT8"]

    fake = type("openvino", (), {"Core": Core})
    monkeypatch.setattr(packages, "import_module", lambda name: fake)
    with pytest.raises(Unavailable, match="OpenVINO does not compute in bfloat16"):
        FORMATS["openvino"].read(Path("x.xml"), 1, "bf16")


# --- engines ----------------------------------------------------------------------------------------------------------

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "small": lambda: weights.network_for("mobilenet_v3_small", width_mult=0.35, num_classes=9),
    "reduced tail": lambda: weights.network_for("mobilenet_v3_small", width_mult=0.5, reduced_tail=True, num_classes=5),
    "large, dilated": lambda: weights.network_for("mobilenet_v3_large", width_mult=0.35, dilated=True),
    "same padding": lambda: weights.network_for("tf_mobilenetv3_small_075", num_classes=3),
    "short": short_network,
    "short, same padding": partial(short_network, padding="same", dilated=True),
}
CASES = [
    *(("onnx", network, ONE, "fp32") for network in NETWORKS),
    ("onnx", "short", pictures(1, 3, 64, 64), "fp32"),
    ("openvino", "large, dilated", ONE, "fp32"),
    ("openvino", "short, same padding", pictures(1, 3, 33, 40), "fp32"),
    *((to, "short", pictures(3, 3, 40, 33), "fp32") for to in ("executorch", "pt2")),
    *((to, "short, same padding", pictures(1, 3, 33, 40), "fp32") for to in ("executorch", "pt2")),
]
BFLOAT16 = [("pt2", "short", ONE, "bf16")]


def through_its_card(tmp_path: Path, case: tuple[str, str, Tensor, str], monkeypatch: Any) -> float:
    """How far the logits are, in standard deviations, when a file is run as its card says."""
    to, network, images, precision = case
    if to == "pt2":
        need_compiler()
    model = shaken(NETWORKS[network]()).eval()
    done = export(model, tmp_path / f"mödel 1{FORMATS[to].suffix}", images, precision=precision)
    monkeypatch.chdir(tmp_path)
    scope: dict[str, Any] = {"images": images if to in ("executorch", "pt2") else images.numpy()}
    card = json.loads(done.card.read_text(encoding="utf-8"))
    with torch.no_grad():
        exec(card["usage"], scope)
        found = torch.as_tensor(scope["logits"])
        assert found.dtype == torch.float32
        for name, digest in card["sha256"].items():
            assert hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() == digest
        return relative_error(found, model(images))


def need_compiler() -> None:
    try:
        formats.require_compiler()
    except Unavailable as problem:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(str(problem))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This API is experimental", "ignore::DeprecationWarning:executorch|importlib")
@pytest.mark.proves(
    "A network in a file of ONNX, OpenVINO, ExecuTorch or AOTInductor, run as its card says",
    against="PyTorch's",
    tolerance=1e-4,
    unit="relative to the spread",
)
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}, {case[1]}, {len(case[2])}")
def test_a_file_gives_the_network_s_logits(
    case: tuple[str, str, Tensor, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deviation: Deviation
) -> None:
    deviation(through_its_card(tmp_path, case, monkeypatch))


@pytest.mark.slow
@pytest.mark.proves(
    "A package of AOTInductor that computes in bfloat16",
    against="PyTorch's in float32",
    tolerance=0.1,
    unit="relative to the spread",
)
@pytest.mark.parametrize("case", BFLOAT16, ids=lambda case: case[1])
def test_a_file_in_bfloat16_gives_nearly_the_network_s_logits(
    case: tuple[str, str, Tensor, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    deviation: Deviation,
    elsewhere: Callable[[str], NoReturn],
) -> None:
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        elsewhere("PyTorch does not compute in bfloat16 on this processor")
    error = through_its_card(tmp_path, case, monkeypatch)
    assert error > 1e-4, "that is float32"
    deviation(error)


@pytest.mark.slow
@pytest.mark.parametrize("to", ["onnx", "openvino", "executorch", "pt2"])
def test_a_network_that_no_exporter_takes(to: str, tmp_path: Path) -> None:
    class Odd(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            means = images.mean((2, 3))
            return means if means.sum() > 0 else -means  # what it computes depends on the numbers

    if to == "pt2":
        need_compiler()
    with pytest.raises(ExportError, match="cannot write this network: "):
        export(nn.Sequential(Odd()).eval(), tmp_path / f"x{FORMATS[to].suffix}", ONE)
    assert names(tmp_path) == []


QUIETLY = """
import sys
import torch
import mnv3lib.deploy
heavy = {"onnx", "onnxruntime", "onnxscript", "openvino", "executorch", "torchao"}
assert not heavy & {name.partition(".")[0] for name in sys.modules}
from mnv3lib import mobilenet_v3_small
from mnv3lib.deploy.paths import PATHS
model, images = mobilenet_v3_small(width_mult=0.25, num_classes=4).eval(), torch.ones(1, 3, 32, 32)
for way in ("ONNX Runtime", "OpenVINO"):
    assert PATHS[way].build(model, images, 1, "fp32")(images).shape == (1, 4)
assert not [name for name in sys.modules if name.startswith("openvino_telemetry")]
"""


@pytest.mark.slow
def test_the_engines_tell_nobody_and_say_nothing(tmp_path: Path) -> None:
    """As they come, both report over the network, and leave an identifier in the user's home."""
    kept = {name: text for name, text in os.environ.items() if name not in ("CI", "ORT_DISABLE_TELEMETRY")}
    environment = {**kept, "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", QUIETLY], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_networks_here_are_what_the_library_builds() -> None:
    assert all(isinstance(make(), MobileNetV3) for make in NETWORKS.values())
