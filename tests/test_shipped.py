"""The checkpoints that come with the library: small, whole, loadable by name, and as good as their cards say."""

from __future__ import annotations

import hashlib
import re
import shlex
from pathlib import Path

import pytest
import torch
from figures import measured
from scripts import load_script

from mnv3lib import weights
from mnv3lib.cost import profile
from mnv3lib.recipe import overridden
from mnv3lib.training.__main__ import chosen_recipe, parser
from mnv3lib.training.evaluation import measure

EXPERIMENTS = Path(__file__).resolve().parents[1] / "experiments"
FOLDER = Path(weights.__file__).with_name("shipped")


def card(name: str) -> str:
    return (FOLDER / f"{name}.md").read_text(encoding="utf-8")


def row(name: str, title: str) -> str:
    """What a card's table says of something."""
    (found,) = re.findall(rf"^\| {re.escape(title)} \| (.+?) \|$", card(name), flags=re.M)
    return found


def test_files_and_cards_come_in_pairs() -> None:
    assert weights.shipped()
    assert {path.name for path in FOLDER.iterdir()} == {
        f"{name}{end}" for name in weights.shipped() for end in (".safetensors", ".md")
    }


def test_other_names_are_refused_with_those_that_exist() -> None:
    with pytest.raises(FileNotFoundError, match=f"'digits' does not come with .*'{weights.shipped()[0]}'"):
        weights.fetch("shipped:digits")
    with pytest.raises(FileNotFoundError, match="does not come with"):
        weights.fetch("shipped:../../config")
    with pytest.raises(FileNotFoundError, match="does not come with"):
        weights.fetch("shipped:")


@pytest.mark.parametrize("name", weights.shipped())
def test_a_checkpoint_is_what_its_card_says(name: str) -> None:
    path = weights.fetch(f"shipped:{name}")
    assert path.stat().st_size <= 6_000_000
    assert row(name, "SHA-256") == f"`{hashlib.sha256(path.read_bytes()).hexdigest()}`"
    assert weights.fetch(f"shipped:{name}", sha256=row(name, "SHA-256").strip("`")) == path
    network = weights.load_network(f"shipped:{name}")
    count = sum(parameter.numel() for parameter in network.parameters())
    assert row(name, "parameters") == f"{count:,}"
    ((side, said),) = re.findall(r"^\| multiply-adds, (\d+)×\1 \| (.+?) \|$", card(name), flags=re.M)
    assert said == f"{profile(network.config, int(side)).macs:,}"
    assert row(name, "size") == f"{path.stat().st_size:,} bytes"


@pytest.mark.slow
def test_a_classifier_is_measured_again() -> None:
    name = "digitscenes_small_050"
    (command,) = re.findall(r"```bash\n(.+?)\n```", card(name), flags=re.S)
    program, *arguments = shlex.split(command.replace("\\\n", " "))
    assert (program, arguments[:2]) == ("python", ["-m", "mnv3lib.training"])
    recipe = chosen_recipe(parser().parse_args(arguments[2:]))
    network = weights.load_network(f"shipped:{name}")
    assert network.config == recipe.model.config(num_classes=10)
    torch.set_num_threads(1)
    (harder,) = re.findall(
        r"^\| the same at difficulty (.+?) and (.+?) \| (.+?) % and (.+?) % \|$", card(name), flags=re.M
    )
    said = {recipe.data.options["difficulty"]: row(name, "top-1 on the test images").removesuffix(" %")}
    said |= {float(where): what for where, what in zip(harder[:2], harder[2:], strict=True)}
    assert len(said) == 3
    for difficulty, percent in said.items():
        found = measure(overridden(recipe, [f"data.options.difficulty={difficulty}"]), network, "test")
        # Within two images of two thousand, for another processor may round a close call the other way, and the card
        # rounds to two images itself.
        assert found["top1"] == pytest.approx(float(percent) / 100, abs=0.0016), difficulty


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(weights.shipped()) - {"digitscenes_small_050"}))
def test_a_dense_network_is_measured_again(name: str) -> None:
    study = load_script(EXPERIMENTS / "dense.py")
    ((variant, seed),) = re.findall(r"^python experiments/dense\.py --only (\S+) (\d+)$", card(name), flags=re.M)
    (run,) = (run for run in measured.load("dense").of(variant) if run.seed == int(seed))
    measure, title = ("miou", "mIoU") if "lraspp" in name else ("ap", "AP")
    assert row(name, f"{title} on the test images") == f"{100 * run.test[measure]:.1f} %"
    torch.set_num_threads(1)
    found = study.tested(study.recipe_of(variant, int(seed)), weights.load_network(f"shipped:{name}"))
    # A pixel or a box on the border may fall to the other side on another processor, out of a thousand images' many.
    assert found[measure] == pytest.approx(run.test[measure], abs=0.001)
