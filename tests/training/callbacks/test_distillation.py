"""Distillation: the loss by hand and by NumPy, and a teacher that stays as it is."""

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from phases import halved, phase, same
from torch import nn
from torch.nn import functional

from prunelab.training.callbacks.base import Callback
from prunelab.training.callbacks.distillation import Distillation, divergence


def tensor(rows):
    return torch.tensor(rows, dtype=torch.float64)


# The loss


def test_two_classes_by_hand():
    # T = 2: p = softmax(ln 9 / 2, 0) = (3/4, 1/4), q = (1/2, 1/2); 4 · (3/4 · ln 3/2 + 1/4 · ln 1/2)
    expected = 4 * (0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    student, teacher = tensor([[7.0, 7.0]]), tensor([[math.log(9), 0.0]])
    assert divergence(student, teacher, 2).item() == pytest.approx(expected) == pytest.approx(0.5232, abs=1e-4)
    # the mean over a batch whose other example is taught nothing
    both = divergence(tensor([[7.0, 7.0], [1.0, 2.0]]), tensor([[math.log(9), 0.0], [5.0, 6.0]]), 2)
    assert both.item() == pytest.approx(expected / 2)


def oracle(student, teacher, temperature):
    """As it is written in the paper, in NumPy: no logarithm of a softmax is taken in one step."""
    total = 0.0
    for z, v in zip(student, teacher, strict=True):
        q, p = (np.exp(x / temperature) / np.exp(x / temperature).sum() for x in (z, v))
        total += sum(p[i] * (np.log(p[i]) - np.log(q[i])) for i in range(len(p)))
    return temperature**2 * total / len(student)


@settings(max_examples=50, deadline=None, database=None)
@given(
    st.integers(1, 5),
    st.integers(2, 6),
    st.floats(0.2, 50),
    st.integers(0, 2**32 - 1),
)
def test_the_loss_is_the_papers(examples, classes, temperature, seed):
    draw = np.random.default_rng(seed)
    student, teacher = draw.normal(scale=5, size=(2, examples, classes))
    found = divergence(torch.from_numpy(student), torch.from_numpy(teacher), temperature).item()
    assert found == pytest.approx(oracle(student, teacher, temperature), rel=1e-6, abs=1e-9)
    assert found >= -1e-12


@pytest.mark.parametrize("temperature", [0.001, 1, 1000])
@pytest.mark.parametrize("size", [0, 1, 1e4])
def test_the_loss_and_its_slope_stay_finite(temperature, size):
    student = torch.tensor([[size, -size, 0.0]], requires_grad=True)
    loss = divergence(student, torch.tensor([[-size, size, 0.0]]), temperature)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(student.grad).all()


def test_the_slope_is_that_of_the_papers_eq_2():
    """Of one example: T² · 1/T · (q − p)."""
    torch.manual_seed(0)
    student, teacher = torch.randn(1, 4, dtype=torch.float64, requires_grad=True), torch.randn(1, 4).double()
    divergence(student, teacher, 3).backward()
    expected = 3 * ((student / 3).softmax(1) - (teacher / 3).softmax(1))
    assert torch.allclose(student.grad, expected)


def test_a_high_temperature_matches_logits():
    """Ibid., eq. 4: at T → ∞ the slope is (z − v) / N, for logits of mean 0. So T² keeps it from vanishing."""
    student = tensor([[1.0, -2.0, 1.0]]).requires_grad_()
    teacher = tensor([[3.0, 0.0, -3.0]])
    divergence(student, teacher, 1000).backward()
    assert torch.allclose(student.grad, (student - teacher) / 3, rtol=0.01)


# The callback


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))


def taught(model, alpha=0.5, temperature=4.0):
    """The callback in which the model's present weights teach it, and the model's masks."""
    return Distillation(copy.deepcopy(model), alpha, temperature), phase(model, round=1).masks


@pytest.mark.parametrize("alpha", [0.25, 0.5, 1.0])
def test_the_objective_is_the_mixture(alpha):
    model = network()
    callback, masks = taught(model, alpha, 2.0)
    halved(*masks)
    x, labels = torch.randn(5, 6), torch.tensor([0, 1, 2, 0, 1])
    logits = model.train()(x)
    loss = functional.cross_entropy(logits, labels)
    with torch.no_grad():
        dense = network().eval()(x)
    expected = (1 - alpha) * loss.item() + alpha * oracle(logits.detach().numpy(), dense.numpy(), 2.0)
    assert callback.objective(loss, x, logits).item() == pytest.approx(expected, rel=1e-4)


def test_a_student_that_is_its_teacher_learns_nothing_from_it():
    model = network().eval()
    callback, masks = taught(model, alpha=1.0)
    x = torch.randn(5, 6)
    logits = model(x)
    objective = callback.objective(functional.cross_entropy(logits, torch.zeros(5, dtype=torch.long)), x, logits)
    objective.backward()
    assert objective.item() == pytest.approx(0, abs=1e-6)
    for item in masks:
        assert item.parameter.grad.abs().max() < 1e-6


def test_the_teacher_is_in_eval_mode_and_not_trained():
    callback, _ = taught(network().train())
    assert not any(module.training for module in callback.teacher.modules())
    assert not any(parameter.requires_grad for parameter in callback.teacher.parameters())
    assert callback.state() == {}
    assert callback.parameters() is None


def test_steps_leave_the_teacher_bit_for_bit_and_train_the_student():
    model = network().train()
    callback, _ = taught(model)
    before, student = (copy.deepcopy(network.state_dict()) for network in (callback.teacher, model))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        x = torch.randn(5, 6)
        generator = torch.get_rng_state()
        logits = model(x)
        torch.set_rng_state(generator)
        model(x)
        after = torch.get_rng_state()
        loss = functional.cross_entropy(logits, torch.zeros(5, dtype=torch.long))
        optimizer.zero_grad()
        callback.objective(loss, x, logits).backward()
        assert torch.equal(torch.get_rng_state(), after)  # the teacher has no dropout
        optimizer.step()
    assert same(callback.teacher.state_dict(), before)
    assert not same(model.state_dict(), student)
    assert all(parameter.grad is None for parameter in callback.teacher.parameters())


def test_a_callback_without_an_objective_leaves_the_loss():
    loss = torch.tensor(2.0)
    assert Callback().objective(loss, None, None) is loss
