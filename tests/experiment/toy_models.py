"""Small networks of kinds that break pruning tools; which case each stands for is in its comment."""

import random

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, spectral_norm

from prunelab.data.dataset import Dataset, Split, describes


class Tied(nn.Module):  # an embedding and its decoder share one weight
    def __init__(self, d=32):
        super().__init__()
        self.emb, self.mix, self.dec = nn.Embedding(32, d), nn.Linear(49 * d, d), nn.Linear(d, 32, bias=False)
        self.dec.weight = self.emb.weight

    def forward(self, x):
        t = (F.avg_pool2d(x, 4).flatten(1) * 8 + 8).long().clamp(0, 31)
        return self.dec(torch.relu(self.mix(self.emb(t).flatten(1))))


class Twins(nn.Module):  # two Linear layers share one weight
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c, self.o = nn.Linear(784, 64), nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 10)
        self.c.weight = self.b.weight

    def forward(self, x):
        return self.o(torch.relu(self.c(torch.relu(self.b(torch.relu(self.a(x.flatten(1))))))))


class Repeated(nn.Module):  # one block is used three times, under three names
    def __init__(self):
        super().__init__()
        self.inp, self.out = nn.Linear(784, 64), nn.Linear(64, 10)
        self.blocks = nn.ModuleList([nn.Sequential(nn.Linear(64, 64), nn.ReLU())] * 3)

    def forward(self, x):
        x = torch.relu(self.inp(x.flatten(1)))
        for block in self.blocks:
            x = x + block(x)
        return self.out(x)


class Cosine(nn.Module):  # a layer's weight is read without calling the layer
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(784, 64), nn.Linear(64, 10, bias=False)

    def forward(self, x):
        x = torch.relu(self.body(x.flatten(1)))
        return 10 * F.linear(F.normalize(x), F.normalize(self.head.weight))


class Spectral(nn.Sequential):  # another pre-forward hook makes the weight
    def __init__(self):
        super().__init__(nn.Flatten(), spectral_norm(nn.Linear(784, 64)), nn.ReLU(), nn.Linear(64, 10))


class WeightNorm(nn.Sequential):  # a parametrization makes the weight
    def __init__(self):
        super().__init__(nn.Flatten(), parametrizations.weight_norm(nn.Linear(784, 64)), nn.ReLU(), nn.Linear(64, 10))


class NumpyNet(nn.Sequential):  # draws its initial weights from NumPy's generator
    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(784, 16), nn.ReLU(), nn.Linear(16, 10))
        with torch.no_grad():
            self[1].weight.copy_(torch.from_numpy(np.random.randn(16, 784) / 28))


class RandomNet(nn.Sequential):  # draws its initial weights from Python's generator
    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(784, 4), nn.ReLU(), nn.Linear(4, 10))
        with torch.no_grad():
            for parameter in self.parameters():
                drawn = [random.uniform(-0.1, 0.1) for _ in range(parameter.numel())]
                parameter.copy_(torch.tensor(drawn).view_as(parameter))


class StochasticNet(nn.Sequential):  # draws random numbers in eval mode too
    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(784, 16), nn.ReLU(), nn.Linear(16, 10))

    def forward(self, x):
        return super().forward(x + torch.rand_like(x) * np.random.rand() * random.random())


class Noisy(Split):  # augments each batch by random numbers of NumPy and Python
    def batch(self, index):
        inputs, labels = super().batch(index)
        return inputs + float(np.random.rand()) * random.random(), labels


@describes(shape=(1, 28, 28), classes=10)
def noisy(examples=80):
    """A data set whose content is drawn from the default generators."""

    def split(kind):
        labels = torch.arange(examples) % 10
        return kind(torch.rand(examples, 1, 28, 28) + random.random() + labels.view(-1, 1, 1, 1) / 5, labels)

    return Dataset(split(Noisy), split(Split), split(Split))


class KeepsOutput(nn.Sequential):  # keeps a tensor with a graph, so that it refuses to be copied
    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(784, 16), nn.ReLU(), nn.Linear(16, 10))

    def forward(self, x):
        self.last = super().forward(x)
        return self.last
