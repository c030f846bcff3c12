"""Networks as files for other engines, checked by the engine that is going to run them, with a card beside each.

========== ============================ ======================= =================== ================================
``to``     file                         read by                 images at a time    made for
========== ============================ ======================= =================== ================================
onnx       ``.onnx``                    ONNX Runtime, others    any number          any processor
openvino   ``.xml``, ``.bin`` beside it OpenVINO                any number          any processor
executorch ``.pte``                     ExecuTorch              as in the example   any processor that XNNPACK knows
pt2        ``.pt2``                     PyTorch, in C++ as well as in the example   processors like this one
========== ============================ ======================= =================== ================================

Height and width are those of the example in all of them. A package of AOTInductor for any number of images would take a
quarter longer, ExecuTorch plans its memory ahead. OpenVINO is faster when it is told the number of images:
``model.reshape`` before ``compile_model``. A pt2 does not look at the shape of what it is given, and anything but the
shape in its card makes it read memory that is not its own: see to it.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import mnv3lib
from mnv3lib._checks import one_of, positive_int
from mnv3lib._files import whole_files
from mnv3lib.config import MobileNetV3Config, OnBackbone
from mnv3lib.deploy.errors import ExportError, Unavailable
from mnv3lib.deploy.fastest import TOLERANCES, check_arguments, stray
from mnv3lib.deploy.formats import FORMATS, IMAGES, LOGITS, Format, Run
from mnv3lib.deploy.latency import computing_with
from mnv3lib.deploy.quantization import is_quantized
from mnv3lib.deploy.scores import Scores, giving_a_tensor, logits
from mnv3lib.provenance import made

__all__ = ["Exported", "export"]

#: What the name of a card has after the name of the file that it is about.
CARD = ".json"


@dataclass(frozen=True)
class Exported:
    """A file that was written.

    Attributes:
        path: of the file that an engine opens.
        card: of what is said about it.
        error: largest difference of a logit from the model's, in standard deviations of the model's logits; of a
            quantised model the quadratic mean of the differences.
    """

    path: Path
    card: Path
    error: float


def export(
    model: nn.Module,
    path: str | Path,
    example: Tensor,
    *,
    to: str | None = None,
    precision: str = "fp32",
    threads: int = 1,
    values: str | None = None,
) -> Exported:
    """Write a network for another engine, see that it gives the network's logits there, and describe it in a card.

    The card, a JSON file named after the file, says what the network is, what it takes and gives, how far its logits
    were off, how to run it, what it was made with, and its SHA-256. Nothing is written where the check fails; files of
    an earlier time are replaced at the end, all or none. The model is not changed. Writing takes seconds to a minute.

    Args:
        model: in evaluation mode, or quantised by :func:`mnv3lib.deploy.quantization.quantize`. Of a network for
            segmentation, which gives a dictionary, the file gives the scores. Networks for detection cannot be written.
        path: of the file, ending as its format does.
        example: images for the check, float32, on the CPU. Files take images of their size, and for some formats as
            many at a time, see above.
        to: the format, ``"onnx"``, ``"openvino"``, ``"executorch"`` or ``"pt2"``; by default what ``path`` ends in.
        precision: ``"fp32"``; ``"int8"`` for a quantised model; ``"bf16"`` for a pt2 that computes in bfloat16. Images
            and logits are float32 in all. OpenVINO is told when it compiles (``INFERENCE_PRECISION_HINT``), and takes
            bfloat16 by itself where the processor is faster in it.
        threads: that PyTorch will compute with where it runs a pt2, with ``torch.set_num_threads``: the weights are
            packed for so many, and with others it can take three times as long. For other formats it means nothing.
        values: what the numbers of an image mean, for the card: ``"RGB from 0 to 1, minus 0.5, over 0.5"``.

    Raises:
        TypeError, ValueError: naming the argument, the value and the range.
        Unavailable: if a package, a compiler or the processor lacks what it needs.
        ExportError: if the format cannot express the network, or the engine's logits are not the model's.
        OSError: if the files cannot be written.
    """
    check_arguments(model, example)
    target, to = checked_target(path, to, precision)
    form = FORMATS[to]
    positive_int("threads", threads)
    if is_quantized(model) != (precision == "int8"):
        raise ValueError(f"precision must be 'int8' for a quantised model, and for no other, got {precision!r}")
    if values is not None and not isinstance(values, str):
        raise TypeError(f"values must be text, got {values!r}")
    form.require()
    example = example.detach().contiguous()
    model = giving_a_tensor(model, example)
    expected = logits(model, example)
    parts = [target.with_suffix(suffix) for suffix in form.parts]
    card = target.with_name(target.name + CARD)
    with whole_files(target, parts=parts, notes=[card]) as folder:
        written = folder / target.name
        with computing_with(threads):
            form.write(model, example, written, precision, form.any_batch)
        with _running(to):
            error = _check(form.read(written, 1, precision), model, example, precision, form.any_batch)
        about = {
            "file": target.name,
            "format": to,
            "sha256": {one.name: _sha256(folder / one.name) for one in (target, *parts)},
            "network": _network(model),
            "input": {
                "name": IMAGES,
                "shape": ["any" if form.any_batch else len(example), *example.shape[1:]],
                "layout": "images, channels, rows, columns; contiguous",
                "type": "float32",
                "values": values,
            },
            "output": {"name": LOGITS, "type": "float32", "per image": list(expected.shape[1:])},
            "precision": precision,
            "error": {
                "quadratic mean" if precision == "int8" else "largest": float(f"{error:.2g}"),
                "allowed": TOLERANCES[precision],
                "unit": "standard deviations of the logits in PyTorch",
            },
            "usage": form.usage.format(name=target.name),
            "made": _made(form, threads),
        }
        text = json.dumps(about, indent=1, ensure_ascii=False) + "\n"
        (folder / card.name).write_text(text, encoding="utf-8")
    return Exported(target, card, error)


def checked_target(path: str | Path, to: str | None, precision: str) -> tuple[Path, str]:
    """The path and the format, if they and the precision agree.

    Raises:
        TypeError, ValueError: naming the argument, the value and the range.
    """
    if not isinstance(path, str | Path):
        raise TypeError(f"path must be a path, got {path!r}")
    target = Path(path).expanduser()
    if to is None:
        suffixes = {form.suffix: name for name, form in FORMATS.items()}
        if target.suffix not in suffixes:
            raise ValueError(f"path must end in one of {', '.join(map(repr, suffixes))}, got {str(path)!r}")
        to = suffixes[target.suffix]
    form = FORMATS[one_of("to", to, tuple(FORMATS))]
    if target.suffix != form.suffix:
        raise ValueError(f"path must end in {form.suffix!r} for {to!r}, got {str(path)!r}")
    one_of(f"precision for {to!r}", precision, form.precisions)
    return target, to


def _check(run: Run, model: nn.Module, example: Tensor, precision: str, any_batch: bool) -> float:
    """The largest error, of the example and of another number of images if there may be any.

    Raises:
        ExportError: if it is not allowed.
    """
    batches = [example]
    if any_batch:
        batches.append(torch.cat([example, example.flip(-1)])[: len(example) + 1].contiguous())
    worst = 0.0
    for images in batches:
        found, expected = run(images), logits(model, images)
        if found.shape != expected.shape:
            raise ExportError(
                f"the file gives the shape {tuple(found.shape)}, the model {tuple(expected.shape)}; it was not kept"
            )
        error, allowed = stray(found, expected, precision), TOLERANCES[precision]
        if not error <= allowed:
            raise ExportError(
                f"the file's logits are {error:.1e} standard deviations from the model's, {allowed:g} are allowed; it "
                "was not kept"
            )
        worst = max(worst, error)
    return worst


@contextmanager
def _running(to: str) -> Iterator[None]:
    """What an engine raises, which has errors of its own, as an :class:`ExportError`."""
    try:
        yield
    except (ExportError, Unavailable, OSError, MemoryError):
        raise
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ExportError(f"the {to} file cannot be run and was not kept: {lines[0]}") from error


def _network(model: nn.Module) -> dict[str, Any]:
    """What the card says of the network."""
    model = model.network if isinstance(model, Scores) else model
    about: dict[str, Any] = {"parameters": sum(parameter.numel() for parameter in model.parameters())}
    config = getattr(model, "config", None)
    if isinstance(config, MobileNetV3Config | OnBackbone):
        about |= {"classes": model.classes, "config": config.to_dict()}
        about["num_classes"] = about["config"]["num_classes"]
    return {"class": type(model).__name__, **about}


def _made(form: Format, threads: int) -> dict[str, Any]:
    """With what; the commit is known where this library lies in its repository."""
    root = Path(mnv3lib.__file__).resolve().parent.parent
    try:
        return made(root if (root / ".git").exists() else None, threads=threads, packages=form.packages)
    except (OSError, subprocess.CalledProcessError):  # no git, or one that will not say
        return made(None, threads=threads, packages=form.packages)


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
