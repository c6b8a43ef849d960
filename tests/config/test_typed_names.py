"""What the user types is the user's word; what a file says is not."""

import importlib
import sys
from pathlib import Path

import pytest

import prunelab
from prunelab.config.allow_list import KEYS
from prunelab.config.compose import compose_checked, typed
from prunelab.config.foreign import check_command_line
from prunelab.config.network import from_plain
from prunelab.config.resolve import resolve
from prunelab.errors import ConfigError

MODULE = """
from torch import nn

def net(classes=10):
    return nn.Sequential(nn.Flatten(), nn.Linear(784, classes))

def score(weight):
    return weight.abs()
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("typed_module.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    yield
    sys.modules.pop("typed_module", None)


def trust(*arguments):
    return [item for item in typed(arguments) if "trusted" in item]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("sign", ["", "+", "++"])
def test_what_is_typed_is_trusted_and_nothing_more(key, sign):
    assert trust(f"{sign}{key}=mine.deep.Thing", "amount=0.3") == ["++trusted=[mine.deep.Thing]"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["model._target_=a.A,b.B"], ["++trusted=[a.A,b.B]"]),
        (["model._target_=choice(a.A,'b.B')", "strategy.method=c.f"], ["++trusted=[a.A,b.B,c.f]"]),
        (["strategy.rules=[{match: '*', method: a.f}, {match: x, criterion: taylor}]"], ["++trusted=[a.f]"]),
        (["model._target_=a.A", "trusted=[b]"], ["++trusted=[b,a.A]"]),
        (["trusted=[b]", "model._target_=a.A"], ["++trusted=[b,a.A]"]),
        (["model._target_=a.A", "trusted=[a]"], ["trusted=[a]"]),
        (["optimizer._target_=torch.optim.SGD", "model._target_=torch.nn.Linear"], []),
        (["criterion._target_=torch.optim.SGD"], ["++trusted=[torch.optim.SGD]"]),
        (["model._target_=${oc.env:X}", "model._target_=a", "experiment=method"], []),
        (["-m", "amount=0.1,0.2"], []),
        (["model._target_=["], []),
    ],
)
def test_the_names_of_overrides(arguments, expected):
    assert trust(*arguments) == expected


def test_flags_stay_where_they_are():
    given = ["-m", "model._target_=a.A", "seed=0,1", "--config-dir", "x"]
    assert typed(given) == ["-m", "model._target_=a.A", "++trusted=[a.A]", "seed=0,1", "--config-dir", "x"]


def test_a_model_and_a_method_from_python(mine):
    spec = resolve(
        prunelab.compose("model._target_=typed_module.net", "strategy=custom", "strategy.method=typed_module.score")
    )
    assert spec.model.target.__module__ == "typed_module"
    assert spec.trusted == ("typed_module.net", "typed_module.score")
    with pytest.raises(ConfigError, match=r"trusted=\[typed_module\].*--trusted typed_module"):
        from_plain(spec.plain)  # as of a stored run
    assert from_plain(spec.plain, ["typed_module"]).model.name == "typed_module.net"


def test_what_a_config_file_names_is_not_trusted_by_another_name(mine):
    Path("cfg/experiment").mkdir(parents=True)
    file = Path("cfg/experiment/e.yaml")
    given = ["--config-dir", "cfg", "experiment=e", "model._target_=typed_module.net"]
    file.write_text("# @package _global_\namount: 0.3\n")
    check_command_line(typed(given))
    file.write_text("# @package _global_\nhydra: {sweeper: {params: {trusted: '[os]'}}}\n")
    with pytest.raises(ConfigError, match=r"trusted: is set by a config file"):
        check_command_line(typed(given))
    with pytest.raises(ConfigError, match=r"criterion._target_=os.system"):  # what such a file would say
        compose_checked(*typed(["model._target_=typed_module.net"]), "criterion._target_=os.system")


@pytest.mark.parametrize("part", ["data", "model"])
def test_null_is_for_a_live_object(part, tmp_path):
    config = prunelab.compose(
        f"{part}=null", "train.epochs=0", "finetune.epochs=0", "data.limit=300" * (part != "data") or "seed=1"
    )
    with pytest.raises(ConfigError, match=rf"{part}=null: .*prunelab.run\(config, {part}=…\)"):
        prunelab.run(config, tmp_path / "run")


def test_a_run_with_live_data_and_model_needs_neither(tmp_path):
    import torch

    shorter = [
        "train.epochs=0",
        "finetune.epochs=0",
        "latency=false",
        "amount=0.5",
        f"outputs={tmp_path}",
        "device=cpu",
    ]
    data = torch.utils.data.TensorDataset(torch.randn(200, 1, 4, 4), torch.arange(200) % 3)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3))
    result = prunelab.run(
        prunelab.compose("data=null", "model=null", *shorter), tmp_path / "run", model=model, data=data
    )
    assert result.rounds[-1].sparsity > 0
    assert not result.problems
