"""The proof at the end of a run: what was saved is loaded again in a fresh process, counted, and evaluated again."""

import sys
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from prunelab.compaction import compact_files
from prunelab.costs import counts
from prunelab.data.dataset import Split
from prunelab.errors import ConfigError
from prunelab.experiment.bench import Bench
from prunelab.exports import finished_run
from prunelab.exports.checkpoint import MASKS, WEIGHTS
from prunelab.exports.network_files import fill
from prunelab.records import RoundRecord
from prunelab.runtime import device as devices
from prunelab.runtime import fresh_process
from prunelab.training.loop import evaluate

Numbers = dict[str, Any]  # fields of RoundRecord
TEST = "test.safetensors"
LIBRARIES = ("torchvision.models",)  # that some networks need, and that take seconds to import


def announce() -> None:
    """Let the server of fresh processes import what the proof needs, while the network is trained."""
    fresh_process.expect(__name__, *(name for name in LIBRARIES if name in sys.modules))


def prove(bench: Bench, folder: Path, reported: RoundRecord, compact: bool) -> None:
    """Compare what a run reports with what its files hold.

    A live module, or a network whose data set has a user's class, is filled from the files in this process.

    Args:
        folder: of the run, with the network in its files and the config in its summary.
        compact: whether there is a compact network, which must have the same accuracy, in float32.

    Raises:
        ConfigError: names what differs, or tells why a fresh process cannot load the files.
    """
    test, device, threads = bench.data.test, str(bench.device), devices.threads(bench.spec.threads)
    precision = bench.spec.train.precision
    if bench.live_model is not None or type(test) is not Split:
        model = bench.new_model()
        fill(model, load_file(folder / WEIGHTS), folder / WEIGHTS)
        found = [recount(model, load_file(folder / MASKS), test, precision)]
    else:
        with TemporaryDirectory(prefix=".proof.", dir=folder) as work:
            parts = {key: torch.as_tensor(value).cpu().contiguous() for key, value in vars(test).items()}
            save_file(parts, Path(work) / TEST)
            run, split = str(folder.resolve()), str((Path(work) / TEST).resolve())
            try:
                given = (run, split, device, threads, precision, list(bench.spec.trusted), compact)
                found = fresh_process.call(recount_files, *given)
            except RuntimeError as error:
                raise ConfigError(f"a fresh process cannot load what was saved: {error}") from error
    names = ("the saved network", "the compact network in its files")
    differing = [
        f"{name} has {key}={value:,}, not {getattr(reported, key):,} as reported"
        for name, numbers in zip(names, found, strict=False)
        for key, value in numbers.items()
        if value != getattr(reported, key)
    ]
    if differing:
        raise ConfigError(f"{folder}: {'; '.join(differing)}")


def recount_files(
    folder: str, test: str, device: str, threads: int, precision: str | None, trusted: Iterable[str], compact: bool
) -> list[Numbers]:
    """Return the numbers of the network of a run folder, and the accuracy of the compact one if there is one.

    This runs in the fresh process.

    Args:
        test: the file with the test split.
    """
    home = devices.prepare(device, threads, precision)
    parts: Any = load_file(test)
    for key in ("mean", "std"):
        parts[key] = parts[key].item() if parts[key].dim() == 0 else parts[key]
    split = Split(**parts).to(home)
    network = finished_run.read(Path(folder), trusted, stale=True)
    found = [recount(network.model.to(home), network.masks, split, precision)]
    if compact and precision is None:  # fewer bits round the sums of fewer channels to other classes
        small = compact_files.of_run(Path(folder), trusted).to(home)
        found.append({"test_accuracy": evaluate(small, split).accuracy})
    return found


def recount(model: nn.Module, masked: Iterable[str], test: Split, precision: str | None = None) -> Numbers:
    """Return the numbers of a network that can be counted in its tensors, and its accuracy on the test split.

    Args:
        masked: the names of the prunable tensors.
    """
    nonzero, parameters = counts.nonzeros(model.parameters())
    kept, prunable = counts.nonzeros(model.get_parameter(name) for name in masked)
    return {
        "nonzero": nonzero,
        "parameters": parameters,
        "compression_ratio": parameters / nonzero if nonzero else float("inf"),
        "sparsity": (prunable - kept) / prunable if prunable else 0.0,
        "test_accuracy": evaluate(model, test, precision=precision).accuracy,
    }
