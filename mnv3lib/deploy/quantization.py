"""Networks in 8 bits: a real number r is held as an integer q, r = scale · (q − zero point).

Weights are int8 with a scale for each output channel and the zero point 0, activations uint8 with one scale and zero
point for each feature map (Jacob et al., arXiv:1712.05877; Krishnamoorthi, arXiv:1806.08342). After calibration
(:func:`quantize`) or training (:class:`FakeQuantized`) a network is one graph of torchao's pt2e, in which every
operation stands between a dequantisation and a quantisation. PyTorch computes it in float32 and rounds where it says;
an engine that knows the pattern computes the same with integers. Batch norm is folded before in both cases.
"""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, TypeAlias, TypeGuard

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from mnv3lib._checks import one_of
from mnv3lib.deploy.errors import Unavailable
from mnv3lib.deploy.fold import fold_batch_norm
from mnv3lib.deploy.scores import giving_a_tensor

__all__ = ["BACKENDS", "FakeQuantized", "Quantized", "is_quantized", "quantize", "signed", "suited_backend"]

BACKENDS = ("onednn", "fbgemm", "qnnpack")
#: A graph with quantisations and dequantisations in it.
Quantized: TypeAlias = GraphModule


def suited_backend() -> str:
    """The backend whose formats engines compute without overflow on this processor.

    An x86 processor without VNNI adds pairs of products of 8 bits in 16 bits. Engines let the sum saturate, silently,
    where activations use all 8 bits; with 7 of them it fits.
    """
    here: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # older versions of PyTorch do not say
    without = here.get("architecture") == "x86_64" and not (here.get("avx512_vnni") or here.get("avx_vnni"))
    return "fbgemm" if without else "onednn"


def quantize(
    model: nn.Module, calibration: Iterable[Tensor], *, backend: str = "onednn", observer: str = "histogram"
) -> Quantized:
    """Quantise a trained network to 8 bits; the ranges of its activations are those that a few batches have.

    Args:
        model: in evaluation mode, on the CPU; from images to a tensor, or a network for segmentation, of which the
            quantised one gives the scores. It is not changed.
        calibration: batches of images as the network will see them, (N, C, H, W) in float32, all of one C, H and W. A
            few hundred images are enough; labels are not needed.
        backend: whose number formats: ``"onednn"``; ``"fbgemm"`` with 7 bits for activations, for processors without
            VNNI; ``"qnnpack"`` with one scale for a whole weight. :func:`suited_backend` names the one for this
            processor; the default does not depend on it.
        observer: ``"histogram"`` for the range of least squared error, ``"minmax"`` for all that was seen.

    Returns:
        A module for batches of any size. It computes in float32 what integers would give, so it tells the accuracy and
        not the speed.

    Raises:
        TypeError, ValueError: naming the argument, the value and the range.
        Unavailable: without torchao.
    """
    _check_model(model)
    one_of("backend", backend, BACKENDS)
    one_of("observer", observer, ("histogram", "minmax"))
    batches = _checked(calibration)
    first = next(batches)
    model = giving_a_tensor(model, first)
    points, pt2e = _torchao()
    with _quiet(), torch.no_grad():
        prepared = pt2e.prepare_pt2e(_exported(model, first), points.Points(points.FORMATS[backend], observer))
        prepared(first)
        for batch in batches:
            prepared(batch)
        return _converted(pt2e, prepared)


class FakeQuantized(nn.Module):
    """A network that rounds in its forward pass as its 8 bits would, for training; gradients pass as if it did not.

    Batch norm is folded and dropout is gone, so training and evaluation differ in one thing only: in training the
    ranges of activations follow the batches, as moving averages. A weight's range is always that of the weight.

    Args:
        model: a trained network in evaluation mode, on the CPU. It is not changed.
        example: images of the size to train with, (N, C, H, W) in float32; other sizes work too.
        backend: as for :func:`quantize`.

    Raises:
        TypeError, ValueError: naming the argument, the value and the range.
        Unavailable: without torchao.

    Shape:
        As the network's.
    """

    def __init__(self, model: nn.Module, example: Tensor, *, backend: str = "onednn") -> None:
        super().__init__()
        _check_model(model)
        one_of("backend", backend, BACKENDS)
        example = next(_checked([example], name="example"))
        points, pt2e = _torchao()
        with _quiet():
            self.graph = pt2e.prepare_qat_pt2e(
                _exported(model, example), points.Points(points.FORMATS[backend], observer=None)
            )
        self._observing, self._shape = True, tuple(example.shape)
        with torch.no_grad():  # gives the ranges of weights their shapes
            self.graph(example)
        for one in self._activations():
            one.activation_post_process.reset_min_max_vals()
            one.scale.fill_(1)
            one.zero_point.zero_()
        self.train()

    def forward(self, images: Tensor) -> Tensor:
        return self.graph(images)

    def train(self, mode: bool = True) -> FakeQuantized:
        """Let ranges of activations follow the batches in training, unless they are held, and not in evaluation."""
        self.training = mode
        for one in self._activations():
            one.enable_observer(mode and self._observing)
        return self

    def hold_ranges(self, held: bool = True) -> None:
        """Whether ranges of activations stay as they are in training, too."""
        self._observing = not held
        self.train(self.training)

    @torch.no_grad()
    def quantized(self) -> Quantized:
        """The network in 8 bits, as :func:`quantize` gives it; this one is not changed.

        Raises:
            ValueError: if no batch was seen in training yet, so that nothing is known of the ranges.
        """
        if not all(one.activation_post_process.min_val.isfinite().all() for one in self._activations()):
            raise ValueError("the network must have seen a batch in training mode before it is quantised, got none")
        one = copy.deepcopy(self).cpu().eval()
        one.graph(torch.zeros(self._shape))  # a step may have changed the weights since their ranges were taken
        _, pt2e = _torchao()
        with _quiet():
            return _converted(pt2e, one.graph)

    def _fakes(self) -> list[Any]:
        return [module for module in self.graph.modules() if hasattr(module, "enable_fake_quant")]

    def _activations(self) -> list[Any]:
        return [module for module in self._fakes() if module.dtype == torch.uint8]


def signed(model: Quantized) -> Quantized:
    """The same with int8 instead of uint8 activations, as XNNPACK wants them: values and zero points less 128.

    XNNPACK's layers of 8 bits also give 8 bits. The last one, whose logits are float32, computes in float32 instead,
    with its rounded weights.
    """
    model = copy.deepcopy(model)
    ops = torch.ops.quantized_decomposed
    for node in list(model.graph.nodes):
        if node.target in (ops.quantize_per_tensor.default, ops.dequantize_per_tensor.default):
            values, scale, zero, low, high, dtype = node.args
            if dtype == torch.uint8:
                node.args = (values, scale, zero - 128, low - 128, high - 128, torch.int8)
    last = next(iter(model.graph.output_node().all_input_nodes))
    for node in last.all_input_nodes:
        source = node.args[0] if node.args else None
        if isinstance(source, Node) and source.op == "get_attr":  # a weight and its scales
            dequantise: Any = node.target
            given = [model.get_buffer(str(one.target)) if isinstance(one, Node) else one for one in node.args]
            model.register_buffer("last_weight", dequantise(*given))
            with model.graph.inserting_before(node):
                node.replace_all_uses_with(model.graph.get_attr("last_weight"))
            model.graph.erase_node(node)
    model.recompile()
    return model


def is_quantized(model: nn.Module) -> TypeGuard[Quantized]:
    """Whether a model is a graph with quantisations in it."""
    return isinstance(model, GraphModule) and any(
        "quantized_decomposed" in str(one.target) for one in model.graph.nodes
    )


def _check_model(model: Any) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    if isinstance(model, FakeQuantized | GraphModule):
        raise TypeError(f"model must be a network that is not quantised yet, got {type(model).__name__}")
    if model.training:
        raise ValueError("model must be in evaluation mode, call model.eval() first")


def _checked(batches: Iterable[Tensor], name: str = "calibration") -> Iterator[Tensor]:
    """The batches, each looked at when its turn comes.

    Raises:
        TypeError, ValueError: also if there is none.
    """
    first = None
    if isinstance(batches, Tensor):
        raise TypeError(f"{name} must be several batches, got one tensor: put it into a list")
    for batch in batches:
        if not isinstance(batch, Tensor) or batch.dtype != torch.float32 or batch.device.type != "cpu":
            got = getattr(batch, "dtype", type(batch).__name__)
            raise TypeError(f"{name} must hold float32 tensors on the CPU, got {got}")
        if batch.ndim != 4 or 0 in batch.shape:
            raise ValueError(f"{name} must hold images of the shape (N, C, H, W), got {tuple(batch.shape)}")
        first = batch if first is None else first
        if batch.shape[1:] != first.shape[1:]:
            raise ValueError(
                f"{name} must hold images of one shape, got {tuple(first.shape[1:])} and {tuple(batch.shape[1:])}"
            )
        if not batch.isfinite().all():
            raise ValueError(f"{name} must hold finite numbers only, got infinite ones or NaN")
        yield batch.detach()
    if first is None:
        raise ValueError(f"{name} must hold one batch of images or more, got none")


def _exported(model: nn.Module, example: Tensor) -> GraphModule:
    """The network as a graph of ATen operations for any number of images, without batch norm."""
    sizes = {0: torch.export.Dim.AUTO}
    if len(example) == 1:
        example = example.expand(2, *example.shape[1:])  # the exporter takes a size of 1 for a constant
    exported = torch.export.export(fold_batch_norm(model), (example,), dynamic_shapes=(sizes,))
    graph = exported.module()
    assert isinstance(graph, GraphModule)
    return graph


def _converted(pt2e: Any, prepared: GraphModule) -> GraphModule:
    graph: GraphModule = pt2e.convert_pt2e(prepared)
    for module in graph.modules():
        module.training = False  # torchao forbids eval(), which would do nothing else
    return graph.requires_grad_(False)


def _torchao() -> tuple[Any, Any]:
    """Our annotations, and the functions that follow them."""
    try:
        with _quiet():
            points = import_module("mnv3lib.deploy.points")
            return points, import_module("torchao.quantization.pt2e.quantize_pt2e")
    except ImportError as error:
        raise Unavailable("it needs the package 'torchao': pip install torchao") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings of torchao about itself, and what PyTorch logs of it where it was compiling before."""
    log = logging.getLogger("torch.utils._pytree")
    before, log.disabled = log.disabled, True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.disabled = before
