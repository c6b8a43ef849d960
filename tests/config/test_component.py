"""Components: options against the target's signature, the identity for a stage's name, digests of the user's source."""

from __future__ import annotations

import importlib
import json
import sys

import pytest

from prunelab.config.component import bind
from prunelab.config.source import source_digest
from prunelab.errors import ConfigError

LENET = {"_target_": "prunelab.models.lenet.LeNet"}
TAYLOR = {"_target_": "prunelab.pruning.criteria.taylor.taylor"}
CHANNEL = {"_target_": "prunelab.pruning.granularity.channel.Channel"}


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of the user's: a model that imports a helper, and a file that it does not import."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "net.py").write_text(
        "from .helper import WIDTH\n\ndef make(width=WIDTH, depth=2, *, size):\n    return (width, depth, size)\n"
        "\ndef loose(**more):\n    return more\n\ndef wrong():\n    raise ValueError('no\\n such thing')\n"
    )
    (folder / "helper.py").write_text("WIDTH = 3\n")
    (folder / "other.py").write_text("X = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    yield folder
    for name in [name for name in sys.modules if name.split(".")[0] == "theirs"]:
        del sys.modules[name]


def theirs(name, **options):
    return bind("model", {"_target_": f"theirs.net.{name}", **options}, ["theirs"], offered=["size"])


def test_null_stands_for_the_targets_own_default():
    assert bind("criterion", {**TAYLOR, "examples": None}).options == {}
    assert bind("granularity", {**CHANNEL, "n": 1, "dim": None})().n == 1


def test_keys_that_any_choice_has_are_no_options():
    assert bind("model", {**LENET, "checkpoint": "file"}).options == {}
    assert bind("criterion", {**TAYLOR, "iterations": 3}).options == {}


@pytest.mark.parametrize(
    ("part", "node", "said"),
    [
        ("model", {**LENET, "width": 3}, r"model.width=3: there is no such key"),
        ("criterion", {**TAYLOR, "exampels": 3}, r"criterion.exampels=3: .*did you mean examples\?"),
        ("criterion", {**TAYLOR, "evidence": 3}, r"criterion.evidence=3: there is no such key"),
        ("granularity", {**CHANNEL, "size": 3}, r"granularity.size=3: there is no such key.*granularity=block has it"),
        ("optimizer", {"_target_": "torch.optim.Adam", "params": 1}, r"optimizer.params=1: there is no such key"),
        ("model", {"_target_": "os.system"}, r"model._target_=os.system: is none of prunelab's own"),
        ("model", {}, r"model._target_=null: must be a dotted name"),
    ],
)
def test_what_a_target_does_not_take_is_refused(part, node, said):
    with pytest.raises(ConfigError, match=said):
        bind(part, node)


def test_what_a_target_lacks_is_refused(package):
    with pytest.raises(ConfigError, match=r"model.size=null: must be given; make has no default for it"):
        bind("model", {"_target_": "theirs.net.make"}, ["theirs"])
    assert theirs("make")(size=5) == (3, 2, 5)


def test_given_arguments_never_win_over_the_config_and_are_left_out_if_not_named(package):
    assert theirs("make", width=7, size=1)(size=5, colour="red") == (7, 2, 1)
    assert theirs("loose", width=7)(shape=5) == {"width": 7}


def test_an_error_of_a_user_s_target_is_one_line_that_names_it_and_the_line(package):
    said = r"^model._target_=theirs.net.wrong: ValueError: no such thing \(.*net.py:10\)$"
    with pytest.raises(ConfigError, match=said):
        theirs("wrong")()


def test_identity_has_all_options_with_their_defaults():
    assert bind("criterion", TAYLOR).identity == {"_target_": TAYLOR["_target_"], "examples": 1024, "source": None}
    assert bind("criterion", {**TAYLOR, "examples": 1024}).identity == bind("criterion", TAYLOR).identity
    assert bind("criterion", {**TAYLOR, "examples": 5}).identity["examples"] == 5
    adam = bind("optimizer", {"_target_": "torch.optim.Adam", "lr": 0.1}).identity
    assert (adam["lr"], adam["eps"]) == (0.1, 1e-8)
    assert json.loads(json.dumps(adam))["betas"] == [0.9, 0.999]


def test_identity_has_the_source_that_the_target_imports_from_its_package(package):
    before = theirs("make").identity["source"]
    assert len(before) == 64
    (package / "other.py").write_text("X = 2\n")
    assert theirs("make").identity["source"] == before
    (package / "helper.py").write_text("WIDTH = 3  # edited\n")
    edited = theirs("make").identity["source"]
    assert edited != before
    (package / "net.py").write_text((package / "net.py").read_text() + "# edited\n")
    assert theirs("make").identity["source"] not in (before, edited)


def test_prunelabs_and_torchs_own_source_is_not_digested():
    assert source_digest(bind("model", LENET).target) is None
    assert source_digest(bind("data", {"_target_": "prunelab.data.mnist.mnist"}).target) is None


@pytest.mark.parametrize(
    ("part", "target", "choice"),
    [
        ("granularity", "prunelab.pruning.granularity.channel.Channel", "channel"),
        ("allocation", "prunelab.pruning.allocation.global_.Global", "global"),
        ("criterion", "prunelab.pruning.criteria.magnitude_increase.MagnitudeIncrease", "magnitude_increase"),
        ("optimizer", "torch.optim.Adam", "torch.optim.Adam"),
    ],
)
def test_messages_name_the_choice(part, target, choice):
    assert bind(part, {"_target_": target}).choice == choice
