"""Checkpoints in and out: torchvision's, timm's and our own, from files, addresses and the Hugging Face hub.

The usual cases::

    from mnv3lib import weights

    network = weights.load_network("mobilenet_v3_small-047dcff4.pth", "mobilenet_v3_small")
    network = weights.load_network("hf-hub:timm/mobilenetv3_small_050.lamb_in1k", "mobilenetv3_small_050")
    report = weights.load(network, "https://…/ssdlite320_….pth", part="features")
    report = weights.load(mnv3lib.lraspp_mobilenet_v3_small(width_mult=0.5), "shipped:digitscenes_small_050",
                          part="features")

    weights.save(network, "mine.safetensors", classes=["cat", "dog"])
    network = weights.load_network("mine.safetensors")
    network.classes  # ('cat', 'dog'); of the file alone: weights.read("mine.safetensors").classes
    network = weights.load_network("shipped:digitscenes_small_050")

Nothing that is in a file is ever run, damage is found by the checksums in the file, nothing is skipped in silence, and
a network or file is never left half-written.
Needs ``pip install 'mnv3lib[weights]'`` for safetensors and the hub.
"""

from mnv3lib.weights.catalogue import NAMES, config_for, network_for
from mnv3lib.weights.download import fetch, is_remote, shipped
from mnv3lib.weights.errors import DownloadError, WeightsError
from mnv3lib.weights.files import Checkpoint, read
from mnv3lib.weights.loading import load, load_network, timm_state_dict
from mnv3lib.weights.report import Report
from mnv3lib.weights.saving import save

__all__ = [
    "NAMES",
    "Checkpoint",
    "DownloadError",
    "Report",
    "WeightsError",
    "config_for",
    "fetch",
    "is_remote",
    "load",
    "load_network",
    "network_for",
    "read",
    "save",
    "shipped",
    "timm_state_dict",
]
