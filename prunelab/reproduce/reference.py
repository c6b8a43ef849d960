"""The published results that presets reproduce: the `reference` block of each file in conf/experiment/papers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prunelab.config.conf_folder import choices, content
from prunelab.errors import ConfigError

GROUP = "experiment/papers"


@dataclass(frozen=True)
class Point:
    """A network of an experiment: the jobs of the sweep that have these overrides, and the round.

    Attributes:
        when: overrides of the jobs, seeds apart; empty: all jobs.
        round: `last`, a number; or `best` or `worst`: the pruned round of the highest or lowest validation accuracy.
    """

    when: tuple[str, ...] = ()
    round: str = "last"


@dataclass(frozen=True)
class Value:
    """One published number, or one claim.

    Attributes:
        name: what it is, a few words.
        point: the network whose test error is measured.
        against: another network; measured is its test error minus that of `point`, pair by pair of the same seed.
        published: test error, or difference, in percentage points; None for a claim.
        spread: as published, in percentage points.
        n: number of published runs.
        kept: percentage of the weights that the published network keeps, where the method decides it, not a setting.
        more_than: for a claim: the difference is larger than this.
        goal: whether `published` is a goal of this project instead, which is reached at or below it.
        known: what is known about a deviation.
    """

    name: str
    point: Point
    against: Point | None = None
    published: float | None = None
    spread: float | None = None
    n: int | None = None
    kept: float | None = None
    more_than: float | None = None
    goal: bool = False
    known: str = ""


@dataclass(frozen=True)
class Reference:
    """The published result of one preset.

    Attributes:
        paper: authors, year, title.
        arxiv: number; empty if there is none.
        where: table or figure.
        claim: one sentence.
        selected: how the paper chose the network that it reports.
        choice: the column of `rounds.csv` with the accuracy by that choice, `best_test_accuracy` or
            `early_stop_accuracy`; None: it is the last epoch's, or not known.
        note: where recipe, paper and the paper's code differ.
        minutes: time of one seed, all jobs, on one thread of a quiet CPU core.
        quick: overrides of `--quick`.
        values: what is compared.
    """

    paper: str
    arxiv: str
    where: str
    claim: str
    selected: str
    note: str
    minutes: float
    quick: tuple[str, ...]
    values: tuple[Value, ...]
    choice: str | None = None


def presets() -> list[str]:
    """Return the names of the presets."""
    return choices(GROUP)


def reference(name: str) -> Reference:
    """Return the published result of a preset; ConfigError if there is none, or its file has another form."""
    if name not in presets():
        raise ConfigError(f"{name}: there is no such preset; must be one of {', '.join(presets())}")
    block = content(GROUP, name).get("reference") or {}
    try:
        values = tuple(_value(value) for value in block["values"])
        return Reference(**{**block, "quick": tuple(block["quick"]), "values": values})
    except (KeyError, TypeError) as error:
        raise ConfigError(f"conf/{GROUP}/{name}.yaml: reference: {error}") from error


def _point(node: Mapping[str, Any]) -> Point:
    return Point(tuple(node.get("when", ())), str(node.get("round", "last")))


def _value(node: Mapping[str, Any]) -> Value:
    against = _point(node["against"]) if "against" in node else None
    own = {key: item for key, item in node.items() if key not in ("when", "round", "against")}
    return Value(point=_point(node), against=against, **own)
