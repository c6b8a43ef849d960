"""The CSV files of a run folder: rounds.csv, epochs.csv, layers.csv; their columns are the records' fields."""

import csv
from pathlib import Path
from typing import Any

from prunelab.records import EpochRecord, LayerRecord, RoundRecord, csv_columns

FILES: dict[type, str] = {RoundRecord: "rounds.csv", EpochRecord: "epochs.csv", LayerRecord: "layers.csv"}


class CsvFiles:
    """Write records into the CSV file of their class in a run folder, row by row; existing files are replaced."""

    def __init__(self, folder: Path) -> None:
        self.files = {record: (folder / name).open("w", newline="") for record, name in FILES.items()}
        self.writers = {record: csv.DictWriter(file, csv_columns(record)) for record, file in self.files.items()}
        for writer in self.writers.values():
            writer.writeheader()

    def write(self, record: EpochRecord | RoundRecord | LayerRecord) -> None:
        """Add a row; null becomes an empty cell."""
        kind = type(record)
        self.writers[kind].writerow({name: _cell(getattr(record, name)) for name in csv_columns(kind)})
        self.files[kind].flush()

    def close(self) -> None:
        """Close the files."""
        for file in self.files.values():
            file.close()


def _cell(value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool) else value
