"""The loop against a plain one, the order of the images, exact resume, the three tasks, and what a run leaves."""

from __future__ import annotations

import io
import itertools
import json
import math
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from copy import deepcopy
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from ledger import Deviation, worst_of
from runs import EVERYTHING, Noise, differing, noise, tiny
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, get_worker_info
from torchvision import tv_tensors
from torchvision.models import mobilenet_v3_large, mobilenet_v3_small

from mnv3lib.recipe import Recipe, load, names, overridden, schedule
from mnv3lib.training import logs, loop
from mnv3lib.training.averaging import average_checkpoints
from mnv3lib.training.checkpoint import read
from mnv3lib.training.distributed import Processes
from mnv3lib.training.errors import CheckpointError, Interrupted, NotFinite, OtherRecipe, TrainingError
from mnv3lib.training.evaluation import evaluate
from mnv3lib.training.loop import Training
from mnv3lib.training.order import Order, Position, Reproducible, derive, reseed, steps_per_epoch
from mnv3lib.training.run import Result, train


def start(recipe: Recipe, sets: tuple[Any, Any] | None = None, **options: Any) -> Training:
    """A training on noise."""
    return Training(recipe, *(sets or noise()), **options)


def steps(training: Training, number: int) -> list[float]:
    """Take steps, over the ends of epochs, and return their losses."""
    losses = []
    for _ in range(number):
        training.advance()
        losses += [done.loss for done in training.flush(force=True)]
        if training.position.step == training.order.steps:
            training.next_epoch()
    return losses


# -- against a plain loop ----------------------------------------------------------------------------------------------


@pytest.mark.proves(
    "The training loop: weights and batch statistics after 3 epochs of SGD with warm-up and a cosine, label smoothing",
    against="a loop of 15 lines around torchvision's network, on the same images in the same order",
    tolerance=0,
    unit="absolute",
)
@pytest.mark.parametrize("freeze", ["nothing", "norm"])
def test_equal_to_a_plain_loop(freeze: str, deviation: Deviation) -> None:
    recipe = tiny(
        f"model.freeze={freeze}",
        "model.options.dropout=0",
        "label_smoothing=0.1",
        "schedule.warmup_epochs=1",
        "optimiser.weight_decay=0.01",
        "precision.channels_last=false",
    )
    training = start(recipe)
    network = mobilenet_v3_small(num_classes=10, width_mult=0.25, dropout=0.0)
    network.load_state_dict(training.model.state_dict())
    losses = steps(training, 6)

    images, labels = training.train_set.dataset.images, training.train_set.dataset.labels
    optimiser = torch.optim.SGD(network.parameters(), 0.05, momentum=0.9, weight_decay=0.01)
    for epoch, half in product(range(3), range(2)):
        network.train()
        if freeze == "norm":
            for module in network.modules():
                module.train(not isinstance(module, nn.BatchNorm2d))
        progress = epoch + half / 2
        factor = 0.01 + 0.99 * progress if epoch < 1 else (1 + math.cos(math.pi * (progress - 1) / 2)) / 2
        optimiser.param_groups[0]["lr"] = 0.05 * factor
        chosen = training.order.shuffled(epoch)[half * 25 : (half + 1) * 25]
        loss = functional.cross_entropy(network(images[chosen]), labels[chosen], label_smoothing=0.1)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        assert losses.pop(0) == pytest.approx(loss.item(), rel=1e-12)
    deviation(worst_of(training.model.state_dict(), network.state_dict()))


def test_the_same_recipe_is_the_same_run_and_another_seed_is_another() -> None:
    one, same, other = (start(tiny(*EVERYTHING, f"seed={seed}")) for seed in (0, 0, 1))
    for training in (one, same, other):
        torch.rand(7)  # what others do with the global generator does not matter
        steps(training, 3)
    assert differing(one.state_dict(), same.state_dict()) == []
    assert differing(one.state_dict(), other.state_dict())


def test_every_batch_has_dropout_of_its_own() -> None:
    """Each of the parts of a step, each step and each epoch; but the same when it is taken again."""

    def masks() -> list[bytes]:
        training = start(tiny("model.options.dropout=0.5", "batch_size=24", "accumulate=2"), noise(48))
        found: list[bytes] = []
        dropout = next(module for module in training.model.modules() if isinstance(module, nn.Dropout))
        dropout.register_forward_pre_hook(lambda module, inputs: (torch.ones_like(inputs[0]),))  # no zeros but its own
        dropout.register_forward_hook(lambda module, inputs, output: found.append((output == 0).numpy().tobytes()))
        steps(training, 4)
        return found

    once = masks()
    assert len(once) == len(set(once)) == 8
    assert masks() == once


def test_accumulated_batches_are_one_step() -> None:
    """The gradient of two halves is that of the whole, with statistics fixed; uneven halves count by their images."""
    plain = ("model.freeze=norm", "model.options.dropout=0")
    one, two = start(tiny(*plain)), start(tiny(*plain, "accumulate=2"))
    assert [one.order.size(step) for step in range(2)] == [25, 25], "two halves of 12 and 13"
    untrained = deepcopy(one.model.state_dict())
    assert steps(one, 4) == pytest.approx(steps(two, 4), rel=1e-6)
    learnt = worst_of(one.model.state_dict(), untrained)
    assert worst_of(two.model.state_dict(), one.model.state_dict()) < 1e-5 * learnt


def test_gradients_are_sent_with_the_last_batch_of_a_step_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    training, done = start(tiny("accumulate=4")), list[str]()
    loss = training.task.loss
    monkeypatch.setattr(Processes, "accumulating", lambda *_: done.append("kept") or nullcontext())
    monkeypatch.setattr(training.task, "loss", lambda *batch: done.append("loss") or loss(*batch))
    training.advance()
    assert done == [*["kept", "loss"] * 3, "loss"]


def test_the_speed_is_that_of_the_steps_after_the_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that goes on by 4 s whenever it is read: 4 s for each step, and 4 s for asking how they went."""
    clock = itertools.count(100, 4)
    monkeypatch.setattr(loop, "time", SimpleNamespace(perf_counter=lambda: float(next(clock))))
    training = start(tiny("epochs=3"))
    assert [training.order.size(step) for step in range(2)] == [25, 25]
    assert training.images_per_second(steps=3, warm_up=1) == 3 * 25 / 16
    assert training.position == Position(1, 2), "four steps were taken"


def test_a_row_is_of_the_epoch_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    training = start(tiny())
    training.running[:] = torch.tensor([6.0, 4.0, 0.5])
    training.position = Position(2, 2)
    monkeypatch.setattr(training, "evaluate", lambda _: {"top1": 0.25})
    assert training.measures() == {
        "epoch": 3, "lr": 0.05, "seconds": 0.5, "images_per_second": 8, "train_loss": 1.5, "last_top1": 0.25
    }  # fmt: skip
    training.running.zero_()
    assert math.isnan(training.measures()["train_loss"])


def test_a_network_is_measured_alone_as_in_the_loop() -> None:
    training = start(tiny())
    found = evaluate(training.recipe, training.model, training.eval_set, task=training.task)
    assert found == training.evaluate(training.model)


def test_the_learning_rate_follows_the_schedule() -> None:
    recipe = tiny("schedule.warmup_epochs=0.5", "batch_size=10")
    training, rates = start(recipe), []
    for _ in range(recipe.epochs):
        while training.position.step < training.order.steps:
            training.advance()
            rates += [done.lr for done in training.flush()]
        training.next_epoch()
    assert rates == [0.05 * factor for factor in schedule.curve(recipe.schedule, 3, 5)]


def test_gradients_are_clipped() -> None:
    def change(*options: str) -> float:
        training = start(tiny("schedule.name=constant", "optimiser.weight_decay=0", *options))
        before = deepcopy(list(training.model.parameters()))
        steps(training, 1)
        moved = [
            (new - old).detach().square().sum() for new, old in zip(training.model.parameters(), before, strict=True)
        ]
        return float(torch.stack(moved).sum().sqrt())

    assert change("clip_norm=0.001") == pytest.approx(0.05 * 0.001, rel=1e-3)
    # Scaled gradients are 65,536 times as large: what is clipped has to be what the step takes.
    assert change("clip_norm=0.001", "precision.autocast=float16") == pytest.approx(0.05 * 0.001, rel=1e-2)
    assert change() > 0.05 * 0.002


@pytest.mark.parametrize("freeze", ["backbone", "norm"])
def test_what_is_frozen_stays(freeze: str) -> None:
    training = start(tiny(f"model.freeze={freeze}", "optimiser.weight_decay=0.1"))
    before = {name: value.clone() for name, value in training.model.state_dict().items()}
    steps(training, 2)
    after = training.model.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    statistics = {name for name in before if "running" in name or "num_batches" in name}
    assert not moved & statistics
    assert moved == (
        {n for n in before if n.startswith("classifier")} if freeze == "backbone" else before.keys() - statistics
    )


def learnt_in(training: Training, number: int) -> Tensor:
    """What some steps add to all weights, as one vector."""
    before = [parameter.detach().clone() for parameter in training.model.parameters()]
    steps(training, number)
    after = [parameter.detach() for parameter in training.model.parameters()]
    return torch.cat([(new - old).flatten() for new, old in zip(after, before, strict=True)])


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_mixed_precision_trains_and_resumes(precision: str) -> None:
    recipe = tiny(f"precision.autocast={precision}")
    whole, halves = start(recipe), start(recipe)
    plain = start(tiny())
    learnt, expected = learnt_in(whole, 4), learnt_in(plain, 4)
    # bfloat16 keeps 8 bits and float16 11: after 4 steps the weights' way is 8 % or 3 % another one. Without a
    # gradient, with one still scaled or a step left out it would be off by half or more.
    assert 0 < (learnt - expected).norm() < 0.25 * expected.norm()
    assert whole.scaler.is_enabled() == (precision == "float16")
    steps(halves, 2)
    again = start(recipe)
    again.load_state_dict(halves.state_dict())
    steps(again, 2)
    assert differing(again.state_dict(), whole.state_dict()) == []


# -- order -------------------------------------------------------------------------------------------------------------


@pytest.mark.proves(
    "Images of an epoch that are left out or come twice, over 1 to 5 processes and uneven batches",
    against="each image once",
    tolerance=0,
    unit="count",
)
@pytest.mark.parametrize(("images", "batch"), [(50, 16), (50, 50), (51, 16), (64, 16), (97, 32), (11, 100)])
def test_each_image_once(images: int, batch: int, deviation: Deviation) -> None:
    for world, accumulate in product((1, 2, 3, 5), (1, 2)):
        order = Order(images=images, batch_size=batch, accumulate=accumulate, world=world)
        ranks = [list(order.of(rank).batches(Position(0, 0), 2)) for rank in range(world)]
        assert {len(batches) for batches in ranks} == {2 * order.steps * accumulate}
        for epoch in range(2):
            part = slice(epoch * order.steps * accumulate, (epoch + 1) * order.steps * accumulate)
            seen = Counter(key for batches in ranks for piece in batches[part] for key in piece)
            expected = Counter((epoch, image) for image in range(images))
            deviation(sum((seen - expected).values()) + sum((expected - seen).values()))
        sizes = [order.size(step) for step in range(order.steps)]
        assert sum(sizes) == images
        assert max(sizes) <= batch
        assert max(sizes) - min(sizes) <= 1
        shares = [len(piece) for batches in ranks for piece in batches]
        assert max(shares) - min(shares) <= 2
        assert min(shares) >= 1


@pytest.mark.parametrize(
    ("images", "batch", "accumulate", "sizes"),
    [
        (3, 2, 1, [3]),
        (5, 2, 1, [2, 3]),
        (7, 2, 1, [2, 2, 3]),
        (4, 2, 1, [2, 2]),
        (2, 2, 1, [2]),
        (4, 3, 1, [2, 2]),
        (7, 3, 1, [2, 2, 3]),
        (65, 64, 1, [32, 33]),
        (9, 8, 4, [9]),  # in steps of 4 and 5 three or four parts would have one image
        (33, 16, 8, [16, 17]),
        (50, 16, 6, [12, 13, 12, 13]),
        (3, 1, 1, [1, 1, 1]),  # as asked for
        (6, 3, 2, [3, 3]),  # 3 images make no two batches of two
        (1, 2, 1, [1]),
    ],
)
def test_no_batch_has_a_single_image_where_it_can_be_avoided(
    images: int, batch: int, accumulate: int, sizes: list[int]
) -> None:
    """Batch norm cannot learn from one image."""
    order = Order(images=images, batch_size=batch, accumulate=accumulate)
    assert [order.size(step) for step in range(order.steps)] == sizes
    pieces = [len(piece) for piece in order.batches(Position(0, 0), 1)]
    assert sum(pieces) == images
    if batch >= 2 * accumulate and images >= 2 * accumulate:
        assert min(pieces) >= 2


def test_the_order_is_what_it_was_where_no_batch_has_a_single_image() -> None:
    """So that runs of an earlier version go on as they would have gone."""
    changed = []
    for images, batch, accumulate in product(range(1, 60), range(1, 20), (1, 2, 3)):
        before = -(-images // batch)
        if steps_per_epoch(images, batch, accumulate) != before:
            changed.append((images, batch, accumulate))
            assert images // before // accumulate <= 1
            assert batch // accumulate >= 2
    assert {case for case in changed if case[2] == 1} == {(images, 2, 1) for images in range(3, 60, 2)}
    for world in (1, 2, 5):
        assert Order(images=50, batch_size=10, world=world).steps == 5


def test_a_batch_of_one_is_trained_on_or_says_what_helps() -> None:
    """Where maps shrink to one pixel, as at 32 pixels, batch norm has a single value."""
    training = start(tiny("batch_size=1"), noise(3))
    with pytest.raises(
        ValueError, match=r"^batch norm has .* batch of 1 image\(s\): take more images, a larger batch_size"
    ):
        training.advance()
    together = start(tiny("batch_size=2"), noise(3))
    assert len(steps(together, 2)) == 2


class Fatal(Noise):
    """Images of which one takes the process with it that asks for it, as the system does when memory runs out."""

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if index == 40 and get_worker_info() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(index)


def test_a_process_that_prepares_images_and_is_killed_is_told_in_a_line(tmp_path: Path) -> None:
    said = r"^a process that prepares images was killed.* try fewer --workers. .*checkpoint.* \(DataLoader worker \(pid"
    with pytest.raises(TrainingError, match=said) as raised:
        train(tiny("batch_size=10"), tmp_path, datasets=(Fatal(50), Noise(5)), workers=1)
    assert "\n" not in str(raised.value).strip()


def test_a_step_is_the_same_images_whoever_takes_it() -> None:
    alone = Order(images=50, batch_size=16, accumulate=6)
    pieces = list(alone.batches(Position(0, 0), 1))
    for world in (2, 3):
        orders = [Order(images=50, batch_size=16, accumulate=6 // world, rank=r, world=world) for r in range(world)]
        ranks = [list(order.batches(Position(0, 0), 1)) for order in orders]
        each = 6 // world
        joined = [
            piece for step in range(alone.steps) for rank in ranks for piece in rank[step * each : (step + 1) * each]
        ]
        assert joined == pieces


def test_an_order_goes_on_from_any_position() -> None:
    order = Order(images=20, batch_size=6, accumulate=2)
    whole = list(order.batches(Position(0, 0), 3))
    assert len(order.sampler(Position(0, 0), 3)) == len(whole) == 24
    for number, (epoch, step) in enumerate(product(range(3), range(4))):
        sampler = order.sampler(Position(epoch, step), 3)
        assert list(sampler) == whole[2 * number :]
        assert len(sampler) == len(whole) - 2 * number
    odd = Order(images=15, batch_size=6)
    assert len(odd.sampler(Position(1, 1), 3)) == 3 * 3 - 4
    epochs = [[key[1] for piece in whole[8 * epoch : 8 * epoch + 8] for key in piece] for epoch in range(3)]
    assert epochs[0] != epochs[1] != epochs[2]
    assert Order(images=20, batch_size=6, seed=1).shuffled(0) != order.shuffled(0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch_size": 2, "world": 3}, "batch_size must leave every process an image.*got 2"),
        ({"batch_size": 4, "world": 2, "accumulate": 3}, r"too few for 2 process\(es\) with 3 batch\(es\) each"),
        ({"images": 1, "batch_size": 8, "world": 2}, "1 images in 1 steps are too few"),
        ({"batch_size": 0}, "batch_size must be an integer >= 1, got 0"),
        ({"rank": 2, "world": 2, "batch_size": 4}, "rank must be an integer from 0 to 1, got 2"),
    ],
)
def test_an_order_that_cannot_be(options: dict[str, int], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Order(**{"images": 50, **options})


def test_seeds_depend_on_every_part() -> None:
    keys = [(0, "a", 1), (0, "a", 2), (1, "a", 1), (0, "b", 1), (0, "a", 1, 0)]
    assert len({derive(*key) for key in keys}) == len(keys)
    assert derive(0, "a", 1) == 2994419644724811997, "the same on every machine"
    reseed(3)
    first = torch.rand(3)
    reseed(3)
    assert torch.equal(torch.rand(3), first)


@pytest.mark.proves(
    "Augmented images that look otherwise in another split over processes or with other worker processes",
    against="one process without workers",
    tolerance=0,
    unit="count",
)
def test_an_image_looks_the_same_in_every_process(deviation: Deviation) -> None:
    images = Reproducible(Noise(24, jitter=1.0), seed=0)

    def looks(world: int, workers: int) -> dict[tuple[int, int], Tensor]:
        found = {}
        for rank in range(world):
            order = Order(images=24, batch_size=10, rank=rank, world=world)
            keys = [key for batch in order.batches(Position(0, 0), 2) for key in batch]
            sampler = order.sampler(Position(0, 0), 2)
            batches = DataLoader(images, batch_sampler=sampler, num_workers=workers)
            found |= dict(zip(keys, (image for batch, _ in batches for image in batch), strict=True))
        return found

    alone = looks(1, 0)
    assert len(alone) == 48
    assert not torch.equal(alone[0, 5], alone[1, 5]), "an image must look otherwise in the next epoch"
    for world, workers in ((2, 0), (3, 0), (1, 2)):
        other = looks(world, workers)
        assert other.keys() == alone.keys()
        deviation(sum(not torch.equal(alone[key], other[key]) for key in alone))


# -- resume ------------------------------------------------------------------------------------------------------------


@pytest.mark.proves(
    "Stopped after each single step and resumed from the file: weights, optimiser, averages, with all that is random",
    against="the same run uninterrupted, for four optimisers, on a CPU",
    tolerance=0,
    unit="count",
)
@pytest.mark.parametrize("optimiser", ["rmsprop-tf", "rmsprop", "sgd", "adamw"])
def test_resumed_after_each_step(optimiser: str, deviation: Deviation) -> None:
    everything = [one for one in EVERYTHING if not one.startswith(("augment.policy", "augment.crop"))]
    recipe = tiny(*everything, f"optimiser.name={optimiser}", "optimiser.lr=0.01")
    sets = noise(jitter=0.5)
    whole = start(recipe, sets)
    current = start(recipe, sets)
    for _ in range(2 * whole.order.steps):
        steps(whole, 1)
        steps(current, 1)
        file = io.BytesIO()
        torch.save(current.state_dict(), file)
        file.seek(0)
        current = start(recipe, sets)
        current.load_state_dict(torch.load(file, weights_only=True))
        deviation(len(differing(current.state_dict(), whole.state_dict())))


@pytest.mark.parametrize("mixed", [True, False])
def test_workers_change_nothing(mixed: bool) -> None:
    """Where images are prepared elsewhere, they do not happen to leave the generators in the same state."""
    left_out = ("augment.policy", "augment.crop") if mixed else ("augment",)
    recipe = tiny(*(one for one in EVERYTHING if not one.startswith(left_out)))
    alone, helped = start(recipe, noise(jitter=0.5)), start(recipe, noise(jitter=0.5), workers=1)
    for training in (alone, helped):
        steps(training, 3)
    assert differing(helped.state_dict(), alone.state_dict()) == []


def test_the_state_of_another_kind_of_run_is_refused() -> None:
    plain = start(tiny()).state_dict()
    with pytest.raises(CheckpointError, match="must hold an average if, and only if"):
        start(tiny("averaging.ema_decay=0.9")).load_state_dict(plain)
    with pytest.raises(CheckpointError, match=r"mine is of another architecture .*features\.0\.0\.weight is"):
        start(tiny("model.options.width_mult=1")).load_state_dict(plain, source="mine")
    with pytest.raises(CheckpointError, match="does not fit"):
        start(tiny("optimiser.norm_weight_decay=0", "model.freeze=backbone")).load_state_dict(plain)


# -- a run and its folder ----------------------------------------------------------------------------------------------


class Trap(Noise):
    """Images that do something when the n-th of them is asked for."""

    def __init__(self, images: int, number: int, action: Callable[[], Any]) -> None:
        super().__init__(images)
        self.number, self.action = number, action

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        item = super().__getitem__(index)
        if len(self.asked) == self.number:
            self.action()
        return item


def run(
    recipe: Recipe, out: Path | None, *, trap: tuple[int, Callable[[], Any]] | None = None, **options: Any
) -> Result:
    sets = noise()
    return train(recipe, out, datasets=(Trap(50, *trap), sets[1]) if trap else sets, device="cpu", **options)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_stopped_by_a_signal_and_resumed(tmp_path: Path, signum: int) -> None:
    recipe = tiny("epochs=2", "averaging.ema_decay=0.9", "batch_size=10")
    whole = run(recipe, tmp_path / "whole")
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(
        Interrupted, match=r"stopped by SIG.*last\.pt is whole; the same command goes on from it"
    ) as stop:
        run(recipe, tmp_path / "cut", trap=(13, lambda: os.kill(os.getpid(), signum)))
    assert stop.value.signum == signum
    assert isinstance(stop.value, KeyboardInterrupt)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert read(tmp_path / "cut" / "last.pt")["position"] == [0, 2], "the step was not finished first"
    resumed = run(recipe, tmp_path / "cut")
    assert differing(resumed.rows, whole.rows) == []
    assert differing(read(tmp_path / "cut" / "last.pt"), read(tmp_path / "whole" / "last.pt")) == []
    assert differing(resumed.model.state_dict(), whole.model.state_dict()) == []


def test_in_another_thread_signals_are_left_alone(tmp_path: Path) -> None:
    results: list[Result] = []
    thread = threading.Thread(target=lambda: results.append(run(tiny("epochs=1"), None)))
    thread.start()
    thread.join()
    assert results[0].folder is None


def test_not_a_number_stops_with_the_last_good_checkpoint(tmp_path: Path) -> None:
    recipe = tiny("batch_size=10", "optimiser.lr=1e7", "schedule.name=constant", "schedule.warmup_epochs=1",
                  "schedule.warmup_factor=0")  # fmt: skip
    with pytest.raises(NotFinite) as caught:
        run(recipe, tmp_path, save_every=1)
    said = str(caught.value)
    kept = read(tmp_path / "last.pt")
    epoch, step = kept["position"]
    assert f"the loss is nan in epoch {epoch + 1} of 3, step {step + 1} of 5, at a learning rate of" in said
    assert "last.pt is whole" in said
    assert all(value.isfinite().all() for value in kept["model"].values())
    with pytest.raises(NotFinite, match=r"There is no checkpoint from before"):
        run(tiny("optimiser.lr=1e30", "schedule.name=constant", "batch_size=10"), tmp_path / "other")


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_a_state_that_is_not_finite_is_of_no_use(value: float) -> None:
    """The loss may be finite still: what is saved is looked at, too."""
    training = start(tiny())
    steps(training, 2)
    with torch.no_grad():
        training.model.features[3].block[0][1].running_var[1] = value
    with pytest.raises(NotFinite, match=r"^features\.3\.block\.0\.1\.running_var is infinite or .* after step 2 of"):
        training.state_dict()


def test_a_loss_that_is_not_a_number_names_the_place(tmp_path: Path) -> None:
    sets = noise()
    sets[0].images[sets[0].images.shape[0] - 1] = math.nan
    recipe = tiny("batch_size=10")
    with pytest.raises(NotFinite) as caught:
        train(recipe, tmp_path, datasets=sets, device="cpu", save_every=1)
    order = Order(images=50, batch_size=10)
    place = order.shuffled(0).index(49) // 10
    rate = 0.05 * schedule.factor(recipe.schedule, place / 5, 3)
    assert f"the loss is nan in epoch 1 of 3, step {place + 1} of 5, at a learning rate of {rate:g}" in str(
        caught.value
    )
    assert read(tmp_path / "last.pt")["position"] == [0, place]


def test_weights_that_are_not_finite_are_never_saved() -> None:
    training = start(tiny())
    with torch.no_grad():
        training.model.features[3].block[0][0].weight[0] = math.inf
    with pytest.raises(NotFinite, match=r"features\.3\.block\.0\.0\.weight is infinite or not a number after step 0"):
        training.state_dict()


@pytest.mark.parametrize("averaged", [0.5, 0.9])
def test_the_best_is_kept_and_the_average_of_the_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, averaged: float
) -> None:
    """With measures that are given: of the last weights and of their average after each epoch, of both at the end."""
    given = iter([0.2, 0.1, 0.5, 0.7, 0.3, 0.6, 0.4, 0.7, averaged])
    seen: list[dict[str, Tensor]] = []

    def measured(training: Training, module: nn.Module) -> dict[str, float]:
        seen.append(deepcopy(dict(module.state_dict())))
        return {"top1": next(given)}

    monkeypatch.setattr(Training, "evaluate", measured)
    result = run(tiny("epochs=4", "averaging.ema_decay=0.5", "averaging.checkpoints=2"), tmp_path)
    best = read(tmp_path / "best.pt")
    assert (best["which"], best["epoch"]) == ("ema", 2), "of equals the first"
    assert differing(best["model"], seen[3]) == []
    assert sorted(path.name for path in tmp_path.glob("epoch-*")) == ["epoch-0002.pt", "epoch-0004.pt"]
    assert differing(read(tmp_path / "averaged.pt")["model"], average_checkpoints([seen[2], seen[6]])) == []
    assert differing(seen[8], read(tmp_path / "averaged.pt")["model"]) == []
    assert differing(dict(result.model.state_dict()), seen[8 if averaged == 0.9 else 3]) == []
    found = (result.which, result.epoch, result.best)
    assert found == (("averaged", 4, 0.9) if averaged == 0.9 else ("ema", 2, 0.7))
    report = json.loads((tmp_path / "result.json").read_text())
    assert report["best"] == {"which": result.which, "epoch": result.epoch, "top1": result.best}
    assert report["averaged"] == {"top1": averaged}
    assert not result.model.training


def test_a_complete_run_is_not_trained_again(tmp_path: Path) -> None:
    recipe = tiny("epochs=1")
    first = run(recipe, tmp_path)
    before = (tmp_path / "last.pt").stat().st_mtime_ns
    again = run(recipe, tmp_path, trap=(1, lambda: pytest.fail("an image was asked for")))
    assert (tmp_path / "last.pt").stat().st_mtime_ns == before
    assert again.rows == first.rows
    assert differing(again.model.state_dict(), first.model.state_dict()) == []


def test_another_recipe_is_refused_and_restart_puts_the_old_aside(tmp_path: Path) -> None:
    out = tmp_path / "run"
    run(tiny("epochs=1"), out)
    before = (out / "last.pt").read_bytes()
    with pytest.raises(
        OtherRecipe, match=r"another recipe \(epochs: 1 there, 2 here; optimiser\.lr: 0\.05 there, 0\.1 here\)"
    ):
        run(tiny("epochs=2", "optimiser.lr=0.1"), out)
    assert (out / "last.pt").read_bytes() == before
    # Another name, source or place of the images is no other recipe.
    run(tiny("epochs=1", "name=renamed", "source=elsewhere"), out)
    run(tiny("epochs=2"), out, restart=True)
    assert (tmp_path / "run.old-1" / "last.pt").read_bytes() == before
    assert read(out / "last.pt")["position"] == [2, 0]
    run(tiny("epochs=1"), out, restart=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "run.old-1", "run.old-2"]


def test_a_restart_by_torchrun_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What torchrun starts again was given ``--restart`` too, but must not start anew."""
    run(tiny("epochs=1"), tmp_path / "run")
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    run(tiny("epochs=1"), tmp_path / "run", restart=True, trap=(1, lambda: pytest.fail("trained again")))
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_two_runs_do_not_share_a_folder(tmp_path: Path) -> None:
    """A lock belongs to a process, so the other run is one."""
    pid = -1

    def other() -> None:
        nonlocal pid
        pid = os.fork()
        if pid == 0:
            try:
                run(tiny("epochs=1"), tmp_path)
            except TrainingError as error:
                (tmp_path / "said").write_text(str(error))
            finally:
                os._exit(0)
        os.waitpid(pid, 0)

    run(tiny("epochs=1"), tmp_path, trap=(1, other))
    assert (tmp_path / "said").read_text().startswith(f"another run is writing to {tmp_path}")


# -- logs --------------------------------------------------------------------------------------------------------------


def test_the_table_has_each_epoch_once_whatever_happens(tmp_path: Path) -> None:
    recipe = tiny("epochs=3", "batch_size=10")
    with pytest.raises(Interrupted):
        run(recipe, tmp_path, trap=(60, lambda: os.kill(os.getpid(), signal.SIGINT)))
    table = tmp_path / "epochs.csv"
    assert [row["epoch"] for row in logs.read_rows(table)] == [1]
    kept = logs.read_rows(table)
    table.write_text(table.read_text() + "2,0.1,torn li")
    with pytest.raises(Interrupted):
        run(recipe, tmp_path, trap=(1, lambda: os.kill(os.getpid(), signal.SIGINT)))
    assert logs.read_rows(table) == kept, "a table must not be ahead of the checkpoint"
    result = run(recipe, tmp_path)
    assert logs.read_rows(table) == result.rows
    assert [row["epoch"] for row in result.rows] == [1, 2, 3]
    first = {"epoch", "lr", "seconds", "images_per_second", "train_loss", "last_loss", "last_top1", "last_top5"}
    assert set(result.rows[0]) == first


@pytest.mark.slow
def test_tensorboard_shows_each_step_once(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    recipe = tiny("epochs=2", "batch_size=10")
    with pytest.raises(pytest.fail.Exception, match="crash"):  # steps 6 and 7 are shown, but lost
        run(recipe, tmp_path, tensorboard=True, trap=(75, lambda: pytest.fail("crash")))
    result = run(recipe, tmp_path, tensorboard=True)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("step/loss")] == list(range(1, 11))
    assert [event.value for event in events.Scalars("epoch/last_top1")] == pytest.approx(
        [row["last_top1"] for row in result.rows]
    )


def test_each_step_is_logged_by_its_number_in_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noted: list[tuple[Any, ...]] = []
    monkeypatch.setattr(logs.Log, "step", lambda _, step, **values: noted.append((step, *sorted(values))))
    run(tiny("epochs=2", "batch_size=10"), tmp_path)
    assert noted == [(number, "loss", "lr") for number in range(1, 11)]


def test_tensorboard_is_shown_the_last_epoch(tmp_path: Path) -> None:
    shown: list[tuple[str, float, int]] = []

    class Writer:
        def add_scalar(self, *value: Any) -> None:
            shown.append(value)

        def flush(self) -> None:
            shown.append(("flush", 0, 0))

    log = logs.Log(tmp_path)
    log.writer = Writer()
    log.step(3, loss=2.0)
    log.epoch([{"epoch": 1, "lr": 0.1}, {"epoch": 2, "lr": 0.2}], 10)
    assert shown == [("step/loss", 2.0, 3), ("epoch/epoch", 2, 10), ("epoch/lr", 0.2, 10), ("flush", 0, 0)]
    assert [row["epoch"] for row in logs.read_rows(tmp_path / "epochs.csv")] == [1, 2]


def test_the_figure_says_what_it_shows(tmp_path: Path) -> None:
    rows = [
        {"epoch": 1, "lr": 0.1, "train_loss": 2.0, "last_loss": 2.5, "last_top1": 0.2},
        {"epoch": 2, "lr": 0.05, "train_loss": 1.0, "last_loss": 1.5, "last_top1": 0.7, "ema_top1": 0.6},
    ]
    figure, words = logs.summary_figure(rows, "top1", "a run")
    assert [axes.get_ylabel() for axes in figure.axes] == ["loss", "top1", "learning rate"]
    lines = {line.get_label(): list(line.get_ydata()) for line in figure.axes[0].lines}
    assert lines == {"train": [2.0, 1.0], "last": [2.5, 1.5]}
    assert [list(line.get_ydata()) for line in figure.axes[2].lines] == [[0.1, 0.05]]
    colours = [{line.get_label(): line.get_color() for line in axes.lines} for axes in figure.axes[:2]]
    assert colours[0]["last"] == colours[1]["last"] != colours[1]["ema"]
    assert "2 epochs of a run" in words
    assert "loss (train) from 2 to 1" in words
    assert "The best top1 is 0.7 (last, epoch 2)" in words
    with pytest.raises(ValueError, match="rows must hold at least one epoch"):
        logs.summary_figure([], "top1", "nothing")
    assert logs.save_figure(tmp_path, rows, "top1", "a run") == words
    assert words in (tmp_path / "summary.svg").read_text(encoding="utf-8").replace("&gt;", ">")
    assert (tmp_path / "summary.txt").read_text(encoding="utf-8") == f"{words}\n"
    assert (tmp_path / "summary.png").stat().st_size > 1000


# -- tasks -------------------------------------------------------------------------------------------------------------


class Shapes(Dataset[Any]):
    """A bright square on noise, with its mask or its box."""

    num_classes = 3

    def __init__(self, task: str, images: int, side: int) -> None:
        self.task, self.images, self.side = task, images, side

    def __len__(self) -> int:
        return self.images

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        image = torch.rand(3, self.side, self.side, generator=torch.Generator().manual_seed(index)) / 2
        low, high, label = self.side // 4, 3 * self.side // 4, 1 + index % 2
        image[:, low:high, low:high] += 0.5
        if self.task == "segmentation":
            mask = torch.zeros(self.side, self.side, dtype=torch.int64)
            mask[low:high, low:high] = label
            mask[low - 1] = 255
            return tv_tensors.Image(image), tv_tensors.Mask(mask)
        boxes = tv_tensors.BoundingBoxes([[low, low, high, high]], format="XYXY", canvas_size=(self.side, self.side))
        return tv_tensors.Image(image), {
            "boxes": boxes.float(), "labels": torch.tensor([label]), "image_id": index
        }  # fmt: skip


@pytest.mark.parametrize(
    ("task", "model", "side", "options"),
    [
        ("segmentation", "lraspp_mobilenet_v3_large", 32, ()),
        pytest.param("segmentation", "deeplabv3_mobilenet_v3_large", 64, ("aux_loss=true",), marks=pytest.mark.slow),
        pytest.param("detection", "ssdlite320_mobilenet_v3_large", 64, (), marks=pytest.mark.slow),
    ],
)
def test_dense_tasks_train_and_are_measured(
    tmp_path: Path, task: str, model: str, side: int, options: tuple[str, ...]
) -> None:
    recipe = tiny(
        f"task={task}", f"model.name={model}", "model.options={}", "batch_size=4", "epochs=2", "optimiser.lr=0.01",
        *(f"model.options.{option}" for option in options),
    )  # fmt: skip
    result = train(recipe, tmp_path, datasets=(Shapes(task, 8, side), Shapes(task, 3, side)), device="cpu")
    measure = {"segmentation": "miou", "detection": "ap"}[task]
    assert result.measure == measure
    assert 0 <= result.best <= 1
    assert result.rows[1]["train_loss"] < result.rows[0]["train_loss"]
    assert set(result.rows[0]) >= {f"last_{measure}", {"segmentation": "last_pixel_accuracy"}.get(task, "last_ap50")}


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in names() if load(name).data.name == "coco"])
def test_a_published_recipe_takes_a_step(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With the published network and its backbone; the file of it is not published anew for tests."""
    published, asked = mobilenet_v3_large().state_dict(), []

    def fetched(address: str, expected: str | None) -> Path:
        asked.append(address)
        torch.save(published, tmp_path / "published.pth")
        return tmp_path / "published.pth"

    monkeypatch.setattr("mnv3lib.weights.download._from_address", fetched)
    recipe = overridden(load(name), ["batch_size=2", "sync_batch_norm=false"])
    if "fasterrcnn" in name:
        recipe = overridden(recipe, ["model.options.min_size=64"])
    training = start(recipe, (Shapes(recipe.task, 2, 64), Shapes(recipe.task, 2, 64)))
    stem = next(value for name, value in training.model.state_dict().items() if value.shape == (16, 3, 3, 3))
    if recipe.model.options["weights_backbone"] is None:
        assert not asked
    else:
        assert [url.rpartition("/")[2] for url in asked] == ["mobilenet_v3_large-8738ca79.pth"]
        assert stem.equal(published["features.0.0.weight"])
    before = deepcopy(training.model.state_dict())
    assert steps(training, 1)[0] > 0
    assert any(not value.equal(before[name]) for name, value in training.model.state_dict().items())
