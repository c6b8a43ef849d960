"""Small networks, and an oracle in NumPy for each way of pruning: arrays of weights and masks in, masks out.

None of the oracles calls torch or prunelab.
"""

import warnings
from fractions import Fraction

import numpy as np
import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import nn

from prunelab.pruning.pruner import Pruner

few = settings(deadline=None, max_examples=60, derandomize=True)


shapes = st.lists(
    st.one_of(
        st.tuples(st.integers(1, 6), st.integers(1, 6)),
        st.tuples(st.integers(1, 5), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3)),
    ),
    min_size=1,
    max_size=3,
)


seeds = st.integers(0, 10_000)


amount_each_round = st.lists(st.floats(0, 0.99) | st.sampled_from([0.0, 0.25, 0.5, 0.75]), min_size=1, max_size=4)


def distance_from_one(weight):
    return (weight - 1).abs()


def layer(shape):
    if len(shape) == 2:
        return nn.Linear(shape[1], shape[0])
    return nn.Conv2d(shape[1], shape[0], shape[2:])


def pruner(shapes, allocation="local", granularity="weight", **how):
    """A pruner of one layer for each shape; the last one is pruned too."""
    return Pruner(
        nn.Sequential(*map(layer, shapes)), granularity=granularity, allocation=allocation, output_layer=True, **how
    )


def put(pruner, arrays):
    """Gives the prunable tensors these weights, zero where they are pruned."""
    with torch.no_grad():
        for item, array in zip(pruner.items, arrays, strict=True):
            item.parameter.copy_(torch.tensor(array, dtype=torch.float32))
    pruner.masks.apply()


def put_masks(pruner, arrays):
    for item, array in zip(pruner.items, arrays, strict=True):
        item.set(torch.tensor(array))
    pruner.masks.apply()


def four(weights, mask=(1, 1, 1, 1), shape=(1, 4), **axes):
    """A pruner of one Linear layer with these weights and this mask."""
    found = pruner([shape], **axes)
    put_masks(found, [np.reshape(mask, shape)])
    put(found, [np.reshape(weights, shape)])
    return found


def now(pruner):
    """The masks, as arrays of booleans."""
    return [item.kept.numpy() for item in pruner.items]


def flat(pruner):
    return [int(x) for mask in now(pruner) for x in mask.ravel()]


def biases(pruner):
    """The masks of the biases, as arrays of booleans; None for a layer whose bias has none."""
    return [
        pruner.masks[name].kept.numpy() if name in pruner.masks else None
        for name in (item.name.replace("weight", "bias") for item in pruner.items)
    ]


def keep_one(mask):
    """No mask begins without a weight."""
    if not mask.any():
        mask.flat[0] = True
    return mask


def integers(shapes, seed):
    draw = np.random.default_rng(seed)
    return [draw.integers(-3, 4, shape) for shape in shapes]


def take(score, alive, k):
    """The k of the living with the smallest scores; of equals, the first: True where they are. All 1-D."""
    living = [i for i in range(len(score)) if alive[i]]
    gone = sorted(living, key=lambda i: (score[i], i))[:k]
    return np.isin(np.arange(len(score)), gone)


def goes(amount, n):
    return min(round(amount * n), max(n - 1, 0))


def l1_oracle(weights, old, amount, scores=None):
    new = []
    for score, mask in zip(map(np.abs, weights) if scores is None else scores, old, strict=True):
        gone = take(score.ravel(), mask.ravel(), goes(amount, int(mask.sum())))
        new.append(mask & ~gone.reshape(mask.shape))
    return new


def one_ranking(scores, alive, amount):
    """True where a unit goes: round(amount · n) of all living ones, but never a tensor's best. Lists of 1-D arrays."""
    may_go = []
    for score, living in zip(scores, alive, strict=True):
        best = max(np.flatnonzero(living), key=lambda i: (score[i], i))  # the one that would go last
        may_go.append(living & (np.arange(living.size) != best))
    n = sum(int(living.sum()) for living in alive)
    gone = take(np.concatenate(scores), np.concatenate(may_go), min(round(amount * n), n - len(alive)))
    return np.split(gone, np.cumsum([living.size for living in alive])[:-1])


def global_oracle(weights, old, amount, scores=None):
    scores = [np.abs(w).ravel() for w in weights] if scores is None else [s.ravel() for s in scores]
    parts = one_ranking(scores, [mask.ravel() for mask in old], amount)
    return [mask & ~part.reshape(mask.shape) for mask, part in zip(old, parts, strict=True)]


def channel_scores(weight, n, dim):
    """Exact for integers: of the L2 norm, its square."""
    rows = np.abs(np.moveaxis(weight, dim, 0).reshape(weight.shape[dim], -1))
    return {1: rows.sum(1), 2: (rows**2).sum(1), float("inf"): rows.max(1)}[n]


def row_oracle(weights, old, amount):
    new = []
    for weight, mask in zip(weights, old, strict=True):
        rows = [
            alive & ~take(np.abs(row), alive, goes(amount, int(alive.sum())))
            for row, alive in zip(weight.reshape(len(weight), -1), mask.reshape(len(mask), -1), strict=True)
        ]
        new.append(np.stack(rows).reshape(mask.shape))
    return new


def channels(mask, dim):
    return np.moveaxis(mask, dim, 0).reshape(mask.shape[dim], -1).any(1)


def ln_oracle(weights, old, amount, n, dim):
    new = []
    for weight, mask in zip(weights, old, strict=True):
        alive = channels(mask, dim)
        gone = take(channel_scores(weight * mask, n, dim), alive, goes(amount, int(alive.sum())))
        shape = [1] * mask.ndim
        shape[dim] = -1
        new.append(mask & ~gone.reshape(shape))
    return new


def global_ln_oracle(weights, old, amount, n, dim):
    """By the norm ÷ size^1/n, exactly: by its n-th power."""
    pairs = list(zip(weights, old, strict=True))
    size = [1 if n == float("inf") else mask.size // mask.shape[dim] for mask in old]
    scores = [channel_scores(w * mask, n, dim) for w, mask in pairs]
    scores = [np.array([Fraction(int(x), k) for x in score]) for score, k in zip(scores, size, strict=True)]
    gone = one_ranking(scores, [channels(mask, dim) for mask in old], amount)
    return [np.moveaxis(np.moveaxis(m, dim, -1) & ~part, -1, dim) for m, part in zip(old, gone, strict=True)]


def blocks(matrix, size):
    """The corners of the blocks, row by row, as pairs of slices."""
    down, across = (range(0, n, step) for n, step in zip(matrix.shape, size, strict=True))
    return [(slice(i, i + size[0]), slice(j, j + size[1])) for i in down for j in across]


def block_oracle(weights, old, amount, size, scope):
    matrices = [mask.reshape(len(mask), -1).copy() for mask in old]
    cuts = [blocks(matrix, size) for matrix in matrices]
    alive = [np.array([m[cut].any() for cut in cuts_]) for m, cuts_ in zip(matrices, cuts, strict=True)]
    scores = []
    for weight, matrix, cuts_ in zip(weights, matrices, cuts, strict=True):
        score = np.abs(weight).reshape(matrix.shape)
        means = [Fraction(int(score[cut][matrix[cut]].sum()), max(int(matrix[cut].sum()), 1)) for cut in cuts_]
        scores.append(np.array(means))
    if scope == "global":
        gone = one_ranking(scores, alive, amount)
    else:
        gone = [take(s, a, goes(amount, int(a.sum()))) for s, a in zip(scores, alive, strict=True)]
    for matrix, cuts_, out in zip(matrices, cuts, gone, strict=True):
        for cut, goes_ in zip(cuts_, out, strict=True):
            matrix[cut] &= not goes_
    return [matrix.reshape(mask.shape) for matrix, mask in zip(matrices, old, strict=True)]


def nm_oracle(weights, old, n, m, inputs=1):
    """Group by group: of the living, all but the n largest go."""
    new = []
    for weight, mask in zip(weights, old, strict=True):
        score, kept = np.abs(np.moveaxis(weight, inputs, -1)), np.moveaxis(mask.copy(), inputs, -1)
        for line in np.ndindex(kept.shape[:-1]):
            for start in range(0, kept.shape[-1], m):
                group = kept[line][start : start + m]  # a view
                surplus = max(int(group.sum()) - n, 0)
                group &= ~take(score[line][start : start + m], group.copy(), surplus)
        new.append(np.moveaxis(kept, -1, inputs))
    return new


def budget_oracle(shapes, alive, total, budget):
    """How many each tensor keeps. The scale by halving, then as the fraction it must be: its denominator is a sum."""
    shares = [int(np.prod(shape)) if budget == "uniform" else sum(shape) for shape in shapes]

    def parts(scale):
        return [max(min(scale * share, top), 1) for share, top in zip(shares, alive, strict=True)]

    low, high = Fraction(0), Fraction(max(alive))
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if sum(parts(middle)) < total else (low, middle)
    exact = parts(high.limit_denominator(sum(shares)))
    keeps = [int(part) for part in exact]
    while sum(keeps) < total:
        left = [part - keep for part, keep in zip(exact, keeps, strict=True)]
        keeps[left.index(max(left))] += 1
    return keeps


def layerwise_oracle(weights, old, amount, budget):
    alive = [int(mask.sum()) for mask in old]
    total = max(sum(alive) - round(amount * sum(alive)), len(old))
    keeps = budget_oracle([mask.shape for mask in old], alive, total, budget)
    new = []
    for weight, mask, keep in zip(weights, old, keeps, strict=True):
        gone = take(np.abs(weight).ravel(), mask.ravel(), int(mask.sum()) - keep)
        new.append(mask & ~gone.reshape(mask.shape))
    return new


def lamp_scores(score, alive):
    """Exactly: each square ÷ the sum of the squares of the living that are not before it. 1-D."""
    result = [Fraction(0)] * len(score)
    for i in np.flatnonzero(alive):
        rest = sum(int(score[j]) ** 2 for j in np.flatnonzero(alive) if (score[j], j) >= (score[i], i))
        result[i] = Fraction(int(score[i]) ** 2, rest) if rest else Fraction(0)
    return np.array(result)


def lamp_oracle(weights, old, amount):
    pairs = zip(weights, old, strict=True)
    return global_oracle(weights, old, amount, [lamp_scores(np.abs(w).ravel(), mask.ravel()) for w, mask in pairs])


def threshold_oracle(weights, old, threshold, granularity):
    new = []
    for weight, mask in zip(weights, old, strict=True):
        if granularity == "weight":
            units, alive = np.abs(weight).ravel(), mask.ravel()
            limit, shape = threshold, mask.shape
        else:
            rows = (weight * mask).reshape(len(weight), -1)
            units, alive = (rows**2).sum(1), channels(mask, 0)
            limit, shape = threshold**2 * rows.shape[1], (-1,) + (1,) * (mask.ndim - 1)
        small = [i for i in np.flatnonzero(alive) if units[i] <= limit]
        gone = take(units, alive, min(len(small), max(int(alive.sum()) - 1, 0)))
        new.append(mask & ~gone.reshape(shape))
    return new


def assert_equal(actual, expected):
    for mask, by_hand in zip(actual, expected, strict=True):
        assert np.array_equal(mask, by_hand)


def in_rounds(pruner, oracle, plan, seed, scattered=False):
    """Prunes in several rounds, with new weights before each: every mask must be the oracle's.

    With `scattered`, some weights are gone before the first.
    """
    shapes = [tuple(item.parameter.shape) for item in pruner.items]
    if scattered:
        put_masks(pruner, [keep_one(mask > -2) for mask in integers(shapes, seed + 99)])
    for t, amount in enumerate(plan):
        weights, old = integers(shapes, seed + t), now(pruner)
        put(pruner, weights)
        assert_equal(pruned(pruner, amount), oracle(weights, old, amount))


def pruned(pruner, amount, **how):
    """Prunes once, whatever is said of last units; the masks."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r".*\.weight is down to its last")
        pruner.prune(amount, **how)
    return now(pruner)


def count(units, of):
    return [int(unit.sum()) for unit in units] if of == "each" else [sum(int(unit.sum()) for unit in units)]
