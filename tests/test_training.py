"""fit and evaluate against plain computations, going on from the middle, optimizers without the compiler."""

from __future__ import annotations

import json
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from prunelab.data.dataset import Split
from prunelab.runtime.seeding import permutation
from prunelab.training import loop as training
from prunelab.training.loop import DivergedError, Position, evaluate, fit, without_compiler

FEATURES, CLASSES = 8, 3


def split(examples: int, seed: int = 0) -> Split:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(examples, FEATURES, generator=generator)
    return Split(inputs, torch.randint(CLASSES, (examples,), generator=generator))


def network(dropout: float = 0.5) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(FEATURES, 16), nn.ReLU(), nn.Dropout(dropout), nn.Linear(16, CLASSES))


def adam(model: nn.Module) -> torch.optim.Optimizer:
    return without_compiler(torch.optim.Adam)(model.parameters(), lr=0.01)


def trained(model, optimizer, position=None, *, iterations=21, seed=5, round=2, **more):
    """Rows of training on 50 examples in batches of 8: 7 batches an epoch, the last of 2."""
    how = {"iterations": iterations, "batch_size": 8, "seed": seed, "round": round, "position": position or Position()}
    return list(fit(model, optimizer, split(50), split(20, 1), **{**how, **more}))


def bits(model: nn.Module) -> dict[str, list[int]]:
    return {key: value.view(torch.int32).flatten().tolist() for key, value in model.state_dict().items()}


def without_seconds(rows):
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


# Going on


class BreakError(Exception):
    pass


@pytest.mark.parametrize("broken_at", [0, 1, 7, 10, 13, 14, 20])
def test_going_on_from_the_middle_gives_the_same_bits(broken_at):
    whole = network()
    rows = trained(whole, adam(whole))

    left = iter(range(broken_at))

    def on_batch():
        if next(left, None) is None:
            raise BreakError

    model, position = network(), Position()
    optimizer = adam(model)
    first = []

    def broken_off():
        how = {"iterations": 21, "batch_size": 8, "seed": 5, "round": 2, "position": position, "on_batch": on_batch}
        for row in fit(model, optimizer, split(50), split(20, 1), **how):
            first.append(row)

    with pytest.raises(BreakError):
        broken_off()
    assert (position.epoch, position.batch) == divmod(broken_at, 7)
    training.remember_generators(position, torch.device("cpu"))
    state, moments = model.state_dict(), optimizer.state_dict()

    torch.manual_seed(999)  # another process
    again = network()
    again.load_state_dict(state)
    torch.rand(3)
    later = adam(again)
    later.load_state_dict(moments)
    second = trained(again, later, position)
    assert bits(again) == bits(whole)
    assert without_seconds(first + second) == without_seconds(rows)


def test_what_ran_before_does_not_matter():
    one, other = network(), network()
    rows = trained(one, adam(one))
    torch.rand(100)
    assert without_seconds(trained(other, adam(other))) == without_seconds(rows)
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
    how = {"iterations": 14, "batch_size": 8, "seed": 0, "round": 0, "position": Position()}
    list(fit(model, adam(model), Recorder(source.inputs, source.labels), split(20), **how))
    assert [len(index) for index in seen] == [8, 8, 8, 8, 8, 8, 2] * 2
    first, second = torch.cat(seen[:7]), torch.cat(seen[7:])
    assert first.sort().values.tolist() == second.sort().values.tolist() == list(range(50))
    assert first.tolist() != second.tolist()
    assert first.tolist() == permutation(50, 0, 0, 0).tolist()


# The rows


def test_rows_of_training():
    model = network()
    rows = trained(model, adam(model))
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert {row["lr"] for row in rows} == {0.01}
    accuracy, loss = evaluate(model, split(20, 1))
    assert (rows[-1]["val_accuracy"], rows[-1]["val_loss"]) == (accuracy, loss)
    assert all(row["seconds"] > 0 for row in rows)
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]


def test_train_loss_is_the_mean_over_examples():
    """At learning rate 0 the loss of every batch is that of one model, so their mean is the loss of all examples."""
    model = network(dropout=0)
    (row,) = trained(model, torch.optim.SGD(model.parameters(), lr=0.0), iterations=7)
    _, expected = evaluate(model, split(50))
    assert row["train_loss"] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("iterations", "epochs"), [(0, 0), (1, 1), (7, 1), (8, 2), (21, 3)])
def test_iterations_count_steps(iterations, epochs):
    model, steps = network(), []
    rows = trained(model, adam(model), iterations=iterations, on_batch=lambda: steps.append(1))
    assert (len(rows), len(steps)) == (epochs, iterations)


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
    how = {"iterations": 21, "batch_size": 8, "seed": 5, "round": 2, "position": Position()}
    with pytest.raises(DivergedError) as caught:
        list(fit(model, optimizer, Trap(data.inputs, data.labels), split(20), **how))
    message = str(caught.value)
    assert not [part for part in ("round 2", "step 10", "epoch 2", "learning rate 0.125") if part not in message]
    assert isinstance(caught.value, ArithmeticError)


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


# Optimizers


@pytest.mark.filterwarnings("ignore")  # of the compiler's import, which the plain optimizer needs
@pytest.mark.parametrize(
    ("kind", "how"),
    [
        (torch.optim.Adam, {"lr": 0.01}),
        (torch.optim.Adam, {"lr": 0.01, "weight_decay": 0.1, "fused": True}),
        (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9}),
        (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1, "fused": True}),
        (torch.optim.AdamW, {"lr": 0.01}),
        (torch.optim.RMSprop, {"lr": 0.01}),
    ],
)
def test_without_the_compiler_the_updates_are_the_same(kind, how):
    models = network(dropout=0), network(dropout=0)
    optimizers = kind(models[0].parameters(), **how), without_compiler(kind)(models[1].parameters(), **how)
    data = split(40)
    for index in torch.arange(40).split(8):
        for model, optimizer in zip(models, optimizers, strict=True):
            optimizer.zero_grad()
            F.cross_entropy(model(data.inputs[index]), data.labels[index]).backward()
            optimizer.step()
        assert bits(models[0]) == bits(models[1])
    ours, theirs = optimizers[1].state_dict(), optimizers[0].state_dict()
    assert ours["param_groups"] == theirs["param_groups"]
    assert isinstance(optimizers[1], kind)


def test_what_is_not_torchs_own_stays_as_it_is():
    class Mine(torch.optim.SGD):
        pass

    def function(parameters):
        return torch.optim.SGD(parameters)

    assert without_compiler(Mine) is Mine
    assert without_compiler(function) is function


def test_training_does_not_import_the_compiler(python, tmp_path):
    code = f"""
import json, sys
from prunelab import compose, run
for choice in ("adam", "sgd"):
    run(compose("data.limit=100", "train.epochs=1", "schedule.rounds=1", "optimizer=" + choice, "outputs={tmp_path}"))
print(json.dumps([name for name in sys.modules if name in ("torch._dynamo", "torchvision", "torch._inductor")]))
"""
    result = python(code, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout.splitlines()[-1]) == []
