"""Runs that differ only in their seed are one group, with a name that tells it from the others."""

from pathlib import Path

from fake_runs import a_run, row

from prunelab.report.groups import group, label
from prunelab.report.run_folders import Run


def test_groups_are_named_by_what_differs_but_the_seed():
    jobs = [
        ["strategy=l1", "amount=0.5", "seed=0", "data.limit=9", "outputs=a"],
        ["data.limit=9", "amount=0.5", "strategy=l1", "seed=1", "outputs=b"],
        ["strategy=global", "amount=0.5", "seed=0", "data.limit=9", "+model.width=4"],
    ]
    groups = group([a_run(job) for job in jobs])
    assert [(g.label, [r.seed for r in g.runs]) for g in groups] == [("l1", [0, 1]), ("global model.width=4", [0])]


def test_a_label_says_the_strategy_first_and_how_much_last():
    items = {"amount": "0.5", "criterion": "taylor", "strategy": "l1"}
    assert label(items, items) == "l1 taylor amount=0.5"
    assert label(items, [*items, "model"]) == "l1 criterion=taylor amount=0.5"
    assert label({"criterion": "random", "strategy": "random"}, ["criterion", "strategy"]) != "random random"


def test_a_single_experiment_keeps_its_name():
    assert [g.label for g in group([a_run(["strategy=l1", "seed=0"]), a_run(["strategy=l1", "seed=1"])])] == ["l1"]
    assert [g.label for g in group([a_run(["seed=0"])])] == ["(defaults)"]


def test_an_experiment_without_overrides_of_its_own_is_named_by_its_config():
    given, default = a_run(["amount=0"], config={"amount": 0.0}), a_run([], config={"amount": 0.2}, folder="b")
    assert [g.label for g in group([given, default])] == ["amount=0", "amount=0.2"]


def test_a_repeated_seed_is_no_further_evidence():
    runs = [a_run(["seed=0"], final=row(1, 0.5, 0.8, test), folder=str(test)) for test in (0.8, 0.9)]
    (only,) = group([*runs, a_run(["seed=1"])])
    assert ([r.seed for r in only.runs], only.repeats) == ([0, 1], 1)
    assert only.runs[0].final["test_accuracy"] == 0.9


def test_equal_overrides_composed_differently_are_not_mixed():
    """Defaults change between versions; a key that the older runs lack is no difference."""
    old = a_run(["seed=0"], config={"seed": 0, "lr": 0.1}, folder="a")
    new = a_run(["seed=1"], config={"seed": 1, "lr": 0.2, "criterion": None}, folder="b")
    same = a_run(["seed=2"], config={"seed": 2, "lr": 0.2}, folder="c")
    assert [(g.label, len(g.runs)) for g in group([old, new, same])] == [("lr=0.1", 1), ("lr=0.2", 2)]


def test_unknown_seeds_are_not_taken_for_one():
    runs = [Run(folder, (), "completed", {"final": row(1, 0.5, 0.8, 0.9)}) for folder in map(Path, "ab")]
    assert [len(g.runs) for g in group(runs)] == [2]


def test_single_runs_are_named_by_what_differs_in_their_configs():
    """Whatever of it their command lines say: `amount=0.2` is the default, and `lenet` is a LeNet."""
    lenet = {"_target_": "prunelab.models.lenet.LeNet"}
    plain = {"seed": 0, "amount": 0.2, "model": lenet, "strategy": {"name": "global"}, "rewind": None}
    runs = [
        a_run(["strategy=l1", "amount=0.3"], config=plain | {"amount": 0.3, "strategy": {"name": "l1"}}, folder="a"),
        a_run([], config=plain, seed=0, folder="b"),
        a_run(["amount=0.20"], config=plain | {"seed": 1}, seed=1, folder="c"),
        a_run(["strategy=global", "model=lenet"], config=plain | {"seed": 2}, seed=2, folder="d"),
        a_run(["rewind=0"], config=plain | {"rewind": "0"}, folder="e"),
    ]
    found = [(g.label, [run.folder.name for run in g.runs]) for g in group(runs)]
    assert found == [
        ("l1 rewind=null amount=0.3", ["a"]),
        ("global rewind=null amount=0.20", ["b", "c", "d"]),
        ("global rewind=0 amount=0.20", ["e"]),
    ]


def test_parts_of_one_class_with_other_options_are_not_mixed():
    wide, narrow = ({"_target_": "mine.Net", "width": width} for width in (8, 4))
    other = a_run([], config={"model": {"_target_": "other.Net", "width": 8}}, folder="c")
    runs = [
        a_run(["model=wide"], config={"model": wide}),
        a_run(["model=narrow"], config={"model": narrow}, folder="b"),
    ]
    assert [g.label for g in group([*runs, other])] == ["wide", "narrow", "Net"]
