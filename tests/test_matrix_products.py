"""Training with 1×1 convolutions as matrix products: gradients and weights but for rounding, and files of one form."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from ledger import Deviation, worst_of
from networks import shaken
from runs import EVERYTHING, Nursery, differing, noise, nursery, position, same_files, tiny, until
from test_loop import start, steps
from torch import Tensor, nn

from mnv3lib import mobilenet_v3_small, weights
from mnv3lib.pointwise import PointwiseConv2d
from mnv3lib.recipe import load, overridden
from mnv3lib.training.__main__ import chosen_recipe, parser
from mnv3lib.training.checkpoint import read
from mnv3lib.training.errors import OtherRecipe
from mnv3lib.training.loop import Training
from mnv3lib.training.run import train

PRODUCTS = "precision.matrix_products=true"


@pytest.fixture(scope="module")
def fork(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    with nursery(tmp_path_factory.mktemp("nursery")) as made:
        yield made


def pair(*settings: str, **options: Any) -> tuple[Training, Training]:
    """The same training with matrix products and without."""
    return start(tiny(*settings, PRODUCTS), **options), start(tiny(*settings), **options)


def has_products(model: nn.Module) -> bool:
    return any(isinstance(module, PointwiseConv2d) for module in model.modules())


def floats(model: nn.Module) -> dict[str, Tensor]:
    """A copy of the state, without the counts of batches."""
    return {name: value.clone() for name, value in model.state_dict().items() if value.is_floating_point()}


def gradients(training: Training) -> dict[str, Tensor]:
    """Those of the next step, which is taken."""
    found: dict[str, Tensor] = {}
    parameters = dict(training.model.named_parameters())
    for name, parameter in parameters.items():
        parameter.register_post_accumulate_grad_hook(
            lambda parameter, name=name: found.update({name: parameter.grad.clone()})
        )
    steps(training, 1)
    return {name: found[name] for name in parameters}


@pytest.mark.proves(
    "A training step with 1×1 convolutions as matrix products: gradients of all weights",
    against="the step with convolutions",
    tolerance=1e-4,
    unit="relative to the largest",
)
@pytest.mark.parametrize("network", ["mobilenet_v3_small", "mobilenet_v3_large"])
def test_gradients_are_the_same(network: str, deviation: Deviation) -> None:
    mine, plain = (gradients(one) for one in pair(f"model.name={network}"))
    deviation(worst_of(mine, plain) / max(float(one.abs().max()) for one in plain.values()))


@pytest.mark.proves(
    "Four training steps with 1×1 convolutions as matrix products: what they change in weights, batch statistics and "
    "their moving average",
    against="the steps with convolutions",
    tolerance=1e-4,
    unit="relative to the largest",
)
@pytest.mark.parametrize("freeze", ["nothing", "norm", "backbone"])
def test_steps_lead_to_the_same_weights(freeze: str, deviation: Deviation) -> None:
    more = ("optimiser.lr=0.01", "averaging.ema_decay=0.5", "accumulate=2", "label_smoothing=0.1")
    mine, plain = pair(f"model.freeze={freeze}", *more)
    assert differing(mine.state_dict(), plain.state_dict()) == []
    warm = start(tiny("model.options.norm_momentum=0.9"))  # fresh statistics, held, let hardly anything through
    steps(warm, 4)
    for training in (mine, plain):
        training.model.load_state_dict(warm.model.state_dict())
    before = floats(plain.model)
    assert has_products(mine.model)
    assert not has_products(plain.model)
    assert steps(mine, 4) == pytest.approx(steps(plain, 4), rel=1e-5)
    for which, theirs in plain.candidates().items():
        deviation(worst_of(floats(mine.candidates()[which]), floats(theirs)) / worst_of(floats(theirs), before))
    frozen = [name for name, parameter in plain.model.named_parameters() if not parameter.requires_grad]
    assert [name for name, parameter in mine.model.named_parameters() if not parameter.requires_grad] == frozen


@pytest.mark.parametrize("to_products", [True, False])
def test_a_state_goes_from_one_to_the_other(to_products: bool) -> None:
    """Weights, optimiser, averages and position, whichever of the two wrote it."""
    settings = ("optimiser.name=rmsprop-tf", "optimiser.lr=0.002", "averaging.ema_decay=0.9")
    mine, plain = pair(*settings)
    first, second = (plain, mine) if to_products else (mine, plain)
    steps(first, 3)
    second.load_state_dict(first.state_dict())
    assert differing(second.state_dict(), first.state_dict()) == []
    assert steps(second, 1) == pytest.approx(steps(first, 1), rel=1e-4)


def test_the_same_recipe_is_the_same_run_and_goes_on_bit_for_bit() -> None:
    recipe = tiny(*EVERYTHING, PRODUCTS)
    whole, halves, again = (start(recipe) for _ in range(3))
    steps(halves, 3)
    again.load_state_dict(halves.state_dict())
    assert steps(whole, 5)[3:] == steps(again, 2)
    assert differing(again.state_dict(), whole.state_dict()) == []


def test_in_lower_precision_it_learns_as_without() -> None:
    mine, plain = pair("precision.autocast=bfloat16")
    assert steps(mine, 4) == pytest.approx(steps(plain, 4), rel=0.02)


@pytest.mark.filterwarnings("error")
def test_a_dense_network_takes_it() -> None:
    recipe = overridden(
        load("digitscenes"),
        ["task=segmentation", "model.name=lraspp_mobilenet_v3_large", "model.options={}", "label_smoothing=0",
         "augment.crop_scale=null", "batch_size=4", "data.train_size=64", "data.eval_size=64", "data.options={}",
         "model.freeze=backbone", PRODUCTS],
    )  # fmt: skip

    class Scenes(torch.utils.data.Dataset[Any]):
        num_classes = 3

        def __len__(self) -> int:
            return 4

        def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
            return torch.full((3, 64, 64), index / 4), torch.full((64, 64), index % 3)

    training = Training(recipe, Scenes(), Scenes())
    backbone = training.task.backbone(training.model)
    assert has_products(backbone)
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    assert steps(training, 1)[0] > 0
    assert not backbone.training


# -- runs --------------------------------------------------------------------------------------------------------------


def test_a_run_leaves_an_ordinary_network(tmp_path: Path) -> None:
    done = train(tiny("epochs=1", PRODUCTS), tmp_path / "products", datasets=noise(), device="cpu")
    plain = train(tiny("epochs=1"), tmp_path / "plain", datasets=noise(), device="cpu")
    assert not has_products(done.model)
    assert list(done.model.state_dict()) == list(plain.model.state_dict())
    for name in ("last.pt", "best.pt"):
        states = [read(tmp_path / kind / name)["model"] for kind in ("products", "plain")]
        shapes = [{key: (value.shape, value.dtype) for key, value in state.items()} for state in states]
        assert shapes[0] == shapes[1]
    other = mobilenet_v3_small(width_mult=0.25, num_classes=10)
    weights.load(other, tmp_path / "products" / "model.safetensors")
    assert differing(dict(other.state_dict()), dict(done.model.state_dict())) == []


def test_within_a_run_it_does_not_change(tmp_path: Path) -> None:
    """As with any field that decides how sums are taken; a checkpoint from before there was one is without."""
    train(tiny("epochs=1"), tmp_path / "run", datasets=noise(), device="cpu")
    with pytest.raises(OtherRecipe, match=r"precision\.matrix_products: False there, True here.*not"):
        train(tiny("epochs=1", PRODUCTS), tmp_path / "run", datasets=noise(), device="cpu", allow_changes=True)


def test_it_is_set_on_the_command_line() -> None:
    arguments = parser().parse_args(["--recipe", "digitscenes", "--set", PRODUCTS])
    assert chosen_recipe(arguments).precision.matrix_products is True


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_killed_runs_go_on_bit_for_bit(fork: Nursery, tmp_path: Path, processes: int) -> None:
    recipe, log = tmp_path / "recipe.yaml", tmp_path / "log"
    recipe.write_text(tiny("averaging.ema_decay=0.9", "augment.flip=0.5").to_yaml())

    def trained(name: str) -> list[Any]:
        arguments = ["--recipe", recipe, "--out", tmp_path / name, "--save-every", "1", "--set", PRODUCTS]
        return fork.start_together(processes, arguments, log=log)

    assert [child.wait() for child in trained("whole")] == [0] * processes, log.read_text()
    children = trained("killed")
    until(lambda: position(tmp_path / "killed") > [0, 0])
    for child in children:
        child.kill(signal.SIGKILL)
    assert children[0].wait() == -signal.SIGKILL
    for other in children[1:]:  # it may have missed the first before it was killed itself
        other.wait()
    shutil.copytree(tmp_path / "killed", tmp_path / "before")
    assert position(tmp_path / "before") < [3, 0]
    assert [child.wait() for child in trained("killed")] == [0] * processes, log.read_text()
    assert same_files(tmp_path / "killed", tmp_path / "whole", "last.pt") == []
    assert "Grad strides do not match" not in log.read_text()


# -- where it makes no sense -------------------------------------------------------------------------------------------


def test_it_needs_the_channels_innermost() -> None:
    with pytest.raises(
        ValueError, match=r"recipe\.precision\.matrix_products must be False without channels_last.*True"
    ):
        tiny(PRODUCTS, "precision.channels_last=false")


def test_eight_bits_are_of_convolutions(tmp_path: Path) -> None:
    weights.save(shaken(mobilenet_v3_small(width_mult=0.25, num_classes=10)), tmp_path / "small.safetensors")
    recipe = tiny(f"model.weights={tmp_path / 'small.safetensors'}", "quantisation.observer_epochs=1", PRODUCTS)
    with pytest.raises(ValueError, match=r"precision\.matrix_products must be False with recipe\.quantisation"):
        start(recipe)
