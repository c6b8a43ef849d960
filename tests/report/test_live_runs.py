"""Reports tell runs of live models and live data apart."""

import torch
from conftest import overrides
from torch import nn

import prunelab
from prunelab.report.groups import differing
from prunelab.report.run_folders import find_runs


def network(width: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(784, width), nn.ReLU(), nn.Linear(width, 10))


def test_live_objects_are_experiments_of_their_own(tmp_path):
    few = overrides(tmp_path, "schedule.rounds=1", "model=lenet_300_100")
    data = torch.randn(60, 1, 28, 28), torch.arange(60) % 10
    prunelab.run(*few, quiet=True)
    for width, more in ((8, {}), (16, {}), (8, {"data": data})):
        torch.manual_seed(0)
        prunelab.run(*few[:-1], model=network(width), quiet=True, **more)
    runs = find_runs([tmp_path / "outputs"])
    names = [tuple(sorted(items.items())) for items in differing(runs)]
    assert len(runs) == len(set(names)) == 4
    assert sum("Sequential" in str(run.config["model"]) for run in runs) == 3
