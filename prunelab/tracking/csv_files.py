"""Rows as CSV: rounds.csv, epochs.csv, layers.csv."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROUNDS = """
round amount sparsity sparsity_total nonzero parameters compression_ratio macs macs_nonzero theoretical_speedup
train_loss val_accuracy test_accuracy test_loss epochs seconds stage reused early_stop
"""
COLUMNS = {
    "rounds.csv": ROUNDS.split(),
    "epochs.csv": ["round", "epoch", "train_loss", "val_loss", "val_accuracy", "lr", "seconds", "stage", "reused"],
    "layers.csv": ["round", "tensor", "shape", "nonzero", "size", "sparsity"],
}


class Tables:
    """The CSV files of a run folder, written row by row."""

    def __init__(self, folder: Path) -> None:
        self.files = {name: (folder / name).open("w", newline="") for name in COLUMNS}
        self.writers = {name: csv.DictWriter(file, COLUMNS[name]) for name, file in self.files.items()}
        for writer in self.writers.values():
            writer.writeheader()

    def write(self, name: str, row: Mapping[str, Any]) -> None:
        """Adds a row to `rounds.csv`, `epochs.csv` or `layers.csv`; null becomes an empty cell."""
        self.writers[name].writerow({column: _cell(row.get(column)) for column in COLUMNS[name]})
        self.files[name].flush()

    def close(self) -> None:
        """Closes the files."""
        for file in self.files.values():
            file.close()


def _cell(value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool) else value
