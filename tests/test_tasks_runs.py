"""Runs of segmentation and detection: what they leave, killed ones that go on, and several processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from reference import assert_same_state
from runs import Nursery, nursery, position, same_files, tiny, until
from test_loop import Shapes

from mnv3lib import weights
from mnv3lib.recipe import Recipe
from mnv3lib.training.loop import Training
from mnv3lib.training.run import train

#: A task with a network and its options, as small as they come.
RUNS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "lraspp": ("segmentation", "lraspp_mobilenet_v3_small", {"inter_channels": 16}),
    "deeplabv3": ("segmentation", "deeplabv3_mobilenet_v3_small", {"aux_loss": True}),
    "ssdlite": ("detection", "ssdlite320_mobilenet_v3_small", {"size": 32}),
    "fasterrcnn": ("detection", "fasterrcnn_mobilenet_v3_small_fpn",
                   {"min_size": 32, "max_size": 40, "proposals": 20}),
}  # fmt: skip
SHORT = ("batch_size=4", "epochs=2", "optimiser.lr=0.01", "averaging.ema_decay=0.9", "augment.flip=0.5")


def recipe_of(name: str, *assignments: str) -> Recipe:
    task, network, options = RUNS[name]
    options = {"width_mult": 0.25, **options}
    return tiny(f"task={task}", f"model.name={network}", f"model.options={options}", *SHORT, *assignments)


def sets_of(name: str) -> tuple[Shapes, Shapes]:
    return Shapes(RUNS[name][0], 8, 32), Shapes(RUNS[name][0], 2, 32)


@pytest.mark.parametrize("name", ["lraspp", "ssdlite"])
def test_a_run_leaves_its_network_as_a_file(name: str, tmp_path: Path) -> None:
    """The best weights, whole, with the recipe; the best measure is that of the result."""
    result = train(recipe_of(name), tmp_path, datasets=sets_of(name), device="cpu")
    file = weights.read(tmp_path / "model.safetensors")
    assert file.kind == RUNS[name][0]
    assert file.metadata["mnv3lib_network"] == name
    assert file.metadata["recipe"] == recipe_of(name).to_yaml()
    again = weights.load_network(tmp_path / "model.safetensors")
    assert_same_state(again, result.model)
    other = recipe_of(name, f"model.weights={tmp_path / 'model.safetensors'}")
    assert_same_state(Training(other, *sets_of(name)).model, again)


@pytest.mark.parametrize("name", RUNS)
def test_a_state_goes_on_as_if_nothing_had_been(name: str) -> None:
    """In the middle of an epoch, in another object, bit for bit."""
    whole = Training(recipe_of(name), *sets_of(name))
    for _ in range(whole.order.steps):
        whole.advance()
    first = Training(recipe_of(name), *sets_of(name))
    first.advance()
    second = Training(recipe_of(name, "model.options.num_classes=3"), *sets_of(name), pretrained=False)
    second.load_state_dict(first.state_dict())
    for _ in range(whole.order.steps - 1):
        second.advance()
    assert second.position == whole.position
    assert_same_state(second.model, whole.model)
    assert second.average is not None
    assert whole.average is not None
    assert_same_state(second.average.module, whole.average.module)
    for module in (whole, first, second):
        module.flush(force=True)


@pytest.fixture(scope="module")
def fork(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    with nursery(tmp_path_factory.mktemp("nursery")) as made:
        yield made


@pytest.mark.slow
@pytest.mark.parametrize("world", [1, 2])
@pytest.mark.parametrize("name", ["lraspp", "ssdlite"])
def test_killed_runs_go_on(name: str, world: int, fork: Nursery, tmp_path: Path) -> None:
    """On DigitScenes, killed in the middle of an epoch: weights, optimiser and average of those never interrupted."""
    recipe = recipe_of(name, "data.options.size=24", "data.options.eval_images=6", "data.options.digits=[1, 2]")
    (tmp_path / "recipe.yaml").write_text(recipe.to_yaml())
    log = tmp_path / "log"

    def start(out: str) -> list[Any]:
        arguments = ["--recipe", tmp_path / "recipe.yaml", "--out", tmp_path / out, "--save-every", "1"]
        return fork.start_together(world, arguments, log=log)

    assert [child.wait() for child in start("whole")] == [0] * world, log.read_text()
    children = start("killed")
    until(lambda: position(tmp_path / "killed") > [0, 1])
    for child in children:
        child.kill()
        child.wait()
    assert position(tmp_path / "killed") < [2, 0]
    assert [child.wait() for child in start("killed")] == [0] * world, log.read_text()
    assert "goes on after step" in log.read_text()
    assert same_files(tmp_path / "whole", tmp_path / "killed", "last.pt") == []
    both = [weights.load_network(tmp_path / out / "model.safetensors") for out in ("whole", "killed")]
    assert_same_state(*both)
    assert both[0].classes == ("background", *"0123456789")
