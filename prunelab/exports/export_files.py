"""Write a network in several kinds of files; each is loaded again and compared before it is put into its folder."""

import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from prunelab.costs.latency import Run
from prunelab.data.dataset import Split
from prunelab.errors import ConfigError
from prunelab.exports import finished_run, network_files
from prunelab.exports.checkpoint import MASKS
from prunelab.exports.fingerprint import random_inputs
from prunelab.exports.formats import FORMATS
from prunelab.exports.network_files import Network
from prunelab.runtime import fresh_process
from prunelab.runtime.user_code import describe

RANDOM, IMAGES = 64, 256  # inputs that outputs are compared on
INPUTS, OUTPUTS = "inputs.safetensors", "outputs.safetensors"
Outputs = Callable[[str, Path], Mapping[str, Tensor]]  # kind, folder with its files → outputs of the loaded network


@dataclass(frozen=True)
class Exported:
    """One kind of files, of `FORMATS`, that is written and checked.

    Attributes:
        largest_difference: of the loaded network's outputs from the right ones, absolute, over all inputs.
        same_classes: whether all inputs have the same class; always true, since other files are refused.
        inputs: how many inputs were compared.
    """

    kind: str
    files: tuple[str, ...]
    largest_difference: float
    same_classes: bool
    inputs: int


@torch.no_grad()
def export(
    model: nn.Module, folder: str | Path, kinds: Sequence[str] = ("safetensors",), *, example: Tensor
) -> list[Exported]:
    """Write a live module in one or more kinds of files. The module stays as it is.

    Each kind is loaded again and compared with the module: `onnx` and `torch_export` in a fresh process, the others,
    which hold tensors only, into a copy of the module.

    Args:
        model: any module that takes one tensor and returns one; exported on the CPU, in eval mode.
        folder: is made if it does not exist.
        kinds: of `safetensors`, `onnx`, `torch_export`, `csr`, `int8_weight`, `int8_dynamic`.
        example: a batch of inputs, [n, …]; graphs accept any batch size.

    Raises:
        ConfigError: for an unknown kind, a missing package, or files that do not compute the same.
        OSError: if nothing can be written.
    """
    check(kinds)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    network = Network(deepcopy(model).cpu().eval(), example.detach().cpu())
    inputs = {"example": example.detach().cpu()}
    if example.is_floating_point():
        inputs["random"] = random_inputs(RANDOM, example.shape[1:], example.dtype)

    def outputs(kind: str, work: Path) -> Mapping[str, Tensor]:
        if FORMATS[kind].graph:
            return fresh_outputs(kind, work, inputs)
        loaded = FORMATS[kind].load(work, lambda said: deepcopy(network.model))
        return {name: loaded(x) for name, x in inputs.items()}

    return _write(dict.fromkeys(kinds, network), inputs, folder, outputs)


def make(
    folder: Path,
    model: nn.Module,
    config: Mapping[str, Any],
    test: Split,
    kinds: Sequence[str],
    on_error: Callable[[Exception], object] | None = None,
    compact: nn.Module | None = None,
) -> list[Exported]:
    """Write the network of a finished run into its folder in one or more kinds of files.

    Each kind is loaded in a fresh process and compared on random inputs and on 256 test examples.

    Args:
        folder: has `masks.safetensors`, from `write`.
        model: with zeros; stays as it is.
        config: of the run, as plain data.
        test: nothing is chosen by it.
        on_error: called with the error of a kind, before the next one is written; None: the error is raised.
        compact: the compact network. Graphs are made from it; other files are loaded into the model of the config,
            which has all layers.

    Raises:
        ConfigError: for an unknown kind, a missing package, or files that do not compute the same.
        StorageError: if nothing can be written.
    """
    check(kinds)
    kept = network_files.tensors(folder / MASKS, network_files.read_bytes(folder / MASKS))
    inputs = examples(test)
    network = Network(deepcopy(model).cpu().eval(), inputs["random"], kept, dict(config))
    small = network if compact is None else replace(network, model=deepcopy(compact).cpu().eval())

    def outputs(kind: str, work: Path) -> Mapping[str, Tensor]:
        return fresh_outputs(kind, work, inputs, config["trusted"])

    sources = {kind: small if FORMATS[kind].graph else network for kind in kinds}
    return _write(sources, inputs, folder, outputs, on_error)


def check(kinds: Iterable[str]) -> None:
    """Raise ConfigError for an unknown kind."""
    for kind in kinds:
        if kind not in FORMATS:
            raise ConfigError(f"export={kind}: must be one of {', '.join(FORMATS)}")


def examples(test: Split) -> dict[str, Tensor]:
    """Return the inputs on which files are compared: `random`, [64, …], and `test`, 256 test examples; on the CPU."""
    images = test.batch(slice(0, IMAGES))[0].cpu()
    return {"random": random_inputs(RANDOM, images.shape[1:], images.dtype), "test": images}


def _write(
    sources: Mapping[str, Network],
    inputs: Mapping[str, Tensor],
    folder: Path,
    outputs: Outputs,
    on_error: Callable[[Exception], object] | None = None,
) -> list[Exported]:
    """Write each kind from its network aside, compare it, and put its files into the folder."""
    done: list[Exported] = []
    with tempfile.TemporaryDirectory(prefix=".export.", dir=folder) as aside:
        for kind, network in sources.items():
            work = Path(aside) / kind
            work.mkdir()
            try:
                row = _checked(kind, network, inputs, work, outputs)
                network_files.write_all(folder, {name: (work / name).read_bytes() for name in row.files})
            except Exception as error:  # exporters raise anything
                told = isinstance(error, (ConfigError, OSError))
                why = f"export={kind}: cannot be made: {describe(error)}"
                failure = error if told else ConfigError(why)
                if on_error is None:
                    raise failure from error.__cause__ if told else error
                on_error(failure)
            else:
                done.append(row)
    return done


def _checked(kind: str, network: Network, inputs: Mapping[str, Tensor], work: Path, outputs: Outputs) -> Exported:
    format = FORMATS[kind]
    held = format.save(work, network)
    difference, same = compare(network.model if held is None else held, inputs, outputs(kind, work))
    if not (difference <= format.tolerance and same):
        raise ConfigError(
            f"export={kind}: is not written: outputs differ by {difference:.3g} (at most {format.tolerance:g}), "
            f"{'all classes are the same' if same else 'some classes differ'}"
        )
    files = tuple(name for name in format.files if (work / name).is_file())
    return Exported(kind, files, difference, same, sum(map(len, inputs.values())))


def fresh_outputs(
    kind: str, folder: Path, inputs: Mapping[str, Tensor], trusted: Iterable[str] = ()
) -> dict[str, Tensor]:
    """Return the outputs, [n, …] by name, of the network that a fresh process loads from `folder`.

    Args:
        folder: has the network's files; the two processes exchange inputs and outputs through it.
        inputs: batches [n, …] by name.
        trusted: your own packages that the process may import the model from.

    Raises:
        ConfigError: if the process fails; quotes its error.
    """
    save_file({name: x.contiguous() for name, x in inputs.items()}, folder / INPUTS)
    try:
        fresh_process.call(write_outputs, kind, str(folder.resolve()), torch.get_num_threads(), list(trusted))
    except RuntimeError as error:
        raise ConfigError(f"export={kind}: a fresh process cannot load it: {error}") from error
    return load_file(folder / OUTPUTS)


@torch.no_grad()
def write_outputs(kind: str, folder: str, threads: int, trusted: list[str]) -> None:
    """Load a network and write its outputs: this runs in the fresh process."""
    torch.set_num_threads(threads)
    network = FORMATS[kind].load(Path(folder), finished_run.builder(trusted))
    found = {name: network(x).contiguous() for name, x in load_file(Path(folder) / INPUTS).items()}
    save_file(found, Path(folder) / OUTPUTS)


@torch.no_grad()
def compare(run: Run, inputs: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> tuple[float, bool]:
    """Return the largest absolute difference of outputs, infinity for NaN or another shape, and whether classes agree.

    The outputs `found` are compared with those of `run` on the batches of the same names.
    """
    difference, same = 0.0, True
    for name, x in inputs.items():
        expected = run(x)
        if found[name].shape != expected.shape:
            return float("inf"), False
        apart = (expected - found[name]).abs().nan_to_num(nan=float("inf"))
        difference = max(difference, float(apart.max()))
        if expected.dim() > 1:
            same = same and bool((expected.argmax(1) == found[name].argmax(1)).all())
    return difference, same


def table(rows: Sequence[Exported]) -> str:
    """Return the records as a table for the console."""
    lines = [f"{'file, loaded again':<32}{'difference':>12}{'classes':>9}{'inputs':>8}"]
    for row in rows:
        classes = "same" if row.same_classes else "OTHER"
        lines.append(f"{row.files[0]:<32}{row.largest_difference:>12.2g}{classes:>9}{row.inputs:>8}")
    return "\n".join(lines)
