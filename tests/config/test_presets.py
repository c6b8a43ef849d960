"""Strategies are presets of the four axes: what each sets, and that one axis of it can be overridden."""

from __future__ import annotations

import functools

import pytest
from omegaconf import DictConfig

import prunelab
from prunelab.config.conf_folder import choices
from prunelab.config.resolve import resolve
from prunelab.config.spec import Spec
from prunelab.errors import ConfigError

# From the issue: granularity, allocation, and what a preset sets beside them.
AXES = {
    "l1": ("weight", "local", {}),
    "random": ("weight", "local", {"criterion": "random"}),
    "global": ("weight", "global", {}),
    "lottery_ticket": ("weight", "global", {"rewind": 0}),
    "ln_structured": ("channel", "local", {"output_layer": False}),
    "channel": ("channel", "local", {"output_layer": False, "compact": True}),
    "block": ("block", "local", {}),
    "uniform": ("weight", "uniform", {}),
    "erk": ("weight", "erk", {}),
    "lamp": ("weight", "lamp", {}),
    "nm": ("weight", "nm", {"schedule": "one_shot", "amount": None}),
    "threshold": ("weight", "threshold", {"schedule": "one_shot", "amount": None}),
    "custom": ("weight", "local", {"schedule": "one_shot", "amount": 0.5}),
    "layer": ("weight", "local", {"compact": True, "amount": None}),
    "rules": ("weight", "local", {}),
    "mixed": ("weight", "local", {"schedule": "one_shot", "amount": None, "output_layer": False}),
}
# What an experiment without a preset's settings has.
PLAIN = {
    "criterion": "magnitude",
    "schedule": "iterative",
    "amount": 0.2,
    "rewind": None,
    "compact": False,
    "output_layer": None,
}


@functools.cache
def composed(*overrides: str) -> DictConfig:
    return prunelab.compose(*overrides)


@functools.cache
def spec(*overrides: str) -> Spec:
    return resolve(composed(*overrides))


def found(config: DictConfig) -> dict[str, object]:
    return {
        "criterion": chosen(config, "criterion"),
        "schedule": chosen(config, "schedule"),
        "amount": config.amount,
        "rewind": config.rewind,
        "compact": config.compact,
        "output_layer": config.prune.output_layer,
    }


def chosen(config: DictConfig, group: str) -> str:
    """The name of the file that defines the chosen class or function."""
    return config[group]._target_.split(".")[-2].rstrip("_")


def refusal(*overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        resolve(prunelab.compose(*overrides))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_there_are_sixteen_presets():
    assert choices("strategy") == sorted(AXES)


@pytest.mark.parametrize("name", AXES)
def test_a_preset_is_its_axes(name):
    config = composed(f"strategy={name}")
    granularity, allocation, more = AXES[name]
    assert (chosen(config, "granularity"), chosen(config, "allocation")) == (granularity, allocation)
    assert found(config) == {**PLAIN, **more}
    assert config.strategy.name == name
    assert "_target_" not in config.strategy


@pytest.mark.parametrize("name", AXES)
def test_one_axis_of_a_preset_can_be_overridden(name):
    """Each axis gives way to the command line, and the others stay."""
    config = composed(f"strategy={name}", "granularity=kernel", "allocation=lamp", "criterion=snip")
    assert (chosen(config, "granularity"), chosen(config, "allocation")) == ("kernel", "lamp")
    assert found(config) == {**PLAIN, **AXES[name][2], "criterion": "snip", "amount": config.amount}
    assert config.strategy.name == name


def test_presets_of_experiments_and_sparse_training_can_be_overridden():
    config = composed("sparse_training=rigl", "allocation=lamp")
    assert (chosen(config, "allocation"), chosen(config, "criterion")) == ("lamp", "random")
    assert config.strategy.name == "erk"
    config = composed("experiment=ticket_300_100", "granularity=channel")
    assert (chosen(config, "granularity"), chosen(config, "allocation"), config.rewind) == ("channel", "global", 0)
    config = composed("experiment=l0", "allocation.threshold=0.1")
    assert (config.allocation.threshold, chosen(config, "granularity")) == (0.1, "weight")


def test_an_allocation_that_sets_its_own_sparsity_sets_amount_to_null():
    assert composed("allocation=nm").amount is None
    assert composed("strategy=nm", "allocation=global").amount == 0.5  # of schedule=one_shot


def test_the_granularity_decides_on_the_output_layer_unless_the_user_does():
    assert spec("granularity=channel").selection.output_layer is None
    assert spec("granularity=channel", "prune.output_layer=true").selection.output_layer is True
    assert spec("granularity=channel").granularity().spares_output
    assert not spec("granularity=channel", "granularity.dim=1").granularity().spares_output


# Every way in which 0.1.0 varied a strategy: it works, or is answered with its new name.

SAME = [
    ["strategy=l1", "amount=0.3"],
    ["strategy=ln_structured", "amount=0.1"],
    ["strategy=ln_structured", "criterion=taylor"],
    ["strategy=channel", "schedule=linear", "schedule.macs=0.5"],
    ["strategy=lottery_ticket", "rewind=1ep"],
    ["strategy=lottery_ticket", "control=reinit"],
    ["strategy=custom", "prune.include=[fc3.bias]"],
    ["strategy=custom", "strategy.method=torch.nn.utils.prune.L1Unstructured"],
    ["strategy=layer", "strategy.count=2", "schedule.rounds=2"],
    ["strategy=layer", "strategy.threshold=0.1"],
    ["strategy=layer", "amount=0.2"],
    ["strategy=nm", "schedule=iterative"],
    ["regularizer=l1", "strategy=threshold"],
    ["sparse_training=rigl"],
    ["strategy=rules", "strategy.rules=[{match: Conv2d, method: l1}]"],
    ["strategy=mixed", "strategy.rules.0.amount=0.3"],
    ["criterion=synflow", "train.epochs=0", "schedule=linear", "schedule.rounds=1", "schedule.compression=32"],
]
MOVED = [
    ("ln_structured", "strategy.n=1", "granularity.n"),
    ("ln_structured", "strategy.dim=1", "granularity.dim"),
    ("ln_structured", "strategy.scope=global", "allocation=global"),
    ("channel", "strategy.scope=local", "allocation=local"),
    ("block", "strategy.size=[2,2]", "granularity.size"),
    ("block", "strategy.scope=global", "allocation=global"),
    ("l1", "strategy.per=row", "allocation=row"),
    ("random", "strategy.per=tensor", "allocation=local"),
    ("erk", "strategy.budget=uniform", "allocation=uniform"),
    ("nm", "strategy.n=1", "allocation.n"),
    ("nm", "strategy.m=8", "allocation.m"),
    ("threshold", "strategy.threshold=0.1", "allocation.threshold"),
    ("threshold", "strategy.granularity=channel", "granularity=channel"),
    ("custom", "strategy.scope=global", "allocation=global"),
    ("custom", "+strategy.scope=global", "allocation=global"),
    ("l1", "strategy._target_=mine.strategy", "strategy.method"),
]


@pytest.mark.parametrize("overrides", SAME, ids=" ".join)
def test_command_lines_of_0_1_0_work(overrides):
    assert spec(*overrides)


@pytest.mark.parametrize(("name", "override", "new"), MOVED, ids=[f"{name} {key}" for name, key, _ in MOVED])
def test_keys_that_moved_are_answered_with_their_new_name(name, override, new):
    said = refusal(f"strategy={name}", override)
    assert said.startswith(f"{override.lstrip('+')}: ")
    assert new in said


def test_the_new_names_work():
    assert spec("strategy=ln_structured", "granularity.n=1", "allocation=global").granularity().n == 1
    assert spec("strategy=block", "granularity.size=[2,3]").granularity().columns == 3
    assert spec("strategy=nm", "allocation.n=1", "allocation.m=8").allocation().m == 8
    assert spec("strategy=threshold", "granularity=channel", "allocation.threshold=0.3").allocation().threshold == 0.3


def test_a_misspelt_preset_is_answered_with_the_nearest():
    assert "did you mean global?" in refusal("strategy=globl")
    assert "did you mean channel?" in refusal("granularity=chanel")
    assert "granularity=channel has it" in refusal("granularity.n=1")


# What a Spec says of the strategy


def test_the_spec_of_a_preset():
    assert str(spec("strategy=lottery_ticket").rewind) == "0"
    assert spec("strategy=l1").strategy.method is None
    assert spec("strategy=custom").strategy.method.name == "prunelab.pruning.custom.EverySecond"
    assert spec("strategy=layer", "strategy.count=2").strategy.count == 2
    assert spec("strategy=layer").layers
    assert not spec("strategy=l1").layers


def test_the_rules_of_mixed():
    conv, linear = spec("strategy=mixed").strategy.rules
    assert (conv.match, conv.granularity.choice, conv.amount) == ("Conv2d", "weight", 0.2)
    assert (conv.allocation.choice, linear.allocation.choice) == ("local", "local")
    assert (linear.match, linear.granularity.choice, linear.amount) == ("Linear", "channel", 0.4)
    assert linear.granularity.options == {"n": 2, "dim": 0}
    assert not conv.round_amount
