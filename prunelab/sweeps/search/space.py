"""The search space, given as overrides: those that hold for all trials, and the keys that each trial chooses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override

from prunelab.config import compose as composing
from prunelab.config.allow_list import KEYS, check_name
from prunelab.config.foreign import root
from prunelab.errors import ConfigError, one_line

if TYPE_CHECKING:
    from optuna import Trial

# The space if no override is free. All its trials have the same dense network, which is trained once.
DEFAULT = (
    "strategy=choice(l1,global,lamp,erk)",
    "amount=interval(0.1,0.9)",
    "schedule.rounds=range(1,6)",
    "finetune.epochs=range(1,4)",
)
HERE = ("trusted", "outputs")


@dataclass(frozen=True)
class Free:
    """A key that each trial chooses: one of `choices`, or, without those, a number in [low, high]."""

    key: str
    choices: tuple[str, ...] = ()
    low: float = 0
    high: float = 0
    step: float | None = None
    log: bool = False
    whole: bool = False

    def suggest(self, trial: Trial) -> str:
        """Return the override for a trial. A fraction has four significant digits, so that it can be typed again.

        Raises ConfigError if the study's database has a value of another kind for the key.
        """
        try:
            if self.choices:
                return f"{self.key}={trial.suggest_categorical(self.key, self.choices)}"
            if self.whole:
                low, high, step = int(self.low), int(self.high), int(self.step or 1)
                return f"{self.key}={trial.suggest_int(self.key, low, high, step=step, log=self.log)}"
            value = trial.suggest_float(self.key, self.low, self.high, step=self.step, log=self.log)
        except ValueError as error:
            raise ConfigError(f"{self.key}: the study has values of another kind: {one_line(error)}") from error
        return f"{self.key}={value:.4g}"


@dataclass(frozen=True)
class Space:
    """The overrides that hold for all trials, and the keys that each trial chooses."""

    fixed: list[str]
    free: list[Free]


def split(overrides: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the overrides that only this command line may say, `trusted` and `outputs`; and those of the study.

    What these name is trusted, since the user typed it.
    """
    overrides = composing.typed(overrides)
    here = [item for item in overrides if root(item) in HERE]
    return here, [item for item in overrides if item not in here]


def stored(overrides: Sequence[str], here: Sequence[str]) -> list[str]:
    """Return the overrides that a study's database has, which anybody may have written.

    Raises ConfigError for one that is more than a key and its value, or names a class or function that `here`, the
    first list of `split`, does not trust.
    """
    trusted = composing.compose_raw(*here).trusted
    for item in overrides:
        key, _, value = item.lstrip("+~").partition("=")
        if key.strip() in KEYS:
            check_name(value.strip("' \""), key.strip(), trusted)
        if root(item) == "hydra" or "@" in item or "${" in item:
            raise ConfigError(f"{item}: is in the database of the study; only the command line may say it")
    return list(overrides)


def parse(overrides: Sequence[str], here: Sequence[str] = ()) -> Space:
    """Return the space that overrides describe. If none is free, keys of `DEFAULT` that fit the others are.

    Args:
        overrides: as for Hydra's sweeps: `amount=interval(0.1,0.9)`, `strategy=l1,global`, `seed=range(5)`.
        here: the first list of `split`, which holds for all trials, too.

    Raises ConfigError for what Hydra cannot parse, an empty range, a key of Hydra's own, and if no key is free.
    """
    space = _parse([*here, *overrides])
    if space.free:
        return space
    composing.compose_checked(*space.fixed)  # an error here would be an error of every trial
    keys = {item.lstrip("+~").partition("=")[0] for item in space.fixed}
    free = [free for free in _parse(DEFAULT).free if free.key not in keys and _fits(free, space.fixed)]
    if not free:
        raise ConfigError(f"{' '.join(space.fixed)}: leaves nothing to search; amount=interval(0.1,0.9) would")
    return Space(space.fixed, free)


def _fits(free: Free, fixed: list[str]) -> bool:
    """Whether the key may vary with these overrides: under `schedule=one_shot`, `schedule.rounds` may not."""
    last = free.choices[-1] if free.choices else int(free.high) if free.whole else free.high
    try:
        composing.compose_checked(*fixed, f"{free.key}={last}")
    except ConfigError:
        return False
    return True


def _parse(overrides: Sequence[str]) -> Space:
    space = Space([], [])
    with composing.explained(overrides), composing.own_hydra() as loader:
        for override in OverridesParser.create(loader).parse_overrides(list(overrides)):
            if root(str(override.input_line)) == "hydra":
                why = "a search runs its own trials; to run several at once, start it in several processes"
                raise ConfigError(f"{override.input_line}: {why}")
            if override.is_sweep_override():
                space.free.append(_free(override))
            else:
                space.fixed.append(str(override.input_line))
    return space


def _free(override: Override) -> Free:
    key, value = override.get_key_element(), override.value()
    log = "log" in getattr(value, "tags", ())
    if override.is_discrete_sweep() and not list(override.sweep_string_iterator()):
        raise ConfigError(f"{override.input_line}: holds no value")
    if isinstance(value, IntervalSweep):
        if value.start is None or value.end is None or not value.start < value.end:
            raise ConfigError(f"{override.input_line}: must be an interval from a number to a larger one")
        whole = isinstance(value.start, int) and isinstance(value.end, int)  # int(interval(1,6))
        free = Free(key, low=value.start, high=value.end, log=log, whole=whole)
    elif override.is_range_sweep():
        values = sorted(float(str(item)) for item in override.sweep_iterator())  # range(1,6): 1 … 5, as in a sweep
        step = round(values[1] - values[0], 12) if len(values) > 1 and not log else None
        whole = all(item.is_integer() for item in values)
        free = Free(key, low=values[0], high=values[-1], step=step, log=log, whole=whole)
    else:
        return Free(key, tuple(override.sweep_string_iterator()))
    if log and free.low <= 0:
        raise ConfigError(f"{override.input_line}: tag(log, …) must start above 0")
    return free
