"""Tickets and their controls: what they share, bit for bit, and the one thing in which they differ."""

import csv
from contextlib import contextmanager

import pytest
import torch
from conftest import composed, overrides
from safetensors.torch import load_file

import prunelab
from prunelab.config.schema import CONTROLS
from prunelab.errors import ConfigError
from prunelab.experiment import controls, phase
from prunelab.experiment.bench import Bench, snapshot
from prunelab.models.lenet import LeNet
from prunelab.runtime.seeding import derive
from prunelab.training import loop

TICKET = ("strategy=lottery_ticket", "schedule.rounds=2", "amount=0.5")


def run(folder, *more):
    return prunelab.run(composed(folder, *TICKET, *more))


@contextmanager
def recorded():
    """Weights and masks at the start of each training that is really done, in their order, with its round."""
    found, benches = [], []
    fit, load = phase.fit, Bench.load_data

    def load_data(self):
        benches.append(self)
        load(self)

    def noted(model, optimizer, train, validation, spec, *args, **how):
        found.append((spec.round, snapshot(model), benches[-1].masks.state(), spec.seed))
        return fit(model, optimizer, train, validation, spec, *args, **how)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Bench, "load_data", load_data)
        patch.setattr(phase, "fit", noted)
        yield found


@pytest.fixture
def starts():
    with recorded() as found:
        yield found


@pytest.fixture(scope="module")
def ticket(tmp_path_factory):
    """The folder of a ticket without a control, and how each of its trainings began."""
    folder = tmp_path_factory.mktemp("ticket")
    with recorded() as found:
        run(folder)
    return folder, {number: (weights, kept, seed) for number, weights, kept, seed in found}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def pruned(weights, kept):
    return {name: value * kept[name] if name in kept else value for name, value in weights.items()}


def rows(mask):
    return mask.flatten(1).sum(1) if mask.dim() > 1 else mask


@pytest.mark.parametrize("control", CONTROLS)
def test_a_control_shares_with_its_ticket_all_but_one_thing(control, ticket, starts):
    torch.manual_seed(derive(0, "init"))
    origin = LeNet().state_dict()
    folder, trainings = ticket
    result = run(folder, f"control={control}")
    assert [number for number, *_ in starts] == [1, 2]  # the ticket's own rounds are there already
    for number, weights, kept, seed in starts:
        first, masked, ticket_seed = trainings[number]
        assert seed == ticket_seed
        sizes = {name: int(mask.sum()) for name, mask in kept.items()}
        assert sizes == {name: int(mask.sum()) for name, mask in masked.items()}
        assert same(kept, masked) == (control in ("reinit", "signs"))
        assert same(first, pruned(origin, masked))
        assert same(weights, pruned(origin, kept)) == (control in ("random_masks", "shuffled_masks"))
        if control == "shuffled_masks":
            assert all(torch.equal(rows(kept[name]), rows(masked[name])) for name in kept)
        if control == "random_masks":
            assert any(not torch.equal(rows(kept[name]), rows(masked[name])) for name in kept)
        if control == "signs":
            for name in kept:
                assert torch.equal(weights[name].sign(), first[name].sign())
                assert weights[name][kept[name]].abs().unique().numel() == 1
                assert float(weights[name].abs().max()) == pytest.approx(float(origin[name].std()))
    assert [row.round for row in result.rounds] == [0, 1, 2]
    if control in ("reinit", "signs"):
        assert same(load_file(result.folder / "masks.safetensors"), starts[-1][2])


def test_reinit_draws_other_weights_of_the_same_kind_and_the_same_each_time(tmp_path, starts):
    run(tmp_path / "a", "control=reinit", "schedule.rounds=1")
    first = [weights for number, weights, *_ in starts]
    starts.clear()
    run(tmp_path / "b", "control=reinit", "schedule.rounds=1")
    assert all(same(one, other) for one, other in zip(first, [w for _, w, *_ in starts], strict=True))
    dense, _, ticket, again = first[0], first[1], first[1], first[2]
    assert not torch.equal(dense["fc1.weight"], again["fc1.weight"])
    left = again["fc1.weight"] != 0
    assert torch.equal(left, ticket["fc1.weight"] != 0)
    assert float(again["fc1.weight"][left].std()) == pytest.approx(float(dense["fc1.weight"].std()), rel=0.02)
    assert ticket.keys() == again.keys()


def test_signs_of_four_by_hand():
    weight = torch.tensor([3.0, -1.0, 0.0, 2.0])  # mean 1, deviations 2 -2 -1 1: variance 10/3
    assert controls.signed(weight).tolist() == pytest.approx([1.8257419, -1.8257419, 0, 1.8257419])


def test_a_control_is_refused_where_nothing_goes_back(tmp_path):
    with pytest.raises(ConfigError, match=r"control=reinit: compares tickets"):
        prunelab.compose("control=reinit")
    with pytest.raises(ConfigError, match=r"control=other: must be null, reinit"):
        prunelab.compose("control=other", "rewind=0")


def test_the_iteration_of_the_least_validation_loss_is_recorded(tmp_path, monkeypatch):
    """300 examples in batches of 64 are 5 steps an epoch; the loss is looked at after every second one and at ends."""
    losses = iter([9, 5, 7, 6, 8, 4, 5])  # after steps 2, 4, 5 (end), 6, 8, 10, 10 (end)
    evaluate = loop.evaluate

    def known(*args):
        accuracy, loss = evaluate(*args)
        return loop.Evaluation(accuracy, next(losses, loss))

    monkeypatch.setattr(loop, "evaluate", known)
    few = overrides(tmp_path, "train.epochs=2", "schedule.rounds=1", "train.validate_every=2")
    result = prunelab.run(prunelab.compose(*few))
    assert result.rounds[0].early_stop == 10


def test_the_test_accuracies_by_the_papers_choices_are_in_the_rounds(tmp_path):
    result = run(tmp_path, "train.test=true", "train.validate_every=1", "schedule.rounds=1", "finetune.epochs=3")
    rows = list(csv.DictReader((result.folder / "epochs.csv").read_text().splitlines()))
    for round in result.rounds:
        found = [float(row["test_accuracy"]) for row in rows if row["round"] == str(round.round)]
        assert found[-1] == round.test_accuracy
        assert max(found) == round.best_test_accuracy
        assert 0 < round.early_stop_accuracy <= 1
    assert all(row.best_test_accuracy is None for row in run(tmp_path, "schedule.rounds=1").rounds)


def test_looking_at_the_validation_loss_changes_nothing_else(tmp_path):
    one = run(tmp_path / "a", "train.validate_every=1", "schedule.rounds=1")
    other = run(tmp_path / "b", "schedule.rounds=1")
    assert same(one.model.state_dict(), other.model.state_dict())
    assert one.rounds[1].early_stop <= other.rounds[1].early_stop == 5


def test_reinit_of_a_checkpoint_draws_other_weights(tmp_path, starts):
    file = tmp_path / "dense.pt"
    torch.save(LeNet().state_dict(), file)
    run(tmp_path, f"model.checkpoint={file}", "control=reinit", "schedule.rounds=1")
    assert not torch.equal(starts[-1][1]["fc1.weight"], starts[0][1]["fc1.weight"])
    assert float(starts[-1][1]["fc1.weight"].std()) < 0.1
