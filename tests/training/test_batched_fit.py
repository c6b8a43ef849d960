"""Several trainings as one, against the same trainings one by one with torch's own optimizers."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from many_trainings import IMAGES, OPTIMIZERS, VECTORS, lenet, net, training
from torch import nn

from prunelab import Pruner
from prunelab.data.dataset import Split
from prunelab.models.deep_mlp import DeepMLP
from prunelab.models.lenet import LeNet, LeNet300100
from prunelab.models.lstm import LSTM
from prunelab.models.residual_lenet import ResidualLeNet
from prunelab.runtime.interrupt import InterruptedRun
from prunelab.runtime.turns import TURN, Turn
from prunelab.sweeps.batched import take_turns
from prunelab.training.batched_fit import Epoch, why_not
from prunelab.training.loop import DivergedError, Training, one_by_one

WIDTH = 4


def ask(one: Training, order: Sequence[torch.Tensor]) -> None:
    TURN.get().ask(Epoch(one, order, ""))


def together(trainings: Sequence[Training], epochs: int = 1, width: int = WIDTH, interrupt=lambda: None) -> list[Turn]:
    """Train by the steps of all at once. The turns have the errors that ended them."""

    def job(one: Training) -> None:
        for _ in range(epochs):
            dataclasses.replace(one, steps=ask).train_epoch()

    turns = [Turn(functools.partial(job, one), interrupt) for one in trainings]
    take_turns(turns, width, interrupt)
    return turns


def apart(one: Training, other: Training) -> float:
    """The largest difference of two models, in multiples of the largest weight."""
    pairs = [(a.detach(), b.detach()) for a, b in zip(one.model.parameters(), other.model.parameters(), strict=True)]
    return max(float((a - b).abs().max()) for a, b in pairs) / max(float(a.abs().max()) for a, _ in pairs)


def bits(one: Training) -> list[bytes]:
    return [tensor.detach().numpy().tobytes() for tensor in one.model.state_dict().values()]


@pytest.mark.parametrize("decay", [None, "weights"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_steps_as_torch_does(name, decay):
    def make():
        kind, options = OPTIMIZERS[name]
        rates = [options["lr"] * factor for factor in (1, 0.5, 2)]
        return [
            training(net(seed), (kind, {**options, "lr": lr}), seed=seed, decay=decay) for seed, lr in enumerate(rates)
        ]

    alone, batch = make(), make()
    for epoch in range(3):
        for one in alone:
            one.train_epoch()
        turns = together(batch)
        assert not any(turn.error for turn in turns)
        for one, other in zip(alone, batch, strict=True):
            assert apart(one, other) < 2e-5
            assert (other.position.epoch, other.position.batch) == (epoch + 1, 0)


def test_each_job_has_the_order_and_the_loss_of_every_step_that_it_has_alone():
    orders: dict[tuple[int, str], list[int]] = {}
    losses: dict[tuple[int, str], list[float]] = {}

    def noting(how, take):
        def steps(one, order):
            orders[one.spec.seed, how] = torch.cat(list(order)).tolist()
            take(one, order)
            losses[one.spec.seed, how] = one.position.losses.tolist()

        return steps

    def job(one, how, take):
        dataclasses.replace(one, steps=noting(how, take)).train_epoch()

    seeds = (3, 1, 2)
    for seed in seeds:
        job(training(net(seed), seed=seed), "alone", one_by_one)
    turns = [Turn(functools.partial(job, training(net(seed), seed=seed), "together", ask)) for seed in seeds]
    take_turns(turns, WIDTH, lambda: None)
    for seed in seeds:
        assert sorted(orders[seed, "alone"]) == list(range(50))
        assert orders[seed, "together"] == orders[seed, "alone"]
        assert losses[seed, "together"] == pytest.approx(losses[seed, "alone"], rel=1e-5)


@pytest.mark.parametrize(("precision", "apart"), [(None, 1e-6), ("bf16", 0.05)])  # pooling has ties in bf16
def test_one_step_of_lenet_is_close(precision, apart):
    def make():
        return training(lenet(0), data=IMAGES, batch_size=40, precision=precision)

    alone, other = make(), make()
    alone.train_epoch()
    together([other])
    for a, b in zip(alone.model.parameters(), other.model.parameters(), strict=True):
        one, two = (x.optimizer.state[p]["exp_avg"].flatten() for x, p in ((alone, a), (other, b)))
        assert 1 - float(F.cosine_similarity(one, two, dim=0)) < apart
        assert float(one.norm()) == pytest.approx(float(two.norm()), rel=apart)


def test_masks_are_those_of_the_pruner_and_hold():
    def make():
        made = [training(net(seed), OPTIMIZERS["momentum"], seed=seed) for seed in range(3)]
        for one, amount in zip(made, (0.25, 0.5), strict=False):  # the third has no mask
            pruners.append(Pruner(one.model))
            pruners[-1].prune(amount)
        return made

    pruners: list[Pruner] = []
    alone, batch = make(), make()
    for one in alone:
        one.train_epoch()
    together(batch)
    for one, other in zip(alone, batch, strict=True):
        assert apart(one, other) < 2e-5
        for a, b in zip(one.model.parameters(), other.model.parameters(), strict=True):
            assert torch.equal(a == 0, b == 0)
    assert sum(int((p == 0).sum()) for p in batch[1].model.parameters()) > 0
    assert not any(pruner.masks.lost() for pruner in pruners)


def test_the_learning_rate_follows_its_schedule():
    def make():
        return training(net(0), OPTIMIZERS["sgd"], lr_factor=lambda done: 1 / (1 + done))

    alone, other = make(), make()
    alone.train_epoch()
    together([other])
    assert apart(alone, other) < 1e-5
    assert other.optimizer.param_groups[0]["lr"] == alone.optimizer.param_groups[0]["lr"]
    assert other.optimizer.param_groups[0]["lr"] == pytest.approx(0.1 / 7)


def test_the_bits_depend_neither_on_the_neighbours_nor_on_their_number_nor_on_the_place():
    def bits_of_seed_0(others: Sequence[int], place: int) -> list[bytes]:
        trainings = [training(net(seed), seed=seed) for seed in others]
        trainings.insert(place, training(net(0), seed=0))
        together(trainings, 2)
        return bits(trainings[place])

    assert bits_of_seed_0([], 0) == bits_of_seed_0([1, 2], 0) == bits_of_seed_0([1, 2, 3], 2)


@pytest.mark.parametrize("model", [net, lenet])
def test_a_job_that_diverges_leaves_the_bits_of_its_neighbours_alone(model):
    data = VECTORS if model is net else IMAGES

    def run(lr: float) -> tuple[list[list[bytes]], list[Turn]]:
        rates = (0.01, lr, 0.01)
        made = [training(model(seed), (torch.optim.Adam, {"lr": lr}), data, seed) for seed, lr in enumerate(rates)]
        turns = together(made, 2)
        return [bits(made[0]), bits(made[2])], turns

    calm, _ = run(0.01)
    beside, turns = run(1e30)
    assert beside == calm
    assert [type(turn.error) for turn in turns] == [type(None), DivergedError, type(None)]


def test_interrupted_in_an_epoch_they_go_on_with_the_same_bits():
    def make():
        return [training(net(seed), OPTIMIZERS["momentum"], seed=seed) for seed in range(2)]

    calls = iter(range(100))

    def interrupt() -> None:
        if next(calls) >= 6:
            raise InterruptedRun(15)

    undisturbed, broken = make(), make()
    together(undisturbed)
    with pytest.raises(InterruptedRun):
        together(broken, interrupt=interrupt)
    done = {one.position.batch for one in broken}
    assert len(done) == 1
    assert 0 < done.pop() < 7
    together(broken)
    assert [bits(one) for one in broken] == [bits(one) for one in undisturbed]


def test_batch_norm_has_statistics_of_its_own_in_each_network():
    def make():
        return [training(net(seed, nn.BatchNorm1d(16)), OPTIMIZERS["sgd"], seed=seed) for seed in range(2)]

    alone, batch = make(), make()
    for one in alone:
        one.train_epoch()
    together(batch)
    for one, other in zip(alone, batch, strict=True):
        expected, found = (dict(x.model.named_buffers()) for x in (one, other))
        for name, buffer in expected.items():
            torch.testing.assert_close(found[name], buffer)


class Other(Split):
    """A split of the user's."""


class Odd(torch.optim.Adam):
    """An optimizer of the user's."""


class Measuring(nn.Linear):
    def forward(self, x):
        y = super().forward(x)
        return y - y.mean().item()


class Noisy(nn.Linear):
    def forward(self, x):
        import random

        return super().forward(x) + random.random()


def frozen(seed: int) -> nn.Module:
    model = net(seed)
    model[0].weight.requires_grad_(False)
    return model


REFUSED = {
    "dropout": (lambda: training(net(0, nn.Dropout(0.5))), "random"),
    "another generator": (lambda: training(nn.Sequential(Noisy(8, 3))), "random"),
    "a value on the host": (lambda: training(nn.Sequential(Measuring(8, 3))), "item"),
    "a frozen parameter": (lambda: training(frozen(0)), "0.weight has no gradient"),
    "float64": (lambda: training(net(0).double(), data=Split(VECTORS.inputs.double(), VECTORS.labels)), "float32"),
    "batches of the user's": (lambda: training(net(0), data=Other(VECTORS.inputs, VECTORS.labels)), "Other"),
    "an optimizer of the user's": (lambda: training(net(0), (Odd, {})), "Odd"),
    "an optimizer that is not known": (lambda: training(net(0), (torch.optim.RMSprop, {})), "RMSprop"),
    "an option that is not known": (lambda: training(net(0), (torch.optim.Adam, {"amsgrad": True})), "Adam"),
    "a recurrent network": (lambda: training(LSTM(), data=IMAGES), ""),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_trained_with_others_says_why(name):
    make, reason = REFUSED[name]
    found = why_not(make, 3)
    assert found is not None
    assert reason in found
    assert "\n" not in found


@pytest.mark.parametrize("model", [LeNet, LeNet300100, ResidualLeNet, DeepMLP])
def test_models_of_the_package_can_be_trained_with_others(model):
    def make():
        torch.manual_seed(0)
        return training(model(), data=IMAGES, batch_size=20)

    assert why_not(make, 3) is None


def test_a_wrong_gradient_is_noticed(monkeypatch):
    real = F.cross_entropy
    monkeypatch.setattr("prunelab.training.batched_stack.F.cross_entropy", lambda *a, **k: 1.1 * real(*a, **k))
    monkeypatch.setattr("prunelab.training.loop.F", type("F", (), {"cross_entropy": staticmethod(real)}))
    assert why_not(lambda: training(net(0)), 3) == "0.bias differs when batched"
