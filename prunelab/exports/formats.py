"""The kinds of files that a network can be exported to: how each is written, loaded and compared."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torch import nn

from prunelab.costs.latency import Run
from prunelab.exports import checkpoint, csr, graphs, int8
from prunelab.exports.network_files import Build, Network


@dataclass(frozen=True)
class Format:
    """One kind of files.

    Attributes:
        files: their names.
        save: write them into a folder; return the network that they hold, or None if it is the given one.
        load: return the network in a folder. The function builds a network of the right class to load weights into.
        tolerance: the largest absolute difference of outputs that is allowed.
        graph: whether the file holds the computation too, so that it is loaded without the network's class.
        runtime: what runs it. Sparse rows are no runtime: nobody would store a dense network in them.
    """

    files: tuple[str, ...]
    save: Callable[[Path, Network], nn.Module | None]
    load: Callable[[Path, Build], Run]
    tolerance: float
    graph: bool = False
    runtime: str = "torch"


def _int8(kind: str, tolerance: float) -> Format:
    return Format(int8.names(kind), partial(int8.write, kind), partial(int8.load, kind), tolerance, runtime=kind)


FORMATS = {
    "safetensors": Format(
        (checkpoint.WEIGHTS, checkpoint.MASKS, checkpoint.DESCRIPTION),
        checkpoint.save,
        checkpoint.load,
        1e-5,  # the weights are equal, but kernels may round differently if tensors lie elsewhere in memory
    ),
    "onnx": Format((graphs.ONNX,), graphs.save_onnx, graphs.load_onnx, 1e-4, graph=True, runtime="onnx"),
    "csr": Format((csr.WEIGHTS, csr.DESCRIPTION), csr.save, csr.load, 1e-5),
    "torch_export": Format(
        (graphs.PROGRAM,), graphs.save_program, graphs.load_program, 1e-5, graph=True, runtime="torch_export"
    ),
    "int8_weight": _int8("int8_weight", 1e-5),
    "int8_dynamic": _int8("int8_dynamic", 1e-2),  # the last bit of an activation may change how it is rounded
}
