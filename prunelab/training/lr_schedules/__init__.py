"""Learning-rate schedules, one per file: functions from the progress of training to a factor of `optimizer.lr`."""

from prunelab.training.lr_schedules.constant import constant
from prunelab.training.lr_schedules.cosine import cosine
from prunelab.training.lr_schedules.linear import linear
from prunelab.training.lr_schedules.steps import steps

__all__ = ["constant", "cosine", "linear", "steps"]
