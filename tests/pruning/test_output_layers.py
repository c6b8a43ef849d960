"""The layers that give the output: found however the weights are read, and wherever they are defined."""

import pytest
import torch
import torch.nn.functional as F
from networks_to_prune import SIZE, Cosine, HeadFirst, Tied
from torch import nn
from torch.nn.utils import parametrizations, spectral_norm

from prunelab.models.lenet import LeNet
from prunelab.pruning.output_layers import output_layers
from prunelab.pruning.pruner import Pruner


class Net(nn.Module):
    """The output layers are defined first; `how` says how the output is computed."""

    def __init__(self, how, **heads):
        super().__init__()
        self.how = how
        for name, module in heads.items():
            setattr(self, name, module)
        self.body = nn.Linear(SIZE, 5)

    def forward(self, x):
        return self.how(self, torch.relu(self.body(x)))


def linear():
    return nn.Linear(5, 3)


def two(net, h):
    return net.a(h) + net.b(h)


def first_of_two(net, h):
    output = net.a(h)
    net.b(h)  # an auxiliary output, computed last and thrown away
    return F.log_softmax(output, 1)


def halves(net, h):
    return torch.cat([net.b(h), net.a(h)], 1)


def scales(net, h):
    return net.head(h) + net.head(torch.relu(net.next(h)))


def scaled(net, h):
    return torch.relu(net.norm(net.head(h)) + torch.ones(1, 3)) * 2


HEADS = {
    "called": (lambda net, h: net.head(h), {"head": linear()}, ["head"]),
    "functional": (lambda net, h: F.linear(h, net.head.weight, net.head.bias), {"head": linear()}, ["head"]),
    "normalised": (lambda net, h: F.linear(h, F.normalize(net.head.weight)), {"head": linear()}, ["head"]),
    "matmul": (lambda net, h: h @ net.head.weight.t(), {"head": linear()}, ["head"]),
    "einsum": (lambda net, h: torch.einsum("bi,oi->bo", h, net.head.weight), {"head": linear()}, ["head"]),
    "elementwise": (lambda net, h: (h[:, None] * net.head.weight).sum(2), {"head": linear()}, ["head"]),
    "siamese": (
        lambda net, h: net.head((h - net.body(h.sum() * torch.ones(2, SIZE))).abs()),
        {"head": linear()},
        ["head"],
    ),
    "two heads": (two, {"a": linear(), "b": linear()}, ["a", "b"]),
    "auxiliary": (first_of_two, {"a": linear(), "b": linear()}, ["a"]),
    "in a dict": (lambda net, h: net.heads["x"](h), {"heads": nn.ModuleDict({"x": linear()})}, ["heads.x"]),
    "dict output": (lambda net, h: {"logits": net.head(h)}, {"head": linear()}, ["head"]),
    "halves": (halves, {"a": nn.Linear(5, 2), "b": nn.Linear(5, 1)}, ["a", "b"]),
    "at two scales": (scales, {"head": linear(), "next": nn.Linear(5, 5)}, ["head"]),
    "bilinear": (lambda net, h: net.head(h, h.flip(1)), {"head": nn.Bilinear(5, 5, 3)}, ["head"]),
    "in groups": (lambda net, h: net.head(h[:, :4, None])[:, :, 0], {"head": nn.Conv1d(4, 4, 1, groups=2)}, ["head"]),
    "parameters": (lambda net, h: h @ net.head[0], {"head": nn.ParameterList([torch.ones(5, 3)])}, ["head"]),
    "permuted": (lambda net, h: net.head(h)[:, [2, 0, 1]].softmax(1).log(), {"head": linear()}, ["head"]),
    "norm after it": (scaled, {"head": linear(), "norm": nn.BatchNorm1d(3)}, ["head"]),
    "frozen": (lambda net, h: net.head(h), {"head": linear().requires_grad_(False)}, ["head"]),
    "spectral": (lambda net, h: net.head(h), {"head": spectral_norm(linear())}, ["head"]),
    "parametrized": (
        lambda net, h: net.head(h),
        {"head": parametrizations.spectral_norm(linear())},
        ["head.parametrizations.weight"],
    ),
    "recurrent": (lambda net, h: net.head(h[:, None])[0][:, -1], {"head": nn.GRU(5, 3, batch_first=True)}, ["head"]),
}


@pytest.mark.parametrize("name", HEADS)
def test_the_output_is_followed_back_to_the_first_weights(name):
    how, heads, expected = HEADS[name]
    model = Net(how, **heads)
    flags = [parameter.requires_grad for parameter in model.parameters()]
    assert output_layers(model, torch.ones(2, SIZE)) == expected
    assert [parameter.requires_grad for parameter in model.parameters()] == flags


def test_convolutions_tokens_and_attention():
    class Pooled(nn.Module):
        def __init__(self):
            super().__init__()
            self.classes, self.body = nn.Conv2d(4, 3, 1), nn.Conv2d(1, 4, 3)

        def forward(self, x):
            return F.adaptive_avg_pool2d(self.classes(torch.relu(self.body(x))), 1).flatten(1)

    class Attending(nn.Module):
        def __init__(self):
            super().__init__()
            self.head, self.place = nn.Linear(SIZE, 3), nn.Parameter(torch.ones(1, 2, SIZE))
            self.attention = nn.MultiheadAttention(SIZE, 2, batch_first=True)

        def forward(self, x):
            x = x[:, None] + self.place
            return self.head((x + self.attention(x, x, x)[0]).mean(1))

    assert output_layers(Pooled(), torch.zeros(1, 1, 8, 8)) == ["classes"]
    assert output_layers(Attending(), torch.zeros(2, SIZE)) == ["head"]
    assert output_layers(Tied(), torch.zeros(2, SIZE)) == ["emb", "dec"]
    assert output_layers(Cosine(), torch.zeros(2, SIZE)) == ["head"]


def test_a_tied_output_layer_is_spared_under_each_of_its_names():
    pruner = Pruner(Tied(), granularity="channel", example=torch.zeros(2, SIZE))
    assert [item.name for item in pruner.items] == ["mix.weight"]


def test_output_layer_by_definition():
    assert output_layers(LeNet()) == ["fc3"]
    assert output_layers(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))) == ["0"]
    assert output_layers(nn.BatchNorm1d(2)) == []


def test_output_layer_by_running_the_model():
    model = HeadFirst()
    assert output_layers(model) == ["body.3"]
    assert output_layers(model, torch.zeros(2, 6)) == ["head"]
    assert output_layers(model, torch.zeros(2, 7)) == ["body.3"]  # the model cannot run on it


def test_looking_for_the_output_layer_leaves_no_trace():
    model = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 4), nn.ReLU(inplace=True), nn.Dropout(), nn.Linear(4, 2))
    model[0].eval()  # frozen statistics
    example = torch.ones(2, 4)
    assert output_layers(model, example) == ["4"]
    assert [module.training for module in model.modules()] == [True, False, True, True, True, True]
    assert int(model[0].num_batches_tracked) == 0
    assert not any(module._forward_pre_hooks for module in model.modules())

    class InPlace(nn.Sequential):
        def forward(self, x):
            return super().forward(x.mul_(2))

    output_layers(InPlace(nn.Linear(4, 2)), example)
    assert torch.equal(example, torch.ones(2, 4))
