"""Data sets, criteria, methods and callbacks of a user's: some are right, most fail in one way each."""

import random

import numpy as np
import torch
from torch.nn.utils import prune
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import IterableDataset, TensorDataset

from prunelab.data import Dataset, Split, describes
from prunelab.training.callbacks.base import Callback

# Data


def images(count):
    return torch.randn(count, 1, 28, 28, generator=torch.Generator().manual_seed(count))


def labels(count):
    return torch.arange(count) % 10


def one_set():
    return TensorDataset(images(60), labels(60))


def two_sets():
    return TensorDataset(images(60), labels(60)), TensorDataset(images(20), labels(20))


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


def with_labels(change):
    return lambda: Dataset(*(Split(images(n), change(labels(n))) for n in (60, 20, 20)))


def with_images(change):
    return lambda: Dataset(*(Split(change(images(n)), labels(n)) for n in (60, 20, 20)))


float_labels, negative, from_one = (with_labels(f) for f in (lambda y: y.float(), lambda y: y - 1, lambda y: y + 1))
column, one_hot = with_labels(lambda y: y[:, None]), with_labels(lambda y: torch.eye(10)[y])
int32, boolean = with_labels(lambda y: y.int()), with_labels(lambda y: y > 4)
double_images, integers = with_images(lambda x: x.double()), with_images(lambda x: x.long())
uint8 = with_images(lambda x: (x * 60 + 128).clamp(0, 255).byte())
arrays = with_images(lambda x: x.numpy())


def no_validation():
    return Dataset(Split(images(60), labels(60)), Split(images(0), labels(0)), Split(images(20), labels(20)))


def other_shape():
    return two_sets()[0], TensorDataset(torch.rand(20, 1, 32, 32), labels(20))


@describes(shape=(1, 28, 28), classes=5)
def more_classes_than_said():
    return two_sets()


@describes(shape=(3, 28, 28), classes=10)
def other_shape_than_said():
    return two_sets()


class Varying(TorchDataset):
    def __len__(self):
        return 40

    def __getitem__(self, i):
        return torch.rand(1, 28, 28 + i % 2), i % 10


class Failing(Varying):
    def __getitem__(self, i):
        return {}["image"]


class WithoutLength(TorchDataset):
    def __getitem__(self, i):
        return torch.rand(1, 28, 28), i % 10


class Stream(IterableDataset):
    def __iter__(self):
        yield torch.rand(1, 28, 28), 1


def no_such_file():
    return open("/there/is/no/such/file")  # noqa: PTH123


# What scores and prunes


def fails(evidence):
    raise KeyError("x")


def flat(evidence):
    return [value.abs().flatten() for value in evidence.values]


def nothing(evidence):
    return None


def too_few(evidence):
    return [evidence.values[0].abs()]


def not_a_number(evidence):
    return [value * float("nan") for value in evidence.values]


class Later:
    """A criterion that scores by magnitude until dense training is over, and then fails."""

    def __init__(self, then):
        self.then = then

    def __call__(self, evidence):
        pairs = zip(evidence.values, evidence.initial, strict=True)
        trained = any(not torch.equal(now, before) for now, before in pairs)
        return self.then(evidence) if trained else [value.abs() for value in evidence.values]


def fails_later(evidence):
    return Later(fails)(evidence)


def nothing_later(evidence):
    return Later(nothing)(evidence)


def not_a_number_later(evidence):
    return Later(not_a_number)(evidence)


def helper():
    return 1 / 0


def score(weight):
    return helper()


class Method(prune.BasePruningMethod):
    PRUNING_TYPE = "unstructured"

    def __init__(self, amount=0.1):
        self.amount = amount

    def compute_mask(self, t, default_mask):
        raise RuntimeError("no mask")


# Callbacks


class RaisesInRoundThree(Callback):
    def __init__(self, phase):
        self.round = phase.round

    def after_step(self, iteration):
        if self.round == 3:
            raise ValueError("in round 3")


class Raises(Callback):
    def __init__(self, phase):
        self.phase = phase

    def before_step(self, iteration):
        raise ArithmeticError


class ObjectiveOfNothing(Callback):
    def __init__(self, phase):
        self.phase = phase

    def objective(self, loss, inputs, logits):
        return None


class SubstituteOfNothing(ObjectiveOfNothing):
    def substitutes(self):
        return {"no.such.weight": torch.zeros(1)}

    def objective(self, loss, inputs, logits):
        return loss


class SubstituteOfOtherShape(SubstituteOfNothing):
    def substitutes(self):
        return {"conv1.weight": torch.zeros(2, 2)}


class EndsGenerators(Callback):
    def __init__(self, phase):
        self.phase = phase

    def before_step(self, iteration):
        next(iter(()))


class ObjectiveOfMany(ObjectiveOfNothing):
    def objective(self, loss, inputs, logits):
        return logits
