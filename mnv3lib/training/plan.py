"""What a run will take, before it starts: images, steps, learning rates, parameters, multiply-adds, memory and time."""

from __future__ import annotations

from dataclasses import dataclass, replace

from mnv3lib._checks import positive_int, positive_real
from mnv3lib.cost import Profile, profile
from mnv3lib.data import catalogue
from mnv3lib.detectors import DetectionConfig, FasterRCNNConfig
from mnv3lib.recipe import NETWORKS, Recipe, factor
from mnv3lib.recipe.optimisers import OPTIMISERS
from mnv3lib.tasks.builders import BACKBONE

__all__ = ["Plan", "describe", "trial"]

#: Proposals of an image that Faster R-CNN learns from, at most.
_PROPOSALS = 512
#: Images of a trial's step in each process: enough for the speed, and no machine runs out of memory by them.
_TRIAL = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a recipe comes to; made by :func:`describe`, and a table when printed.

    Attributes:
        recipe: the recipe.
        images: training images, or None if nobody knows without reading them.
        num_classes: classes, or None.
        parameters: numbers that can be trained, if nothing is frozen.
        macs: multiply-adds of one training image going forward; with Faster R-CNN of the 512 proposals, too, that it
            learns from.
        weights_bytes: weights, gradients, the optimiser's numbers and the moving average.
        activations_bytes: what one step keeps for its backward pass, of ``batch_size / accumulate`` images in one
            process and float32, or None for Faster R-CNN.
        images_per_second: as measured, or None.
    """

    recipe: Recipe
    images: int | None
    num_classes: int | None
    parameters: int
    macs: int
    weights_bytes: int
    activations_bytes: int | None
    images_per_second: float | None

    @property
    def steps_per_epoch(self) -> int | None:
        """Steps of the optimiser that see every image once; the last batches are not left out."""
        from mnv3lib.training.order import steps_per_epoch

        if self.images is None:
            return None
        return steps_per_epoch(self.images, self.recipe.batch_size, self.recipe.accumulate)

    @property
    def steps(self) -> int | None:
        """Steps of the whole run."""
        return None if self.steps_per_epoch is None else self.recipe.epochs * self.steps_per_epoch

    @property
    def images_seen(self) -> int | None:
        """Training images of the whole run, each as often as it is seen."""
        return None if self.images is None else self.recipe.epochs * self.images

    @property
    def training_macs(self) -> int | None:
        """Multiply-adds of the whole run; a backward pass takes two of a forward pass."""
        return None if self.images_seen is None else 3 * self.macs * self.images_seen

    @property
    def seconds(self) -> float | None:
        """Time for the training images, without evaluation."""
        if self.images_seen is None or self.images_per_second is None:
            return None
        return self.images_seen / self.images_per_second

    @property
    def learning_rates(self) -> dict[float, float]:
        """Epochs to learning rates, at first, after warm-up, half way, and in the last step or epoch."""
        recipe = self.recipe
        last = recipe.epochs - 1 / (self.steps_per_epoch or 1)
        landmarks = sorted({0.0, recipe.schedule.warmup_epochs, recipe.epochs / 2, last})
        return {epoch: recipe.optimiser.lr * factor(recipe.schedule, epoch, recipe.epochs) for epoch in landmarks}

    def __str__(self) -> str:
        rows = [*self._work(), *self._cost()]
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"{name:<{width}}  {text}" for name, text in rows)

    def _work(self) -> list[tuple[str, str]]:
        recipe = self.recipe
        options = ", ".join(f"{name} {value}" for name, value in recipe.model.options.items() if name != BACKBONE)
        classes = "" if self.num_classes is None else f", {self.num_classes} classes"
        rates = ", ".join(f"{rate:.3g} at epoch {_short(epoch)}" for epoch, rate in self.learning_rates.items())
        rows = [
            ("recipe", f"{recipe.name}: {recipe.task} on {recipe.data.name}{classes}"),
            ("network", recipe.model.name + (f" ({options})" if options else "")),
        ]
        if recipe.model.options.get(BACKBONE) is not None:
            rows.append(("backbone", f"from {recipe.model.options[BACKBONE]}"))
        if self.images is None:
            rows.append(("images", f"as many as there are, {recipe.epochs} times"))
            rows.append(("steps", f"of {_batch(recipe)}"))
        else:
            rows.append(("images", f"{self.images:,} an epoch, {self.images_seen:,} in {recipe.epochs} epochs"))
            rows.append(("steps", f"{self.steps_per_epoch:,} an epoch, {self.steps:,} in all, of {_batch(recipe)}"))
        rows += [("optimiser", recipe.optimiser.name), ("learning rate", rates)]
        if recipe.quantisation is not None:
            held = f"ranges are held after {recipe.quantisation.observer_epochs} epochs"
            if recipe.quantisation.norm_epochs:
                held = "a plan only: here batch norm is folded before, and quantisation.norm_epochs must be 0"
            rows.append(("quantisation", f"{recipe.quantisation.backend}: {held}"))
        return rows

    def _cost(self) -> list[tuple[str, str]]:
        side = self.recipe.data.train_size
        rows = [
            ("parameters", f"{self.parameters:,}"),
            ("multiply-adds", f"{self.macs:,} for an image of {side}×{side}"),
        ]
        if self.training_macs is not None:
            rows.append(("", f"{self.training_macs:.3g} for the run, forward and backward"))
        rows.append(("memory", f"{_size(self.weights_bytes)} for weights, gradients, optimiser and average"))
        if self.activations_bytes is not None:
            batch = self.recipe.batch_size // self.recipe.accumulate
            rows.append(("", f"{_size(self.activations_bytes)} for the activations of {batch:,} images in one process"))
        if self.seconds is not None:
            rate = f"{self.images_per_second:,.0f} images/s"
            rows.append(("time", f"{_duration(self.seconds)} at {rate}, without evaluation"))
        return rows


def describe(
    recipe: Recipe,
    *,
    images: int | None = None,
    num_classes: int | None = None,
    images_per_second: float | None = None,
) -> Plan:
    """Work out what a recipe takes. Nothing is read or fetched, and no network is built.

    Args:
        recipe: of any task.
        images: training images; None for what is known of the recipe's data.
        num_classes: likewise.
        images_per_second: measured training speed, of all processes together, for an estimate of the time.

    Raises:
        TypeError, ValueError: naming the argument, the value and the range.
    """
    recipe.check_channels()
    known = catalogue.known(recipe.data, "train", recipe.task)
    images = known.images if images is None else positive_int("images", images)
    num_classes = known.classes if num_classes is None else positive_int("num_classes", num_classes)
    if images_per_second is not None:
        images_per_second = positive_real("images_per_second", images_per_second)
    report = _profile(recipe, num_classes)
    activations = None
    if not recipe.model.name.startswith("fasterrcnn"):  # of whose regions not all is counted
        activations = 4 * report.saved_activations(recipe.batch_size // recipe.accumulate)
    entry = OPTIMISERS[recipe.optimiser.name]
    states = entry.states if recipe.optimiser.momentum else entry.states_without_momentum
    return Plan(
        recipe=recipe,
        images=images,
        num_classes=num_classes,
        parameters=report.parameters,
        macs=report.macs,
        weights_bytes=4 * report.parameters * (2 + states + (recipe.averaging.ema_decay > 0)),
        activations_bytes=activations,
        images_per_second=images_per_second,
    )


def trial(recipe: Recipe, world: int = 1) -> Recipe:
    """The recipe for a few steps that measure the speed: no file is fetched, and batches fit into any memory.

    Args:
        recipe: what is planned.
        world: processes that train together.
    """
    share = recipe.batch_size // (recipe.accumulate * world)
    light = replace(recipe, model=replace(recipe.model, weights=None))
    return light if share <= _TRIAL else replace(light, batch_size=_TRIAL * world, accumulate=1)


def _profile(recipe: Recipe, num_classes: int | None) -> Profile:
    """The cost of a training image."""
    side = recipe.data.train_size
    if recipe.model.name in NETWORKS:
        return profile(recipe.model.config(**({} if num_classes is None else {"num_classes": num_classes})), side)
    from mnv3lib.training.evaluation import make_task

    config = make_task(recipe, 21 if num_classes is None else num_classes).config
    if isinstance(config, FasterRCNNConfig):
        config = replace(config, proposals=_PROPOSALS)
    return profile(config, None if isinstance(config, DetectionConfig) else side)


def _batch(recipe: Recipe) -> str:
    parts = f" in {recipe.accumulate} parts" if recipe.accumulate > 1 else ""
    return f"{recipe.batch_size:,} images{parts}"


def _short(epoch: float) -> str:
    return f"{epoch:.3g}" if epoch < 99.95 else f"{epoch:.0f}"


def _size(size: int) -> str:
    """Bytes in three digits: 5.62 MB, 2.07 GB."""
    unit, name = (1e9, "GB") if size >= 999.5e6 else (1e6, "MB")
    return f"{size / unit:.3g} {name}"


def _duration(seconds: float) -> str:
    """Two units: 40 s, 2 min 40 s, 3 h 5 min, 12 d 4 h."""
    whole = max(1, round(seconds))
    for unit, name, smaller, less in ((86_400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= unit:
            rest = whole % unit // smaller
            return f"{whole // unit:,} {name}" + (f" {rest} {less}" if rest else "")
    return f"{whole} s"
