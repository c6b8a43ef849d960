import pytest
import torch

from prunelab.training.callbacks.kth_largest import kth_largest


@pytest.mark.parametrize("k", [1, 2, 500, 999, 1000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_is_what_sorting_finds(k, dtype):
    values = torch.randn(10, 100, dtype=dtype, generator=torch.Generator().manual_seed(0))
    values[0] = 1.0  # ties
    found = kth_largest(values, k)
    assert (found, found.dtype) == (values.flatten().sort(descending=True).values[k - 1], dtype)
