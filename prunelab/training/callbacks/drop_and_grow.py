"""Sparse training: now and then the smallest weights of a tensor are dropped, and as many others grown."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional
from torch.optim import Optimizer

from prunelab.config.schema import ConfigError
from prunelab.pruning import masks
from prunelab.pruning.criteria.base import derivative, ranks
from prunelab.pruning.masks import Masked
from prunelab.training.callbacks.base import Phase, check_number
from prunelab.training.loop import Routine


class DropAndGrow(Routine):
    """After every `every` iterations, until `until` of them, moves a share of each tensor's active weights elsewhere.

    Of n active weights (those that the mask lets through), the round(share · n) smallest by |w| are dropped, or as many
    as there are inactive ones; as many of those that were inactive before grow, the ones with the highest `scores`.
    They start at 0, without momentum. So every tensor keeps its number of active weights exactly; a tensor whose mask
    is all ones stays as it is. Masks are moved weight by weight: channels or patterns do not survive it.

    Args:
        every: iterations, ≥ 1.
        until: a fraction in (0, 1] of the phase's iterations; the last ones are for the weights alone.
        fraction: in (0, 1): the share that moves (at first).

    Raises:
        ConfigError: for a value outside its range, or if fine-tuning is too short for even one such step.
    """

    name = "drop_and_grow"

    def __init__(self, phase: Phase, every: int = 100, until: float = 0.75, fraction: float = 0.3) -> None:
        check_number("sparse_training.every", every, "a whole number ≥ 1", lambda x: x >= 1 and x == int(x))
        check_number("sparse_training.until", until, "a fraction in (0, 1]", lambda x: 0 < x <= 1)
        check_number("sparse_training.fraction", fraction, "a fraction in (0, 1)", lambda x: 0 < x < 1)
        self.phase, self.every, self.fraction = phase, every, fraction
        self.end = until * phase.iterations
        if every >= self.end:
            raise ConfigError(
                f"sparse_training.every={every}: sparse_training={self.name} has until={until:g} of "
                f"{phase.iterations} iterations of fine-tuning; must be less than {self.end:g}"
            )

    def share(self, iteration: int) -> float:
        """The share of the active weights that moves after this iteration."""
        return self.fraction

    def scores(self, iteration: int, items: list[Masked]) -> Mapping[str, Tensor]:
        """How much each weight asks to grow, ≥ 0, by the tensors' names."""
        raise NotImplementedError

    @torch.no_grad()
    def after_step(self, iteration: int) -> None:
        """Drops and grows if it is time; masks and weights are in every checkpoint, so nothing else is to keep."""
        if iteration % self.every or iteration >= self.end:
            return
        items = self._sparse()
        found = self.scores(iteration, items)
        for item in items:
            moving = min(round(self.share(iteration) * int(item.mask.sum())), int((item.mask == 0).sum()))
            if torch.isfinite(found[item.name]).all() and torch.isfinite(item.original).all():  # else it has diverged
                drop_and_grow(item, found[item.name], moving, self.phase.optimizer)
        masks.refresh(self.phase.model)

    def _sparse(self) -> list[Masked]:
        items = masks.masked_of(self.phase.model, self.phase.parameters)
        return [item for item in items if not item.mask.all()]


@torch.no_grad()
def drop_and_grow(item: Masked, scores: Tensor, moving: int, optimizer: Optimizer | None) -> None:
    """Drops the `moving` smallest active weights of a tensor and grows as many, those with the highest scores.

    Of equals, the first is dropped, and the last grows.

    Args:
        scores: of the tensor's shape, ≥ 0.
        moving: at most the number of active weights, and at most that of inactive ones.
        optimizer: whose memory of the weights that grow is wiped out.
    """
    active = item.mask.bool()
    (small,) = ranks([item.original.abs()])
    (asks,) = ranks([scores])
    dropped = _first(small.masked_fill(~active, torch.inf), moving)
    grown = _first((-asks).masked_fill(active, torch.inf), moving)
    item.mask[dropped] = 0
    item.mask[grown] = 1
    item.original[grown] = 0
    state = optimizer.state.get(item.original, {}) if optimizer is not None else {}
    for key, value in state.items():
        if key != "step" and isinstance(value, Tensor) and value.shape == item.original.shape:
            value[grown] = 0


def _first(order: Tensor, count: int) -> Tensor:
    """True at the `count` smallest."""
    chosen = torch.zeros(order.numel(), dtype=torch.bool, device=order.device)
    chosen[order.flatten().argsort()[:count]] = True
    return chosen.view(order.shape)


def dense_gradients(phase: Phase, iteration: int, names: list[str]) -> dict[str, Tensor]:
    """|∂L/∂w| at the weights as the network computes with them, those that the masks hold back included.

    On one batch of the training split, by a copy in training mode: model, buffers and torch's generators stay as they
    are.
    """
    copy = masks.plain_copy(phase.model).train()
    inputs, labels = phase.batch(iteration)
    weights = dict(copy.named_parameters())
    with torch.enable_grad():
        loss = functional.cross_entropy(copy(inputs), labels)
        found = derivative(loss, [weights[name] for name in names])
    return {name: slope.abs() for name, slope in zip(names, found, strict=True)}
