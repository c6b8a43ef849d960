"""`cost(model, inputs)`: counted by hand, timed, and without a trace in the model."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from prunelab.costs import cost


def network():
    model = nn.Sequential(nn.Linear(10, 20), nn.BatchNorm1d(20), nn.ReLU(), nn.Linear(20, 5))
    with torch.no_grad():
        model[0].weight[:4] = 0
    return model


def test_counts_by_hand():
    found = cost(network(), torch.ones(32, 10), latency=False)
    assert found.parameters == 10 * 20 + 20 + 2 * 20 + 20 * 5 + 5
    assert found.nonzero == found.parameters - 40 - 20  # the shifts of the norm are 0
    assert (found.macs, found.macs_nonzero) == (300, 260)
    assert found.bytes == 4 * (found.parameters + 2 * 20) + 8  # means, variances, and a counter in 8 bytes
    assert found.peak_bytes == found.bytes + 4 * 32 * (10 + 2 * 20)  # two activations live at once
    assert (found.batch, found.latency_ms) == (32, None)
    assert found.threads == torch.get_num_threads()


def test_the_batch_is_timed_and_shown():
    found = cost(network(), torch.ones(32, 10))
    median, low, high = found.latency_ms
    assert 0 < low <= median <= high
    lines = {line.split("  ")[0]: line.split()[-1] for line in str(found).splitlines()}
    assert lines["parameters"] == "365"
    assert lines["nonzero MACs"] == "260"
    assert lines["peak bytes at batch 32"] == f"{found.peak_bytes:,}"
    assert "ms at batch 32" in lines
    assert repr(found) == str(found)


@pytest.mark.gpu
def test_a_network_on_a_gpu_has_the_same_cost():
    model, x = network(), torch.ones(32, 10)
    expected, found = cost(model, x, latency=False), cost(model.cuda(), x.cuda())
    assert found.latency_ms.low > 0
    assert found.peak_bytes == pytest.approx(expected.peak_bytes, rel=0.1)  # the norm allocates other buffers
    assert replace(found, latency_ms=None, peak_bytes=expected.peak_bytes) == expected


def test_the_model_stays_as_it_is():
    model = network().train()
    model[1].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    cost(model, torch.randn(4, 10))
    assert [module.training for module in model] == [True, False, True, True]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("examples", [1, 2, 3, 9])
def test_few_examples_are_enough(examples):
    found = cost(network(), torch.ones(examples, 10), latency=False)
    assert found.peak_bytes == found.bytes + 4 * examples * (10 + 2 * 20)


def test_shared_weights_are_in_memory_once():
    model = nn.Sequential(nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False))
    model[1].weight = model[0].weight
    found = cost(model, torch.ones(2, 8), latency=False)
    assert (found.parameters, found.bytes, found.macs) == (64, 256, 128)


def test_token_numbers_are_inputs_too():
    model = nn.Sequential(nn.Embedding(7, 4), nn.Flatten(), nn.Linear(12, 2))
    found = cost(model, torch.tensor([[1, 2, 3], [4, 5, 6]]), latency=False)
    assert (found.parameters, found.macs) == (28 + 24 + 2, 24)


def test_neither_hydra_nor_omegaconf_is_imported(python, tmp_path):
    code = (
        "import sys, torch, prunelab.costs, prunelab.compaction, prunelab.exports; from torch import nn\n"
        "model, x = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)), torch.ones(2, 4)\n"
        "prunelab.costs.cost(model, x, latency=False)\n"
        "prunelab.exports.export(model, 'out', example=x)\n"
        "prunelab.compaction.compact(model, x)\n"
        "print([name for name in sys.modules if name in ('hydra', 'omegaconf', 'prunelab.config')])"
    )
    done = python(code, cwd=tmp_path)
    assert done.stdout == "[]\n", done.stderr
