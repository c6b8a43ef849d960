"""The pruner, for experiments and any training loop: scores weights, removes units, and keeps them at zero."""

import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prunelab.errors import ConfigError, at_least_one
from prunelab.pruning import adopted_zeros, criteria, prunable, reconstruction
from prunelab.pruning import allocation as allocations
from prunelab.pruning import granularity as granularities
from prunelab.pruning.criteria.base import (
    Batch,
    Batches,
    Criterion,
    Evidence,
    Loss,
    Score,
    Scores,
    above_zero,
    as_batches,
)
from prunelab.pruning.custom import Method
from prunelab.pruning.granularity.weight import Weight
from prunelab.pruning.lookup import find
from prunelab.pruning.masks import MaskedTensor, Masks
from prunelab.pruning.output_layers import output_layers
from prunelab.pruning.reports import PruneReport, Summary, prune_report, tensor_report
from prunelab.pruning.rules import Rule, masked_groups
from prunelab.pruning.units import Allocation, Granularity
from prunelab.runtime.seeding import derive, seeded_by


class Pruner:
    """Prune a model in place, and keep what is pruned at zero while the model is trained.

    The model's parameters stay plain parameters under their own names. Gradients of pruned weights are zeroed as they
    accumulate, and the masks are applied after every optimizer step and every `load_state_dict`, as long as the model
    exists or until `detach`.

    Args:
        model: any module.
        criterion: how important a weight is: `magnitude`, `random`, `taylor`, `snip`, `grasp`, `synflow`, `obd`, `obs`,
            `movement`, `wanda`, `magnitude_increase`, `same_sign`, or a function of `Evidence` that returns a score ≥ 0
            per weight.
        granularity: what is removed as one: `weight`, `channel`, `block`, `kernel`, or a `Granularity` with options.
        allocation: how many units go from each tensor: `local`, `global`, `row`, `nm`, `uniform`, `erk`, `lamp`,
            `threshold`, or an `Allocation` with options.
        include: patterns of the names of parameters to prune; None: the weights of all Conv, Linear, recurrent and
            attention layers.
        exclude: patterns of the names of parameters not to prune.
        output_layer: whether layers that give the model's output are pruned too; None: only if no whole output channels
            are removed, since those are the classes.
        data: batches of inputs and labels, such as a DataLoader, for criteria that need training data; or a function
            from a number of examples to such batches.
        example: an input batch, to find the output layers by running the model, and for criteria that need its shape.
        loss: a function of outputs and labels that returns the mean loss of a batch.
        iterations: number ≥ 1 of scorings and prunings within one call of `prune`, which reach its amount in equal
            ratios (Tanaka et al. 2020, algorithm 1, arXiv 2006.05467).
        rules: a granularity and an allocation for each group of tensors, in the place of those two arguments.
        method: a `torch.nn.utils.prune.BasePruningMethod` that decides in the place of criterion and allocation.
        adopt_zeros: whether weights that are zero already count as pruned and stay zero; see `pruning.adopted_zeros`.
        initial: state dict before training, for criteria that need it; default, for a `Criterion`: the present weights.
        seed: seed of random scores.

    Raises:
        ConfigError: for arguments that do not fit each other, or if nothing is left to prune.
    """

    def __init__(
        self,
        model: nn.Module,
        criterion: str | Score = "magnitude",
        granularity: str | Granularity = "weight",
        allocation: str | Allocation = "global",
        *,
        include: Sequence[str] | None = None,
        exclude: Sequence[str] = (),
        output_layer: bool | None = None,
        data: Iterable[Batch] | Batches | None = None,
        example: Tensor | None = None,
        loss: Loss = F.cross_entropy,
        iterations: int = 1,
        rules: Sequence[Rule] = (),
        method: Method | None = None,
        adopt_zeros: bool = True,
        initial: Mapping[str, Tensor] | None = None,
        seed: int = 0,
    ) -> None:
        self.model, self.example, self.loss, self.seed = model, example, loss, seed
        self.iterations = at_least_one("criterion.iterations", iterations)
        self.criterion = named_criterion(criterion) if isinstance(criterion, str) else criterion
        self.data = data
        if rules and method is not None:
            raise ConfigError(f"method={method.__qualname__}: rules have methods of their own; use one of them")
        rules = rules or [_rule(granularity, allocation, method)]
        spares = any(r.granularity.spares_output for r in rules) if output_layer is None else not output_layer
        self.output = output_layers(model, example) if spares else []
        pairs = prunable.select(model, include, exclude, self.output)
        self.masks = Masks(model)
        self.masks.add(pairs)
        self.items = self.masks.of(pairs)
        self.groups = masked_groups(self.masks, self.items, rules)
        self.adopted = adopted_zeros.adopt_zeros(self.masks, self.groups) if adopt_zeros else None
        self.recorder.attach(self.masks)
        self.initial = initial
        if self.recorder.needs_initial and initial is None:
            self.initial = {item.name: item.parameter.detach().clone() for item in self.items}
        self._calls = 0

    @property
    def recorder(self) -> Criterion:
        """The criterion if it has a state, else one that records nothing."""
        return self.criterion if isinstance(self.criterion, Criterion) else Criterion()

    def prune(
        self,
        amount: float | None = None,
        *,
        seed: int | None = None,
        data: Batches | None = None,
        reconstruct: str | None = None,
    ) -> PruneReport:
        """Remove units: tighten the masks and set the weights to zero.

        Args:
            amount: fraction in [0, 1) of the units that are not pruned yet; None for an allocation that sets its own
                sparsity (`nm`, `threshold`).
            seed: seed of random scores; default: derived from the pruner's seed and the number of calls.
            data: replaces the pruner's own data.
            reconstruct: `obs` updates the weights that stay, layer by layer from data; see `reconstruction.obs`.

        Raises:
            ConfigError: for an amount that does not fit, or for layers or units that `reconstruct` cannot update.
        """
        if reconstruct is not None:
            reconstruction.check(reconstruct, self.groups, self._evidence(self.items, data))
        amounts = [group.check_amount(amount) for group in self.groups]
        self._calls += 1
        before = {item.name: item.kept for item in self.masks}
        start = time.perf_counter()
        self.masks.apply()
        with seeded_by(derive(self.seed, self._calls, "prune") if seed is None else seed):
            self._in_iterations(amounts, data, reconstruct is not None)
        self.recorder.load({})
        report = prune_report(self.masks, self.items, before, amount, (time.perf_counter() - start) * 1000)
        for warning in report.warnings:
            warnings.warn(warning, stacklevel=2)
        return report

    def score(self, data: Batches | None = None) -> Scores:
        """Return the criterion's present scores, a tensor for each prunable tensor.

        Args:
            data: replaces the pruner's own data.

        Raises:
            ConfigError: if the criterion does not return one score for each weight.
        """
        own = [(group, group.rule.criterion) for group in self.groups if group.rule.criterion is not None]
        with torch.enable_grad():
            if all(group.rule.method is not None or group.rule.criterion is not None for group in self.groups):
                scores = [item.parameter.detach().abs() for item in self.items]
            else:
                scores = list(self.criterion(self._evidence(self.items, data)) or ())
            for group, criterion in own:
                for place, score in zip(group.places, criterion(self._evidence(group.items, data)), strict=True):
                    scores[place] = score
        if len(scores) != len(self.items) or not all(isinstance(score, Tensor) for score in scores):
            raise ConfigError(f"criterion: must return {len(self.items)} tensors of scores, one for each weight tensor")
        for item, score in zip(self.items, scores, strict=True):
            if score.shape != item.parameter.shape:
                raise ConfigError(
                    f"criterion: gives {list(score.shape)} scores for {item.name} {list(item.parameter.shape)}"
                )
        return scores

    def summary(self) -> Summary:
        """Return the prunable tensors with shape, units, nonzero weights and sparsity; printed as a table."""
        units = {item.name: group.rule.granularity for group in self.groups for item in group.items}
        return Summary(tuple(tensor_report(item, units.get(item.name, Weight())) for item in self.masks))

    def detach(self) -> None:
        """Remove masks and hooks; the zeros stay in the weights."""
        self.recorder.detach()
        self.masks.detach()

    @contextmanager
    def undone(self) -> Iterator[None]:
        """Restore masks, weights and the criterion's state at the end of the context."""
        saved, calls, recorded = self.masks.saved(), self._calls, self.recorder.state()
        try:
            yield
        finally:
            self.masks.put_back(saved)
            self.masks.apply()
            self._calls = calls
            self.recorder.load(recorded)

    def _evidence(self, items: list[MaskedTensor], data: Batches | None) -> Evidence:
        shape = () if self.example is None else tuple(self.example.shape[1:])
        batches = data or as_batches(self.data, self.items[0].parameter.device)
        return Evidence(self.model, items, initial=self.initial, batches=batches, shape=shape, loss=self.loss)

    @torch.no_grad()
    def _decide(self, scores: Scores, amounts: Sequence[float | None]) -> None:
        for group, amount in zip(self.groups, amounts, strict=True):
            try:
                group.decide([scores[place] for place in group.places], amount)
            except ConfigError as error:
                raise ConfigError(f"{group.label}: {error}" if group.label else str(error)) from error
        for group in self.groups:
            group.prune_followers(self.masks)

    def _in_iterations(self, amounts: Sequence[float | None], data: Batches | None, reconstruct: bool) -> None:
        """Score and prune; several times, each time from the first masks, so that the counts are exact."""
        start = self.masks.saved() if self.iterations > 1 or reconstruct else []
        for step in range(1, self.iterations + 1):
            scores = self.score(data)
            if step > 1:  # what an earlier iteration has pruned gets the smallest scores, and is pruned again
                scores = above_zero(scores, [item.kept for item in self.items])
            self.masks.put_back(start)
            share = step / self.iterations
            self._decide(scores, [None if a is None else a if share == 1 else 1 - (1 - a) ** share for a in amounts])
            self.masks.apply()
            if reconstruct:
                self._reconstruct([weight for item, weight, _ in start if item in self.items], data)

    @torch.no_grad()
    def _reconstruct(self, before: Sequence[Tensor], data: Batches | None) -> None:
        for item, weight in zip(self.items, reconstruction.obs(self._evidence(self.items, data), before), strict=True):
            item.parameter.copy_(weight)


def _rule(granularity: str | Granularity, allocation: str | Allocation, method: Method | None) -> Rule:
    unit = find(granularities, "granularity", granularity)() if isinstance(granularity, str) else granularity
    share = find(allocations, "allocation", allocation)() if isinstance(allocation, str) else allocation
    return Rule("*", unit, share, method=method)


def named_criterion(name: str) -> Score:
    """Return a criterion with its default options, by the name of its file."""
    found = find(criteria, "criterion", name)
    return found() if isinstance(found, type) else found
