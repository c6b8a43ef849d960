"""Pixels in [0, 1] instead of standardised ones."""

from dataclasses import replace

import torch

from prunelab.data.dataset import Dataset
from prunelab.errors import ConfigError


def scaled(data: Dataset, scale: str | None) -> Dataset:
    """Return a data set whose batches are pixels ÷ 255, as many papers' codes have them.

    Args:
        scale: `unit`; None: the data set stays as it is, standardised.

    Raises:
        ConfigError: if the inputs are not uint8, so that their range is not known.
    """
    if scale is None:
        return data
    if data.train.inputs.dtype != torch.uint8:
        kind = str(data.train.inputs.dtype).removeprefix("torch.")
        raise ConfigError(f"data.scale={scale}: must be null for inputs in {kind}; only uint8 has a known range")
    train, validation, test = (replace(split, mean=0.0, std=1.0) for split in (data.train, data.validation, data.test))
    return Dataset(train, validation, test)
