"""Building the pruner of an experiment from its spec."""

import functools
import inspect
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from prunelab.config.component import Component
from prunelab.config.spec import RuleSpec, Spec
from prunelab.pruning.criteria.base import Score
from prunelab.pruning.custom import score_each
from prunelab.pruning.pruner import Pruner
from prunelab.pruning.rules import ROUND, Rule


def pruner_of(spec: Spec, model: nn.Module, initial: Mapping[str, Tensor], example: Tensor | None) -> Pruner:
    """Return the pruner that a spec describes, of a model with its initial weights.

    Args:
        example: an input [1, …] of any content; None if its shape is unknown.
    """
    return Pruner(
        model,
        granularity=spec.granularity(),
        allocation=spec.allocation(),
        include=spec.selection.include,
        exclude=spec.selection.exclude,
        output_layer=spec.selection.output_layer,
        example=example,
        iterations=spec.iterations,
        rules=[_rule(rule) for rule in spec.strategy.rules],
        adopt_zeros=False,  # of the bench, which knows the masks in a file
        initial=initial,
        seed=spec.seed,
        **({"criterion": criterion(spec.criterion)} | _decision(spec.strategy.method)),
    )


def criterion(part: Component) -> Score:
    """Return the criterion that the config names, with its options."""
    if inspect.isclass(part.target):
        return part()
    return functools.partial(part.target, **part.options) if part.options else part.target


def _rule(rule: RuleSpec) -> Rule:
    amount = ROUND if rule.round_amount else rule.amount
    return Rule(
        rule.match,
        rule.granularity(),
        rule.allocation(),
        amount,
        factor=1.0 if rule.factor is None else rule.factor,
        **_decision(rule.method),
    )


def _decision(part: Component | None) -> dict[str, Any]:
    """Return a user's pruning method as `method`, or a user's function that scores a weight as `criterion`."""
    if part is None:
        return {}
    if inspect.isclass(part.target):
        return {"method": part.target}
    return {"criterion": score_each(part.target, part.name)}
