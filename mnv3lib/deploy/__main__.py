"""Speed and files from the command line: ``python -m mnv3lib.deploy benchmark`` and ``… export``."""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mnv3lib import weights
from mnv3lib._checks import nearest
from mnv3lib.deploy.errors import ExportError, Unavailable
from mnv3lib.deploy.export import checked_target, export
from mnv3lib.deploy.fastest import TOLERANCES, optimize
from mnv3lib.deploy.formats import FORMATS
from mnv3lib.network import MobileNetV3

__all__ = ["main", "parser"]

#: Rounds of a benchmark, and pixels of a side, unless told otherwise.
_ROUNDS, _SIDE = 15, 224

_EPILOG = """
NETWORK is a checkpoint that says what it is for, as this library writes them:
  runs/a/model.safetensors, shipped:digitscenes_small_050, hf-hub:owner/name
or a name, with fresh weights or with those of --weights:
  mobilenet_v3_large, mobilenet_v3_small, mobilenetv3_small_075.lamb_in1k, ...

Examples:
  python -m mnv3lib.deploy benchmark mobilenet_v3_small --size 160
  python -m mnv3lib.deploy export shipped:digitscenes_small_050 --size 64 --out small.onnx
  python -m mnv3lib.deploy export mobilenet_v3_small --weights mobilenet_v3_small-047dcff4.pth --to openvino

Packages of the formats: pip install 'mnv3lib[onnx]', 'mnv3lib[openvino]', 'mnv3lib[executorch]'; pt2 and some ways of
the benchmark need a C++ compiler. The exit status is 0, 1 if it failed, 2 for bad arguments, 130 for Ctrl-C. With
MNV3LIB_DEBUG=1 in the environment an error also says where in the code it happened.
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m mnv3lib.deploy",
        description="Find the fastest way to run a network on this CPU, or write it for another engine.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = made.add_subparsers(dest="command", required=True, metavar="benchmark|export")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("network", metavar="NETWORK", help="a checkpoint, or the name of a network")
    common.add_argument("--weights", metavar="FILE", help="a checkpoint for a network that is named")
    common.add_argument("--width-mult", type=float, help="factor on the widths of a network that is named")
    common.add_argument("--num-classes", type=int, help="of a network that is named, with fresh weights")
    common.add_argument("--dilated", action="store_true", default=None, help="of a network that is named")
    common.add_argument("--reduced-tail", action="store_true", default=None, help="of a network that is named")
    size = f"of the images in pixels, 160 or 128x256 for height and width (default: {_SIDE})"
    common.add_argument("--size", type=_size, default=(_SIDE, _SIDE), metavar="PIXELS", help=size)
    common.add_argument("--batch", type=int, default=1, metavar="IMAGES", help="at a time (default: 1)")
    precisions = tuple(name for name in TOLERANCES if name != "int8")  # which takes images to find ranges with
    for name, about in (
        ("benchmark", "time all ways to run it that are installed, in turns"),
        ("export", "write it for another engine, with a card beside it"),
    ):
        command = commands.add_parser(
            name,
            parents=[common],
            help=about,
            description=f"{about[0].upper()}{about[1:]}.",
            epilog=_EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if name == "benchmark":
            command.add_argument("--precision", choices=precisions, default="fp32", help="that is tried beside fp32")
            command.add_argument("--threads", type=int, default=1, help="to compute with (default: 1)")
            command.add_argument("--rounds", type=int, default=_ROUNDS, help=f"5 or more (default: {_ROUNDS})")
        else:
            command.add_argument("--to", choices=tuple(FORMATS), help="the format (default: what --out ends in)")
            command.add_argument("--out", type=Path, metavar="FILE", help="to write (default: named after NETWORK)")
            command.add_argument("--precision", choices=precisions, default="fp32", help="bf16 for pt2 only")
            command.add_argument("--threads", type=int, default=1, help="that a pt2 will run with (default: 1)")
            command.add_argument("--values", metavar="TEXT", help="what an image's numbers mean, for the card")
    return made


def _size(text: str) -> tuple[int, int]:
    """Height and width."""
    found = re.fullmatch(r"([1-9]\d{0,4})(?:x([1-9]\d{0,4}))?", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"must be a number of pixels or two, as in 160 or 128x256, got {text!r}")
    return int(found[1]), int(found[2] or found[1])


def network(options: argparse.Namespace) -> MobileNetV3:
    """The network of the command line, in evaluation mode.

    Raises:
        TypeError, ValueError, OSError, ImportError: for arguments that go with no network, and for a checkpoint that
            cannot be read.
    """
    switches = {name: getattr(options, name) for name in ("width_mult", "num_classes", "dilated", "reduced_tail")}
    given: dict[str, Any] = {name: value for name, value in switches.items() if value is not None}
    if _is_name(options.network):
        if options.weights is None:
            return weights.network_for(options.network, **given).eval()
        if options.num_classes is not None:
            raise ValueError("--num-classes must not be given with --weights, whose classes count")
        return weights.load_network(options.weights, options.network, **given).eval()
    if options.weights is not None:
        raise ValueError(f"--weights goes with the name of a network, and {options.network!r} is none")
    if given:
        which = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise ValueError(f"{which} must not be given for a checkpoint, which says it: {options.network!r}")
    if ":" not in options.network and not Path(options.network).expanduser().is_file():
        try:
            weights.config_for(options.network)
        except ValueError as error:
            near = nearest(options.network, weights.NAMES)
            raise ValueError(
                f"NETWORK must be a checkpoint that is there, or a name{near}. As a name: {error}"
            ) from error
    return weights.load_network(options.network).eval()


def _is_name(source: str) -> bool:
    try:
        weights.config_for(source)
    except ValueError:
        return False
    return True


def _images(options: argparse.Namespace, model: MobileNetV3) -> Tensor:
    """Random images, the same in every run."""
    shape = (options.batch, model.config.in_channels, *options.size)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def _default_path(options: argparse.Namespace) -> Path:
    """A file here, named after the network."""
    if options.to is None:
        raise ValueError("--to or --out must be given")
    name = options.network if _is_name(options.network) else Path(re.split("[:/]", options.network)[-1]).stem
    return Path(name + FORMATS[options.to].suffix)


def check_numbers(options: argparse.Namespace) -> None:
    """Check what argparse does not.

    Raises:
        ValueError: naming the option, the value and the range.
    """
    most = 16 * (os.cpu_count() or 1)
    for name, low, high in (("batch", 1, 65536), ("threads", 1, most), ("rounds", 5, 10**6)):
        value = getattr(options, name, None)
        if value is not None and not low <= value <= high:
            raise ValueError(f"--{name} must be an integer from {low} to {high}, got {value}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        The exit status: 0, 1 if it failed, 2 for bad arguments, 130 for Ctrl-C.
    """
    commands = parser()
    options = commands.parse_args(arguments)
    try:
        check_numbers(options)
        if options.command == "export":
            options.out = options.out or _default_path(options)
            checked_target(options.out, options.to, options.precision)
        model = network(options)
    except (TypeError, ValueError, OSError, ImportError) as error:
        if os.environ.get("MNV3LIB_DEBUG"):
            raise
        commands.error(str(error))
    try:
        if options.weights is None and _is_name(options.network):
            _say("note: the weights are fresh, nothing was learnt")
        _benchmark(options, model) if options.command == "benchmark" else _export(options, model)
    except KeyboardInterrupt:
        _say("stopped; nothing was left behind")
        return 128 + signal.SIGINT
    except (RuntimeError, TypeError, ValueError, MemoryError, OSError) as error:
        memory = isinstance(error, MemoryError) or "allocate memory" in str(error)
        known = memory or isinstance(error, (ExportError, Unavailable)) or not isinstance(error, RuntimeError)
        if not known or os.environ.get("MNV3LIB_DEBUG"):
            raise
        _say("error: " + ("not enough memory" if memory else str(error)))
        return 1
    return 0


def _benchmark(options: argparse.Namespace, model: MobileNetV3) -> None:
    _say("compiling and timing; that may take minutes")
    print(optimize(model, _images(options, model), options.precision, threads=options.threads, rounds=options.rounds))


def _export(options: argparse.Namespace, model: MobileNetV3) -> None:
    images = _images(options, model)
    wanted = {name: getattr(options, name) for name in ("to", "precision", "threads", "values")}
    done = export(model, options.out, images, **wanted)
    print(f"{done.path}: logits within {done.error:.1e} standard deviations of the network's; {done.card} says more")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
