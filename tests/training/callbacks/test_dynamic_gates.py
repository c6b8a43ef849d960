"""Gates that decide at run time: what is executed, what they learn, and that all else works with them as before."""

import copy
import math

import pytest
import torch
from phases import penalty, phase, same
from torch import nn

from prunelab.costs import counts as metrics
from prunelab.data.dataset import Split
from prunelab.errors import ConfigError
from prunelab.models.conv import Conv
from prunelab.models.deep_mlp import DeepMLP
from prunelab.models.lenet import LeNet
from prunelab.models.residual_lenet import ResidualLeNet
from prunelab.models.vit import ViT
from prunelab.pruning.gated import Gated, chosen, gated, settle
from prunelab.training.callbacks import gate_savings
from prunelab.training.callbacks.dynamic_gates import DynamicGates
from prunelab.training.callbacks.gate_savings import GateSavings, measure

SHAPE = (1, 28, 28)
BLOCKS = [f"blocks.{number}" for number in range(4)]


class Counted(nn.Module):
    """x + linear(x), which counts its calls."""

    def __init__(self):
        super().__init__()
        self.linear, self.calls = nn.Linear(4, 4), 0

    def forward(self, x):
        self.calls += 1
        return x + self.linear(x)


def counted(blocks=3):
    torch.manual_seed(0)
    model = nn.Sequential(*(Counted() for _ in range(blocks)), nn.Linear(4, 2))
    DynamicGates.prepare(model, (4,))
    return model


def set_gates(model, *values):
    for layer, value in zip(gated(model), values, strict=True):
        layer.gate.data.fill_(value)


def named(model):
    return [name for name, module in model.named_modules() if isinstance(module, Gated)]


# What is executed


@pytest.mark.parametrize("training", [True, False])
def test_a_closed_layer_is_not_called(training):
    model, x = counted().train(training), torch.randn(5, 4)
    set_gates(model, 2, -0.1, 0.1)
    y = model(x)
    assert [layer.calls for layer in gated(model)] == [2, 1, 2]  # one call each was to find them
    expected = x + model[0].linear(x)
    assert torch.equal(y, model[3](expected + model[2].linear(expected)))


def test_neither_are_its_hooks():
    model = counted()
    set_gates(model, 2, -2, 2)
    model.eval()
    seen = [layer.name for layer in metrics.layers(model, torch.zeros(1, 4))]
    assert seen == ["0.linear", "2.linear", "3"]


def test_a_gated_linear_layer_counts_no_multiplications_when_closed():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 2))
    DynamicGates.prepare(model, (6,))
    example = torch.zeros(1, 6)
    assert metrics.count(model, metrics.layers(model, example)).macs == 36 + 12
    set_gates(model, -1)
    assert metrics.count(model, metrics.layers(model, example)).macs == 12


def test_at_a_half_it_is_skipped():
    model = counted()
    set_gates(model, 0.0, 1e-6, -1e-6)  # σ = 0.5, a bit more, a bit less
    assert [layer.executed for layer in gated(model)] == [False, True, False]


# What a gate learns


def test_the_straight_through_gradient_by_hand():
    x, output = torch.tensor([1.0, 2.0]), torch.tensor([4.0, -1.0])
    for gate, hard in ((2.0, 1), (-0.5, 0)):
        g = torch.tensor(gate, requires_grad=True)
        o, i = output.clone().requires_grad_(), x.clone().requires_grad_()
        y = chosen(g, o, i)
        assert torch.equal(y, output if hard else x)
        (y * torch.tensor([1.0, 10.0])).sum().backward()
        s = 1 / (1 + math.exp(-gate))
        assert g.grad.item() == pytest.approx(s * (1 - s) * ((4 - 1) * 1 + (-1 - 2) * 10), rel=1e-5)
        assert o.grad.tolist() == [hard, 10 * hard]
        assert i.grad.tolist() == [1 - hard, 10 * (1 - hard)]


def test_while_it_learns_a_closed_layer_runs_so_that_it_may_open():
    model = counted()
    callback = DynamicGates(phase(model))
    set_gates(model, -1, 2, 2)
    model.train()(torch.randn(5, 4)).sum().backward()
    assert [layer.calls for layer in gated(model)] == [2, 2, 2]
    assert all(layer.gate.grad != 0 for layer in gated(model))
    model.eval()(torch.randn(5, 4))
    assert [layer.calls for layer in gated(model)] == [2, 3, 3]
    model.zero_grad()
    callback.finish()
    model.train()(torch.randn(5, 4)).sum().backward()
    assert [layer.calls for layer in gated(model)] == [2, 4, 4]
    assert all(layer.gate.grad is None for layer in gated(model))


def test_the_penalty_by_hand():
    model = counted()
    set_gates(model, 0, math.log(3), -math.log(3))
    callback = DynamicGates(phase(model), strength=6)
    assert penalty(callback).item() == pytest.approx(6 * (0.5 + 0.75 + 0.25) / 3)
    assert callback.objective(torch.tensor(2.0), None, None).item() == pytest.approx(2 + 3)
    penalty(callback).backward()
    slopes = [layer.gate.grad.item() for layer in gated(model)]
    assert slopes == pytest.approx([6 / 3 * 0.25, 6 / 3 * 0.1875, 6 / 3 * 0.1875])


def test_gates_start_open():
    assert [layer.gate.sigmoid().item() for layer in gated(counted())] == pytest.approx([0.8808] * 3, abs=1e-4)


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (lambda: DeepMLP(depth=4), BLOCKS),
        (lambda: ResidualLeNet(depth=3), BLOCKS[:3]),
        (ViT, BLOCKS),
        (lambda: Conv(pairs=1), ["convs.1", "fc2"]),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 784), nn.LayerNorm(784), nn.Linear(784, 2)), ["1"]),
    ],
)
def test_layers_are_found_by_their_shapes(build, expected):
    torch.manual_seed(0)
    model = build().train()
    before = copy.deepcopy(model.state_dict())
    random = torch.get_rng_state()
    DynamicGates.prepare(model, SHAPE)
    assert named(model) == expected
    assert same({k: v for k, v in model.state_dict().items() if not k.endswith(".gate")}, before)
    assert torch.equal(torch.get_rng_state(), random)
    assert model.training
    x = torch.randn(2, *SHAPE)
    ungated = build()
    ungated.load_state_dict(before)
    assert torch.equal(model.eval()(x), ungated.eval()(x))  # all gates are open


def test_layers_by_pattern():
    model = DeepMLP(depth=4)
    DynamicGates.prepare(model, SHAPE, layers=["blocks.[02]", "blocks.3"])
    assert named(model) == ["blocks.0", "blocks.2", "blocks.3"]
    inner = DeepMLP(depth=2)
    DynamicGates.prepare(inner, None, layers=["blocks.*.linear"])  # the shape is not known
    assert named(inner) == ["blocks.0.linear", "blocks.1.linear"]


@pytest.mark.parametrize(
    ("build", "shape", "layers", "message"),
    [
        (LeNet, SHAPE, None, "no layer of LeNet keeps its input's shape.*deep_mlp, residual_lenet, vit_tiny, resnet18"),
        (DeepMLP, None, None, r"regularizer.layers=null: .* must be .*\[blocks.\*\]"),
        (DeepMLP, SHAPE, ["stem"], r"regularizer.layers=\[stem\]: stem matches no layer .* there are blocks"),
        (DeepMLP, (3, 28, 28), None, r"the model cannot take \[3, 28, 28\]"),
    ],
)
def test_where_no_gate_can_be(build, shape, layers, message):
    with pytest.raises(ConfigError, match=message):
        DynamicGates.prepare(build(), shape, layers)


def test_an_attribute_of_that_name_is_in_the_way():
    layer = Counted()
    layer.gate = nn.Linear(4, 4)
    with pytest.raises(ConfigError, match=r"0 already has an attribute `gate`"):
        DynamicGates.prepare(nn.Sequential(layer, nn.Linear(4, 2)), (4,))


@pytest.mark.parametrize("how", [{"strength": -1}, {"lr": 0}])
def test_what_is_out_of_range(how):
    with pytest.raises(ConfigError, match=r"regularizer\.\w+=-?\d: must be a number"):
        DynamicGates(phase(counted()), **how)


# All else


def test_copies_have_gates_of_their_own():
    model = counted()
    set_gates(model, 2, -2, 2)
    other = copy.deepcopy(model)
    assert [layer.executed for layer in gated(other)] == [True, False, True]
    set_gates(other, -2, -2, -2)
    assert [layer.executed for layer in gated(model)] == [True, False, True]
    assert isinstance(other[0], Counted)


@pytest.mark.filterwarnings("ignore")  # of torch's own
def test_a_settled_model_has_a_graph_without_the_skipped_layers():
    model, x = counted(), torch.randn(2, 4)
    set_gates(model, 2, -2, 2)
    settle(model)
    exported = torch.export.export(model.eval(), (x,), strict=False)
    assert sum("linear" in str(node.target) for node in exported.graph.nodes if node.op == "call_function") == 3
    assert torch.equal(exported.module()(x), model(x))


def test_what_is_saved(monkeypatch):
    calls = []

    class Slow(Counted):
        """Takes a second, by the clock that is patched in."""

        def forward(self, x):
            calls.append(x)
            return x + self.linear(x)

    model = nn.Sequential(Slow(), Slow(), Slow(), Slow(), nn.Linear(4, 2))
    DynamicGates.prepare(model, (4,))
    data = Split(torch.randn(300, 4), torch.zeros(300, dtype=torch.long))
    monkeypatch.setattr(gate_savings, "SECONDS", 10**6)
    monkeypatch.setattr(gate_savings.time, "perf_counter", lambda: len(calls))
    assert measure(model, data) == GateSavings(1.0, 0.0)
    set_gates(model, 2, -2, -2, -2)
    assert measure(model, data) == GateSavings(0.25, 0.75)
    assert [layer.mode for layer in gated(model)] == ["decide"] * 4
    assert measure(nn.Linear(4, 2), data) is None


def test_the_measurement_takes_turns(monkeypatch):
    model, order = counted(), []
    set_gates(model, 2, -2, 2)
    monkeypatch.setattr(gate_savings, "_pass", lambda model, layers, mode, inputs: order.append(mode) or len(inputs))
    data = Split(torch.randn(300, 4), torch.zeros(300, dtype=torch.long))
    assert measure(model, data) == GateSavings(2 / 3, 0.0)
    assert order == ["decide", "open"] * (len(order) // 2)
    assert len(order) == 2 * 33
