"""Networks made fast: time measured honestly, batch norm folded, and an engine of our own."""

from mnv3lib.deploy.engine import Engine
from mnv3lib.deploy.errors import Unavailable
from mnv3lib.deploy.fold import fold_batch_norm
from mnv3lib.deploy.latency import Comparison, Ratio, compare

__all__ = ["Comparison", "Engine", "Ratio", "Unavailable", "compare", "fold_batch_norm"]
