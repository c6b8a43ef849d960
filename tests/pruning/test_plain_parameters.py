"""Weights that are no plain parameters, of a model of a config or a live one, are refused in one line."""

import pytest
import torch
from torch import nn

import prunelab
from prunelab.errors import ConfigError
from prunelab.models.lenet import LeNet
from prunelab.pruning.plain_parameters import check_plain
from prunelab.pruning.pruner import Pruner


def memory(how):
    """Two layers with weights [4, 4], of which `how` makes the second from the first."""
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    net[1].weight = nn.Parameter(how(net[0].weight.data))
    return net


@pytest.mark.parametrize(
    "how",
    [
        lambda w: w,
        lambda w: w.T,
        lambda w: w[1:],
        lambda w: w.view(-1)[::2].view(2, 4),
        lambda w: w.view(torch.int32).view(torch.float32),
        lambda w: torch.view_as_complex(w.view(4, 2, 2)),
    ],
)
def test_parameters_that_share_memory_are_refused(how):
    with pytest.raises(ConfigError, match=r"model: elements of 0\.weight, 1\.weight share memory; share the parameter"):
        check_plain(memory(how))


@pytest.mark.parametrize(
    "how", [lambda w: w[:1].expand(4, 4), lambda w: w.flatten().unfold(0, 4, 1), lambda w: torch.zeros(()).expand(2, 4)]
)
def test_a_parameter_whose_elements_share_memory_is_refused(how):
    with pytest.raises(ConfigError, match=r"model: elements of 1\.weight share memory"):
        check_plain(memory(lambda w: how(w.clone())))


def test_views_of_other_elements_and_empty_parameters_are_parameters_like_others():
    flat = torch.arange(64.0)
    net = nn.Sequential(*(nn.Linear(4, 4) for _ in range(4)))
    for layer, part in zip(net, (flat[:16], flat[16:48:2], flat[17:48:2], flat[48:]), strict=True):
        layer.weight = nn.Parameter(part.view(4, 4))
        layer.bias = nn.Parameter(torch.empty(0))
    net[3].weight = nn.Parameter(net[3].weight.T)
    check_plain(net)
    check_plain(LeNet().to(memory_format=torch.channels_last))


def test_a_script_is_refused():
    with pytest.warns((FutureWarning, DeprecationWarning)):  # torch 2.11 gives the latter
        script = torch.jit.script(nn.Linear(2, 2))
    with pytest.raises(ConfigError, match="model: 0 is a ScriptModule, which takes no hooks; must be the plain module"):
        check_plain(nn.Sequential(script, nn.Linear(2, 2)))


def test_parameters_without_values_are_refused():
    with pytest.raises(ConfigError, match=r"model: 1\.weight is on the device meta, without values"):
        check_plain(nn.Sequential(nn.ReLU(), nn.Linear(2, 2, device="meta")))


@pytest.mark.parametrize(
    "live", [lambda: memory(lambda w: w), lambda: nn.Linear(4, 4, device="meta")], ids=["memory", "meta"]
)
def test_both_doors_refuse_live_modules(live, tmp_path):
    data = torch.rand(40, 4), torch.arange(40) % 4
    with pytest.raises(ConfigError, match=r"^model: "):
        Pruner(live())
    with pytest.raises(ConfigError, match=r"^model: "):
        prunelab.run("device=cpu", f"outputs={tmp_path}", model=live(), data=(data, data), quiet=True)
