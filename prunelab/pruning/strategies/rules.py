"""Several methods in one pruning: each layer by the first rule that matches it."""

from __future__ import annotations

import difflib
import inspect
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

from torch import nn

from prunelab.config import build as building
from prunelab.config.schema import ConfigError, unknown_key
from prunelab.pruning.criteria.base import Scores
from prunelab.pruning.masks import Parameters
from prunelab.pruning.strategies import base as strategies
from prunelab.pruning.strategies.custom import custom

GIVEN = ("scores", "names", "trusted")  # by the laboratory, not by a rule
OURS = ("match", "method", "amount")  # the other keys of a rule are its method's


def rules(
    parameters: Parameters,
    amount: float | None,
    *,
    rules: Sequence[Mapping[str, Any]],
    scores: Scores | None = None,
    names: Sequence[str] = (),
    trusted: tuple[str, ...] = (),
) -> None:
    """Prunes each tensor by the first rule that matches it; a tensor that none matches stays as it is.

    A rule has these keys, and any of its method's own:
        match: a type such as `Conv2d`, or a pattern over tensors' names such as `fc*.weight`.
        method: a strategy (`l1`, `ln_structured`, `global` …), or the dotted name of a strategy function, of a
            `prune.BasePruningMethod`, or of a function `score(weight)`. It sees the tensors of its rule only.
        amount: fraction in [0, 1) for these tensors, or null for a method that decides by itself; without the key the
            round's amount.

    Args:
        amount: of the rules without one. None if all have one.
        rules: at least one.
        scores: one tensor ≥ 0 a parameter, handed to the methods that go by scores.
        names: of the tensors, such as `conv1.weight`; default: without the modules' names.
        trusted: packages that a dotted method may come from.

    Raises:
        ConfigError: for a rule that matches no tensor, or none that the rules before it leave; for an unknown method or
            key; for an amount out of range, or one that no rule uses. It names the rule.
    """
    names = names or [name for _, name in parameters]
    methods = _methods(rules, amount, trusted)
    shares = _shares(parameters, names, rules)
    for i, (rule, method, share) in enumerate(zip(rules, methods, shares, strict=True)):
        takes = inspect.signature(method).parameters
        more: dict[str, Any] = {"names": [names[j] for j in share]} if "names" in takes else {}
        if scores is not None and "scores" in takes:
            more["scores"] = [scores[j] for j in share]
        try:
            method([parameters[j] for j in share], rule.get("amount", amount), **more)
        except ConfigError as error:
            raise ConfigError(f"strategy.rules[{i}] ({rule['match']}: {rule['method']}): {error}") from error


def _shares(parameters: Parameters, names: Sequence[str], rules: Sequence[Mapping[str, Any]]) -> list[list[int]]:
    """For each rule the places of the tensors that it prunes."""
    shares: list[list[int]] = []
    taken: set[int] = set()
    for i, rule in enumerate(rules):
        pairs = zip(parameters, names, strict=True)
        matches = [j for j, ((module, _), name) in enumerate(pairs) if _matches(rule["match"], module, name)]
        if not matches:
            there = ", ".join(f"{name} ({type(m).__name__})" for (m, _), name in zip(parameters, names, strict=True))
            raise ConfigError(f"strategy.rules[{i}].match={rule['match']}: matches nothing; there are {there}")
        if taken.issuperset(matches):
            raise ConfigError(f"strategy.rules[{i}].match={rule['match']}: the rules before it match all that it does")
        shares.append([j for j in matches if j not in taken])
        taken |= set(matches)
    return shares


def _matches(match: str, module: nn.Module, name: str) -> bool:
    return match in {kind.__name__ for kind in type(module).__mro__} or fnmatchcase(name, match)


def _methods(
    rules: Sequence[Mapping[str, Any]], amount: float | None, trusted: tuple[str, ...]
) -> list[Callable[..., None]]:
    if not isinstance(rules, (list, tuple)) or not rules:
        raise ConfigError(f"strategy.rules={rules}: must be a list of rules such as {{match: Conv2d, method: l1}}")
    methods = [_method(f"strategy.rules[{i}]", rule, trusted) for i, rule in enumerate(rules)]
    if amount is not None and all("amount" in rule for rule in rules):
        raise ConfigError(f"amount={amount}: every one of strategy.rules has an amount of its own; must be null")
    return methods


def _method(key: str, rule: Mapping[str, Any], trusted: tuple[str, ...]) -> Callable[..., None]:
    """The rule's method with the rule's own keys bound to it, all checked."""
    if not isinstance(rule, Mapping) or not all(isinstance(rule.get(k), str) for k in ("match", "method")):
        raise ConfigError(f"{key}={rule}: must have the keys match and method, such as {{match: Conv2d, method: l1}}")
    own = rule.get("amount")
    if own is not None and (isinstance(own, bool) or not isinstance(own, (int, float)) or not 0 <= own < 1):
        raise ConfigError(f"{key}.amount={own}: must be a fraction in [0, 1), or null")
    target = _located(f"{key}.method", rule["method"], trusted)
    options = {name: value for name, value in rule.items() if name not in OURS}
    signature = inspect.signature(target)
    if building.takes(target, "layers"):
        raise ConfigError(f"{key}.method={rule['method']}: removes whole layers, not weights of single tensors")
    takes = [p.name for p in list(signature.parameters.values())[2:] if p.name not in GIVEN]
    takes = [name for name in takes if name not in getattr(target, "keywords", {})]
    for name, value in options.items():
        if name not in takes:
            raise ConfigError(unknown_key(f"{key}.{name}", value, [*takes, *OURS]))
    for name in takes:
        if name not in options and signature.parameters[name].default is inspect.Parameter.empty:
            raise ConfigError(f"{key}.{name}=null: must be given; method={rule['method']} has no default for it")
    return partial(target, **options, **({"trusted": trusted} if "trusted" in signature.parameters else {}))


def _located(key: str, method: str, trusted: tuple[str, ...]) -> Callable[..., None]:
    """The strategy that `method` names; a pruning method or a score is wrapped in `custom`."""
    dotted = method
    if "." not in method:
        there = {name: name for _, name, _ in pkgutil.iter_modules(strategies.__path__)}
        there = {name: file for name, file in there.items() if name not in ("custom", "rules")}
        there["global"] = "global_unstructured"
        if method not in there:
            near = difflib.get_close_matches(method, there, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ConfigError(f"{key}={method}: there is no such method, there are {', '.join(sorted(there))}{hint}")
        dotted = f"prunelab.pruning.strategies.base.{there[method]}.{there[method]}"
    try:
        target = building.locate(dotted, "strategy.method", trusted)
    except ConfigError as error:  # says strategy.method=…, the key whose allow-list is asked
        raise ConfigError(f"{key}{str(error).removeprefix('strategy.method')}") from error
    if inspect.isclass(target) or "amount" not in inspect.signature(target).parameters:
        return partial(custom, method=dotted, trusted=trusted)
    return target
