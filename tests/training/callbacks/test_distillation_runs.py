"""Distillation in experiments: names of stages, whole runs, refused keys."""

import json

import pytest
import torch
from conftest import table
from phases import assert_same_end, resumed, run, same

import prunelab
from prunelab.config.resolve import resolve
from prunelab.data.mnist import mnist
from prunelab.errors import ConfigError
from prunelab.experiment import phase as phases
from prunelab.experiment import round as stages
from prunelab.experiment.bench import Bench, snapshot
from prunelab.models.lenet import LeNet
from prunelab.pruning.schedules import Round
from prunelab.stages.stage import State
from prunelab.stages.store import Store
from prunelab.training.callbacks.distillation import Distillation
from prunelab.training.loop import evaluate

ON = ("finetune.distill.alpha=0.5",)


# Stages


def bench_of(*more):
    config = prunelab.compose("data.limit=300", "threads=1", "strategy=lottery_ticket", "control=reinit", *more)
    bench = Bench(resolve(config), torch.device("cpu"))
    bench.load_data()
    return bench


def stages_of(*more):
    """The dense stage of a config, that of its first round, and that round's control."""
    bench = bench_of(*more)
    first = stages.dense(bench, State({}, stage="init"), lambda row: None)
    parent = State({}, stage=first.name)
    second = stages.prune_and_finetune(bench, 1, Round((bench.spec.amount,)), parent, {}, lambda row: None)
    return [first, second, stages.control(bench, 1, State({}, stage=second.name), {}, lambda row: None)]


def test_a_stage_without_distillation_does_not_depend_on_its_temperature():
    plain = stages_of()
    assert not any(b"temperature" in stage.canonical() for stage in plain)
    other = stages_of("finetune.distill.alpha=0", "finetune.distill.temperature=9")
    assert [stage.name for stage in other] == [stage.name for stage in plain]


def test_a_distilled_round_has_alpha_and_temperature_in_its_name_and_the_dense_stage_has_not():
    plain, half = stages_of(), stages_of(*ON)
    assert half[0].name == plain[0].name
    for stage in half[1:]:
        distill = json.loads(stage.canonical())["inputs"]["finetune"]["distill"]
        assert distill == {"alpha": 0.5, "temperature": 4}
    names = {
        stages_of(*how)[1].name for how in (("finetune.distill.alpha=0.6",), (*ON, "finetune.distill.temperature=1"))
    }
    assert len({plain[1].name, half[1].name, *names}) == 4
    whole = [stages_of(f"finetune.distill.alpha={one}")[1].name for one in ("1", "1.0")]
    assert whole[0] == whole[1]


def test_the_teacher_has_the_dense_weights_and_shares_no_tensor_with_the_model():
    bench = bench_of()
    bench.dense = snapshot(bench.model)
    bench.pruner.prune(0.5)
    before, generator = snapshot(bench.model), torch.get_rng_state()
    teacher = bench.dense_network()
    assert torch.equal(torch.get_rng_state(), generator)
    assert same(snapshot(bench.model), before)
    assert same(teacher.state_dict(), bench.dense)
    assert not same(before, bench.dense)
    theirs = {value.data_ptr() for value in teacher.state_dict().values()}
    assert not theirs & {value.data_ptr() for value in bench.model.state_dict().values()}
    assert theirs == {value.data_ptr() for value in bench.dense.values()}  # not copied: large networks need the memory


# Whole runs


@pytest.fixture
def teachers(monkeypatch):
    """The callbacks of all phases that are distilled, as they are made, with the weights of their teachers then."""
    found = []

    class Seen(Distillation):
        def __init__(self, teacher, alpha, temperature):
            super().__init__(teacher, alpha, temperature)
            found.append((self, {name: value.clone() for name, value in teacher.state_dict().items()}))

    monkeypatch.setattr(phases, "Distillation", Seen)
    return found


def of_kind(folder, kind):
    found = folder.glob("outputs/stages/*/stage.json")
    return [json.loads(file.read_bytes())["inputs"] for file in found if json.loads(file.read_bytes())["kind"] == kind]


def test_the_dense_network_teaches_every_round_and_is_trained_once(tmp_path, teachers):
    plain = run(tmp_path, "schedule.rounds=2")
    assert teachers == []
    half = run(tmp_path, "schedule.rounds=2", *ON)
    assert len(teachers) == 2
    rows = table(half.folder / "rounds.csv")
    dense, *later = rows
    assert [row["reused"] for row in rows] == ["true", "false", "false"]
    assert dense["stage"] == table(plain.folder / "rounds.csv")[0]["stage"]
    store = Store(tmp_path / "outputs" / "stages")
    weights = store.load(dense["stage"]).weights
    for callback, weights_given in teachers:
        assert same(weights_given, weights)
        assert same(callback.teacher.state_dict(), weights)  # after training
    assert [row["test_loss"] for row in later] != [row["test_loss"] for row in table(plain.folder / "rounds.csv")[1:]]
    assert sum("distill" in inputs["finetune"] for inputs in of_kind(tmp_path, "round")) == 2


def test_a_distilled_run_again_is_reused_and_one_without_finds_its_old_stages(tmp_path):
    run(tmp_path)
    run(tmp_path, *ON)
    for how in (("finetune.distill.temperature=2",), ON):
        rows = table(run(tmp_path, *how).folder / "rounds.csv")
        assert [row["reused"] for row in rows] == ["true", "true"]


def test_the_training_loss_in_the_rows_is_the_cross_entropy_alone(tmp_path):
    """At a rate so small that no weight moves, every loss is that of the network after pruning, whatever alpha is."""
    how = ("optimizer.lr=1e-30", "optimizer=sgd")
    losses = [run(tmp_path, *how, f"finetune.distill.alpha={alpha}").rounds[1].train_loss for alpha in (0, 0.5, 1)]
    assert losses[0] == losses[1] == losses[2]


@pytest.mark.slow
@pytest.mark.parametrize("batch", [6, 8])  # 5 in an epoch; in the first and in the second distilled round
def test_a_broken_off_run_ends_the_same(tmp_path, batch):
    how = ("schedule.rounds=2", "train.epochs=1", *ON)
    expected = run(tmp_path / "whole", *how)
    assert_same_end(resumed(tmp_path, batch, *how), expected)


DROPPING = """
from torch import nn


def Net():
    return nn.Sequential(
        nn.Flatten(), nn.Linear(784, 20), nn.BatchNorm1d(20), nn.ReLU(), nn.Dropout(0.5), nn.Linear(20, 10)
    )
"""


def test_with_dropout_and_batch_norm_a_broken_off_run_ends_the_same(tmp_path, monkeypatch, teachers):
    (tmp_path / "dropping.py").write_text(DROPPING)
    monkeypatch.syspath_prepend(tmp_path)
    how = ("model._target_=dropping.Net", "trusted=[dropping]", "schedule.rounds=1", *ON)
    expected = run(tmp_path / "whole", *how)
    assert_same_end(resumed(tmp_path, 7, *how), expected)
    assert len(teachers) == 3
    assert all(same(callback.teacher.state_dict(), weights) for callback, weights in teachers)  # running means too


@pytest.mark.slow
@pytest.mark.parametrize(
    "how",
    [
        ("strategy=lottery_ticket", "schedule.rounds=2"),
        ("strategy=lottery_ticket", "schedule.rounds=1", "control=shuffled_masks"),
        ("schedule=until", "tolerance=1", "schedule.rounds=2"),
        ("schedule=gradual", "schedule.sparsity=0.5", "schedule.every=1", "schedule.prunings=2"),
        ("sparse_training=rigl", "train.epochs=1", "sparse_training.every=1"),
        ("regularizer=dynamic_gates", "model=deep_mlp", "regularizer.lr=0.5", "schedule.rounds=1"),
        ("regularizer=l0", "schedule.rounds=1"),
        ("criterion=movement", "schedule.rounds=2"),
        ("strategy=ln_structured", "schedule.rounds=1", "optimizer=sgd"),
        ("strategy=layer", "model=deep_mlp", "schedule.rounds=2"),
    ],
    ids=lambda how: how[0],
)
def test_with_everything_else(tmp_path, teachers, how):
    result = run(tmp_path, *how, *ON)
    plain = run(tmp_path, *how)
    assert teachers
    dense = Store(tmp_path / "outputs" / "stages").load(table(result.folder / "rounds.csv")[0]["stage"]).weights
    test = mnist(limit=300).test
    for callback, _ in teachers:
        assert same(callback.teacher.state_dict(), dense)
        assert evaluate(callback.teacher, test)[1] == pytest.approx(result.rounds[0].test_loss, rel=1e-5)
    assert len(teachers) == (2 if "schedule.rounds=2" in how or "control=shuffled_masks" in how else 1)
    assert result.rounds[0].test_loss == plain.rounds[0].test_loss
    assert result.rounds[-1].test_loss != plain.rounds[-1].test_loss
    assert result.rounds[-1].sparsity > 0


def test_a_checkpoint_teaches(tmp_path, teachers):
    dense = LeNet().state_dict()
    torch.save(dense, tmp_path / "dense.pt")
    run(tmp_path, f"model.checkpoint={tmp_path / 'dense.pt'}", "train.epochs=0", *ON)
    ((callback, _),) = teachers
    assert same(callback.teacher.state_dict(), dense)


def test_the_summary_has_alpha_and_temperature(tmp_path):
    result = run(tmp_path, "schedule.rounds=1", "train.epochs=1", *ON)
    config = json.loads((result.folder / "summary.json").read_text())["config"]
    assert config["finetune"]["distill"] == {"alpha": 0.5, "temperature": 4.0}


# Wrong input


@pytest.mark.parametrize(
    ("more", "parts"),
    [
        (["finetune.distill.alpha=1.5"], ["finetune.distill.alpha=1.5", "[0, 1]"]),
        (["finetune.distill.alpha=-0.1"], ["finetune.distill.alpha=-0.1", "[0, 1]"]),
        (["finetune.distill.alpha=null"], ["finetune.distill.alpha=null", "[0, 1]"]),
        (["finetune.distill.alpha=true"], ["finetune.distill.alpha=", "[0, 1]"]),
        (["finetune.distill.alpha=nan"], ["finetune.distill.alpha=nan", "[0, 1]"]),
        (["finetune.distill.temperature=0"], ["finetune.distill.temperature=0", "[0.001, 1000]"]),
        (["finetune.distill.temperature=-4"], ["finetune.distill.temperature=-4", "[0.001, 1000]"]),
        (["finetune.distill.temperature=1e9", *ON], ["finetune.distill.temperature=1000000000", "[0.001, 1000]"]),
        (["finetune.distill.temperature=hot"], ["finetune.distill.temperature=hot", "[0.001, 1000]"]),
        (["finetune.distill.beta=1"], ["finetune.distill.beta=1", "there are alpha, temperature"]),
        (["+finetune.distill.beta=1"], ["finetune.distill.beta=1", "there are alpha, temperature"]),
        (["finetune.distil.alpha=1"], ["finetune.distil.alpha=1", "did you mean finetune.distill.alpha?"]),
        (["finetune.distill=0.5"], ["finetune.distill"]),
        ([*ON, "finetune.epochs=0"], ["finetune.distill.alpha=0.5", "finetune.epochs=0"]),
        ([*ON, "train.epochs=0"], ["finetune.distill.alpha=0.5", "train.epochs=0"]),
        ([*ON, "sparse_training=rigl"], ["finetune.distill.alpha=0.5", "train.epochs=0"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_wrong_input_is_refused_in_one_line(more, parts):
    with pytest.raises(ConfigError) as caught:
        prunelab.compose(*more)
    message = str(caught.value)
    assert "\n" not in message
    assert not [part for part in parts if part not in message], message


@pytest.mark.parametrize(
    "more",
    [
        ["finetune.epochs=0"],
        ["finetune.epochs=0", "finetune.distill.temperature=1"],
        ["train.epochs=0", "finetune.distill.alpha=0"],
        ["finetune.distill.alpha=1", "finetune.distill.temperature=0.5"],
        [*ON, "train.epochs=0", "model.checkpoint=some.safetensors"],
    ],
)
def test_what_is_fine(more):
    prunelab.compose(*more)
