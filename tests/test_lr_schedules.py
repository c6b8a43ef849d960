"""The learning rate: the formulas by hand, and what training, fine-tuning and rewinding make of them."""

import math

import pytest
from conftest import overrides

import prunelab
from prunelab.config.schema import ConfigError
from prunelab.training import loop as training
from prunelab.training import lr_schedules


def test_cosine_by_hand():
    assert [lr_schedules.cosine(p) for p in (0, 0.5, 2 / 3)] == pytest.approx([1, 0.5, 0.25])
    assert lr_schedules.cosine(0.25, warmup=0.5) == pytest.approx(0.5 * (1 + math.sqrt(0.5)) / 2)


def test_steps_by_hand():
    assert [lr_schedules.steps(p) for p in (0, 0.49, 0.5, 0.74, 0.75)] == pytest.approx([1, 1, 0.1, 0.1, 0.01])
    assert lr_schedules.steps(0.3, milestones=[0.1, 0.2], gamma=0.5, warmup=0.6) == pytest.approx(0.125)


@pytest.fixture
def rates(monkeypatch):
    """The learning rate at every step, by round."""
    found: dict[int, list[float]] = {}
    fit = training.fit

    def noted_fit(model, optimizer, *args, **how):
        seen = found.setdefault(how["round"], [])

        def step(*args, **kwargs):
            seen.append(optimizer.param_groups[0]["lr"])
            return type(optimizer).step(optimizer, *args, **kwargs)

        optimizer.step = step
        return fit(model, optimizer, *args, **how)

    monkeypatch.setattr(training, "fit", noted_fit)
    return found


def run(folder, *more):
    """Two epochs of four steps of dense training, then rounds of one or two epochs."""
    few = ("data.limit=200", "train.batch_size=50", "train.epochs=2", "schedule.rounds=1", "optimizer.lr=1")
    return prunelab.run(prunelab.compose(*overrides(folder), *few, *more))


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
    ],
    ids=lambda value: " ".join(value) or "default" if all(isinstance(item, str) for item in value) else "",
)
def test_fine_tuning_ends_where_dense_training_did_and_rewinding_goes_through_it_again(tmp_path, rates, more, expected):
    run(tmp_path, "lr_schedule=steps", *more)
    if "train.epochs=0" not in more:
        assert rates[0][:8] == pytest.approx(FALLING)
        assert rates[0][8:] == pytest.approx(FALLING[:4] if "rewind=1ep" in more else [])  # the point to go back to
    assert rates[1] == pytest.approx(expected)


def test_a_constant_rate_is_left_alone(tmp_path, rates):
    run(tmp_path)
    assert rates == {0: [1] * 8, 1: [1] * 4}


@pytest.mark.parametrize(
    "wrong",
    ["lr_schedule.gamma=0", "lr_schedule.milestones=[2]", "lr_schedule.warmup=1", "lr_schedule.milestones=[]"],
)
def test_what_cannot_be_is_refused(tmp_path, wrong):
    if wrong.endswith("[]"):
        assert lr_schedules.steps(0.9, milestones=[]) == 1
        return
    with pytest.raises(ConfigError, match=wrong.split("=")[0]):
        run(tmp_path, "lr_schedule=steps", wrong)
