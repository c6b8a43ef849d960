"""Hard-concrete gates: the distribution, the network that they leave, and what is refused."""

import math

import numpy as np
import pytest
import torch
from phases import penalty, phase, same
from torch import nn

from prunelab.errors import ConfigError
from prunelab.training.callbacks.l0 import L0, probability, sample, settled
from prunelab.training.forward import substituted


def small():
    """A network with every kind of layer whose channels can have gates."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 6, 3, groups=2), nn.Flatten(), nn.Linear(96, 5)
    )


INPUTS = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def gated_phase(model, inputs=INPUTS, **how):
    return phase(model, batch=lambda iteration: (inputs, None), **how)


def with_gates(model, granularity, inputs=INPUTS, **how):
    """L0 at work; log α drawn from [−4, 4], so that some gates are closed, some half open, some open."""
    callback = L0(gated_phase(model, inputs, **how), granularity=granularity)
    generator = torch.Generator().manual_seed(2)
    for gates in callback.gates:
        gates.log_alpha.data.uniform_(-4, 4, generator=generator)
    return callback


def forward(model, callback, x=INPUTS):
    with substituted(model, callback.substitutes()):
        return model(x)


# The distribution


@pytest.mark.parametrize("log_alpha", [-3.0, -0.5, 0.0, 1.0, 4.0])
def test_draws_are_hard_concrete(log_alpha):
    """Against the cumulative distribution of the stretched concrete distribution, by Kolmogorov and Smirnov."""
    torch.manual_seed(0)
    n = 100_000
    z = sample(torch.full((n,), log_alpha)).double().numpy()

    def below(x):  # P(s̄ < x), eq. 24 of the paper stretched: σ(β(logit of s) − log α)
        s = (x + 0.1) / 1.2
        return 1 / (1 + np.exp(-(2 / 3 * (np.log(s) - np.log(1 - s)) - log_alpha)))

    for x in np.linspace(0.001, 0.999, 50):
        assert abs((z < x).mean() - below(x)) < 1.95 / n**0.5  # one in a thousand
    assert abs((z == 0).mean() - below(0.0)) < 1.95 / n**0.5
    assert abs((z == 1).mean() - (1 - below(1.0))) < 1.95 / n**0.5
    assert probability(torch.tensor(log_alpha)).item() == pytest.approx(1 - below(0.0), rel=1e-5)


def test_settled_gates_by_hand():
    log_alpha = torch.tensor([0.0, -math.log(11) - 1e-3, -math.log(11) + 1e-2, math.log(11) + 1e-3, math.log(3)])
    zero, closed, nearly, wide, half = settled(log_alpha).tolist()
    assert zero == pytest.approx(0.5)
    assert (closed, wide) == (0, 1)
    assert 0 < nearly < 0.01
    assert half == pytest.approx(0.75 * 1.2 - 0.1)


def test_a_draw_has_a_gradient_where_it_is_between():
    torch.manual_seed(0)
    log_alpha = torch.zeros(1000, requires_grad=True)
    z = sample(log_alpha)
    z.sum().backward()
    between = (z > 0) & (z < 1)
    assert 100 < int(between.sum()) < 900
    assert (log_alpha.grad[between] > 0).all()
    assert (log_alpha.grad[~between] == 0).all()


# The penalty


@pytest.mark.parametrize("granularity", ["weight", "channel", "neuron", "layer"])
def test_the_penalty_is_the_share_of_weights_expected_to_be_there(granularity):
    callback = with_gates(small(), granularity)
    callback.strength = 3.0
    expected = weights = 0.0
    for gates in callback.gates:
        behind = gates.item.parameter.numel() / gates.log_alpha.numel()
        for value in gates.log_alpha.flatten().tolist():
            expected += behind / (1 + math.exp(-(value - 2 / 3 * math.log(0.1 / 1.1))))
            weights += behind
    assert penalty(callback).item() == pytest.approx(3 * expected / weights, rel=1e-5)
    assert weights == 36 + 108 + (0 if granularity == "channel" else 480)


# The network


@pytest.mark.parametrize("granularity", ["weight", "channel", "neuron", "layer"])
def test_folded_gates_give_what_gates_at_work_gave(granularity):
    model = small()
    keys = set(small().state_dict())
    callback = with_gates(model, granularity)
    with torch.no_grad():
        expected = forward(model.eval(), callback)
        torch.manual_seed(5)
        drawn = forward(model.train(), callback), forward(model, callback)
        assert not torch.equal(*drawn)
    callback.finish()
    assert set(model.state_dict()) == keys
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.modules())
    assert not callback.substitutes()
    model[1].load_state_dict(small()[1].state_dict())  # training above moved its statistics
    assert torch.allclose(model.eval()(INPUTS), expected, atol=1e-6)


@pytest.mark.parametrize("granularity", ["weight", "channel"])
def test_closed_gates_are_exact_zeros(granularity):
    model = small()
    callback = with_gates(model, granularity)
    closed = {gates.item.name: settled(gates.log_alpha) == 0 for gates in callback.gates}
    zeros = sum(int(closed[g.item.name].sum()) * g.behind for g in callback.gates)
    callback.finish()
    assert zeros > 20
    assert callback.masks.sparsity() == pytest.approx(zeros / 624)
    for name, shut in closed.items():
        module = model.get_submodule(name.split(".")[0])
        effective = module.weight.flatten(1)
        if granularity == "channel":
            assert (effective[shut] == 0).all()
            assert (module.bias[shut] == 0).all()
            assert (effective[~shut] != 0).all()
            assert (module.bias[~shut] != 0).all()
        else:
            assert torch.equal(effective == 0, shut.flatten(1))


def test_a_closed_layer_emits_nothing():
    model = small()
    callback = with_gates(model, "layer")
    callback.gates[0].log_alpha.data.fill_(-5)
    assert (model[0].eval()(INPUTS) == 0).all()
    callback.finish()
    assert (model[0](INPUTS) == 0).all()


def test_neurons_are_channels_of_convolutions_and_inputs_of_linear_layers():
    """z·x enters each Linear layer, also the last, so a closed gate leaves a column of zeros and the bias."""
    model = small()
    callback = with_gates(model, "neuron")
    assert [len(gates.log_alpha) for gates in callback.gates] == [4, 6, 96]
    assert [gates.behind for gates in callback.gates] == [9, 18, 5]
    values, bias = settled(callback.gates[-1].log_alpha.detach()), model[-1].bias.detach().clone()
    x = torch.randn(2, 96)
    expected = x * values @ model[-1].weight.detach().t() + bias
    assert torch.allclose(model[-1].eval()(x), expected, atol=1e-6)
    callback.finish()
    assert torch.equal((model[-1].weight == 0).all(0), values == 0)
    assert 0 < int((values == 0).sum()) < 96
    assert torch.equal(model[-1].bias, bias)


def test_the_output_layer_keeps_its_channels():
    assert [gates.item.name for gates in with_gates(small(), "channel").gates] == ["0.weight", "3.weight"]


def test_the_slope_in_a_weight_is_its_own_gate_times_the_plain_one():
    """z·w under a mask: ∂L/∂w = mask · z · ∂L/∂(effective weight)."""
    layer = nn.Linear(3, 2, bias=False)
    model = nn.Sequential(layer)
    callback = with_gates(model, "weight")
    mask = callback.masks["0.weight"].mask
    mask[0, 0] = 0
    callback.masks.apply()
    x = torch.tensor([[1.0, 2.0, -3.0]])
    forward(model.eval(), callback, x).sum().backward()
    (gates,) = callback.gates
    z = settled(gates.log_alpha).detach()
    assert torch.allclose(layer.weight.grad, mask * z * x)
    half = (z > 0) & (z < 1)
    slope = torch.sigmoid(gates.log_alpha) * (1 - torch.sigmoid(gates.log_alpha)) * 1.2
    assert torch.allclose(gates.log_alpha.grad, half * layer.weight * x * slope, atol=1e-6)


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.rnn = nn.LSTM(4, 3, batch_first=True)
        self.out = nn.Linear(3, 2)

    def forward(self, x):
        return self.out(self.rnn(self.attention(x, x, x, need_weights=False)[0])[0][:, -1])


def test_weights_of_attention_and_recurrent_layers_have_gates_that_work():
    model = Encoder()
    callback = with_gates(model, "weight")
    assert len(callback.gates) == 5  # in_proj, out_proj, two of the LSTM, out
    x = torch.randn(2, 5, 4)
    torch.manual_seed(0)
    (forward(model.train(), callback, x) ** 2).sum().backward()
    for gates in callback.gates:
        assert gates.log_alpha.grad.abs().sum() > 0, gates.item.name
    with torch.no_grad():
        expected = forward(model.eval(), callback, x)
        callback.finish()
        assert torch.allclose(model(x), expected, atol=1e-6)
        assert not torch.allclose(Encoder().eval()(x), expected, atol=1e-3)


@pytest.mark.parametrize("granularity", ["channel", "layer"])
def test_other_gates_of_such_layers_are_refused(granularity):
    x = torch.randn(2, 5, 4)
    with pytest.raises(ConfigError, match=rf"granularity={granularity}: must be weight for attention.in_proj_weight"):
        L0(gated_phase(Encoder(), x), granularity=granularity)
    model = Encoder().train()
    pairs = [(model.attention.out_proj, "weight")]  # a Linear layer, but attention never calls it
    with pytest.raises(ConfigError, match=rf"granularity={granularity}: must be weight for attention.out_proj.weight"):
        L0(gated_phase(model, x, pairs=pairs), granularity=granularity)
    assert not any(module._forward_hooks for module in model.modules())
    assert all(module.training for module in model.modules())


def test_channels_of_a_transposed_convolution_are_refused():
    model = nn.Sequential(nn.ConvTranspose2d(2, 3, 2), nn.Conv2d(3, 1, 1))
    with pytest.raises(ConfigError, match=r"granularity=channel: must be weight for 0.weight of ConvTranspose2d"):
        L0(gated_phase(model, torch.randn(2, 2, 4, 4)), granularity="channel")


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"strength": -1}, r"regularizer.strength=-1: must be a number ≥ 0"),
        ({"granularity": "block"}, r"regularizer.granularity=block: must be weight or channel or neuron or layer"),
        ({"droprate_init": 1}, r"regularizer.droprate_init=1: must be a number in \(0, 1\)"),
        ({"lr": 0}, r"regularizer.lr=0: must be a number > 0"),
    ],
)
def test_what_is_out_of_range(how, message):
    with pytest.raises(ConfigError, match=message):
        L0(gated_phase(small()), **how)


def test_a_single_layer_has_no_channels_to_gate():
    with pytest.raises(ConfigError, match=r"granularity=channel: the only layer is the output layer"):
        L0(gated_phase(nn.Sequential(nn.Linear(2, 2)), torch.randn(2, 2)), granularity="channel")


def test_the_start_is_the_droprate():
    callback = L0(gated_phase(small()), droprate_init=0.2)
    assert all(torch.allclose(gates.log_alpha.sigmoid(), torch.tensor(0.8)) for gates in callback.gates)


def test_state_and_load():
    first, second = with_gates(small(), "channel"), L0(gated_phase(small()), granularity="channel")
    second.load(first.state())
    assert same(second.state(), first.state())
    assert set(first.state()) == {"0.weight", "3.weight"}
