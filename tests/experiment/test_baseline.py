"""The fair baseline: the dense network trained as long as the pruned one, computed once for all strategies."""

import json
from dataclasses import replace

import pytest
import torch
from conftest import composed

import prunelab
from prunelab import compose
from prunelab.config.resolve import resolve
from prunelab.experiment import baseline
from prunelab.experiment import round as stages
from prunelab.experiment.bench import Bench, snapshot
from prunelab.records import RoundRecord
from prunelab.stages.stage import State
from prunelab.tracking.console import rounds_table, trained_longer
from prunelab.training.loop import fit
from prunelab.training.optimizers import build_optimizer
from prunelab.training.spec import TrainSpec

FEW = ("data=synthetic", "data.examples=60", "threads=1")
PARENT = State({}, stage="parent")


def bench(*more):
    found = Bench(resolve(compose(*FEW, *more)), torch.device("cpu"))
    found.load_data()
    return found


def name(*more, number=1):
    return stages.longer(bench(*more), number, PARENT, None, lambda row: None).name


@pytest.mark.parametrize(
    "more",
    [
        ("strategy=l1",),
        ("strategy=random",),
        ("strategy=global", "criterion=taylor"),
        ("strategy=channel",),
        ("strategy=nm",),
        ("amount=0.7", "schedule.rounds=9"),
        ("schedule=linear", "amount=null", "schedule.sparsity=0.9"),
        ("prune.exclude=[fc3.weight]",),
        ("sparse_training=rigl", "train.epochs=3", "finetune.epochs=1"),
        ("export=[csr]", "latency=true"),
    ],
)
def test_the_stage_is_the_same_for_every_strategy(more):
    assert name(*more) == name()


@pytest.mark.parametrize(
    "more",
    ["finetune.epochs=2", "finetune.lr=rewind", "seed=1", "optimizer=sgd", "lr_schedule=cosine", "train.batch_size=32"],
)
def test_lengths_rates_and_seeds_make_another_stage(more):
    assert name(more) != name()


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ((), 3),  # of three rounds
        (("finetune.epochs=0",), 0),
        (("rewind=0",), 1),  # 1 epoch after the point, dense training has 3
        (("rewind=0", "finetune.epochs=3"), 0),  # the dense network was trained as long
        (("rewind=2ep",), 0),
        (("rewind=1ep",), 1),
        (("train.epochs=0",), 3),  # pruned at initialization
    ],
)
def test_how_many_rounds_are_as_long(more, expected):
    assert baseline.rounds(bench("train.epochs=3", "finetune.epochs=1", *more), 3) == expected


def both(tmp_path, *more):
    quick = ("schedule.rounds=2", "amount=0.3", "baseline=true")
    result = prunelab.run(composed(tmp_path, *quick, *more))
    return result, json.loads((result.folder / "summary.json").read_text())


def test_the_run_has_a_row_of_the_dense_network_trained_as_long(tmp_path, capsys):
    result, said = both(tmp_path, "strategy=l1")
    row = said["baseline"]
    assert (row["epochs"], row["sparsity"], row["reused"]) == (3, 0.0, False)
    assert sum(round.epochs for round in result.rounds) == 3
    shown = capsys.readouterr().out
    assert "\ndense      0.0%" in shown
    assert "dense: not pruned, and trained for as many epochs" in shown
    _, again = both(tmp_path, "strategy=random")
    assert again["baseline"]["reused"]
    assert {**again["baseline"], "reused": False} == row


def test_it_does_not_depend_on_what_was_pruned_before(tmp_path):
    """Each strategy computes it anew, after its own rounds: channels, layers left out, masks that move."""
    found = []
    few = ("model=residual_lenet", "baseline=true", "schedule.rounds=1", "train.epochs=1", "finetune.epochs=1")
    for strategy in ("l1", "layer", "ln_structured"):
        more = ("strategy.count=1", "amount=null") if strategy == "layer" else ("amount=0.5",)
        where = ("data=synthetic", "data.examples=60", "latency=false", f"outputs={tmp_path / strategy}")
        result = prunelab.run(compose(f"strategy={strategy}", *few, *more, *where, "device=cpu", "threads=1"))
        found.append(json.loads((result.folder / "summary.json").read_text())["baseline"])
    assert not any(row["reused"] for row in found)
    # Sparsity is that of the tensors with a mask, and a dead channel's bias may be zero by itself.
    same = [{**row, "seconds": 0, "prune_ms": 0, "sparsity": 0} for row in found]
    assert same[0] == same[1] == same[2]


def test_the_baseline_changes_nothing_of_the_pruned_network(tmp_path):
    runs = [
        prunelab.run(composed(tmp_path / name, "schedule.rounds=2", f"baseline={name}")) for name in ("true", "false")
    ]
    (one, other) = ([replace(row, seconds=0.0, prune_ms=0.0) for row in run.rounds] for run in runs)
    assert one == other
    states = (run.model.state_dict() for run in runs)
    assert all(torch.equal(a, b) for a, b in zip(*(state.values() for state in states), strict=True))


def test_it_is_the_training_of_a_round_without_pruning(tmp_path):
    """Another way to the same weights: a loop of one's own over the dense network."""
    own = bench("train.epochs=1", "finetune.epochs=1", "baseline=true")
    seen = {}

    class Kept:
        def load(self):
            return None

        def save(self, checkpoint):
            pass

    start = State(own.initial, stage="init")
    state = stages.longer(own, 1, start, None, lambda row: None).compute(Kept())
    other = bench("train.epochs=1", "finetune.epochs=1")
    other.model.load_state_dict(other.initial)
    spec = TrainSpec(other.batches, 64, 0, 1, None)
    optimizer = build_optimizer(other.spec.optimizer.target, other.model, [], **other.spec.optimizer.options)
    seen = list(fit(other.model, optimizer, other.data.train, other.data.validation, spec, []))
    assert state.row.train_loss == seen[-1].train_loss
    assert all(torch.equal(a, state.weights[name]) for name, a in snapshot(other.model).items())
    assert state.row.sparsity == 0


def record(**more):
    known = {"sparsity": 0.0, "sparsity_total": 0.0, "nonzero": 10, "parameters": 10, "compression_ratio": 1.0}
    known |= {"macs": 1, "macs_nonzero": 1, "theoretical_speedup": 1.0, "train_loss": 0.0, "val_accuracy": 0.9}
    return RoundRecord(**known, test_accuracy=0.9, test_loss=0.0, seconds=1.0, **{"amount": None, "epochs": 2, **more})


def test_the_terminal_says_that_pruned_networks_were_trained_longer():
    rounds = [record(round=n) for n in range(4)]
    said = "Round 2 was trained for 4 epochs more than round 0; with baseline=true, so is a dense network."
    assert trained_longer(rounds, 2) == said
    assert trained_longer([replace(row, epochs=0) for row in rounds], 3) == ""
    assert trained_longer(rounds, 0) == ""
    (line,) = rounds_table([record(round=3, epochs=8)], "dense").splitlines()[2:]
    assert line.split()[0] == "dense"


def test_single_runs_have_none_unless_asked(tmp_path, monkeypatch):
    assert resolve(compose(*FEW)).baseline is False
    assert resolve(compose(*FEW, "baseline=true")).baseline is True
    monkeypatch.setattr("prunelab.config.resolve.in_sweep", lambda: True)
    assert resolve(compose(*FEW)).baseline is True
    assert resolve(compose(*FEW, "baseline=false")).baseline is False
