"""Combinations that mean nothing are refused with one sentence before the model is built; all others resolve."""

from __future__ import annotations

import itertools

import pytest

import prunelab
from prunelab.config.conf_folder import choices, content
from prunelab.config.resolve import from_plain, resolve
from prunelab.errors import ConfigError


@pytest.fixture(scope="module")
def plains():
    """Of every choice of an axis, what it sets: cells are put together from these, without Hydra's seconds."""
    base = resolve(prunelab.compose()).plain
    axes = {}
    for axis, common in (("criterion", {"iterations": 1}), ("granularity", {}), ("allocation", {})):
        for choice in choices(axis):
            axes[axis, choice] = {**common, **content(axis, choice)[axis]}
    return base, axes


def cell(plains, criterion, granularity, allocation, amount):
    base, axes = plains
    chosen = {"criterion": criterion, "granularity": granularity, "allocation": allocation}
    return {**base, "amount": amount, **{axis: axes[axis, choice] for axis, choice in chosen.items()}}


def meaningful(granularity, allocation):
    """From the definitions: N:M is a pattern of single weights; a channel is a whole row."""
    return not (allocation == "nm" and granularity != "weight") and (granularity, allocation) != ("channel", "row")


def test_every_cell_resolves_or_is_refused_in_one_sentence(plains):
    axes = [choices(axis) for axis in ("criterion", "granularity", "allocation")]
    for criterion, granularity, allocation in itertools.product(*axes):
        own = allocation in ("nm", "threshold")
        for wrong in (False, True) if criterion == "magnitude" else (False,):  # an amount where there must be none, …
            config = cell(plains, criterion, granularity, allocation, None if own != wrong else 0.5)
            if meaningful(granularity, allocation) and not wrong:
                spec = from_plain(config)
                got = (spec.criterion.choice, spec.granularity.choice, spec.allocation.choice)
                assert got == (criterion, granularity, allocation)
            else:
                with pytest.raises(ConfigError) as caught:
                    from_plain(config)
                said = str(caught.value)
                assert "must be" in said or "needs" in said
                assert "\n" not in said
                assert len(said) < 200


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ("strategy=nm amount=0.2", r"amount=0.2: allocation=nm sets its own sparsity; amount must be null"),
        ("strategy=threshold amount=0.2", r"amount=0.2: allocation=threshold sets its own sparsity"),
        ("strategy=nm schedule=linear schedule.sparsity=0.9", r"schedule=linear: allocation=nm sets its own sparsity"),
        ("amount=null", r"amount=null: allocation=global needs a fraction in \[0, 1\)"),
        (
            "strategy=nm granularity=channel",
            r"granularity=channel: allocation=nm .*; must be weight",
        ),
        ("allocation=row granularity=channel", r"granularity=channel: allocation=row"),
        ("strategy=custom granularity=channel", r"granularity=channel: strategy.method=.*; must be weight"),
        ("strategy=custom allocation=lamp", r"allocation=lamp: strategy.method=.*; must be local or global"),
        ("strategy=custom criterion=taylor", r"criterion=taylor: strategy=custom does not accept a criterion"),
        ("strategy=custom criterion.iterations=3", r"criterion.iterations=3: strategy=custom does not accept"),
        ("strategy=custom amount=null", r"amount=null: strategy.method=EverySecond needs a fraction"),
        ("strategy=custom strategy.method=torch.nn.utils.prune.nix", r"strategy.method=torch.nn.utils.prune.nix"),
        ("strategy=custom strategy.method=torch.nn.utils.prune.Identity strategy.layers=true", r"use one of them"),
        ("strategy=layer criterion=taylor", r"criterion=taylor: strategy=layer does not accept a criterion"),
        ("strategy=layer granularity=channel", r"granularity=channel: strategy=layer removes whole layers"),
        ("strategy=layer allocation=erk", r"allocation=erk: strategy=layer removes whole layers; must be local"),
        ("strategy=layer strategy.count=2 strategy.threshold=1", r"strategy.count=2, strategy.threshold=1.0: must be"),
        ("strategy=layer amount=0.2 strategy.count=2", r"amount=0.2, strategy.count=2: must be one of them"),
        ("strategy.count=2", r"strategy.count=2: only strategy=layer"),
        ("strategy=layer strategy.count=0", r"strategy.count=0: must be"),
        ("strategy=layer strategy.threshold=-1", r"strategy.threshold=-1.0: must be"),
        ("strategy=layer strategy.count=2 schedule=linear schedule.macs=0.5", r"schedule.macs=0.5, strategy.count=2"),
        ("granularity=channel granularity.n=0", r"granularity.n=0: must be a number > 0, or inf"),
        ("granularity=block granularity.size=4", r"granularity.size=4: must be"),
        ("allocation=nm allocation.n=4", r"allocation.n=4: must be less than allocation.m=4"),
        ("allocation=threshold allocation.threshold=-1", r"allocation.threshold=-1: must be a number ≥ 0"),
        ("schedule=linear schedule.macs=0.5", r"schedule.macs=0.5: .*needs compact=true"),
        ("control=signs", r"control=signs: .*needs rewind=0, 2ep or 500it"),
        ("reconstruct=obc", r"reconstruct=obc: must be null, obs"),
        ("reconstruct=obs granularity=channel", r"granularity=channel: reconstruct=obs .* or granularity.dim=1"),
        ("reconstruct=obs strategy=mixed", r"granularity=channel: reconstruct=obs"),
        ("reconstruct=obs strategy=layer", r"reconstruct=obs: strategy=layer removes whole layers"),
        ("reconstruct=obs rewind=0", r"reconstruct=obs: rewind=0 would undo the update"),
        (
            "reconstruct=obs strategy=channel granularity.dim=1 schedule=linear schedule.macs=0.5",
            r"reconstruct=obs: schedule.macs=0.5 searches by many prunings",
        ),
        ("finetune.distill.alpha=0.5 finetune.epochs=0", r"finetune.distill.alpha=0.5: .*finetune.epochs=0"),
        ("finetune.distill.alpha=0.5 train.epochs=0", r"finetune.distill.alpha=0.5: .*train.epochs=0"),
    ],
)
def test_what_does_not_go_together_is_refused(overrides, said):
    with pytest.raises(ConfigError, match=said):
        resolve(prunelab.compose(*overrides.split(" ")))


def test_a_score_of_the_users_goes_with_any_granularity(tmp_path, monkeypatch):
    (tmp_path / "their_scores.py").write_text("def score(weight):\n    return weight.abs()\n")
    monkeypatch.syspath_prepend(tmp_path)
    how = ["strategy=custom", "strategy.method=their_scores.score", "trusted=[their_scores]"]
    assert resolve(prunelab.compose(*how, "granularity=channel")).strategy.method.source
