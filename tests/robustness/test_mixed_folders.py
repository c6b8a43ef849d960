"""No folder ever holds two runs or two sweeps: what would mix them is refused in one line, and changes nothing."""

import csv
import errno
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import forked
import pytest
from conftest import BASIC, composed, overrides
from harness import record

import prunelab
from prunelab import report
from prunelab.config.check import plain
from prunelab.errors import ConfigError
from prunelab.stages import files
from prunelab.sweeps import notes
from prunelab.tracking import run_lock
from prunelab.tracking.run_folder import RunFolder

ROUND = ("schedule.rounds=1", "threads=1")
LIST = "strategy=l1,erk"
REFUSED = {
    "another list of strategies": ("-m", "strategy=l1,lamp", "hydra.sweep.dir=sweep"),
    "the same jobs in another order": ("-m", "strategy=erk,l1", "hydra.sweep.dir=sweep"),
    "one job more": ("-m", "strategy=l1,erk,lamp", "hydra.sweep.dir=sweep"),
    "one job less": ("-m", "strategy=l1", "hydra.sweep.dir=sweep"),
    "the same strategies with another amount": ("-m", LIST, "amount=0.3", "hydra.sweep.dir=sweep"),
    "a sweep into the folder of a run": ("-m", LIST, "hydra.sweep.dir=run"),
    "a sweep whose jobs share one folder": ("-m", LIST, "hydra.sweep.dir=new", "hydra.sweep.subdir=x"),
    "a sweep into a folder of a sweep": ("-m", LIST, "hydra.sweep.dir=sweep/more"),
    "a run into the folder of a sweep": ("strategy=l1", "hydra.run.dir=sweep"),
    "a run into the folder of a job": ("strategy=l1", "hydra.run.dir=sweep/0"),
    "a run into a new folder of a sweep": ("strategy=l1", "hydra.run.dir=sweep/mine"),
    "a run of another strategy": ("strategy=erk", "hydra.run.dir=run"),
    "a run of another seed": ("strategy=l1", "seed=1", "hydra.run.dir=run"),
    "a run that would write other files": ("strategy=l1", "export=[safetensors]", "hydra.run.dir=run"),
    "a run that cannot be, into a used folder": ("strategy=l1", "amount=1", "hydra.run.dir=run"),
}


@pytest.fixture(scope="module")
def home(cli, tmp_path_factory):
    """A folder with a finished run and a finished sweep; nobody changes it."""
    folder = tmp_path_factory.mktemp("home")
    for how in (("-m", LIST, "hydra.sweep.dir=sweep"), ("strategy=l1", "hydra.run.dir=run")):
        done = cli(*given(folder, *how), cwd=folder)
        assert done.returncode == 0, done.stderr
    return folder


def given(folder, *more):
    """A command line; `-m` comes first."""
    launched = ("-m", BASIC) if "-m" in more else ()
    return [*launched, *overrides(folder, *ROUND, *(item for item in more if item != "-m"))]


def only_line(done):
    assert (done.returncode, "Traceback" in done.stderr) == (1, False), done.stderr
    (line,) = done.stderr.splitlines()
    return line


def tree(folder):
    """Every file with its content, but for empty files of locks."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.stat().st_size}


@pytest.mark.parametrize("what", REFUSED)
def test_what_would_mix_two_runs_is_refused_and_changes_nothing(what, cli, home):
    before = tree(home)
    line = only_line(cli(*given(home, *REFUSED[what]), cwd=home))
    assert line.startswith("prunelab: ")
    assert tree(home) == before


def test_the_same_run_and_the_same_sweep_go_on(cli, home):
    rows = (home / "run" / "layers.csv").read_bytes()
    again = cli(*given(home, "strategy=l1", "hydra.run.dir=run"), cwd=home)
    assert (again.returncode, again.stderr) == (0, "")
    assert (home / "run" / "layers.csv").read_bytes() == rows
    before = (home / "sweep" / "0" / "summary.json").stat().st_mtime_ns
    swept = cli(*given(home, "-m", LIST, "hydra.sweep.dir=sweep"), cwd=home)
    assert (swept.returncode, swept.stderr) == (0, "")
    assert (home / "sweep" / "0" / "summary.json").stat().st_mtime_ns == before


def test_a_folder_in_which_nothing_was_planned_can_be_used_again(tmp_path):
    for number, rest in enumerate(({"error": "no such file"}, {"config": {"seed": 1}})):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "summary.json").write_text(json.dumps({"status": "failed", **rest}))
        run_lock.claim(folder, {"seed": 2}).release()


@pytest.mark.parametrize("times", [1, 2])
def test_a_run_removes_no_file_of_the_users(times, tmp_path):
    """`hydra.run.dir=.` beside the user's code, networks and logs, and above the folders of other runs."""
    others = ("model.py", "compact.py", "model.pth", "model.txt", "events.out.tfevents.1", "x/events.out.tfevents.1")
    others += ("outputs/2026-11-26/10-00-00/lr=1/events.out.tfevents.1", "x/summary.json", "x/rounds.csv")
    for name in others:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("mine")
    for _ in range(times):
        prunelab.run("model=lenet_300_100", *overrides(tmp_path, *ROUND), folder=tmp_path)
    assert all((tmp_path / name).read_text() == "mine" for name in others)
    assert len(list(tmp_path.glob("*/events.out.tfevents.*"))) == 2  # the board's own, and theirs


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # of TensorBoard's writer
@pytest.mark.parametrize("what", ["moved", "replaced", "replaced by a link", "removed"])
def test_a_folder_that_is_another_one_during_the_run_is_left_alone(what, tmp_path, monkeypatch):
    """Somebody renames it and starts another run there, for example."""
    folder, mine, begin = tmp_path / "run", tmp_path / "mine", RunFolder.begin

    def swap(self, round, stage):
        if round == 1:
            folder.rename(tmp_path / "moved")
            mine.mkdir()
            (mine / "summary.json").write_text("mine")
            {"replaced": mine.rename, "replaced by a link": lambda to: to.symlink_to(mine)}.get(what, bool)(folder)
            if what == "removed":
                shutil.rmtree(tmp_path / "moved")
        begin(self, round, stage)

    monkeypatch.setattr(RunFolder, "begin", swap)
    with pytest.raises(files.StorageError, match=r"moved or replaced during the run|No such file"):
        prunelab.run(composed(tmp_path, *ROUND), folder)
    others = folder if what == "replaced" else mine
    assert (others / "summary.json").read_text() == "mine"
    assert {path.name.split(".")[0] for path in others.iterdir()} <= {"summary", "events"}


@pytest.mark.parametrize("damaged", ["", "[]", "{", '{"plan": 1, "config": 3}', "[" * 200_000])
def test_a_used_folder_whose_summary_cannot_be_read_is_not_used(damaged, tmp_path):
    (tmp_path / "rounds.csv").write_text("round\n0\n")
    (tmp_path / "summary.json").write_text(damaged)
    with pytest.raises(ConfigError, match="holds a run of an"):
        run_lock.claim(tmp_path, {"seed": 2})


def test_while_a_folder_is_written_nobody_else_writes_and_reports_are_read(cli, home, tmp_path):
    shutil.copytree(home, tmp_path / "home")
    home = tmp_path / "home"
    before = tree(home)
    held = run_lock.write(home / "run"), notes.claim(home / "sweep", notes.Plan.read(home / "sweep").jobs)
    for how in (["strategy=l1", "hydra.run.dir=run"], ["-m", LIST, "hydra.sweep.dir=sweep"]):
        assert "writes into this folder" in only_line(cli(*given(home, *how), cwd=home))
    for command in ("compact", "export"):
        assert "writes into this folder" in only_line(cli(command, "run", cwd=home))
    assert tree(home) == before
    assert cli("report", "run", "--out", "report.html", cwd=home).returncode == 0
    for lock in held:
        lock.release()


def hold_for_ever(folder):
    kept = run_lock.write(folder)
    (folder / "held").touch()
    time.sleep(100)
    kept.release()


def test_the_lock_of_a_killed_process_is_gone(tmp_path):
    process = forked.process(hold_for_ever, tmp_path)
    while not (tmp_path / "held").exists():
        time.sleep(0.01)
    with pytest.raises(ConfigError, match="another process writes"):
        run_lock.claim(tmp_path, {})
    process.kill()
    process.join()
    run_lock.claim(tmp_path, {}).release()


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EIO])
def test_a_file_system_without_locks_is_one_line(code, tmp_path, monkeypatch):
    def without(file, how):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", without)
    for write in (lambda: run_lock.claim(tmp_path, {}), lambda: notes.claim(tmp_path, [])):
        with pytest.raises(files.StorageError, match=os.strerror(code)) as caught:
            write()
        assert "\n" not in str(caught.value)


def test_another_live_model_is_another_run(tmp_path):
    import torch

    def run(seed, folder="run"):
        torch.manual_seed(seed)
        model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10))
        return prunelab.run(composed(tmp_path, *ROUND), tmp_path / folder, model=model)

    first = run(0).rounds[-1].test_loss
    assert run(0).rounds[-1].test_loss == first
    with pytest.raises(ConfigError, match="another model or other data"):
        run(1)


def test_a_job_is_shown_by_its_config_and_not_by_its_number(home, tmp_path):
    sweep = tmp_path / "sweep"
    shutil.copytree(home / "sweep", sweep)
    assert [job.status for job in report.read_sweep(sweep)] == ["completed"] * 2
    for old, new in (("0", "x"), ("1", "0"), ("x", "1")):
        (sweep / old).rename(sweep / new)
    for job in report.read_sweep(sweep):
        assert (job.status, job.result, job.rounds, job.epochs, job.layers) == ("missing", {}, {}, [], {})


def test_rows_of_another_config_are_not_shown(home, tmp_path):
    shutil.copytree(home / "sweep" / "0", tmp_path / "0")
    whole = report.read_run(tmp_path / "0")
    assert len(whole.rounds) == 2
    for name in ("rounds.csv", "epochs.csv", "layers.csv"):
        shutil.copy(home / "sweep" / "1" / name, tmp_path / "0" / name)
    mixed = report.read_run(tmp_path / "0")
    assert (mixed.epochs, mixed.layers) == ([], {})
    assert mixed.rounds[1] == whole.result  # from the summary


def test_a_study_of_the_same_name_in_another_database_is_refused(tmp_path):
    from prunelab.sweeps.search.study import Study

    first = Study(f"sqlite:///{tmp_path}/a.db", tmp_path / "study", ["amount=0.3"], None)
    notes.Plan([], study=first.id).write(tmp_path / "study")
    assert Study(f"sqlite:///{tmp_path}/a.db", tmp_path / "study", ["amount=0.3"], None).id == first.id
    with pytest.raises(ConfigError, match="trials of another study"):
        Study(f"sqlite:///{tmp_path}/b.db", tmp_path / "study", ["amount=0.3"], None)


# As in HOSTILE.md, with processes of their own

SMALL = "threads=1 data.limit=2000 train.epochs=1 finetune.epochs=1"


def bash(script, folder):
    environment = {**os.environ, "F": SMALL, "PATH": f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"}  # noqa: PTH120
    return subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=280 * forked.PATIENCE,
    )


SECOND_SWEEP = """
python -m prunelab -m $F schedule.rounds=1 strategy=l1,erk,random hydra.sweep.dir=out >/dev/null
python -m prunelab -m $F schedule.rounds=1 strategy=global,uniform,lamp hydra.sweep.dir=out >b.txt & P=$!
until grep -q '1 of 3' b.txt; do sleep .05; done; kill -TERM $P; wait $P
grep lamp b.txt; python -m prunelab.report out; grep lamp out/report_results.csv
"""
TWO_RUNS = """
python -m prunelab $F strategy=l1 schedule.rounds=25 hydra.run.dir=out & A=$!; sleep {pause}
python -m prunelab $F strategy=random schedule.rounds=1 hydra.run.dir=out; echo second $?; wait $A; echo first $?
"""
TWO_SWEEPS = """
python -m prunelab -m $F strategy=l1,global schedule.rounds=3 hydra.sweep.dir=out & A=$!; sleep {pause}
python -m prunelab -m $F strategy=random,erk schedule.rounds=1 hydra.sweep.dir=out; echo second $?
wait $A; echo first $?
"""


@pytest.mark.slow
def test_a_second_sweep_shows_no_old_numbers_under_new_labels(tmp_path):
    done = bash(SECOND_SWEEP, tmp_path)
    shown = (tmp_path / "out" / "report_results.csv").read_text()
    assert "lamp" not in shown + (tmp_path / "b.txt").read_text()
    assert "random" in shown
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("pause", [0, 0.5, 3])
@pytest.mark.parametrize("script", [TWO_RUNS, TWO_SWEEPS], ids=["runs", "sweeps"])
def test_of_two_at_once_one_refuses(script, pause, tmp_path):
    done = bash(script.format(pause=pause), tmp_path)
    statuses = [line.split() for line in done.stdout.splitlines() if line.startswith(("first ", "second "))]
    assert sorted(status for _, status in statuses) == ["0", "1"], done.stdout + done.stderr
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("prunelab: "))
    assert "writes into this folder" in line
    for rows in (tmp_path / "out").rglob("rounds.csv"):
        summary = json.loads((rows.parent / "summary.json").read_text())
        with rows.open() as file:
            assert {row["config"] for row in csv.DictReader(file)} == {summary["digest"]}
        hydra = (rows.parent / ".hydra" / "overrides.yaml").read_text()
        assert f"strategy={summary['config']['strategy']['name']}" in hydra
    record("mixed", folders=0, refused=len(REFUSED))


@pytest.mark.slow
def test_a_sweep_whose_yaml_file_changed_is_refused(cli, tmp_path):
    group = tmp_path / "cfg" / "experiment"
    group.mkdir(parents=True)
    how = ("-m", "experiment=mine", "seed=0,1", "hydra.sweep.dir=sweep")
    for amount in (0.2, 0.3):
        (group / "mine.yaml").write_text(f"# @package _global_\namount: {amount}\n")
        done = cli("--config-dir", str(tmp_path / "cfg"), *given(tmp_path, *how), cwd=tmp_path)
        if amount == 0.2:
            assert done.returncode == 0, done.stderr
    assert "amount=0.2, not 0.3" in only_line(done)


@pytest.mark.slow
def test_a_sweep_that_was_killed_goes_on_and_another_one_is_refused(tmp_path):
    how = given(tmp_path, "-m", "hydra.sweep.dir=sweep")
    start = [sys.executable, "-m", "prunelab", *how]
    process = subprocess.Popen([*start, "seed=0,1,2"], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        if line.startswith("1 of 3 done"):
            process.send_signal(signal.SIGKILL)
            break
    process.communicate()
    other = subprocess.run([*start, "strategy=l1,erk,lamp"], cwd=tmp_path, capture_output=True, text=True)
    assert other.returncode == 1
    assert [job.overrides[-1] for job in report.read_sweep(tmp_path / "sweep")] == ["seed=0", "seed=1", "seed=2"]
    again = subprocess.run([*start, "seed=0,1,2"], cwd=tmp_path, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert [job.status for job in report.read_sweep(tmp_path / "sweep")] == ["completed"] * 3


def test_the_digest_leaves_out_what_changes_no_result():
    from prunelab.config.digest import digest

    config = plain(prunelab.compose())
    same_results = {"outputs": "elsewhere", "reuse": False, "trusted": ["mine"], "reference": {"note": "mended"}}
    for same in (*({key: value} for key, value in same_results.items()), {"key_of_tomorrow": None}):
        assert digest({**config, **same}) == digest(config)
    for key in config.keys() - same_results.keys():
        assert digest({**config, key: "other"}) != digest(config)
