"""What holds for every callback that the config can name, found by its YAML file."""

from __future__ import annotations

import copy
import importlib
from pathlib import Path

import pytest
import torch
import yaml
from phases import same

from prunelab.data.synthetic import synthetic
from prunelab.models.deep_mlp import DeepMLP
from prunelab.pruning.masks import Masks
from prunelab.pruning.prunable import select
from prunelab.runtime.seeding import permutation
from prunelab.training.callbacks.base import Callback, Phase
from prunelab.training.loop import fit
from prunelab.training.optimizers import build_optimizer
from prunelab.training.spec import Position, TrainSpec

CONF = Path(__file__).parents[3] / "conf"
FILES = sorted([*(CONF / "regularizer").glob("*.yaml"), *(CONF / "sparse_training").glob("*.yaml")])
DATA = synthetic(examples=300, shape=(1, 8, 8))
SPEC = TrainSpec(iterations=12, batch_size=50, seed=3, round=1)


CASES = [
    *((file, {}) for file in FILES),
    *((CONF / "regularizer/l0.yaml", {"granularity": of}) for of in ("channel", "layer")),
]


class BreakError(Exception):
    pass


class Setup:
    """A small network, half of its weights pruned, with the callback of a YAML file."""

    def __init__(self, case: tuple[Path, dict[str, str]]) -> None:
        file, options = case
        content = yaml.safe_load(file.read_text())
        self.options = dict(content.get(file.parent.name, content))
        self.options |= options
        module, _, name = self.options.pop("_target_").rpartition(".")
        self.kind = getattr(importlib.import_module(module), name)
        self.options |= {key: value for key, value in {"every": 2, "until": 1.0}.items() if key in self.options}
        torch.manual_seed(0)
        self.model = DeepMLP(width=16, depth=2, shape=(1, 8, 8))
        if hasattr(self.kind, "prepare"):
            self.kind.prepare(self.model, (1, 8, 8))
        self.masks = Masks(self.model)
        self.masks.add(select(self.model))
        for item in self.masks:
            item.mask.view(-1)[::2] = 0
        self.masks.apply()

    def begin(self) -> Setup:
        options = {key: value for key, value in self.options.items() if value is not None}
        self.callback = self.kind(Phase(self.model, self.masks, 3, 1, SPEC.iterations, batch), **options)
        self.optimizer = build_optimizer(torch.optim.Adam, self.model, [self.callback], lr=0.01)
        return self

    def train(self, position: Position, on_batch=lambda: None) -> None:
        splits = DATA.train, DATA.validation
        for _ in fit(self.model, self.optimizer, *splits, SPEC, [self.callback], position=position, on_batch=on_batch):
            pass


def batch(iteration):
    return DATA.train.batch(permutation(len(DATA.train), iteration)[:50])


@pytest.fixture(params=CASES, ids=lambda case: "_".join([case[0].stem, *case[1].values()]))
def case(request):
    return request.param


def test_it_is_a_callback_with_a_docstring(case):
    setup = Setup(case).begin()
    assert isinstance(setup.callback, Callback)
    assert "Args:" in setup.kind.__doc__
    assert "Source:" in setup.kind.__doc__


@pytest.mark.parametrize("broken_at", [3, 8])
def test_training_that_is_interrupted_ends_the_same(case, broken_at):
    whole = Setup(case).begin()
    whole.train(Position())

    first, position, left = Setup(case).begin(), Position(), iter(range(broken_at))

    def on_batch():
        if next(left, None) is None:
            raise BreakError

    with pytest.raises(BreakError):
        first.train(position, on_batch)
    position.remember_generators(torch.device("cpu"))
    states = (first.model.state_dict(), first.optimizer.state_dict(), first.callback.state())
    weights, moments, state = copy.deepcopy(states)
    masks = first.masks.state()
    torch.rand(5)

    second = Setup(case)
    second.masks.load(masks)
    second.model.load_state_dict(weights)
    second.begin()
    second.optimizer.load_state_dict(moments)
    second.callback.load(state)
    second.train(position)
    for setup in (whole, second):
        setup.callback.finish()
    assert same(second.model.state_dict(), whole.model.state_dict())
    assert same(second.masks.state(), whole.masks.state())


def test_pruned_weights_stay_zero_and_the_network_stays_plain(case):
    setup = Setup(case)
    keys, parameters = list(setup.model.state_dict()), list(map(id, setup.model.parameters()))
    setup.begin().train(Position())
    setup.callback.finish()
    assert not setup.masks.lost()
    assert list(setup.model.state_dict()) == keys
    assert list(map(id, setup.model.parameters())) == parameters
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in setup.model.modules())
