"""Networks of the tasks: backbone and head, what is frozen, what is fetched, and options that are refused."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from reference import assert_same_state
from runs import tiny
from torch import nn
from torch.utils.data import Dataset
from torchvision import models
from torchvision.ops import FrozenBatchNorm2d

import mnv3lib
from mnv3lib import weights
from mnv3lib.detectors import DETECTION
from mnv3lib.heads import SEGMENTATION
from mnv3lib.recipe import Recipe, load, names
from mnv3lib.tasks import Detection, Metric, Segmentation, Task
from mnv3lib.tasks.builders import known_options
from mnv3lib.training.evaluation import make_task
from mnv3lib.training.loop import Training
from mnv3lib.training.plan import describe, trial
from mnv3lib.training.run import train

SHIPPED = "shipped:digitscenes_small_050"
HALF = {"width_mult": 0.5, "weights_backbone": SHIPPED}
NETWORKS = [("segmentation", name) for name in SEGMENTATION] + [("detection", name) for name in DETECTION]
SMALL = [(task, name) for task, name in NETWORKS if "small" in name]


def recipe_of(task: str, name: str, *assignments: str, **options: Any) -> Recipe:
    """The small recipe with a network of another task."""
    return tiny(f"task={task}", f"model.name={name}", f"model.options={options}", *assignments)


class Nothing(Dataset[Any]):
    """As many images as one likes, of which none is asked for."""

    num_classes = 3

    def __len__(self) -> int:
        return 64


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Addresses that were asked for; a fresh network of the classification is what they give."""
    asked: list[str] = []

    def given(address: str, expected: str | None) -> Path:
        asked.append(address.rpartition("/")[2])
        path = tmp_path / "published.pth"
        variant = "small" if "small" in address else "large"
        torch.save(getattr(models, f"mobilenet_v3_{variant}")().state_dict(), path)
        return path

    monkeypatch.setattr("mnv3lib.weights.download._from_address", given)
    return asked


@pytest.mark.parametrize("source", [None, SHIPPED])
@pytest.mark.parametrize(("task", "name"), [*NETWORKS, ("classification", "mobilenet_v3_large")])
def test_what_is_frozen_is_the_pretrained_network_alone(task: str, name: str, source: str | None) -> None:
    """To the number: what a detector adds to it is fresh, and has to learn."""
    options = {} if task == "classification" or source is None else {"weights_backbone": source}
    recipe = recipe_of(task, name, "model.freeze=backbone", **options)
    with torch.device("meta"):
        norm = FrozenBatchNorm2d if name.startswith("fasterrcnn") and options else None
        variant = "small" if "small" in name else "large"
        whole = getattr(models, f"mobilenet_v3_{variant}")(
            norm_layer=norm, reduced_tail=name.startswith("ssdlite") and not options
        )
        task_of = make_task(recipe, 3)
        model = task_of.build_model()
    backbone, head = task_of.backbone(model), task_of.head(model)
    assert parameters(backbone) == parameters(whole.features)
    assert parameters(model) == parameters(backbone) + sum(map(parameters, head)), "neither backbone nor head, or both"


@pytest.mark.parametrize(("task", "name"), [NETWORKS[0], NETWORKS[4], ("classification", "mobilenet_v3_small")])
def test_a_task_is_asked_by_name_and_as_a_class_or_an_object(task: str, name: str) -> None:
    """Transforms depend on no network."""
    made = make_task(recipe_of(task, name), 3)
    for method, arguments in {"train_geometry": (32,), "eval_geometry": (32, 40), "to_tensors": ([0.5], [0.5])}.items():
        of_object, of_class = (getattr(asked, method)(*arguments) for asked in (made, type(made)))
        assert list(map(repr, of_object)) == list(map(repr, of_class))


@pytest.mark.parametrize("kind", [Task, Metric])
def test_what_a_loop_asks_for_cannot_be_left_out(kind: type[Task] | type[Metric]) -> None:
    asked = {name for name, value in vars(kind).items() if callable(value) and not name.startswith("_")} - {"move"}
    assert len(asked) >= 3
    for missing in asked:
        with pytest.raises(TypeError, match=rf"abstract method '?{missing}\b"):
            type("Part", (kind,), dict.fromkeys(asked - {missing}))()


@pytest.mark.parametrize(("task", "name"), SMALL)
def test_a_frozen_backbone_is_in_evaluation_mode_and_the_rest_learns(task: str, name: str) -> None:
    training = Training(recipe_of(task, name, "model.freeze=backbone", width_mult=0.25), Nothing(), Nothing())
    training._training_mode()
    backbone = training.task.backbone(training.model)
    inside = set(backbone.modules())
    for module in training.model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            assert module.training == (module not in inside)
    frozen = [parameter for parameter in training.model.parameters() if not parameter.requires_grad]
    assert sum(parameter.numel() for parameter in frozen) == parameters(backbone)
    fresh = {"ssdlite": "backbone.extra", "fasterrcnn": "backbone.fpn"}.get(name.partition("_")[0].rstrip("0123456789"))
    if fresh is not None:
        assert all(parameter.requires_grad for parameter in training.model.get_submodule(fresh).parameters())


@pytest.mark.parametrize(("task", "name"), SMALL)
def test_a_backbone_is_filled_from_a_classification(task: str, name: str) -> None:
    """And the report says so, tensor by tensor; what a head has is fresh."""
    options = {**HALF, **({"norm_eps": 0.001} if name.startswith("fasterrcnn") else {})}
    recipe = recipe_of(task, name, **options)
    training = Training(recipe, Nothing(), Nothing())
    report, file = training.loaded, weights.read(SHIPPED)
    assert report is not None
    assert report.fits
    backbone = training.task.backbone(training.model).state_dict()
    fixed = name.startswith("fasterrcnn")
    there = [one for one in file.tensors if one.startswith("features.")]
    counters = sum("num_batches" in one for one in there) if fixed else 0
    assert len(report.loaded) == len(backbone) == len(there) - counters
    # SSDLite cuts the backbone in two, and a name no longer says where in the classification it was.
    for ours in report.loaded:
        theirs = report.renamed[ours]
        assert training.model.state_dict()[ours].equal(file.tensors[theirs]), ours
    assert len(set(report.renamed.values())) == len(report.loaded)
    assert {one.partition(".")[0] for one in report.left_out if "num_batches" not in one} == {"classifier"}
    assert sum("num_batches" in one for one in report.left_out) == counters
    again = Training(recipe, Nothing(), Nothing(), pretrained=False)
    assert again.loaded is None
    assert {n: tuple(v.shape) for n, v in again.model.state_dict().items()} == {
        n: tuple(v.shape) for n, v in training.model.state_dict().items()
    }


def test_what_does_not_fit_the_backbone_is_said() -> None:
    from mnv3lib.weights import WeightsError

    recipe = recipe_of("segmentation", "lraspp_mobilenet_v3_small", width_mult=0.25, weights_backbone=SHIPPED)
    with pytest.raises(WeightsError, match=r"of another shape .*backbone\.\d+\.") as caught:
        Training(recipe, Nothing(), Nothing())
    assert SHIPPED in str(caught.value)
    eps = recipe_of("detection", "fasterrcnn_mobilenet_v3_small_fpn", **HALF)
    with pytest.raises(WeightsError, match=r"trained with norm_eps=0\.001, this network has 1e-05"):
        Training(eps, Nothing(), Nothing())
    nowhere = recipe_of("segmentation", "lraspp_mobilenet_v3_small", weights_backbone="no/such/file.pth")
    with pytest.raises(FileNotFoundError, match=r"no weight file at no/such/file\.pth"):
        Training(nowhere, Nothing(), Nothing())


def test_weights_of_the_whole_network_go_before_those_of_its_backbone(tmp_path: Path) -> None:
    """Nothing is fetched that would be overwritten."""
    name = "lraspp_mobilenet_v3_small"
    saved = mnv3lib.lraspp_mobilenet_v3_small(width_mult=0.5, num_classes=3)
    path = weights.save(saved, tmp_path / "whole.safetensors")
    recipe = recipe_of("segmentation", name, f"model.weights={path}", width_mult=0.5, weights_backbone="no/such.pth")
    assert_same_state(Training(recipe, Nothing(), Nothing()).model, saved)


@pytest.mark.parametrize("variant", ["large", "small"])
def test_published_names_are_addresses(variant: str) -> None:
    for described in (Segmentation(3, f"lraspp_mobilenet_v3_{variant}", {"weights_backbone": "IMAGENET1K_V1"}),
                      Detection(3, f"ssdlite320_mobilenet_v3_{variant}", {"weights_backbone":
                                f"MobileNet_V3_{variant.capitalize()}_Weights.IMAGENET1K_V1"})):  # fmt: skip
        published = models.get_weight(f"MobileNet_V3_{variant.capitalize()}_Weights.IMAGENET1K_V1")
        assert described.weights_backbone == published.url
    with pytest.raises(ValueError, match="weights_backbone, where it names no file, must be one of 'IMAGENET1K_V1', "):
        Segmentation(3, f"lraspp_mobilenet_v3_{variant}", {"weights_backbone": "IMAGENET1K_V9"})


def test_what_a_learnt_backbone_changes_in_a_detector_is_torchvisions() -> None:
    """Fixed batch norm and three stages that learn; for SSDLite the whole last stage; unless something else is said."""
    frozen = Detection(3, "fasterrcnn_mobilenet_v3_large_fpn", {"weights_backbone": SHIPPED}).config
    assert (frozen.frozen_norm, frozen.trainable_layers) == (True, 3)
    other = {"weights_backbone": SHIPPED, "frozen_norm": False, "trainable_layers": 6}
    given = Detection(3, "fasterrcnn_mobilenet_v3_large_fpn", other).config
    assert (given.frozen_norm, given.trainable_layers) == (False, 6)
    fresh = Detection(3, "fasterrcnn_mobilenet_v3_large_fpn").config
    assert (fresh.frozen_norm, fresh.trainable_layers) == (False, None)
    tails = [Detection(3, "ssdlite320_mobilenet_v3_large", options).config.backbone.last_conv
             for options in ({}, {"weights_backbone": SHIPPED})]  # fmt: skip
    assert tails == [480, 960]


def test_a_run_fetches_once_and_resuming_does_not(tmp_path: Path, fetched: list[str]) -> None:
    from test_loop import Shapes

    name = "lraspp_mobilenet_v3_small"
    recipe = recipe_of("segmentation", name, "batch_size=4", "epochs=1", weights_backbone="IMAGENET1K_V1")
    sets = Shapes("segmentation", 4, 32), Shapes("segmentation", 2, 32)
    first = train(recipe, tmp_path / "run", datasets=sets, device="cpu")
    assert fetched == ["mobilenet_v3_small-047dcff4.pth"]
    again = train(recipe, tmp_path / "run", datasets=sets, device="cpu")
    assert len(fetched) == 1
    assert again.rows == first.rows


def test_a_plan_and_a_trial_fetch_nothing(fetched: list[str]) -> None:
    """And count the layers of the run."""
    recipe = load("torchvision-fasterrcnn")
    plan = describe(recipe)
    published = models.detection.FasterRCNN_MobileNet_V3_Large_FPN_Weights.DEFAULT.meta["num_params"]
    assert plan.parameters == published
    assert trial(recipe).model.options == recipe.model.options
    assert fetched == []


LRASPP, SSDLITE = "segmentation=lraspp_mobilenet_v3_large", "detection=ssdlite320_mobilenet_v3_large"
#: A task with a network, its options, and what is said of them where the data have three classes.
WRONG = {
    (LRASPP, "bogus=1"): "recipe.model.options has no 'bogus', only ",
    (LRASPP, "weigths_backbone=null"): "recipe.model.options has no .*; did you mean 'weights_backbone'?",
    (LRASPP, "aux_loss=true"): "recipe.model.options has no 'aux_loss', only ",
    (LRASPP, "form=tf"): "recipe.model.options.form must be one of 'torchvision', 'paper', got 'tf'",
    (LRASPP, "width_mult=0"): "recipe.model.options.width_mult must be a finite number > 0, got 0",
    (SSDLITE, "trainable_backbone_layers=3"): "recipe.model.options has no .*; did you mean 'trainable_layers'?",
    (SSDLITE, "size=a"): "recipe.model.options.size must be an integer >= 1, got 'a'",
    (SSDLITE, "norm_layer=1"): "recipe.model.options has no 'norm_layer', only ",
    (LRASPP, "num_classes=4"): "recipe.model.options.num_classes must be left out, or 3, .*, got 4",
    ("classification=mobilenet_v3_small", "num_classes=7"): "recipe.model.options.num_classes must be .* 3, .*, got 7",
    (SSDLITE, "weights_backbone=nonsense"): (
        "recipe.model.options.weights_backbone, where it names no file, must be one of 'IMAGENET1K_V1', "
        "'IMAGENET1K_V2', .*got 'nonsense'"
    ),
    (SSDLITE, "weights_backbone=IMAGENET1K_V3"): "got 'IMAGENET1K_V3'; did you mean 'IMAGENET1K_V.'?",
    (SSDLITE, "weights_backbone=3"): "recipe.model.options.weights_backbone must be None or text, got 3",
    (SSDLITE, "weights=COCO_V1"): "recipe.model.options.weights must be left out: .*, got 'COCO_V1'",
    (
        "detection=ssdlite320_mobilenet_v3",
        "x=1",
    ): "recipe.model.name must be .* for detection, got .*; did you mean 'ssdlite320_",
    ("segmentation=mobilenet_v3_small", "width_mult=0.5"): (
        "recipe.model.name must be one of .* for segmentation, got 'mobilenet_v3_small'"
    ),
    ("classification=lraspp", "x=1"): "recipe.model.name must be one of .*, got 'lraspp'",
}


@pytest.mark.parametrize(("network", "option"), WRONG)
def test_options_that_mean_nothing_are_refused(network: str, option: str) -> None:
    task, _, name = network.partition("=")
    recipe = recipe_of(task, name, f"model.options.{option}")
    pattern = ".*".join(map(re.escape, WRONG[network, option].split(".*")))
    with pytest.raises((TypeError, ValueError), match=pattern.replace(r"IMAGENET1K_V\.'", "IMAGENET1K_V.'")):
        Training(recipe, Nothing(), Nothing())


def test_options_that_say_what_is_so_are_fine() -> None:
    for task, name in [*NETWORKS, ("classification", "mobilenet_v3_small")]:
        assert make_task(recipe_of(task, name, num_classes=3), 3).num_classes == 3
    for name in names():
        recipe = load(name)
        if recipe.task != "classification":
            assert make_task(recipe, 21).num_classes == 21


@pytest.mark.parametrize(("task", "name"), NETWORKS)
def test_every_option_of_the_network_is_one_of_the_recipe(task: str, name: str) -> None:
    """And a network of the library has the name, with the same defaults."""
    described = {**SEGMENTATION, **DETECTION}[name]
    shown = inspect.signature(getattr(mnv3lib, name)).parameters
    assert known_options(described) == [*shown, "weights_backbone"]
    given = {"num_classes": 3, "width_mult": 0.5, "dilated": name.startswith("deeplabv3"), "norm_eps": 0.01}
    with torch.device("meta"):
        model: Any = make_task(recipe_of(task, name, **given), 3).build_model()
        assert model.config == getattr(mnv3lib, name)(**given).config


def test_images_of_data_sets_have_three_channels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A network for one is for images of one's own."""
    from mnv3lib.training.__main__ import main

    said = (
        "recipe.model.options.in_channels must be 3 for the images of 'digitscenes', which have three channels, got 1"
    )
    for arguments in (["--dry-run"], ["--dry-run", "--no-trial"], ["--quiet"]):
        assert main(["--set", "model.options.in_channels=1", "--out", str(tmp_path), *arguments]) != 0
        assert said in capsys.readouterr().err
    own = make_task(tiny("model.options.in_channels=1"), 3).build_model()
    assert own.eval()(torch.zeros(1, 1, 32, 32)).shape == (1, 3)
