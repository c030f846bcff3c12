"""The loop: steps of the optimiser over the images. It writes no files.

All random numbers come from the recipe's seed and the position (:mod:`mnv3lib.training.order`), and the learning rate
from the position too. So the state of a run is its weights, its optimiser, its averages and two integers, and one that
goes on from them cannot be told from one that was never interrupted.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mnv3lib.deploy.quantization import FakeQuantized
from mnv3lib.pointwise import with_matrix_products
from mnv3lib.recipe import Recipe, factor
from mnv3lib.tasks import Task
from mnv3lib.training import augment, optimisers, quantised
from mnv3lib.training.averaging import ExponentialAverage
from mnv3lib.training.checkpoint import load_exactly
from mnv3lib.training.distributed import Processes, synchronise_batch_norm
from mnv3lib.training.errors import CheckpointError, NotFinite
from mnv3lib.training.evaluation import autocast, evaluate, make_task, memory_format, start_worker
from mnv3lib.training.order import Order, Position, Reproducible, batch_norm_explained, reseed

if TYPE_CHECKING:
    from mnv3lib.weights import Report

__all__ = ["Done", "Training"]

#: Steps after which a GPU is asked how it went; asking makes it wait.
_GPU_STEPS = 20

#: Sums over the epoch so far.
_RUNNING = ("loss", "images", "seconds")


@dataclass(frozen=True, slots=True)
class Done:
    """A step that was taken: its number over the whole run from 1, its learning rate and its loss over all images."""

    step: int
    lr: float
    loss: float


class Training:
    """A network in training.

    Args:
        recipe: what to do.
        train_set: images and targets, already transformed for training.
        eval_set: the same for evaluation.
        classes: number of classes, background included; None for those of ``train_set``.
        task: what is learnt; None for the recipe's.
        processes: this process among those that train together.
        workers: processes that prepare images; 0 for this one.
        pretrained: start from the recipe's weights, if it names some; False fetches nothing.

    Attributes:
        model: the network, not wrapped for distributed training.
        average: its exponential moving average, or None.
        position: where training stands.
        order: which images come when; ``order.steps`` steps make an epoch.
        loaded: what became of every tensor of the recipe's weights; None if there are none, or they were not asked for.
        running: sums over the epoch so far: loss × images, images, and seconds.
        stop_asked: set it to stop all processes at the same step; see ``stopping``.

    Raises:
        TypeError, ValueError: for a recipe that cannot be followed here.
    """

    def __init__(
        self,
        recipe: Recipe,
        train_set: Any,
        eval_set: Any,
        *,
        classes: int | None = None,
        task: Task | None = None,
        processes: Processes | None = None,
        workers: int = 0,
        pretrained: bool = True,
    ) -> None:
        self.recipe, self.eval_set, self.workers = recipe, eval_set, workers
        self.processes = processes or Processes()
        if recipe.quantisation is not None:
            quantised.check(recipe, processes=self.processes.world, pretrained=pretrained)
        self.device = self.processes.device
        self.order = Order(
            images=len(train_set),
            batch_size=recipe.batch_size,
            seed=recipe.seed,
            accumulate=recipe.accumulate,
            rank=self.processes.rank,
            world=self.processes.world,
        )
        self.train_set = Reproducible(train_set, recipe.seed)
        self.task = task or make_task(recipe, train_set.num_classes if classes is None else classes)
        self.mix = augment.batch_transform(recipe.augment, self.task.num_classes)
        self.loaded: Report | None = None
        self._build_model(pretrained)
        self.optimiser = optimisers.build(recipe.optimiser, self.model)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=recipe.precision.autocast == "float16")
        self.average = ExponentialAverage(self.model, recipe.averaging) if recipe.averaging.ema_decay else None
        self.wrapped = self.processes.wrap(self.model)
        self.position = Position(0, 0)
        self.running = torch.zeros(3, dtype=torch.float64)
        self.stop_asked = self.stopping = False
        self._pending: list[tuple[Position, float, Tensor]] = []
        self._batches: Iterator[Any] | None = None
        if self.processes.world > 1:
            self._settle()

    def _settle(self) -> None:
        """One forward and backward pass on the first batch, undone afterwards.

        ``DistributedDataParallel`` sums gradients bucket by bucket, and after its first backward pass it sorts them
        into other buckets. With three processes or more the order in a bucket decides the last bits of a sum, so a
        resumed run would differ there from one that was never interrupted. After this pass both have the final buckets.
        """
        kept = {name: buffer.clone() for name, buffer in self.model.named_buffers()}
        self._training_mode()
        keys = next(self.order.batches(Position(0, 0), 1))
        batch = self.task.collate([self.train_set[key] for key in keys])
        self.task.loss(self.wrapped, *self.task.move(batch, self.device, memory_format(self.recipe))).backward()  # type: ignore[no-untyped-call]
        self.optimiser.zero_grad(set_to_none=True)
        for name, buffer in self.model.named_buffers():
            buffer.copy_(kept[name])

    def _build_model(self, pretrained: bool) -> None:
        recipe = self.recipe
        with self.processes.one_after_first():  # there may be a file to fetch
            reseed(recipe.seed, "weights")
            model = self.task.build_model()
            if pretrained:
                self.loaded = self._load_weights(model)
        if recipe.model.freeze == "backbone":
            self.task.backbone(model).requires_grad_(False)
        if recipe.sync_batch_norm:
            model = synchronise_batch_norm(model, self.device)
        if recipe.quantisation is not None:
            model = quantised.fake_quantized(model, recipe)
        if recipe.precision.matrix_products:
            model = with_matrix_products(model)
        self.model = model.to(self.device).to(memory_format=memory_format(recipe))

    def _load_weights(self, model: nn.Module) -> Report | None:
        """Fill a network, or its backbone, from the file that the recipe names; one for all goes before."""
        from mnv3lib import weights

        if self.recipe.model.weights is not None:
            return weights.load(model, self.recipe.model.weights)
        if self.task.weights_backbone is not None:
            return weights.load(model, self.task.weights_backbone, part="features")
        return None

    # -- steps ---------------------------------------------------------------------------------------------------------

    @property
    def step_of_run(self) -> int:
        """Steps done since the start of the run."""
        return self.position.epoch * self.order.steps + self.position.step

    @property
    def complete(self) -> bool:
        """Whether all epochs are done."""
        return self.position.epoch >= self.recipe.epochs

    def advance(self) -> None:
        """Take one step; :meth:`next_epoch` follows the last one of an epoch.

        What came of it is known after :meth:`flush`.
        """
        began = time.perf_counter()
        recipe, order, (epoch, step) = self.recipe, self.order, self.position
        if self._batches is None:
            self._batches = iter(self._loader())
        self._training_mode()
        optimisers.set_factor(self.optimiser, factor(recipe.schedule, epoch + step / order.steps, recipe.epochs))
        totals = torch.zeros(3, dtype=torch.float64, device=self.device)
        for number in range(recipe.accumulate):
            images, targets = self.task.move(next(self._batches), self.device, memory_format(recipe))
            piece = order.rank * recipe.accumulate + number
            if self.mix is not None:
                reseed(recipe.seed, "mix", epoch, step, piece)
                images, targets = self.mix(images, targets)
            reseed(recipe.seed, "network", epoch, step, piece)
            last = number == recipe.accumulate - 1
            with nullcontext() if last else self.processes.accumulating(self.wrapped):
                with autocast(recipe, self.device), batch_norm_explained(len(images)):
                    loss = self.task.loss(self.wrapped, images, targets)
                # Each image counts the same, however many this process has; the wrapper divides by the processes.
                share = len(images) / order.size(step) * order.world
                self.scaler.scale(loss * share).backward()  # type: ignore[no-untyped-call]
            totals[0] += loss.detach().double() * len(images)
            totals[1] += len(images)
        self._update_weights()
        totals[2] += self.stop_asked
        self.position = Position(epoch, step + 1)
        lr = self.optimiser.param_groups[0]["lr"]
        self._pending.append((self.position, lr, self.processes.all_reduce(totals)))
        self.running[2] += time.perf_counter() - began

    def _training_mode(self) -> None:
        """Put the network in training mode, but for the parts that the recipe freezes."""
        self.wrapped.train()
        quantisation = self.recipe.quantisation
        if quantisation is not None:
            assert isinstance(self.model, FakeQuantized)
            self.model.hold_ranges(self.position.epoch >= quantisation.observer_epochs)
        if self.recipe.model.freeze == "backbone":
            self.task.backbone(self.model).eval()
        elif self.recipe.model.freeze == "norm":
            for module in self.model.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()

    def _update_weights(self) -> None:
        if self.recipe.clip_norm is not None:
            self.scaler.unscale_(self.optimiser)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip_norm)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.optimiser.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.update(self.model)

    def flush(self, *, force: bool = False) -> list[Done]:
        """Return the steps whose outcome was not known yet; on a GPU only every few steps, or by ``force``.

        Raises:
            NotFinite: naming epoch, step and learning rate, if the loss of one is infinite or not a number.
        """
        if not self._pending or (self.device.type == "cuda" and len(self._pending) < _GPU_STEPS and not force):
            return []
        began = time.perf_counter()
        pending, self._pending = self._pending, []
        outcomes = torch.stack([totals for _, _, totals in pending]).tolist()
        done = []
        for (position, lr, _), (loss, images, stops) in zip(pending, outcomes, strict=True):
            if not math.isfinite(loss):
                raise NotFinite(
                    f"the loss is {loss / images} in epoch {position.epoch + 1} of {self.recipe.epochs}, step "
                    f"{position.step} of {self.order.steps}, at a learning rate of {lr:g}: try a lower one, a longer "
                    "warm-up (schedule.warmup_epochs) or clip_norm"
                )
            self.running[0] += loss
            self.running[1] += images
            self.stopping = self.stopping or stops > 0
            done.append(Done(position.epoch * self.order.steps + position.step, lr, loss / images))
        self.running[2] += time.perf_counter() - began
        return done

    def next_epoch(self) -> None:
        """Go on to the next epoch."""
        self.position = Position(self.position.epoch + 1, 0)
        self.running.zero_()

    def _loader(self) -> DataLoader[Any]:
        return DataLoader(
            self.train_set,
            batch_sampler=self.order.sampler(self.position, self.recipe.epochs),
            num_workers=self.workers,
            collate_fn=self.task.collate,
            pin_memory=self.device.type == "cuda",
            worker_init_fn=start_worker,
        )

    def images_per_second(self, steps: int = 5, warm_up: int = 2) -> float:
        """Measure the speed of a few steps over all processes; the steps are taken."""
        self.running.zero_()
        for number in range(warm_up + steps):
            if number == warm_up:
                self.flush(force=True)
                self.running.zero_()
            if self.position.step == self.order.steps:
                self.position = Position(self.position.epoch + 1, 0)
            if self.complete:
                self.position, self._batches = Position(0, 0), None
            self.advance()
        self.flush(force=True)
        return float(self.running[1] / self.running[2])

    def fresh_model(self) -> nn.Module:
        """A network as the one in training is, with other weights, in evaluation mode on the CPU."""
        model = self.task.build_model()
        return (model if self.recipe.quantisation is None else quantised.fake_quantized(model, self.recipe)).eval()

    # -- measures ------------------------------------------------------------------------------------------------------

    def evaluate(self, module: nn.Module) -> dict[str, float]:
        """Measure a network on the evaluation images, shared among the processes; the same in all of them."""
        self.processes.copy_first(module)
        return evaluate(
            self.recipe, module, self.eval_set, task=self.task, processes=self.processes, workers=self.workers
        )

    def measures(self) -> dict[str, float]:
        """A row for the table: the epoch so far, and the measures of the network and of its average."""
        loss, images, seconds = self.running.tolist()
        row = {
            "epoch": self.position.epoch + 1,
            "lr": self.optimiser.param_groups[0]["lr"],
            "seconds": seconds,
            "images_per_second": images / seconds if seconds else math.nan,
            "train_loss": loss / images if images else math.nan,
        }
        for which, module in self.candidates().items():
            row |= {f"{which}_{name}": value for name, value in self.evaluate(module).items()}
        return row

    def candidates(self) -> dict[str, nn.Module]:
        """The networks that are measured: ``"last"``, and ``"ema"`` if there is an average."""
        return {"last": self.model} | ({"ema": self.average.module} if self.average is not None else {})

    # -- state ---------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything that :meth:`load_state_dict` needs, as tensors and plain data.

        Raises:
            NotFinite: if a weight or a statistic is infinite or not a number; such a state is of no use.
        """
        for name, value in self.model.state_dict().items():
            if not value.isfinite().all():
                raise NotFinite(f"{name} is infinite or not a number after step {self.step_of_run} of the run")
        return {
            "position": list(self.position),
            "running": dict(zip(_RUNNING, self.running.tolist(), strict=True)),
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any], *, source: str = "the state") -> None:
        """Go on from what :meth:`state_dict` gave.

        Raises:
            CheckpointError: if it does not fit; nothing is changed if the network's part does not.
        """
        load_exactly(self.model, state["model"], source=source)
        if (self.average is None) != (state["average"] is None):
            raise CheckpointError(f"{source} must hold an average if, and only if, the recipe asks for one")
        try:
            self.optimiser.load_state_dict(state["optimiser"])
            if self.average is not None:
                self.average.load_state_dict(state["average"])
        except ValueError as error:
            raise CheckpointError(f"{source} does not fit: {error}") from error
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(state["scaler"])
        self.position = Position(*state["position"])
        self.running = torch.tensor([state["running"][name] for name in _RUNNING], dtype=torch.float64)
        self._pending, self._batches = [], None
