"""The CSV files of a run folder: rounds.csv, epochs.csv, layers.csv; their columns are the records' fields."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prunelab.records import EpochRecord, LayerRecord, RoundRecord, csv_columns
from prunelab.runtime.regular_file import regular

FILES: dict[type, str] = {RoundRecord: "rounds.csv", EpochRecord: "epochs.csv", LayerRecord: "layers.csv"}
LARGEST = 2**30  # bytes of a file that is read: nobody's runs have more, and one line may be the whole file
DIGEST = "config"  # the column of every file that says which config its rows are of


class CsvFiles:
    """Write records into the CSV file of their class in a run folder, row by row; existing files are replaced.

    The digest of the run's config is the last column of every row. The choices of the run, such as
    `{"seed": 0, "strategy": "l1"}`, are columns of rounds.csv; one named as a column of the rounds is `config.<name>`.
    """

    def __init__(self, folder: Path, digest: str, choices: Mapping[str, str | int]) -> None:
        own = csv_columns(RoundRecord)
        named = {f"{DIGEST}.{key}" if key in own else key: value for key, value in choices.items()}
        self.rest: dict[type, dict[str, str | int]] = {record: {DIGEST: digest} for record in FILES}
        self.rest[RoundRecord] = {**named, DIGEST: digest}
        self.files = {record: (folder / name).open("w", newline="", encoding="utf-8") for record, name in FILES.items()}
        self.writers = {
            record: csv.DictWriter(file, [*csv_columns(record), *self.rest[record]])
            for record, file in self.files.items()
        }
        for writer in self.writers.values():
            writer.writeheader()

    def write(self, record: EpochRecord | RoundRecord | LayerRecord) -> None:
        """Add a row; null becomes an empty cell."""
        kind = type(record)
        cells = {name: _cell(getattr(record, name)) for name in csv_columns(kind)}
        self.writers[kind].writerow({**cells, **self.rest[kind]})
        self.files[kind].flush()

    def close(self) -> None:
        """Close the files."""
        for file in self.files.values():
            file.close()


def _cell(value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool) else value


def read(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file; an empty list if it is missing or not readable."""
    try:
        if regular(path).stat().st_size > LARGEST:
            return []
        with path.open(newline="", encoding="utf-8", errors="replace") as file:
            reader = csv.reader(file)
            header = next(reader, [])
            return [dict(zip(header, cells, strict=False)) for cells in reader]
    except (OSError, csv.Error):
        return []
