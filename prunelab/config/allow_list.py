"""Which classes and functions the config may name by a dotted name."""

from __future__ import annotations

import pkgutil
import re
from collections.abc import Callable, Iterable
from typing import Any

from prunelab.errors import ConfigError
from prunelab.runtime.user_code import describe

# What these keys may name without the package being declared in `trusted`.
ALLOWED = {
    "data._target_": ("prunelab.data.",),
    "model._target_": ("prunelab.models.", "torchvision.models."),
    "strategy.method": ("prunelab.pruning.custom.", "torch.nn.utils.prune."),
    "criterion._target_": ("prunelab.pruning.criteria.",),
    "granularity._target_": ("prunelab.pruning.granularity.",),
    "allocation._target_": ("prunelab.pruning.allocation.",),
    "schedule._target_": ("prunelab.pruning.schedules.",),
    "optimizer._target_": ("torch.optim.",),
    "lr_schedule._target_": ("prunelab.training.lr_schedules.",),
    "regularizer._target_": ("prunelab.training.callbacks.",),
    "sparse_training._target_": ("prunelab.training.callbacks.",),
}


def locate(dotted: object, key: str, trusted: Iterable[str] = ()) -> Callable[..., Any]:
    """Return the class or function that a dotted name in the config stands for.

    Args:
        dotted: such as `torch.optim.Adam`.
        key: one of `ALLOWED`; the key that holds the name.
        trusted: packages of the user's, beside the allow-list.

    Raises:
        ConfigError: if the name is not on the allow-list, or does not exist. Nothing is imported before that check.
    """
    prefixes = check_name(dotted, key, trusted)
    try:
        target = pkgutil.resolve_name(str(dotted))
    except Exception as error:
        raise ConfigError(f"{key}={dotted}: cannot be imported: {describe(error)}") from error
    # `prunelab.models.lenet.torch.hub.load` has an allowed prefix, but was defined elsewhere.
    if not callable(target) or not f"{getattr(target, '__module__', '')}.".startswith(prefixes):
        raise ConfigError(f"{key}={dotted}: must be a class or function defined in {' or '.join(prefixes)}")
    found: Callable[..., Any] = target
    return found


def check_name(dotted: object, key: str, trusted: Iterable[str]) -> tuple[str, ...]:
    """Return the prefixes that a dotted name may have under a key; raise ConfigError if it has none of them."""
    prefixes = (*ALLOWED[key], *(f"{name}." for name in trusted))
    if not isinstance(dotted, str) or not re.fullmatch(r"\w+(\.\w+)+", dotted):
        shown = "null" if dotted is None else dotted
        raise ConfigError(f"{key}={shown}: must be a dotted name such as mypackage.MyClass")
    if not dotted.startswith(prefixes):
        trust = f"if you trust its package, add trusted=[{dotted.split('.')[0]}]"
        raise ConfigError(f"{key}={dotted}: must be in {' or '.join(prefixes)}; {trust}")
    return prefixes
