"""The fastest way to run a network here: all that can be had are tried, checked and timed in turns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from mnv3lib._checks import one_of, positive_int
from mnv3lib.deploy.errors import ExportError, Unavailable
from mnv3lib.deploy.latency import Comparison, Ratio, compare
from mnv3lib.deploy.paths import PATHS, Run, label
from mnv3lib.deploy.quantization import Quantized, is_quantized, quantize, suited_backend
from mnv3lib.deploy.scores import giving_a_tensor, logits

__all__ = ["Attempt", "Optimized", "optimize"]

#: How far the logits may be from those expected, in standard deviations of these: the furthest from the model's in
#: float32, and with int8 in the quadratic mean from those that PyTorch computes of the quantised model. Engines round
#: some values to the other neighbour, and from layer to layer that grows to what quantisation itself changes. Whether
#: the latter is too much depends on the network, and only its accuracy can tell.
TOLERANCES = {"fp32": 1e-4, "bf16": 0.1, "int8": 0.2}
_PLAIN = next(iter(PATHS))


@dataclass(frozen=True)
class Attempt:
    """What came of one way.

    Attributes:
        name: of the way.
        error: largest difference of a logit from the model's, in standard deviations of the model's logits; None if it
            did not run.
        ratio: of its time to that of the model as it is; None if it was not timed.
        refused: why it is not used, or None.
    """

    name: str
    error: float | None = None
    ratio: Ratio | None = None
    refused: str | None = None


class Optimized:
    """A network in the fastest way that was found, for images of one shape.

    Attributes:
        name: of the way.
        report: what was tried, the fastest first.
        noisy: whether something disturbed the timing.
    """

    def __init__(self, run: Run, name: str, shape: tuple[int, ...], report: tuple[Attempt, ...], noisy: bool) -> None:
        self._run, self._shape = run, shape
        self.name, self.report, self.noisy = name, report, noisy

    def __call__(self, images: Tensor) -> Tensor:
        """Logits of images of the example's shape.

        Raises:
            TypeError, ValueError: for another shape or type.
        """
        if not isinstance(images, Tensor) or images.dtype != torch.float32:
            raise TypeError(f"images must be a float32 tensor, got {getattr(images, 'dtype', type(images).__name__)}")
        if tuple(images.shape) != self._shape:
            raise ValueError(f"images must have the shape {self._shape} it was made for, got {tuple(images.shape)}")
        return self._run(images)

    def __str__(self) -> str:
        width = max(len(attempt.name) for attempt in self.report)
        lines = [f"{'':{width}}  {'error':>7}  time against {_PLAIN}"]
        for one in self.report:
            error = f"{one.error:.0e}" if one.error is not None else ""
            lines.append(f"{one.name:{width}}  {error:>7}  {one.ratio or ''}{one.refused or ''}")
        if self.noisy:
            lines.append("Something disturbed the timing; try again when the machine is idle.")
        return "\n".join(lines)


def optimize(
    model: nn.Module,
    example: Tensor,
    precision: str = "fp32",
    *,
    calibration: Iterable[Tensor] | Quantized | None = None,
    threads: int = 1,
    rounds: int = 15,
) -> Optimized:
    """Find the fastest way to run ``model`` on images like ``example``, on this CPU and of what is installed.

    Every way is checked against the model, in 8 bits against the quantised model in PyTorch: one whose logits stray is
    refused. Some compile for a minute. The model is not changed, and later changes of it are not seen.

    Args:
        model: in evaluation mode, from images to logits, or to a dictionary with scores under ``"out"``, as networks
            for segmentation are; what is found then gives the scores. Networks for detection run in PyTorch only.
        example: images of the shape in question, float32, on the CPU.
        precision: ``"fp32"``, or ``"bf16"`` or ``"int8"`` to try ways that compute in this precision as well.
        calibration: for ``"int8"``: batches of images for :func:`mnv3lib.deploy.quantization.quantize`, with the
            backend that suits this processor, or the quantised model itself.
        threads: to compute with. Later calls of PyTorch and our engine follow ``torch.set_num_threads``.
        rounds: of the timing, 5 or more.

    Raises:
        TypeError, ValueError: naming the argument, the value and the range.
        Unavailable: for ``"int8"`` without torchao.
    """
    check_arguments(model, example)
    wanted = one_of("precision", precision, tuple(TOLERANCES))
    positive_int("threads", threads)
    example = example.detach().contiguous()
    if wanted != "int8" and calibration is not None:
        raise ValueError(f"calibration must be None for the precision {wanted!r}, got {type(calibration).__name__}")
    model = giving_a_tensor(model, example)
    models = {"fp32": model, wanted: model if wanted != "int8" else _quantised(model, example, calibration)}
    expected = {kind: logits(one, example) for kind, one in models.items()}

    runs: dict[str, Run] = {}
    attempts: dict[str, Attempt] = {}
    for way, path in PATHS.items():
        for kind, one in models.items():
            if kind not in path.precisions:
                continue
            name = label(way, kind)
            try:
                run = path.build(one, example, threads, kind)
                found = run(example)
            except (Unavailable, ExportError, ValueError, TypeError) as problem:
                attempts[name] = Attempt(name, refused=f"refused: {problem}")
                continue
            error = deviation(found, expected["fp32"])
            if not stray(found, expected[kind], kind) <= TOLERANCES[kind]:
                refused = f"refused: its logits stray further than {TOLERANCES[kind]:g}"
                attempts[name] = Attempt(name, error, refused=refused)
                continue
            runs[name], attempts[name] = run, Attempt(name, error)
    times = compare({name: partial(run, example) for name, run in runs.items()}, rounds=rounds, threads=threads)
    return _chosen(runs, attempts, times, tuple(example.shape))


def _quantised(model: nn.Module, example: Tensor, calibration: Iterable[Tensor] | Quantized | None) -> Quantized:
    """The model in 8 bits, for images like the example."""
    if calibration is None:
        raise ValueError("calibration must be batches of images, or the quantised model, for 'int8', got None")
    if isinstance(calibration, nn.Module):
        if not is_quantized(calibration):
            raise ValueError(
                f"calibration must be a quantised model, or batches of images, got {type(calibration).__name__}"
            )
        return calibration
    return quantize(model, _like(example, calibration), backend=suited_backend())


def _like(example: Tensor, batches: Iterable[Tensor]) -> Iterator[Tensor]:
    """The batches, all of images of the example's shape."""
    for batch in batches:
        if isinstance(batch, Tensor) and batch.shape[1:] != example.shape[1:]:
            raise ValueError(
                f"calibration must hold images of the example's shape {tuple(example.shape[1:])}, "
                f"got {tuple(batch.shape[1:])}"
            )
        yield batch


def _chosen(runs: dict[str, Run], attempts: dict[str, Attempt], found: Comparison, shape: tuple[int, ...]) -> Optimized:
    timed = [Attempt(name, attempts[name].error, found.ratio(name)) for name in runs]
    timed.sort(key=lambda attempt: attempt.ratio.median)  # type: ignore[union-attr]
    refused = [attempt for attempt in attempts.values() if attempt.refused]
    fastest = timed[0].name
    return Optimized(runs[fastest], fastest, shape, (*timed, *refused), found.noisy)


def check_arguments(model: nn.Module, example: Tensor) -> None:
    """See that there is a model in evaluation mode, and images for it.

    Raises:
        TypeError, ValueError: naming the argument, the value and the range.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    if model.training:
        raise ValueError("model must be in evaluation mode, call model.eval() first")
    if not isinstance(example, Tensor) or example.dtype != torch.float32 or example.device.type != "cpu":
        raise TypeError(f"example must be a float32 tensor on the CPU, got {getattr(example, 'dtype', example)!r}")
    if example.ndim != 4 or 0 in example.shape:
        raise ValueError(f"example must have the shape (N, C, H, W), got {tuple(example.shape)}")


def deviation(found: Tensor, expected: Tensor) -> float:
    """Largest difference, in standard deviations of what is expected."""
    spread = float(expected.std()) if expected.numel() > 1 else 0.0
    return float((found.float() - expected).abs().max()) / (spread or 1.0)


def stray(found: Tensor, expected: Tensor, precision: str) -> float:
    """What ``TOLERANCES`` limits."""
    if precision != "int8":
        return deviation(found, expected)
    spread = float(expected.std()) if expected.numel() > 1 else 0.0
    return float((found - expected).square().mean().sqrt()) / (spread or 1.0)
