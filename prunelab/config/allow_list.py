"""Which classes and functions the config may name by dotted names: those in `conf/`, and what the user trusts."""

import functools
import pkgutil
import re
import sys
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from prunelab.config.conf_folder import folder
from prunelab.errors import ConfigError
from prunelab.runtime.user_code import describe

# The keys that name a class or function. Their first part is the folder in `conf/`.
KEYS = (
    *(f"{part}._target_" for part in ("data", "model", "criterion", "granularity", "allocation", "schedule")),
    *(f"{part}._target_" for part in ("optimizer", "lr_schedule", "regularizer", "sparse_training")),
    "strategy.method",
)
OPTIMIZERS = ("Adadelta", "Adagrad", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "RMSprop", "Rprop", "SGD")
METHODS = ("Identity", "L1Unstructured", "LnStructured", "RandomStructured", "RandomUnstructured")
TORCH = {  # of torch, beside those that `conf/` names
    "optimizer._target_": tuple(f"torch.optim.{name}" for name in OPTIMIZERS),
    "strategy.method": tuple(f"torch.nn.utils.prune.{name}" for name in METHODS),
}
# What stands for the object that `prunelab.run(config, data=…, model=…)` is given, where the config has null.
LIVE = {"data": "prunelab.config.network.no_data", "model": "prunelab.config.network.no_model"}
DOTTED = re.compile(r"\w+(\.\w+)+")
LAYER = re.compile(r"torch\.nn\.[A-Z]\w*")  # a module of torch's is a model: it runs no code but its own


@functools.cache
def registered(key: str) -> frozenset[str]:
    """Return the dotted names that a key may have without trust: those that the files in `conf/` give it."""
    part, _, leaf = key.partition(".")
    text = "\n".join(path.read_text(encoding="utf-8") for path in (folder() / part).glob("*.yaml"))
    return frozenset((*re.findall(rf"^ *{leaf}: *([\w.]+\.\w+)", text, re.MULTILINE), *TORCH.get(key, ())))


def locate(dotted: object, key: str, trusted: Iterable[str] = ()) -> Callable[..., Any]:
    """Return the class or function that a dotted name in the config stands for.

    Args:
        dotted: such as `torch.optim.Adam`.
        key: one of `KEYS`; the key that holds the name.
        trusted: packages of the user's, from which any class or function may come; and whole dotted names.

    Raises:
        ConfigError: if the name may not stand there, or does not exist. Nothing is imported before that check.
    """
    trusted = tuple(trusted)
    name = check_name(dotted, key, trusted)
    try:
        if name not in registered(key):
            _find_in_working_folder(name.split(".")[0])
        target = pkgutil.resolve_name(name)
    except (Exception, SystemExit) as error:
        raise ConfigError(f"{key}={name}: cannot be imported: {describe(error)}") from error
    # `mypackage.net.torch.hub.load` comes from a trusted package, but was defined elsewhere.
    home = f"{getattr(target, '__module__', '')}."
    own = name in (*registered(key), *trusted, LIVE.get(key.split(".")[0])) or home.startswith(_prefixes(trusted))
    if not own and is_allowed(name, key, ()):
        own, trusted = home.startswith("torch.nn.modules."), ("torch.nn.modules",)
    if not callable(target) or not own:
        raise ConfigError(f"{key}={name}: must be a class or function defined in {' or '.join(trusted)}")
    found: Callable[..., Any] = target
    return found


def _find_in_working_folder(package: str) -> None:
    """Put the working folder on `sys.path` if only there is this package of the user's, as with `python -m prunelab`.

    The command `prunelab` runs without it: in a stranger's folder, no file there may stand for an installed package.
    """
    here = str(Path.cwd())
    if here not in sys.path and package not in sys.modules and find_spec(package) is None:
        sys.path.insert(0, here)


def check_name(dotted: object, key: str, trusted: Iterable[str]) -> str:
    """Return a dotted name that a key may have; raise ConfigError for any other."""
    if not isinstance(dotted, str) or not DOTTED.fullmatch(dotted):
        shown = "null" if dotted is None else dotted
        raise ConfigError(f"{key}={shown}: must be a dotted name such as mypackage.MyClass")
    if not is_allowed(dotted, key, trusted):
        package = dotted.split(".")[0]
        trust = f"if you trust {package}, add trusted=[{package}] (prunelab export, compact: --trusted {package})"
        raise ConfigError(f"{key}={dotted}: is none of prunelab's own choices, nor typed by you; {trust}")
    return dotted


def is_allowed(dotted: str, key: str, trusted: Iterable[str]) -> bool:
    """Return whether a key may have a dotted name, as far as is known without importing it."""
    trusted = tuple(trusted)
    layer = key == "model._target_" and LAYER.fullmatch(dotted) is not None
    named = dotted in (*registered(key), *trusted, LIVE.get(key.removesuffix("._target_")))
    return named or layer or dotted.startswith(_prefixes(trusted))


def _prefixes(trusted: Iterable[str]) -> tuple[str, ...]:
    return tuple(f"{name}." for name in trusted)
