"""Global sparse momentum: which gradients stay, momentum SGD by hand, and a run that ends at its density."""

import numpy as np
import pytest
import torch
from phases import assert_same_end, linear, phase, resumed, run
from torch import nn

from prunelab.errors import ConfigError
from prunelab.training.callbacks.gsm import GSM

FEW = ("sparse_training=gsm", "schedule.every=5", "finetune.epochs=5it", "optimizer=sgd", "optimizer.weight_decay=0.01")


def test_the_largest_products_of_all_tensors_keep_their_gradients():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4))
    callback = GSM(phase(model), density=0.24)  # 12 of 50
    model(torch.randn(3, 6)).pow(2).sum().backward()
    weights = [model[0].weight, model[2].weight]
    before, biases = [weight.grad.clone() for weight in weights], [model[n].bias.grad.clone() for n in (0, 2)]
    products = np.concatenate([(w.detach() * g).abs().numpy().ravel() for w, g in zip(weights, before, strict=True)])
    wanted = np.isin(np.arange(50), np.argsort(-products)[:12])
    callback.before_step(1)
    found = np.concatenate([weight.grad.numpy().ravel() for weight in weights])
    assert (found != 0).sum() == 12
    assert np.array_equal(found, np.where(wanted, np.concatenate([g.numpy().ravel() for g in before]), 0))
    assert all(torch.equal(model[n].bias.grad, bias) for n, bias in zip((0, 2), biases, strict=True))


def test_steps_of_momentum_sgd_by_hand():
    """z ← β·z + η·w + B∘g and w ← w − α·z, with B = 1 for the largest of |w·g| alone. The loss is Σ c·w."""
    model, c = nn.Sequential(linear([[1.0, -2.0, 0.5, 0.1]])), np.array([1.0, 0.4, -3.0, 2.0])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.05)
    callback = GSM(phase(model), density=0.25)
    w, z = np.array([1.0, -2.0, 0.5, 0.1]), np.zeros(4)
    for iteration in range(1, 20):
        optimizer.zero_grad()
        (model[0].weight * torch.tensor(c)).sum().backward()
        callback.before_step(iteration)
        optimizer.step()
        chosen = np.arange(4) == np.argmax(np.abs(w * c))
        z = 0.9 * z + 0.05 * w + chosen * c
        w = w - 0.1 * z
        assert np.allclose(model[0].weight.detach().numpy(), w)


def test_pruned_weights_are_not_among_the_active_ones():
    model = nn.Sequential(linear(np.ones((4, 5))))
    given = phase(model)
    (item,) = given.masks
    item.set(torch.arange(20).view(4, 5) % 3 > 0)
    given.masks.apply()
    model(torch.ones(1, 5).double()).sum().backward()
    GSM(given, density=0.65).before_step(1)
    assert torch.equal(model[0].weight.grad != 0, item.kept)


def test_the_run_ends_at_its_density_and_pruning_comes_last(tmp_path):
    result = run(tmp_path, *FEW)
    assert result.rounds[1].sparsity == pytest.approx(0.9, abs=1e-4)


def test_a_broken_off_run_ends_the_same(tmp_path):
    expected = run(tmp_path / "whole", *FEW)
    assert_same_end(resumed(tmp_path, 7, *FEW), expected)


@pytest.mark.parametrize("density", [0, 1, "much"])
def test_what_is_out_of_range(density):
    with pytest.raises(ConfigError, match=rf"sparse_training.density={density}: must be a fraction in \(0, 1\)"):
        GSM(phase(nn.Sequential(nn.Linear(3, 2))), density=density)
