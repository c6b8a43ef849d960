"""The kinds of files a network can leave the lab as: how each is written, loaded, and how near it must come."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from torch import nn

from prunelab.costs.latency import Run
from prunelab.exports import checkpoint as portable
from prunelab.exports import csr, graphs
from prunelab.exports import int8 as quantizing
from prunelab.exports.checkpoint import Network


class Format(NamedTuple):
    """One kind.

    Attributes:
        files: their names.
        save: writes them into a folder; gives the network that is in them, if it is not the same one.
        load: a network from a folder; packages of the user's that may be imported.
        tolerance: of outputs, absolute.
        graph: whether it has no layers any more.
    """

    files: tuple[str, ...]
    save: Callable[[Path, Network], nn.Module | None]
    load: Callable[[Path, tuple[str, ...]], Run]
    tolerance: float
    graph: bool = False


def _int8(kind: str, tolerance: float) -> Format:
    def load(folder: Path, trusted: tuple[str, ...]) -> nn.Module:
        return quantizing.load(folder, kind, trusted)

    return Format(quantizing.names(kind), partial(quantizing.write, kind), load, tolerance)


FORMATS = {
    "safetensors": Format(
        (portable.WEIGHTS, portable.MASKS, portable.DESCRIPTION),
        portable.save,
        portable.load,
        1e-5,  # the same bits, but for what a kernel makes of where its numbers lie
    ),
    "onnx": Format((graphs.ONNX,), graphs.save_onnx, graphs.load_onnx, 1e-4, graph=True),
    "csr": Format((csr.WEIGHTS, csr.DESCRIPTION), csr.save, csr.load, 1e-5),
    "torch_export": Format((graphs.PROGRAM,), graphs.save_program, graphs.load_program, 1e-5, graph=True),
    "int8_weight": _int8("int8_weight", 1e-5),
    "int8_dynamic": _int8("int8_dynamic", 1e-2),  # a last bit of an activation may tip its rounding
}
