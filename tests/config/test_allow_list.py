"""Which dotted names the config may hold: those of the allow-list, and of packages that the user trusts."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from prunelab.config.allow_list import KEYS, locate
from prunelab.config.compose import compose_checked
from prunelab.errors import ConfigError

EVIL = (
    "os.system",
    "builtins.eval",
    "subprocess.run",
    "prunelab.stages.files.shutil.rmtree",
    "os",
    "eval",
    "os.system()",
)


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("dotted", EVIL)
def test_other_names_are_refused(key, dotted):
    with pytest.raises(ConfigError, match=key):
        locate(dotted, key)


@pytest.mark.parametrize("key", KEYS)
def test_other_names_are_refused_while_composing_what_a_file_may_have_said(key):
    with pytest.raises(ConfigError) as caught:
        compose_checked("strategy=custom", f"++{key}=os.system")
    assert f"{key}=os.system" in str(caught.value)
    assert "trusted=[os]" in str(caught.value)
    assert "--trusted os" in str(caught.value)


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
        ("criterion._target_", "prunelab.pruning.criteria.taylor.torch.load"),
        ("granularity._target_", "prunelab.pruning.granularity.channel.math.inf"),
        ("granularity._target_", "prunelab.pruning.granularity.channel.torch.load"),
        ("allocation._target_", "prunelab.pruning.allocation.nm.prod"),
        ("strategy.method", "prunelab.pruning.custom.torch.load"),
        ("strategy.method", "torch.nn.utils.prune.numbers.Number"),
        ("schedule._target_", "prunelab.pruning.schedules.base.Sequence"),
        ("optimizer._target_", "torch.optim.adam.torch.load"),
        ("optimizer._target_", "torch.optim.NoSuch"),
        ("optimizer._target_", "torch.optim..Adam"),
        *((key, "prunelab.models.lenet.torch.hub.load") for key in KEYS),
    ],
)
def test_what_a_trusted_module_only_imported_is_refused(key, dotted):
    with pytest.raises(ConfigError, match=key):
        locate(dotted, key)


def test_nothing_is_imported_before_the_check(tmp_path, monkeypatch):
    (tmp_path / "evil_module.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match=r"trusted=\[evil_module\]"):
        compose_checked("model._target_=evil_module.Model")
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


@pytest.mark.parametrize("key", KEYS)
def test_trusted_allows_a_package_of_yours(module, key):
    with pytest.raises(ConfigError, match=r"trusted=\[their_module\]"):
        locate("their_module.thing", key)
    assert locate("their_module.thing", key, ["their_module"])() == 3
    for name in ("their_module.value", "their_module.nothing", "their_module.thing.__code__"):
        with pytest.raises(ConfigError, match=name):
            locate(name, key, ["their_module"])
    with pytest.raises(ConfigError):
        locate("their_module_2.thing", key, ["their_module"])


@pytest.mark.parametrize("name", ["Linear", "Identity", "Transformer", "LSTM"])
def test_a_layer_of_torch_is_a_model(name):
    assert locate(f"torch.nn.{name}", "model._target_").__name__ == name


@pytest.mark.parametrize("name", ["Parameter", "DataParallel", "functional.relu", "Module.load_state_dict", "F.relu"])
def test_what_is_no_layer_of_torch_is_refused(name):
    with pytest.raises(ConfigError, match=r"model._target_"):
        locate(f"torch.nn.{name}", "model._target_")


def test_a_layer_of_torch_is_no_criterion():
    with pytest.raises(ConfigError, match=r"criterion._target_"):
        locate("torch.nn.Linear", "criterion._target_")


def test_a_module_in_the_working_folder_is_found_by_the_command_prunelab_too(tmp_path, monkeypatch):
    """`python -m` puts the folder on sys.path, the console script does not."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path not in ("", str(tmp_path))])
    before = list(sys.path)
    Path("own_net_of_here.py").write_text("class Net:\n    pass\n")
    locate("prunelab.models.lenet.LeNet", "model._target_")
    with pytest.raises(ConfigError, match="is none of prunelab's own"):
        locate("own_net_of_here.Net", "model._target_")
    locate("torch.optim.Adam", "model._target_", ["torch"])
    assert sys.path == before  # only for a name that the user trusts, and that is found nowhere else
    assert locate("own_net_of_here.Net", "model._target_", ["own_net_of_here.Net"]).__name__ == "Net"
