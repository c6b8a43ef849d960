"""Learning-rate schedules: the formulas by hand, a contract for all of them, and their use in experiments."""

import importlib
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from conftest import composed

import prunelab
from prunelab.errors import ConfigError
from prunelab.experiment import phase
from prunelab.training import loop, lr_schedules


def test_cosine_by_hand():
    assert [lr_schedules.cosine(p) for p in (0, 0.5, 2 / 3)] == pytest.approx([1, 0.5, 0.25])
    assert lr_schedules.cosine(0.25, warmup=0.5) == pytest.approx(0.5 * (1 + math.sqrt(0.5)) / 2)


def test_linear_by_hand():
    assert [lr_schedules.linear(p, start=0.5) for p in (0, 0.5, 0.6, 0.75)] == pytest.approx([1, 1, 0.8, 0.5])
    assert lr_schedules.linear(0.1, warmup=0.2) == pytest.approx(0.45)


def test_steps_by_hand():
    assert [lr_schedules.steps(p) for p in (0, 0.49, 0.5, 0.74, 0.75)] == pytest.approx([1, 1, 0.1, 0.1, 0.01])
    assert lr_schedules.steps(0.3, milestones=[0.1, 0.2], gamma=0.5, warmup=0.6) == pytest.approx(0.125)


FILES = sorted((Path(__file__).parents[2] / "conf" / "lr_schedule").glob("*.yaml"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_schedule_is_a_factor_that_depends_on_progress_alone(file):
    options = yaml.safe_load(file.read_text())
    module, _, name = options.pop("_target_").rpartition(".")
    schedule = getattr(importlib.import_module(module), name)
    assert (file.stem, getattr(lr_schedules, name)) == (name, schedule)
    factors = [schedule(step / 100, **options) for step in range(100)]
    assert factors[0] == 1
    assert all(0 <= factor <= 1 for factor in factors)
    assert factors == [schedule(step / 100, **options) for step in range(100)]
    assert "Args:" in schedule.__doc__


@pytest.fixture
def rates(monkeypatch):
    """The learning rate at every step of a run, in the order of the steps."""
    found: list[float] = []
    train_step = loop.train_step

    def noted(model, optimizer, *how):
        found.append(optimizer.param_groups[0]["lr"])
        return train_step(model, optimizer, *how)

    monkeypatch.setattr(loop, "train_step", noted)
    return found


def run(folder, *more):
    """Two epochs of four steps of dense training, then rounds of one or two epochs."""
    few = ("data.limit=200", "train.batch_size=50", "train.epochs=2", "schedule.rounds=1", "optimizer.lr=1")
    return prunelab.run(composed(folder, *few, *more))


FALLING = [1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01]  # milestones at 4 and 6 of 8 steps


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ([], [0.01] * 4),  # fine-tuning: where dense training ended
        (["finetune.lr=rewind"], [0.1, 0.1, 0.01, 0.01]),  # the last four of dense training again
        (["finetune.lr=rewind", "finetune.epochs=2"], FALLING),
        (["rewind=1ep"], [0.1, 0.1, 0.01, 0.01]),  # from the point that the weights go back to
        (["rewind=0"], [1] * 4),
        (["rewind=0", "finetune.epochs=2"], FALLING),
        (["rewind=0", "finetune.epochs=2", "finetune.lr=last"], [0.01] * 8),
        (["train.epochs=0", "finetune.epochs=2"], FALLING),  # pruned at initialisation: this is the training
        (["finetune.optimizer={lr:2}", "finetune.epochs=2"], [2 * rate for rate in FALLING]),
        (["finetune.lr_schedule={milestones:[1it]}"], [1, 0.1, 0.1, 0.1]),
    ],
    ids=lambda value: " ".join(value) or "default" if all(isinstance(item, str) for item in value) else "",
)
def test_fine_tuning_ends_where_dense_training_did_and_rewinding_goes_through_it_again(tmp_path, rates, more, expected):
    run(tmp_path, "lr_schedule=steps", *more)
    dense = [] if "train.epochs=0" in more else FALLING
    rewinding = FALLING[:4] if "rewind=1ep" in more else []  # dense training again, up to the rewinding point
    assert rates == pytest.approx([*dense, *rewinding, *expected])


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["finetune.optimizer={lr:2}", "finetune.lr=last"], "finetune.lr=last: .* must be null"),
        (["finetune.optimizer={rate:2}"], r"finetune.optimizer.rate=2: "),
        (["finetune.optimizer=2"], r"finetune.optimizer=2: must be null or a mapping of options"),
        (["finetune.lr_schedule={gamma:0}", "lr_schedule=steps"], "lr_schedule.gamma=0: must be"),
        (["finetune.optimizer={lr:-2}"], "Invalid learning rate"),
    ],
)
def test_options_of_fine_tuning_that_cannot_be_are_refused_before_training(tmp_path, rates, more, message):
    with pytest.raises(ConfigError, match=message):
        run(tmp_path, *more)
    assert not rates


def test_a_constant_rate_stays(tmp_path, rates):
    run(tmp_path)
    assert rates == [1] * 12


@pytest.mark.parametrize(
    "wrong", [{"gamma": 0}, {"milestones": [2]}, {"warmup": 1}], ids=lambda wrong: next(iter(wrong))
)
def test_what_is_out_of_range_is_refused(wrong):
    ((key, _),) = wrong.items()
    with pytest.raises(ConfigError, match=rf"lr_schedule.{key}=.*: must be"):
        lr_schedules.steps(0.9, **wrong)
    assert lr_schedules.steps(0.9, milestones=[]) == 1


def test_what_is_out_of_range_is_refused_before_training(tmp_path, rates):
    with pytest.raises(ConfigError, match=r"lr_schedule.gamma=0"):
        run(tmp_path, "lr_schedule=steps", "lr_schedule.gamma=0")
    assert not rates


def test_a_schedule_of_ones_own_is_asked_at_every_step():
    def bumps(progress):
        return 1.0 if progress in (0.0, 0.5, 0.999) else 2.0

    spec = SimpleNamespace(lr_schedule=SimpleNamespace(target=bumps, options={}))
    bench = SimpleNamespace(spec=spec, dense_iterations=4, batches=4)
    factor = phase._lr_factor(bench, 0, 4)
    assert [factor(done) for done in range(4)] == [1, 2, 1, 2]


def test_milestones_and_warmup_in_iterations_or_epochs():
    at = [
        lr_schedules.steps(n / 100, milestones=["25it", "4ep"], iterations=100, per_epoch=10) for n in (24, 25, 39, 40)
    ]
    assert at == pytest.approx([1, 0.1, 0.1, 0.01])
    for lengths in ({"warmup": "20it"}, {"warmup": "2ep"}, {"warmup": 0.2}):
        for schedule in (lr_schedules.cosine, lr_schedules.steps):
            half = schedule(0.1, **lengths, iterations=100, per_epoch=10)
            assert half == pytest.approx(schedule(0.1) / 2)
    assert lr_schedules.steps(0.999, milestones=["500it"], iterations=100, per_epoch=10) == 1  # never reached


@pytest.mark.parametrize("options", [{"milestones": ["25"]}, {"milestones": ["-1it"]}, {"warmup": "x"}])
def test_another_spelling_is_refused(options):
    with pytest.raises(ConfigError, match=r"must be a fraction of training, iterations \(500it\) or epochs"):
        lr_schedules.steps(0.5, **options)


def test_a_length_in_iterations_trains_so_many_steps_and_drops_the_rate_there(tmp_path):
    steps = ("lr_schedule=steps", "lr_schedule.milestones=[3it,1ep]", "train.epochs=9it", "finetune.epochs=4it")
    config = composed(tmp_path, *steps, "train.batch_size=50", "data.limit=250")
    result = prunelab.run(config)
    rows = (result.folder / "epochs.csv").read_text().splitlines()
    found = [dict(zip(rows[0].split(","), row.split(","), strict=True)) for row in rows[1:]]
    assert [(row["round"], row["epoch"]) for row in found[:3]] == [("0", "1"), ("0", "2"), ("1", "1")]
    assert [float(row["lr"]) for row in found[:2]] == pytest.approx([1e-4, 1e-5])
