"""The hooks of callbacks: their order, chained objectives, and substitutes."""

from __future__ import annotations

import torch
from torch import nn
from training_runs import adam, network, trained

from prunelab.training.callbacks.base import Callback
from prunelab.training.loop import train_step

FEATURES, CLASSES = 8, 3


class Noted(Callback):
    """Notes the calls of all hooks."""

    def __init__(self, calls, scale):
        self.calls, self.scale = calls, scale

    def begin(self, optimizer):
        self.calls.append("begin")

    def substitutes(self):
        self.calls.append("substitutes")
        return {}

    def objective(self, loss, inputs, logits):
        self.calls.append("objective")
        return loss * self.scale

    def before_step(self, iteration):
        self.calls.append(f"before {iteration}")

    def after_step(self, iteration):
        self.calls.append(f"after {iteration}")


def test_the_hooks_are_called_in_order():
    model, calls = network(), []
    trained(model, adam(model), callbacks=[Noted(calls, 2)], iterations=2)
    step = ["substitutes", "objective"]
    assert calls == ["begin", *step, "before 1", "after 1", *step, "before 2", "after 2", "substitutes"]


class WritesOnSome(nn.Sequential):
    """A network that writes on its inputs, in training, where an example begins with a positive number."""

    def forward(self, x):
        if self.training:
            x.data[x[:, 0] > 0] = 0  # torch's version counter does not see it
        return super().forward(x)


def test_a_callback_sees_the_inputs_as_they_were():
    seen = []

    class Keeps(Callback):
        def objective(self, loss, inputs, logits):
            seen.append(inputs)
            return loss

    torch.manual_seed(0)
    model = WritesOnSome(nn.Linear(FEATURES, CLASSES))
    inputs, labels = torch.randn(20, FEATURES), torch.arange(20) % CLASSES
    train_step(model.train(), adam(model), inputs.clone(), labels, 1, [Keeps()])
    assert torch.equal(seen[0], inputs)


def test_objectives_are_chained_and_the_record_has_the_cross_entropy_alone():
    """A gradient step on 6 · loss is one on the loss with a learning rate 6 times as high."""
    one, other = network(dropout=0), network(dropout=0)
    plain = trained(one, torch.optim.SGD(one.parameters(), lr=0.06), iterations=1)
    sgd = torch.optim.SGD(other.parameters(), lr=0.01)
    scaled = trained(other, sgd, callbacks=[Noted([], 2), Noted([], 3)], iterations=1)
    assert scaled[0].train_loss == plain[0].train_loss
    for mine, theirs in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_substitutes_are_used_in_training_and_evaluation():
    class Doubled(Callback):
        def substitutes(self):
            return {"0.weight": 2 * model[0].weight}

    model, twin = network(dropout=0), network(dropout=0)
    with torch.no_grad():
        twin[0].weight.mul_(2)
    (record,) = trained(model, torch.optim.SGD(model.parameters(), lr=0.0), callbacks=[Doubled()], iterations=7)
    (expected,) = trained(twin, torch.optim.SGD(twin.parameters(), lr=0.0), iterations=7)
    assert (record.train_loss, record.val_loss) == (expected.train_loss, expected.val_loss)
    assert torch.equal(model[0].weight.grad, 2 * twin[0].weight.grad)
