"""Evidence about toy models, and softmax regression in NumPy: the oracle of what goes by gradients."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from prunelab.pruning.criteria.base import Evidence
from prunelab.pruning.masks import Masks, named


def evidence(model, inputs, labels=None, *, weights=None, masks=None, initial=None, batch_size=4):
    """By default all parameters of two and more dimensions are prunable, and nothing is pruned yet."""
    if weights is None:
        weights = [parameter for parameter in model.parameters() if parameter.dim() > 1]
    labels = torch.zeros(len(inputs), dtype=torch.long) if labels is None else labels
    all_masks = Masks(model)
    all_masks.add([(module, key) for _, module, key, p in named(model) if any(p is w for w in weights)])
    items = [next(item for item in all_masks if item.parameter is weight) for weight in weights]
    for item, mask in zip(items, masks or (), strict=False):
        item.set(mask)
    all_masks.apply()
    initial = [w.detach().clone() for w in weights] if initial is None else initial
    return Evidence(
        model,
        items,
        initial={item.name: value for item, value in zip(items, initial, strict=True)},
        batches=lambda n: list(zip(inputs[:n].split(batch_size), labels[:n].split(batch_size), strict=True)),
        shape=inputs.shape[1:],
    )


def linear(weight):
    """A Linear layer without bias, float64, of these weights."""
    weight = torch.tensor(np.array(weight, dtype=np.float64))
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(weight)
    return layer


def regression(examples=10, features=4, classes=3, seed=0):
    """Softmax regression: weights [classes, features], inputs [examples, features], labels [examples]; NumPy."""
    rng = np.random.default_rng(seed)
    w, x = rng.normal(size=(classes, features)), rng.normal(size=(examples, features))
    return w, x, rng.integers(0, classes, examples)


def probabilities(w, x, temperature=1.0):
    z = np.exp(x @ w.T / temperature)
    return z / z.sum(1, keepdims=True)


def slope(w, x, y, temperature=1.0):
    """∂/∂w of the mean cross-entropy: mean of (p − y) xᵀ ÷ T."""
    error = probabilities(w, x, temperature) - np.eye(len(w))[y]
    return error.T @ x / len(x) / temperature


def hessian_times(w, x, v, temperature=1.0):
    """H v of the mean cross-entropy: mean of (diag p − p pᵀ) V x xᵀ ÷ T²."""
    total = np.zeros_like(w)
    for p, example in zip(probabilities(w, x, temperature), x, strict=True):
        total += (np.diag(p) - np.outer(p, p)) @ np.outer(v @ example, example)
    return total / len(x) / temperature**2


class Recurrent(nn.Module):
    def __init__(self, kind=nn.LSTM, features=3, hidden=4, **options):
        super().__init__()
        self.rnn = kind(features, hidden, **options)
        self.out = nn.Linear(hidden * (2 if options.get("bidirectional") else 1), 3)

    def forward(self, x):
        return self.out(self.rnn(x)[0].mean(1))


class Attention(nn.Module):
    """Self-attention over [n, steps, 4]."""

    def __init__(self, **options):
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True, **options)
        self.out = nn.Linear(4, 3)

    def forward(self, x):
        return self.out(self.attention(x, x, x, need_weights=False)[0].mean(1))


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.out = nn.Linear(4, 3)

    def forward(self, x):
        return self.out(self.encoder(x).mean(1))


def convolutional():
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 6, 3, groups=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(24, 3),
    )


# A model and the shape of one example.
MODELS = {
    "perceptron": (lambda: nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3)), (5,)),
    "convolutional": (convolutional, (2, 8, 8)),
    "lstm": (lambda: Recurrent(batch_first=True), (5, 3)),
    "attention": (Attention, (5, 4)),
    "encoder": (Encoder, (5, 4)),
}


def toy(name, dtype=torch.float32, seed=0, device="cpu"):
    """Evidence about one of MODELS; ten examples in batches of four, so that the last batch is smaller."""
    with local_seed(seed):
        build, shape = MODELS[name]
        model = build().to(dtype)
        inputs, labels = torch.randn(10, *shape, dtype=dtype), torch.randint(3, (10,))
        weights = list(model.parameters())
        trained = [torch.randn_like(w) for w in weights if w.dim() > 1]
    model, inputs, labels = model.to(device), inputs.to(device), labels.to(device)
    weights, trained = list(model.parameters()), [t.to(device) for t in trained]
    initial = [w.detach() + t for w, t in zip([w for w in weights if w.dim() > 1], trained, strict=True)]
    return evidence(model, inputs, labels, initial=initial)


@contextmanager
def local_seed(seed):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def gradients(model, weights, inputs, labels):
    """∂/∂w of the mean cross-entropy by plain `backward`."""
    model.zero_grad()
    nn.functional.cross_entropy(model(inputs), labels).backward()
    found = [w.grad.clone() for w in weights]
    model.zero_grad()
    return found
