"""What a killed command leaves is removed by the next one; what it had done is not lost."""

import shutil
import subprocess
import sys
import time

import pytest
from conftest import overrides, start
from harness import row

from prunelab.cli import stages as command
from prunelab.stages import files
from prunelab.stages.stage import Stage, State
from prunelab.stages.store import Store, sweep_up
from prunelab.sweeps import notes
from prunelab.tracking import run_lock

OLD, TEMPORARY = "0" * 32 + ".abc.old", "1" * 32 + ".abc.tmp"


def hidden(folder):
    return sorted(
        path.name for path in folder.rglob("*") if path.name.endswith((".tmp", ".old")) or ".export." in str(path)
    )


def litter(folder):
    """What kills leave in a run folder or a sweep's."""
    number = "0123456789ab"  # as many characters as a temporary name has
    (folder / ".export.ab_c1234" / "onnx").mkdir(parents=True)
    (folder / ".proof.ab_c1234").mkdir()
    for name in (f".summary.json.{number}.tmp", f".compact.safetensors.{number}.tmp", ".export.ab_c1234/onnx/x"):
        (folder / name).write_text("half")


@pytest.mark.parametrize(
    "claim", [run_lock.write, lambda f: run_lock.claim(f, {}), lambda f: notes.claim(f, [["a=1"]])]
)
def test_the_next_writer_of_a_folder_removes_what_was_left(claim, tmp_path):
    litter(tmp_path)
    mine = [".env", ".notes.tmp", ".export.sh", ".proof.tex"]
    for name in mine:
        (tmp_path / name).write_text("mine")
    claim(tmp_path).release()
    left = {path.name for path in tmp_path.iterdir() if path.name.startswith(".")}
    assert left - {".lock", ".locks"} == set(mine)


def test_a_link_among_what_was_left_leads_nowhere(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes").write_text("mine")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".export.ab_c1234").symlink_to(tmp_path / "mine")
    run_lock.write(tmp_path / "run").release()
    assert (tmp_path / "mine" / "notes").read_text() == "mine"
    assert not (tmp_path / "run" / ".export.ab_c1234").exists()


def stage(value):
    return Stage("dense", None, {"value": value}, lambda work: State({}, {}, row(0)))


def interrupted(*args, **more):
    raise KeyboardInterrupt


@pytest.mark.parametrize("how", ["run", "list", "verify", "remove"])
def test_the_next_command_removes_what_a_killed_removal_left(how, tmp_path, monkeypatch, capsys):
    root = tmp_path / "stages"
    Store(root).run(stage(1))
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", interrupted)  # as a kill there
        with pytest.raises(KeyboardInterrupt):
            files.remove_folder(root / stage(1).name)
    assert len(hidden(tmp_path)) == 1
    if how == "run":
        Store(root).run(stage(2))
    else:
        command.main(["--outputs", str(tmp_path), how, *(["--all"] if how == "remove" else [])])
    assert hidden(tmp_path) == []


def test_what_another_process_is_writing_stays(tmp_path):
    for name in (OLD, TEMPORARY):
        (tmp_path / name).mkdir()
    with Store(tmp_path).lock("1" * 32):
        sweep_up(tmp_path)
        assert hidden(tmp_path) == [TEMPORARY]
    sweep_up(tmp_path)
    assert hidden(tmp_path) == []


def test_a_stage_whose_files_cannot_be_removed_is_named(tmp_path, monkeypatch, capsys):
    Store(tmp_path / "stages").run(stage(1))
    monkeypatch.setattr(shutil, "rmtree", lambda *args, **more: None)
    assert command.main(["--outputs", str(tmp_path), "remove", "--all"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "cannot be removed" in line


@pytest.mark.slow
def test_a_killed_export_leaves_nothing_after_the_next_one(cli, tmp_path):
    assert cli(*overrides(tmp_path, "schedule.rounds=1", "hydra.run.dir=run"), cwd=tmp_path).returncode == 0
    process = start("export", "run", "safetensors", "csr", "--no-timing", cwd=tmp_path)
    while not hidden(tmp_path / "run"):
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.communicate()
    assert hidden(tmp_path / "run")
    assert cli("export", "run", "safetensors", "--no-timing", cwd=tmp_path).returncode == 0
    assert hidden(tmp_path / "run") == []


# Trials of a search


def killed_trial(folder, epochs):
    """A study with a trial whose process was killed once for each of these numbers of rows in its epochs.csv."""
    from optuna.trial import TrialState

    from prunelab.sweeps.search.space import Space
    from prunelab.sweeps.search.study import Search, Study

    study = Study(f"sqlite:///{folder}/s.db", folder / "study", ["amount=0.3"], None)
    search = Search(study, Space(["amount=0.3"], []), 1, 0)
    for rows in epochs:
        study.optuna.ask()
        (folder / "study" / "0").mkdir(parents=True, exist_ok=True)
        (folder / "study" / "0" / "epochs.csv").write_text("epoch\n" + "1\n" * rows)
        (trial,) = study.trials(TrialState.RUNNING)
        search._revive(trial)
    return study.trials()[0].state.name


def test_a_trial_that_makes_progress_at_every_try_goes_on(tmp_path):
    assert killed_trial(tmp_path, [6, 12, 18, 24, 30]) == "WAITING"


def test_a_trial_that_makes_none_is_given_up(tmp_path):
    assert killed_trial(tmp_path, [6, 6, 0]) == "FAIL"


@pytest.mark.slow
def test_a_trial_killed_three_times_completes(tmp_path):
    how = ["threads=1", "train.epochs=40", "finetune.epochs=1", "schedule.rounds=1", "data.limit=4000", "outputs=o"]
    words = [sys.executable, "-m", "prunelab.search", "amount=choice(0.3)", *how, "--trials", "1"]

    def epoch():
        folders = [int(path.name) for path in (tmp_path / "o" / "stages").glob("*.work/*") if path.name.isdigit()]
        return max(folders, default=0)

    for wanted in (6, 12, 18):
        process = subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.DEVNULL)
        while epoch() < wanted:
            assert process.poll() is None
            time.sleep(0.1)
        process.kill()
        process.wait()
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 of 1 done" in done.stdout
