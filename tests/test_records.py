"""Records: every field of every record is described."""

import dataclasses
import inspect
import string

import pytest

from prunelab import records
from prunelab.records import Column, EpochRecord, column, columns

CLASSES = [kind for _, kind in inspect.getmembers(records, inspect.isclass) if kind.__name__.endswith("Record")]


def test_columns_are_the_fields_in_their_order():
    @dataclasses.dataclass(frozen=True)
    class Some:
        loss: float = column("Mean loss", "nats", ".2f")
        name: str = column("Name of the tensor")

    assert columns(Some) == [Column("loss", "Mean loss", "nats", ".2f"), Column("name", "Name of the tensor")]
    assert Some(1.0, "a").loss == 1.0
    with pytest.raises(TypeError):
        Some(1.0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        Some(1.0, "a").loss = 2.0


@pytest.mark.parametrize("kind", CLASSES)
def test_every_field_has_a_meaning_and_a_format_that_works(kind):
    assert EpochRecord in CLASSES
    for entry in columns(kind):
        assert entry.meaning.strip() == entry.meaning != ""
        assert entry.meaning[0] in string.ascii_uppercase
        if entry.format:
            format(1.5, entry.format)
