"""Which choices go together: each combination that means nothing is refused with one sentence."""

import inspect
from collections.abc import Sequence

from prunelab.config.component import Component
from prunelab.config.rounds import rounds
from prunelab.config.spec import RuleSpec, Spec
from prunelab.errors import ConfigError
from prunelab.pruning.allocation.global_ import Global
from prunelab.pruning.allocation.local import Local
from prunelab.pruning.allocation.row import Row
from prunelab.pruning.criteria.magnitude import magnitude
from prunelab.pruning.custom import check_method
from prunelab.pruning.granularity.channel import Channel
from prunelab.pruning.granularity.weight import Weight
from prunelab.pruning.reconstruction import check_units
from prunelab.pruning.units import Allocation, Granularity

Amounts = dict[str, "float | None"]  # by how a message quotes them


def check_combination(spec: Spec) -> None:
    """Raise ConfigError where granularity, allocation, criterion, strategy and amounts mean nothing together."""
    strategy = spec.strategy
    if strategy.layers:
        why = "strategy=layer removes whole layers"
        _must(isinstance(spec.granularity(), Weight), spec.granularity, why, "weight")
        _must(spec.allocation.target is Local, spec.allocation, why, "local")
    elif not strategy.rules:
        _check_cell(spec.granularity, spec.allocation, strategy.method, _amounts(spec))
    if strategy.rules:
        _check_rules(strategy.rules, _amounts(spec))
    if spec.reconstruct is not None:
        _check_reconstruction(spec)
    if strategy.layers or all(way.method is not None for way in strategy.rules or [strategy]):
        given = f"criterion.iterations={spec.iterations}" if spec.iterations > 1 else ""
        if spec.criterion.target is not magnitude:
            given = f"criterion={spec.criterion.choice}"
        if given:
            raise ConfigError(f"{given}: strategy={strategy.name} does not accept a criterion")


def _check_rules(rules: Sequence[RuleSpec], amounts: Amounts) -> None:
    unused = next((given for given, amount in amounts.items() if amount is not None), None)
    if unused and not any(rule.round_amount for rule in rules):
        why = "every one of strategy.rules has an amount of its own"
        raise ConfigError(f"{unused}: {why}; must be schedule=one_shot amount=null")
    for i, rule in enumerate(rules):
        own = amounts if rule.round_amount else {f"amount={rule.amount}": rule.amount}
        try:
            _check_cell(rule.granularity, rule.allocation, rule.method, own)
        except ConfigError as error:
            raise ConfigError(f"strategy.rules[{i}] ({rule.match}): {error}") from error


def _check_reconstruction(spec: Spec) -> None:
    given, layers = f"reconstruct={spec.reconstruct}", f"strategy={spec.strategy.name}"
    if spec.layers:
        raise ConfigError(f"{given}: {layers} removes whole layers, and leaves no weights to update; must be null")
    if spec.rewind is not None:
        raise ConfigError(f"{given}: rewind={spec.rewind} would undo the update; one of the two must be null")
    if spec.macs is not None:
        raise ConfigError(f"{given}: schedule.macs={spec.macs} searches by many prunings; must be null")
    for part in [rule.granularity for rule in spec.strategy.rules] or [spec.granularity]:
        check_units(part())


def _must(fits: bool, part: Component, why: str, allowed: str) -> None:
    if not fits:
        raise ConfigError(f"{part.part}={part.choice}: {why}; must be {allowed}")


def _amounts(spec: Spec) -> Amounts:
    """Return the amounts of all steps of all rounds; a target of multiply-adds is searched for by amounts, too."""
    found = [0.5 if planned.macs else amount for planned in rounds(spec) for amount in planned.amounts]
    given = f"schedule={spec.schedule.choice}"
    return {given if spec.amount is None else f"amount={amount}": amount for amount in found}


def _check_cell(granularity: Component, allocation: Component, method: Component | None, amounts: Amounts) -> None:
    unit, share = granularity(), allocation()
    for part, made, kind in ((granularity, unit, Granularity), (allocation, share, Allocation)):
        if not isinstance(made, kind):
            raise ConfigError(f"{part}: must be a subclass of prunelab.pruning.units.{kind.__name__}")
    if method is not None and inspect.isclass(method.target):  # of torch's kind: decides on tensors of weights itself
        name = f"strategy.method={method.name}"
        _must(isinstance(unit, Weight), granularity, f"{name} decides on single weights", "weight")
        _must(allocation.target in (Local, Global), allocation, f"{name} decides itself", "local or global")
        for amount in amounts.values():
            check_method(method.target, amount, together=allocation.target is Global)  # type: ignore[arg-type]
        return
    assert isinstance(share, Allocation)
    why = f"allocation={allocation.choice} prunes single weights"
    _must(not share.needs_weights or isinstance(unit, Weight), granularity, why, "weight")
    why = f"allocation={allocation.choice} ranks the units of one output"
    _must(not (isinstance(share, Row) and isinstance(unit, Channel)), granularity, why, "weight, block or kernel")
    for given, amount in amounts.items():
        if share.sets_amount and amount is not None:
            raise ConfigError(f"{given}: allocation={allocation.choice} sets its own sparsity; amount must be null")
        if not share.sets_amount and amount is None:
            raise ConfigError(f"amount=null: allocation={allocation.choice} needs a fraction in [0, 1)")
