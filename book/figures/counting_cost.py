"""The figures of the chapter on counting: where a network's cost is, what counters leave out, what training keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from mnv3lib.cost import Profile
from mnv3lib.explore.drawing import Drawing, in_style, new_figure
from mnv3lib.explore.palette import ACCENT, COLOURS, KINDS

__all__ = ["counted_and_not", "kept_by_feature", "saved_by_feature", "training_memory", "where_it_is"]

#: Names in the legend to the key of their colour and the kinds of the cost model.
_PARTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "expansion": ("expand", ("expand",)),
    "depthwise": ("depthwise", ("depthwise",)),
    "SE": ("se", ("squeeze", "excite")),
    "projection": ("project", ("project",)),
    "stem, last conv": ("stem", ("stem", "last conv")),
    "classifier": ("classifier", ("pool", "hidden", "logits")),
}
_COLOURS = (ACCENT, COLOURS["orange"], COLOURS["green"], COLOURS["purple"], COLOURS["vermilion"])
_MEGABYTE = 1e6
_SCALE = (0.1, 10_000.0)  # megabytes of the memory figure, fixed


@in_style
def where_it_is(reports: Mapping[str, Profile]) -> Drawing:
    """Shares of parameters, multiply-adds and activations by kind of layer, three bars for each network."""
    figure, axes = new_figure(height=2.0 + 1.3 * len(reports), nrows=len(reports), squeeze=False, sharex=True)
    metrics = {"parameters": "parameters", "macs": "multiply-adds", "activations": "outputs"}
    data: dict[str, dict[str, float]] = {}
    for frame, (network, report) in zip(axes[:, 0], reports.items(), strict=True):
        for place, (field, metric) in enumerate(metrics.items()):
            total, left = sum(getattr(layer, field) for layer in report.layers), 0.0
            shares = data[f"{network}, {metric}"] = {}
            for name, (key, kinds) in _PARTS.items():
                share = 100 * sum(getattr(layer, field) for layer in report.layers if layer.kind in kinds) / total
                label = "" if len(data) > 1 else name
                frame.barh(place, share, left=left, height=0.7, color=KINDS[key], label=label)
                left += share
                shares[name] = share
        frame.set_yticks(range(len(metrics)), list(metrics.values()))
        frame.invert_yaxis()
        frame.set(title=network, xlim=(0, 100))
    axes[-1, 0].set_xlabel("%")
    figure.legend(loc="outside upper center", ncols=3, handlelength=1, columnspacing=1)
    parts = [f"{bar}: {', '.join(f'{name} {x:.0f} %' for name, x in shares.items())}" for bar, shares in data.items()]
    return Drawing(figure, f"Bars of shares by kind of layer. {'; '.join(parts)}.", data)


@in_style
def counted_and_not(totals: Mapping[str, Mapping[str, float]]) -> Drawing:
    """One bar of 100 % for each quantity, split in the same parts.

    Args:
        totals: name of a quantity to its parts, five at most, in the same order everywhere.
    """
    (figure, axes), words = new_figure(height=2.6), []
    for place, (quantity, groups) in enumerate(totals.items()):
        left, whole, said = 0.0, sum(groups.values()), []
        for (name, number), colour in zip(groups.items(), _COLOURS, strict=False):
            share = 100 * number / whole
            axes.barh(place, share, left=left, height=0.6, color=colour, label="" if place else name)
            left += share
            said.append(f"{name} {share:.1f} %")
        words.append(f"{quantity}: {', '.join(said)}")
    axes.set_yticks(range(len(totals)), list(totals))
    axes.invert_yaxis()
    axes.set(xlabel="%", xlim=(0, 100))
    figure.legend(loc="outside upper center", ncols=2, handlelength=1, columnspacing=1)
    return Drawing(figure, f"Bars split into parts. {'; '.join(words)}.")


def saved_by_feature(network: nn.Module, images: Tensor) -> list[int]:
    """Bytes that the backward pass will need of each feature and of the classifier, by PyTorch's own hook.

    Memory that several operations keep is counted once, where it is kept first; parameters are not counted.

    Args:
        network: a MobileNetV3; it is put into training mode.
        images: (N, 3, H, W), on the network's device, which may be ``meta``.
    """
    own = {tensor.untyped_storage()._cdata for tensor in (*network.parameters(), *network.buffers())}
    held: list[Tensor] = []  # alive, so that no memory is used twice
    sizes: list[int] = []

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            own.add(storage._cdata)
            held.append(tensor)
            sizes[-1] += storage.nbytes()
        return tensor

    x = images
    with saved_tensors_hooks(note, lambda tensor: tensor):
        for feature in network.train().get_submodule("features").children():
            sizes.append(0)
            x = feature(x)
        sizes.append(0)
        network.get_submodule("classifier")(torch.flatten(network.get_submodule("avgpool")(x), 1))
    return sizes


@in_style
def kept_by_feature(kept: Sequence[float], outputs: Sequence[float]) -> Drawing:
    """Megabytes that training keeps of each block for one image, and in front of it the block's own output.

    Args:
        kept: of the stem, each bottleneck, the last convolution and the classifier, in bytes.
        outputs: what each of them passes on, in bytes.
    """
    if len(kept) != len(outputs):
        raise ValueError(f"outputs must hold one size for each of {len(kept)} features, got {len(outputs)}")
    figure, axes = new_figure(height=3.2)
    places = range(len(kept))
    axes.bar(places, [size / _MEGABYTE for size in kept], width=0.8, color=COLOURS["orange"], label="kept in training")
    axes.bar(places, [size / _MEGABYTE for size in outputs], width=0.8, color=ACCENT, label="passed on")
    ticks = [0, *range(2, len(kept) - 2, 2), len(kept) - 1]
    axes.set_xticks(ticks, ["stem", *map(str, ticks[1:-1]), "head"])
    axes.set(xlabel="block", ylabel="MB for one image")
    axes.legend(loc="upper right")
    most = max(places, key=kept.__getitem__)
    name = {0: "the stem", len(kept) - 2: "the last convolution", len(kept) - 1: "the classifier"}
    alt = (
        f"Bars of megabytes for each block. Training keeps {sum(kept) / _MEGABYTE:.1f} MB in all, most in "
        f"{name.get(most, f'block {most}')} with {kept[most] / _MEGABYTE:.1f} MB; the blocks pass on "
        f"{sum(outputs) / _MEGABYTE:.1f} MB."
    )
    return Drawing(figure, alt)


@in_style
def training_memory(sizes: Mapping[str, float], *, total: Sequence[str]) -> Drawing:
    """A few sizes in memory as bars on a logarithmic axis from 0.1 MB to 10 GB that never moves.

    Args:
        sizes: names to bytes, up to five; each from 0.1 MB to 10 GB.
        total: the names that are added up in the title.
    """
    low, high = _SCALE
    for name, size in sizes.items():
        if not low <= size / _MEGABYTE <= high:
            raise ValueError(f"sizes must be from 0.1 MB to 10 GB, got {size:,.0f} bytes of {name}")
    (figure, axes), places = new_figure(height=2.8), range(len(sizes))
    for place, size, colour in zip(places, sizes.values(), _COLOURS, strict=False):
        megabytes = size / _MEGABYTE
        axes.barh(place, megabytes - low, left=low, height=0.62, color=colour)
        axes.annotate(_size(size), (megabytes, place), (5, 0), textcoords="offset points", va="center")
    axes.set_yticks(places, [name.replace(", ", ",\n") for name in sizes])
    axes.invert_yaxis()
    axes.set(xscale="log", xlim=(low, 20 * high))
    axes.set_xticks([0.1, 1, 10, 100, 1000, 10_000], ["", "1 MB", "", "100 MB", "", "10 GB"])
    axes.minorticks_off()
    axes.set_title(f"training: {_size(sum(sizes[name] for name in total))}")
    alt = (
        f"Bars on a logarithmic axis: {'; '.join(f'{name}: {_size(size)}' for name, size in sizes.items())}. "
        f"{' + '.join(total)}: {_size(sum(sizes[name] for name in total))}."
    )
    return Drawing(figure, alt)


def _size(size: float) -> str:
    """Bytes in three digits: 5.62 MB, 519 MB, 2.07 GB."""
    unit, name = (1e9, "GB") if size >= 999.5e6 else (1e6, "MB")
    return f"{size / unit:.3g} {name}"
