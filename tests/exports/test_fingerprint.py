"""A network that is loaded must give the outputs of the one that was saved."""

import json

import pytest
import torch
from torch import nn

from prunelab.errors import ConfigError
from prunelab.exports import fingerprint

EXAMPLE = torch.zeros(1, 6)


def network(seed=0, *layers):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 5), *layers, nn.Linear(5, 3))


def saved(model, example=EXAMPLE, **how):
    return json.loads(json.dumps(fingerprint.of(model, example, **how)))


@pytest.mark.parametrize(
    "layers",
    [(), (nn.Dropout(0.5),), (nn.BatchNorm1d(5),), (nn.Threshold(9, float("nan")),)],
    ids=lambda found: str(found),
)
def test_the_same_network_passes_and_keeps_its_mode(layers):
    model = network(0, *layers).train()
    fingerprint.check(model, saved(model), "file")
    assert all(module.training for module in model.modules())


def test_a_network_that_draws_numbers_in_eval_mode_passes():
    class Noisy(nn.Linear):
        def forward(self, x):
            return super().forward(x) + torch.rand(len(x), 1)

    model = Noisy(6, 3)
    fingerprint.check(model, saved(model), "file")


def test_one_changed_bit_is_seen():
    model = network()
    mark = saved(model)
    with torch.no_grad():
        model[-1].bias[0] = torch.nextafter(model[-1].bias[0], torch.tensor(9.0))
    with pytest.raises(ConfigError, match=r"^file: the network that was loaded is not the one that was saved"):
        fingerprint.check(model, mark, "file")
    fingerprint.check(model, saved(network(), exact=False), "file")  # where kernels may round differently


@pytest.mark.parametrize("other", [{"threads": 99}, {"torch": "1.0"}, {"kind": "other"}])
def test_on_other_hardware_a_hundredth_is_allowed(other):
    model = network()
    mark = saved(model)
    mark["hardware"] |= other
    with torch.no_grad():
        model[-1].bias += 1e-4
    fingerprint.check(model, mark, "file")
    with torch.no_grad():
        model[-1].bias += 0.1
    with pytest.raises(ConfigError, match=r"differ by 0\.1"):
        fingerprint.check(model, mark, "file")


@pytest.mark.parametrize("change", [{"shape": [7]}, {"dtype": "nothing"}, {"outputs": [1.0]}, {"outputs": "?"}])
def test_a_damaged_fingerprint_is_one_line(change):
    model = network()
    with pytest.raises(ConfigError, match=r"^file: "):
        fingerprint.check(model, saved(model) | {"sha256": "0"} | change, "file")


def test_numbers_of_tokens_are_small_and_not_negative():
    model = nn.Sequential(nn.Embedding(5, 4), nn.Flatten())
    fingerprint.check(model, saved(model, torch.tensor([[4, 0, 1]])), "file")


def test_files_of_older_versions_are_not_compared():
    fingerprint.check(network(), None, "file")
