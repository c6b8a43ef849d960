"""What `prunelab.run` takes and gives in a notebook: overrides in every form; a table, a frame, a plot; one bar."""

import logging
import re
import sys
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import overrides

import prunelab
from prunelab.experiment.result import Result
from prunelab.models.lenet import LeNet
from prunelab.tracking import console

ONE = ("strategy=l1", "amount=0.3", "schedule.rounds=1")


@pytest.fixture(scope="module")
def result(tmp_path_factory) -> Result:
    return prunelab.run(*overrides(tmp_path_factory.mktemp("result"), *ONE), quiet=True)


def test_overrides_keys_and_a_composed_config_are_the_same_run(tmp_path, result):
    few = overrides(tmp_path)
    forms = [
        prunelab.run(prunelab.compose(*few, *ONE)),
        prunelab.run(*few, strategy="l1", amount=0.3, schedule={"rounds": 1}, folder=tmp_path / "mine"),
        prunelab.run(prunelab.compose(*few, *ONE), tmp_path / "other", model=None),
    ]
    assert [row.test_loss for row in result.rounds] == [row.test_loss for row in forms[0].rounds]
    assert {tuple(row.stage for row in form.rounds) for form in forms} == {tuple(row.stage for row in result.rounds)}
    assert [form.folder for form in forms[1:]] == [tmp_path / "mine", tmp_path / "other"]
    assert "python -m prunelab" in (tmp_path / "mine" / "summary.json").read_text()


def test_text_as_model_and_data_chooses_them(tmp_path):
    few = [item for item in overrides(tmp_path, *ONE) if not item.startswith("data.limit")]
    given = prunelab.run(*few, model="lenet_300_100", data="synthetic", train={"batch_size": 16}, quiet=True)
    assert type(given.model).__name__ == "LeNet300100"


def test_keys_of_model_and_data_may_be_given_as_they_are_of_train(tmp_path):
    few = [item for item in overrides(tmp_path, *ONE) if not item.startswith("data.limit")]
    network = {"_target_": "prunelab.models.mlp.MLP", "hidden": [7]}
    given = prunelab.run(*few, model=network, data={"limit": 200}, train={"batch_size": 16}, quiet=True)
    assert given.model[1].weight.shape == (7, 784)


@pytest.mark.parametrize("given", [("a", 3), (3,), (Path("a"),), (prunelab.compose(), "a", "b"), ("seed=1", Path("a"))])
def test_other_arguments_are_refused(given):
    with pytest.raises(prunelab.ConfigError, match="run: needs overrides, or a config"):
        prunelab.run(*given)
    with pytest.raises(prunelab.ConfigError, match="run: needs overrides, or a config"):
        prunelab.run(prunelab.compose(), amount=0.3)


def test_quiet_prints_nothing(tmp_path, capfd, caplog):
    """Not even the warning that a round removes nothing, whatever the caller's logging is."""
    logging.getLogger().setLevel(logging.DEBUG)
    try:
        prunelab.run(*overrides(tmp_path, "prune.include=[fc3.bias]", "amount=0.01"), quiet=True)
    finally:
        logging.getLogger().setLevel(logging.WARNING)
    assert capfd.readouterr() == ("", "")
    assert not [record for record in caplog.records if record.name.startswith("prunelab")]


def test_the_same_without_quiet_says_it(tmp_path, capfd, caplog):
    prunelab.run(*overrides(tmp_path, "prune.include=[fc3.bias]", "amount=0.01"))
    assert "removes nothing" in capfd.readouterr().out
    assert [record for record in caplog.records if record.name.startswith("prunelab")]


def test_it_is_a_small_table(result):
    lines = repr(result).splitlines()
    assert lines[0].split()[:3] == ["round", "sparsity", "nonzero"]
    assert [line.split()[:2] for line in lines[2:4]] == [["0", "0.0%"], ["1", "30.0%"]]
    assert lines[-1] == str(result.folder)
    assert max(map(len, lines)) < 120
    page = result._repr_html_()
    assert re.findall(r"<td>(\d)</td><td>([\d.]+%)</td>", page) == [("0", "0.0%"), ("1", "30.0%")]
    assert page.count("<th>") == 7


def test_problems_are_below_the_table_and_are_no_markup():
    given = Result([], LeNet(), Path("here"), ["export=[onnx]: <b> failed"])
    assert repr(given).endswith("export=[onnx]: <b> failed")
    assert "&lt;b&gt;" in given._repr_html_()


def test_it_unpacks_into_three_and_cannot_be_changed(result):
    rounds, model, folder = result
    assert (rounds, model, folder) == (result.rounds, result.model, result.folder)
    with pytest.raises(FrozenInstanceError):
        result.rounds = []


def test_it_becomes_a_frame(result):
    pytest.importorskip("pandas")
    frame = result.to_frame()
    assert list(frame["round"]) == [0, 1]
    assert list(frame["test_accuracy"]) == [row.test_accuracy for row in result.rounds]
    assert not {"stage", "reused", "warnings", "losses"} & set(frame)


def test_it_is_drawn_over_sparsity(result):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    _, given = pyplot.subplots()
    ax = result.plot(given)
    assert ax is given
    line = next(line for line in ax.lines if line.get_label() == "pruned")
    assert list(line.get_xdata()) == [100 * row.sparsity for row in result.rounds]
    assert list(line.get_ydata()) == [100 * row.test_accuracy for row in result.rounds]
    other = result.plot()
    assert other is not given
    pyplot.close("all")


def test_both_dense_networks_are_lines_of_their_own(result):
    """Before pruning, and trained as long as the pruned one, which has one round of fine-tuning more."""
    pyplot = pytest.importorskip("matplotlib.pyplot")
    longer = replace(result.rounds[-1], epochs=8, test_accuracy=0.97)
    ax = replace(result, baseline=longer).plot()
    drawn = {text.get_text() for text in ax.get_legend().get_texts()}
    epochs = result.rounds[0].epochs
    before = f"dense, {epochs} epoch{'s' * (epochs != 1)} (before pruning)"
    assert drawn == {before, "dense, 8 epochs (as the pruned one)", "pruned"}
    level = {line.get_label(): line.get_ydata()[0] for line in ax.lines}
    assert level["dense, 8 epochs (as the pruned one)"] == pytest.approx(97.0)
    assert level[before] == 100 * result.rounds[0].test_accuracy
    assert result.baseline is None
    assert len(result.plot().get_legend().get_texts()) == 2
    pyplot.close("all")


def test_results_has_the_seed_the_strategy_and_what_varies(tmp_path):
    pytest.importorskip("pandas")
    few = overrides(tmp_path, "schedule.rounds=1", "data.limit=100")
    runs = [
        prunelab.run(*few, strategy="l1", amount=0.3, quiet=True),
        prunelab.run(*few, strategy="global", amount=0.3, optimizer={"lr": 0.002}, seed=1, quiet=True),
        prunelab.run(prunelab.compose(*few, "strategy=random", "amount=0.5"), quiet=True),
    ]
    frame = prunelab.results(tmp_path / "outputs").set_index("folder").loc[[str(run.folder) for run in runs]]
    assert list(frame["strategy"]) == ["l1", "global", "random"]
    assert list(frame["seed"]) == [0, 1, 0]
    assert list(frame["amount"]) == [0.3, 0.3, 0.5]
    assert list(frame["optimizer.lr"]) == [0.001, 0.002, 0.001]


@pytest.mark.parametrize(
    ("kernel", "quiet", "disabled"), [(True, False, False), (True, True, True), (False, True, True)]
)
def test_a_notebook_shows_a_bar_although_it_is_no_terminal(monkeypatch, kernel, quiet, disabled):
    shell = SimpleNamespace(config={"IPKernelApp": {}} if kernel else {})
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    screen = console.Console(quiet=quiet)
    screen.plan("plan:", [], 1, 2)
    assert screen.bar.disable == disabled
    screen.close()
