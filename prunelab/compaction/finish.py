"""Compaction at the end of a run: the smaller network, its proof on the test set, its files."""

from copy import deepcopy
from dataclasses import replace
from pathlib import Path

from torch import nn

from prunelab.compaction import compact_files
from prunelab.compaction.compacted import Compacted
from prunelab.compaction.layer_weights import Rounding
from prunelab.compaction.proof import prove
from prunelab.compaction.shrink import compact
from prunelab.costs.card import Form
from prunelab.data.dataset import Split
from prunelab.errors import ConfigError
from prunelab.exports.fingerprint import random_inputs

ROUND_TO = (4, 1)  # of the channels of convolutions, and of other layers, unless the config says otherwise
RANDOM, CHUNK = 256, 200  # random inputs of the proof; test examples that are run at once


def rounding(round_to: int | None) -> Rounding:
    """Return the multiples that `round_to` of the config asks for: of convolutions, and of other layers."""
    return ROUND_TO if round_to is None else (round_to, round_to)


def finish(model: nn.Module, test: Split, folder: Path, round_to: int | None = None) -> Compacted:
    """Compact a network, and write it if it computes the same on random inputs and on the test set, else ConfigError.

    Args:
        model: pruned weights are zero; stays as it is.
        test: both networks are compared on it; nothing is chosen by it.
        folder: gets `compact.safetensors` and `compact.json`.
        round_to: as the config key says.
    """
    example, _ = test.batch(slice(0, 1))
    small = compact(model, example, rounding(round_to))
    noise = random_inputs(RANDOM, example.shape[1:], example.dtype).to(example.device)
    tested = (test.batch(slice(first, first + CHUNK))[0] for first in range(0, len(test), CHUNK))
    proof = prove(model, small.model, noise) + prove(model, small.model, tested)
    if not proof.agree:
        raise ConfigError(f"compact=true: is not written: the compact network does not compute the same: {proof}")
    compacted = replace(small, proof=proof)
    compact_files.save(folder, compacted, example)
    return compacted


def form(compacted: Compacted, folder: Path) -> Form:
    """Return the compact network and its files for the cost card."""
    files = (folder / compact_files.WEIGHTS, folder / compact_files.SHAPES)
    return Form(deepcopy(compacted.model).cpu().eval(), files)
