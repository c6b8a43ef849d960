"""Records: frozen dataclasses whose fields carry meaning, unit and format; columns and tags come from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

R = TypeVar("R")


@dataclass(frozen=True)
class Column:
    """What is known about one field of a record.

    Attributes:
        name: the field's name, the head of a CSV column.
        meaning: one line that explains the value.
        unit: `nats`, `s`, …; empty for a plain number.
        format: format specification for people, such as `.2%`; empty for `str`.
        csv: whether the field is a column of the CSV file.
        tag: whether the field is a curve in TensorBoard.
    """

    name: str
    meaning: str
    unit: str = ""
    format: str = ""
    csv: bool = True
    tag: bool = False


def column(
    meaning: str, unit: str = "", format: str = "", *, csv: bool = True, tag: bool = False, default: Any = ...
) -> Any:
    """Return a dataclass field with this description in its metadata. See `Column`."""
    described = {"meaning": meaning, "unit": unit, "format": format, "csv": csv, "tag": tag}
    return field(metadata=described) if default is ... else field(default=default, metadata=described)


def columns(record: type) -> list[Column]:
    """Return the columns of a record class, in the order of its fields."""
    return [Column(entry.name, **entry.metadata) for entry in fields(record)]  # type: ignore[arg-type]


def csv_columns(record: type) -> list[str]:
    """Return the heads of a record class's CSV columns."""
    return [entry.name for entry in columns(record) if entry.csv]


def tags(record: type) -> dict[str, str]:
    """Return the names of the fields that are curves in TensorBoard, with their meanings."""
    return {entry.name: entry.meaning for entry in columns(record) if entry.tag}


def from_plain(record: type[R], plain: dict[str, Any]) -> R:
    """Return a record from the plain data that `dataclasses.asdict` gave, after JSON; unknown keys are left out.

    Raises:
        TypeError: for a value of another type, or a missing one.
    """
    kinds = get_type_hints(record)
    known = {key: tuple(v) if isinstance(v, list) else v for key, v in plain.items() if key in kinds}
    for key, value in known.items():
        if not _is(value, kinds[key]):
            raise TypeError(f"{key}={value}: must be {kinds[key]}")
    return record(**known)


def _is(value: object, kind: Any) -> bool:
    """Return whether a value is of the kind that a field is annotated with; a whole number is a float, too."""
    inner = get_args(kind)
    if get_origin(kind) is UnionType:
        return any(_is(value, one) for one in inner)
    if get_origin(kind) in (tuple, Sequence):
        return isinstance(value, (tuple, list)) and all(_is(item, inner[0]) for item in value)
    if get_origin(kind) is dict:
        return isinstance(value, dict) and all(_is(item, inner[1]) for item in value.values())
    if isinstance(value, bool) and kind is not bool:
        return False
    return isinstance(value, (int, float) if kind is float else kind)


def plain(record: Any) -> dict[str, Any]:
    """Return a record as plain data, for JSON."""
    return asdict(record)


def flat(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested keys by their dotted names: `{"train": {"epochs": 3}}` → `{"train.epochs": 3}`."""
    found: dict[str, Any] = {}
    for key, value in nested.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found


@dataclass(frozen=True)
class EpochRecord:
    """One epoch of training: a row of epochs.csv."""

    round: int = column("Round of the experiment; 0 is dense training", tag=True)
    epoch: int = column("Epoch of the round, from 1")
    train_loss: float = column("Mean cross-entropy over the epoch's training batches", "nats", ".4f", tag=True)
    val_loss: float = column("Mean cross-entropy on the validation split after the epoch", "nats", ".4f", tag=True)
    val_accuracy: float = column("Accuracy on the validation split after the epoch", format=".2%", tag=True)
    early_stop: int | None = column("Iteration with the smallest validation loss so far", csv=False)
    lr: float = column("Learning rate of the epoch's last step", format="g", tag=True)
    seconds: float = column("Duration of the epoch, validation included", "s", ".1f")
    stage: str = column("Name of the stage that the epoch belongs to", default="")
    reused: bool = column("Whether an earlier run has trained the epoch", default=False)
    test_accuracy: float | None = column(
        "Accuracy on the test split after the epoch, with train.test=true", format=".2%", default=None
    )
    early_stop_accuracy: float | None = column("Accuracy on the test split at `early_stop`", csv=False, default=None)


@dataclass(frozen=True)
class RoundRecord:
    """One round: a row of rounds.csv. Measured at the last epoch, under the final masks; round 0 is dense."""

    round: int = column("Number of the round; 0 is the dense network")
    amount: float | None = column("Fraction of the unpruned units that the round removed", format=".1%")
    sparsity: float = column("Zeros ÷ weights, over the prunable tensors", format=".1%", tag=True)
    sparsity_total: float = column("Zeros ÷ parameters, over the whole model", format=".1%")
    nonzero: int = column("Parameters of the whole model that are not zero", format=",")
    parameters: int = column("All parameters of the model", format=",")
    compression_ratio: float = column("All parameters ÷ nonzero parameters", "×", ".2f", tag=True)
    macs: int = column("Multiply-adds for one example", format=",")
    macs_nonzero: int = column("Multiply-adds on nonzero weights, for one example", format=",")
    theoretical_speedup: float = column("Multiply-adds ÷ multiply-adds on nonzero weights", "×", ".2f", tag=True)
    train_loss: float | None = column("Mean cross-entropy of the last epoch", "nats", ".4f")
    val_accuracy: float = column("Accuracy on the validation split", format=".2%", tag=True)
    test_accuracy: float = column("Accuracy on the test split", format=".2%", tag=True)
    test_loss: float = column("Mean cross-entropy on the test split", "nats", ".4f", tag=True)
    epochs: int = column("Epochs of training in the round")
    seconds: float = column("Duration of pruning and training", "s", ".1f")
    stage: str = column("Name of the stage", default="")
    reused: bool = column("Whether an earlier run has computed the stage", default=False)
    early_stop: int | None = column("Iteration with the smallest validation loss", tag=True, default=None)
    early_stop_accuracy: float | None = column(
        "Accuracy on the test split at that iteration, with train.test=true", format=".2%", default=None
    )
    best_test_accuracy: float | None = column(
        "Highest accuracy on the test split after an epoch, with train.test=true; prunelab chooses nothing by it",
        format=".2%",
        default=None,
    )
    prune_ms: float = column("Duration of pruning", "ms", ".2f", csv=False, default=0.0)
    warnings: tuple[str, ...] = column("What the pruning warned of", csv=False, default=())
    losses: dict[str, float] = field(
        default_factory=dict,
        metadata={"meaning": "Validation loss without layers, by the layers left out", "unit": "nats", "csv": False},
    )
    layers_gone: tuple[str, ...] = column("Layers that the round removed", csv=False, default=())


@dataclass(frozen=True)
class LayerRecord:
    """One prunable tensor at the end of a round: a row of layers.csv."""

    round: int = column("Number of the round")
    tensor: str = column("Name of the parameter")
    shape: str = column("Shape, such as 6x1x3x3")
    nonzero: int = column("Weights that are not zero", format=",")
    size: int = column("All weights of the tensor", format=",")
    sparsity: float = column("Zeros ÷ weights", format=".1%")


@dataclass(frozen=True)
class PlannedRound:
    """What a round will do, as far as it is known before training."""

    round: int = column("Number of the round")
    amount: float | None = column("Fraction of the unpruned units that the round removes", format=".1%")
    sparsity: float | None = column("Zeros ÷ weights afterwards; None where the scores decide", format=".1%")
    left: int | None = column("Prunable weights that are left; None where the scores decide", format=",")
    exact: bool = column("Whether sparsity and left are exact")
    macs: float | None = column("Most multiply-adds of the compact network ÷ dense ones", format=".1%", default=None)
