"""Rules of a config: their axes, presets by name as in 0.1.0, methods of the user's, and what is refused."""

from __future__ import annotations

import pytest

import prunelab
from prunelab.config.check import plain
from prunelab.config.resolve import resolve
from prunelab.config.rules import rule_specs
from prunelab.errors import ConfigError

WEIGHT = {"_target_": "prunelab.pruning.granularity.weight.Weight"}
LOCAL = {"_target_": "prunelab.pruning.allocation.local.Local"}
AXES = {"granularity": WEIGHT, "allocation": LOCAL}


def specs(*rules, axes=AXES):
    return rule_specs(rules, axes, ())


def axes_of(rule):
    return rule.granularity.choice, rule.allocation.choice


@pytest.mark.parametrize(
    ("method", "axes"),
    [
        ("l1", ("weight", "local")),
        ("global", ("weight", "global")),
        ("ln_structured", ("channel", "local")),
        ("channel", ("channel", "local")),
        ("block", ("block", "local")),
        ("uniform", ("weight", "uniform")),
        ("erk", ("weight", "erk")),
        ("lamp", ("weight", "lamp")),
        ("nm", ("weight", "nm")),
        ("threshold", ("weight", "threshold")),
    ],
)
def test_a_preset_gives_its_axes(method, axes):
    (rule,) = specs({"match": "*", "method": method})
    assert axes_of(rule) == axes


def test_options_go_to_the_axis_that_takes_them():
    (rule,) = specs({"match": "*", "method": "ln_structured", "n": 1, "dim": 1, "amount": 0.1})
    assert (rule.granularity.options, rule.allocation.options, rule.amount) == ({"n": 1, "dim": 1}, {}, 0.1)
    (rule,) = specs({"match": "*", "granularity": "weight", "allocation": "nm", "n": 1, "m": 8, "amount": None})
    assert (rule.granularity.options, rule.allocation.options) == ({}, {"n": 1, "m": 8})


def test_what_a_rule_does_not_say_is_the_experiments():
    channel = plain(prunelab.config.compose.compose_raw("granularity=channel", "allocation=erk"))
    (rule,) = specs({"match": "*"}, axes={axis: channel[axis] for axis in AXES})
    assert axes_of(rule) == ("channel", "erk")
    assert (rule.amount, rule.round_amount) == (None, True)


def test_a_method_of_torchs():
    (rule,) = specs({"match": "*", "method": "torch.nn.utils.prune.L1Unstructured", "amount": 0.5})
    assert rule.method.name == "torch.nn.utils.prune.L1Unstructured"
    assert axes_of(rule) == ("weight", "local")


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        (3, r"strategy.rules\[0\]=3: must have the key match"),
        ({"method": "l1"}, r"strategy.rules\[0\]=.*: must have the key match"),
        ({"match": "*", "method": 3}, r"strategy.rules\[0\].method=3: must be the name of a preset"),
        ({"match": "*", "method": "l2"}, r"strategy.rules\[0\].method=l2: there is no such preset"),
        ({"match": "*", "method": "lnstructured"}, r"did you mean ln_structured\?"),
        ({"match": "*", "method": "random"}, r"strategy.rules\[0\].method=random: this preset sets criterion"),
        ({"match": "*", "method": "lottery_ticket"}, r"this preset sets rewind"),
        ({"match": "*", "method": "layer"}, r"this preset sets strategy.layers"),
        ({"match": "*", "method": "mixed"}, r"this preset sets strategy.rules"),
        ({"match": "*", "method": "os.system"}, r"strategy.rules\[0\].method=os.system: is none of"),
        ({"match": "*", "granularity": "chanel"}, r"strategy.rules\[0\].granularity=chanel: must be .*mean channel\?"),
        ({"match": "*", "granularity": "channel", "n": 0}, r"strategy.rules\[0\].n=0: must be a number > 0"),
        ({"match": "*", "granularity": "channel", "nn": 1}, r"strategy.rules\[0\].nn=1: .*did you mean n\?"),
        ({"match": "*", "method": "l1", "per": "row"}, r"strategy.rules\[0\].per=row: is now allocation=row"),
        ({"match": "*", "amount": 1}, r"strategy.rules\[0\].amount=1: must be a fraction in \[0, 1\), or null"),
        ({"match": "*", "amount": True}, r"strategy.rules\[0\].amount=True"),
    ],
)
def test_what_is_wrong_names_the_rule(rule, said):
    with pytest.raises(ConfigError, match=said) as caught:
        specs(rule)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("more", "quoted"),
    [
        (["amount=0.5"], "amount=0.5"),
        (["schedule=linear", "schedule.rounds=2", "schedule.sparsity=0.7"], "schedule=linear"),
        (["schedule=cubic", "schedule.rounds=2", "schedule.compression=3"], "schedule=cubic"),
        (["schedule=gradual", "schedule.sparsity=0.7", "schedule.every=1", "schedule.prunings=2"], "schedule=gradual"),
    ],
)
def test_an_amount_or_a_goal_that_no_rule_uses_is_refused(more, quoted):
    config = prunelab.compose("strategy=mixed", *more)
    with pytest.raises(ConfigError, match=f"{quoted}: every one of strategy.rules has an amount of its own"):
        resolve(config)
