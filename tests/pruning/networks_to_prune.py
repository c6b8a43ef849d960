"""Small networks of the kinds that break pruning tools."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, spectral_norm

SIZE = 6  # of an example


class Tied(nn.Module):
    """An embedding and its decoder share one weight."""

    def __init__(self):
        super().__init__()
        self.emb, self.mix, self.dec = nn.Embedding(8, 4), nn.Linear(SIZE * 4, 4), nn.Linear(4, 8, bias=False)
        self.dec.weight = self.emb.weight

    def forward(self, x):
        tokens = (x * 2 + 4).long().clamp(0, 7)
        return self.dec(torch.relu(self.mix(self.emb(tokens).flatten(1))))


class Twins(nn.Module):
    """Two Linear layers share one weight."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c, self.o = nn.Linear(SIZE, 5), nn.Linear(5, 5), nn.Linear(5, 5), nn.Linear(5, 3)
        self.c.weight = self.b.weight

    def forward(self, x):
        return self.o(torch.relu(self.c(torch.relu(self.b(torch.relu(self.a(x)))))))


class Repeated(nn.Module):
    """One block used three times, under three names."""

    def __init__(self):
        super().__init__()
        self.inp, self.out = nn.Linear(SIZE, 5), nn.Linear(5, 3)
        self.blocks = nn.ModuleList([nn.Sequential(nn.Linear(5, 5), nn.ReLU())] * 3)

    def forward(self, x):
        x = torch.relu(self.inp(x))
        for block in self.blocks:
            x = x + block(x)
        return self.out(x)


class Cosine(nn.Module):
    """A layer's weight is read without calling the layer."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(SIZE, 5), nn.Linear(5, 3, bias=False)

    def forward(self, x):
        return 10 * F.linear(F.normalize(torch.relu(self.body(x))), F.normalize(self.head.weight))


class HeadFirst(nn.Module):
    """The output layer is defined first."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(5, 3)
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(SIZE, 5), nn.ReLU(), nn.Linear(5, 5), nn.ReLU())

    def forward(self, x):
        return self.head(self.body(x))


def spectral():
    return spectral_norm(nn.Linear(SIZE, 5))


def weight_normed():
    return parametrizations.weight_norm(nn.Linear(SIZE, 5))


def mlp():
    return nn.Sequential(nn.Linear(SIZE, 5), nn.ReLU(), nn.Linear(5, 3))


NETWORKS = {"mlp": mlp, "tied": Tied, "twins": Twins, "repeated": Repeated, "cosine": Cosine, "head_first": HeadFirst}


def drawn(build, seed=0):
    """The network with weights of that seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def batch(seed=0, size=8):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(size, SIZE, generator=generator), torch.randint(3, (size,), generator=generator)


def train(model, optimizer, steps=3, seed=0):
    """Steps of training, each on a batch of its own."""
    for step in range(steps):
        inputs, labels = batch(seed + step)
        optimizer.zero_grad()
        F.cross_entropy(model(inputs), labels).backward()
        optimizer.step()
