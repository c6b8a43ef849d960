"""Files that leave the lab: weights and masks of every run; portable checkpoints, ONNX, CSR and torch.export on demand.

write(folder, model)                                        what every run does
make(folder, model, config, test, ["onnx", "csr"])          each file loaded again in a fresh process, then called done
load(folder)                                                the network of a finished run, without pickle
"""

from __future__ import annotations

from prunelab.exports.checkpoint import load
from prunelab.exports.weights import write
from prunelab.exports.write import Exported, examples, make, table

__all__ = ["Exported", "examples", "load", "make", "table", "write"]
