"""Schedules: one per file; each returns for every round the fraction of the unpruned units that it removes."""

from prunelab.pruning.schedules.base import Amounts, Round
from prunelab.pruning.schedules.cubic import cubic
from prunelab.pruning.schedules.geometric import geometric
from prunelab.pruning.schedules.gradual import gradual
from prunelab.pruning.schedules.iterative import iterative
from prunelab.pruning.schedules.linear import linear
from prunelab.pruning.schedules.one_shot import one_shot
from prunelab.pruning.schedules.ramp import ramp
from prunelab.pruning.schedules.until import until

__all__ = ["Amounts", "Round", "cubic", "geometric", "gradual", "iterative", "linear", "one_shot", "ramp", "until"]
