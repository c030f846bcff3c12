"""Optimisers: RMSprop as TensorFlow documents it, and the groups of parameters that a recipe asks for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import sqrt
from typing import Any

import numpy as np
import pytest
import torch
from ledger import Deviation
from numpy.typing import NDArray
from timm.optim.rmsprop_tf import RMSpropTF as Timm
from torch import Tensor, nn

import mnv3lib
from mnv3lib.recipe import Optimiser
from mnv3lib.training import optimisers
from mnv3lib.training.optimisers import RMSpropTF, build, parameter_groups, set_factor

SHAPES = ((7,), (4, 3, 3, 3), (5, 1), ())
STEPS = 60
SETTINGS = [
    pytest.param({"momentum": 0.9, "alpha": 0.9, "eps": 0.001, "weight_decay": 1e-5}, id="paper"),
    pytest.param({"momentum": 0.9, "alpha": 0.9, "eps": 1.0, "weight_decay": 0.0}, id="slim"),
    pytest.param({"momentum": 0.0, "alpha": 0.99, "eps": 1e-10, "weight_decay": 0.1}, id="without momentum"),
]


def weights(dtype: torch.dtype) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)) for shape in SHAPES]


def gradients() -> Iterator[tuple[float, list[NDArray[np.float64]]]]:
    """Learning rates that change and gradients over six orders of magnitude, some of them zero."""
    numbers = np.random.default_rng(1)
    for step in range(STEPS):
        scale = 10.0 ** numbers.integers(-4, 2)
        yield 0.1 * 0.97**step, [np.asarray(scale * numbers.standard_normal(s) * (step % 7 > 0)) for s in SHAPES]


def run(optimiser: torch.optim.Optimizer) -> list[Tensor]:
    """The weights after all steps; also the learning rate is as TensorFlow's schedule would set it."""
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    for lr, grads in gradients():
        for group in optimiser.param_groups:
            group["lr"] = lr
        for parameter, gradient in zip(parameters, grads, strict=True):
            parameter.grad = torch.tensor(gradient, dtype=parameter.dtype)
        optimiser.step()
    return [parameter.detach() for parameter in parameters]


def documented(momentum: float, alpha: float, eps: float, weight_decay: float) -> list[NDArray[np.float64]]:
    """``tf.raw_ops.ApplyRMSProp`` as documented, in double precision, with the slots of the compat.v1 optimiser.

    ms <- rho * ms + (1 - rho) * grad * grad;  mom <- momentum * mom + lr * grad / sqrt(ms + epsilon);  var <- var - mom
    """
    var = [weight.detach().numpy().copy() for weight in weights(torch.float64)]
    ms, mom = [np.ones_like(v) for v in var], [np.zeros_like(v) for v in var]
    for lr, grads in gradients():
        for place, gradient in enumerate(grads):
            grad = gradient + weight_decay * var[place]  # of the loss plus weight_decay * tf.nn.l2_loss(var)
            ms[place] = alpha * ms[place] + (1 - alpha) * grad * grad
            mom[place] = momentum * mom[place] + lr * grad / np.sqrt(ms[place] + eps)
            var[place] = var[place] - mom[place]
    return var


def relative(found: list[Tensor], expected: list[Any]) -> float:
    """Largest difference relative to the largest weight."""
    pairs = [(a.double(), torch.as_tensor(b).double()) for a, b in zip(found, expected, strict=True)]
    assert all(a.shape == b.shape for a, b in pairs)
    return max(float((a - b).abs().max()) for a, b in pairs) / max(float(b.abs().max()) for _, b in pairs)


@pytest.mark.proves(
    "RMSprop with TensorFlow's ε: weights after 60 steps",
    against="NumPy after TensorFlow's documentation, both in float64",
    tolerance=1e-14,
    unit="relative to the largest",
)
@pytest.mark.parametrize("settings", SETTINGS)
def test_rmsprop_as_tensorflow_documents_it(settings: dict[str, float], deviation: Deviation) -> None:
    expected = documented(**settings)
    deviation(relative(run(RMSpropTF(weights(torch.float64), 0.1, **settings)), expected))
    assert relative(run(RMSpropTF(weights(torch.float32), 0.1, **settings)), expected) < 1e-5


@pytest.mark.proves(
    "RMSprop with TensorFlow's ε: weights after 60 steps in float32",
    against="timm's RMSpropTF",
    tolerance=2e-6,
    unit="relative to the largest",
)
@pytest.mark.parametrize("settings", SETTINGS)
def test_rmsprop_as_timm(settings: dict[str, float], deviation: Deviation) -> None:
    theirs = run(Timm(weights(torch.float32), lr=0.1, **settings))
    deviation(relative(run(RMSpropTF(weights(torch.float32), 0.1, **settings)), theirs))
    exact = run(Timm(weights(torch.float64), lr=0.1, **settings))
    assert relative(run(RMSpropTF(weights(torch.float64), 0.1, **settings)), exact) < 1e-14


@pytest.mark.parametrize("settings", SETTINGS)
def test_every_part_of_the_formula_counts(settings: dict[str, float]) -> None:
    """Wrong in one place, the documented update is far off: the proof above can fail."""
    expected = documented(**settings)
    for other in ({"eps": 0.0316**2 * 3}, {"alpha": 0.95}, {"momentum": 0.8}, {"weight_decay": 1e-3}):
        assert relative(run(RMSpropTF(weights(torch.float64), 0.1, **{**settings, **other})), expected) > 1e-6
    parameters = weights(torch.float64)
    ours = RMSpropTF(parameters, 0.1, **settings)
    for parameter in parameters:
        ours.state[parameter] = {"mean_square": torch.zeros_like(parameter), "step": torch.zeros_like(parameter)}
    assert relative(run(ours), expected) > 1e-3, "the mean square may start anywhere"


def one_step(optimiser: torch.optim.Optimizer, parameter: nn.Parameter, gradient: float) -> float:
    """How far a single weight moves."""
    before = parameter.item()
    parameter.grad = torch.full_like(parameter, gradient)
    optimiser.step()
    return before - parameter.item()


def single() -> nn.Parameter:
    return nn.Parameter(torch.zeros((), dtype=torch.float64))


def test_the_first_step_is_not_pytorchs() -> None:
    """A mean square that starts at one makes first steps proportional to the gradient; at zero, all the same size."""
    for gradient in (1e-3, 1e-2, 1e-1):
        ours, theirs = single(), single()
        first = one_step(RMSpropTF([ours], 1.0, momentum=0, eps=0), ours, gradient)
        other = one_step(torch.optim.RMSprop([theirs], 1.0, alpha=0.9, eps=0), theirs, gradient)
        assert first == pytest.approx(gradient / sqrt(0.9 + 0.1 * gradient**2))
        assert other == pytest.approx(1 / sqrt(0.1))


def settled(optimiser: torch.optim.Optimizer, parameter: nn.Parameter, gradient: float) -> float:
    """A step after the mean square has become the gradient's square."""
    for _ in range(400):
        moved = one_step(optimiser, parameter, gradient)
    return moved


@pytest.mark.parametrize("ratio", [1e-8, 1e-4, 1e-2, 1.0, 1e2, 1e4, 1e8])
def test_the_root_of_eps_is_pytorchs_eps_but_for_a_factor_up_to_the_root_of_two(ratio: float) -> None:
    """Why torchvision trains with 0.0316: it is the root of TensorFlow's 0.001.

    √(s + ε) and √s + √ε are the same where either is far above the other, and differ most, √2 times, where s = ε.
    """
    eps = 0.001
    gradient = sqrt(ratio * eps)
    ours, theirs = single(), single()
    tensorflow = settled(RMSpropTF([ours], 1.0, momentum=0, eps=eps), ours, gradient)
    pytorch = settled(torch.optim.RMSprop([theirs], 1.0, alpha=0.9, eps=sqrt(eps)), theirs, gradient)
    assert tensorflow / pytorch == pytest.approx((1 + sqrt(ratio)) / sqrt(1 + ratio), rel=1e-9)
    assert 1 <= tensorflow / pytorch <= sqrt(2) * (1 + 1e-9)
    # The same number in both places is another optimiser, up to 1/√ε = 32 times where gradients are small.
    careless = single()
    same = settled(torch.optim.RMSprop([careless], 1.0, alpha=0.9, eps=eps), careless, gradient)
    assert same / tensorflow == pytest.approx(sqrt(ratio * eps + eps) / (gradient + eps), rel=1e-9)


def test_a_new_learning_rate_leaves_the_remembered_steps_alone() -> None:
    ours, theirs = single(), single()
    tensorflow = RMSpropTF([ours], 1.0, momentum=0.9)
    pytorch = torch.optim.RMSprop([theirs], 1.0, alpha=0.9, momentum=0.9)
    before = [one_step(tensorflow, ours, 1.0), one_step(pytorch, theirs, 1.0)]
    for optimiser in (tensorflow, pytorch):
        optimiser.param_groups[0]["lr"] = 0.0
    assert one_step(tensorflow, ours, 1.0) == pytest.approx(0.9 * before[0])
    assert one_step(pytorch, theirs, 1.0) == 0


def test_with_pytorchs_choices_it_is_pytorchs() -> None:
    """ε of 0, mean squares that start at zero and a constant learning rate leave no difference."""
    ours, theirs = weights(torch.float64), weights(torch.float64)
    tensorflow = RMSpropTF(ours, 0.01, momentum=0.9, alpha=0.9, eps=0, weight_decay=0.1)
    for weight in ours:
        tensorflow.state[weight] = {"mean_square": torch.zeros_like(weight), "step": torch.zeros_like(weight)}
    pytorch = torch.optim.RMSprop(theirs, 0.01, momentum=0.9, alpha=0.9, eps=0, weight_decay=0.1)
    for _, grads in gradients():
        for pair in zip(ours, theirs, grads, strict=True):
            pair[0].grad, pair[1].grad = torch.tensor(pair[2]), torch.tensor(pair[2])
        tensorflow.step()
        pytorch.step()
    assert relative([w.detach() for w in ours], [w.detach() for w in theirs]) < 1e-13


@pytest.mark.parametrize("name", ["rmsprop-tf", "rmsprop", "sgd", "adamw"])
def test_a_saved_state_goes_on_bit_for_bit(name: str) -> None:
    def fresh() -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(0)
        network = mnv3lib.mobilenet_v3_small(width_mult=0.25, num_classes=3)
        return network, build(Optimiser(name=name, norm_weight_decay=0), network)  # type: ignore[arg-type]

    def train(network: nn.Module, optimiser: torch.optim.Optimizer, seeds: range) -> None:
        for seed in seeds:
            torch.manual_seed(seed)
            set_factor(optimiser, 1 / (1 + seed))
            optimiser.zero_grad()
            network(torch.randn(2, 3, 32, 32)).square().mean().backward()
            optimiser.step()

    whole, optimiser = fresh()
    train(whole, optimiser, range(4))
    part, before = fresh()
    train(part, before, range(2))
    rest, after = fresh()
    rest.load_state_dict(part.state_dict())
    after.load_state_dict(before.state_dict())
    train(rest, after, range(2, 4))
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), rest.state_dict().values(), strict=True))
    assert [group["initial_lr"] for group in after.param_groups] == [0.01, 0.01]


def test_memory_layout_type_and_parameters_without_gradients_are_kept() -> None:
    kept, moved = (
        nn.Parameter(torch.ones(3)),
        nn.Parameter(torch.ones(2, 3, 4, 4).to(memory_format=torch.channels_last)),
    )
    optimiser = RMSpropTF([kept, moved], 0.1)
    moved.grad = torch.ones_like(moved)
    loss = optimiser.step(lambda: 3.0)
    assert loss == 3.0
    assert kept.equal(torch.ones(3))
    assert kept not in optimiser.state
    assert moved.is_contiguous(memory_format=torch.channels_last)
    for state in optimiser.state[moved].values():
        assert state.stride() == moved.stride()
    optimiser.zero_grad()
    optimiser.step()  # nothing to do


def test_sparse_and_complex_gradients_are_refused() -> None:
    table = nn.Embedding(4, 2, sparse=True)
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(RuntimeError, match="RMSpropTF takes real, dense gradients only"):
        RMSpropTF(table.parameters(), 0.1).step()
    number = nn.Parameter(torch.ones(1, dtype=torch.complex64))
    number.grad = torch.ones_like(number)
    with pytest.raises(RuntimeError, match="RMSpropTF takes real, dense gradients only"):
        RMSpropTF([number], 0.1).step()


@pytest.mark.parametrize(
    "wrong", [{"lr": -1}, {"momentum": 1.5}, {"alpha": float("nan")}, {"eps": "0"}, {"weight_decay": -1e-5}]
)
def test_wrong_settings_are_named(wrong: dict[str, Any]) -> None:
    (name,) = wrong
    with pytest.raises((TypeError, ValueError), match=f"^{name} must be"):
        RMSpropTF([single()], **{"lr": 0.1, **wrong})


class Kinds(nn.Module):
    """One of each kind of parameter, and one that two modules share."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.LayerNorm([2, 2]))
        self.classifier = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
        self.classifier[1].weight = self.classifier[0].weight
        self.scale = nn.Parameter(torch.ones(4))
        self.factor = nn.Parameter(torch.ones(()))


WEIGHTS = {"features.0.weight", "classifier.0.weight"}
SPARED = {"features.1.weight", "features.1.bias", "features.2.weight", "features.2.bias", "classifier.0.bias",
          "classifier.1.bias", "scale", "factor"}  # fmt: skip


def in_groups(groups: list[dict[str, Any]], model: nn.Module) -> dict[str, set[str]]:
    names = {parameter: name for name, parameter in model.named_parameters()}
    return {group["name"]: {names[parameter] for parameter in group["params"]} for group in groups}


def test_parameters_are_grouped_by_kind() -> None:
    model = Kinds()
    groups = parameter_groups(Optimiser(weight_decay=0.1, norm_weight_decay=0), model)
    assert in_groups(groups, model) == {"weights": WEIGHTS, "norm and bias": SPARED}
    assert {group["name"]: group["weight_decay"] for group in groups} == {"weights": 0.1, "norm and bias": 0}
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters())), "a parameter came twice"
    same = parameter_groups(Optimiser(weight_decay=0.1), model)
    assert [group["weight_decay"] for group in same] == [0.1, 0.1]


@pytest.mark.parametrize("name", ["large", "small"])
def test_norm_and_bias_of_the_network(name: str) -> None:
    network = getattr(mnv3lib, f"mobilenet_v3_{name}")(width_mult=0.25)
    groups = in_groups(parameter_groups(Optimiser(norm_weight_decay=0), network), network)
    norms = {
        f"{path}.{part}"
        for path, module in network.named_modules()
        if isinstance(module, nn.BatchNorm2d)
        for part in ("weight", "bias")
    }
    biases = {path for path, _ in network.named_parameters() if path.endswith(".bias")}
    assert groups["norm and bias"] == norms | biases
    assert groups["weights"] == {path for path, _ in network.named_parameters()} - norms - biases


@pytest.mark.parametrize("name", ["rmsprop-tf", "rmsprop", "sgd"])
def test_norms_and_biases_have_their_own_decay(name: str) -> None:
    model = Kinds()
    recipe = Optimiser(name=name, lr=0.1, momentum=0, weight_decay=0.5, norm_weight_decay=0)  # type: ignore[arg-type]
    before = {path: value.clone() for path, value in model.state_dict().items()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
        parameter.data += 1
    before = {path: value.detach().clone() for path, value in model.named_parameters()}
    build(recipe, model).step()
    changed = {path for path, value in model.named_parameters() if not value.equal(before[path])}
    assert changed == WEIGHTS


def test_learning_rates_by_prefix() -> None:
    model = Kinds()
    model.features[0].requires_grad_(False)
    groups = parameter_groups(Optimiser(lr=0.2, lr_factors={"features": 0.1, "features.2": 10, "scale": 0}), model)
    assert in_groups(groups, model) == {
        "norm and bias": {"classifier.0.bias", "classifier.1.bias", "factor"},
        "weights": {"classifier.0.weight"},
        "features: norm and bias": {"features.1.weight", "features.1.bias"},
        "features.2: norm and bias": {"features.2.weight", "features.2.bias"},
        "scale: norm and bias": {"scale"},
    }
    rates = {group["name"]: group["lr"] for group in groups}
    assert rates == pytest.approx(
        {"norm and bias": 0.2, "weights": 0.2, "features: norm and bias": 0.02, "features.2: norm and bias": 2,
         "scale: norm and bias": 0}
    )  # fmt: skip
    with pytest.raises(ValueError, match=r"recipe\.optimiser\.lr_factors must name .* got \['head'\]"):
        parameter_groups(Optimiser(lr_factors={"head": 2, "scale": 1}), model)
    with pytest.raises(ValueError, match="model must have a parameter that requires a gradient, got none"):
        build(Optimiser(), model.requires_grad_(False))


def test_the_factor_scales_what_each_group_started_from() -> None:
    optimiser = build(Optimiser(name="sgd", lr=0.2, lr_factors={"features": 0.1}), Kinds())
    for factor in (0.5, 0, 0.25, 1):
        set_factor(optimiser, factor)
        for group in optimiser.param_groups:
            assert group["lr"] == group["initial_lr"] * factor
    assert {group["lr"] for group in optimiser.param_groups} == {0.2, 0.2 * 0.1}
    with pytest.raises(ValueError, match="factor must be a finite number >= 0, got -1"):
        set_factor(optimiser, -1)


@pytest.mark.parametrize(
    ("recipe", "kind", "settings"),
    [
        (Optimiser(name="rmsprop-tf", eps=0.01, alpha=0.8, momentum=0.7), RMSpropTF,
         {"eps": 0.01, "alpha": 0.8, "momentum": 0.7}),
        (Optimiser(name="rmsprop", eps=0.0316, alpha=0.8, momentum=0.7), torch.optim.RMSprop,
         {"eps": 0.0316, "alpha": 0.8, "momentum": 0.7, "centered": False}),
        (Optimiser(name="sgd", momentum=0.7, nesterov=True), torch.optim.SGD,
         {"momentum": 0.7, "nesterov": True, "dampening": 0}),
        (Optimiser(name="adamw", betas=(0.8, 0.9), eps=1e-6), torch.optim.AdamW, {"betas": (0.8, 0.9), "eps": 1e-6}),
    ],
    ids=lambda value: getattr(value, "name", ""),
)  # fmt: skip
def test_what_the_recipe_says_arrives(recipe: Optimiser, kind: type, settings: dict[str, Any]) -> None:
    recipe = replace(recipe, lr=0.3, weight_decay=0.04, norm_weight_decay=0.02)
    optimiser = build(recipe, Kinds())
    assert type(optimiser) is kind
    for group in optimiser.param_groups:
        assert {name: group[name] for name in settings} == settings
        assert group["lr"] == group["initial_lr"] == 0.3
        assert group["weight_decay"] == (0.04 if group["name"] == "weights" else 0.02)


def test_what_is_exported_is_there() -> None:
    assert all(hasattr(optimisers, name) for name in optimisers.__all__)
