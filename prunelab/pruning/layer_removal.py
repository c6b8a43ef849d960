"""Removal of whole layers: those whose removal gives the lowest loss."""

import math
import warnings
from collections.abc import Callable, Sequence

import torch
from torch import nn

from prunelab.errors import ConfigError, at_least_one, check_number
from prunelab.pruning import blocks, skipping
from prunelab.pruning.masks import Masks
from prunelab.pruning.prunable import is_prunable

Loss = Callable[[], float]


def mark_layers(model: nn.Module, shape: Sequence[int] | None) -> None:
    """Mark the layers of a new model that may be removed: those that keep their input's shape.

    `shape` is that of one example, without the batch dimension; None if it is unknown, which raises ConfigError.
    """
    if shape is None:
        raise ConfigError("strategy=layer: must know the shape of an example; give your data function a `shape`")
    names = blocks.outermost(model, blocks.keeping(model, shape, "strategy=layer"))
    blocks.need(names, model, "strategy=layer")
    skipping.mark(model, names)


class LayerRemoval:
    """Remove whole layers one after the other: always the one without which the loss is least.

    Of layers with equal losses the first is removed. The losses are computed again after each removal. All masks of a
    removed layer are zero, biases and norms included, and the layer returns its input. At most one of `amount` (of
    `remove`), `count` and `threshold` is given; without any of them one layer is removed.

    Args:
        masks: of a model whose removable layers are marked.
        chosen: names of the prunable tensors; a layer may be removed if all its prunable weights are among them.
        count: number of layers to remove in one call, ≥ 1.
        threshold: remove layers as long as the loss grows by at most this within one call, in nats; ≥ 0.

    Raises:
        ConfigError: for a value outside its range, or if no layer may be removed.

    Source: Veit, Wilber & Belongie 2016, "Residual networks behave like ensembles of relatively shallow networks",
        section 4.1, arXiv 1605.06431.
    """

    def __init__(
        self, masks: Masks, chosen: Sequence[str], count: int | None = None, threshold: float | None = None
    ) -> None:
        self.masks, self.count, self.threshold = masks, count, threshold
        if count is not None:
            at_least_one("strategy.count", count)
        if threshold is not None:
            check_number("strategy.threshold", threshold, "a number ≥ 0", lambda x: x >= 0)
        marked = skipping.marked(masks.model)
        self.layers = {name: layer for name, layer in marked.items() if _whole(masks, layer, set(chosen))}
        if not self.layers:
            raise ConfigError(
                f"strategy=layer: prune.include and prune.exclude leave none whole of {', '.join(marked)}"
            )
        for layer in self.layers.values():
            masks.add(_parameters(layer))

    def remove(self, amount: float | None, loss: Loss) -> list[str]:
        """Remove layers; return their names.

        Args:
            amount: fraction in [0, 1) of the n layers that are still there; round(amount · n) are removed.
            loss: returns the present network's loss on the validation split, in nats.
        """
        left = {n: layer for n, layer in self.layers.items() if not isinstance(layer, skipping.Skipped)}
        if not left:
            warnings.warn("every layer that may be removed is gone; none is removed in this round", stacklevel=2)
        most = self.number(amount, len(left))
        limit = loss() + (math.inf if self.threshold is None else self.threshold)
        gone: list[str] = []
        for _ in range(most):
            losses = {name: _without(layer, loss) for name, layer in left.items()}
            least = min(losses, key=losses.__getitem__)
            if losses[least] > limit:
                break
            for item in self.masks.of(_parameters(left.pop(least))):
                item.set(torch.zeros_like(item.mask))
            self.masks.apply()
            gone.append(least)
        return gone

    def number(self, amount: float | None, layers: int) -> int:
        """Return how many of the remaining layers are removed; with a threshold, the most that may be removed."""
        given = {"amount": amount, "strategy.count": self.count, "strategy.threshold": self.threshold}
        chosen = [f"{key}={value}" for key, value in given.items() if value is not None]
        if len(chosen) > 1:
            raise ConfigError(f"{', '.join(chosen)}: must be one of them")
        if amount is not None:
            return round(amount * layers)
        return layers if self.threshold is not None else min(self.count or 1, layers)

    def weights(self) -> list[int]:
        """Return how many masked weights each removable layer has."""
        return [sum(item.mask.numel() for item in self.masks.of(_parameters(layer))) for layer in self.layers.values()]


def _whole(masks: Masks, layer: nn.Module, chosen: set[str]) -> bool:
    pairs = [(part, key) for part, key in _parameters(layer) if is_prunable(part, key)]
    items = masks.of(pairs)
    return len(items) == len({id(getattr(*pair)) for pair in pairs}) and all(item.name in chosen for item in items)


def _parameters(layer: nn.Module) -> list[tuple[nn.Module, str]]:
    """Return all parameters of a layer, prunable or not, but scalars such as a gate."""
    return [(part, key) for part in layer.modules() for key, p in part.named_parameters(recurse=False) if p.dim()]


def _without(layer: nn.Module, loss: Loss) -> float:
    skipping.set_skipped(layer, True)
    try:
        return loss()
    finally:
        skipping.set_skipped(layer, False)
