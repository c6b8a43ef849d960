"""What to prune: one strategy a file.

A strategy is one function `strategy(parameters, amount, *, scores=None)` that tightens the masks of
(module, name) pairs in place: exactly round(amount · n) of the n still unpruned units go, and masks never grow.
"""

from __future__ import annotations

import functools
import time
import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import prune as torch_prune

from prunelab.config import build as building
from prunelab.config.schema import ConfigError
from prunelab.pruning import masks, skipping
from prunelab.pruning.criteria import base as criteria
from prunelab.pruning.criteria.base import Scores
from prunelab.pruning.masks import Parameters

Strategy = Callable[..., None]
# What a strategy may ask for by its signature; it gets them when it is called.
GIVEN: dict[str, object] = {"scores": None, "names": [], "layers": {}, "loss": None}


def prune(
    model: nn.Module,
    parameters: Parameters,
    strategy: Strategy,
    amount: float | None,
    score: Callable[[], Scores] | None = None,
    iterations: int = 1,
    loss: Callable[[], float] | None = None,
) -> float:
    """Lets the strategy tighten the masks once; a tensor about to lose its last weight keeps it.

    Args:
        strategy: called as `strategy(parameters, amount)`, and with `scores` if there is a criterion, or with `layers`
            and `loss` if it asks for them.
        score: a criterion, bound to the model.
        iterations: score and prune so many times, in equal ratios, to reach `amount` (Tanaka et al. 2020, alg. 1).
        loss: of the network as it is now.

    Returns:
        The milliseconds that pruning took, scoring included.

    Raises:
        RuntimeError: if a mask grew.
    """
    before = {m.name: m.mask.bool().clone() for m in masks.masked(model)}
    masks.refresh(model)
    start = time.perf_counter()
    if building.takes(strategy, "layers"):
        strategy = functools.partial(strategy, layers=skipping.marked(model), loss=loss)
    if score is None:
        with torch.no_grad():
            strategy(parameters, amount)
    else:
        _in_iterations(model, parameters, strategy, amount, score, iterations)
    milliseconds = (time.perf_counter() - start) * 1000
    whole = {id(part) for module in skipping.skipped(model) for part in model.get_submodule(module).modules()}
    for item in masks.masked(model):
        old = before.get(item.name, torch.ones_like(item.mask, dtype=torch.bool))
        if (item.mask.bool() & ~old).any():
            raise RuntimeError(f"{item.name}: the strategy revived pruned weights; masks may only shrink")
        if not item.mask.any() and old.any() and id(item.module) not in whole:
            best = torch.where(old, item.original.detach().abs(), -1.0).argmax()
            item.mask.view(-1)[best] = 1
    asked = {item.name for item in masks.masked_of(model, parameters)}
    for name, unit in masks.last_units(model, before):
        if name not in asked:
            continue  # a bias that goes with its channel
        warnings.warn(f"{name} is down to its last {unit}, which stays: without it the layer is dead", stacklevel=2)
    masks.refresh(model)
    return milliseconds


def _in_iterations(
    model: nn.Module,
    parameters: Parameters,
    strategy: Strategy,
    amount: float | None,
    score: Callable[[], Scores],
    iterations: int,
) -> None:
    """Each iteration prunes from where the round began, so that its count is exact; what went goes again first."""
    before = masks.snapshot(model)[1]
    for step in range(1, iterations + 1):
        scores = score()
        if step > 1:
            scores = criteria.above_zero(scores, [criteria.mask(module, name) for module, name in parameters])
            masks.put_back(model, before)
        with torch.no_grad():
            strategy(parameters, amount if step == iterations else _part(amount, step / iterations), scores=scores)
        masks.refresh(model)


def _part(amount: float | None, share: float) -> float | None:
    return None if amount is None else 1 - (1 - amount) ** share


def unpruned(module: nn.Module, name: str) -> int:
    """How many weights the mask still lets through."""
    return int(criteria.mask(module, name).sum())


def count(amount: float | None, units: int) -> int:
    """How many of the `units` still there go: round(amount · units), but never the last one.

    Raises:
        ConfigError: for an amount that is null, where the strategy does not decide by itself.
    """
    return min(round(_fraction(amount) * units), max(units - 1, 0))


def counts(amount: float | None, units: Tensor) -> Tensor:
    """`count` for each of many rankings at once: whole numbers, of the shape and on the device of `units`."""
    exact = units.cpu().double()  # torch.round goes to the even neighbour of a half, as Python's does
    goes = torch.minimum(torch.round(_fraction(amount) * exact), (exact - 1).clamp(min=0))
    return goes.long().to(units.device)


def smallest(scores: Scores, alive: Sequence[Tensor], amount: float | None) -> list[Tensor]:
    """Which units go: of the n living ones of all tensors, in one ranking, the round(amount · n) with the least scores.

    No tensor loses its last unit: its best one is ranked above all others, so that the count stays exact.

    Args:
        scores: of the units, ≥ 0 and finite, all on one device.
        alive: bool, of the scores' shapes: the units that are not gone yet.

    Returns:
        Tensors of bool, of the scores' shapes: True where a unit goes.
    """
    ranked = criteria.ranks(scores)
    total = sum(rank.numel() for rank in ranked)
    for rank, living in zip(ranked, alive, strict=True):
        rank.view(-1)[(rank * living).argmax()] += total
    left = sum(int(living.sum()) for living in alive)
    goes = min(count(amount, left), left - sum(bool(living.any()) for living in alive))
    pairs = zip(ranked, alive, strict=True)
    places = torch.cat([rank.masked_fill(~living, torch.inf).flatten() for rank, living in pairs])
    gone = torch.zeros_like(places, dtype=torch.bool)
    gone[places.argsort()[: max(goes, 0)]] = True
    parts = gone.split([score.numel() for score in scores])
    return [part.view(score.shape) for part, score in zip(parts, scores, strict=True)]


def channels(mask: Tensor, dim: int) -> Tensor:
    """Which channels along `dim` still have a weight: bool, [mask.shape[dim]]."""
    return mask.bool().transpose(0, dim).flatten(1).any(1)


def per_channel(values: Tensor, dim: int, shape: torch.Size) -> Tensor:
    """One value for each channel along `dim`, spread over a tensor of that shape."""
    return values.view([-1 if d == dim else 1 for d in range(len(shape))]).expand(shape).contiguous()


def is_transposed(module: nn.Module) -> bool:
    """Whether it is a transposed convolution, whose weight is [in, out, …] and not [out, in, …]."""
    return isinstance(module, nn.modules.conv._ConvTransposeNd)


def prune_biases(module: nn.Module, name: str) -> None:
    """Prunes the biases of the output channels that are gone: such a channel would go on emitting its bias."""
    if name == "weight" and not is_transposed(module) and isinstance(getattr(module, "bias", None), Tensor):
        torch_prune.custom_from_mask(module, "bias", channels(criteria.mask(module, name), 0))


def check_choice(key: str, value: object, choices: Sequence[str]) -> None:
    """Raises ConfigError for a value that is none of the choices."""
    if value not in choices:
        raise ConfigError(f"{key}={value}: must be {' or '.join(choices)}")


def check_whole(key: str, value: object) -> None:
    """Raises ConfigError for what is no whole number ≥ 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(f"{key}={value}: must be a whole number ≥ 1")


def check_matrix(key: str, value: object, module: nn.Module, name: str) -> None:
    """Raises ConfigError for a tensor with fewer than two dimensions, which has neither rows nor channels."""
    shape = list(criteria.original(module, name).shape)
    if len(shape) < 2:
        kind = type(module).__name__
        raise ConfigError(f"{key}={value}: {name} of {kind} has shape {shape}; must have 2 dimensions or more")


def check_null(amount: float | None, strategy: str) -> None:
    """Raises ConfigError for an amount that is given to a strategy which decides by itself."""
    if amount is not None:
        raise ConfigError(f"amount={amount}: {strategy} decides by itself how much goes; must be null")


def _fraction(amount: float | None) -> float:
    if amount is None:
        raise ConfigError("amount=null: this strategy needs a fraction in [0, 1)")
    return amount
