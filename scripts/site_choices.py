"""What the site says about a choice such as `criterion=snip`, from its docstring, its YAML file and the schema."""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from omegaconf import OmegaConf
from site_markdown import Docstring, parse

from prunelab.config import conf_folder
from prunelab.config.conf_folder import choices as names_of
from prunelab.config.conf_folder import folder
from prunelab.config.keys import Key, shared
from prunelab.config.schema import OPTIONAL, REQUIRED, keys
from prunelab.records import flat
from prunelab.training import callbacks
from prunelab.training.callbacks.base import Callback

AXES = ("criterion", "granularity", "allocation", "schedule")


@dataclass(frozen=True)
class Choice:
    """A choice of a group of the config, or a callback that only keys switch on (group `callback`).

    Attributes:
        group: such as `criterion`.
        name: such as `snip`.
        target: the class or function; None for a strategy.
        own: the keys of its group that its file sets, dotted, with their values.
        presets: what its file chooses and sets elsewhere.
        comments: the comments of its file: "" is that at its head, the others by key.
    """

    group: str
    name: str
    target: Any = None
    own: dict[str, Any] = field(default_factory=dict)
    presets: dict[str, Any] = field(default_factory=dict)
    comments: dict[str, str] = field(default_factory=dict)

    @property
    def docstring(self) -> Docstring:
        """Its docstring; for a strategy the comment at the head of its file."""
        if self.target is None:
            return parse(self.comments.get("", ""))
        if self.target.__module__.partition(".")[0] in ("torch", "torchvision"):  # their pages say what they do
            return Docstring([f"`{self.target.__module__.removesuffix('.' + self.name)}.{self.target.__name__}`"])
        return parse(inspect.getdoc(self.target) or "")

    @property
    def summary(self) -> str:
        """One line: that of its module, of itself, or of the comment at the head of its file."""
        if self.target is not None:
            module = importlib.import_module(self.target.__module__)
            if module.__name__.rpartition(".")[2].rstrip("_") == self.name:
                return (module.__doc__ or "").strip().split("\n")[0]
        return (self.docstring.body or [self.name])[0].split("\n")[0]

    def example(self) -> str:
        """Return the command that makes this choice; empty for a callback."""
        if self.group == "callback":
            return ""
        needed = [f"{key}={0.8}" for key, said in self.comments.items() if said.endswith("must be given")]
        return " ".join(["prunelab", f"{self.group}={self.name}", *needed])

    def call(self) -> str:
        """Return how Python makes this choice; empty where there is only the command."""
        if self.group in AXES[:3]:
            return f'prunelab.Pruner(model, {self.group}="{self.name}")'
        if self.group == "schedule":
            return f"prunelab.schedules.{self.name}{_without_types(inspect.signature(self.target))}"
        return ""

    def is_chosen_by(self, group: str, name: str) -> bool:
        """Return whether a file of the config chooses this by name or by target."""
        dotted = f"{self.target.__module__}.{self.target.__qualname__}" if self.target is not None else ""
        return bool({(self.group, self.name), ("_target_", dotted)} & _chosen(group, name))


@functools.cache
def _chosen(group: str, name: str) -> frozenset[tuple[str, str]]:
    """Return (group, choice) of the defaults list and of the rules of a file, and ("_target_", dotted name)."""
    values = flat(content(group, name))
    rules = [(str(key), str(value)) for rule in values.get("strategy.rules") or [] for key, value in rule.items()]
    targets = [("_target_", str(value)) for key, value in values.items() if key.endswith("._target_")]
    return frozenset([*_defaults(group, name), *rules, *targets])


def _without_types(signature: inspect.Signature) -> str:
    plain = [one.replace(annotation=inspect.Parameter.empty) for one in signature.parameters.values()]
    return str(signature.replace(parameters=plain, return_annotation=inspect.Signature.empty)).replace("'", '"')


content = functools.cache(conf_folder.content)


@functools.cache
def choices() -> tuple[Choice, ...]:
    """Return all choices: one for each file of the config's groups, and the callbacks that no file chooses."""
    chosen = [_of_file(group, name) for group in (*REQUIRED, "strategy", *OPTIONAL) for name in names_of(group)]
    targets = [one.target for one in chosen]
    others = [Choice("callback", _name(kind), kind) for kind in _callbacks() if kind not in targets]
    return (*chosen, *others)


def _of_file(group: str, name: str) -> Choice:
    text = (folder() / group / f"{name}.yaml").read_text("utf-8")
    whole = dict(content(group, name))
    own = {f"{group}.{key}": value for key, value in (whole.pop(group, None) or {}).items()}
    dotted = own.pop(f"{group}._target_", None)
    if group == "strategy":
        own.pop("strategy.name", None)
    set_elsewhere = {key: _typed(value) for key, value in flat(whole).items()}
    presets = {**dict(_defaults(group, name)), **set_elsewhere}
    return Choice(group, name, _find(dotted), own, presets, _comments(group, text))


def _defaults(group: str, name: str) -> Iterator[tuple[str, str]]:
    """Yield (group, choice) of the defaults list of a file, and of the files that it starts from."""
    for one in OmegaConf.load(folder() / group / f"{name}.yaml").get("defaults", []):
        if isinstance(one, str) and one != "_self_":
            yield from _of_parent(group, one)
        elif not isinstance(one, str):
            for key, value in one.items():
                yield str(key).rpartition("/")[2], str(value)


def _of_parent(group: str, name: str) -> Iterator[tuple[str, str]]:
    yield from _defaults(group, name)
    whole = {key: value for key, value in content(group, name).items() if key != group}
    yield from ((key, _typed(value)) for key, value in flat(whole).items())


def _comments(group: str, text: str) -> dict[str, str]:
    """Return the comments of a YAML file: at its head, and behind each key."""
    head = re.match(r"(?:# @package \S+\n)?((?:#(?! @).*\n)*)", text)
    found = {"": "\n".join(line.lstrip("# ") for line in head[1].splitlines())} if head else {}
    found[""] = found.get("", "").replace("\nUse ", "\n\nUse ").replace("\nSource: ", "\n\nSource: ")
    inside = "" if f"\n{group}:" in text or "# @package _global_" in text else f"{group}."
    for line in re.finditer(r"^(?P<indent> *)(?P<key>\w+):.*?# (?P<said>.*)$", text, re.M):
        prefix = inside if not line["indent"] else f"{group}." if f"\n{group}:" in text else inside
        found[f"{prefix}{line['key']}"] = line["said"]
    return found


def _find(dotted: str | None) -> Any:
    """Return the class or function of a dotted name, which may be a method of a class."""
    if dotted is None:
        return None
    module, _, name = dotted.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError:
        return getattr(_find(module), name)


def _callbacks() -> list[type[Callback]]:
    """Return the callbacks that ship, without the base classes of others."""
    kinds: list[type[Callback]] = []
    for info in pkgutil.iter_modules(callbacks.__path__):
        module = importlib.import_module(f"{callbacks.__name__}.{info.name}")
        own = [value for value in vars(module).values() if getattr(value, "__module__", "") == module.__name__]
        kinds += [value for value in own if inspect.isclass(value) and issubclass(value, Callback)]
    return [kind for kind in kinds if not kind.__subclasses__() and kind is not Callback]


def _name(kind: type) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", kind.__name__).lower()


def keys_of(one: Choice) -> Iterator[tuple[str, str, str]]:
    """Yield (key, default, meaning) of what a choice has: its options, or the keys that its docstring names."""
    said, schema = one.docstring.arguments, {key.name: key for key in keys()}
    for name, value in one.own.items():
        meaning = said.get(name.rpartition(".")[2]) or one.comments.get(name, "")
        yield (f"`{name}`", f"`{_typed(value)}`", _meaning(schema[name]) if name in schema else meaning)
    if one.group == "callback":
        text = inspect.getdoc(one.target) or ""
        yield from (_row(key) for key in schema.values() if f"`{key.name}`" in text)


def keys_of_group(group: str) -> Iterator[tuple[str, str, str]]:
    """Yield the same of the keys that every choice of a group has."""
    yield from (
        _row(key) for key in keys() if key.name.startswith(f"{group}.") and key.name.partition(".")[2] in shared(group)
    )


def _row(key: Key) -> tuple[str, str, str]:
    return f"`{key.name}`", f"`{_typed(key.default)}`", _meaning(key)


def _meaning(key: Key) -> str:
    return f"{key.meaning} ({key.allowed})"


def _typed(value: Any) -> str:
    """Return a value as one types it on the command line."""
    words = {None: "null", True: "true", False: "false"}
    return words[value] if value is None or isinstance(value, bool) else str(value)
