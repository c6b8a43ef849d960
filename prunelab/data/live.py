"""Conversion of a user's tensors or torch data sets to an in-memory data set, and the check of its labels."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import TensorDataset

from prunelab.data.dataset import SPLIT_SEED, Dataset, Split, stratified
from prunelab.errors import ConfigError
from prunelab.runtime.user_code import describe

HELD_OUT = 10  # where a split is not given, one in so many training examples is held out for it


def as_dataset(
    data: Any, key: str = "data", shape: tuple[int, ...] | None = None, classes: int | None = None
) -> Dataset:
    """Return an in-memory data set, checked.

    Args:
        data: a `prunelab.data.Dataset`; or (train, validation, test), (train, test) or one set, each of which is a
            `torch.utils.data.Dataset` of (input, label) pairs, a pair of tensors or NumPy arrays (inputs [n, …],
            labels [n]), or a `Split`. Without a validation split, a tenth of the training examples is held out, the
            classes in proportion; without a test split, another tenth before. Arrays of float64 become float32, torch's
            default dtype.
        key: of the config, for messages.
        shape: of one example, if it is known.
        classes: number of classes, if it is known.

    Raises:
        ConfigError: for other data, or labels that are not one whole number ≥ 0 and < classes for each example.
    """
    if not isinstance(data, Dataset):
        data = _divided(data, key)
    parts = {name: getattr(data, name) for name in ("train", "validation", "test")}
    for name, split in parts.items():
        where = f"{key}: the {name} split"
        if not isinstance(split, Split):
            raise ConfigError(f"{where} is a {type(split).__name__}; must be a Split")
        parts[name] = _checked(split, where)
        for known in (shape, tuple(data.train.inputs.shape[1:])):
            if known is not None and tuple(split.inputs.shape[1:]) != tuple(known):
                found = list(split.inputs.shape[1:])
                raise ConfigError(f"{where} has examples of shape {found}; must be {list(known)}")
    labels = [split.labels for split in parts.values()]
    least, most = min(int(some.min()) for some in labels), max(int(some.max()) for some in labels)
    if least or (classes is not None and most >= classes):
        end = "…" if classes is None else str(classes - 1)
        raise ConfigError(f"{key}: labels are {least} to {most}; must be whole numbers from 0 to {end}")
    return replace(data, **parts)


def _divided(data: Any, key: str) -> Dataset:
    """Return a data set from up to three sets; those that are missing are held out."""
    given = [data] if isinstance(data, (TorchDataset, Split)) or _is_pair(data) else data
    if not isinstance(given, Sequence) or len(given) not in (1, 2, 3) or (given is data and len(given) == 1):
        wanted = "must be a torch Dataset, (inputs, labels), (train, test) or (train, validation, test)"
        raise ConfigError(f"{key}={type(data).__name__}: {wanted}" if key == "data" else f"{key}: {wanted}")
    splits = [_split(part, key) for part in given]
    if len(splits) == 1:
        splits = [*_held_out(splits[0], key)]
    if len(splits) == 2:
        splits = [*_held_out(splits[0], key), splits[1]]
    return Dataset(*splits)


def _held_out(split: Split, key: str) -> tuple[Split, Split]:
    """Return the examples that stay, and those that are held out."""
    if len(split) < 2:
        raise ConfigError(f"{key}: has too few examples to hold out a split; give (train, validation, test)")
    held = torch.zeros(len(split), dtype=torch.bool)
    held[stratified(split.labels, max(len(split) // HELD_OUT, 1), SPLIT_SEED)] = True
    rest, out = (replace(split, inputs=split.inputs[chosen], labels=split.labels[chosen]) for chosen in (~held, held))
    return rest, out


def _split(part: Any, key: str) -> Split:
    named = f"{key}={type(part).__name__}" if key == "data" else f"{key}: {type(part).__name__}"
    if isinstance(part, TensorDataset) and len(part.tensors) == 2:
        part = part.tensors
    wanted = "must be a torch Dataset, a pair of tensors or arrays, or a Split"
    try:
        if isinstance(part, TorchDataset):
            wanted = "must give pairs (input tensor, whole number) of one shape"
            inputs, labels = zip(*(part[i] for i in range(len(part))), strict=True)  # type: ignore[arg-type]
            part = Split(torch.stack([_tensor(x) for x in inputs]), torch.stack([_tensor(x) for x in labels]))
        elif _is_pair(part):
            wanted = "must be arrays of numbers"
            part = Split(*map(_tensor, part))
    except Exception as error:
        raise ConfigError(f"{named}: {wanted}: {describe(error)}") from error
    if not isinstance(part, Split):
        raise ConfigError(f"{named}: {wanted}")
    return _checked(part, key)


def _is_pair(part: Any) -> bool:
    """Return whether this is a pair of tensors or arrays: of NumPy, or such as become one."""
    return isinstance(part, (tuple, list)) and len(part) == 2 and all(hasattr(x, "__array__") for x in part)


def _tensor(value: Any) -> Tensor:
    """Return a tensor as it is, and an array or a number as a tensor of its own."""
    if isinstance(value, Tensor):
        return value
    made = torch.from_numpy(np.array(value))  # a copy: torch cannot use an array that is reversed or read-only
    return made.to(torch.get_default_dtype()) if made.dtype == torch.float64 else made


def _checked(split: Split, where: str) -> Split:
    """Return the split with labels in int64. Raise ConfigError unless each example has one, a whole number ≥ 0."""
    inputs, labels = split.inputs, split.labels
    for tensor, name in ((inputs, "inputs"), (labels, "labels")):
        if not isinstance(tensor, Tensor):
            raise ConfigError(f"{where}: {name} are a {type(tensor).__name__}; must be a torch.Tensor")
        if tensor.layout is not torch.strided:
            raise ConfigError(f"{where}: {name} are {tensor.layout}; must be dense, as .to_dense() gives them")
    count = len(inputs) if inputs.dim() else 0
    if labels.dim() != 1 or labels.is_floating_point() or labels.is_complex() or len(labels) != count:
        hint = "; labels.flatten() gives these" if labels.shape == (count, 1) else ""
        raise ConfigError(
            f"{where}: labels are {labels.dtype} {list(labels.shape)}; must be whole numbers [{count}]{hint}"
        )
    if not count:
        raise ConfigError(f"{where}: has no examples")
    split = split if labels.dtype == torch.int64 else replace(split, labels=labels.long())
    if int(split.labels.min()) < 0:
        raise ConfigError(f"{where}: labels begin at {int(split.labels.min())}; must be 0, 1, 2 …")
    return split
