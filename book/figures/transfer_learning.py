"""The figures of the chapter on transfer: what a backbone carries at each depth, and what its weights are worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from matplotlib.lines import Line2D

from mnv3lib.explore.drawing import Drawing, in_style, new_figure
from mnv3lib.explore.palette import ACCENT, COLOURS, REFERENCE

__all__ = ["accuracy_by_depth", "accuracy_over_images", "before_and_after"]

#: Colour and marker of each strategy, the same in all figures.
_STRATEGIES = {
    "from scratch": (REFERENCE, "s"),
    "backbone frozen": (COLOURS["orange"], "^"),
    "all weights": (ACCENT, "o"),
}
#: Colours of up to three curves over depth.
_CURVES = (ACCENT, COLOURS["orange"], COLOURS["green"])


@in_style
def accuracy_by_depth(curves: Mapping[str, Sequence[float]], *, chance: float, question: str) -> Drawing:
    """Accuracy of a classifier on the pooled values after each feature of a network, the stem first.

    The axes do not move with the curves.

    Args:
        curves: name to accuracies from 0 to 1, up to three, all of one length.
        chance: accuracy of guessing.
        question: what is asked about an image, in words.
    """
    lengths = {len(curve) for curve in curves.values()}
    if not 1 <= len(curves) <= len(_CURVES) or len(lengths) != 1 or max(lengths) < 2:
        raise ValueError(f"curves must be one to {len(_CURVES)} of one length, two or more, got {len(curves)}")
    last = max(lengths) - 1
    (figure, axes), words = new_figure(height=3.4), []
    axes.axhline(100 * chance, color=REFERENCE, linewidth=1, linestyle="--", label="guessing")
    for (name, curve), colour, mark in zip(curves.items(), _CURVES, "o^s", strict=False):
        values = [100 * value for value in curve]
        axes.plot(range(last + 1), values, color=colour, marker=mark, markersize=5, label=name)
        best = max(range(last + 1), key=lambda place: values[place])
        where = {0: "the stem", last: "the last convolution"}.get(best, f"block {best}")
        ends = f"{values[0]:.0f} % after the stem, {values[-1]:.0f} % at the end"
        words.append(f"{name}: {ends}, best {values[best]:.0f} % after {where}")
    ticks = [0, *range(3, last - 1, 3), last]
    axes.set_xticks(ticks, ["stem", *(str(tick) for tick in ticks[1:-1]), "last"])
    axes.set(xlabel="features taken after block", ylabel="top-1, %", ylim=(0, 100), xlim=(-0.3, last + 0.3))
    figure.legend(loc="outside upper center", ncols=2, handlelength=1.5)
    said = f"Lines of accuracy over depth for the question {question!r}, guessing gets {chance:.0%}. "
    return Drawing(figure, said + "; ".join(words) + ".")


@in_style
def accuracy_over_images(
    panels: Mapping[str, Mapping[str, Mapping[int, Sequence[float]]]],
    *,
    levels: Mapping[str, Mapping[str, float]] | None = None,
) -> Drawing:
    """Accuracy over the number of labelled images: a mark for each seed, lines through their means.

    Args:
        panels: title to strategies, ``"from scratch"``, ``"backbone frozen"`` or ``"all weights"``, each with
            accuracies from 0 to 1, one for each seed, by the number of images; one panel above the other.
        levels: title to names and accuracies of what needs no labels: up to two, a dashed and a dotted line.

    Raises:
        ValueError: for another strategy.
    """
    figure, frames = new_figure(height=2.5 * len(panels) + 0.8, nrows=len(panels), sharex=True, squeeze=False)
    words, handles = [], {}
    for frame, (title, strategies) in zip(frames.flat, panels.items(), strict=True):
        for name, curve in strategies.items():
            if name not in _STRATEGIES:
                raise ValueError(f"strategies must be among {', '.join(map(repr, _STRATEGIES))}, got {name!r}")
            colour, mark = _STRATEGIES[name]
            images = sorted(curve)
            means = [100 * fmean(curve[number]) for number in images]
            frame.plot(images, means, color=colour)
            handles[name] = Line2D([], [], color=colour, marker=mark, markersize=5, label=name)
            for number in images:
                values = [100 * value for value in curve[number]]
                frame.plot(
                    [number] * len(values), values, mark, color=colour, markersize=5, alpha=0.7, markeredgewidth=0
                )
            shown = ", ".join(f"{mean:.0f} with {number:,}" for number, mean in zip(images, means, strict=True))
            words.append(f"{title}, {name}: {shown}")
        for (name, level), dashes in zip((levels or {}).get(title, {}).items(), ("--", ":"), strict=False):
            handles[name] = frame.axhline(100 * level, color=REFERENCE, linewidth=1, linestyle=dashes, label=name)
            words.append(f"{title}, {name}: {100 * level:.0f}")
        frame.set_xscale("log")
        ticks = sorted({number for curve in strategies.values() for number in curve})
        frame.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
        frame.set_xticks([], minor=True)
        frame.set(ylabel="top-1, %", ylim=(0, 100))
        frame.set_title(title)
    frames.flat[-1].set_xlabel("labelled images")
    figure.legend(
        handles=list(handles.values()), loc="outside upper center", ncols=2, handlelength=1.5, columnspacing=1
    )
    return Drawing(figure, f"Mean accuracy in per cent over the number of labelled images. {'. '.join(words)}.")


@in_style
def before_and_after(rows: Mapping[str, tuple[float, float]], *, names: tuple[str, str], reference: float) -> Drawing:
    """Pairs of accuracies from 0 to 1, an open mark before and a full one after, joined by a line.

    Args:
        rows: what was done to the images, to accuracy before and after.
        names: of before and after.
        reference: accuracy on unchanged images, as a dashed line.
    """
    figure, axes = new_figure(height=1.5 + 0.42 * len(rows))
    axes.axvline(100 * reference, color=REFERENCE, linewidth=1, linestyle="--")
    for place, (before, after) in enumerate(rows.values()):
        axes.plot([100 * before, 100 * after], [place, place], color=REFERENCE, linewidth=1.5, zorder=1)
        marks = {"markersize": 8, "markeredgewidth": 2, "linestyle": "none"}
        labels = names if place == 0 else (None, None)
        axes.plot(100 * before, place, "o", markerfacecolor="none", color=COLOURS["orange"], label=labels[0], **marks)
        axes.plot(100 * after, place, "o", color=ACCENT, label=labels[1], **marks)
    axes.set_yticks(range(len(rows)), list(rows))
    axes.set(xlabel="top-1, %", xlim=(0, 100), ylim=(len(rows) - 0.5, -0.5))
    figure.legend(loc="outside upper center", ncols=2, handlelength=1)
    shown = "; ".join(f"{name}: {before:.0%} and {after:.0%}" for name, (before, after) in rows.items())
    alt = f"Accuracies with {names[0]} and with {names[1]}. {shown}. The dashed line is at {reference:.0%}."
    return Drawing(figure, alt)
