"""Recipes: published numbers are in them, they survive YAML, and whatever is wrong is refused under its full path."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import FrozenInstanceError, fields, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torchvision import models

from mnv3lib import config, facts
from mnv3lib import recipe as recipes
from mnv3lib.detectors import DETECTION
from mnv3lib.heads import SEGMENTATION
from mnv3lib.recipe import (
    NETWORKS,
    Augment,
    Data,
    Model,
    Optimiser,
    Quantisation,
    Recipe,
    Schedule,
    load,
    names,
    overridden,
    replace_at,
)
from mnv3lib.recipe._tree import read_yaml
from mnv3lib.recipe.sections import SECTIONS

PUBLISHED = facts.load()["recipes"]
PLAIN = Recipe(name="plain")


def flat(data: dict[str, Any], path: str = "") -> dict[str, Any]:
    """Dotted paths to values; an empty mapping counts as a value."""
    found: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, dict) and value:
            found |= flat(value, f"{path}{key}.")
        else:
            found[f"{path}{key}"] = value
    return found


def entries() -> list[Any]:
    listed = ("published", "derived", "ours")
    return [
        pytest.param(name, field, value, id=f"{name}-{field}")
        for name, entry in PUBLISHED.items()
        for part in listed
        for field, value in entry[part].items()
    ]


@pytest.mark.parametrize(("name", "field", "value"), entries())
def test_a_recipe_says_what_is_published(name: str, field: str, value: Any) -> None:
    assert flat(load(name).to_dict())[field] == value


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_recipe_says_nothing_else(name: str) -> None:
    entry, recipe = PUBLISHED[name], load(name)
    told = {**entry["published"], **entry["derived"], **entry["ours"]}
    assert len(told) == sum(len(entry[part]) for part in ("published", "derived", "ours")), "listed twice"
    default = flat(replace(PLAIN, quantisation=recipe.quantisation and Quantisation()).to_dict())
    changed = {path for path, value in flat(recipe.to_dict()).items() if path not in default or value != default[path]}
    assert changed - {"name", "task", "source"} <= set(told), "in the recipe, but not among the facts"
    facts.source(entry["source"])


def test_what_follows_follows() -> None:
    """The derived numbers from those they follow from."""
    derived = {name: entry["derived"] for name, entry in PUBLISHED.items()}
    images = {"v1": 128, "v2-style": 128, "qat": 32, "ssdlite": 24, "fasterrcnn": 2, "lraspp": 4, "deeplabv3": 4}
    for name, per_gpu in images.items():
        assert derived[f"torchvision-{name}"]["batch_size"] == 8 * per_gpu
    decay = 1 - (1 - 0.99998) * 1024 * 32 / 600
    assert derived["torchvision-v2-style"]["averaging.ema_decay"] == pytest.approx(decay, abs=1e-7)
    batches = 117_266 // 16
    assert derived["torchvision-fasterrcnn"]["schedule.warmup_epochs"] == pytest.approx(1000 / batches, abs=1e-4)
    assert 117_266 // 192 - 1 < 1000
    assert derived["paper"]["model.options.dropout"] == pytest.approx(1 - 0.8)
    assert derived["paper"]["model.options.norm_momentum"] == pytest.approx(1 - 0.99)
    assert round(388_500 * 4096 / 1_281_167) == PUBLISHED["paper"]["ours"]["epochs"]
    assert models.MobileNet_V3_Large_Weights.IMAGENET1K_V1.url == load("torchvision-qat").model.weights
    assert pytest.approx(0.001, rel=2e-3) == 0.0316**2  # torchvision's ε is the root of TensorFlow's


def test_every_recipe_is_there_by_name() -> None:
    assert set(names()) == {*PUBLISHED, "digitscenes", "digitscenes-lraspp", "digitscenes-ssdlite", "qat"}
    for name in names():
        recipe = load(name)
        assert recipe.name == name
        assert recipe.source
        assert recipe.model.name in {"classification": NETWORKS, "segmentation": SEGMENTATION,
                                     "detection": DETECTION}[recipe.task]  # fmt: skip
        assert load(name).source.startswith("unverified: ") == (name == "torchvision-v2-style")


def test_the_paper_is_not_made_to_say_what_it_does_not() -> None:
    source = load("paper").source
    stated, filled = source.split("Not stated there and filled in by us:")
    for word in ("epochs (1242", "warm-up", "epsilon", "label smoothing"):
        assert word in filled
        assert word not in stated


def test_the_recipe_of_this_library_trains_its_network_on_its_data() -> None:
    recipe = load("digitscenes")
    assert (recipe.data.name, recipe.task) == ("digitscenes", "classification")
    assert recipe.model.config(num_classes=10).num_classes == 10


@pytest.mark.parametrize("name", names())
def test_a_recipe_survives_yaml(name: str) -> None:
    recipe = load(name)
    assert Recipe.from_yaml(recipe.to_yaml()) == recipe
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    assert yaml.safe_load(recipe.to_yaml()) == recipe.to_dict(), "other readers of YAML read something else"


@settings(deadline=None, derandomize=True)
@given(
    lr=st.floats(1e-12, 1e6),
    milestones=st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=4, unique=True).map(sorted),
    options=st.dictionaries(
        st.text(min_size=1, max_size=5),
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        max_size=3,
    ),
    source=st.text(),
)
@example(lr=1.0, milestones=[1.0], options={"\x85": "\u2028 é", "on": "no", "1e5": "1e-5"}, source="\x85")
def test_any_recipe_survives_yaml(lr: float, milestones: list[float], options: dict[str, Any], source: str) -> None:
    recipe = Recipe(
        name="any",
        source=source,
        epochs=2000,
        data=Data(options=options),
        optimiser=Optimiser(lr=lr),
        schedule=Schedule(name="multistep", milestones=tuple(milestones)),
        quantisation=Quantisation(),
    )
    assert Recipe.from_yaml(recipe.to_yaml()) == recipe


def test_nothing_is_shared_with_what_it_was_made_from() -> None:
    options: dict[str, Any] = {"list": [1, 2]}
    data = Data(options=options)
    options["list"].append(3)
    recipe = Recipe(name="a", data=data)
    recipe.to_dict()["data"]["options"]["list"].append(4)
    assert recipe.data.options == {"list": [1, 2]}


def test_numbers_are_kept_as_the_kind_they_are() -> None:
    recipe = Recipe.from_yaml("{name: a, epochs: 3, optimiser: {lr: 1, weight_decay: 1e-5, betas: [0, 0.9]}}")
    assert isinstance(recipe.optimiser.lr, float)
    assert (recipe.optimiser.weight_decay, recipe.optimiser.betas) == (1e-5, (0.0, 0.9))
    for text in ("1e3", "1E+3", "-1.5e-3", "+1e0", ".5", "1.0"):
        (value,) = Recipe.from_yaml(f"{{name: a, data: {{options: {{x: {text}}}}}}}").data.options.values()
        assert value == float(text)
        assert isinstance(value, float)
    assert Recipe.from_yaml("{name: a, data: {options: {x: 1e, y: e5, z: 12}}}").data.options == {
        "x": "1e", "y": "e5", "z": 12,
    }  # fmt: skip


def test_integers_of_64_bits_are_the_largest() -> None:
    for bound in (-(2**63), 2**63 - 1):
        assert Recipe.from_yaml(f"{{name: a, data: {{options: {{x: {bound}}}}}}}").data.options == {"x": bound}
    for beyond in (-(2**63) - 1, 2**63):
        with pytest.raises(ValueError, match="the recipe holds an integer of more than 64 bits"):
            Recipe.from_yaml(f"{{name: a, data: {{options: {{x: {beyond}}}}}}}")


def test_a_hundred_thousand_values_are_the_most() -> None:
    """Eight times the same list, and nine times within it, count each time: 1 + 9 · (1 + 110 · (1 + 100))."""
    hundred = ", ".join("0" * 100)
    text = f"&b [&a [{hundred}], {', '.join(['*a'] * 109)}], {', '.join(['*b'] * 8)}"
    assert len(read_yaml(f"[{text}]", "it")) == 9
    with pytest.raises(ValueError, match="it holds more than 100,000 values"):
        read_yaml(f"[{text}, 0]", "it")


@pytest.mark.parametrize("text", ["&a {x: *a}", "&a [*a]", "{x: &a {y: [*a]}}"])
def test_what_refers_to_itself_is_said_to(text: str) -> None:
    with pytest.raises(ValueError, match="it refers to itself"):
        read_yaml(text, "it")


@pytest.mark.parametrize("kind", [Recipe, *SECTIONS.values()])
def test_a_part_is_made_by_name_and_never_changed(kind: type) -> None:
    """A value that was put in later would be in no check."""
    part = PLAIN if kind is Recipe else kind()
    field = fields(kind)[0].name
    with pytest.raises(FrozenInstanceError):
        setattr(part, field, getattr(part, field))
    with pytest.raises(TypeError, match="positional"):
        kind(getattr(part, field))


def test_an_optimiser_is_by_default_the_papers() -> None:
    """But for the learning rate, which was for batches of 4096, and the weight decay of norms, which is ours."""
    paper, default = load("paper").optimiser, Optimiser()
    assert default == replace(paper, lr=default.lr, norm_weight_decay=None)


def test_a_range_may_be_one_number() -> None:
    assert Augment(crop_scale=(0.5, 0.5), scale_range=(2, 2)).scale_range == (2, 2)


#: An assignment to a field of the plain recipe, and what its error says.
WRONG = {
    "optimiser.lr=-1": "recipe.optimiser.lr must be a finite number > 0, got -1",
    "optimiser.lr=fast": "recipe.optimiser.lr must be a finite number > 0, got 'fast'",
    "optimiser.lr=.nan": "recipe.optimiser.lr must be a finite number > 0, got nan",
    "optimiser.lr=true": "recipe.optimiser.lr must be a finite number > 0, got True",
    "optimiser.lrr=1": "recipe.optimiser has no 'lrr', only .*; did you mean 'lr'?",
    "optimizer.lr=1": "recipe has no 'optimizer', only .*; did you mean 'optimiser'?",
    "optimiser.lr.x=1": "recipe.optimiser.lr has no parts, so 'optimiser.lr.x' cannot be set",
    "optimiser.name=rmsprop_tf": "recipe.optimiser.name must be .*, got 'rmsprop_tf'; did you mean 'rmsprop-tf'?",
    "optimiser.momentum=1": "recipe.optimiser.momentum must be below 1, got 1",
    "optimiser.betas=[0.9]": r"recipe.optimiser.betas must hold 2 values, got [0.9]",
    "optimiser.betas=[0.9, 2]": r"recipe.optimiser.betas[1] must be a number from 0 to 1, got 2",
    "optimiser.nesterov=true": "recipe.optimiser.nesterov must be False but for 'sgd' with momentum, got True",
    "optimiser.lr_factors={a: -1}": "recipe.optimiser.lr_factors.a must be a finite number >= 0, got -1",
    "optimiser=3": "recipe.optimiser must be a mapping, got 3",
    "schedule.name=cos": "recipe.schedule.name must be one of .*, got 'cos'",
    "schedule.name=multistep": "recipe.schedule.milestones must hold at least one epoch for 'multistep', got ()",
    "schedule.milestones=[3, 2]": "recipe.schedule.milestones must rise, got (3.0, 2.0)",
    "schedule.warmup_epochs=8": "recipe.schedule.warmup_epochs must be below recipe.epochs, which is 8, got 8.0",
    "schedule.gamma=1.5": "recipe.schedule.gamma must be a number from 0 to 1, got 1.5",
    "augment.flip=2": "recipe.augment.flip must be a number from 0 to 1, got 2",
    "augment.policy=auto": "recipe.augment.policy must be one of .*, got 'auto'",
    "augment.crop_scale=[1, 0.1]": r"recipe.augment.crop_scale must have the lower number first, got (1.0, 0.1)",
    "augment.crop_scale=[0, 1]": r"recipe.augment.crop_scale[0] must be a finite number > 0, got 0.0",
    "augment.crop_scale=[0.5, 2]": r"recipe.augment.crop_scale[1] must be a number from 0 to 1, got 2",
    "augment.colour=[0, 0, 0, 0.6]": "recipe.augment.colour[3], the hue, must be at most 0.5, got 0.6",
    "augment.std=[1, 1, 0]": "recipe.augment.std[2] must be a finite number > 0, got 0",
    "augment.iou_crop=true": "recipe.augment.iou_crop is for detection; for classification it must be False, got True",
    "augment.scale_range=[0.5, 2]": "recipe.augment.scale_range is for segmentation; for classification .*None",
    "averaging.ema_decay=1": "recipe.averaging.ema_decay must be below 1, got 1",
    "averaging.ema_every=0": "recipe.averaging.ema_every must be an integer >= 1, got 0",
    "averaging.checkpoints=-1": "recipe.averaging.checkpoints must be an integer >= 0, got -1",
    "precision.autocast=half": "recipe.precision.autocast must be one of .*, got 'half'",
    "precision.channels_last=1": "recipe.precision.channels_last must be True or False, got 1",
    "precision.matrix_products=1": "recipe.precision.matrix_products must be True or False, got 1",
    "data.name=imagnet": "recipe.data.name must be one of .*, got 'imagnet'; did you mean 'imagenet'?",
    "data.train_size=64.0": "recipe.data.train_size must be an integer >= 1, got 64.0",
    "data.eval_resize=32": "recipe.data.eval_resize must be at least eval_size, which is 64, got 32",
    "data.options=[1]": r"recipe.data.options must be a mapping, got [1]",
    "data.options={1: 2}": "the keys of recipe.data.options must be words, got 1",
    "data.options={a: 2026-01-01}": "recipe.data.options.a must be a number, a word, .*, got datetime",
    "data.options={a: [.inf]}": r"recipe.data.options.a[0] must be finite, got inf",
    "model.name=": "recipe.model.name must be text, got None",
    "model.name=''": "recipe.model.name must not be empty",
    "model.options.widht_mult=0.5": "recipe.model.options has no 'widht_mult', only .*; did you mean 'width_mult'?",
    "model.options.width_mult=0": "recipe.model.options.width_mult must be a finite number > 0, got 0",
    "model.options.dropout=x": "recipe.model.options.dropout must be a number from 0 to 1, got 'x'",
    "model.freeze=all": "recipe.model.freeze must be one of .*, got 'all'",
    "epochs=0": "recipe.epochs must be an integer >= 1, got 0",
    "batch_size=128.5": "recipe.batch_size must be an integer >= 1, got 128.5",
    "accumulate=3": "recipe.batch_size must be a multiple of recipe.accumulate, which is 3, got 128",
    "clip_norm=0": "recipe.clip_norm must be a finite number > 0, got 0",
    "label_smoothing=1": "recipe.label_smoothing must be below 1, got 1",
    "seed=-1": "recipe.seed must be an integer >= 0, got -1",
    "task=sorting": "recipe.task must be one of .*, got 'sorting'",
    "source=3": "recipe.source must be text, got 3",
    "quantisation.backend=gpu": "recipe.quantisation.backend must be one of .*, got 'gpu'",
    "epochs": "an assignment must be path=value, e.g. optimiser.lr=0.1, got 'epochs'",
    "epochs=[1": r"epochs=[1 is not valid YAML",
    "epochs={a: 1, a: 2}": "epochs={a: 1, a: 2} is not valid YAML: 'a' is given twice (line 1, column 8)",
    "name=!!python/object/apply:os.system [ls]": "is not valid YAML: could not determine a constructor",
}


@pytest.mark.parametrize("assignment", WRONG)
def test_what_is_wrong_is_named_by_its_path(assignment: str) -> None:
    pattern = ".*".join(map(re.escape, WRONG[assignment].split(".*")))
    with pytest.raises((TypeError, ValueError), match=pattern):
        overridden(PLAIN, [assignment])


@pytest.mark.parametrize("task", ["segmentation", "detection"])
@pytest.mark.parametrize("assignment", ["label_smoothing=0.1", "augment.mixup=0.2", "augment.policy=autoaugment"])
def test_what_a_task_cannot_have_is_refused(task: str, assignment: str) -> None:
    other = overridden(PLAIN, [f"task={task}", "model.name=some_builder"])
    field = assignment.partition("=")[0]
    with pytest.raises(ValueError, match=rf"recipe\.{field}.* for {task}"):
        overridden(other, [assignment])


def test_a_part_made_on_its_own_names_the_same_path() -> None:
    with pytest.raises(ValueError, match=r"recipe\.optimiser\.lr must be a finite number > 0, got 0"):
        Optimiser(lr=0)
    with pytest.raises(TypeError, match=r"recipe\.optimiser must be of type Optimiser, got 'sgd'"):
        Recipe(name="a", optimiser="sgd")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"recipe\.quantisation must be of type Quantisation, got True"):
        Recipe(name="a", quantisation=True)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"recipe\.name is missing"):
        Recipe.from_dict({})
    with pytest.raises(TypeError, match="recipe must be a mapping, got None"):
        Recipe.from_yaml("")


def test_every_field_is_checked() -> None:
    """A value that no field takes is refused by all of them."""

    class Strange:
        pass

    for path, kind in [("recipe", Recipe), *((f"recipe.{name}", kind) for name, kind in SECTIONS.items())]:
        for field in fields(kind):
            named = {"name": "a"} if kind is Recipe else {}
            with pytest.raises((TypeError, ValueError), match=rf"{re.escape(path)}\.{field.name}\b"):
                kind(**{**named, field.name: Strange()})


def test_values_are_put_where_the_path_says() -> None:
    recipe = replace_at(PLAIN, "optimiser.lr", 0.1)
    assert recipe == replace(PLAIN, optimiser=replace(PLAIN.optimiser, lr=0.1))
    assert PLAIN.optimiser.lr == Optimiser().lr, "the recipe itself was changed"
    assert replace_at(PLAIN, "recipe.seed", 3).seed == 3
    assert replace_at(PLAIN, "model.options.width_mult", 0.5).model.config().stem_channels == 8
    assert replace_at(PLAIN, "data.options.a", (1, 2)).data.options == {"a": [1, 2]}
    assert replace_at(PLAIN, "augment", Augment(flip=0.5)).augment.flip == 0.5
    assert replace_at(PLAIN, "quantisation.backend", "fbgemm").quantisation == Quantisation(backend="fbgemm")
    assert replace_at(PLAIN, "data.root", Path("/images")).data.root == "/images"


def test_overrides_are_checked_together() -> None:
    recipe = replace(PLAIN, epochs=8, schedule=Schedule(warmup_epochs=5))
    with pytest.raises(ValueError, match=r"recipe\.schedule\.warmup_epochs must be below recipe\.epochs"):
        overridden(recipe, ["epochs=3"])
    changed = overridden(recipe, ["epochs=3", "schedule.warmup_epochs=1", "augment.policy=null", "clip_norm=1e0"])
    assert (changed.epochs, changed.schedule.warmup_epochs, changed.clip_norm) == (3, 1.0, 1.0)


def test_files_are_read_by_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(load("paper").to_yaml(), encoding="utf-8")
    assert load(path) == load(str(path)) == load("paper")
    path.write_text("name: a\noptimiser: {lr: -1}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"mine\.yaml: recipe\.optimiser\.lr must be"):
        load(path)
    path.write_text("name: a\nepochs: 3\nepochs: 4\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"(?s)mine\.yaml is not valid YAML: 'epochs' is given twice.*line 3"):
        load(path)
    with pytest.raises(FileNotFoundError, match=r"none\.yml"):
        load(tmp_path / "none.yml")
    with pytest.raises(ValueError, match=r"the library has no 'digitscene', only .*; did you mean 'digitscenes'\?"):
        load("digitscene")


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_is_built_from_its_options(name: str) -> None:
    build = getattr(config, name.removeprefix("mobilenet_v3_"))
    model = Model(name=name, options={"width_mult": 0.5, "dropout": 0})
    assert model.config() == build(width_mult=0.5, dropout=0)
    assert model.config(dropout=0.3, num_classes=7) == build(width_mult=0.5, dropout=0.3, num_classes=7)


def test_networks_of_others_have_no_configuration() -> None:
    model = Model(name="lraspp_mobilenet_v3_large", options={"anything": 1})
    with pytest.raises(ValueError, match=r"recipe\.model\.name must be one of .*, got 'lraspp_mobilenet_v3_large'"):
        model.config()


def test_what_is_exported_is_there() -> None:
    assert all(hasattr(recipes, name) for name in recipes.__all__)


def test_recipes_schedules_and_plans_need_no_torch() -> None:
    code = (
        "import sys; from mnv3lib import recipe; from mnv3lib.training import plan\n"
        "plan.describe(recipe.load('paper')); print({'torch', 'torchvision', 'numpy'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
