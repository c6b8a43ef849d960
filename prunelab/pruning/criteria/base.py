"""How important is a weight: one criterion a file, scores ≥ 0; and their ranks, which decide ties.

A criterion is one function `criterion(evidence, **options)` that returns a score ≥ 0 for each prunable weight; the
smallest go. It may do what it likes with `evidence.model`: that is a copy.

torch's pruning functions use `torch.topk`, whose choice among equal scores differs by device, size and version. They
take `importance_scores`; given *ranks* instead of scores they prune the same weights wherever they run: of equal
scores, the one that stands first in the tensor goes first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from prunelab.config.schema import ConfigError
from prunelab.pruning import masks
from prunelab.pruning.masks import Parameters

Scores = Sequence[Tensor]
Batch = tuple[Tensor, Tensor]
Criterion = TypeVar("Criterion", bound=Callable[..., list[Tensor]])


@dataclass(frozen=True)
class Evidence:
    """What a criterion may look at. The lists go with the prunable tensors, in their order, and have their shapes.

    Attributes:
        model: a copy in eval mode that is thrown away: plain parameters, zero where they are pruned.
        weights: the prunable parameters of that copy.
        masks: bool, False where a weight is pruned already.
        initial: the weights that the network began with, before any training.
        movement: Σ −∂L/∂w · w over the steps of training since the last pruning; None unless the criterion asked for it
            (`watches`), or if there was no training.
        batches: `batches(examples)` gives so many examples of the training split, drawn by (seed, round), in batches of
            inputs and labels. Test and validation data are never among them.
        shape: of one example, without the batch dimension.
    """

    model: nn.Module
    weights: Sequence[nn.Parameter]
    masks: Sequence[Tensor]
    initial: Sequence[Tensor]
    movement: Sequence[Tensor] | None
    batches: Callable[[int], Iterable[Batch]]
    shape: Sequence[int]


def gather(
    model: nn.Module,
    names: Sequence[str],
    initial: Mapping[str, Tensor],
    movement: Mapping[str, Tensor],
    batches: Callable[[int], Iterable[Batch]],
    shape: Sequence[int],
) -> Evidence:
    """The evidence on the tensors `names` of a masked model, as it is now. See `Evidence`."""
    copy = masks.plain_copy(model).eval()
    weights = dict(copy.named_parameters())
    kept = {item.name: item.mask.bool() for item in masks.masked(model)}
    found = [weights[name] for name in names]

    def listed(tensors: Mapping[str, Tensor]) -> list[Tensor]:
        return [tensors[name].to(weight.device) for name, weight in zip(names, found, strict=True)]

    moved = listed(movement) if movement else None
    return Evidence(copy, found, [kept[name] for name in names], listed(initial), moved, batches, shape)


def original(module: nn.Module, name: str) -> Tensor:
    """The tensor that the optimizer moves: `weight_orig` under a mask, else `weight`."""
    return getattr(module, f"{name}_orig", getattr(module, name)).detach()


def mask(module: nn.Module, name: str) -> Tensor:
    """The mask, or ones where there is none; the tensor's shape."""
    existing = getattr(module, f"{name}_mask", None)
    return torch.ones_like(original(module, name)) if existing is None else existing


def magnitudes(parameters: Parameters) -> list[Tensor]:
    """|w| of each tensor: what a strategy goes by when it is given no scores."""
    return [original(module, name).abs() for module, name in parameters]


def norms(weight: Tensor, n: float, dim: int) -> Tensor:
    """The Lₙ norm of each channel along `dim`, [weight.shape[dim]]. Source: Li et al. 2017, arXiv 1608.08710."""
    return torch.linalg.vector_norm(weight.transpose(0, dim).flatten(1).double().cpu(), ord=n, dim=1)


def ranks(scores: Scores) -> list[Tensor]:
    """The place, from 1, of each score in one common order, smallest first; of equals, the first comes first.

    Args:
        scores: tensors of any shapes, all ≥ 0 and finite.

    Returns:
        Tensors of the same shapes, on the same devices; float32 while that counts exactly, else float64.

    Raises:
        ValueError: for a negative, infinite or NaN score. (torch would keep a NaN and say nothing.)
    """
    flat = torch.cat([score.detach().flatten() for score in scores])
    if not (torch.isfinite(flat).all() and (flat >= 0).all()):
        raise ValueError("scores must be finite and ≥ 0: a weight or a score is NaN, infinite or negative")
    order = torch.sort(flat, stable=True).indices
    place = torch.empty(flat.numel(), dtype=torch.float32 if flat.numel() < 2**23 else torch.float64)
    place[order.cpu()] = torch.arange(1, flat.numel() + 1, dtype=place.dtype)
    parts = place.split([score.numel() for score in scores])
    return [part.view(score.shape).to(score.device) for part, score in zip(parts, scores, strict=True)]


def shifted(scores: Scores) -> list[Tensor]:
    """Scores of any sign made ≥ 0, their order and differences kept: the smallest of all becomes 0."""
    least = min(float(score.min()) for score in scores)
    return [score - least for score in scores]


def above_zero(scores: Scores, masks: Sequence[Tensor]) -> list[Tensor]:
    """The scores, float64, raised by the least positive one; 0 where a mask is, so that what is pruned comes first."""
    positive = [score[score > 0] for score in scores]
    least = min((float(some.min()) for some in positive if some.numel()), default=1.0)
    return [(exact(score) + least) * mask.to(score.device) for score, mask in zip(scores, masks, strict=True)]


def watches(what: str) -> Callable[[Criterion], Criterion]:
    """Marks a criterion that needs something watched during training: its attribute `watches` says what."""

    def mark(criterion: Criterion) -> Criterion:
        vars(criterion)["watches"] = what
        return criterion

    return mark


def exact(tensor: Tensor) -> Tensor:
    """The values in float64, where sums and differences merge no two scores. (MPS has no float64 and keeps its own.)"""
    return tensor.detach() if tensor.device.type == "mps" else tensor.detach().double()


def at_least_one(key: str, value: int) -> int:
    """The value of `criterion.<key>` if it is a whole number ≥ 1.

    Raises:
        ConfigError: if it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(f"criterion.{key}={value}: must be a whole number ≥ 1")
    return value


@contextmanager
def differentiable(model: nn.Module) -> Iterator[None]:
    """In it, gradients of gradients exist, as far as torch has them; torch's flags are put back afterwards.

    cuDNN's RNNs have no gradient in eval mode and no second one anywhere; fused attention has no second one.
    """
    recurrent = any(isinstance(module, nn.RNNBase) for module in model.modules())
    with (
        torch.enable_grad(),
        sdpa_kernel(SDPBackend.MATH),
        torch.backends.cudnn.flags(enabled=False) if recurrent else nullcontext(),
    ):
        yield


def derivative(value: Tensor, weights: Sequence[nn.Parameter], create_graph: bool = False) -> list[Tensor]:
    """∂value/∂w for each tensor, 0 for a frozen or unused one; leaves every `.grad` alone."""
    wanted = [weight for weight in weights if weight.requires_grad]
    if not (wanted and value.requires_grad):
        return [torch.zeros_like(weight) for weight in weights]
    found = torch.autograd.grad(value, wanted, create_graph=create_graph, allow_unused=True, materialize_grads=True)
    slopes = iter(found)
    return [next(slopes) if weight.requires_grad else torch.zeros_like(weight) for weight in weights]


def gradient(evidence: Evidence, batch: Batch, temperature: float = 1.0, create_graph: bool = False) -> list[Tensor]:
    """∂L/∂w, L the batch's mean cross-entropy of logits ÷ temperature. Call it within `differentiable`."""
    inputs, labels = batch
    loss = F.cross_entropy(evidence.model(inputs) / temperature, labels)
    return derivative(loss, evidence.weights, create_graph)


def mean_gradient(evidence: Evidence, examples: int, temperature: float = 1.0) -> list[Tensor]:
    """g = ∂L/∂w, L the mean loss over so many examples, each example counted once; in float64 (`exact`)."""

    def one(batch: Batch) -> list[Tensor]:
        return gradient(evidence, batch, temperature)

    return _mean(evidence, examples, one)


def hessian_product(
    evidence: Evidence, vector: Sequence[Tensor], examples: int, temperature: float = 1.0
) -> list[Tensor]:
    """H v, H the Hessian of the mean loss over so many examples in the prunable weights; in float64 (`exact`).

    Computed as ∂(g·v)/∂w, without H. Source: Pearlmutter 1994, "Fast exact multiplication by the Hessian".

    Args:
        vector: v, a tensor for each weight, of its shape.

    Raises:
        ConfigError: if torch has no second derivative of a part of the network.
    """

    def one(batch: Batch) -> list[Tensor]:
        slopes = gradient(evidence, batch, temperature, create_graph=True)
        along = torch.stack([(slope * v.to(slope)).sum() for slope, v in zip(slopes, vector, strict=True)]).sum()
        return derivative(along, evidence.weights)

    try:
        return _mean(evidence, examples, one)
    except RuntimeError as error:
        if "derivative" not in str(error) or "not implemented" not in str(error):
            raise
        kinds = sorted({type(module).__name__ for module in evidence.model.modules()})
        raise ConfigError(
            f"this criterion needs second derivatives, which torch lacks for a module of the network, one of "
            f"{', '.join(kinds)}: {str(error).splitlines()[0]}"
        ) from error


def _mean(evidence: Evidence, examples: int, one: Callable[[Batch], list[Tensor]]) -> list[Tensor]:
    """The mean over examples of what `one` gives as a batch's mean: the last batch may be smaller."""
    totals = [torch.zeros_like(exact(weight)) for weight in evidence.weights]
    count = 0
    with differentiable(evidence.model):
        for batch in evidence.batches(at_least_one("examples", examples)):
            size = len(batch[1])
            for total, part in zip(totals, one(batch), strict=True):
                total += exact(part) * size
            count += size
    return [total / count for total in totals]
