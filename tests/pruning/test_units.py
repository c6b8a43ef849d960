"""The one function that decides which units go, and the numbers of units."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import few, one_ranking, take

from prunelab.errors import ConfigError
from prunelab.pruning.units import fraction, input_dim, number, number_together, ranked_at, smallest

shapes = st.lists(st.sampled_from([(3,), (2, 4), (2, 3, 1, 2), (50, 20)]), min_size=1, max_size=4)


def integers(shape, seed, low=0, high=4):
    return np.random.default_rng(seed).integers(low, high, shape).astype(np.float32)


def gone(scores, count, alive=None):
    scores = [torch.tensor(score) for score in scores]
    alive = [torch.ones(score.shape, dtype=torch.bool) for score in scores] if alive is None else alive
    return [found.int().tolist() for found in smallest(scores, alive, count)]


def test_the_smallest_of_four():
    assert gone([[[0.3, 0.1], [0.4, 0.2]]], 2) == [[[0, 1], [0, 1]]]


def test_of_equal_scores_the_first_goes():
    assert gone([[2.0, 1.0, 2.0, 1.0]], 1) == [[0, 1, 0, 0]]
    assert gone([[2.0, 1.0, 2.0, 1.0]], 3) == [[1, 1, 0, 1]]


def test_one_order_for_all_tensors():
    assert gone([[0.0, 5.0], [[0.0], [2.0]]], 2) == [[1, 0], [[1], [0]]]
    assert gone([[1.0, 5.0], [[0.0], [2.0]]], 1) == [[0, 0], [[1], [0]]]


def test_the_best_unit_of_each_tensor_stays_and_of_equal_ones_the_last():
    assert gone([[1.0, 1.0], [9.0, 8.0, 7.0]], 3) == [[1, 0], [0, 1, 1]]


def test_pruned_units_neither_count_nor_go_again():
    alive = [torch.tensor([False, True, True, True])]
    assert gone([[0.0, 3.0, 1.0, 2.0]], 2, alive) == [[0, 0, 1, 1]]
    assert gone([[9.0, 3.0, 1.0, 2.0]], 2, alive) == [[0, 0, 1, 1]]


def test_minus_zero_is_zero():
    assert gone([[0.0, -0.0, 0.0, -0.0]], 2) == [[1, 1, 0, 0]]


@few
@given(shapes, st.integers(0, 999), st.floats(0, 0.99))
def test_smallest_is_the_oracle(shapes, seed, amount):
    scores = [integers(shape, seed + i) for i, shape in enumerate(shapes)]
    alive = [integers(shape, seed + 7 + i) > 0 for i, shape in enumerate(shapes)]
    for living in alive:
        living.flat[0] = True
    expected = one_ranking([s.ravel() for s in scores], [a.ravel() for a in alive], amount)
    count = min(round(amount * sum(int(a.sum()) for a in alive)), sum(int(a.sum()) for a in alive) - len(shapes))
    found = smallest([torch.tensor(s) for s in scores], [torch.tensor(a) for a in alive], count)
    for out, part in zip(found, expected, strict=True):
        assert np.array_equal(out.numpy().ravel(), part)


def test_other_memory_formats_are_ranked_in_logical_order():
    array = integers((2, 3, 2, 2), seed=0)
    expected = take(array.ravel(), np.ones(array.size, dtype=bool), 9).reshape(array.shape)
    for score in (
        torch.tensor(array).to(memory_format=torch.channels_last),
        torch.tensor(array.T.copy()).permute(3, 2, 1, 0),
    ):
        (found,) = smallest([score], [torch.ones(array.shape, dtype=torch.bool)], 9)
        assert np.array_equal(found.numpy(), expected)


def test_counts_are_exact_where_float32_no_longer_is():
    (found,) = smallest([torch.zeros(2**24 + 3)], [torch.ones(2**24 + 3, dtype=torch.bool)], 2**24 + 1)
    assert int(found.sum()) == 2**24 + 1
    assert found[-3:].tolist() == [True, False, False]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_scores_of_every_type_keep_their_order(dtype):
    score = torch.tensor([1.0, 1.0078125, 0.99609375, 2.0], dtype=dtype)  # neighbours in bfloat16
    (found,) = smallest([score], [torch.ones(4, dtype=torch.bool)], 2)
    assert found.tolist() == [True, False, True, False]


@pytest.mark.gpu
@pytest.mark.parametrize("seed", range(20))
def test_a_gpu_decides_as_the_cpu_does(seed):
    """Among many equal scores, of other types, some of them pruned already."""
    rng, types = np.random.default_rng(seed), [torch.float32, torch.float64, torch.bfloat16]
    scores = [torch.tensor(integers((40, 30), seed + i), dtype=dtype) for i, dtype in enumerate(types)]
    alive = [torch.tensor(rng.random((40, 30)) < 0.7) for _ in types]
    count = int(rng.integers(0, sum(int(a.sum()) for a in alive) - 3))
    expected, found = (
        smallest(scores, alive, count),
        smallest([s.cuda() for s in scores], [a.cuda() for a in alive], count),
    )
    assert all(one.is_cuda and torch.equal(one.cpu(), other) for one, other in zip(found, expected, strict=True))


def test_scores_of_two_types_are_compared_exactly():
    """0.1 in float32 is above 0.1 in float64."""
    scores = [torch.tensor([0.1, 1.0]), torch.tensor([0.1, 1.0], dtype=torch.float64)]
    found = smallest(scores, [torch.ones(2, dtype=torch.bool)] * 2, 1)
    assert [part.tolist() for part in found] == [[False, False], [True, False]]


def test_scores_stay_as_they_are():
    score, alive = torch.tensor([3.0, 1.0]), torch.tensor([True, True])
    smallest([score], [alive], 1)
    assert (score.tolist(), alive.tolist()) == ([3, 1], [True, True])


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), -1.0])
@pytest.mark.parametrize("count", [0, 1])
def test_scores_must_be_finite_and_not_negative(bad, count):
    with pytest.raises(ValueError, match="finite and ≥ 0"):
        gone([[1.0, 1.0], [1.0, bad]], count)


def test_number_is_python_s_round_and_never_the_last():
    assert [number(0.5, n) for n in range(6)] == [0, 0, 1, 2, 2, 2]
    assert [number(0.99, n) for n in (0, 1, 2, 100)] == [0, 0, 1, 99]
    assert number(0.0, 4) == 0
    with pytest.raises(ConfigError, match="amount=null: must be a fraction"):
        fraction(None)


def test_number_together_leaves_one_unit_in_each_tensor():
    assert [number_together(0.5, n, 2) for n in range(8)] == [0, 0, 0, 1, 2, 2, 3, 4]
    assert number_together(0.99, 100, 7) == 93


def test_the_inputs_of_a_transposed_convolution_are_its_first_dimension():
    assert input_dim(torch.nn.ConvTranspose2d(2, 3, 1)) == 0
    assert input_dim(torch.nn.Conv2d(2, 3, 1)) == input_dim(torch.nn.Linear(2, 3)) == 1


@pytest.mark.parametrize("place", [0, 1, 500, 998, 999])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_value_at_a_place_is_what_sorting_finds(place, dtype):
    values = torch.randn(1000, dtype=dtype, generator=torch.Generator().manual_seed(0))
    values[:100] = 1.0  # ties
    expected = values.sort().values[place]
    found = ranked_at(values, place)
    assert (found, found.dtype) == (expected, dtype)
