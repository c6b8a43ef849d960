"""The rules of `strategy.rules`: how tensors are pruned that are not all pruned alike."""

import functools
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from prunelab.config.allow_list import locate
from prunelab.config.check import plain
from prunelab.config.component import Component, bind
from prunelab.config.compose import compose_raw
from prunelab.config.conf_folder import choices
from prunelab.config.keys import Key
from prunelab.config.source import source_digest
from prunelab.config.spec import RuleSpec
from prunelab.config.unknown_key import hint, moved, nearest, unknown_key
from prunelab.errors import ConfigError

AXES = ("granularity", "allocation")
OWN = ("match", "method", "amount", "factor", *AXES)  # the other keys of a rule are options of its axes
Node = Mapping[str, Any]
Nodes = dict[str, Node]  # of the two axes
AMOUNT = Key("amount", "of one rule", "a fraction in [0, 1), or null")
FACTOR = Key("factor", "of the round's amount", "a number in [0, 1]")
EXAMPLE = "{match: Conv2d, granularity: channel, allocation: local, amount: 0.2}"


def rule_specs(rules: Sequence[Any], axes: Nodes, trusted: Sequence[str]) -> tuple[RuleSpec, ...]:
    """Return the rules, checked.

    Args:
        rules: mappings with these keys, and any option of the two axes:
            match: a type such as `Conv2d`, or a pattern over tensors' names such as `fc*.weight`.
            granularity, allocation: choices of `conf/`; default: the experiment's.
            method: the name of a preset, whose axes are taken; or the dotted name of a pruning method of the user's.
            amount: fraction in [0, 1), or null for an allocation that sets its own sparsity; default: the round's.
            factor: in [0, 1], of the round's amount, such as 0.5 for half of it.
        axes: those two groups of the experiment.
        trusted: packages that methods may come from.

    Raises:
        ConfigError: for an unknown key, choice or method; for an amount out of range.
    """
    return tuple(_rule(f"strategy.rules[{i}]", rule, axes, trusted) for i, rule in enumerate(rules))


def method_component(key: str, dotted: str, trusted: Sequence[str]) -> Component:
    """Return a pruning method, or a function that scores a weight, as a component without options."""
    from torch.nn.utils import prune

    try:
        target = locate(dotted, "strategy.method", trusted)
    except ConfigError as error:
        raise ConfigError(f"{key}{str(error).removeprefix('strategy.method')}") from error
    if inspect.isclass(target) and not issubclass(target, prune.BasePruningMethod):
        raise ConfigError(f"{key}={dotted}: must be a prune.BasePruningMethod or a function score(weight)")
    return Component("strategy", dotted, target, {}, source_digest(target, dotted))


def _rule(key: str, rule: Any, axes: Nodes, trusted: Sequence[str]) -> RuleSpec:
    if not isinstance(rule, Mapping) or not isinstance(rule.get("match"), str):
        raise ConfigError(f"{key}={rule}: must have the key match, such as {EXAMPLE}")
    own, method = rule.get("amount"), rule.get("method")
    if own is not None and not AMOUNT.fits(own):
        raise ConfigError(f"{key}.amount={own}: must be {AMOUNT.allowed}")
    factor = rule.get("factor")
    if factor is not None and (not FACTOR.fits(factor) or "amount" in rule):
        raise ConfigError(f"{key}.factor={factor}: must be {FACTOR.allowed}, without an amount beside it")
    if method is not None and not isinstance(method, str):
        raise ConfigError(f"{key}.method={method}: must be the name of a preset, or a dotted name")
    component, nodes = None, dict(axes)
    if method is not None and "." in method:
        component = method_component(f"{key}.method", method, trusted)
    elif method is not None:
        nodes = _preset_axes(f"{key}.method", method)
    nodes |= {axis: _chosen(f"{key}.{axis}", axis, rule[axis])[axis] for axis in AXES if rule.get(axis) is not None}
    options = {name: value for name, value in rule.items() if name not in OWN}
    targets = {axis: locate(node["_target_"], f"{axis}._target_", trusted) for axis, node in nodes.items()}
    takes = {axis: list(inspect.signature(target).parameters) for axis, target in targets.items()}
    for name, value in options.items():
        if not any(name in names for names in takes.values()):
            said = moved(f"strategy.{name}", value)
            known = [*takes["granularity"], *takes["allocation"], *OWN]
            raise ConfigError(
                said.replace("strategy.", f"{key}.", 1) if said else unknown_key(f"{key}.{name}", value, known)
            )
    parts = []
    for axis in AXES:
        mine = {name: value for name, value in options.items() if name in takes[axis]}
        parts.append(bind(axis, {**nodes[axis], **mine}, trusted))
        try:
            parts[-1]()
        except ConfigError as error:  # says granularity.n=…
            raise ConfigError(f"{key}.{str(error).removeprefix(f'{axis}.')}") from error
    return RuleSpec(rule["match"], parts[0], parts[1], own, "amount" not in rule, component, factor)


def _chosen(key: str, group: str, name: object) -> Node:
    """Return the config with this choice of a group of `conf/`."""
    there = choices(group)
    if name not in there:
        said = "there is no such preset, there are" if group == "strategy" else "must be"
        raise ConfigError(f"{key}={name}: {said} {', '.join(there)}{hint(nearest(str(name), there))}")
    return _composed(f"{group}={name}")


@functools.cache
def _composed(choice: str) -> Node:
    return plain(compose_raw(choice))


def _preset_axes(key: str, name: str) -> Nodes:
    """Return the axes that a preset of `conf/strategy` chooses; raise ConfigError if it sets more than axes."""
    chosen, base = _chosen(key, "strategy", name), _composed("strategy=global")
    other = [part for part in chosen if part not in (*AXES, "strategy", "prune", "amount", "schedule", "compact")]
    more = [part for part in other if chosen[part] != base[part]]
    more += [f"strategy.{option}" for option in ("method", "rules", "layers") if chosen["strategy"][option]]
    if more:
        said = f"this preset sets {', '.join(more)}, which no rule can; use the axes, such as {EXAMPLE}"
        raise ConfigError(f"{key}={name}: {said}")
    return {axis: chosen[axis] for axis in AXES}
