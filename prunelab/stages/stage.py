"""A stage: its name, a hash of the inputs that its result depends on, and its result."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from prunelab.records import EpochRecord, RoundRecord

if TYPE_CHECKING:
    from torch import Tensor

    from prunelab.stages.checkpoint import Work

FORMAT = 2  # to be raised when the code gives another result for the same inputs
NAME_LENGTH = 32


@dataclass
class State:
    """A stage's result.

    Attributes:
        weights: the model's state dict, on the CPU; pruned weights are zero.
        masks: bool, by parameter name; masks of ones are left out.
        record: the round's record; None for the initial state, which is not a round.
        epochs: the records of its epochs.
        recorded: the criterion's state.
        stage: the stage's name.
        reused: whether the result was loaded instead of computed.
    """

    weights: dict[str, Tensor]
    masks: dict[str, Tensor] = field(default_factory=dict)
    record: RoundRecord | None = None
    epochs: list[EpochRecord] = field(default_factory=list)
    recorded: dict[str, Tensor] = field(default_factory=dict)
    stage: str = ""
    reused: bool = False

    @property
    def row(self) -> RoundRecord:
        """The record of a stage that is a round."""
        assert self.record is not None
        return self.record


@dataclass(frozen=True)
class Stage:
    """Everything that a stage's result depends on, and the function that computes it.

    Attributes:
        kind: `init`, `dense`, `round`, `control` or `longer`.
        parent: the name of the stage that it continues; None for the first.
        inputs: the settings that it reads, as plain data. Null values are left out of the name, so that a key that is
            added later, with the default null, changes no old name.
        compute: returns the result, starting from the checkpoint if there is one.
    """

    kind: str
    parent: str | None
    inputs: Mapping[str, Any]
    compute: Callable[[Work], State] = field(compare=False, repr=False)

    @property
    def name(self) -> str:
        """The first 32 hexadecimal digits of the SHA-256 of `canonical()`."""
        return name_of(self.canonical())

    def canonical(self) -> bytes:
        """Return all fields but `compute` as canonical JSON: sorted keys, no spaces, no keys with a null."""
        content = {"format": FORMAT, "kind": self.kind, "parent": self.parent, "inputs": self.inputs}
        return canonical(content)


def canonical(content: Mapping[str, Any]) -> bytes:
    """Return plain data as canonical JSON: sorted keys, no spaces, no keys with a null."""
    return json.dumps(_without_nulls(content), sort_keys=True, separators=(",", ":")).encode()


def name_of(canonical: bytes) -> str:
    """Return the name of the stage that a canonical JSON describes."""
    return hashlib.sha256(canonical).hexdigest()[:NAME_LENGTH]


def _without_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, (list, tuple)) else value
