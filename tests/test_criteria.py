import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import prune

from prunelab.pruning.criteria import base as criteria

few = settings(deadline=None, max_examples=60, derandomize=True)


def integers(shape, seed, low=0, high=4):
    return np.random.default_rng(seed).integers(low, high, shape).astype(np.float32)


def places(*arrays):
    """Ranks by NumPy: the inverse of a stable argsort over all arrays together."""
    flat = np.concatenate([array.ravel() for array in arrays])
    place = np.empty(len(flat))
    place[np.argsort(flat, kind="stable")] = np.arange(1, len(flat) + 1)
    parts = np.split(place, np.cumsum([array.size for array in arrays])[:-1])
    return [part.reshape(array.shape) for part, array in zip(parts, arrays, strict=True)]


def test_ranks_of_four():
    (rank,) = criteria.ranks([torch.tensor([[0.3, 0.1], [0.4, 0.2]])])
    assert rank.tolist() == [[3, 1], [4, 2]]


def test_of_equals_the_first_comes_first():
    (rank,) = criteria.ranks([torch.tensor([2.0, 1.0, 2.0, 1.0])])
    assert rank.tolist() == [3, 1, 4, 2]


def test_one_order_for_all_tensors():
    first, second = criteria.ranks([torch.tensor([0.0, 5.0]), torch.tensor([[0.0], [2.0]])])
    assert first.tolist() == [1, 4]
    assert second.tolist() == [[2], [3]]


def test_minus_zero_is_zero():
    (rank,) = criteria.ranks([torch.tensor([0.0, -0.0, 0.0, -0.0])])
    assert rank.tolist() == [1, 2, 3, 4]


@few
@given(st.lists(st.sampled_from([(3,), (2, 4), (2, 3, 1, 2), (50, 20)]), min_size=1, max_size=4), st.integers(0, 999))
def test_ranks_are_those_of_a_stable_argsort(shapes, seed):
    arrays = [integers(shape, seed + i) for i, shape in enumerate(shapes)]
    for rank, expected in zip(criteria.ranks([torch.tensor(a) for a in arrays]), places(*arrays), strict=True):
        assert np.array_equal(rank.numpy(), expected)


def test_ranks_follow_the_logical_order_of_other_memory_formats():
    array = integers((2, 3, 2, 2), seed=0)
    (rank,) = criteria.ranks([torch.tensor(array).to(memory_format=torch.channels_last)])
    assert np.array_equal(rank.numpy(), places(array)[0])
    (rank,) = criteria.ranks([torch.tensor(array[0, :, :, 0].T.copy()).T])
    assert np.array_equal(rank.numpy(), places(array[0, :, :, 0])[0])


def test_ranks_count_exactly_where_float32_no_longer_does():
    (rank,) = criteria.ranks([torch.zeros(2**23 + 1)])
    assert rank.dtype == torch.float64
    assert rank[-3:].tolist() == [2**23 - 1, 2**23, 2**23 + 1]


def test_ranks_leave_the_scores_alone():
    score = torch.tensor([3.0, 1.0])
    criteria.ranks([score])[0].zero_()
    assert score.tolist() == [3, 1]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), -1.0])
def test_scores_must_be_finite_and_not_negative(bad):
    with pytest.raises(ValueError, match="finite and ≥ 0"):
        criteria.ranks([torch.ones(2), torch.tensor([1.0, bad])])


def test_magnitude_is_of_the_original_not_the_masked_tensor():
    layer = nn.Linear(4, 1)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[-1.0, 2.0, -3.0, 4.0]]))
    assert criteria.magnitudes([(layer, "weight")])[0].tolist() == [[1, 2, 3, 4]]
    prune.custom_from_mask(layer, "weight", torch.tensor([[0.0, 1.0, 1.0, 1.0]]))
    score = criteria.magnitudes([(layer, "weight")])[0]
    assert score.tolist() == [[1, 2, 3, 4]]
    assert not score.requires_grad


def test_original_and_mask_of_a_tensor_without_and_with_a_mask():
    layer = nn.Linear(2, 1)
    assert torch.equal(criteria.original(layer, "weight"), layer.weight)
    assert criteria.mask(layer, "weight").tolist() == [[1, 1]]
    prune.custom_from_mask(layer, "weight", torch.tensor([[0.0, 1.0]]))
    assert torch.equal(criteria.original(layer, "weight"), layer.weight_orig)
    assert criteria.mask(layer, "weight").tolist() == [[0, 1]]


def test_norms_of_two_channels():
    weight = torch.tensor([[3.0, -4.0], [1.0, 0.0]])
    assert criteria.norms(weight, 1, 0).tolist() == [7, 1]
    assert criteria.norms(weight, 2, 0).tolist() == [5, 1]
    assert criteria.norms(weight, float("inf"), 0).tolist() == [4, 1]
    assert criteria.norms(weight, 1, 1).tolist() == [4, 4]


@few
@given(
    st.sampled_from([(3, 4), (1, 5), (4, 2, 3), (3, 2, 3, 3)]),
    st.sampled_from([0.5, 1.0, 2.0, 3.0, float("inf")]),
    st.sampled_from([0, 1]),
    st.integers(0, 999),
)
def test_norms_are_numpy_s(shape, n, dim, seed):
    weight = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    rows = np.moveaxis(weight, dim, 0).reshape(shape[dim], -1).astype(np.float64)
    expected = [np.linalg.norm(row, n) for row in rows]
    assert np.allclose(criteria.norms(torch.tensor(weight), n, dim).numpy(), expected, rtol=1e-12)
