"""Another share of the training examples for validation than the data set's own."""

from dataclasses import replace

import torch

from prunelab.data.dataset import SPLIT_SEED, Dataset, Split, stratified


def hold_out(data: Dataset, share: float | None, limit: int | None = None) -> Dataset:
    """Return a data set whose validation split is a share of all training examples, the classes in proportion.

    The training and the validation split are divided anew, in the same way in every experiment, whatever its seed.

    Args:
        share: in (0, 1); None: the data set stays as it is.
        limit: at most this many examples of each of the two splits.
    """
    if share is None:
        return data
    inputs = torch.cat([data.train.inputs, data.validation.inputs])
    labels = torch.cat([data.train.labels, data.validation.labels])
    held_out = stratified(labels, max(1, round(share * len(labels))), SPLIT_SEED)
    rest = torch.ones(len(labels), dtype=torch.bool)
    rest[held_out] = False

    def split(of: Split, index: torch.Tensor) -> Split:
        return replace(of, inputs=inputs[index[:limit]], labels=labels[index[:limit]])

    return Dataset(split(data.train, rest.nonzero().flatten()), split(data.validation, held_out), data.test)
