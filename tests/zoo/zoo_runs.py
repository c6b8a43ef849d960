"""Run an experiment on a network, and compare the numbers it reports with those counted from its files (`recount`)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import recount
import torch
from torch import nn

import prunelab
from prunelab.data.dataset import Split

PAGE = Path(__file__).parents[2] / "docs" / "zoo.md"
SHORT = ("train.batch_size=32", "finetune.epochs=1", "latency=false", "device=cpu")


@dataclass(frozen=True)
class Row:
    """A row of the table: what the files of a run hold, or the line by which it was refused."""

    network: str
    options: str
    found: recount.Counted | None
    refusal: str = ""


def row(network: str, options: Sequence[str], given: Iterable[str], build: Callable[[], nn.Module], test: Split) -> Row:
    """Run an experiment; assert that the run is right, or refused in one line before anything was trained.

    Args:
        options: the overrides that the table shows.
        given: those that it does not show, with `trusted`.
        build: returns the network, with any weights.
    """
    with TemporaryDirectory() as where:
        overrides = [*SHORT, *given, *options, f"outputs={where}"]
        print(" ".join(overrides))  # pytest shows it where the check fails
        folder = Path(where) / "run"
        try:
            config = prunelab.compose(*overrides)
            result = prunelab.run(config, folder)
        except prunelab.ConfigError as error:
            refusal = str(error)
            assert "\n" not in refusal
            assert len(refusal) < 500
            assert not trained(Path(where)), f"refused after training: {refusal}"
            return Row(network, " ".join(options), None, refusal)
        assert not result.problems
        check_files(folder, list(config.trusted), build, test)
        return Row(network, " ".join(options), recount.reported(folder))


def check_files(folder: Path, trusted: list[str], build: Callable[[], nn.Module], test: Split) -> None:
    """Assert that reported = recounted = reloaded, and that the compact network, if there is one, computes the same."""
    inputs, labels = test.batch(slice(0, len(test)))
    found = recount.recounted(folder, build, inputs, labels)
    assert found == pytest.approx(recount.reported(folder))
    loaded = prunelab.load(folder, trusted)
    assert recount.accuracy(loaded, inputs, labels) == pytest.approx(found.test_accuracy)
    if (folder / "compact.safetensors").exists():
        small = prunelab.load(folder, trusted, compact=True)
        with torch.no_grad():
            torch.testing.assert_close(small(inputs.clone()), loaded(inputs.clone()), rtol=1e-3, atol=1e-4)


def trained(outputs: Path) -> bool:
    """Return whether any stage but the initial weights is stored."""
    kinds = [json.loads(path.read_bytes())["kind"] for path in outputs.glob("stages/*/stage.json")]
    return any(kind != "init" for kind in kinds)


def write(title: str, rows: Iterable[Row]) -> None:
    """Replace the section of this title in docs/zoo.md by a table."""
    head = ["| network | options | parameters | nonzero | sparsity | test accuracy |", "|---|---|--:|--:|--:|--:|"]
    text = PAGE.read_text() if PAGE.exists() else INTRODUCTION
    before, _, after = text.partition(f"\n## {title}\n")
    rest = after[after.index("\n## ") :] if "\n## " in after else ""
    PAGE.write_text(f"{before.rstrip()}\n\n## {title}\n\n" + "\n".join([*head, *map(line, rows)]) + f"\n{rest}")


def line(row: Row) -> str:
    """Return a row in Markdown."""
    start, found = f"| {row.network} | {row.options or 'none'} |", row.found
    if found is None:
        return f"{start} refused: {row.refusal.replace('|', '/')} | | | |"
    numbers = f"{found.parameters:,} | {found.nonzero:,} | {found.sparsity:.1%} | {found.test_accuracy:.1%}"
    return f"{start} {numbers} |"


INTRODUCTION = """# The zoo: networks that prunelab was tried on

Each row is one run on a tiny synthetic data set, so the accuracies say nothing about the networks. What counts: the
numbers that the run reports, those that code without prunelab (`tests/zoo/recount.py`) finds in its files, and those of
the network that `prunelab.load` returns are the same. What cannot work is refused in one line before training.

The scripts `tests/zoo/test_torchvision_runs.py` and `tests/zoo/test_odd_networks.py` with `--write` make the tables.
"""
