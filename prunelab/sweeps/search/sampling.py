"""A sampler whose draws depend on the seed, the trial's number and the trials before, on nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.trial import FrozenTrial


class Seeded(BaseSampler):
    """Optuna's multi-objective TPE, seeded anew for each trial.

    One seeded generator for the whole study would draw the first trials again in every process that joins, and after
    every interruption.

    Args:
        seed: of the config.

    Source: Ozaki et al. 2020, "Multiobjective tree-structured Parzen estimator", GECCO; as in Optuna.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.inner = TPESampler(seed=0)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Draws from here on belong to this trial."""
        (drawn,) = np.random.SeedSequence([self.seed, trial.number]).generate_state(1)
        self.inner = TPESampler(seed=int(drawn))
        self.inner.before_trial(study, trial)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """As TPE."""
        return self.inner.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """As TPE."""
        return self.inner.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """As TPE."""
        return self.inner.sample_independent(study, trial, param_name, param_distribution)
