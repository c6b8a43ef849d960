"""Every YAML composes and binds; whatever is wrong is a ConfigError that quotes key, value and what is allowed."""

from __future__ import annotations

import importlib
import inspect
import sys
from pathlib import Path

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from prunelab.pruning.strategies import base as strategies

import prunelab
from prunelab.config import build as building
from prunelab.config import check as checking
from prunelab.config import compose as composing
from prunelab.config import schema as configs
from prunelab.config.schema import ConfigError
from prunelab.pruning import schedules

CONF = composing.folder()
GROUPS = ("data", "model", "optimizer", "schedule", "strategy")
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
    there = {group: {c.split("/")[1] for c in CHOICES if c.startswith(f"{group}/")} for group in GROUPS}
    assert there["strategy"] >= set(STRATEGIES)
    assert there["schedule"] >= {"one_shot", "iterative", "ramp", "linear", "cubic", "geometric"}
    assert there["model"] >= {"lenet", "lenet_300_100"}
    assert there["data"] >= {"mnist"}
    assert there["optimizer"] >= {"adam", "sgd"}


@pytest.mark.parametrize("choice", CHOICES)
def test_every_yaml_composes_and_binds(choice):
    config = prunelab.compose(*selected(choice))
    described = dict(configs.described())
    for key in OmegaConf.to_container(config):
        assert key in described or any(name.startswith(f"{key}.") for name in described)
    building.bind(config, "data")
    building.bind(config, "model")()
    building.bind(config, "optimizer", [])
    building.bind(config, "strategy", [], 0.5, given=strategies.GIVEN)
    assert len(schedules.rounds(config)) == config.schedule.get("rounds", 1)


def test_every_strategy_with_every_schedule():
    for strategy in STRATEGIES:
        for schedule in (choice for choice in CHOICES if choice.startswith("schedule/")):
            if (strategy, schedule) == ("lottery_ticket", "schedule/gradual"):
                continue  # nothing is rewound in the middle of training
            config = prunelab.compose(*selected(schedule), f"strategy={strategy}")
            target = f"prunelab.pruning.schedules.{schedule.split('/')[1]}"
            assert config.schedule._target_ == target
            assert len(schedules.rounds(config)) == config.schedule.get("rounds", 1)


def test_what_a_key_may_be_is_told():
    assert configs.allowed("amount") == "a fraction in [0, 1), of the weights still there"
    assert configs.allowed("amonut") is None


def test_the_defaults():
    config = prunelab.compose()
    assert (config.seed, config.amount, config.rewind, config.device, config.threads) == (0, 0.2, None, "auto", None)
    assert (config.schedule.rounds, config.train.epochs, config.finetune.epochs, config.train.batch_size) == (
        5,
        3,
        1,
        64,
    )
    assert config.strategy._target_.endswith(".global_unstructured")
    assert config.prune == {"include": None, "exclude": [], "output_layer": True}


# Presets


def test_lottery_ticket_rewinds_to_the_start():
    config = prunelab.compose("strategy=lottery_ticket")
    assert configs.rewind_point(config) == "0"
    assert config.strategy == prunelab.compose("strategy=global").strategy


def test_ln_structured_leaves_the_output_layer_alone():
    config = prunelab.compose("strategy=ln_structured")
    assert config.prune.output_layer is False
    assert (config.strategy.n, config.strategy.dim) == (2, 0)
    assert prunelab.compose("strategy=l1").prune.output_layer is True


def test_custom_is_every_second_parameter_in_one_round():
    config = prunelab.compose("strategy=custom")
    assert schedules.rounds(config) == [schedules.Round((0.5,))]
    assert config.schedule._target_ == "prunelab.pruning.schedules.one_shot"


@pytest.mark.parametrize("first", [True, False], ids=["after", "before"])
@pytest.mark.parametrize(
    ("preset", "override", "key", "value"),
    [
        ("strategy=lottery_ticket", "rewind=null", "rewind", None),
        ("strategy=lottery_ticket", "rewind=2ep", "rewind", "2ep"),
        ("strategy=ln_structured", "prune.output_layer=true", "prune.output_layer", True),
        ("strategy=ln_structured", "strategy.n=1", "strategy.n", 1),
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
    assert part in refusal(override.format(part))


BEFORE_DATA = [
    (["amount=null"], ["amount=null", "[0, 1)"]),
    (["schedule=one_shot", "strategy=random", "amount=null"], ["amount=null", "[0, 1)"]),
    (["prune.include=[conv9.weight]"], ["prune.include=[conv9.weight]", "conv1.weight", "fc3.bias"]),
    (["prune.exclude=[conv9.*]"], ["prune.exclude=[conv9.*]", "conv1.weight", "fc3.bias"]),
    (["prune.exclude=['*']"], ["prune.exclude=[*]", "nothing to prune"]),
    (["device=cuda"], ["device=cuda", "cpu"]),
    (["strategy=ln_structured", "strategy.n=0"], ["strategy.n=0", "> 0"]),
    (["strategy=ln_structured", "strategy.dim=7"], ["strategy.dim=7"]),
    (["strategy=custom", "strategy.scope=wide"], ["strategy.scope=wide", "local", "global"]),
    (["strategy=custom", "strategy.method=torch.nn.utils.prune.nix"], ["strategy.method=torch.nn.utils.prune.nix"]),
    (["strategy=custom", "amount=null"], ["amount=null", "[0, 1)"]),
    (["+strategy.amonut=0.2"], ["strategy.amonut=0.2"]),
    (["+model.width=3"], ["model.width=3"]),
    (["+optimizer.betta=1"], ["optimizer.betta=1", "betas"]),
    (["+data.limits=100"], ["data.limits=100", "limit"]),
]


@pytest.mark.parametrize(("overrides", "parts"), BEFORE_DATA, ids=[" ".join(item[0]) for item in BEFORE_DATA])
def test_what_needs_the_model_is_found_before_data_is_loaded(tmp_path, monkeypatch, overrides, parts):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr("prunelab.data.mnist.decoded", lambda path: pytest.fail("data was loaded"))
    with pytest.raises(ConfigError) as caught:
        prunelab.run(prunelab.compose(*overrides, f"outputs={tmp_path}"))
    assert not [part for part in parts if part not in str(caught.value)], str(caught.value)
    assert "\n" not in str(caught.value)


def test_outputs_that_cannot_be_written_are_found_before_data_is_loaded(tmp_path, monkeypatch):
    monkeypatch.setattr("prunelab.data.mnist.decoded", lambda path: pytest.fail("data was loaded"))
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        prunelab.run(prunelab.compose(f"outputs={tmp_path / 'file' / 'outputs'}"))
    with pytest.raises(OSError, match="file"):
        prunelab.run(prunelab.compose(f"outputs={tmp_path}"), tmp_path / "file" / "run")


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
    assert configs.rewind_point(prunelab.compose(f"rewind={given}")) == point


# Which names are trusted


EVIL = (
    "os.system",
    "builtins.eval",
    "subprocess.run",
    "prunelab.stages.files.shutil.rmtree",
    "os",
    "eval",
    "os.system()",
)


@pytest.mark.parametrize("key", building.TRUSTED)
@pytest.mark.parametrize("dotted", EVIL)
def test_other_names_are_refused(key, dotted):
    with pytest.raises(ConfigError, match=key):
        building.locate(dotted, key)


@pytest.mark.parametrize("key", building.TRUSTED)
def test_other_names_are_refused_while_composing(key):
    message = refusal("strategy=custom", f"++{key}=os.system")
    assert f"{key}=os.system" in message
    assert "trusted=[os]" in message


@pytest.mark.parametrize(
    ("key", "dotted"),
    [
        ("model._target_", "prunelab.models.lenet.torch.hub.load"),
        ("model._target_", "prunelab.models.lenet.F.relu"),
        ("model._target_", "prunelab.models.lenet.nn.Linear"),
        ("data._target_", "prunelab.data.mnist.shutil.rmtree"),
        ("data._target_", "prunelab.data.mnist.os.system"),
        ("data._target_", "prunelab.data.mnist.load"),
        ("data._target_", "prunelab.data.mnist.BUNDLE.unlink"),
        ("data._target_", "prunelab.data.mnist.MEAN"),
        ("strategy._target_", "prunelab.pruning.strategies.custom.building.locate"),
        ("strategy.method", "prunelab.pruning.strategies.custom.torch.load"),
        ("strategy.method", "torch.nn.utils.prune.numbers.Number"),
        ("schedule._target_", "prunelab.pruning.schedules.inspect.getsource"),
        ("optimizer._target_", "torch.optim.adam.torch.load"),
        ("optimizer._target_", "torch.optim.NoSuch"),
        ("optimizer._target_", "torch.optim..Adam"),
        *((key, "prunelab.models.lenet.torch.hub.load") for key in building.TRUSTED),
    ],
)
def test_what_a_trusted_module_only_imported_is_refused(key, dotted):
    with pytest.raises(ConfigError, match=key):
        building.locate(dotted, key)


def test_nothing_is_imported_before_the_check(tmp_path, monkeypatch):
    (tmp_path / "evil_module.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert "trusted=[evil_module]" in refusal("model._target_=evil_module.Model")
    assert "evil_module" not in sys.modules


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module of the user's: a model, a data set, an optimizer and so on."""
    path = tmp_path / "their_module.py"
    path.write_text("def thing(width=3, depth=2, **more):\n    return width\n\nvalue = 3\n")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    yield path
    sys.modules.pop("their_module", None)


@pytest.mark.parametrize("key", building.TRUSTED)
def test_trusted_allows_a_package_of_yours(module, key):
    with pytest.raises(ConfigError, match=r"trusted=\[their_module\]"):
        building.locate("their_module.thing", key)
    assert building.locate("their_module.thing", key, ["their_module"])() == 3
    for name in ("their_module.value", "their_module.nothing", "their_module.thing.__code__"):
        with pytest.raises(ConfigError, match=name):
            building.locate(name, key, ["their_module"])
    with pytest.raises(ConfigError):
        building.locate("their_module_2.thing", key, ["their_module"])


def test_a_trusted_model_composes(module):
    config = prunelab.compose("model._target_=their_module.thing", "+model.width=4", "trusted=[their_module]")
    assert building.bind(config, "model")() == 4


# What a part is, for a stage's name


def test_identity_leaves_out_defaults():
    assert building.identity(prunelab.compose(), "model") == {"_target_": "prunelab.models.lenet.LeNet"}
    assert building.identity(prunelab.compose(), "optimizer") == {"_target_": "torch.optim.Adam", "fused": True}
    assert building.identity(prunelab.compose("optimizer.lr=0.01"), "optimizer")["lr"] == 0.01
    assert building.identity(prunelab.compose(), "data") == {"_target_": "prunelab.data.mnist.mnist"}
    assert building.identity(prunelab.compose("data.limit=50"), "data")["limit"] == 50
    ln = "prunelab.pruning.strategies.ln_structured.ln_structured"
    assert building.identity(prunelab.compose("strategy=ln_structured"), "strategy") == {"_target_": ln}
    assert building.identity(prunelab.compose("strategy=ln_structured", "strategy.n=1"), "strategy")["n"] == 1


def test_identity_has_the_source_of_code_of_yours(module):
    config = prunelab.compose("model._target_=their_module.thing", "+model.width=3", "trusted=[their_module]")
    before = building.identity(config, "model")
    assert set(before) == {"_target_", "source"}
    assert len(before["source"]["model._target_"]) == 64
    module.write_text(module.read_text() + "# edited\n")
    assert building.identity(config, "model")["source"] != before["source"]
    config.model.width = 4
    assert building.identity(config, "model")["width"] == 4


def test_identity_has_the_source_of_a_method_of_yours(module):
    config = prunelab.compose("strategy=custom", "strategy.method=their_module.thing", "trusted=[their_module]")
    identity = building.identity(config, "strategy")
    assert set(identity["source"]) == {"strategy.method"}
    assert identity["method"] == "their_module.thing"


# Whatever is given


anything = st.one_of(
    st.floats(),
    st.floats(0, 1),
    st.integers(-5, 40),
    st.integers(),
    st.sampled_from(["null", "true", "abc", "''", "[]", "{}", "[1]", "1e3", "0x10", "1_0"]),
)


@settings(deadline=None, max_examples=50, phases=[Phase.explicit, Phase.reuse, Phase.generate])  # shrinking is slow
@given(
    amount=st.one_of(st.floats(0, 1, exclude_max=True), anything),
    seed=st.one_of(st.integers(0, 2**63), anything),
    epochs=st.one_of(st.integers(0, 9), anything),
    rounds=st.one_of(st.integers(1, 1_000), anything.filter(lambda value: value in range(10_000))),
    schedule=st.sampled_from(["iterative", "one_shot", "ramp", "geometric"]),
    rewind=st.one_of(st.sampled_from(["null", "0", "1ep", "5it"]), anything),
)
def test_any_values_compose_within_their_range_or_are_refused(amount, seed, epochs, rounds, schedule, rewind):
    given = [f"amount={amount}", f"seed={seed}", f"train.epochs={epochs}", f"schedule.rounds={rounds}"]
    try:
        config = prunelab.compose(*given, f"schedule={schedule}", f"rewind={rewind}")
    except ConfigError:
        return
    assert type(config.seed) is int
    assert 0 <= config.seed < 2**63
    assert type(config.train.epochs) is int
    assert config.train.epochs >= 0
    assert config.amount is None or 0 <= config.amount < 1
    rounds = schedules.rounds(config)
    assert len(rounds) == config.schedule.get("rounds", 1) >= 1
    assert all(amount is None or 0 <= amount < 1 for round in rounds for amount in round.amounts)


def test_compose_needs_no_torch(python, tmp_path):
    code = "import sys, prunelab; prunelab.compose('strategy=custom'); print('torch' in sys.modules)"
    result = python(code, cwd=tmp_path)
    assert (result.stdout, result.stderr) == ("False\n", "")


def test_conf_is_found_from_anywhere():
    assert (CONF / "config.yaml").is_file()
    assert CONF.is_absolute()
    assert inspect.signature(prunelab.run).parameters["folder"].default is None
    assert Path(prunelab.__file__).is_absolute()
