"""The network as a graph that needs none of its Python code: torch.export, and ONNX made from it."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from prunelab.config import build as building
from prunelab.config.schema import ConfigError
from prunelab.exports.checkpoint import Network
from prunelab.training.callbacks.dynamic_gates import settle

PROGRAM, ONNX = "model.pt2", "model.onnx"
EXAMPLES = 3  # 0 and 1 are special to the tracer


def program(network: Network) -> ExportedProgram:
    """The network's graph, for any number of examples.

    Raises:
        ConfigError: if the shape of an example is unknown, or the network's code cannot be traced.
    """
    shape = building.data_facts(network.config).get("shape")
    if shape is None:
        raise ConfigError("export: the data set does not say the shape of an example, so no graph can be traced")
    model = deepcopy(network.model)
    settle(model)
    dtype = next((p.dtype for p in model.parameters()), torch.float32)
    example = (torch.randn(EXAMPLES, *shape, dtype=dtype),)
    batch = ({0: torch.export.Dim("batch")},)
    with quiet(), torch.no_grad():
        try:
            return torch.export.export(model, example, dynamic_shapes=batch)
        except (RuntimeError, ValueError, TypeError):  # such as `len(x)`, which only the strict tracer follows
            try:
                return torch.export.export(model, example, dynamic_shapes=batch, strict=True)
            except (RuntimeError, ValueError, TypeError) as error:
                why = " ".join(str(error).split())[:300]
                raise ConfigError(
                    f"export: {type(model).__name__} cannot be traced for any batch size: {why}"
                ) from error


def save_program(folder: Path, network: Network) -> None:
    """Writes `model.pt2`.

    Raises:
        ConfigError: from `program`.
    """
    made = program(network)
    with quiet():
        torch.export.save(made, folder / PROGRAM)


def load_program(folder: Path, trusted: Iterable[str] = ()) -> nn.Module:
    """The module of `model.pt2`. Load only files that you made: torch does not promise that others are safe."""
    with quiet():
        return torch.export.load(folder / PROGRAM).module()


class OnnxNetwork:
    """An ONNX file in onnxruntime on the CPU, called like a module: tensors [n, …] in, logits [n, classes] out.

    Args:
        threads: of one call; None: as many as torch has.
    """

    def __init__(self, path: Path, threads: int | None = None) -> None:
        need("onnx", "onnxruntime")
        with quiet():
            import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or torch.get_num_threads()
        options.log_severity_level = 3  # errors only
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def __call__(self, x: Tensor) -> Tensor:
        """Runs the network."""
        (logits,) = self.session.run(None, {"input": np.ascontiguousarray(x.numpy())})
        return torch.from_numpy(logits)


def save_onnx(folder: Path, network: Network) -> None:
    """Writes `model.onnx`, with its weights in it; `input` [batch, …] → `logits` [batch, classes].

    Raises:
        ConfigError: from `program`, or if onnx and onnxscript are not installed.
    """
    need("onnx", "onnx", "onnxscript", "onnxruntime")
    made = program(network)
    with quiet():
        torch.onnx.export(
            made,
            (),
            str(folder / ONNX),
            input_names=["input"],
            output_names=["logits"],
            dynamic_shapes=({0: "batch"},),  # only its name; what may vary is decided above
            dynamo=True,
            external_data=False,
            verbose=False,
        )


def load_onnx(folder: Path, trusted: Iterable[str] = ()) -> OnnxNetwork:
    """`model.onnx` in onnxruntime."""
    return OnnxNetwork(folder / ONNX)


def need(extra: str, *packages: str) -> None:
    """Raises ConfigError that names the extra to install, if one of the packages is missing."""
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        raise ConfigError(f'{extra} needs {", ".join(missing)}: pip install "prunelab[{extra}]"')


@contextmanager
def quiet() -> Iterator[None]:
    """The exporters talk about their own insides; what matters is found out by loading the file again."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
