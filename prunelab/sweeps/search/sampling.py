"""A sampler whose draws depend only on the seed, the number of the trial and the trials before it."""

from __future__ import annotations

from typing import Any

import numpy as np
from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.trial import FrozenTrial


class Seeded(BaseSampler):
    """Optuna's multi-objective TPE sampler, seeded anew for each trial.

    With one generator for the whole study, every process that joins it and every restart would draw the first trials
    again.

    Args:
        seed: the experiment's `seed`.

    Source: Ozaki et al. 2020, "Multiobjective tree-structured Parzen estimator for computationally expensive
    optimization problems", GECCO, as implemented in Optuna.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.inner = TPESampler(seed=0)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Seed the sampler for this trial."""
        (drawn,) = np.random.SeedSequence([self.seed, trial.number]).generate_state(1)
        self.inner = TPESampler(seed=int(drawn))
        self.inner.before_trial(study, trial)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return what TPE returns."""
        return self.inner.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return what TPE returns."""
        return self.inner.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Return what TPE returns."""
        return self.inner.sample_independent(study, trial, param_name, param_distribution)
