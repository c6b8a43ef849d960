"""A class or function that the config names by `_target_`, with its options, checked against its signature."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from prunelab.errors import ConfigError


@dataclass(frozen=True)
class Component:
    """A part of an experiment: what to call, and with which keyword arguments.

    Attributes:
        part: the config group, such as `criterion`.
        name: the dotted name, such as `prunelab.pruning.criteria.taylor.taylor`.
        target: the class or function.
        options: keyword arguments that the config sets; a key at null is left to the target's own default.
        source: SHA-256 of the user's source files that the target comes from; None for prunelab's and torch's own.
    """

    part: str
    name: str
    target: Callable[..., Any] = field(compare=False)
    options: Mapping[str, Any]
    source: str | None = None

    def __call__(self, *args: Any, **given: Any) -> Any:
        """Call the target with the options; keyword arguments in `given` that it does not take are left out.

        Raises:
            ConfigError: for a ValueError that the target raises; names the key, or else the target.
        """
        takes = inspect.signature(self.target).parameters
        any_keyword = any(p.kind is p.VAR_KEYWORD for p in takes.values())
        more = {key: value for key, value in given.items() if key in takes or any_keyword}
        try:
            return self.target(*args, **{**more, **self.options})
        except ConfigError:
            raise
        except ValueError as error:
            said = " ".join(str(error).split())
            raise ConfigError(said if said.startswith(f"{self.part}.") else f"{self}: {said}") from error

    def __str__(self) -> str:
        return f"{self.part}._target_={self.name}"

    def takes(self, keyword: str) -> bool:
        """Return whether the target has a parameter of that name."""
        return keyword in inspect.signature(self.target).parameters

    @property
    def identity(self) -> dict[str, Any]:
        """What names a stage: the target, all its options with their defaults, and the digest of its source."""
        defaults = {
            p.name: p.default
            for p in inspect.signature(self.target).parameters.values()
            if p.default is not p.empty and isinstance(p.default, (str, int, float, bool, list, tuple))
        }
        return {"_target_": self.name, **defaults, **self.options, "source": self.source}
