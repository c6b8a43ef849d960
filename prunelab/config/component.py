"""A class or function that the config names by `_target_`, with its options, checked against its signature."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from prunelab.config.allow_list import locate
from prunelab.config.keys import shared
from prunelab.config.schema import allowed
from prunelab.config.source import source_digest
from prunelab.config.unknown_key import unknown_key
from prunelab.errors import ConfigError
from prunelab.runtime.user_code import Part, is_users, user_code

# Positional arguments with which the targets of a part are called: an optimizer with the parameters, for example. A
# criterion may be a function of `Evidence`, or a class without positional arguments.
POSITIONAL = {"optimizer": 1, "lr_schedule": 1, "regularizer": 1, "sparse_training": 1, "criterion": 1}
GIVEN = {
    "schedule": ("amount", "tolerance"),
    "lr_schedule": ("iterations", "per_epoch"),
}  # keyword arguments that prunelab gives, and that the config may not set
OFFERED = {"schedule": ("sparsity",)}  # keyword arguments that prunelab gives, unless the config sets them


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
        """Call the target with the options; keyword arguments in `given` that it does not name are left out.

        Raises:
            ConfigError: for a ValueError that the target raises; names the key, or else the target.
            UserCodeError: for any exception of a user's target.
        """
        takes = inspect.signature(self.target).parameters
        more = {key: value for key, value in given.items() if key in takes}
        try:
            with user_code([self.as_part()] if is_users(self.target) else []):
                return self.target(*args, **{**more, **self.options})
        except ConfigError:
            raise
        except ValueError as error:
            said = " ".join(str(error).split())
            raise ConfigError(said if said.startswith(f"{self.part}.") else f"{self}: {said}") from error

    def __str__(self) -> str:
        return f"{self.part}._target_={self.name}"

    def as_part(self) -> Part:
        """Return the `Part` by which messages about errors in a user's code name this component."""
        return Part(str(self), self.target, model=self.part == "model")

    @property
    def choice(self) -> str:
        """The name of the choice in `conf/`, for messages: `channel`; the dotted name of a user's class or function."""
        return self.name.split(".")[-2].rstrip("_") if self.name.startswith("prunelab.") else self.name

    @property
    def identity(self) -> dict[str, Any]:
        """What names a stage: the target, all its options with their defaults, and the digest of its source."""
        defaults = {
            p.name: p.default
            for p in inspect.signature(self.target).parameters.values()
            if p.default is not p.empty and isinstance(p.default, (str, int, float, bool, list, tuple))
        }
        return {"_target_": self.name, **defaults, **self.options, "source": self.source}


def bind(part: str, node: Mapping[str, Any], trusted: Iterable[str] = (), offered: Iterable[str] = ()) -> Component:
    """Return the component that a group of the config names, its options checked against the target's signature.

    Args:
        part: the group, such as `criterion`.
        node: the group's keys, plain data; null stands for the target's own default.
        trusted: packages of the user's that the target may come from.
        offered: further keyword arguments that the target gets when it is called, unless the config sets them.

    Raises:
        ConfigError: for an option that the target does not take, or one that it lacks.
    """
    target = locate(node.get("_target_"), f"{part}._target_", trusted)
    other = ("_target_", *shared(part))
    options = {key: value for key, value in node.items() if key not in other and value is not None}
    _check_options(part, target, options, {*offered, *OFFERED.get(part, ())})
    return Component(part, str(node["_target_"]), target, options, source_digest(target, node["_target_"]))


def _check_options(part: str, target: Callable[..., Any], options: Mapping[str, Any], offered: set[str]) -> None:
    parameters = list(inspect.signature(target).parameters.values())
    positional = 0 if part == "criterion" and inspect.isclass(target) else POSITIONAL.get(part, 0)
    rest = [p for p in parameters[positional:] if p.name not in GIVEN.get(part, ())]
    takes = {p.name: p for p in rest if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
    for key, value in options.items():
        if key not in takes and not any(p.kind is p.VAR_KEYWORD for p in rest):
            raise ConfigError(unknown_key(f"{part}.{key}", value, takes))
    for name, p in takes.items():
        if p.default is p.empty and name not in options and name not in offered:
            key = f"{part}.{name}"
            raise ConfigError(f"{key}=null: must be {allowed(key) or 'given'}; {target.__name__} has no default for it")
