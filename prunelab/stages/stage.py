"""A stage: its name, made of what its result depends on, and its result."""

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

FORMAT = 2  # raise it when the same inputs no longer give the same result
NAME_LENGTH = 32


@dataclass
class State:
    """A stage's result.

    Attributes:
        weights: the model's state dict, on the CPU; pruned weights are zero.
        masks: bool, by parameter name; tensors with nothing pruned are left out.
        record: the round's row; None for the initial state, which is not a round.
        epochs: the rows of its epochs.
        recorded: what the criterion has recorded during training, by its own names.
        stage: the stage's name.
        reused: whether it was looked up instead of computed.
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
        """The round's row of a stage that is a round."""
        assert self.record is not None
        return self.record


@dataclass(frozen=True)
class Stage:
    """What a stage's result depends on, and nothing else; and how it is computed.

    Attributes:
        kind: `init`, `dense`, `round` or `control`.
        parent: the name of the stage that it continues; None for the first.
        inputs: the settings that it reads, as plain data. Keys at null are left out of the name, so that a key that is
            added later, with null as its default, leaves old names as they are.
        compute: returns the result, from the checkpoint if there is one.
    """

    kind: str
    parent: str | None
    inputs: Mapping[str, Any]
    compute: Callable[[Work], State] = field(compare=False, repr=False)

    @property
    def name(self) -> str:
        """SHA-256 of the canonical JSON of all the above; its first 32 hexadecimal digits."""
        return name_of(self.canonical())

    def canonical(self) -> bytes:
        """Return canonical JSON: sorted keys, no spaces, no nulls, no NaN."""
        content = {"format": FORMAT, "kind": self.kind, "parent": self.parent, "inputs": self.inputs}
        return json.dumps(_without_nulls(content), sort_keys=True, separators=(",", ":")).encode()


def name_of(canonical: bytes) -> str:
    """Return the name of the stage that a canonical JSON describes."""
    return hashlib.sha256(canonical).hexdigest()[:NAME_LENGTH]


def _without_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, (list, tuple)) else value
