"""The search space, in the language of the command line: what is fixed, and what each trial chooses. No optuna here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from hydra.errors import HydraException

from prunelab.config import compose as composing
from prunelab.config import messages
from prunelab.config.schema import ConfigError

if TYPE_CHECKING:
    from optuna import Trial

# What is searched where no key is left free: the dense network is the same in all of it, and is trained once.
DEFAULT = (
    "strategy=choice(l1,global,lamp,erk)",
    "amount=interval(0.1,0.9)",
    "schedule.rounds=range(1,6)",
    "finetune.epochs=range(1,4)",
)


@dataclass(frozen=True)
class Free:
    """A key that trials choose: one of `choices`, or else a number from `low` to `high`, both included."""

    key: str
    choices: tuple[str, ...] = ()
    low: float = 0
    high: float = 0
    step: float | None = None
    log: bool = False
    whole: bool = False

    def suggest(self, trial: Trial) -> str:
        """The override of one trial. Four digits are enough of a fraction, and can be read and typed again."""
        if self.choices:
            return f"{self.key}={trial.suggest_categorical(self.key, self.choices)}"
        if self.whole:
            low, high, step = int(self.low), int(self.high), int(self.step or 1)
            return f"{self.key}={trial.suggest_int(self.key, low, high, step=step, log=self.log)}"
        value = trial.suggest_float(self.key, self.low, self.high, step=self.step, log=self.log)
        return f"{self.key}={value:.4g}"


class Space(NamedTuple):
    """The overrides that all trials share, and the keys that they choose."""

    fixed: list[str]
    free: list[Free]


def parse(overrides: Sequence[str]) -> Space:
    """Tells what is fixed from what is free; without anything free, as much of `DEFAULT` as fits.

    Args:
        overrides: as for a sweep of Hydra's: `amount=interval(0.1,0.9)`, `strategy=l1,global`, `seed=range(5)`.

    Raises:
        ConfigError: for one that Hydra cannot parse, for an empty range, for keys of Hydra's own, and where nothing is
            free.
    """
    space = _parse(overrides)
    if space.free:
        return space
    composing.compose(*space.fixed)  # whatever is wrong with it is wrong with every trial
    keys = {item.lstrip("+~").partition("=")[0] for item in space.fixed}
    (_, default) = _parse(DEFAULT)
    free = [free for free in default if free.key not in keys and _fits(free, space.fixed)]
    if not free:
        raise ConfigError(f"{' '.join(space.fixed)}: leaves nothing to search; amount=interval(0.1,0.9) would")
    return Space(space.fixed, free)


def _fits(free: Free, fixed: list[str]) -> bool:
    """Whether the key may vary beside what is fixed: `schedule=one_shot` has but one round."""
    last = free.choices[-1] if free.choices else int(free.high) if free.whole else free.high
    try:
        composing.compose(*fixed, f"{free.key}={last}")
    except ConfigError:
        return False
    return True


def _parse(overrides: Sequence[str]) -> Space:
    hydra = GlobalHydra.instance()
    outer, hydra.hydra = hydra.hydra, None
    try:
        with initialize_config_dir(str(composing.folder()), version_base="1.3"):
            parsed = OverridesParser.create(hydra.config_loader()).parse_overrides(list(overrides))
            return _divide(parsed)
    except HydraException as error:
        raise ConfigError(messages.explain(error, overrides, composing.compose_raw)) from error
    finally:
        hydra.hydra = outer


def _divide(parsed: Sequence[Override]) -> Space:
    space = Space([], [])
    for override in parsed:
        if override.is_hydra_override():
            why = "a search starts its own jobs; for more at once run it in several processes"
            raise ConfigError(f"{override.input_line}: {why}")
        if override.is_sweep_override():
            space.free.append(_free(override))
        else:
            space.fixed.append(str(override.input_line))
    return space


def _free(override: Override) -> Free:
    key, value = override.get_key_element(), override.value()
    log = "log" in getattr(value, "tags", ())
    if isinstance(value, IntervalSweep):
        if value.start is None or value.end is None or not value.start < value.end:
            raise ConfigError(f"{override.input_line}: must go from a number to a larger one")
        whole = isinstance(value.start, int) and isinstance(value.end, int)  # int(interval(1,6))
        free = Free(key, low=value.start, high=value.end, log=log, whole=whole)
    elif override.is_range_sweep():
        values = sorted(float(str(item)) for item in override.sweep_iterator())  # range(1,6): 1 … 5, as in a sweep
        if not values:
            raise ConfigError(f"{override.input_line}: holds no value")
        step = round(values[1] - values[0], 12) if len(values) > 1 and not log else None
        whole = all(item.is_integer() for item in values)
        free = Free(key, low=values[0], high=values[-1], step=step, log=log, whole=whole)
    else:
        choices = tuple(override.sweep_string_iterator())
        if not choices:
            raise ConfigError(f"{override.input_line}: holds no value")
        return Free(key, choices)
    if log and free.low <= 0:
        raise ConfigError(f"{override.input_line}: tag(log, …) must start above 0")
    return free
