"""The rules of `strategy.rules`: how tensors are pruned that are not all pruned alike."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from prunelab.config.allow_list import locate
from prunelab.config.check import plain
from prunelab.config.component import Component, bind
from prunelab.config.compose import compose_raw
from prunelab.config.conf_folder import choices
from prunelab.config.source import source_digest
from prunelab.config.spec import RuleSpec
from prunelab.config.unknown_key import hint, moved, nearest, unknown_key
from prunelab.errors import ConfigError

AXES = ("granularity", "allocation")
OWN = ("match", "method", "amount", *AXES)  # the other keys of a rule are options of its axes
Node = Mapping[str, Any]
Nodes = dict[str, Node]  # of the two axes
EXAMPLE = "{match: Conv2d, granularity: channel, allocation: local, amount: 0.2}"


def rule_specs(rules: Sequence[Any], axes: Nodes, amount: float | None, trusted: Sequence[str]) -> tuple[RuleSpec, ...]:
    """Return the rules, checked.

    Args:
        rules: mappings with these keys, and any option of the two axes:
            match: a type such as `Conv2d`, or a pattern over tensors' names such as `fc*.weight`.
            granularity, allocation: choices of `conf/`; default: the experiment's.
            method: the name of a preset, whose axes are taken; or the dotted name of a pruning method of the user's.
            amount: fraction in [0, 1), or null for an allocation that sets its own sparsity; default: the round's.
        axes: the groups `granularity` and `allocation` of the experiment.
        amount: of the experiment; null if all rules have one of their own.
        trusted: packages that methods may come from.

    Raises:
        ConfigError: for an unknown key, choice or method; for an amount out of range, or one that no rule uses.
    """
    found = tuple(_rule(f"strategy.rules[{i}]", rule, axes, trusted) for i, rule in enumerate(rules))
    if amount is not None and found and not any(rule.round_amount for rule in found):
        raise ConfigError(f"amount={amount}: every one of strategy.rules has an amount of its own; must be null")
    return found


def method_component(key: str, dotted: str, trusted: Sequence[str]) -> Component:
    """Return a pruning method, or a function that scores a weight, as a component without options.

    Raises:
        ConfigError: if it is neither.
    """
    from torch.nn.utils import prune

    try:
        target = locate(dotted, "strategy.method", trusted)
    except ConfigError as error:
        raise ConfigError(f"{key}{str(error).removeprefix('strategy.method')}") from error
    if inspect.isclass(target) and not issubclass(target, prune.BasePruningMethod):
        raise ConfigError(f"{key}={dotted}: must be a prune.BasePruningMethod or a function score(weight)")
    return Component("strategy", dotted, target, {}, source_digest(target))


def _rule(key: str, rule: Any, axes: Nodes, trusted: Sequence[str]) -> RuleSpec:
    if not isinstance(rule, Mapping) or not isinstance(rule.get("match"), str):
        raise ConfigError(f"{key}={rule}: must have the key match, such as {EXAMPLE}")
    own = rule.get("amount")
    if own is not None and (isinstance(own, bool) or not isinstance(own, (int, float)) or not 0 <= own < 1):
        raise ConfigError(f"{key}.amount={own}: must be a fraction in [0, 1), or null")
    method = rule.get("method")
    if method is not None and not isinstance(method, str):
        raise ConfigError(f"{key}.method={method}: must be the name of a preset, or a dotted name")
    dotted = method is not None and "." in method
    nodes = dict(axes) if method is None or dotted else _preset_axes(f"{key}.method", method)
    for axis in AXES:
        if rule.get(axis) is not None:
            nodes[axis] = _choice(f"{key}.{axis}", axis, rule[axis])
    options = {name: value for name, value in rule.items() if name not in OWN}
    parts = [_bound(key, axis, nodes[axis], options, trusted) for axis in AXES]
    for name, value in options.items():  # what neither axis takes
        takes = [option for axis in AXES for option in _options(axis, nodes[axis], trusted)]
        if name not in takes:
            said = moved(f"strategy.{name}", value)
            renamed = said and said.replace("strategy.", f"{key}.", 1)
            raise ConfigError(renamed or unknown_key(f"{key}.{name}", value, [*takes, *OWN]))
    component = method_component(f"{key}.method", str(method), trusted) if dotted else None
    return RuleSpec(rule["match"], parts[0], parts[1], own, "amount" not in rule, component)


def _bound(key: str, axis: str, node: Node, options: Node, trusted: Sequence[str]) -> Component:
    takes = _options(axis, node, trusted)
    mine = {name: value for name, value in options.items() if name in takes}
    component = bind(axis, {**node, **mine}, trusted)
    try:
        component()
    except ConfigError as error:  # says granularity.n=…
        raise ConfigError(f"{key}.{str(error).removeprefix(f'{axis}.')}") from error
    return component


def _options(axis: str, node: Node, trusted: Sequence[str]) -> list[str]:
    return list(inspect.signature(locate(node["_target_"], f"{axis}._target_", trusted)).parameters)


def _choice(key: str, axis: str, name: object) -> Node:
    """The keys of a choice of `conf/`."""
    there = choices(axis)
    if name not in there:
        raise ConfigError(f"{key}={name}: must be {', '.join(there)}{hint(nearest(str(name), there))}")
    node: Node = plain(compose_raw(f"{axis}={name}"))[axis]
    return node


def _preset_axes(key: str, name: str) -> Nodes:
    """The axes that a preset of `conf/strategy` chooses.

    Raises:
        ConfigError: for a preset that is more than its axes.
    """
    there = choices("strategy")
    if name not in there:
        near = hint(nearest(name, there))
        raise ConfigError(f"{key}={name}: there is no such preset, there are {', '.join(there)}{near}")
    chosen, base = plain(compose_raw(f"strategy={name}")), plain(compose_raw("strategy=global"))
    other = [part for part in chosen if part not in (*AXES, "strategy", "prune", "amount", "schedule", "compact")]
    differs = [part for part in other if chosen[part] != base[part]]
    more = [option for option in ("method", "rules", "layers") if chosen["strategy"][option]]
    if differs or more:
        said = ", ".join([*differs, *(f"strategy.{option}" for option in more)])
        raise ConfigError(f"{key}={name}: this preset sets {said}, which no rule can; use the axes, such as {EXAMPLE}")
    return {axis: chosen[axis] for axis in AXES}
