"""What the fork server of tests/forked.py has done before it forks: imports, and what a first use of them costs."""

import importlib

import quick_runs

from prunelab import compose
from prunelab.data import mnist
from prunelab.data.cache import cache_folder
from prunelab.tracking import tensorboard
from prunelab.tracking.accuracy_figure import Dot, accuracy_figure

for name in (
    "torch.utils.tensorboard",
    "hydra.main",
    "prunelab.config.resolve",
    "prunelab.experiment.run",
    "prunelab.models.lenet",
    "prunelab.sweeps.launchers",
    "prunelab.sweeps.search",
):
    importlib.import_module(name)
compose()  # Hydra's grammar and plugins
drawn = accuracy_figure({"": [Dot(0, 0)]}, {})
for change in quick_runs.changes():
    setattr(*change)
mnist.decoded(cache_folder() / "mnist.safetensors")
tensorboard.accuracy_figure = lambda series, dense: drawn
quick_runs.collect_less_garbage()
