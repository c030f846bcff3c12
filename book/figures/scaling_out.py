"""The figures of the chapter on several processes: who gets which image, what is lost or repeated, what plans cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator, NullLocator

from mnv3lib._checks import positive_int
from mnv3lib.explore.drawing import Drawing, in_style, new_figure
from mnv3lib.explore.palette import ACCENT, COLOURS, REFERENCE

__all__ = ["bill", "lives", "plan_curve", "relative_errors", "shares", "step_parts"]

_COLOURS = (ACCENT, COLOURS["orange"], COLOURS["green"], COLOURS["purple"])
_LOST = COLOURS["vermilion"]
_HOURS = (0.5, 20_000.0)  # of the plan's axis, fixed


@in_style
def bill(days: Mapping[str, float]) -> Drawing:
    """Days that runs take, as bars."""
    if not days or not all(value > 0 for value in days.values()):
        raise ValueError(f"days must be one or more numbers above 0, got {dict(days)!r}")
    figure, axes = new_figure(height=0.9 + 0.42 * len(days))
    bars = axes.barh(list(days), list(days.values()), height=0.6, color=ACCENT)
    axes.bar_label(bars, [f"{value:,.0f}" for value in days.values()], padding=4)
    axes.invert_yaxis()
    axes.set(xlim=(0, 1.12 * max(days.values())), xlabel="days")
    said = "; ".join(f"{name} {value:,.0f}" for name, value in days.items())
    return Drawing(figure, f"Bars of days: {said}.")


@in_style
def shares(deals: Mapping[str, Sequence[Sequence[int]]], *, images: int) -> Drawing:
    """Which process gets which image of an epoch, one line of boxes for each way to deal them out.

    Args:
        deals: name to the images of each process, up to four; an image that comes twice is a box of two colours, one
            that does not come at all a cross.
        images: there are, numbered from 0.
    """
    positive_int("images", images)
    most = max((len(parts) for parts in deals.values()), default=0)
    if not 1 <= most <= len(_COLOURS):
        raise ValueError(f"deals must hold from 1 to {len(_COLOURS)} processes, got {most}")
    (figure, axes), said = new_figure(height=0.8 + 0.75 * len(deals)), []
    for line, (name, parts) in enumerate(deals.items()):
        owners: list[list[int]] = [[] for _ in range(images)]
        for rank, part in enumerate(parts):
            for image in part:
                owners[image].append(rank)
        for image, ranks in enumerate(owners):
            for place, rank in enumerate(ranks):
                height = 0.8 / len(ranks)
                corner = (image + 0.06, line - 0.4 + place * height)
                axes.add_patch(Rectangle(corner, 0.88, height, facecolor=_COLOURS[rank], label=f"{name} {image}"))
            if not ranks:
                axes.plot([image + 0.5], [line], marker="x", color=_LOST, markersize=9, markeredgewidth=2.5)
        counts = Counter(len(ranks) for ranks in owners)
        twice = sum(number for times, number in counts.items() if times > 1)
        said.append(f"{name}: {', '.join(str(len(part)) for part in parts)} images, {twice} twice, {counts[0]} missing")
    for rank in range(most):
        axes.plot([], [], color=_COLOURS[rank], linewidth=8, label=f"process {rank}")
    axes.set(xlim=(0, images), ylim=(len(deals) - 0.4, -0.6), xlabel="image")
    axes.set_yticks(range(len(deals)), list(deals))
    axes.set_xticks([image + 0.5 for image in range(0, images, 2)], list(range(0, images, 2)))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    legend = [line for line in axes.get_lines() if str(line.get_label()).startswith("process")]
    figure.legend(handles=legend, loc="outside upper center", ncols=most, handlelength=1, columnspacing=1)
    return Drawing(figure, f"Boxes for {images} images, coloured by process. {'; '.join(said)}.")


@in_style
def relative_errors(sizes: Sequence[int], curves: Mapping[str, Sequence[float]]) -> Drawing:
    """Relative errors over shards of some sizes, on logarithmic axes; dotted lines halve when the size quadruples.

    Args:
        sizes: images of a shard.
        curves: name to an error for each size, up to four; drawn to three decimals.
    """
    if not 1 <= len(curves) <= len(_COLOURS):
        raise ValueError(f"curves must be from 1 to {len(_COLOURS)}, got {len(curves)}")
    figure, axes = new_figure(height=3.6)
    # Three digits, so that the drawing does not depend on how a processor rounds the last ones.
    drawn = {name: [round(value, 3) for value in values] for name, values in curves.items()}
    for (name, values), colour, marker in zip(drawn.items(), _COLOURS, "os^d", strict=False):
        axes.plot(sizes, values, color=colour, marker=marker, markersize=5, label=name)
    low, high = min(map(min, drawn.values())), max(map(max, drawn.values()))
    for start in (1, 2, 4, 8, 16, 32):
        ends = [sizes[0], sizes[-1]]
        axes.plot(ends, [start * low * (size / sizes[-1]) ** -0.5 for size in ends], color=REFERENCE, linewidth=1,
                  linestyle=":", zorder=0)  # fmt: skip
    axes.set(
        xscale="log", yscale="log", xlabel="images in a shard", ylabel="relative error", ylim=(low / 1.3, 1.3 * high)
    )
    axes.set_xticks(sizes, [str(size) for size in sizes])
    heights = [height for height in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2) if low / 1.3 <= height <= 1.3 * high]
    axes.set_yticks(heights, [f"{height:g}" for height in heights])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_locator(NullLocator())
    figure.legend(loc="outside upper center", ncols=2, handlelength=1.5, columnspacing=1)
    said = "; ".join(f"{name} from {values[0]:.2f} to {values[-1]:.2f}" for name, values in curves.items())
    return Drawing(
        figure, f"Lines of relative errors on logarithmic axes over shards of {sizes[0]} to {sizes[-1]} images: {said}."
    )


@in_style
def lives(first: Sequence[int], second: Sequence[int], *, saved: Sequence[int], epoch: int) -> Drawing:
    """The steps of a run that was killed and went on, one line for each life.

    Args:
        first: numbers of the steps until the process was killed.
        second: numbers of the steps from the last checkpoint to the end.
        saved: steps after which a checkpoint was written.
        epoch: steps of an epoch.
    """
    figure, axes = new_figure(height=2.3)
    again = sorted(set(first) & set(second))
    for line, steps in enumerate((first, second)):
        for step in steps:
            colour = COLOURS["orange"] if line and step in again else ACCENT
            axes.add_patch(Rectangle((step - 0.94, line - 0.3), 0.88, 0.6, facecolor=colour, label=f"{line} {step}"))
        for step in saved:
            if step in steps:
                axes.plot([step], [line + 0.42], marker="^", color=COLOURS["green"], markersize=9, clip_on=False)
    axes.plot([first[-1] + 0.45], [0], marker="x", color=_LOST, markersize=13, markeredgewidth=3)
    last = max(second)
    for edge in range(epoch, last, epoch):
        axes.axvline(edge, color=REFERENCE, linewidth=1, linestyle=":")
    axes.set(xlim=(0, last), ylim=(1.7, -0.6), xlabel="step of the run")
    axes.set_yticks([0, 1], ["first life", "second life"])
    axes.set_xticks([step - 0.5 for step in range(1, last + 1, 2)], list(range(1, last + 1, 2)))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    words = (
        f"Boxes for the steps of two lives. The first ends after step {first[-1]}, with checkpoints after "
        f"{_listed([step for step in saved if step in first])}; the second begins with step {second[0]}, takes "
        f"{_listed(again)} again, and ends with step {last}."
    )
    return Drawing(figure, words)


@in_style
def step_parts(parts: Mapping[int, Mapping[str, float]]) -> Drawing:
    """What a step's time goes into, as shares, with its length in ms behind the bar.

    Args:
        parts: number of devices to seconds by what they are spent on, in the same order everywhere, up to four.
    """
    figure, axes = new_figure(height=1.3 + 0.36 * len(parts))
    said = []
    for line, (devices, seconds) in enumerate(parts.items()):
        left, whole = 0.0, sum(seconds.values())
        for (name, part), colour in zip(seconds.items(), _COLOURS, strict=False):
            axes.barh(line, 100 * part / whole, left=left, height=0.7, color=colour, label="" if line else name)
            left += 100 * part / whole
        axes.annotate(f"{1000 * whole:.3g} ms", (102, line), va="center", annotation_clip=False)
        shared = ", ".join(f"{name} {part / whole:.0%}" for name, part in seconds.items())
        said.append(f"{devices}: {1000 * whole:.3g} ms, {shared}")
    axes.set_yticks(range(len(parts)), [str(devices) for devices in parts])
    axes.invert_yaxis()
    axes.set(xlim=(0, 100), xlabel="% of a step", ylabel="devices")
    figure.legend(loc="outside upper center", ncols=3, handlelength=1, columnspacing=1)
    return Drawing(figure, f"Bars of shares of a step's time by number of devices. {'; '.join(said)}.")


@in_style
def plan_curve(hours: Mapping[int, float], chosen: int) -> Drawing:
    """Hours of a run over the number of devices, on axes that do not move, with one number chosen.

    Args:
        hours: number of devices, 1 among them, to hours from half an hour to 20,000.
        chosen: one of these numbers.
    """
    low, high = _HOURS
    for value in hours.values():
        if not low <= value <= high:
            raise ValueError(f"hours must be from {low:g} to {high:,.0f}, got {value:,.3g}")
    if 1 not in hours or chosen not in hours:
        raise ValueError(f"hours must hold 1 and the chosen number of devices, {chosen!r}, got {list(hours)}")
    figure, axes = new_figure(height=3.6)
    numbers, now = list(hours), hours[chosen]
    efficiency = hours[1] / chosen / now
    axes.plot(numbers, [hours[1] / number for number in numbers], color=REFERENCE, linewidth=1.5, linestyle=":")
    axes.plot(numbers, list(hours.values()), color=ACCENT, marker="o", markersize=4)
    axes.plot([chosen], [now], color=COLOURS["vermilion"], marker="o", markersize=11)
    axes.set(xscale="log", yscale="log", xlabel="devices", ylabel="hours", ylim=_HOURS)
    axes.set_xticks(numbers, [str(number) for number in numbers])
    axes.set_yticks([1, 10, 100, 1000, 10_000], ["1", "10", "100", "1,000", "10,000"])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_locator(FixedLocator([]))
    words = f"{_short(now)} h, {_short(chosen * now)} device-hours, efficiency {efficiency:.0%}"
    axes.set_title(words.replace(", eff", ",\neff"))
    ends = " to ".join(f"{_short(hours[number])} with {number}" for number in (min(hours), max(hours)))
    alt = f"Line of hours over devices on logarithmic axes, dotted without communication: {ends}."
    return Drawing(figure, f"{alt} {chosen} device{'s' * (chosen != 1)}: {words}.")


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers)) or "none"


def _short(number: float) -> str:
    """Three digits: 8,430, 76.3, 0.834."""
    return f"{number:,.0f}" if number >= 999.5 else f"{number:.3g}"
