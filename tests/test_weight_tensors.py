"""Every kind of tensor is copied as it should be or refused, and a network is never left half-written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from networks import refused, snapshot
from networks import small_network as network
from reference import assert_same_state, same_bits
from torch import Tensor, nn

from mnv3lib import mobilenet_v3_small
from mnv3lib.weights import WeightsError, load, read

MIDDLE = "features.5.block.0.0.weight"
COUNTER = "features.5.block.0.1.num_batches_tracked"
LAST = "classifier.3.weight"


# --- kinds of tensors -------------------------------------------------------------------------------------------------


def quantised(tensor: Tensor) -> Tensor:
    return torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8)


ODD: dict[str, tuple[str, Callable[[Tensor], Tensor], str]] = {
    "sparse": (MIDDLE, lambda t: t.to_sparse(), "it is sparse coo"),
    "sparse rows": (LAST, lambda t: t.to_sparse_csr(), "it is sparse csr"),
    "sparse, the last": ("classifier.3.bias", lambda t: t.to_sparse(), "it is sparse coo"),
    "quantised": (MIDDLE, quantised, "it is quantised"),
    "meta": (MIDDLE, lambda t: t.to("meta"), "it is on the meta device, without numbers"),
    "nested": (MIDDLE, lambda t: torch.nested.nested_tensor([t[0], t[1]]), "it is nested"),
    "nested, the last": (LAST, lambda t: torch.nested.nested_tensor([t[0], t[1]]), "it is nested"),
    "complex": (MIDDLE, lambda t: t.to(torch.complex64), "complex64 in the file, float32 here"),
    "integer": (MIDDLE, lambda t: t.to(torch.int8), "int8 in the file, float32 here"),
    "bool": (MIDDLE, lambda t: t > 0, "bool in the file, float32 here"),
    "a float counter": (COUNTER, lambda t: t.float(), "float32 in the file, int64 here"),
    "a complex counter": (COUNTER, lambda t: t.to(torch.complex64), "complex64 in the file, int64 here"),
    "a bool counter": (COUNTER, lambda t: t > 0, "bool in the file, int64 here"),
    "NaN": (MIDDLE, lambda t: t.clone().index_fill_(0, torch.tensor([1]), torch.nan), "numbers are not finite"),
    "infinite": ("classifier.3.bias", lambda t: t.clone().fill_(-torch.inf), "4 of its numbers are not finite"),
    "too large": ("classifier.3.bias", lambda t: t.double().fill_(1e300), "4 of its numbers are too large: float64 in"),
    "another shape": (MIDDLE, lambda t: t[:, :3], "of another shape (1)"),
    "no shape": ("classifier.3.bias", lambda t: t[0], "classifier.3.bias: () in the file, (4,) here"),
    "more dimensions": (LAST, lambda t: t[..., None], "1) in the file, (4, "),
}


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("kind", ODD)
def test_odd_tensors_are_refused_before_anything_is_written(kind: str) -> None:
    name, change, words = ODD[kind]
    state = snapshot(network(1))
    state[name] = change(state[name])
    report = refused(network(), state, name, words)
    assert len(report.conflicts) + len(report.misshaped) == 1
    assert name not in report.loaded
    # Not strict, all others are copied, and that one is as it was.
    ours = network()
    before = snapshot(ours)
    load(ours, state, strict=False)
    for key, tensor in ours.state_dict().items():
        assert same_bits(tensor, before[key] if key == name else state[key]), key


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16, torch.float8_e5m2])
def test_other_types_of_floats_are_copied_and_told(dtype: torch.dtype) -> None:
    state, ours = snapshot(network(1)), network()
    state[MIDDLE] = state[MIDDLE].to(dtype)
    report = load(ours, state)
    assert report.adapted == {MIDDLE: f"{dtype} in the file, float32 here".replace("torch.", "")}
    assert same_bits(ours.state_dict()[MIDDLE], state[MIDDLE].float())


def test_numbers_that_a_narrow_network_cannot_hold_are_refused() -> None:
    state = snapshot(network(1))
    state["classifier.3.bias"][:] = torch.tensor([1.0, 70_000, -70_000, 65_504])
    refused(network().half(), state, "classifier.3.bias: 2 of its numbers are too large: float32 in the file, float16")
    state["classifier.3.bias"].clamp_(-65_504, 65_504)
    load(network().half(), state)
    # Other networks may hold infinite numbers, as in the mask of a transformer; nothing becomes infinite all the same.
    mask, other = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    mask.running_mean[:] = torch.tensor([-torch.inf, 1e30])
    load(other, mask.state_dict())
    assert_same_state(other, mask)
    refused(other.half(), mask.state_dict(), "1 of its numbers are too large: float32 in the file, float16 here")
    mask.num_batches_tracked.fill_(300)
    narrow = nn.BatchNorm1d(2)
    narrow.num_batches_tracked = torch.zeros((), dtype=torch.uint8)
    refused(narrow, mask.state_dict(), "1 of its numbers are too large: int64 in the file, uint8 here")


def test_views_and_parameters_are_copied_as_numbers(tmp_path: Path) -> None:
    trained, ours = network(1), network()
    together = torch.zeros(10, 1024)
    together[3:7, ::4] = trained.classifier[3].weight.detach()
    state: dict[str, Tensor] = dict(trained.named_parameters()) | dict(trained.named_buffers())
    state[LAST] = together[3:7, ::4]
    state[MIDDLE] = nn.Parameter(state[MIDDLE].detach().to(memory_format=torch.channels_last))
    torch.save(state, tmp_path / "w.pth")
    for source in (state, tmp_path / "w.pth"):
        ours = network()
        assert load(ours, source).fits
        assert_same_state(ours, trained)
        together_before = together.clone()
        with torch.no_grad():
            ours.classifier[3].weight.add_(1)
        assert same_bits(together, together_before), "the network has copies"
    assert all(parameter.requires_grad and parameter.grad is None for parameter in ours.parameters())
    assert not any(tensor.requires_grad for tensor in read(tmp_path / "w.pth").tensors.values())


# --- all or nothing ---------------------------------------------------------------------------------------------------


def state_of_all(network: nn.Module) -> dict[str, Tensor]:
    return {**snapshot(network), "random": torch.get_rng_state()}


@pytest.mark.parametrize("error", [RuntimeError("no memory"), KeyboardInterrupt(), MemoryError()])
@pytest.mark.parametrize("after", [0, 100, 241, 243])
def test_a_copy_that_fails_leaves_the_network_as_it_was(
    after: int, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = network(num_classes=3)
    state = snapshot(network(1))
    before = state_of_all(ours)
    done, copy = [0], Tensor.copy_

    def failing(tensor: Tensor, *arguments: Any) -> Tensor:
        done[0] += 1
        if done[0] == after + 1:
            raise error
        return copy(tensor, *arguments)

    def failing_draw(tensor: Tensor, *arguments: Any) -> Tensor:
        tensor.normal_()
        raise error

    if after > 241:  # 242 of 244 are copied, the last layer is drawn
        monkeypatch.setattr(nn.init, "normal_", failing_draw)
    else:
        monkeypatch.setattr(Tensor, "copy_", failing)
    expected = WeightsError if isinstance(error, RuntimeError) else type(error)
    with pytest.raises(expected, match=r"nothing was loaded, .*no memory" if expected is WeightsError else None):
        load(ours, state)
    monkeypatch.undo()
    after_all = state_of_all(ours)
    assert all(same_bits(after_all[name], tensor) for name, tensor in before.items())


def test_a_network_that_cannot_be_written_to_is_as_it_was() -> None:
    state = snapshot(network(1))
    ours = network()
    ours.classifier[3].bias = nn.Parameter(torch.zeros(1).expand(4))
    before = snapshot(ours)
    with pytest.raises(WeightsError, match="nothing was loaded, the network cannot be written to"):
        load(ours, state)
    assert all(same_bits(tensor, before[name]) for name, tensor in ours.state_dict().items())


def test_tensors_that_share_memory_get_one_value_or_none() -> None:
    def tied() -> nn.Module:
        first, second = nn.Linear(3, 3), nn.Linear(3, 3)
        second.weight = first.weight
        return nn.Sequential(first, second)

    ours, state = tied(), tied().state_dict()
    assert load(ours, state).fits
    state["1.weight"] = state["1.weight"] + 1
    before = snapshot(ours)
    with pytest.raises(
        WeightsError, match=r"0\.weight shares its memory with another tensor, for which the file has oth"
    ):
        load(ours, state)
    assert all(same_bits(tensor, before[name]) for name, tensor in ours.state_dict().items())


def test_networks_without_numbers_are_refused() -> None:
    with torch.device("meta"):
        empty = mobilenet_v3_small(width_mult=0.25, num_classes=4)
    state = snapshot(network(1))
    with pytest.raises(
        ValueError, match=r"must have numbers in memory to copy to, features\.0\.0\.weight is on the meta"
    ):
        load(empty, state)
    lazy = nn.LazyLinear(3)
    with pytest.raises(ValueError, match="weight is lazy, without a shape"):
        load(lazy, {"weight": torch.zeros(3, 3), "bias": torch.zeros(3)})

    class Extra(nn.Linear):
        def get_extra_state(self) -> str:
            return "more"

    with pytest.raises(ValueError, match="_extra_state is no tensor"):
        load(Extra(2, 2), nn.Linear(2, 2).state_dict())


# --- the adapted layers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_first_layer_is_adapted_as_exactly_as_the_network_can_hold(dtype: torch.dtype, channels: int) -> None:
    """Sums and products are rounded once, to the network's type: not in the file's when that is narrower."""
    state = snapshot(network(1))
    stem = state["features.0.0.weight"] = state["features.0.0.weight"].to(dtype)
    ours = network(in_channels=channels).double()
    report = load(ours, state)
    wide = stem.to(torch.float64 if dtype is torch.float64 else torch.float32)
    expected = wide.sum(1, keepdim=True) if channels == 1 else torch.cat([wide, wide[:, :1]], 1) * (3 / 4)
    assert torch.equal(ours.features[0][0].weight, expected.double())
    assert report.adapted["features.0.0.weight"].startswith(f"3 channels in the file, {channels} here")
    narrow = stem.sum(1, keepdim=True) if channels == 1 else torch.cat([stem, stem[:, :1]], 1) * (3 / 4)
    if dtype.itemsize == 2:
        assert not torch.equal(expected, narrow.float()), "it makes no difference"


def test_weights_and_biases_of_the_last_layer_change_together() -> None:
    """Weights of one number of classes and biases of another are no classifier."""
    state = snapshot(network(1, num_classes=9))
    state["classifier.3.bias"] = torch.zeros(4)
    report = refused(network(), state, "classifier.3.weight: (9,")
    assert set(report.misshaped) == {"classifier.3.weight"}
    state["classifier.3.bias"] = torch.zeros(7)
    assert set(refused(network(), state, "(7,) in the file").misshaped) == {"classifier.3.weight", "classifier.3.bias"}
    del state["classifier.3.bias"]
    report = refused(network(), state, "missing from the file")
    assert report.missing == ("classifier.3.bias",)
