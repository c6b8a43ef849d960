"""fit and evaluate against plain computations, and continuing after an interruption."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from training_runs import SPEC, adam, bits, network, split, trained, without_seconds

from prunelab.data.dataset import Split
from prunelab.runtime.seeding import permutation
from prunelab.training.callbacks.base import Callback
from prunelab.training.loop import DivergedError, evaluate, fit
from prunelab.training.spec import Position, TrainSpec

# Going on


class BreakError(Exception):
    pass


@pytest.mark.parametrize("broken_at", [0, 1, 7, 10, 13, 14, 20])
def test_going_on_from_the_middle_gives_the_same_bits(broken_at):
    whole = network()
    records = trained(whole, adam(whole))

    left = iter(range(broken_at))

    def on_batch():
        if next(left, None) is None:
            raise BreakError

    model, position = network(), Position()
    optimizer = adam(model)
    first = []

    def broken_off():
        for record in fit(model, optimizer, split(50), split(20, 1), SPEC, position=position, on_batch=on_batch):
            first.append(record)

    with pytest.raises(BreakError):
        broken_off()
    assert (position.epoch, position.batch) == divmod(broken_at, 7)
    position.remember_generators(torch.device("cpu"))
    state, moments = model.state_dict(), optimizer.state_dict()

    torch.manual_seed(999)  # another process
    again = network()
    again.load_state_dict(state)
    torch.rand(3)
    later = adam(again)
    later.load_state_dict(moments)
    second = trained(again, later, position=position)
    assert bits(again) == bits(whole)
    assert without_seconds(first + second) == without_seconds(records)


def test_what_ran_before_does_not_matter():
    one, other = network(), network()
    records = trained(one, adam(one))
    torch.rand(100)
    assert without_seconds(trained(other, adam(other))) == without_seconds(records)
    assert bits(one) == bits(other)


@pytest.mark.parametrize("change", [{"seed": 6}, {"round": 3}])
def test_seed_and_round_change_order_and_dropout(change):
    one, other = network(), network()
    trained(one, adam(one))
    trained(other, adam(other), **change)
    assert bits(one) != bits(other)


def test_every_epoch_sees_every_example_once_in_an_order_of_its_own():
    seen = []

    class Recorder(Split):
        def batch(self, index):
            seen.append(index)
            return super().batch(index)

    source = split(50)
    model = network()
    list(fit(model, adam(model), Recorder(source.inputs, source.labels), split(20), TrainSpec(14, 8, seed=0)))
    assert [len(index) for index in seen] == [8, 8, 8, 8, 8, 8, 2] * 2
    first, second = torch.cat(seen[:7]), torch.cat(seen[7:])
    assert first.sort().values.tolist() == second.sort().values.tolist() == list(range(50))
    assert first.tolist() != second.tolist()
    assert first.tolist() == permutation(50, 0, 0, 0).tolist()


# The records


def test_records_of_training():
    model = network()
    records = trained(model, adam(model))
    assert [(record.round, record.epoch) for record in records] == [(2, 1), (2, 2), (2, 3)]
    assert {record.lr for record in records} == {0.01}
    assert (records[-1].val_accuracy, records[-1].val_loss) == evaluate(model, split(20, 1))
    assert all(record.seconds > 0 for record in records)
    assert records[-1].train_loss < records[0].train_loss


def test_early_stop_is_the_iteration_of_the_smallest_validation_loss():
    model, seen = network(), []
    records = trained(model, adam(model), validate_every=3, callbacks=[Recorder(seen, model)])
    looked = [(loss, iteration) for iteration, loss in seen if iteration % 3 == 0 or iteration % 7 == 0]
    assert records[-1].early_stop == min(looked)[1]
    assert trained(network(), adam(network()), iterations=0) == []


def test_a_test_split_is_measured_after_each_epoch_and_changes_nothing():
    model, other = network(), network()
    test, accuracies, early = split(30, 5), [], None
    for number, record in enumerate(fit(model, adam(model), split(50), split(20, 1), SPEC, test=test), 1):
        accuracies.append(evaluate(model, test).accuracy)
        assert record.test_accuracy == accuracies[-1]
        early = accuracies[-1] if record.early_stop == min(7 * number, SPEC.iterations) else early
        assert record.early_stop_accuracy == early
    without = trained(other, adam(other))
    assert {(row.test_accuracy, row.early_stop_accuracy) for row in without} == {(None, None)}
    assert all(map(torch.equal, model.parameters(), other.parameters()))


class Recorder(Callback):
    """Notes the validation loss after every step."""

    def __init__(self, seen, model):
        self.seen, self.model = seen, model

    def after_step(self, iteration):
        self.seen.append((iteration, evaluate(self.model, split(20, 1)).loss))
        self.model.train()


def test_the_learning_rate_follows_its_factor():
    model = network()
    records = trained(model, adam(model), lr_factor=lambda done: 1 - done / 21)
    assert [record.lr for record in records] == pytest.approx([0.01 * (1 - done / 21) for done in (6, 13, 20)])


def test_train_loss_is_the_mean_over_examples():
    """At learning rate 0 the loss of every batch is that of one model, so their mean is the loss of all examples."""
    model = network(dropout=0)
    (record,) = trained(model, torch.optim.SGD(model.parameters(), lr=0.0), iterations=7)
    _, expected = evaluate(model, split(50))
    assert record.train_loss == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("iterations", "epochs"), [(0, 0), (1, 1), (7, 1), (8, 2), (21, 3)])
def test_iterations_count_steps(iterations, epochs):
    model, steps = network(), []
    records = trained(model, adam(model), iterations=iterations, on_batch=lambda: steps.append(1))
    assert (len(records), len(steps)) == (epochs, iterations)


def test_training_is_the_plain_loop():
    model, plain = network(dropout=0), network(dropout=0)
    trained(model, adam(model), iterations=14)
    data, optimizer = split(50), adam(plain)
    for epoch in range(2):
        for index in permutation(50, 5, 2, epoch).split(8):
            optimizer.zero_grad()
            F.cross_entropy(plain(data.inputs[index]), data.labels[index]).backward()
            optimizer.step()
    assert bits(model) == bits(plain)


# A loss that is no number


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_no_number_is_named(value):
    data, model = split(50), network()
    data.inputs[permutation(50, 5, 2, 1)[17]] = value  # in the third batch of the second epoch
    calls = []

    class Trap(Split):
        def batch(self, index):
            inputs, labels = super().batch(index)
            calls.append(len(index))
            return (inputs if len(calls) > 7 else torch.zeros_like(inputs)), labels

    optimizer = torch.optim.SGD(model.parameters(), lr=0.125)
    with pytest.raises(DivergedError) as caught:
        list(fit(model, optimizer, Trap(data.inputs, data.labels), split(20), SPEC))
    message = str(caught.value)
    assert not [part for part in ("round 2", "step 10", "epoch 2", "learning rate 0.125") if part not in message]
    assert isinstance(caught.value, ArithmeticError)


def test_a_weight_that_is_no_number_after_the_last_step_is_named():
    class Spoils(Callback):
        def after_step(self, iteration):
            if iteration == 7:
                model[-1].bias.data[0] = math.nan

    model, spec = network(), replace(SPEC, iterations=7)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.125)
    with pytest.raises(DivergedError, match="a weight became NaN or infinite in round 2, step 7"):
        list(fit(model, optimizer, split(50), split(20), spec, [Spoils()]))


# evaluate


@pytest.mark.parametrize("examples", [1, 999, 1_000, 2_501])
def test_evaluate_is_the_plain_computation(examples):
    model, data = network(), split(examples)
    accuracy, loss = evaluate(model.train(), data)
    with torch.no_grad():
        logits = model.eval()(data.inputs)
    assert accuracy == (logits.argmax(1) == data.labels).double().mean().item()
    assert loss == pytest.approx(F.cross_entropy(logits.double(), data.labels).item(), rel=1e-5)


def test_evaluate_leaves_no_gradients_and_draws_nothing():
    model = network()
    before = torch.get_rng_state()
    evaluate(model, split(30))
    assert torch.equal(before, torch.get_rng_state())
    assert all(parameter.grad is None for parameter in model.parameters())
