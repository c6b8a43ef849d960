"""Files of a network for use elsewhere (safetensors, ONNX, torch.export, CSR, int8), each loaded again and compared."""

from prunelab.exports.checkpoint import write
from prunelab.exports.export_files import Exported, examples, export, make, table
from prunelab.exports.finished_run import load

__all__ = ["Exported", "examples", "export", "load", "make", "table", "write"]
