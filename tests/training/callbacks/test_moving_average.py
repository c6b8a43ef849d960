"""The moving average by hand, under masks, in an experiment, and after an interruption."""

import pytest
import torch
from phases import assert_same_end, resumed, run
from torch import nn

from prunelab.pruning.pruner import Pruner
from prunelab.training.callbacks.moving_average import MovingAverage


def averaged(decay=0.9, values=(1.0, 2.0, 4.0)):
    model = nn.Linear(2, 1, bias=False)
    pruner = Pruner(model, output_layer=True)
    average = MovingAverage(model, pruner.masks, decay)
    for step, value in enumerate(values, 1):
        with torch.no_grad():
            model.weight.copy_(torch.tensor([[value, -value]]))
        average.after_step(step)
    return model, pruner, average


def test_the_average_by_hand():
    model, _, average = averaged(decay=0.5)
    average.finish()  # (4 · 1/2 + 2 · 1/4 + 1 · 1/8) ÷ (1/2 + 1/4 + 1/8) = 3
    assert model.weight.tolist() == [[3.0, -3.0]]


def test_the_average_of_a_constant_is_the_constant():
    model, _, average = averaged(values=(1.25,) * 5)
    average.finish()
    assert model.weight.flatten().tolist() == pytest.approx([1.25, -1.25])


def test_training_goes_on_with_the_weights_that_were_not_averaged():
    model, _, average = averaged()
    with average.measured():
        assert model.weight[0, 0] < 4
    assert model.weight.tolist() == [[4.0, -4.0]]


def test_pruned_weights_are_zero_in_the_average():
    model, pruner, average = averaged()
    next(iter(pruner.masks)).set(torch.tensor([[True, False]]))
    average.finish()
    assert model.weight[0, 1] == 0
    assert model.weight[0, 0] != 0


def test_before_the_first_step_there_is_nothing_to_average():
    model, _, average = averaged(values=())
    before = model.weight.tolist()
    average.finish()
    assert model.weight.tolist() == before


def test_validation_and_test_measure_the_average(tmp_path):
    how = ("train.epochs=1", "amount=0.5")
    one, other = run(tmp_path / "one", "train.ema=0.9", *how), run(tmp_path / "other", *how)
    assert [row.val_accuracy for row in one.rounds] != [row.val_accuracy for row in other.rounds]


def test_resumed_it_ends_with_the_same_bits(tmp_path):
    how = ("train.ema=0.9", "train.epochs=1")
    assert_same_end(resumed(tmp_path, 2, *how), run(tmp_path / "whole", *how))
