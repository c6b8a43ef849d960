"""What the fork server of tests/forked.py has done before it forks: imports, and what a first use of them costs."""

import functools
import gc
import importlib
import os

import torch

from prunelab import compose
from prunelab.costs import card
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
os.fsync = lambda descriptor: None  # for power cuts only, and half of a short run's time
compose()  # Hydra's grammar and plugins
drawn = accuracy_figure({"": [Dot(0, 0)]}, {})
mnist.decoded = functools.cache(mnist.decoded)
mnist.decoded(cache_folder() / "mnist.safetensors")
tensorboard.accuracy_figure = lambda series, dense: drawn
tensorboard.mask_image = lambda mask: mask.new_zeros((1, 1), dtype=torch.uint8)
card.GZIP_LEVEL = 1
gc.freeze()
gc.set_threshold(50_000, 20, 20)
