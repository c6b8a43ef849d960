"""Which choices go together: each combination that means nothing is refused with one sentence."""

from __future__ import annotations

import inspect

from prunelab.config.component import Component
from prunelab.config.rounds import rounds
from prunelab.config.spec import Spec
from prunelab.errors import ConfigError
from prunelab.pruning.allocation.global_ import Global
from prunelab.pruning.allocation.local import Local
from prunelab.pruning.allocation.row import Row
from prunelab.pruning.criteria.magnitude import magnitude
from prunelab.pruning.custom import check_method
from prunelab.pruning.granularity.channel import Channel
from prunelab.pruning.granularity.weight import Weight
from prunelab.pruning.units import Allocation, Granularity

Amounts = dict[str, "float | None"]  # by how a message quotes them


def check_combination(spec: Spec) -> None:
    """Check granularity, allocation, criterion, strategy and amounts against each other.

    Raises:
        ConfigError: for a combination that means nothing.
    """
    if spec.strategy.layers:
        _check_layers(spec)
        return
    if spec.strategy.rules:
        for i, rule in enumerate(spec.strategy.rules):
            own = _amounts(spec) if rule.round_amount else {f"amount={rule.amount}": rule.amount}
            try:
                _check_cell(rule.granularity, rule.allocation, rule.method, own)
            except ConfigError as error:
                raise ConfigError(f"strategy.rules[{i}] ({rule.match}): {error}") from error
        by_method = all(rule.method is not None for rule in spec.strategy.rules)
    else:
        _check_cell(spec.granularity, spec.allocation, spec.strategy.method, _amounts(spec))
        by_method = spec.strategy.method is not None
    if by_method:
        _check_no_criterion(spec)


def _amounts(spec: Spec) -> Amounts:
    """The amounts of all steps of all rounds; a target of multiply-adds is searched for by amounts, too."""
    found = [0.5 if planned.macs else amount for planned in rounds(spec) for amount in planned.amounts]
    if spec.amount is None:
        return {f"schedule={spec.schedule.choice}": amount for amount in found}
    return {f"amount={amount}": amount for amount in found}


def _check_cell(granularity: Component, allocation: Component, method: Component | None, amounts: Amounts) -> None:
    unit, share = granularity(), allocation()
    if not isinstance(unit, Granularity):
        raise ConfigError(f"{granularity}: must be a subclass of prunelab.pruning.units.Granularity")
    if not isinstance(share, Allocation):
        raise ConfigError(f"{allocation}: must be a subclass of prunelab.pruning.units.Allocation")
    if method is not None and inspect.isclass(method.target):
        _check_method(granularity, allocation, method, amounts)
        return
    if share.needs_weights and not isinstance(unit, Weight):
        raise ConfigError(
            f"granularity={granularity.choice}: allocation={allocation.choice} prunes single weights; must be weight"
        )
    if isinstance(share, Row) and isinstance(unit, Channel):
        raise ConfigError(
            "granularity=channel: allocation=row ranks the units of one output; must be weight, block or kernel"
        )
    for given, amount in amounts.items():
        if share.sets_amount and amount is not None:
            raise ConfigError(f"{given}: allocation={allocation.choice} sets its own sparsity; amount must be null")
        if not share.sets_amount and amount is None:
            raise ConfigError(f"amount=null: allocation={allocation.choice} needs a fraction in [0, 1)")


def _check_method(granularity: Component, allocation: Component, method: Component, amounts: Amounts) -> None:
    """A pruning method of torch's kind decides on single weights, of one tensor or of all tensors together."""
    if not issubclass(granularity.target, Weight):  # type: ignore[arg-type]
        raise ConfigError(
            f"granularity={granularity.choice}: strategy.method={method.name} decides on single weights; must be weight"
        )
    if allocation.target not in (Local, Global):
        raise ConfigError(
            f"allocation={allocation.choice}: strategy.method={method.name} decides itself; must be local or global"
        )
    for amount in amounts.values():
        check_method(method.target, amount, together=allocation.target is Global)  # type: ignore[arg-type]


def _check_layers(spec: Spec) -> None:
    if not issubclass(spec.granularity.target, Weight):  # type: ignore[arg-type]
        raise ConfigError(f"granularity={spec.granularity.choice}: strategy=layer removes whole layers; must be weight")
    if spec.allocation.target is not Local:
        raise ConfigError(f"allocation={spec.allocation.choice}: strategy=layer removes whole layers; must be local")
    _check_no_criterion(spec)


def _check_no_criterion(spec: Spec) -> None:
    if spec.criterion.target is not magnitude or spec.iterations > 1:
        given = f"criterion={spec.criterion.choice}"
        if spec.criterion.target is magnitude:
            given = f"criterion.iterations={spec.iterations}"
        raise ConfigError(f"{given}: strategy={spec.strategy.name} does not accept a criterion")
