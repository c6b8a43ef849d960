"""Data sets that live in memory on the run's device; batches are index slices."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from prunelab.runtime.seeding import permutation

SPLIT_SEED = 55_000  # the split is the same in every experiment, whatever its seed
VALIDATION = 5_000  # held out of the training examples
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Split:
    """Inputs [n, …] as they are stored (uint8, or float already normalised), and labels, int64 [n].

    uint8 inputs take a quarter of the memory, and become floats batch by batch: (inputs/255 − mean) / std, both of
    them numbers, or float32 [channels, 1, 1].
    """

    inputs: Tensor
    labels: Tensor
    mean: float | Tensor = 0.0
    std: float | Tensor = 1.0

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, index: Tensor | slice) -> tuple[Tensor, Tensor]:
        """Inputs, float32 [batch, …], and labels of some examples."""
        inputs = self.inputs[index]
        if inputs.dtype == torch.uint8:
            inputs = inputs.float().sub_(255 * self.mean).mul_(1 / (255 * self.std))
        return inputs, self.labels[index]

    def to(self, device: torch.device) -> Split:
        """The same examples on another device."""
        mean, std = (x.to(device) if isinstance(x, Tensor) else x for x in (self.mean, self.std))
        return Split(self.inputs.to(device), self.labels.to(device), mean, std)


@dataclass(frozen=True)
class Dataset:
    """Training, validation and test examples. Test data is never used to choose anything."""

    train: Split
    validation: Split
    test: Split

    def to(self, device: torch.device) -> Dataset:
        """The same data set on another device."""
        return Dataset(self.train.to(device), self.validation.to(device), self.test.to(device))


def stratified(labels: Tensor, limit: int, seed: int) -> Tensor:
    """Indices of `limit` examples with the classes in proportion (largest remainders), in a fixed random order.

    Args:
        labels: int64 [n].
        limit: how many, at most n.
        seed: of the draw.

    Returns:
        int64 [limit].
    """
    order = permutation(len(labels), seed, "stratified")
    share = torch.bincount(labels).double() * limit / len(labels)  # [classes]
    take = share.floor().long()
    short = limit - int(take.sum())
    take[(share - take).argsort(descending=True, stable=True)[:short]] += 1
    chosen = [order[labels[order] == c][: int(n)] for c, n in enumerate(take)]
    return torch.cat(chosen)[permutation(limit, seed, "mixed")]


def describes(*, shape: tuple[int, ...], classes: int) -> Callable[[F], F]:
    """Says of a function that makes a data set what a model must fit, before any data is loaded.

    Args:
        shape: [channels, height, width] of one example; becomes the function's attribute `shape`.
        classes: how many; becomes its attribute `classes`.
    """

    def note(function: F) -> F:
        vars(function).update(shape=shape, classes=classes)
        return function

    return note


def divide(raw: Mapping[str, Tensor], limit: int | None, order: Tensor | None = None) -> Dataset:
    """Training, validation and test examples out of images and labels; `VALIDATION` are held out of the training ones.

    Args:
        raw: `train_images` and `test_images`, uint8 [n, channels, height, width]; `train_labels` and `test_labels`,
            uint8 [n]; `mean` and `std`, [channels], of the training images scaled to [0, 1].
        limit: at most this many examples of each split, the classes in proportion; None: all.
        order: of the training examples, int64 [n], the held-out ones first; None: these have the classes in proportion.
    """
    order = _held_out_first(raw["train_labels"].long()) if order is None else order
    mean, std = (x.item() if x.numel() == 1 else x.float().view(-1, 1, 1) for x in (raw["mean"], raw["std"]))

    def split(half: str, index: Tensor) -> Split:
        labels = raw[f"{half}_labels"][index]
        if limit is not None and limit < len(labels):
            chosen = stratified(labels, limit, SPLIT_SEED)
            index, labels = index[chosen], labels[chosen]
        return Split(raw[f"{half}_images"].index_select(0, index), labels.long(), mean, std)

    test = torch.arange(len(raw["test_labels"]))
    return Dataset(split("train", order[VALIDATION:]), split("train", order[:VALIDATION]), split("test", test))


def with_moments(raw: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`raw` with the `mean` and `std`, float64 [channels], of its `train_images`, uint8 [n, channels, …], over 255.

    By counting the 256 values, which is exact and needs no floats of all pixels.
    """
    values = torch.arange(256, dtype=torch.float64) / 255
    channels = raw["train_images"].transpose(0, 1).flatten(1)  # [channels, n · height · width]
    share = torch.stack([torch.bincount(pixels, minlength=256).double() / len(pixels) for pixels in channels])
    mean = share @ values
    return {**raw, "mean": mean, "std": (share * (values - mean.unsqueeze(1)) ** 2).sum(1).sqrt()}


def _held_out_first(labels: Tensor) -> Tensor:
    """A fixed random order of all examples, that begins with `VALIDATION` of them, the classes in proportion."""
    held_out = stratified(labels, VALIDATION, SPLIT_SEED)
    order = permutation(len(labels), SPLIT_SEED, "rest")
    return torch.cat([held_out, order[~torch.isin(order, held_out)]])
