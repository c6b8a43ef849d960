"""Optimizers: groups of parameters, and the same updates without torch's compiler."""

from __future__ import annotations

import json

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from prunelab.training.callbacks.base import Callback, ParameterGroup
from prunelab.training.optimizers import build_optimizer, without_compiler

FEATURES, CLASSES = 8, 3


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(FEATURES, 16), nn.ReLU(), nn.Linear(16, CLASSES))


def batches():
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        yield torch.randn(8, FEATURES, generator=generator), torch.randint(CLASSES, (8,), generator=generator)


class Own(Callback):
    def __init__(self, *parameters):
        self.own = parameters

    def parameters(self):
        return ParameterGroup(self.own, lr=0.5)


def test_parameters_are_in_the_order_of_their_names_and_shared_ones_once():
    model = nn.ModuleDict({"b": nn.Linear(2, 2), "a": nn.Linear(2, 2)})
    model["a"].weight = model["b"].weight
    (group,) = build_optimizer(torch.optim.SGD, model, lr=0.1).param_groups
    expected = [model["a"].bias, model["b"].bias, model["b"].weight]
    assert [id(parameter) for parameter in group["params"]] == [id(parameter) for parameter in expected]
    assert group["initial_lr"] == 0.1


def test_a_callbacks_parameters_are_in_a_group_of_their_own():
    model, other = network(), nn.Parameter(torch.zeros(3))
    callbacks = [Own(other, model[0].bias), Callback()]
    first, second = build_optimizer(torch.optim.SGD, model, callbacks, lr=0.1, weight_decay=0.2).param_groups
    assert [id(parameter) for parameter in second["params"]] == [id(other), id(model[0].bias)]
    assert id(model[0].bias) not in [id(parameter) for parameter in first["params"]]
    assert (second["lr"], second["initial_lr"], second["weight_decay"]) == (0.5, 0.5, 0.0)
    assert (first["lr"], first["weight_decay"]) == (0.1, 0.2)


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
    models = network(), network()
    optimizers = kind(models[0].parameters(), **how), without_compiler(kind)(models[1].parameters(), **how)
    for inputs, labels in batches():
        for model, optimizer in zip(models, optimizers, strict=True):
            optimizer.zero_grad()
            F.cross_entropy(model(inputs), labels).backward()
            optimizer.step()
        assert all(torch.equal(a, b) for a, b in zip(*(model.parameters() for model in models), strict=True))
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


def test_global_step_hooks_run():
    """Masks are enforced by one."""
    model, steps = network(), []
    handle = register_optimizer_step_post_hook(lambda optimizer, *_: steps.append(optimizer))
    try:
        optimizer = build_optimizer(torch.optim.Adam, model)
        optimizer.step()
        assert steps == [optimizer]
    finally:
        handle.remove()


def test_training_does_not_import_the_compiler(warm_python, tmp_path):
    code = f"""
import json, sys
from prunelab import compose, run
for choice in ("adam", "sgd"):
    run(compose("data.limit=100", "train.epochs=1", "schedule.rounds=1", "optimizer=" + choice, "outputs={tmp_path}"))
import torch
from prunelab.training.optimizers import build_optimizer
optimizer = build_optimizer(torch.optim.Adam, torch.nn.Linear(2, 2))
optimizer.load_state_dict(optimizer.state_dict())
print(json.dumps([name for name in sys.modules if name in ("torch._dynamo", "torchvision", "torch._inductor")]))
"""
    result = warm_python(code, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout.splitlines()[-1]) == []


def test_weight_decay_spares_biases_and_norms():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    before = {name: tensor.detach().clone() for name, tensor in model.named_parameters()}
    optimizer = build_optimizer(torch.optim.SGD, model, (), "weights", lr=1.0, weight_decay=0.5)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, tensor in model.named_parameters():
        factor = 0.5 if name in ("0.weight", "2.weight") else 1.0
        assert torch.equal(tensor, factor * before[name]), name
