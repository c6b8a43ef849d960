"""Data sets in memory, on the device of the run; a batch is an index slice."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass
from typing import ParamSpec

import torch
from torch import Tensor

from prunelab.runtime.seeding import permutation

SPLIT_SEED = 55_000  # the split is the same in every experiment, whatever its seed
VALIDATION = 5_000  # number of training examples that become the validation split
P = ParamSpec("P")


@dataclass(frozen=True)
class Split:
    """Examples: inputs and labels.

    Inputs in uint8 take a quarter of the memory; each batch is normalised to (inputs/255 − mean) / std.

    Attributes:
        inputs: [n, …], uint8, or floats that are normalised already.
        labels: int64 [n].
        mean: of inputs scaled to [0, 1]: a number, or float32 [channels, 1, 1].
        std: standard deviation, like `mean`.
    """

    inputs: Tensor
    labels: Tensor
    mean: float | Tensor = 0.0
    std: float | Tensor = 1.0

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, index: Tensor | slice) -> tuple[Tensor, Tensor]:
        """Return inputs and labels of some examples; the inputs are a copy, which a user's code may write on.

        Inputs are [batch, …], float32 if they are stored as uint8.

        Args:
            index: a slice, or int64 [batch].
        """
        if isinstance(index, slice) or not self.inputs.is_contiguous():
            inputs = self.inputs[index]
        else:
            inputs = self.inputs.index_select(0, index)  # for uint8 eight times as fast as the line above
        if inputs.dtype == torch.uint8:
            inputs = inputs.float().sub_(255 * self.mean).mul_(1 / (255 * self.std))
        elif isinstance(index, slice):
            inputs = inputs.clone()
        return inputs, self.labels[index]

    def to(self, device: torch.device) -> Split:
        """Return the same examples on another device."""
        moved = copy(self)  # a subclass, such as one that augments its batches, stays one
        vars(moved).update({key: x.to(device) for key, x in vars(self).items() if isinstance(x, Tensor)})
        return moved


@dataclass(frozen=True)
class Dataset:
    """Training, validation and test splits. The test split is never used to choose anything."""

    train: Split
    validation: Split
    test: Split

    def to(self, device: torch.device) -> Dataset:
        """Return the same data set on another device."""
        return Dataset(self.train.to(device), self.validation.to(device), self.test.to(device))


def stratified(labels: Tensor, limit: int, seed: int) -> Tensor:
    """Return indices, int64 [limit], of examples, the classes in proportion (largest remainders), in random order.

    Args:
        labels: int64 [n].
        limit: at most n.
        seed: determines the choice and the order.
    """
    order = permutation(len(labels), seed, "stratified")
    share = torch.bincount(labels).double() * limit / len(labels)  # [classes]
    take = share.floor().long()
    short = limit - int(take.sum())
    take[(share - take).argsort(descending=True, stable=True)[:short]] += 1
    chosen = [order[labels[order] == c][: int(n)] for c, n in enumerate(take)]
    return torch.cat(chosen)[permutation(limit, seed, "mixed")]


def describes(*, shape: tuple[int, ...], classes: int) -> Callable[[Callable[P, Dataset]], Callable[P, Dataset]]:
    """Give a function that returns a data set the attributes `shape` and `classes`.

    A model is built by them, before the data are loaded.

    Args:
        shape: of an example, [channels, height, width].
        classes: ≥ 2.
    """

    def decorate(function: Callable[P, Dataset]) -> Callable[P, Dataset]:
        @functools.wraps(function)
        def described(*args: P.args, **kwargs: P.kwargs) -> Dataset:
            return function(*args, **kwargs)

        vars(described).update(shape=shape, classes=classes)
        return described

    return decorate


def divide(raw: Mapping[str, Tensor], limit: int | None, order: Tensor | None = None) -> Dataset:
    """Return a data set from images and labels; `VALIDATION` of the training examples become the validation split.

    Args:
        raw: `train_images` and `test_images`, uint8 [n, channels, height, width]; `train_labels` and `test_labels`,
            uint8 [n]; `mean` and `std`, [channels], of the training images scaled to [0, 1].
        limit: at most this many examples of each split, the classes in proportion; None: all.
        order: order of the training examples, int64 [n], validation first; None: a fixed random order whose validation
            split has the classes in proportion.
    """
    if order is None:
        labels = raw["train_labels"].long()
        held_out, rest = stratified(labels, VALIDATION, SPLIT_SEED), permutation(len(labels), SPLIT_SEED, "rest")
        order = torch.cat([held_out, rest[~torch.isin(rest, held_out)]])
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
    """Return `raw` with `mean` and `std`, float64 [channels], of its `train_images`, uint8 [n, channels, …], over 255.

    They are computed from the counts of the 256 values, which is exact and needs little memory.
    """
    values = torch.arange(256, dtype=torch.float64) / 255
    channels = raw["train_images"].transpose(0, 1).flatten(1)  # [channels, n · height · width]
    share = torch.stack([torch.bincount(pixels, minlength=256).double() / len(pixels) for pixels in channels])
    mean = share @ values
    return {**raw, "mean": mean, "std": (share * (values - mean.unsqueeze(1)) ** 2).sum(1).sqrt()}
