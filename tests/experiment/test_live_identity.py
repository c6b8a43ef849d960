"""The names of the stages of live objects: all that a module computes, and all that a data set holds."""

import functools
import types

import odd_networks
import pytest
import torch
from torch import nn

import prunelab
from prunelab.data.dataset import Dataset, Split
from prunelab.experiment.live_identity import content, structure


class Own(nn.Module):
    def __init__(self, **settings):
        super().__init__()
        self.layer = nn.Linear(4, 4)
        for name, value in settings.items():
            setattr(self, name, value)

    def helper(self, x):
        return x

    def forward(self, x):
        return self.layer(x)


def other(x):
    return x


def scaled(by):
    return Own(act=lambda x: by * x)


def buffered(value):
    model = Own()
    model.register_buffer("order", torch.tensor(value), persistent=False)
    return model


def tied(shared):
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].load_state_dict(model[0].state_dict())
    if shared:
        model[1].weight = model[0].weight
    return model


DIFFERENT = {
    "activation": (nn.Sequential(nn.ReLU()), nn.Sequential(nn.Tanh())),
    "dropout": (nn.Dropout(0.1), nn.Dropout(0.2)),
    "stride": (nn.Conv2d(1, 1, 3), nn.Conv2d(1, 1, 3, stride=2)),
    "a word": (Own(act="relu"), Own(act="gelu")),
    "a function": (Own(act=torch.relu), Own(act=torch.tanh)),
    "own functions": (Own(act=other), Own(act=lambda x: x + 1)),
    "lambdas": (Own(act=lambda x: x + 1), Own(act=lambda x: x - 1)),
    "closures": (scaled(1.0), scaled(2.0)),
    "partial": (Own(act=functools.partial(other, n=1)), Own(act=functools.partial(other, n=2))),
    "a list": (Own(sizes=[1, (2, 3)]), Own(sizes=[1, (2, 4)])),
    "an object": (Own(config=types.SimpleNamespace(depth=2)), Own(config=types.SimpleNamespace(depth=3))),
    "a tensor": (Own(order=torch.arange(3)), Own(order=torch.tensor([2, 1, 0]))),
    "an array": (Own(order=torch.arange(3).numpy()), Own(order=torch.tensor([2, 1, 0]).numpy())),
    "a buffer that is not stored": (buffered([1.0]), buffered([2.0])),
    "sharing": (tied(True), tied(False)),
    "order": (nn.Sequential(nn.ReLU(), nn.Dropout()), nn.Sequential(nn.Dropout(), nn.ReLU())),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_modules_that_compute_different_things_have_different_structures(name):
    one, two = DIFFERENT[name]
    assert structure(one) != structure(two)
    assert structure(one) == structure(one.eval())


def test_weights_are_no_part_of_the_structure_and_objects_may_refer_to_each_other():
    assert structure(Own(act="relu")) == structure(Own(act="relu"))
    model = Own(config=types.SimpleNamespace())
    model.config.model, model.bound = model, model.helper
    assert structure(model) == structure(model)


def test_the_content_of_each_split_counts_and_the_user_s_own_class():
    class Noisy(Split):
        def batch(self, index):
            inputs, labels = super().batch(index)
            return inputs + torch.rand_like(inputs), labels

    def data(kind=Split, last=0.0):
        inputs = torch.zeros(4, 2)
        inputs[3, 1] = last
        splits = [Split(torch.zeros(4, 2), torch.arange(4)) for _ in range(2)]
        return Dataset(kind(inputs, torch.arange(4)), *splits)

    assert content(data()) == content(data())
    assert content(data()) != content(data(last=1.0))
    assert content(data()) != content(data(kind=Noisy))
    assert type(data(kind=Noisy).to(torch.device("cpu")).train) is Noisy


def test_a_live_model_with_another_activation_is_trained_anew(tmp_path):
    config = prunelab.compose(
        "threads=1", "train.epochs=1", "schedule.rounds=1", "latency=false", f"outputs={tmp_path / 'outputs'}"
    )
    torch.manual_seed(0)
    layers = nn.Linear(6, 8), nn.Linear(8, 3)
    data = (torch.randn(60, 6), torch.arange(60) % 3)
    losses = []
    for act in (nn.ReLU(), nn.Tanh(), nn.ReLU()):
        result = prunelab.run(config, model=nn.Sequential(layers[0], act, layers[1]), data=(data, data))
        losses.append((result.rounds[0].test_loss, result.rounds[0].reused))
    assert losses[0][0] == losses[2][0] != losses[1][0]
    assert [reused for _, reused in losses] == [False, False, True]


def test_state_that_is_no_tensor_is_refused(tmp_path):
    with pytest.raises(
        prunelab.ConfigError, match="model=ExtraState: cannot be saved: its state dict holds _extra_state"
    ):
        prunelab.run(prunelab.compose("data=synthetic"), tmp_path, model=odd_networks.ExtraState())
