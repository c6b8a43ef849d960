from itertools import product

import numpy as np
import torch
from torch import nn
from toys import evidence, linear

from prunelab.pruning.criteria.synflow import synflow


def scores(model, *shape, **options):
    return synflow(evidence(model, torch.full((1, *shape), torch.nan), **options))  # data are never read


def test_a_net_of_two_layers_by_hand():
    first, second = scores(nn.Sequential(linear([[1, -2], [3, 4]]), nn.ReLU(), linear([[5, -6]])), 2)
    assert first.tolist() == [[5, 10], [18, 24]]
    assert second.tolist() == [[15, 42]]


def test_a_score_is_the_sum_over_the_paths_through_the_weight():
    rng = np.random.default_rng(0)
    layers = [rng.normal(size=shape) for shape in [(4, 3), (5, 4), (2, 5)]]
    expected = [np.zeros_like(layer) for layer in layers]
    for path in product(range(3), range(4), range(5), range(2)):
        edges = [(path[i + 1], path[i]) for i in range(3)]
        flow = np.prod([abs(layer[edge]) for layer, edge in zip(layers, edges, strict=True)])
        for total, edge in zip(expected, edges, strict=True):
            total[edge] += flow
    model = nn.Sequential(linear(layers[0]), nn.ReLU(), linear(layers[1]), nn.ReLU(), linear(layers[2]))
    for score, total in zip(scores(model, 3), expected, strict=True):
        assert np.allclose(score.numpy(), total, rtol=1e-12)


def test_what_flows_into_a_unit_flows_out_of_it():
    torch.manual_seed(0)
    parts = [nn.Conv2d(2, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 5, 3), nn.ReLU(), nn.Flatten()]
    model = nn.Sequential(*parts, nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 3))
    everything = list(model.parameters())
    flows = scores(model, 2, 8, 8, weights=everything)
    for i in (0, 2, 4):
        into = flows[i].flatten(1).sum(1) + flows[i + 1]  # weights and bias
        out = flows[i + 2].transpose(0, 1).flatten(1).sum(1)
        assert torch.allclose(into, out, rtol=1e-12)
    assert torch.allclose(flows[6].sum(0), flows[4].sum(1) + flows[5], rtol=1e-12)


def test_statistics_of_batch_norm_are_made_positive_as_in_the_papers_code():
    norm = nn.BatchNorm1d(1, eps=1e-300, dtype=torch.float64)
    norm.running_mean.fill_(-3.0)
    norm.running_var.fill_(4.0)
    with torch.no_grad():
        norm.weight.fill_(-2.0)
    # |-10| · 1 goes in; (10 − 3) ÷ 2 · |-2| = 7 comes out; ∂R/∂w · w = 10 ÷ 2 · 2 · 6 = 60.
    first, second = scores(nn.Sequential(linear([[-10]]), norm, nn.ReLU(), linear([[6]])), 1)
    assert (first.item(), second.item()) == (60, 42)


def test_other_buffers_are_left_alone():
    class Shifted(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = linear([[2, 3]])
            self.register_buffer("mask", torch.tensor([0.0, -torch.inf]))

        def forward(self, x):
            return self.layer(x * torch.softmax(self.mask, 0))

    assert scores(Shifted(), 2)[0].tolist() == [[2, 0]]


def test_products_that_overflow_float32():
    layers = [nn.Linear(1, 1, bias=False) for _ in range(10)]
    for layer in layers:
        nn.init.constant_(layer.weight, 1e5)
    for score in scores(nn.Sequential(*layers), 1):
        assert score.dtype == torch.float64
        assert np.isclose(score.item(), 1e50, rtol=1e-5)


def test_a_pruned_weight_scores_nothing_and_its_path_neither():
    first, second = scores(nn.Sequential(linear([[1, 0], [0, 0]]), nn.ReLU(), linear([[5, 6]])), 2)
    assert first.tolist() == [[5, 0], [0, 0]]
    assert second.tolist() == [[5, 0]]
