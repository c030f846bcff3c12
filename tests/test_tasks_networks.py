"""Networks of the tasks: backbone and head, what is frozen, what is fetched, and options that are refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import tiny
from torch import Tensor, nn
from torch.utils.data import Dataset
from torchvision import models
from torchvision.ops import FrozenBatchNorm2d

from mnv3lib.recipe import Recipe, load, names, overridden
from mnv3lib.tasks import Detection, Metric, Segmentation, Task
from mnv3lib.tasks.builders import known_options
from mnv3lib.training.evaluation import make_task
from mnv3lib.training.loop import Training
from mnv3lib.training.plan import describe, trial
from mnv3lib.training.run import train

FILE = "IMAGENET1K_V1"
BUILDERS = [
    (task, name) for task, kind in (("segmentation", Segmentation), ("detection", Detection)) for name in kind.BUILDERS
]


def recipe_of(task: str, name: str, *assignments: str) -> Recipe:
    """The small recipe with a network of another task."""
    return tiny(f"task={task}", f"model.name={name}", "model.options={}", *assignments)


class Nothing(Dataset[Any]):
    """As many images as one likes, of which none is asked for."""

    num_classes = 3

    def __len__(self) -> int:
        return 64


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What torchvision would have fetched: it gets a fresh network's tensors instead."""
    asked: list[str] = []

    def given(url: str, **_: Any) -> dict[str, Tensor]:
        asked.append(url.rpartition("/")[2])
        return models.mobilenet_v3_large().state_dict()

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", given)
    return asked


@pytest.mark.parametrize("file", [None, FILE])
@pytest.mark.parametrize(("task", "name"), [*BUILDERS, ("classification", "mobilenet_v3_large")])
def test_what_is_frozen_is_the_pretrained_network_alone(task: str, name: str, file: str | None) -> None:
    """To the number: what a detector adds to it is fresh, and has to learn."""
    options = [] if task == "classification" or file is None else [f"model.options.weights_backbone={file}"]
    recipe = recipe_of(task, name, "model.freeze=backbone", *options)
    with torch.device("meta"):
        norm = FrozenBatchNorm2d if name.startswith("fasterrcnn") and options else None
        whole = models.mobilenet_v3_large(norm_layer=norm, reduced_tail=name.startswith("ssdlite") and not options)
        task_of = make_task(recipe, 3)
        model = task_of.build_model(pretrained=False)
    backbone, head = task_of.backbone(model), task_of.head(model)
    assert parameters(backbone) == parameters(whole.features)
    assert parameters(model) == parameters(backbone) + sum(map(parameters, head)), "neither backbone nor head, or both"


@pytest.mark.parametrize(("task", "name"), [BUILDERS[0], BUILDERS[2], ("classification", "mobilenet_v3_small")])
def test_a_task_is_asked_by_name_and_as_a_class_or_an_object(task: str, name: str) -> None:
    """``build_model(False)`` would say nothing of what is False; transforms depend on no network."""
    made = make_task(recipe_of(task, name), 3)
    with pytest.raises(TypeError, match="positional"):
        made.build_model(False)  # type: ignore[misc]
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


@pytest.mark.parametrize(("task", "name"), BUILDERS)
def test_a_frozen_backbone_is_in_evaluation_mode_and_the_rest_learns(task: str, name: str) -> None:
    training = Training(recipe_of(task, name, "model.freeze=backbone"), Nothing(), Nothing())
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


def architecture(model: nn.Module) -> list[tuple[Any, ...]]:
    """All layers, what they were made with, and which of their tensors learn."""
    layers = [(name, type(module), repr(module) if not list(module.children()) else "", getattr(module, "eps", None))
              for name, module in model.named_modules()]  # fmt: skip
    tensors = [(name, tuple(value.shape), value.requires_grad) for name, value in model.named_parameters()]
    return [*layers, *tensors, *((name, tuple(value.shape)) for name, value in model.named_buffers())]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "name", "more"),
    [*((*one, {}) for one in BUILDERS), *((*one, {"trainable_backbone_layers": 1}) for one in BUILDERS[2:])],
)
def test_the_same_layers_without_the_file(task: str, name: str, more: dict[str, Any], fetched: list[str]) -> None:
    """Faster R-CNN's batch norm and SSDLite's tail depend on there being one."""
    made = make_task(overridden(recipe_of(task, name), [f"model.options={ {'weights_backbone': FILE, **more} }"]), 3)
    plain = make_task(recipe_of(task, name), 3)
    with torch.device("meta"):
        resumed = made.build_model(pretrained=False)
        assert fetched == []
        begun = made.build_model()
        assert fetched == ["mobilenet_v3_large-8738ca79.pth"]
        fresh = plain.build_model()
    assert architecture(resumed) == architecture(begun)
    assert (architecture(fresh) == architecture(begun)) == (task == "segmentation")
    assert len(fetched) == 1


def test_the_file_is_fetched_again_after_it_was_not(fetched: list[str]) -> None:
    """The stand-in is gone after the build, also after one that failed."""
    task = Segmentation(3, "lraspp_mobilenet_v3_large", {"weights_backbone": FILE})
    torch.manual_seed(0)
    model = task.build_model(pretrained=False)
    assert model.get_submodule("backbone.0.0").weight.abs().sum() > 0
    wide = Detection(3, "ssdlite320_mobilenet_v3_large", {"weights_backbone": FILE, "width_mult": 0.5})
    with pytest.raises(RuntimeError, match="size mismatch"):
        wide.build_model(pretrained=False)
    task.build_model()
    assert len(fetched) == 1


def test_a_run_fetches_once_and_resuming_does_not(tmp_path: Path, fetched: list[str]) -> None:
    from test_loop import Shapes

    recipe = recipe_of(
        "segmentation",
        "lraspp_mobilenet_v3_large",
        f"model.options.weights_backbone={FILE}",
        "batch_size=4",
        "epochs=1",
    )
    sets = Shapes("segmentation", 4, 32), Shapes("segmentation", 2, 32)
    first = train(recipe, tmp_path, datasets=sets, device="cpu")
    assert len(fetched) == 1
    again = train(recipe, tmp_path, datasets=sets, device="cpu")
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
    (SSDLITE, "score_tresh=0.1"): "recipe.model.options has no .*; did you mean 'score_thresh'?",
    (SSDLITE, "norm_layer=1"): "recipe.model.options has no 'norm_layer', only ",
    (LRASPP, "num_classes=4"): "recipe.model.options.num_classes must be left out, or 3, .*, got 4",
    ("classification=mobilenet_v3_small", "num_classes=7"): "recipe.model.options.num_classes must be .* 3, .*, got 7",
    (SSDLITE, "weights_backbone=nonsense"): (
        "recipe.model.options.weights_backbone must be one of None, 'IMAGENET1K_V1', 'IMAGENET1K_V2', .*got 'nonsense'"
    ),
    (SSDLITE, "weights_backbone=IMAGENET1K_V3"): "got 'IMAGENET1K_V3'; did you mean 'IMAGENET1K_V.'?",
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
    with pytest.raises(ValueError, match=pattern.replace(r"IMAGENET1K_V\.'", "IMAGENET1K_V.'")):
        Training(recipe, Nothing(), Nothing())


def test_options_that_say_what_is_so_are_fine() -> None:
    for task, name in [*BUILDERS, ("classification", "mobilenet_v3_small")]:
        assert make_task(recipe_of(task, name, "model.options.num_classes=3"), 3).num_classes == 3
    whole = Segmentation(3, "lraspp_mobilenet_v3_large", {"weights_backbone": f"MobileNet_V3_Large_Weights.{FILE}"})
    assert whole.options["weights_backbone"] == FILE
    for name in names():
        recipe = load(name)
        if recipe.task != "classification":
            assert set(recipe.model.options) <= set(known_options(recipe.model.name))


def test_every_known_option_is_taken() -> None:
    """Of torchvision's builders, with the default that torchvision gives it."""
    values = {"aux_loss": True, "score_thresh": 0.1, "detections_per_img": 7, "rpn_nms_thresh": 0.6, "min_size": 200,
              "width_mult": 0.5, "image_mean": [0.1, 0.2, 0.3]}  # fmt: skip
    for task, name in BUILDERS:
        chosen = {option: value for option, value in values.items() if option in known_options(name)}
        kind = Segmentation if task == "segmentation" else Detection
        with torch.device("meta"):
            model = kind(3, name, chosen).build_model()
        for option, value in chosen.items():
            if hasattr(model, option):
                assert getattr(model, option) == value
    assert {"trainable_backbone_layers", "iou_thresh", "width_mult"} <= set(
        known_options("ssdlite320_mobilenet_v3_large")
    )
    assert not {"kwargs", "self", "rpn_head"} & set(known_options("fasterrcnn_mobilenet_v3_large_fpn"))


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
