"""Distillation: the loss by hand and by NumPy, a teacher that stays as it is, names of stages, whole runs."""

import json
import math

import numpy as np
import pytest
import torch
from conftest import overrides, table
from hypothesis import given, settings
from hypothesis import strategies as st
from phases import assert_same_end, phase, resumed, run, same
from torch import nn
from torch.nn import functional

import prunelab
from prunelab.config import build as building
from prunelab.config.schema import ConfigError
from prunelab.experiment import phases
from prunelab.experiment import run as experiment
from prunelab.experiment.lab import Lab
from prunelab.pruning import masks
from prunelab.pruning.schedules import Round
from prunelab.stages import store as stages
from prunelab.stages.store import State
from prunelab.training.callbacks.distillation import Distillation, divergence
from prunelab.training.loop import Routine, evaluate

ON = ("finetune.distill.alpha=0.5",)


def tensor(rows):
    return torch.tensor(rows, dtype=torch.float64)


# The loss


def test_two_classes_by_hand():
    # T = 2: p = softmax(ln 9 / 2, 0) = (3/4, 1/4), q = (1/2, 1/2); 4 · (3/4 · ln 3/2 + 1/4 · ln 1/2)
    expected = 4 * (0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    student, teacher = tensor([[7.0, 7.0]]), tensor([[math.log(9), 0.0]])
    assert divergence(student, teacher, 2).item() == pytest.approx(expected) == pytest.approx(0.5232, abs=1e-4)
    # the mean over a batch whose other example is taught nothing
    both = divergence(tensor([[7.0, 7.0], [1.0, 2.0]]), tensor([[math.log(9), 0.0], [5.0, 6.0]]), 2)
    assert both.item() == pytest.approx(expected / 2)


def oracle(student, teacher, temperature):
    """As it is written in the paper, in NumPy: no logarithm of a softmax is taken in one step."""
    total = 0.0
    for z, v in zip(student, teacher, strict=True):
        q, p = (np.exp(x / temperature) / np.exp(x / temperature).sum() for x in (z, v))
        total += sum(p[i] * (np.log(p[i]) - np.log(q[i])) for i in range(len(p)))
    return temperature**2 * total / len(student)


@settings(max_examples=50, deadline=None, database=None)
@given(
    st.integers(1, 5),
    st.integers(2, 6),
    st.floats(0.2, 50),
    st.integers(0, 2**32 - 1),
)
def test_the_loss_is_the_papers(examples, classes, temperature, seed):
    draw = np.random.default_rng(seed)
    student, teacher = draw.normal(scale=5, size=(2, examples, classes))
    found = divergence(torch.from_numpy(student), torch.from_numpy(teacher), temperature).item()
    assert found == pytest.approx(oracle(student, teacher, temperature), rel=1e-6, abs=1e-9)
    assert found >= -1e-12


@pytest.mark.parametrize("temperature", [0.001, 1, 1000])
@pytest.mark.parametrize("size", [0, 1, 1e4])
def test_the_loss_and_its_slope_stay_finite(temperature, size):
    student = torch.tensor([[size, -size, 0.0]], requires_grad=True)
    loss = divergence(student, torch.tensor([[-size, size, 0.0]]), temperature)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(student.grad).all()


def test_the_slope_is_that_of_the_papers_eq_2():
    """Of one example: T² · 1/T · (q − p)."""
    torch.manual_seed(0)
    student, teacher = torch.randn(1, 4, dtype=torch.float64, requires_grad=True), torch.randn(1, 4).double()
    divergence(student, teacher, 3).backward()
    expected = 3 * ((student / 3).softmax(1) - (teacher / 3).softmax(1))
    assert torch.allclose(student.grad, expected)


def test_a_high_temperature_matches_logits():
    """Ibid., eq. 4: at T → ∞ the slope is (z − v) / N, for logits of mean 0. So T² keeps it from vanishing."""
    student = tensor([[1.0, -2.0, 1.0]]).requires_grad_()
    teacher = tensor([[3.0, 0.0, -3.0]])
    divergence(student, teacher, 1000).backward()
    assert torch.allclose(student.grad, (student - teacher) / 3, rtol=0.01)


# The routine


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))


def taught(model, alpha=0.5, temperature=4.0, pairs=None):
    """A model, all of its weights masked, and the routine in which its present weights teach it."""
    phase(model, pairs=pairs, round=1)
    return Distillation(masks.plain_copy(model), alpha, temperature)


@pytest.mark.parametrize("alpha", [0.25, 0.5, 1.0])
def test_the_objective_is_the_mixture(alpha):
    model = network()
    routine = taught(model, alpha, 2.0)
    with torch.no_grad():
        for item in masks.masked(model):
            item.mask[0] = 0
    x, labels = torch.randn(5, 6), torch.tensor([0, 1, 2, 0, 1])
    logits = model.train()(x)
    loss = functional.cross_entropy(logits, labels)
    with torch.no_grad():
        dense = network().eval()(x)
    expected = (1 - alpha) * loss.item() + alpha * oracle(logits.detach().numpy(), dense.numpy(), 2.0)
    assert routine.objective(loss, x, logits).item() == pytest.approx(expected, rel=1e-4)


def test_a_student_that_is_its_teacher_learns_nothing_from_it():
    model = network().eval()
    routine = taught(model, alpha=1.0)
    x = torch.randn(5, 6)
    logits = model(x)
    objective = routine.objective(functional.cross_entropy(logits, torch.zeros(5, dtype=torch.long)), x, logits)
    objective.backward()
    assert objective.item() == pytest.approx(0, abs=1e-6)
    for item in masks.masked(model):
        assert item.original.grad.abs().max() < 1e-6


def test_the_teacher_is_dense_apart_and_in_eval_mode():
    lab = Lab(prunelab.compose("model=residual_lenet"), torch.device("cpu"))
    lab.dense, _ = masks.snapshot(lab.model)
    with torch.no_grad():
        for item in masks.masked(lab.model):
            item.mask[0] = 0
            item.original.add_(1)
    before = masks.snapshot(lab.model)
    generator = torch.get_rng_state()
    routine = Distillation(lab.dense_network(), 0.5, 4.0)
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(same(one, other) for one, other in zip(masks.snapshot(lab.model), before, strict=True))
    assert same(routine.teacher.state_dict(), lab.dense)
    assert not any(module.training for module in routine.teacher.modules())
    assert not any(parameter.requires_grad for parameter in routine.teacher.parameters())
    theirs = {value.data_ptr() for value in routine.teacher.state_dict().values()}
    ours = {value.data_ptr() for value in lab.model.state_dict().values()}
    assert not theirs & (ours | {value.data_ptr() for value in lab.dense.values()})
    assert routine.state() == {}
    assert routine.parameters() is None


def test_steps_leave_the_teacher_bit_for_bit_and_train_the_student():
    model = network().train()
    routine = taught(model)
    before, student = masks.snapshot(routine.teacher)[0], masks.snapshot(model)[0]
    optimizer = torch.optim.SGD(masks.originals(model).values(), lr=0.1)
    for _ in range(3):
        x = torch.randn(5, 6)
        generator = torch.get_rng_state()
        logits = model(x)
        torch.set_rng_state(generator)
        model(x)
        after = torch.get_rng_state()
        loss = functional.cross_entropy(logits, torch.zeros(5, dtype=torch.long))
        optimizer.zero_grad()
        routine.objective(loss, x, logits).backward()
        assert torch.equal(torch.get_rng_state(), after)  # the teacher has no dropout
        optimizer.step()
    assert same(masks.snapshot(routine.teacher)[0], before)
    assert not same(masks.snapshot(model)[0], student)
    assert all(parameter.grad is None for parameter in routine.teacher.parameters())


# Stages


def stages_of(*more):
    """The dense stage of a config, that of its first round, and that round's control."""
    config = prunelab.compose("data.limit=300", "threads=1", "strategy=lottery_ticket", "control=reinit", *more)
    lab = Lab(config, torch.device("cpu"), lambda: None)
    lab.load_data()
    first = experiment.dense(lab, lambda row: None)
    parent = State({}, {}, {}, stage=first.name)
    second = experiment.prune_and_finetune(lab, 1, Round((config.amount,)), parent, {}, lambda row: None)
    ticket = State({}, {}, {}, stage=second.name)
    return [first, second, experiment.control(lab, 1, ticket, {}, lambda row: None)]


def without(stage):
    """The name of a stage in whose inputs there is no such key, as before it was thought of."""
    inputs = {key: value for key, value in stage.inputs.items() if key != "distill"}
    return stages.Stage(stage.kind, stage.parent, inputs, stage.compute).name


def test_a_stage_without_distillation_has_the_name_it_always_had():
    plain = stages_of()
    assert [stage.name for stage in plain] == [without(stage) for stage in plain]
    assert not any(b"distill" in stage.canonical() for stage in plain)
    other = stages_of("finetune.distill.alpha=0", "finetune.distill.temperature=9")
    assert [stage.name for stage in other] == [stage.name for stage in plain]


def test_a_distilled_round_has_alpha_and_temperature_in_its_name_and_the_dense_stage_has_not():
    plain, half = stages_of(), stages_of(*ON)
    assert half[0].name == plain[0].name
    assert "distill" not in half[0].inputs
    for stage in half[1:]:
        assert json.loads(stage.canonical())["inputs"]["distill"] == {"alpha": 0.5, "temperature": 4}
        assert without(stage) != stage.name
    names = {
        stages_of(*how)[1].name for how in (("finetune.distill.alpha=0.6",), (*ON, "finetune.distill.temperature=1"))
    }
    assert len({plain[1].name, half[1].name, *names}) == 4
    whole = [stages_of(f"finetune.distill.alpha={one}")[1].name for one in ("1", "1.0")]
    assert whole[0] == whole[1]


# Whole runs


@pytest.fixture
def teachers(monkeypatch):
    """The routines of all phases that are distilled, as they are made, with the weights of their teachers then."""
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
    store = stages.Store(tmp_path / "outputs" / "stages")
    weights = store.load(dense["stage"]).weights
    for routine, weights_given in teachers:
        assert same(weights_given, weights)
        assert same(routine.teacher.state_dict(), weights)  # after training
    assert [row["test_loss"] for row in later] != [row["test_loss"] for row in table(plain.folder / "rounds.csv")[1:]]
    assert sum("distill" in inputs for inputs in of_kind(tmp_path, "round")) == 2


def test_a_distilled_run_again_is_reused_and_one_without_finds_its_old_stages(tmp_path):
    run(tmp_path, "schedule.rounds=1")
    run(tmp_path, "schedule.rounds=1", *ON)
    for how in (("finetune.distill.temperature=2",), ON):
        rows = table(run(tmp_path, "schedule.rounds=1", *how).folder / "rounds.csv")
        assert [row["reused"] for row in rows] == ["true", "true"]


@pytest.mark.parametrize("alpha", [0.5, 1])
def test_the_training_loss_in_the_rows_is_the_cross_entropy_alone(tmp_path, alpha):
    """At a rate so small that no weight moves, every loss is that of the network after pruning, whatever alpha is."""
    how = ("schedule.rounds=1", "optimizer.lr=1e-30", "optimizer=sgd")
    plain, half = run(tmp_path, *how), run(tmp_path, *how, f"finetune.distill.alpha={alpha}")
    assert half.rounds[1]["train_loss"] == plain.rounds[1]["train_loss"]


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
    assert all(same(routine.teacher.state_dict(), weights) for routine, weights in teachers)  # running means too


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
    dense = stages.Store(tmp_path / "outputs" / "stages").load(table(result.folder / "rounds.csv")[0]["stage"]).weights
    test = building.bind(prunelab.compose("data.limit=300"), "data")().test
    for routine, _ in teachers:
        assert same(routine.teacher.state_dict(), dense)
        assert evaluate(routine.teacher, test)[1] == pytest.approx(result.rounds[0]["test_loss"], rel=1e-5)
    assert len(teachers) == (2 if "schedule.rounds=2" in how or "control=shuffled_masks" in how else 1)
    assert result.rounds[0]["test_loss"] == plain.rounds[0]["test_loss"]
    assert result.rounds[-1]["test_loss"] != plain.rounds[-1]["test_loss"]
    assert result.rounds[-1]["sparsity"] > 0


def test_a_checkpoint_teaches(tmp_path, teachers):
    dense = run(tmp_path / "before", "amount=0", "schedule.rounds=1")
    file = dense.folder / "model.safetensors"
    run(tmp_path, f"model.checkpoint={file}", "schedule.rounds=1", "train.epochs=0", *ON)
    ((routine, _),) = teachers
    assert same(routine.teacher.state_dict(), dense.model.state_dict())


def test_the_command(cli, tmp_path):
    done = cli(*overrides(tmp_path, "schedule.rounds=1", *ON), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (summary,) = tmp_path.glob("outputs/*/*/summary.json")
    config = json.loads(summary.read_text())["config"]
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


def test_a_routine_that_says_nothing_leaves_the_loss():
    loss = torch.tensor(2.0)
    assert Routine().objective(loss, None, None) is loss
