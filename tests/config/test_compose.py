"""Every YAML composes and resolves; whatever is wrong is a ConfigError that quotes key, value and what is allowed."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

import prunelab
from prunelab.config import check as checking
from prunelab.config import compose as composing
from prunelab.config import schema
from prunelab.config.resolve import from_plain, resolve
from prunelab.config.rounds import rounds
from prunelab.errors import ConfigError

CONF = composing.folder()
GROUPS = ("data", "model", "optimizer", "schedule", "criterion", "granularity", "allocation", "lr_schedule")
STRATEGIES = ("custom", "global", "l1", "ln_structured", "lottery_ticket", "random")
# group/option of every YAML but Hydra's own and config.yaml itself
CHOICES = sorted(str(path.relative_to(CONF).with_suffix("")) for path in CONF.glob("*/**/*.yaml"))
CHOICES = [choice for choice in CHOICES if not choice.startswith("hydra/")]


def refusal(*overrides: str) -> str:
    """What `compose` says of overrides that it must refuse."""
    with pytest.raises(ConfigError) as caught:
        prunelab.compose(*overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message


def selected(choice: str) -> list[str]:
    """The overrides that choose a YAML; a schedule towards a sparsity needs one."""
    group, option = choice.split("/", 1)
    needs = group == "schedule" and "amount:" not in (CONF / f"{choice}.yaml").read_text()
    if group == "sweep":  # no part of an experiment: it is added
        return [f"+sweep={option}"]
    return [f"{group}={option}", *(["schedule.sparsity=0.5"] if needs else [])]


# What is in conf/


def test_there_are_all_choices():
    there = {group: {c.split("/")[1] for c in CHOICES if c.startswith(f"{group}/")} for group in (*GROUPS, "strategy")}
    assert there["strategy"] >= set(STRATEGIES)
    assert there["schedule"] >= {"one_shot", "iterative", "ramp", "linear", "cubic", "geometric"}
    assert there["model"] >= {"lenet", "lenet_300_100"}
    assert there["data"] >= {"mnist"}
    assert there["optimizer"] >= {"adam", "sgd"}


@pytest.mark.parametrize("choice", CHOICES)
def test_every_yaml_composes_and_resolves(choice):
    config = prunelab.compose(*selected(choice))
    spec = resolve(config)
    assert spec.plain == OmegaConf.to_container(config, resolve=True)
    assert from_plain(spec.plain) == spec
    assert len(rounds(spec)) == config.schedule.get("rounds", 1)


@pytest.mark.slow
def test_every_strategy_with_every_schedule():
    for strategy in STRATEGIES:
        for schedule in (choice for choice in CHOICES if choice.startswith("schedule/")):
            if (strategy, schedule) == ("lottery_ticket", "schedule/gradual"):
                continue  # nothing is rewound in the middle of training
            config = prunelab.compose(*selected(schedule), f"strategy={strategy}")
            name = schedule.split("/")[1]
            assert config.schedule._target_ == f"prunelab.pruning.schedules.{name}.{name}"
            assert len(rounds(resolve(config))) == config.schedule.get("rounds", 1)


def test_what_a_key_may_be_is_told():
    assert schema.allowed("amount") == "a fraction in [0, 1), of the units still there"
    assert schema.allowed("amonut") is None


def test_the_defaults():
    config = prunelab.compose()
    assert (config.seed, config.amount, config.rewind, config.device, config.threads) == (0, 0.2, None, "auto", None)
    assert (config.schedule.rounds, config.train.epochs, config.finetune.epochs, config.train.batch_size) == (
        5,
        3,
        1,
        64,
    )
    assert config.strategy.name == "global"
    assert config.prune == {"include": None, "exclude": [], "output_layer": None, "adopt_zeros": True}


def test_no_interpolation_of_stored_data_is_resolved():
    spec = resolve(prunelab.compose())
    stored = {**spec.plain, "outputs": "${oc.env:HOME}", "rewind": None}
    assert from_plain(stored).outputs == "${oc.env:HOME}"


def test_stored_data_that_lacks_a_key_is_a_config_error():
    stored = dict(resolve(prunelab.compose()).plain)
    del stored["seed"]
    with pytest.raises(ConfigError, match="seed: is missing"):
        from_plain(stored)


# Presets


@pytest.mark.parametrize("first", [True, False], ids=["after", "before"])
@pytest.mark.parametrize(
    ("preset", "override", "key", "value"),
    [
        ("strategy=lottery_ticket", "rewind=null", "rewind", None),
        ("strategy=lottery_ticket", "rewind=2ep", "rewind", "2ep"),
        ("strategy=ln_structured", "prune.output_layer=true", "prune.output_layer", True),
        ("strategy=ln_structured", "granularity.n=1", "granularity.n", 1),
        ("strategy=custom", "amount=0.25", "amount", 0.25),
        ("strategy=custom", "schedule=iterative", "schedule.rounds", 5),
        ("strategy=custom", "schedule=ramp", "amount", 0.2),
        ("schedule=one_shot", "amount=0.9", "amount", 0.9),
        ("schedule=ramp", "schedule.step=0.05", "schedule.step", 0.05),
        ("optimizer=sgd", "optimizer.lr=0.1", "optimizer.lr", 0.1),
    ],
)
def test_the_command_line_wins_over_presets(preset, override, key, value, first):
    order = (preset, override) if first else (override, preset)
    assert OmegaConf.select(prunelab.compose(*order), key) == value


# Wrong input


WRONG = [
    # of issue 2
    (["amount=1"], ["amount=1", "[0, 1)"]),
    (["amount=-0.1"], ["amount=-0.1", "[0, 1)"]),
    (["amount=nan"], ["amount=nan", "[0, 1)"]),
    (["amount=abc"], ["amount=abc", "[0, 1)"]),
    (["schedule.rounds=0"], ["schedule.rounds=0", "whole number", "1"]),
    (["strategy=magnitude"], ["strategy=magnitude", *STRATEGIES]),
    (["strategy.amonut=0.2"], ["strategy.amonut=0.2", "did you mean amount?"]),
    (["+amonut=3"], ["amonut=3", "did you mean amount?"]),
    (["rewind=3x"], ["rewind=3x", "null", "0", "2ep", "500it"]),
    (["rewind=99ep"], ["rewind=99ep", "train.epochs=3", "3ep"]),
    (["optimizer.lr=0"], ["optimizer.lr=0", "> 0"]),
    (["schedule=cubic"], ["schedule.sparsity=null", "cubic", "(0, 1)"]),
    (["amount=0.3", "schedule.sparsity=0.9"], ["amount=0.3", "schedule.sparsity=0.9", "one of the two"]),
    (["schedule=cubic", "amount=0.3", "schedule.sparsity=0.9"], ["amount=0.3", "schedule.sparsity=0.9"]),
    # the same of other keys
    (["amount=inf"], ["amount=inf", "[0, 1)"]),
    (["amount=true"], ["amount=", "[0, 1)"]),
    (["amount=[0.1,0.2]"], ["amount=[0.1,0.2]", "[0, 1)"]),
    (["schedule=ramp", "amount=null"], ["amount=null", "[0, 1)"]),
    (["seed=-1"], ["seed=-1", "[0, 2**63)"]),
    (["seed=abc"], ["seed=abc", "[0, 2**63)"]),
    (["seed=0.5"], ["seed=0.5", "whole number"]),
    (["seed=null"], ["seed=null", "whole number"]),
    ([f"seed={2**63}"], [f"seed={2**63}", "2**63"]),
    (["train.epochs=-1"], ["train.epochs=-1", "≥ 0"]),
    (["train.epochs=1.5"], ["train.epochs=1.5", "whole number"]),
    (["train.batch_size=0"], ["train.batch_size=0", "≥ 1"]),
    (["finetune.epochs=x"], ["finetune.epochs=x", "≥ 0"]),
    (["schedule.rounds=2.5"], ["schedule.rounds=2.5", "whole number"]),
    (["schedule.rounds=abc"], ["schedule.rounds=abc", "whole number"]),
    (["schedule.rounds=null"], ["schedule.rounds=null", "whole number"]),
    (["schedule=linear", "schedule.sparsity=1"], ["schedule.sparsity=1", "(0, 1)"]),
    (["schedule=linear", "schedule.sparsity=0"], ["schedule.sparsity=0", "(0, 1)"]),
    (["schedule=ramp", "schedule.step=0.2"], ["schedule.step=0.2", "round 5", "[0, 1)"]),
    (["schedule=ramp", "schedule.step=2"], ["schedule.step=2", "(-1, 1)"]),
    (["schedule=one_shot", "schedule.rounds=2"], ["schedule.rounds=2", "1 round"]),
    (["optimizer.lr=-1"], ["optimizer.lr=-1", "> 0"]),
    (["optimizer.lr=abc"], ["optimizer.lr=abc", "> 0"]),
    (["optimizer.lr=nan"], ["optimizer.lr=nan", "> 0"]),
    (["optimizer.weight_decay=-1"], ["optimizer.weight_decay=-1", "≥ 0"]),
    (["optimizer=sgd", "optimizer.momentum=1"], ["optimizer.momentum=1", "[0, 1)"]),
    (["data.limit=5"], ["data.limit=5", "≥ 10"]),
    (["data.limit=100.5"], ["data.limit=100.5", "whole number"]),
    (["threads=0"], ["threads=0", "≥ 1"]),
    (["device=tpu"], ["device=tpu", "auto", "cpu", "cuda", "mps"]),
    (["prune.output_layer=maybe"], ["prune.output_layer=maybe", "true or false"]),
    (["reuse=maybe"], ["reuse=maybe", "true or false"]),
    (["prune.include=conv1.weight"], ["prune.include=conv1.weight", "list"]),
    (["prune.exclude=null"], ["prune.exclude=null", "list"]),
    (["model=vgg"], ["model=vgg", "lenet", "lenet_300_100"]),
    (["data=cifar"], ["data=cifar", "mnist"]),
    (["optimizer=lion"], ["optimizer=lion", "adam", "sgd"]),
    (["schedule=exponential"], ["schedule=exponential", "cubic", "iterative"]),
    (["experiment=none_such"], ["experiment", "none_such"]),
    (["amonut=3"], ["amonut=3", "did you mean amount?"]),
    (["train.epoch=3"], ["train.epoch=3", "did you mean epochs?"]),
    (["schedule.sparsty=0.5"], ["schedule.sparsty=0.5", "did you mean sparsity?"]),
    (["optimiser.lr=1"], ["optimiser.lr=1", "optimizer"]),
    (["rewind=5"], ["rewind=5", "2ep", "500it"]),
    (["rewind=-1"], ["rewind=-1", "2ep", "500it"]),
    (["rewind=2.5ep"], ["rewind=2.5ep", "2ep", "500it"]),
    (["rewind=[1]"], ["rewind=[1]", "2ep", "500it"]),
    (["rewind=true"], ["rewind=", "2ep", "500it"]),
]


@pytest.mark.parametrize(("overrides", "parts"), WRONG, ids=[" ".join(item[0]) for item in WRONG])
def test_wrong_input_quotes_key_value_and_what_is_allowed(overrides, parts):
    message = refusal(*overrides)
    assert not [part for part in parts if part not in message], message
    assert len(message) < 400


def test_wrong_input_on_the_command_line_is_found_by_check():
    """`check` is what the command line calls on a config that Hydra composed."""
    config = composing.compose_raw("amount=1")
    with pytest.raises(ConfigError, match=r"amount=1.*\[0, 1\)"):
        checking.check(config)


@pytest.mark.parametrize("override", ["amount", "=3", "amount=[", "+", "strategy=l1,global", "~seed", "strategy=3"])
def test_what_is_no_override_is_a_config_error(override):
    assert refusal(override)


@pytest.mark.parametrize("key", ["seed", "amount", "rewind", "schedule.rounds", "optimizer.lr", "device", "outputs"])
@pytest.mark.parametrize("value", ["${no.such}", "???", "${oc.env:NO_SUCH}"])
def test_a_value_that_is_none_is_a_config_error(key, value):
    assert key in refusal(f"{key}={value}")


@pytest.mark.parametrize("part", GROUPS)
@pytest.mark.parametrize("override", ["~{}", "{}=null", "~{}._target_", "{}._target_=null"])
def test_a_missing_part_is_a_config_error(override, part):
    given = override.format(part)
    if part in ("data", "model"):  # which `prunelab.run(config, data=…, model=…)` may be given instead
        with pytest.raises(ConfigError) as error:
            prunelab.run(given, quiet=True)
        assert part in str(error.value)
    else:
        assert part in refusal(given)


# Rewinding


@pytest.mark.parametrize(
    ("given", "point"),
    [
        ("null", None),
        ("0", "0"),
        ("0ep", "0"),
        ("0it", "0"),
        ("2ep", "2ep"),
        ("3ep", "3ep"),
        ("500it", "500it"),
        ("'0'", "0"),
        ("007it", "7it"),
    ],
)
def test_rewind_has_one_spelling(given, point):
    rewind = resolve(prunelab.compose(f"rewind={given}")).rewind
    assert (None if rewind is None else str(rewind)) == point


# Whatever is given


anything = st.one_of(
    st.floats(),
    st.floats(0, 1),
    st.integers(-5, 40),
    st.integers(),
    st.sampled_from(["null", "true", "abc", "''", "[]", "{}", "[1]", "1e3", "0x10", "1_0"]),
)


@settings(deadline=None, max_examples=10, phases=[Phase.explicit, Phase.reuse, Phase.generate])  # shrinking is slow
@given(
    amount=st.one_of(st.floats(0, 1, exclude_max=True), anything),
    seed=st.one_of(st.integers(0, 2**63), anything),
    epochs=st.one_of(st.integers(0, 9), anything),
    count=st.one_of(st.integers(1, 1_000), anything.filter(lambda value: value in range(10_000))),
    schedule=st.sampled_from(["iterative", "one_shot", "ramp", "geometric"]),
    rewind=st.one_of(st.sampled_from(["null", "0", "1ep", "5it"]), anything),
)
def test_any_values_compose_within_their_range_or_are_refused(amount, seed, epochs, count, schedule, rewind):
    given = [f"amount={amount}", f"seed={seed}", f"train.epochs={epochs}", f"schedule.rounds={count}"]
    try:
        config = prunelab.compose(*given, f"schedule={schedule}", f"rewind={rewind}")
    except ConfigError:
        return
    assert type(config.seed) is int
    assert 0 <= config.seed < 2**63
    assert type(config.train.epochs) is int
    assert config.train.epochs >= 0
    assert config.amount is None or 0 <= config.amount < 1
    if config.amount is None:  # which global pruning needs
        with pytest.raises(ConfigError, match="amount=null"):
            resolve(config)
        return
    planned = rounds(resolve(config))
    assert len(planned) == config.schedule.get("rounds", 1) >= 1
    assert all(amount is None or 0 <= amount < 1 for round in planned for amount in round.amounts)


def test_compose_needs_no_torch(python, tmp_path):
    code = "import sys, prunelab; prunelab.compose('strategy=custom'); print('torch' in sys.modules)"
    result = python(code, cwd=tmp_path)
    assert (result.stdout, result.stderr) == ("False\n", "")


def test_conf_is_found_from_anywhere():
    assert (CONF / "config.yaml").is_file()
    assert CONF.is_absolute()
    assert inspect.signature(prunelab.run).parameters["folder"].default is None
    assert Path(prunelab.__file__).is_absolute()
