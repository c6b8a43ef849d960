"""Yours: a `prune.BasePruningMethod`, or a function that scores a weight, by dotted name."""

from __future__ import annotations

import inspect

import torch
from torch import Tensor
from torch.nn.utils import prune

from prunelab.config import build as building
from prunelab.config.schema import ConfigError
from prunelab.pruning.criteria import base as criteria
from prunelab.pruning.masks import Parameters
from prunelab.pruning.strategies.global_unstructured import global_unstructured
from prunelab.pruning.strategies.l1 import l1


class EverySecond(prune.BasePruningMethod):
    """The classic teaching example: of the weights in their order, every second one goes.

    Args:
        amount: fraction in [0, 1); 0.5 is every second, 0.25 every fourth: round(amount · n) of n, evenly spaced.
    """

    PRUNING_TYPE = "unstructured"

    def __init__(self, amount: float = 0.5) -> None:
        self.amount = amount

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        """The mask for `t` of any shape: of n positions k go, those i at which ⌈(i+1)·k/n⌉ > ⌈i·k/n⌉."""
        n = t.numel()
        steps = -(-torch.arange(n + 1, device=t.device) * round(self.amount * n) // max(n, 1))  # [n + 1]
        mask = default_mask.clone()
        mask.view(-1)[steps[1:] > steps[:-1]] = 0
        return mask


def custom(
    parameters: Parameters, amount: float | None, *, method: str, scope: str = "local", trusted: tuple[str, ...] = ()
) -> None:
    """Prunes by a method of yours.

    Args:
        amount: fraction in [0, 1) of the unpruned weights, handed to `method`. None for a pruning method that takes no
            `amount` and decides by itself how much goes.
        method: dotted name of a `prune.BasePruningMethod` subclass, or of a function `score(weight) -> Tensor` that
            returns a score ≥ 0 for each weight, in its shape; the smallest go.
        scope: `local` (tensor by tensor) or `global` (one ranking over all).
        trusted: packages that `method` may come from.

    Raises:
        ConfigError: for a method that does not exist or does not fit.
    """
    if scope not in ("local", "global"):
        raise ConfigError(f"strategy.scope={scope}: must be local or global")
    target = building.locate(method, "strategy.method", trusted)
    if inspect.isclass(target):
        _apply(target, method, parameters, amount, scope)
        return
    if amount is None:
        raise ConfigError(f"amount=null: strategy.method={method} scores weights; amount must be in [0, 1)")
    scores = [target(criteria.original(module, name)) for module, name in parameters]
    for (module, name), score in zip(parameters, scores, strict=True):
        if not isinstance(score, Tensor) or score.shape != criteria.original(module, name).shape:
            raise ConfigError(f"strategy.method={method}: must return one score for each weight, in the weight's shape")
    (l1 if scope == "local" else global_unstructured)(parameters, amount, scores=scores)


def _apply(target: type, method: str, parameters: Parameters, amount: float | None, scope: str) -> None:
    if not issubclass(target, prune.BasePruningMethod):
        raise ConfigError(f"strategy.method={method}: must be a prune.BasePruningMethod or a function score(weight)")
    takes = inspect.signature(target.__init__).parameters
    if ("amount" in takes) != (amount is not None):
        need = (
            "needs an amount in [0, 1)" if "amount" in takes else "takes no amount and decides by itself: amount=null"
        )
        raise ConfigError(f"amount={'null' if amount is None else amount}: strategy.method={method} {need}")
    keywords = {} if amount is None else {"amount": float(amount)}
    try:
        target(**keywords)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"strategy.method={method}: {error}") from error
    if scope == "global" and getattr(target, "PRUNING_TYPE", "") != "unstructured":
        raise ConfigError(f"strategy.method={method}: scope=global needs an unstructured pruning method")
    if scope == "global":
        prune.global_unstructured(parameters, pruning_method=target, **keywords)
        return
    for module, name in parameters:
        target.apply(module, name, **keywords)
