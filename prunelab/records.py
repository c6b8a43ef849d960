"""Records: frozen dataclasses whose fields have a meaning, a unit and a format, from which tables are derived."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any


@dataclass(frozen=True)
class Column:
    """What is known about one field of a record.

    Attributes:
        name: the field's name, the head of a CSV column.
        meaning: one line that explains the value.
        unit: `nats`, `s`, …; empty for a plain number.
        format: format specification for people, such as `.2%`; empty for `str`.
    """

    name: str
    meaning: str
    unit: str = ""
    format: str = ""


def column(meaning: str, unit: str = "", format: str = "") -> Any:
    """Return a dataclass field with this description in its metadata. See `Column`."""
    return field(metadata={"meaning": meaning, "unit": unit, "format": format})


def columns(record: type) -> list[Column]:
    """Return the columns of a record class, in the order of its fields."""
    return [Column(entry.name, **entry.metadata) for entry in fields(record)]


@dataclass(frozen=True)
class EpochRecord:
    """One epoch of training."""

    round: int = column("Round of the experiment; 0 is dense training")
    epoch: int = column("Epoch of the round, from 1")
    train_loss: float = column("Mean cross-entropy over the epoch's training batches", "nats", ".4f")
    val_loss: float = column("Mean cross-entropy on the validation split after the epoch", "nats", ".4f")
    val_accuracy: float = column("Accuracy on the validation split after the epoch", format=".2%")
    early_stop: int | None = column("Iteration with the smallest validation loss so far")
    lr: float = column("Learning rate of the epoch's last step", format="g")
    seconds: float = column("Duration of the epoch, validation included", "s", ".1f")
