"""The user's own pruning methods: a `torch.nn.utils.prune.BasePruningMethod`, or a function that scores a tensor."""

import inspect
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from prunelab.errors import ConfigError
from prunelab.pruning.criteria.base import Evidence, Score, Scores
from prunelab.pruning.masks import MaskedTensor

Method = type[prune.BasePruningMethod]


class EverySecond(prune.BasePruningMethod):
    """Prune every second weight, the classic teaching example.

    Args:
        amount: fraction in [0, 1); 0.5 prunes every second weight, 0.25 every fourth: round(amount · n) of n, evenly
            spaced.
    """

    PRUNING_TYPE = "unstructured"

    def __init__(self, amount: float = 0.5) -> None:
        self.amount = amount

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        """Return the mask for `t`: of n positions k are pruned, those i at which ⌈(i+1)·k/n⌉ > ⌈i·k/n⌉."""
        n = t.numel()
        steps = -(-torch.arange(n + 1, device=t.device) * round(self.amount * n) // max(n, 1))  # [n + 1]
        mask = default_mask.clone()
        mask.view(-1)[steps[1:] > steps[:-1]] = 0
        return mask


def score_each(function: Callable[[Tensor], Tensor], name: str) -> Score:
    """Return a criterion from a function, called `name`, from a weight tensor to scores ≥ 0 of the same shape."""

    def criterion(evidence: Evidence) -> Scores:
        scores = [function(value) for value in evidence.values]
        for score, value in zip(scores, evidence.values, strict=True):
            if not isinstance(score, Tensor) or score.shape != value.shape:
                raise ConfigError(
                    f"strategy.method={name}: must return one score for each weight, of the weight's shape"
                )
        return scores

    return criterion


def check_method(method: Method, amount: float | None, *, together: bool) -> None:
    """Raise ConfigError if a pruning method does not take the amount, or cannot prune several tensors together."""
    name = method.__qualname__
    takes = "amount" in inspect.signature(method.__init__).parameters
    if takes != (amount is not None):
        need = "needs a fraction in [0, 1)" if takes else "sets its own sparsity; amount must be null"
        raise ConfigError(f"amount={'null' if amount is None else amount}: strategy.method={name} {need}")
    try:
        method(**_keywords(amount))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"strategy.method={name}: {error}") from error
    if together and getattr(method, "PRUNING_TYPE", "") != "unstructured":
        raise ConfigError(f"strategy.method={name}: allocation=global needs an unstructured pruning method")


def masks_of(method: Method, items: Sequence[MaskedTensor], amount: float | None, *, together: bool) -> list[Tensor]:
    """Return the masks, bool, that a pruning method computes; a tensor never loses its last weight.

    Args:
        amount: fraction in [0, 1) of the unpruned weights; None for a method that takes no amount.
        together: whether all tensors are pruned as one long vector, as in `prune.global_unstructured`.
    """
    holders = [_holder(item) for item in items]
    if together:
        prune.global_unstructured([(h, "weight") for h in holders], pruning_method=method, **_keywords(amount))
    else:
        for holder in holders:
            method.apply(holder, "weight", **_keywords(amount))
    return [_with_a_last_weight(item, holder) for item, holder in zip(items, holders, strict=True)]


def _holder(item: MaskedTensor) -> nn.Module:
    """Return a module with nothing but the weight and its mask."""
    holder = nn.Module()
    holder.register_parameter("weight", nn.Parameter(item.parameter.detach().clone()))
    prune.custom_from_mask(holder, "weight", item.mask)
    return holder


def _with_a_last_weight(item: MaskedTensor, holder: nn.Module) -> Tensor:
    mask = holder.get_buffer("weight_mask") != 0
    if bool((mask & ~item.kept).any()):
        raise RuntimeError(f"{item.name}: the pruning method revived pruned weights; masks may only lose weights")
    if not mask.any() and item.kept.any():
        mask.view(-1)[torch.where(item.kept, item.parameter.detach().abs(), -1.0).argmax()] = True
    return mask


def _keywords(amount: float | None) -> dict[str, float]:
    return {} if amount is None else {"amount": float(amount)}
