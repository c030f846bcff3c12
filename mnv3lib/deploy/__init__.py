"""Networks made fast: time measured honestly, batch norm folded, and an engine of our own.

Needs ``pip install 'mnv3lib[deploy]'`` and, for the engine, a C++17 compiler. The engines of other projects are used
where they are installed: ``pip install 'mnv3lib[onnx]'``, ``'mnv3lib[openvino]'``, ``'mnv3lib[executorch]'``;
quantisation needs ``'mnv3lib[quantize]'``. From the shell: ``python -m mnv3lib.deploy --help``.
"""

from mnv3lib.deploy.engine import Engine
from mnv3lib.deploy.errors import ExportError, Unavailable
from mnv3lib.deploy.export import Exported, export
from mnv3lib.deploy.fastest import Attempt, Optimized, optimize
from mnv3lib.deploy.fold import fold_batch_norm
from mnv3lib.deploy.latency import Comparison, Ratio, compare
from mnv3lib.deploy.quantization import FakeQuantized, quantize, suited_backend

__all__ = ["Attempt", "Comparison", "Engine", "ExportError", "Exported", "FakeQuantized", "Optimized", "Ratio",
           "Unavailable", "compare", "export", "fold_batch_norm", "optimize", "quantize", "suited_backend"]  # fmt: skip
