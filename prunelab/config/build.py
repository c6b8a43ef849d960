"""From a dotted name in the config to a class or function: which names are trusted, and what they are called with."""

from __future__ import annotations

import functools
import hashlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from prunelab.config.schema import ConfigError, allowed, unknown_key

if TYPE_CHECKING:
    from torch import nn

# What these keys may name without the package being declared in `trusted`.
TRUSTED = {
    "data._target_": ("prunelab.data.",),
    "model._target_": ("prunelab.models.", "torchvision.models."),
    "strategy._target_": ("prunelab.pruning.strategies.",),
    "strategy.method": ("prunelab.pruning.strategies.", "torch.nn.utils.prune."),
    "criterion._target_": ("prunelab.pruning.criteria.",),
    "schedule._target_": ("prunelab.pruning.schedules.",),
    "optimizer._target_": ("torch.optim.",),
    "lr_schedule._target_": ("prunelab.training.lr_schedules.",),
    "regularizer._target_": ("prunelab.training.callbacks.",),
    "sparse_training._target_": ("prunelab.training.callbacks.",),
}
# Keys of a part that are for the laboratory, not for what `_target_` names.
OURS = {"model": ("checkpoint",), "criterion": ("iterations",), "schedule": ("compression", "macs")}


def locate(dotted: str, key: str, trusted: Iterable[str] = ()) -> Callable[..., Any]:
    """The class or function that a dotted name in the config stands for.

    Args:
        dotted: such as `torch.optim.Adam`.
        key: the key that holds it, one of `TRUSTED`.
        trusted: packages of the user's, beside the allow-list.

    Raises:
        ConfigError: if the name is not on the allow-list, or does not exist. Nothing is imported before that check.
    """
    prefixes = check_trust(dotted, key, trusted)
    try:
        target = pkgutil.resolve_name(dotted)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"{key}={dotted}: cannot be imported ({str(error).splitlines()[0]})") from error
    # `prunelab.models.lenet.torch.hub.load` begins well, but is not prunelab's: ask the object where it was defined.
    if not callable(target) or not f"{getattr(target, '__module__', '')}.".startswith(prefixes):
        raise ConfigError(f"{key}={dotted}: must be a class or function defined in {' or '.join(prefixes)}")
    return target


def check_trust(dotted: str, key: str, trusted: Iterable[str]) -> tuple[str, ...]:
    """The prefixes that `dotted` may have under this key.

    Raises:
        ConfigError: if it has none of them; says how to trust it.
    """
    prefixes = (*TRUSTED[key], *(f"{name}." for name in trusted))
    if not re.fullmatch(r"\w+(\.\w+)+", dotted):
        raise ConfigError(f"{key}={dotted}: must be a dotted name such as mypackage.MyClass")
    if not dotted.startswith(prefixes):
        raise ConfigError(
            f"{key}={dotted}: only what is in {' or '.join(prefixes)} is run; "
            f"if you trust it, say trusted=[{dotted.split('.')[0]}]"
        )
    return prefixes


def arguments(config: DictConfig, part: str) -> dict[str, Any]:
    """The keys of `config.<part>` that its callable gets, as plain data. null stands for the callable's own default."""
    node = OmegaConf.to_container(config[part], resolve=True)
    assert isinstance(node, dict)
    other = ("_target_", *OURS.get(part, ()))
    return {str(key): value for key, value in node.items() if key not in other and value is not None}


def takes(function: Callable[..., Any], keyword: str) -> bool:
    """Whether a callable, bound or not, has a parameter of that name."""
    return keyword in inspect.signature(function).parameters


def bind(
    config: DictConfig,
    part: str,
    *args: object,
    given: Mapping[str, object] | None = None,
    offered: Mapping[str, object] | None = None,
) -> functools.partial[Any]:
    """The callable that `config.<part>._target_` names, with the part's other keys as keyword arguments.

    Args:
        args: stand-ins for the positional arguments it will be called with, to check the signature now.
        given: keyword arguments that it gets if it takes them, and that the config may not set.
        offered: the same, but the config may set them.

    Raises:
        ConfigError: for a key that the callable does not take, or one that it lacks.
    """
    target = locate(config[part].get("_target_"), f"{part}._target_", config.trusted)
    keywords = arguments(config, part)
    signature = inspect.signature(target)
    given = {"trusted": tuple(config.trusted), **(given or {})}  # some look names up themselves
    rest = [p for p in list(signature.parameters.values())[len(args) :] if p.name not in given]
    takes = [p.name for p in rest if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    keywords = {k: v for k, v in (offered or {}).items() if k in takes} | keywords
    for key in () if any(p.kind is p.VAR_KEYWORD for p in rest) else keywords:
        if key not in takes:
            raise ConfigError(unknown_key(f"{part}.{key}", keywords[key], takes))
    for parameter in rest:
        if parameter.name in takes and parameter.name not in keywords and parameter.default is parameter.empty:
            key = f"{part}.{parameter.name}"
            raise ConfigError(f"{key}=null: must be {allowed(key) or 'given'}; {target.__name__} has no default for it")
    keywords |= {k: v for k, v in given.items() if k in signature.parameters}
    try:
        signature.bind(*args, **keywords)
    except TypeError as error:
        raise ConfigError(f"{part}._target_={config[part]._target_}: {error}") from error
    return functools.partial(target, **keywords)


def data_facts(config: DictConfig) -> dict[str, Any]:
    """`shape` of an example and number of `classes`, as far as they are known without loading the data."""
    source = locate(config.data._target_, "data._target_", config.trusted)
    known = {key: config.data.get(key, getattr(source, key, None)) for key in ("shape", "classes")}
    return {key: value for key, value in known.items() if value is not None}


def network(config: DictConfig) -> nn.Module:
    """The model that a config names, with the gates of its regularizer if that has any; no masks. Draws its weights.

    Raises:
        ConfigError: if it cannot be made, or is no torch.nn.Module.
    """
    from torch import nn  # only where torch is loaded anyway: a wrong override must be answered without

    facts = data_facts(config)
    made = called(config, "model", bind(config, "model", offered=facts))
    if not isinstance(made, nn.Module):
        raise ConfigError(f"model._target_={config.model._target_}: must make a torch.nn.Module")
    for part in ("regularizer", "strategy"):  # what they do stays: before anything is copied from the model or loaded
        dotted = str((config.get(part) or {}).get("_target_", ""))
        ours = dotted.startswith("prunelab.")  # a network is loaded without the strategy it was pruned by
        prepare = getattr(locate(dotted, f"{part}._target_"), "prepare", None) if ours else None
        if prepare is not None:
            prepare(made, facts.get("shape"), **arguments(config, part))
    return made


def prepares(prepare: Callable[..., None]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Gives a function of a part `prepare(model, shape, **keywords)`, which `network` calls with each new model."""

    def give(function: Callable[..., Any]) -> Callable[..., Any]:
        vars(function)["prepare"] = prepare
        return function

    return give


def called(config: DictConfig, part: str, bound: functools.partial[Any]) -> Any:
    """What a bound callable gives; what it says of its arguments names the key, or else its target."""
    try:
        return bound()
    except ConfigError:
        raise
    except ValueError as error:
        said = " ".join(str(error).split())
        named = said if said.startswith(f"{part}.") else f"{part}._target_={config[part]._target_}: {said}"
        raise ConfigError(named) from error


def identity(config: DictConfig, part: str) -> dict[str, Any]:
    """What a part of the config is, for a stage's name.

    Arguments that equal the callable's own defaults are left out, so that one added later does not orphan old stages.
    Of code that is neither prunelab's nor torch's, the source file's digest is in it: an edited model is another model.
    Of a checkpoint it is the digest of its content, wherever it lies.
    """
    keys = [key for key in (f"{part}._target_", f"{part}.method") if OmegaConf.select(config, key)]
    targets = {key: locate(OmegaConf.select(config, key), key, config.trusted) for key in keys}
    targets |= _rule_methods(config) if part == "strategy" else {}
    defaults = {p.name: p.default for p in inspect.signature(targets[keys[0]]).parameters.values()}
    given = {k: v for k, v in arguments(config, part).items() if k not in defaults or defaults[k] != v}
    sources = {key: digest for key, target in targets.items() if (digest := _source(target))}
    ours = {key: config[part].get(key) for key in OURS.get(part, ())}
    if ours.get("checkpoint") is not None:
        ours["checkpoint"] = _digest(Path(str(ours["checkpoint"])))
    if ours.get("iterations") == 1:
        ours["iterations"] = None
    ours |= {"source": sources or None}
    return {"_target_": config[part]._target_, **given, **{k: v for k, v in ours.items() if v is not None}}


def _rule_methods(config: DictConfig) -> dict[str, Callable[..., Any]]:
    """The methods that `strategy.rules` give by a dotted name."""
    rules = arguments(config, "strategy").get("rules", [])
    methods = {f"strategy.rules[{i}]": rule.get("method") for i, rule in enumerate(rules) if isinstance(rule, dict)}
    dotted = {key: name for key, name in methods.items() if isinstance(name, str) and "." in name}
    return {key: locate(name, "strategy.method", config.trusted) for key, name in dotted.items()}


def _source(target: Callable[..., Any]) -> str | None:
    """SHA-256 of the file that a user's class or function comes from; None for prunelab's and torch's own."""
    if target.__module__.split(".")[0] in ("prunelab", "torch", "torchvision"):
        return None
    file = inspect.getsourcefile(target)
    return _digest(Path(file)) if file else None


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
