"""What two products changed of MobileNetV3, in time: variants of the networks in ``mnv3lib.wild`` over the products.

    python benchmarks/products.py

The first variant is the network that a product started from, each of the others undoes one change. Their weights are
fresh where the product's do not fit. Batch norm is folded in all.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from measuring import arguments, runs, start, three, write
from PIL import Image
from torch import Tensor, nn

from mnv3lib import mobilenet_v3_small, wild
from mnv3lib.blocks import SqueezeExcitation
from mnv3lib.config import SMALL
from mnv3lib.deploy import compare, fold_batch_norm
from mnv3lib.tasks.lraspp import lraspp_mobilenet_v3_small

BOOK = Path(__file__).resolve().parent.parent / "book"
BASELINE = "product"
WAYS = ("PyTorch", "ONNX Runtime")
#: Ten times the usual: what has lost a layer and not learnt anew gives nearly the same number everywhere, and
#: differences are relative to the spread.
TOLERANCE = 1e-3


class Mask(nn.Module):
    """A segmentation network that gives its main output only."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.network(x)["out"]
        return out


class Undecoded(nn.Module):
    """The portrait segmenter as far as its head."""

    def __init__(self, segmenter: wild.PortraitSegmenter) -> None:
        super().__init__()
        self.features, self.head = segmenter.features, segmenter.head

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.features(x))
        return out


def gated(network: nn.Module) -> nn.Module:
    """A copy whose gates are the paper's."""
    network = copy.deepcopy(network)
    for module in network.modules():
        if isinstance(module, SqueezeExcitation):
            module.scale_activation = nn.Hardsigmoid()
    return network


def unexpanded(network: Any) -> nn.Module:
    """A copy without the expansion in row 1."""
    network = copy.deepcopy(network)
    network.features[1].block[0] = nn.Identity()
    return network  # type: ignore[no-any-return]


def squared(network: Any) -> nn.Module:
    """A copy whose strides are the same in height and width; what is left is too small for its pooling."""
    network = copy.deepcopy(network)
    for block in network.features[1:-1]:
        (convolution,) = (one for one in block.block[1].modules() if isinstance(one, nn.Conv2d))
        convolution.stride = (convolution.stride[0],) * 2
    network.maxpool = nn.Identity()
    return network  # type: ignore[no-any-return]


def text_direction() -> dict[str, nn.Module]:
    """PaddleOCR's network, and variants."""
    product = fold_batch_norm(wild.text_direction())
    return {
        BASELINE: product,
        "Small ×0.35": fold_batch_norm(mobilenet_v3_small(width_mult=0.35, num_classes=2).eval()),
        "strides (2, 2)": squared(product),
        "no expansion in block 1": unexpanded(product),
        "gates x/6 + ½": gated(product),
    }


def portrait() -> dict[str, nn.Module]:
    """MediaPipe's network, and variants."""
    product = wild.portrait_segmenter()
    return {
        BASELINE: product,
        "LR-ASPP Small": Mask(fold_batch_norm(lraspp_mobilenet_v3_small(num_classes=1).eval())),
        "40 and 48 channels": wild.PortraitSegmenter(SMALL[: len(wild.PORTRAIT_ROWS)]).eval(),
        "no expansion in block 1": unexpanded(product),
        "gates x/6 + ½": gated(product),
        "no decoder": Undecoded(product),
    }


def photograph() -> Tensor:
    """Of a person: on noise the segmenter gives 0 everywhere, and nothing to compare."""
    with Image.open(BOOK / "_data" / "astronaut.jpg") as picture:
        return wild.prepare_portrait(picture)


#: The products: their networks, and what they are given.
PRODUCTS: dict[str, tuple[Callable[[], dict[str, nn.Module]], Callable[[], Tensor]]] = {
    "text direction": (text_direction, lambda: torch.rand(1, 3, *wild.LINE_SIZE)),
    "portrait": (portrait, photograph),
}


def main(given: Sequence[str] | None = None) -> int:
    """Measure every product in every way, print tables and write the file."""
    options = arguments(__doc__, rounds=45).parse_args(given)
    about = start(options.threads, keep_memory=True)
    results = []
    for product, (networks, picture) in PRODUCTS.items():
        models, example = networks(), picture()
        for way in options.ways or WAYS:
            passes, refused = runs(models, example, way, threads=options.threads, tolerance=TOLERANCE)
            if refused:
                raise SystemExit(f"{way}: {refused}")
            found = compare(passes, baseline=BASELINE, rounds=options.rounds, threads=options.threads)
            print(f"\n{product}, {way}\n{found}")
            lines = [
                {
                    "variant": name,
                    "milliseconds": round(found.median(name) * 1e3, 3),
                    "ratio": three(found, name, BASELINE),
                }
                for name in passes
            ]
            results.append({"product": product, "way": way, "noise": round(found.noise, 4), "lines": lines})
    print(write("products", options.out, {**about, "rounds": options.rounds, "results": results}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
