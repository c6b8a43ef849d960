"""A network without some of its layers is the same network in every form. Its layers are no residual blocks, so that
running a removed one, all zeros, would be seen at once."""

import pickle
import sys

import pytest
import torch
from conftest import composed
from safetensors.torch import load_file
from torch import nn

import prunelab
from prunelab.compaction import compact
from prunelab.data.mnist import mnist
from prunelab.exports import export_files, finished_run
from prunelab.exports.formats import FORMATS
from prunelab.models.deep_mlp import DeepMLP
from prunelab.models.residual_lenet import ResidualLeNet
from prunelab.models.vit import ViT
from prunelab.pruning import skipping

PLAIN = """
from torch import nn

class Plain(nn.Sequential):
    def __init__(self):
        equal = (nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh())
        super().__init__(nn.Flatten(), nn.Linear(784, 32), *equal, nn.Linear(32, 10))
"""
X = torch.randn(64, 1, 28, 28, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    """A run that lost two of its three layers of equal width."""
    folder = tmp_path_factory.mktemp("layers")
    (folder / "plain_layers.py").write_text(PLAIN)
    sys.path.insert(0, str(folder))
    chosen = ("model._target_=plain_layers.Plain", "trusted=[plain_layers]", "strategy=layer", "strategy.count=2")
    yield prunelab.run(composed(folder, *chosen, "schedule.rounds=1"))
    sys.path.remove(str(folder))


def by_hand(result):
    """The network as its weights and masks say, with identities put in by hand."""
    from plain_layers import Plain

    model = Plain()
    model.load_state_dict(load_file(result.folder / "model.safetensors"))
    gone = {
        name.split(".")[0] for name, mask in load_file(result.folder / "masks.safetensors").items() if not mask.any()
    }
    assert len(gone) == 2
    for name in gone:
        model[int(name)] = nn.Identity()
    return model.eval()


@torch.no_grad()
def apart(one, other):
    return float((one(X) - other(X)).abs().max())


def test_the_result_and_what_is_loaded_are_the_network_by_hand(result):
    expected, trusted = by_hand(result), ("plain_layers",)
    assert apart(expected, result.model) <= 1e-5
    loaded = prunelab.load(result.folder, trusted)
    assert apart(expected, loaded) <= 1e-5
    small = prunelab.load(result.folder, trusted, compact=True)
    assert apart(expected, small) <= 1e-5
    assert sum(p.numel() for p in small.parameters()) == sum(p.numel() for p in expected.parameters())
    assert apart(expected, pickle.loads(pickle.dumps(loaded))) <= 1e-5  # noqa: S301


@pytest.mark.parametrize("kind", ["safetensors", "int8_weight", pytest.param("torch_export", marks=pytest.mark.slow)])
def test_files_are_the_network_by_hand(result, kind, monkeypatch):
    if kind.startswith("int8"):
        pytest.importorskip("torchao")
    monkeypatch.setenv("PYTHONPATH", sys.path[0], prepend=":")
    trusted = ("plain_layers",)
    network = finished_run.read(result.folder, trusted)
    export_files.make(result.folder, network.model, network.config, mnist(limit=300).test, [kind])
    run = FORMATS[kind].load(result.folder, finished_run.builder(trusted))
    assert apart(by_hand(result), run) <= (0.1 if kind.startswith("int8") else 1e-5)


@pytest.mark.parametrize("kind", [DeepMLP, ResidualLeNet, ViT])
def test_a_network_that_lost_all_of_its_blocks_is_compacted(kind):
    network = kind().eval()
    for block in network.blocks:
        skipping.set_skipped(block, True)
    small = compact(network, X[:1]).model
    assert apart(network, small) <= 1e-5
    assert not skipping.skipped(small)
