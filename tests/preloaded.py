"""What the fork server of tests/forked.py has done before it forks: imports, and what a first use of them costs."""

import importlib
import os

from prunelab import compose
from prunelab.tracking.accuracy_figure import Dot, accuracy_figure

for name in (
    "torch.utils.tensorboard",
    "hydra.main",
    "prunelab.config.resolve",
    "prunelab.data.mnist",
    "prunelab.experiment.run",
    "prunelab.models.lenet",
    "prunelab.sweeps.launchers",
    "prunelab.sweeps.search",
):
    importlib.import_module(name)
os.fsync = lambda descriptor: None  # for power cuts only, and half of a short run's time
compose()  # Hydra's grammar and plugins
accuracy_figure({"": [Dot(0, 0)]}, {})  # matplotlib's fonts
