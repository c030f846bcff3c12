"""Plans: what is said before a run is what the run does, to the image, the step and the byte."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision import models

from mnv3lib.cost import profile
from mnv3lib.network import MobileNetV3
from mnv3lib.recipe import Recipe, load, names, overridden
from mnv3lib.training import optimisers
from mnv3lib.training.averaging import ExponentialAverage
from mnv3lib.training.evaluation import make_task
from mnv3lib.training.order import Order
from mnv3lib.training.plan import Plan, describe, trial

PLAIN = load("digitscenes")


def rows(plan: Plan) -> dict[str, str]:
    """The table, by name; a line without a name goes to the one before."""
    found: dict[str, str] = {}
    lines, last = str(plan).splitlines(), ""
    start = len(lines[0]) - len(lines[0].removeprefix("recipe").lstrip())
    for line in lines:
        last = line[:start].strip() or last
        found[last] = f"{found[last]}; {line[start:]}" if last in found else line[start:]
    return found


@pytest.mark.parametrize("name", names())
def test_every_recipe_has_a_plan(name: str) -> None:
    recipe = load(name)
    plan = describe(recipe, images_per_second=1000)
    assert recipe.model.name in rows(plan)["network"]
    assert (plan.activations_bytes is None) == recipe.model.name.startswith("fasterrcnn")
    assert ("quantisation" in rows(plan)) == (recipe.quantisation is not None)
    assert ("a plan only" in rows(plan).get("quantisation", "")) == (name == "torchvision-qat")
    assert (plan.images is None) == (recipe.task == "segmentation" and recipe.data.name == "coco")
    assert len(str(plan).splitlines()) >= 6
    assert max(map(len, str(plan).splitlines())) < 120


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "builder", "side"),
    [
        ("torchvision-lraspp", models.segmentation.LRASPP_MobileNet_V3_Large_Weights, 520),
        ("torchvision-deeplabv3", models.segmentation.DeepLabV3_MobileNet_V3_Large_Weights, 520),
        ("torchvision-ssdlite", models.detection.SSDLite320_MobileNet_V3_Large_Weights, 320),
        ("torchvision-fasterrcnn", models.detection.FasterRCNN_MobileNet_V3_Large_FPN_Weights, 800),
    ],
)
def test_networks_for_other_tasks_are_counted(name: str, builder: Any, side: int) -> None:
    """As torchvision publishes them."""
    recipe, published = overridden(load(name), [f"data.train_size={side}"]), builder.DEFAULT.meta
    plan = describe(recipe)
    if name != "torchvision-fasterrcnn":
        assert plan.parameters == published["num_params"]
        assert round(plan.macs / 1e9, 3) == published["_ops"]
        return
    # It learns from 512 proposals, where torchvision counted those that were left of 1000.
    assert plan.parameters == published["num_params"]
    assert plan.macs > 1e9 * published["_ops"]


@pytest.mark.slow
def test_a_detector_is_counted_as_it_computes() -> None:
    """A plan counts part by part without a value; here is a step forward on an image."""
    recipe = overridden(load("torchvision-fasterrcnn"), ["model.options.min_size=320", "data.train_size=320"])
    torch.manual_seed(0)
    model = make_task(recipe, 91).build_model().train()
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.eval()
    box = {"boxes": torch.tensor([[10.0, 10.0, 90.0, 90.0]]), "labels": torch.tensor([3])}
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model([torch.rand(3, 320, 320)], [box])
    assert describe(recipe).macs == counter.get_total_flops() // 2


def test_a_trial_fits_into_memory_and_fetches_nothing() -> None:
    heavy = load("paper")
    assert heavy.batch_size == 4096
    light = trial(heavy, world=2)
    assert light.batch_size == 128
    assert overridden(light, ["batch_size=4096"]) == heavy, "nothing else changes"
    parts = trial(overridden(heavy, ["accumulate=128"]), world=2)
    assert (parts.batch_size, parts.accumulate) == (4096, 128), "16 images at a time are few enough"
    assert trial(PLAIN) == PLAIN
    for name in names():
        tried = trial(load(name))
        assert tried.model.weights is None
        assert tried.model.options == load(name).model.options, "another architecture"


@pytest.mark.parametrize(("images", "batch"), [(10_000, 64), (128, 64), (1, 64), (65, 64), (1000, 96)])
def test_steps_are_those_of_the_order(images: int, batch: int) -> None:
    recipe = overridden(PLAIN, [f"batch_size={batch}"])
    plan = describe(recipe, images=images)
    assert plan.steps_per_epoch == Order(images=images, batch_size=batch).steps
    assert (plan.steps, plan.images_seen) == (8 * plan.steps_per_epoch, 8 * images)


@pytest.mark.parametrize("name", ["rmsprop-tf", "rmsprop", "sgd", "adamw"])
@pytest.mark.parametrize("momentum", [0, 0.9])
@pytest.mark.parametrize("ema", [0, 0.9])
def test_the_memory_of_weights_is_what_there_is_after_a_step(name: str, momentum: float, ema: float) -> None:
    recipe = overridden(
        PLAIN,
        [f"optimiser.name={name}", f"optimiser.momentum={momentum}", f"averaging.ema_decay={ema}",
         "model.options.width_mult=0.25"],
    )  # fmt: skip
    model = MobileNetV3(recipe.model.config(num_classes=10))
    optimiser = optimisers.build(recipe.optimiser, model)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimiser.step()
    held = [*model.parameters(), *(parameter.grad for parameter in model.parameters())]
    # A state's counter of steps is one number for each tensor and left out.
    held += [value for state in optimiser.state.values() for value in state.values() if torch.is_tensor(value)
             and value.ndim]  # fmt: skip
    if ema:
        held += list(ExponentialAverage(model, recipe.averaging).module.parameters())
    counted = sum(4 * tensor.numel() for tensor in held if tensor is not None)
    assert describe(recipe).weights_bytes == counted
    assert describe(recipe).parameters == sum(parameter.numel() for parameter in model.parameters())


def test_the_activations_of_a_plan_are_of_one_part_of_a_batch() -> None:
    report = profile(PLAIN.model.config(num_classes=10), PLAIN.data.train_size)
    assert describe(PLAIN).activations_bytes == 4 * report.saved_activations(PLAIN.batch_size)
    parts = overridden(PLAIN, ["accumulate=4"])
    assert describe(parts).activations_bytes == 4 * report.saved_activations(PLAIN.batch_size // 4)
    assert "16 images in one process" in rows(describe(parts))["memory"]


def test_imagenet_as_planned() -> None:
    plan = describe(load("torchvision-v1"), images_per_second=2500)
    assert (plan.parameters, plan.num_classes, plan.images) == (5_483_032, 1000, 1_281_167)
    assert round(plan.macs / 1e6, 2) == 216.59
    assert plan.steps_per_epoch == 1252
    assert plan.steps == 751_200
    assert plan.seconds == 600 * 1_281_167 / 2500
    assert plan.training_macs == 3 * plan.macs * 600 * 1_281_167
    table = rows(plan)
    assert table["images"] == "1,281,167 an epoch, 768,700,200 in 600 epochs"
    assert table["time"] == "3 d 13 h at 2,500 images/s, without evaluation"
    assert table["learning rate"].startswith("0.064 at epoch 0, 0.00105 at epoch 300, 1.79e-05 at epoch 600")


def test_the_learning_rate_at_landmarks() -> None:
    recipe = overridden(
        PLAIN, ["epochs=10", "optimiser.lr=0.2", "schedule.warmup_epochs=2", "schedule.warmup_factor=0.1"]
    )
    rates = describe(recipe, images=640).learning_rates
    assert list(rates) == [0, 2, 5, 9.9]
    assert list(rates.values())[:2] == pytest.approx([0.02, 0.2])
    assert 0 < rates[9.9] < 0.001
    constant = describe(overridden(recipe, ["schedule.name=constant", "schedule.warmup_epochs=0"]), images=640)
    assert constant.learning_rates == {0: 0.2, 5: 0.2, 9.9: 0.2}


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.2, "1 s"), (59.4, "59 s"), (60, "1 min"), (160, "2 min 40 s"), (3599.6, "1 h"), (11_130, "3 h 5 min"),
     (1_051_200, "12 d 4 h"), (1e9, "11,574 d 1 h")],
)  # fmt: skip
def test_times_are_said_in_two_units(seconds: float, said: str) -> None:
    plan = describe(
        overridden(PLAIN, ["epochs=1", "schedule.warmup_epochs=0"]), images=1, images_per_second=1 / seconds
    )
    assert rows(plan)["time"].startswith(f"{said} at ")


def test_what_nobody_knows_is_left_out() -> None:
    recipe = Recipe(
        name="a",
        model=PLAIN.model,
        data=overridden(PLAIN, ["data.name=folder", "data.root=/a", "data.options={}"]).data,
    )
    plan = describe(recipe, images_per_second=3)
    assert (plan.images, plan.steps, plan.seconds, plan.num_classes) == (None, None, None, None)
    assert rows(plan)["images"] == "as many as there are, 8 times"
    assert "time" not in rows(plan)
    known = describe(recipe, images=300, num_classes=7, images_per_second=3)
    assert rows(known)["time"] == "13 min 20 s at 3 images/s, without evaluation"
    assert known.parameters == sum(p.numel() for p in MobileNetV3(recipe.model.config(num_classes=7)).parameters())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"images": 0}, "images must be an integer >= 1, got 0"),
        ({"num_classes": 2.5}, "num_classes must be an integer >= 1, got 2.5"),
        ({"images_per_second": 0}, "images_per_second must be a finite number > 0, got 0"),
    ],
)
def test_wrong_numbers_are_named(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        describe(PLAIN, **wrong)
    with pytest.raises(ValueError, match=r"recipe\.data\.options\.size must be an integer >= 1, got 0"):
        describe(overridden(PLAIN, ["data.options.size=0"]))
