"""Pixels in [0, 1]: a batch is the file's bytes over 255."""

import pytest
import torch

from prunelab.data.dataset import Dataset, Split
from prunelab.data.scale import scaled
from prunelab.errors import ConfigError


def data(inputs):
    return Dataset(*(Split(inputs, torch.zeros(3, dtype=torch.long), 0.1307, 0.3081) for _ in range(3)))


def test_pixels_are_between_0_and_1():
    given = data(torch.tensor([[0], [51], [255]], dtype=torch.uint8))
    found = scaled(given, "unit")
    for split in (found.train, found.validation, found.test):
        assert split.batch(slice(0, 3))[0].flatten().tolist() == pytest.approx([0, 0.2, 1])
    assert scaled(given, None) is given


def test_inputs_that_are_no_pixels_are_refused():
    with pytest.raises(ConfigError, match=r"data.scale=unit: must be null for inputs in float32"):
        scaled(data(torch.rand(3, 1)), "unit")
