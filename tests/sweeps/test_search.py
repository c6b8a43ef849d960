"""A search: its space, its study under kills and in several processes, and its Pareto set against an oracle."""

import contextlib
import json
import os
import signal
import sqlite3
import sys
import time
from pathlib import Path

import forked
import pytest

from prunelab.cli import search as command
from prunelab.config.schema import ConfigError
from prunelab.runtime.interrupt import InterruptedRun, noted
from prunelab.sweeps.search import space

SPACE = ("strategy=choice(l1,global)", "amount=interval(0.1,0.9)", "schedule.rounds=range(1,3)")
FAST = ("data.limit=300", "train.epochs=1", "finetune.epochs=1")


def start(folder, *args):
    return forked.Command(*args, module="prunelab.search", cwd=folder)


def search(folder, *args):
    return start(folder, *args).finish(200)


def trials(folder, name="search"):
    """What the database says of each trial: state, values, overrides."""
    import optuna

    study = optuna.load_study(study_name=name, storage=f"sqlite:///{folder}/outputs/searches/{name}.db")
    return [(t.state.name, t.values, t.user_attrs.get("overrides")) for t in study.get_trials()]


def final(folder, number, name="search"):
    summary = json.loads((folder / f"outputs/searches/{name}/{number}/summary.json").read_text())
    assert summary["status"] == "completed"
    return summary["final"]


def wait_for(path: Path, process):
    for _ in range(1200):
        if path.exists():
            return
        assert process.is_alive()
        time.sleep(0.05)
    raise AssertionError(path)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A search that was let alone; the folder and what it printed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    done = search(folder, *FAST, *SPACE, "--trials", "6")
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def test_a_trial_is_a_run_and_its_values_are_of_validation(undisturbed):
    folder, _ = undisturbed
    found = trials(folder)
    assert [state for state, _, _ in found] == ["COMPLETE"] * 6
    for number, (_, values, overrides) in enumerate(found):
        row = final(folder, number)
        assert values == [row["val_accuracy"], row["nonzero"]]
        assert overrides[: len(FAST)] == list(FAST)
        run = folder / f"outputs/searches/search/{number}"
        assert {"rounds.csv", "model.safetensors", ".hydra"} <= {path.name for path in run.iterdir()}
        assert overrides[-1] in json.loads((run / "summary.json").read_text())["command"]


def test_all_trials_share_one_dense_network(undisturbed):
    folder, _ = undisturbed
    described = [json.loads(path.read_text()) for path in (folder / "outputs/stages").glob("*/stage.json")]
    assert sum(stage["kind"] == "dense" for stage in described) == 1


def test_the_pareto_set_is_what_no_trial_beats(undisturbed):
    folder, out = undisturbed
    rows = [final(folder, number) for number in range(6)]
    points = [(row["val_accuracy"], -row["nonzero"]) for row in rows]
    best = {
        number
        for number, (a, b) in enumerate(points)
        if not any(x >= a and y >= b and (x, y) != (a, b) for x, y in points)
    }
    table = out.split("Pareto-optimal trials")[1].splitlines()[3:]
    shown = {int(line.split()[0]): line for line in table if "outputs/searches/search/" in line and line[0].isdigit()}
    assert set(shown) == best
    for number, line in shown.items():
        assert f"{rows[number]['nonzero']:,}" in line
        assert f"{100 * rows[number]['test_accuracy']:.2f}%" in line
        assert line.endswith(f"outputs/searches/search/{number}")
    assert "test" not in out.split("Pareto-optimal trials")[0]
    assert "optuna-dashboard sqlite:///outputs/searches/search.db" in out


def test_the_same_command_goes_on_or_has_nothing_to_do(undisturbed):
    folder, _ = undisturbed
    before = trials(folder)
    again = search(folder, "--trials", "6")  # and knows what it was about
    assert again.returncode == 0
    assert trials(folder) == before
    assert " of 6 done" not in again.stdout
    other = search(folder, *FAST, "amount=interval(0.2,0.3)", "--trials", "7")
    assert other.returncode == 1
    (line,) = other.stderr.splitlines()
    assert line.startswith("prunelab: --study search: has the overrides data.limit=300")


SOME = [signal.SIGKILL, *(pytest.param(number, marks=pytest.mark.slow) for number in (signal.SIGINT, signal.SIGTERM))]


@pytest.mark.slow
@pytest.mark.parametrize("number", SOME)
def test_interrupted_and_started_again_it_has_the_trials_of_an_undisturbed_one(number, undisturbed, tmp_path):
    started = start(tmp_path, *FAST, *SPACE, "--trials", "6")
    wait_for(tmp_path / "outputs/searches/search/1/rounds.csv", started.process)
    os.kill(started.process.pid, number)
    stopped = started.finish(200)
    if number == signal.SIGKILL:
        assert stopped.returncode == -signal.SIGKILL
    else:
        assert stopped.returncode == 128 + number
        assert stopped.stderr.splitlines()[-1] == "prunelab: stopped; the same command goes on from here"
    assert 0 < sum(state == "COMPLETE" for state, _, _ in trials(tmp_path)) < 6
    again = search(tmp_path, *FAST, *SPACE, "--trials", "6")
    assert again.returncode == 0, again.stderr
    assert trials(tmp_path) == trials(undisturbed[0])


def test_a_signal_that_comes_when_a_run_no_longer_listens_is_heard_after_it():
    before = signal.getsignal(signal.SIGTERM)
    with noted() as check:
        check()
        ours = signal.signal(signal.SIGTERM, lambda number, frame: None)  # as a run does
        signal.raise_signal(signal.SIGTERM)
        signal.signal(signal.SIGTERM, ours)
        with pytest.raises(InterruptedRun) as caught:
            check()
    assert caught.value.exit_status == 143
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.slow
def test_two_processes_share_a_study(tmp_path):
    both = [start(tmp_path, *FAST, *SPACE, "--trials", "8") for _ in range(2)]
    ended = [started.finish(200) for started in both]
    assert [done.returncode for done in ended] == [0, 0], ended[0].stderr + ended[1].stderr
    found = trials(tmp_path)
    assert [state for state, _, _ in found] == ["COMPLETE"] * 8
    assert len({tuple(overrides) for _, _, overrides in found}) == 8
    shares = [done.stdout.count(" of 8 done") for done in ended]
    assert sum(shares) == 8
    assert all(shares)


@pytest.mark.slow
def test_another_objective_another_seed_and_another_place(tmp_path):
    more = ["--study", "small", "--objective", "macs", "--storage", str(tmp_path / "mine.db"), "--trials", "1"]
    done = search(tmp_path, *FAST, *SPACE, "seed=1", *more)
    assert done.returncode == 0, done.stderr
    assert f"{final(tmp_path, 0, 'small')['macs_nonzero']:,} MACs" in done.stdout
    assert (tmp_path / "mine.db").exists()


@pytest.mark.slow
def test_what_cannot_run_is_refused_with_its_sentence_and_in_the_end_the_search(tmp_path):
    done = search(tmp_path, *FAST, "strategy=choice(nm,l1)", "amount=interval(0.1,0.5)", "--trials", "2")
    assert done.returncode == 0, done.stderr
    assert "allocation=nm sets its own sparsity; amount must be null" in done.stdout
    states = [state for state, _, _ in trials(tmp_path)]
    assert states.count("COMPLETE") == 2
    assert set(states) == {"COMPLETE", "PRUNED"}
    never = search(tmp_path, *FAST, "strategy=nm", "amount=interval(0.1,0.5)", "--study", "never")
    assert never.returncode == 1
    assert never.stderr == "prunelab: given up: too many trials were refused\n"
    assert len(trials(tmp_path, "never")) == 10


@pytest.mark.parametrize(
    ("override", "free"),
    [
        ("amount=interval(0.1,0.9)", space.Free("amount", low=0.1, high=0.9)),
        ("optimizer.lr=tag(log,interval(1e-4,1e-2))", space.Free("optimizer.lr", low=1e-4, high=1e-2, log=True)),
        ("schedule.rounds=range(1,6)", space.Free("schedule.rounds", low=1, high=5, step=1, whole=True)),
        ("schedule.rounds=range(2,9,3)", space.Free("schedule.rounds", low=2, high=8, step=3, whole=True)),
        ("schedule.rounds=int(interval(1,5))", space.Free("schedule.rounds", low=1, high=5, whole=True)),
        ("amount=range(0.1,0.5,0.1)", space.Free("amount", low=0.1, high=0.4, step=0.1)),
        ("strategy=choice(l1,global)", space.Free("strategy", ("l1", "global"))),
        ("strategy=l1,global", space.Free("strategy", ("l1", "global"))),
        ("strategy=glob([l1,lam*])", space.Free("strategy", ("l1", "lamp"))),
        ("+model.width=16,32", space.Free("+model.width", ("16", "32"))),
    ],
)
def test_the_space_in_the_language_of_the_command_line(override, free):
    assert space.parse([override, "data.limit=300"]) == space.Space(["data.limit=300"], [free])


@pytest.mark.parametrize(
    ("fixed", "keys"),
    [
        ([], ["strategy", "amount", "schedule.rounds", "finetune.epochs"]),
        (["amount=0.3"], ["strategy", "schedule.rounds", "finetune.epochs"]),
        (["schedule=one_shot"], ["strategy", "amount", "finetune.epochs"]),
    ],
)
def test_the_default_space_is_what_is_left_and_fits(fixed, keys):
    parsed = space.parse(fixed)
    assert parsed.fixed == fixed
    assert [free.key for free in parsed.free] == keys


@pytest.mark.parametrize(
    ("override", "why"),
    [
        ("amount=interval(0.9,0.1)", "must be an interval from a number to a larger one"),
        ("amount=tag(log,interval(0,1))", "must start above 0"),
        ("schedule.rounds=range(3,3)", "holds no value"),
        ("hydra/launcher=joblib", "in several processes"),
        ("amount=interval(", "amount=interval("),
    ],
)
def test_a_space_that_is_none(override, why):
    with pytest.raises(ConfigError) as caught:
        space.parse([override])
    assert why in str(caught.value)
    assert str(caught.value).startswith(override)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["amonut=0.2", "strategy=l1,global"], "amonut=0.2: there is no such key"),
        (["--trials", "0"], "--trials 0: must be"),
        (["--study", "../mine"], "--study ../mine: must be"),
    ],
)
def test_a_wrong_command_line_is_one_line(args, says, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert command.main(args) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"prunelab: {says}")
    assert not list(tmp_path.iterdir())


STORAGES = {
    "a text": lambda path: path.write_text("no database, however long it may be " * 9),
    "noise": lambda path: path.write_bytes(os.urandom(5000)),
    "other tables": lambda path: tables(path, "create table studies (x)"),
    "of another version": lambda path: tables(
        path,
        "create table version_info (version_info_id integer primary key, schema_version integer, library_version text)",
        "insert into version_info values (1, 3, '0.1')",
    ),
    "a folder": Path.mkdir,
}


def tables(path, *statements):
    with contextlib.closing(sqlite3.connect(path)) as database:
        for statement in statements:
            database.execute(statement)
        database.commit()


@pytest.mark.parametrize(
    "storage", [*STORAGES, "mysql://u@localhost/x", "nosuch://x", "postgresql://", "://", "no/folder/a.db"]
)
def test_a_database_that_cannot_be_opened_is_one_line(storage, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = storage if storage not in STORAGES else "mine.db"
    STORAGES.get(storage, lambda path: None)(tmp_path / "mine.db")
    assert command.main(["--storage", name, "--trials", "1", "amount=interval(0.1,0.5)"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("prunelab: --storage ")
    assert name in line


def test_without_optuna_one_line_names_the_extra(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert command.main([]) == 1
    assert capsys.readouterr().err == 'prunelab: a search needs optuna: pip install "prunelab[search]"\n'


def test_help_answers_without_optuna_and_torch(python, tmp_path):
    code = "import sys; sys.modules['optuna'] = sys.modules['torch'] = None\n"
    code += "from prunelab.cli.search import main; main(['--help'])"
    done = python(code, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "amount=interval(0.1,0.9)" in done.stdout
