"""Schedules: how much is pruned, and when. One schedule per file; each returns one amount per round.

`amount` is the fraction of the units that are not pruned yet which a round removes.
"""

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
