"""Small networks of the kinds that people prune and that break pruning tools; the comment says which kind."""

import itertools
import os
import random
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import torch.utils.checkpoint
from torch import nn
from torch.nn.utils import parametrizations, spectral_norm


def mlp(*middle):
    return nn.Flatten(), nn.Linear(784, 32), *middle, nn.ReLU(), nn.Linear(32, 10)


class MLP(nn.Sequential):  # an ordinary one, which most others extend
    def __init__(self, *middle):
        super().__init__(*mlp(*middle))


# Weights that are shared or computed


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


class HeadFirst(nn.Module):  # the output layer is defined first
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(64, 10)
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU())

    def forward(self, x):
        return self.head(self.body(x))


class Views(MLP):  # the weights are views of one vector, as flat parameters are
    def __init__(self):
        super().__init__()
        flat = torch.randn(784 * 32 + 320) / 28
        self[1].weight = nn.Parameter(flat[320:].view(32, 784))
        self[3].weight = nn.Parameter(flat[:320].view(10, 32))


class SharedStatistics(nn.Module):  # two norms share their running statistics and one of their parameters
    def __init__(self):
        super().__init__()
        self.c, self.d, self.o = nn.Conv2d(1, 6, 5, stride=3), nn.Conv2d(6, 6, 3), nn.Linear(6 * 36, 10)
        self.n, self.m = nn.BatchNorm2d(6), nn.BatchNorm2d(6)
        self.m.running_mean, self.m.running_var, self.m.weight = self.n.running_mean, self.n.running_var, self.n.weight

    def forward(self, x):
        return self.o(torch.relu(self.m(self.d(torch.relu(self.n(self.c(x)))))).flatten(1))


class SharedGates(nn.Module):  # the layers of one LSTM share their weights
    def __init__(self):
        super().__init__()
        self.r, self.o = nn.LSTM(28, 28, 2, batch_first=True), nn.Linear(28, 10)
        self.r.weight_ih_l1, self.r.weight_hh_l1 = self.r.weight_ih_l0, self.r.weight_hh_l0

    def forward(self, x):
        return self.o(self.r(x[:, 0])[0][:, -1])


class TiedInverse(nn.Module):  # a convolution and its transposed one share one weight
    def __init__(self):
        super().__init__()
        self.d, self.u, self.o = nn.Conv2d(1, 6, 4, 4), nn.ConvTranspose2d(6, 1, 4, 4), nn.Linear(784, 10)
        self.u.weight = self.d.weight

    def forward(self, x):
        return self.o((x + self.u(torch.relu(self.d(x)))).flatten(1))


class RepeatedAttention(nn.Module):  # one encoder layer is used three times, under two names
    def __init__(self):
        super().__init__()
        self.i, self.o = nn.Linear(28, 8), nn.Linear(8, 10)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True)
        self.again = nn.ModuleDict({"x": self.layer})

    def forward(self, x):
        return self.o(self.again["x"](self.layer(self.layer(self.i(x[:, 0])))).mean(1))


class RepeatedNormed(nn.Module):  # a layer with a computed weight is used twice
    def __init__(self):
        super().__init__()
        block = parametrizations.weight_norm(nn.Linear(32, 32))
        self.i, self.o, self.b = nn.Linear(784, 32), nn.Linear(32, 10), nn.Sequential(block, nn.ReLU(), block)

    def forward(self, x):
        return self.o(self.b(torch.relu(self.i(x.flatten(1)))))


class Standardised(nn.Module):  # a standardised weight is what convolves
    def __init__(self):
        super().__init__()
        self.c, self.o = nn.Conv2d(1, 8, 5, stride=2), nn.Linear(8 * 144, 10)

    def forward(self, x):
        weight = F.layer_norm(self.c.weight, self.c.weight.shape[1:])
        return self.o(F.conv2d(x, weight, self.c.bias, 2).relu().flatten(1))


class Called(MLP):  # a layer is called with a function of its weights, and recomputed in the backward pass
    def forward(self, x):
        halved = {name: value / 2 for name, value in self[1].named_parameters()}
        x = torch.func.functional_call(self[1], halved, (self[0](x),))
        return torch.utils.checkpoint.checkpoint(lambda y: self[3](torch.relu(y)), x, use_reentrant=False)


# Randomness


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


class Shuffled(nn.Sequential):  # a random buffer that no state dict holds
    def __init__(self):
        super().__init__(nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 10))
        self.register_buffer("order", torch.randperm(784), persistent=False)

    def forward(self, x):
        return super().forward(x.flatten(1)[:, self.order])


class ShuffledAttribute(Shuffled):  # a random tensor that is not even a buffer
    def __init__(self):
        super().__init__()
        del self.order
        self.order = torch.randperm(784)


class ShuffledAndSaved(Shuffled):  # a random buffer that is saved
    def __init__(self):
        super().__init__()
        del self.order
        self.register_buffer("order", torch.randperm(784))


class Counting(MLP):  # trains a buffer that no state dict holds
    def __init__(self):
        super().__init__()
        self.register_buffer("gain", torch.ones(()), persistent=False)

    def forward(self, x):
        if self.training:
            self.gain += 1
        return super().forward(x) * self.gain


class FromTheSystem(MLP):  # weights from a generator that no seed reaches
    def __init__(self):
        super().__init__()
        with torch.no_grad():
            self[1].bias.copy_(torch.frombuffer(bytearray(os.urandom(32)), dtype=torch.uint8) / 256)


class FromTheClock(MLP):
    def __init__(self):
        super().__init__()
        with torch.no_grad():
            self[3].bias.fill_(time.time_ns() % 1_000_003 / 1e6)


class Dropout(MLP):
    def __init__(self):
        super().__init__(nn.Dropout(0.5))


class AlwaysDropout(MLP):  # F.dropout is active in eval mode by default
    def forward(self, x):
        return super().forward(F.dropout(x, 0.5))


class OwnGenerator(MLP):  # draws its noise in training from a generator of its own
    def __init__(self):
        super().__init__()
        self.generator = torch.Generator()

    def forward(self, x):
        return super().forward(x + torch.randn(x.shape, generator=self.generator) if self.training else x)


GENERATOR = np.random.default_rng(0)


class GlobalGenerator(MLP):  # draws from a generator that is not the default one
    def forward(self, x):
        return super().forward(x * (1 + GENERATOR.random()) if self.training else x)


class CountsCalls(MLP):  # counts its calls in a number, which no checkpoint holds
    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, x):
        self.calls += self.training
        return super().forward(x) * (min(self.calls / 100, 1) if self.training else 1)


class CountsInABuffer(MLP):  # counts its calls in a buffer that is saved
    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += self.training
        return super().forward(x) * (self.calls / 100).clamp(max=1)


class LayerDrop(MLP):  # skips a layer by chance, which Python's generator decides
    def __init__(self):
        super().__init__(nn.Linear(32, 32))

    def forward(self, x):
        x = self[1](self[0](x))
        x = self[2](x) if not self.training or random.random() < 0.5 else x
        return self[4](self[3](x))


# Inputs and outputs


class InPlace(MLP):  # works in place on its input
    def forward(self, x):
        x.sub_(0.5).mul_(2)
        return super().forward(x)


class InPlaceLayer(nn.Sequential):  # a layer works in place on a view of the input
    def __init__(self):
        super().__init__(nn.Sequential(nn.Flatten(), nn.ReLU(inplace=True)), nn.Linear(784, 10))


class Tuple(MLP):
    def forward(self, x):
        return super().forward(x), x


class Dict(MLP):
    def forward(self, x):
        return {"logits": super().forward(x)}


class Squeezed(MLP):  # loses the batch dimension of a batch of one
    def forward(self, x):
        return super().forward(x).squeeze()


class Complex(MLP):
    def forward(self, x):
        return torch.complex(super().forward(x), super().forward(x))


class NaN(nn.Sequential):  # the standard deviation of one value is NaN
    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(784, 10), NoiseFree())


class NoiseFree(nn.Module):
    def forward(self, x):
        return x / x[:, :1].std(1, keepdim=True)


class BFloat16(nn.Module):  # half-precision weights, 77,018 of them prunable
    def __init__(self):
        super().__init__()
        self.a, self.b = (nn.Linear(i, o, dtype=torch.bfloat16) for i, o in ((784, 97), (97, 10)))

    def forward(self, x):
        return self.b(torch.relu(self.a(x.flatten(1).bfloat16()))).float()


class Double(nn.Module):  # float64 inside, float32 data
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(784, 32).double(), nn.Linear(32, 10).double()

    def forward(self, x):
        return self.b(torch.relu(self.a(x.flatten(1).double())))


class Float8(MLP):  # frozen numbers of a type with which torch has few operations
    def __init__(self):
        super().__init__()
        self.shift = nn.Parameter(torch.randn(10).to(torch.float8_e4m3fn), requires_grad=False)

    def forward(self, x):
        return super().forward(x) + self.shift.float()


class OneConvolution(nn.Sequential):  # no Linear layer, for the files that store only these in another form
    def __init__(self):
        super().__init__(nn.Conv2d(1, 10, 28), nn.Flatten())


# Layers that need a batch, and what is made or kept in a forward pass


class BatchNorm(MLP):  # cannot train on a batch of one
    def __init__(self):
        super().__init__(nn.BatchNorm1d(32))


class BatchStd(MLP):  # NaN, without an error, on a batch of one
    def forward(self, x):
        return super().forward(x) / (1 + x.std(0).mean() if self.training else 1)


class Lazy(nn.Sequential):  # layers without a shape before the first batch
    def __init__(self):
        super().__init__(nn.Flatten(), nn.LazyLinear(32), nn.LazyBatchNorm1d(), nn.ReLU(), nn.LazyLinear(10))


class LazyConv(nn.Sequential):
    def __init__(self):
        super().__init__(nn.LazyConv2d(4, 5, stride=3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(10))


class Cache(MLP):  # a buffer that is made in the first forward pass
    def __init__(self):
        super().__init__()
        self.register_buffer("scale", None)

    def forward(self, x):
        self.scale = torch.ones(28, 28) if self.scale is None else self.scale
        return super().forward(x * self.scale)


class LateParameter(MLP):  # a parameter that is made in the first forward pass
    def forward(self, x):
        if not hasattr(self, "gain"):
            self.gain = nn.Parameter(torch.ones(()))
        return super().forward(x) * self.gain


class ExtraState(MLP):  # a state dict that holds more than tensors
    def get_extra_state(self):
        return {"epoch": 0}

    def set_extra_state(self, state):
        pass


class KeepsMean(MLP):  # keeps a mean with a graph in a buffer, so that it has no second step of training
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(10))

    def forward(self, x):
        out = super().forward(x)
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * out.mean(0)
        return out - self.mean


class KeepsOutput(MLP):  # keeps a tensor with a graph, so that it refuses to be copied
    def forward(self, x):
        self.last = super().forward(x)
        return self.last


class FailsInEval(MLP):
    def forward(self, x):
        if not self.training:
            raise KeyError("mode")
        return super().forward(x)


class FailsLater(MLP):  # in the eighth step of training
    steps = 0

    def forward(self, x):
        if self.training:
            type(self).steps += 1
            if type(self).steps == 8:
                raise LookupError("nothing\nmore")
        return super().forward(x)


class FailsToBuild(MLP):
    def __init__(self):
        super().__init__()
        Path("/there/is/no/such/file").stat()


# More members of the same kinds


class Siamese(nn.Module):  # two convolutions share weight and bias, and are concatenated
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 6, 5, stride=2), nn.Conv2d(1, 6, 5, stride=2)
        self.b.weight, self.b.bias = self.a.weight, self.a.bias
        self.o = nn.Linear(12 * 144, 10)

    def forward(self, x):
        return self.o(torch.cat([torch.relu(self.a(x)), torch.relu(self.b(x.flip(-1)))], 1).flatten(1))


class Alias(nn.Module):  # a parameter of the network itself is that of a layer, which is never called
    def __init__(self):
        super().__init__()
        self.l, self.o = nn.Linear(784, 32, bias=False), nn.Linear(32, 10)
        self.w = self.l.weight

    def forward(self, x):
        return self.o(torch.relu(F.linear(x.flatten(1), self.w)))


class InTwoPlaces(nn.Module):  # one convolution in a ModuleDict and in a Sequential
    def __init__(self):
        super().__init__()
        shared = nn.Conv2d(6, 6, 3, padding=1)
        self.i, self.o = nn.Conv2d(1, 6, 5, stride=3), nn.Linear(6 * 64, 10)
        self.m = nn.ModuleDict({"x": shared, "y": nn.Sequential(shared, nn.ReLU())})

    def forward(self, x):
        return self.o(self.m["y"](torch.relu(self.m["x"](torch.relu(self.i(x))))).flatten(1))


class CellLoop(nn.Module):  # a recurrent cell that is called 28 times
    def __init__(self):
        super().__init__()
        self.c, self.o = nn.GRUCell(28, 24), nn.Linear(24, 10)

    def forward(self, x):
        h = x.new_zeros(len(x), 24)
        for row in x[:, 0].unbind(1):
            h = self.c(row, h)
        return self.o(h)


class AbsoluteConv(nn.Module):  # a function of a convolution's weight is what convolves
    def __init__(self):
        super().__init__()
        self.c, self.o = nn.Conv2d(1, 8, 5, stride=2), nn.Linear(8 * 144, 10)

    def forward(self, x):
        return self.o(F.conv2d(x, self.c.weight.abs(), self.c.bias, 2).relu().flatten(1))


class Weights(nn.Module):  # no layers, only a list of parameters
    def __init__(self):
        super().__init__()
        self.w = nn.ParameterList([torch.randn(784, 32) / 28, torch.randn(32, 10) / 6])

    def forward(self, x):
        return torch.relu(x.flatten(1) @ self.w[0]) @ self.w[1]


class Orthogonal(nn.Sequential):  # a parametrization whose weight is never sparse
    def __init__(self):
        super().__init__(nn.Flatten(), parametrizations.orthogonal(nn.Linear(784, 32)), nn.ReLU(), nn.Linear(32, 10))


class PermutedList(MLP):  # a random list, which no state dict holds
    def __init__(self):
        super().__init__()
        self.order = random.sample(range(784), 784)

    def forward(self, x):
        return super().forward(x.flatten(1)[:, self.order])


class ReadHead(nn.Module):  # the output layer's weight is read, and it is defined first
    def __init__(self):
        super().__init__()
        self.head, self.body = nn.Linear(32, 10, bias=False), nn.Linear(784, 32)

    def forward(self, x):
        return torch.relu(self.body(x.flatten(1))) @ self.head.weight.T


class TwoHeads(nn.Module):  # two output layers, whose outputs are added
    def __init__(self):
        super().__init__()
        self.h1, self.h2, self.body = nn.Linear(32, 10), nn.Linear(32, 10), nn.Linear(784, 32)

    def forward(self, x):
        x = torch.relu(self.body(x.flatten(1)))
        return self.h1(x) + self.h2(x * x)


class InPlaceSlice(MLP):  # writes on a view of its input
    def forward(self, x):
        x.view(len(x), -1)[:, ::2] = 0
        return super().forward(x)


class KeepsEverything(MLP):  # keeps tensors with graphs in a dict and a list
    def __init__(self):
        super().__init__()
        self.seen, self.means = {}, []

    def forward(self, x):
        out = super().forward(x)
        self.seen[len(x)] = out
        self.means.append(out.mean())
        return out


class Unpicklable(MLP):  # holds what cannot be copied
    def __init__(self):
        super().__init__()
        self.numbers, self.double = itertools.count(), lambda x: x * 2
        self.generator = (i for i in range(10**9))

    def forward(self, x):
        next(self.generator)
        return super().forward(self.double(x))


class Projected(nn.Module):  # a bidirectional LSTM of two layers with projections
    def __init__(self):
        super().__init__()
        self.r, self.o = nn.LSTM(28, 16, 2, batch_first=True, bidirectional=True, proj_size=8), nn.Linear(16, 10)

    def forward(self, x):
        return self.o(self.r(x[:, 0])[0][:, -1])


class OtherKeys(nn.Module):  # attention whose keys and values have another size
    def __init__(self):
        super().__init__()
        self.q, self.o = nn.Linear(28, 16), nn.Linear(16, 10)
        self.a = nn.MultiheadAttention(16, 4, kdim=28, vdim=28, batch_first=True)

    def forward(self, x):
        x = x[:, 0]
        return self.o(self.a(self.q(x), x, x)[0].mean(1))
