"""Building the pruner of an experiment from its spec."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn.utils.prune import BasePruningMethod

from prunelab.config.component import Component
from prunelab.config.spec import RuleSpec, Spec
from prunelab.pruning.custom import score_each
from prunelab.pruning.pruner import Pruner, Score
from prunelab.pruning.rules import ROUND, Rule


def pruner_of(spec: Spec, model: nn.Module, initial: Mapping[str, Tensor], example: Tensor | None) -> Pruner:
    """Return the pruner that a spec describes.

    Args:
        model: to be pruned.
        initial: its weights before any training.
        example: one input, of any content; None if its shape is unknown.
    """
    method = spec.strategy.method
    decides = method is not None and _is_method(method)
    return Pruner(
        model,
        score_each(method.target, method.name) if method is not None and not decides else criterion(spec.criterion),
        spec.granularity(),
        spec.allocation(),
        include=spec.selection.include,
        exclude=spec.selection.exclude,
        output_layer=spec.selection.output_layer,
        example=example,
        iterations=spec.iterations,
        rules=[_rule(rule) for rule in spec.strategy.rules],
        method=method.target if method is not None and decides else None,  # type: ignore[arg-type]
        initial=initial,
        seed=spec.seed,
    )


def criterion(part: Component) -> Score:
    """Return the criterion that the config names, with its options."""
    return part() if inspect.isclass(part.target) else functools.partial(part.target, **part.options)


def _rule(rule: RuleSpec) -> Rule:
    method: Any = None if rule.method is None else rule.method.target
    amount = ROUND if rule.round_amount else rule.amount
    return Rule(rule.match, rule.granularity(), rule.allocation(), amount, method)


def _is_method(part: Component) -> bool:
    return inspect.isclass(part.target) and issubclass(part.target, BasePruningMethod)
