"""The network as a graph that needs none of its Python code: torch.export, and ONNX made from it."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from copy import deepcopy
from io import StringIO
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from prunelab.costs.latency import batch
from prunelab.errors import ConfigError, need
from prunelab.exports.network_files import Build, Network
from prunelab.pruning.gated import settle

PROGRAM, ONNX = "model.pt2", "model.onnx"
EXAMPLES = 3  # the tracer treats batch sizes 0 and 1 as special cases


def program(network: Network) -> ExportedProgram:
    """Return the graph of a network with an example, for any number of examples; ConfigError if it cannot be traced."""
    assert network.example is not None
    model = deepcopy(network.model)
    settle(model)
    example = (batch(network.example, EXAMPLES).clone(),)  # a view's whole memory would be stored
    shapes = ({0: torch.export.Dim("batch")},)
    with quiet(), torch.no_grad():
        for strict in (False, True):  # only the strict tracer follows `len(x)`, for example
            try:
                return torch.export.export(model, example, dynamic_shapes=shapes, strict=strict)
            except (RuntimeError, ValueError, TypeError) as error:
                failure = error
    why = " ".join(str(failure).split())[:300]
    raise ConfigError(f"export: {type(model).__name__} cannot be traced for any batch size: {why}") from failure


def save_program(folder: Path, network: Network) -> None:
    """Write `model.pt2`; for errors see `program`."""
    made = program(network)
    with quiet():
        torch.export.save(made, folder / PROGRAM)


def load_program(folder: Path, build: Build | None = None) -> nn.Module:
    """Return the module of `model.pt2`. Load only files that you made: torch does not promise that others are safe."""
    with quiet():
        return torch.export.load(folder / PROGRAM).module()


class OnnxNetwork:
    """An ONNX file in onnxruntime on the CPU, called like a module: inputs [n, …] → outputs [n, …], both tensors."""

    def __init__(self, path: Path) -> None:
        need("onnx", "onnxruntime")
        with quiet():
            import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3  # errors only
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def __call__(self, x: Tensor) -> Tensor:
        """Run the network."""
        (outputs,) = self.session.run(None, {"input": np.ascontiguousarray(x.numpy())})
        return torch.from_numpy(outputs)


def save_onnx(folder: Path, network: Network) -> None:
    """Write `model.onnx`, with the weights in it; `input` [batch, …] → `logits` [batch, classes].

    Raises ConfigError as `program` does, and if onnx, onnxscript or onnxruntime is not installed.
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
            dynamic_shapes=({0: "batch"},),  # its name only; `program` has made it dynamic
            dynamo=True,
            external_data=False,
            verbose=False,
        )


def load_onnx(folder: Path, build: Build | None = None) -> OnnxNetwork:
    """Return a network that runs `model.onnx` with onnxruntime."""
    return OnnxNetwork(folder / ONNX)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the exporters' logs, warnings and dumps of graphs: the files are checked by loading them."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
