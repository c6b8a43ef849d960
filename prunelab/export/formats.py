"""The kinds of files a network can leave the lab as: how each is written, loaded, and how near it must come."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from prunelab.export import csr, graphs, portable
from prunelab.export.portable import Network
from prunelab.export.timing import Run


class Format(NamedTuple):
    """One kind.

    Attributes:
        files: their names.
        save: writes them into a folder.
        load: a network from a folder; packages of the user's that may be imported.
        tolerance: of outputs, absolute.
        why: what to say where it is no faster.
    """

    files: tuple[str, ...]
    save: Callable[[Path, Network], None]
    load: Callable[[Path, tuple[str, ...]], Run]
    tolerance: float
    why: str


FORMATS = {
    "safetensors": Format(
        (portable.WEIGHTS, portable.MASKS, portable.DESCRIPTION),
        portable.save,
        portable.load,
        1e-5,  # the same bits, but for what a kernel makes of where its numbers lie
        "it is the same network: its zeros are stored and multiplied like any other number",
    ),
    "onnx": Format(
        (graphs.ONNX,),
        graphs.save_onnx,
        graphs.load_onnx,
        1e-4,
        "onnxruntime multiplies the zeros too",
    ),
    "csr": Format(
        (csr.WEIGHTS, csr.DESCRIPTION),
        csr.save,
        csr.load,
        1e-5,
        "looking rows up costs what it saves, or layers that are not sparse take the time",
    ),
    "torch_export": Format(
        (graphs.PROGRAM,),
        graphs.save_program,
        graphs.load_program,
        1e-5,
        "the graph has the same operations, zeros and all",
    ),
}
