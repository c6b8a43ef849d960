"""Conversion of a user's tensors or torch data sets to an in-memory data set."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from prunelab.data.dataset import SPLIT_SEED, Dataset, Split, stratified
from prunelab.errors import ConfigError, one_line

HELD_OUT = 10  # without a validation split, one in so many training examples is held out


def as_dataset(data: Any) -> Dataset:
    """Return an in-memory data set.

    Args:
        data: a `prunelab.data.Dataset`; or (train, validation, test), or (train, test), of which each is a
            `torch.utils.data.Dataset` of (input, label) pairs, a pair of tensors (inputs [n, …], labels [n]), or a
            `Split`. Without a validation split, a tenth of the training examples is held out, in equal proportions.

    Raises:
        ConfigError: for other data, or labels that are not whole numbers ≥ 0.
    """
    if isinstance(data, Dataset):
        return data
    if not isinstance(data, Sequence) or len(data) not in (2, 3):
        raise ConfigError(f"data={type(data).__name__}: must be a Dataset, (train, test) or (train, validation, test)")
    splits = [_split(part) for part in data]
    if len(splits) == 3:
        return Dataset(*splits)
    train, test = splits
    held = torch.zeros(len(train), dtype=torch.bool)
    held[stratified(train.labels, max(len(train) // HELD_OUT, 1), SPLIT_SEED)] = True
    rest, validation = (
        replace(train, inputs=train.inputs[chosen], labels=train.labels[chosen]) for chosen in (~held, held)
    )
    return Dataset(rest, validation, test)


def _split(part: Any) -> Split:
    if isinstance(part, Split):
        return part
    if isinstance(part, TorchDataset):
        try:
            pairs = [part[i] for i in range(len(part))]  # type: ignore[arg-type]
            inputs = torch.stack([torch.as_tensor(x) for x, _ in pairs])
            labels = torch.tensor([int(y) for _, y in pairs])
        except (TypeError, ValueError, RuntimeError) as error:
            wanted = "must give pairs (input tensor, whole number) of one shape"
            raise ConfigError(f"data={type(part).__name__}: {wanted}: {one_line(error)}") from error
    elif isinstance(part, (tuple, list)) and len(part) == 2 and all(isinstance(x, Tensor) for x in part):
        inputs, labels = part
    else:
        raise ConfigError(f"data={type(part).__name__}: must be a torch Dataset, a pair of tensors, or a Split")
    if labels.dim() != 1 or labels.is_floating_point() or len(labels) != len(inputs):
        raise ConfigError(
            f"data: labels are {labels.dtype} {list(labels.shape)}; must be whole numbers [{len(inputs)}]"
        )
    if not len(labels) or int(labels.min()) < 0:
        raise ConfigError(f"data: labels begin at {int(labels.min()) if len(labels) else None}; must be 0, 1, 2 …")
    return Split(inputs, labels.long())
