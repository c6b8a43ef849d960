"""Folders, studies and config files from a stranger: opening them does nothing but read."""

import contextlib
import hashlib
import json
import os
import re
import shutil
import sqlite3
import sys
from pathlib import Path

import pytest
import torch
from conftest import BASIC
from harness import record, row
from safetensors.torch import save

from prunelab import compose, run
from prunelab.cli import compact as compact_command
from prunelab.cli import export as export_command
from prunelab.cli import main as entry
from prunelab.cli import report as report_command
from prunelab.cli import search
from prunelab.cli import stages as stages_command
from prunelab.config import conf_folder
from prunelab.config.allow_list import KEYS, TORCH, locate, registered
from prunelab.config.conf_folder import choices, content
from prunelab.config.foreign import check_command_line
from prunelab.errors import ConfigError
from prunelab.exports import checkpoint, finished_run
from prunelab.report import dashboard
from prunelab.stages import files
from prunelab.stages.checkpoint import Work
from prunelab.stages.stage import Stage, State
from prunelab.stages.store import Store
from prunelab.sweeps.search import space

EVIL = "_target_: os.mkdir, path: CANARY"
# Functions of prunelab's own and torch's that write, download or run something, and that nothing registers.
NAMES = (
    "prunelab.data.cache.downloaded",
    "prunelab.data.cache.cached",
    "prunelab.data.cache.write_file",
    "prunelab.data.dataset.Dataset",
    "prunelab.models.lenet.nn.Module",
    "prunelab.config.compose.new_folder",
    "prunelab.stages.files.remove_folder",
    "prunelab.experiment.api.run",
    "prunelab.training.callbacks.base.Callback",
    "torch.optim.Optimizer",
    "torch.optim.swa_utils.AveragedModel",
    "torch.nn.utils.prune.global_unstructured",
    "torchvision.models.resnet18",
    "torchvision.models.get_model",
    "torch.hub.load",
    "hydra.utils.instantiate",
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run and its stages."""
    home = tmp_path_factory.mktemp("finished")
    how = ["data.limit=60", "train.epochs=1", "finetune.epochs=1", "schedule.rounds=1", "threads=1"]
    run(compose(*how, "model=lenet_300_100", f"outputs={home}/outputs"), home / "run")
    return home


@pytest.fixture
def gift(finished, tmp_path, monkeypatch):
    """A received run folder; the working directory is beside it."""
    shutil.copytree(finished / "run", tmp_path / "gift")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "gift"


def rewrite(folder, **changes):
    """Change the config in a folder's summary."""
    said = json.loads((folder / "summary.json").read_bytes())
    said["config"] |= changes
    (folder / "summary.json").write_text(json.dumps(said))


# Names


@pytest.mark.parametrize("key", KEYS)
def test_what_conf_names_is_registered_and_nothing_else(key):
    part, _, leaf = key.partition(".")
    nodes = [content(part, choice).get(part) or {} for choice in choices(part)]
    assert registered(key) == {*(node[leaf] for node in nodes if node.get(leaf)), *TORCH.get(key, ())}
    for name in registered(key):
        assert callable(locate(name, key))


@pytest.mark.parametrize("key", KEYS)
def test_a_prefix_is_not_enough(key):
    for name in (*NAMES, *(other for one in KEYS if one != key for other in sorted(registered(one))[:1])):
        with pytest.raises(ConfigError, match="is none of prunelab's own"):
            locate(name, key)


# A run folder


def test_a_received_run_downloads_and_overwrites_nothing(gift, tmp_path, capsys):
    """H1: a data set that is prunelab's own function for downloads."""
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "payload").write_text("mine")
    served = tmp_path / "served"
    served.write_text("PWNED")
    wanted = {"payload": hashlib.md5(b"PWNED", usedforsecurity=False).hexdigest()}
    where = {"name": str(tmp_path / "home"), "files": wanted, "mirrors": [f"file://{tmp_path}/"]}
    rewrite(gift, data={"_target_": "prunelab.data.cache.downloaded", **where})
    for command in (compact_command, export_command):
        assert command.main([str(gift)]) == 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert all("data._target_=prunelab.data.cache.downloaded: is none of" in line for line in said)
    assert (tmp_path / "home" / "payload").read_text() == "mine"


def test_an_interpolation_in_a_summary_stays_text(gift, monkeypatch):
    """H5, and a resolver that makes folders."""
    monkeypatch.setenv("MY_SECRET", "hunter2")
    text = ["${oc.env:MY_SECRET}", "${new_folder:CANARY}", "${oc.decode:${oc.env:MY_SECRET}}"]
    rewrite(gift, x=text, train={"epochs": 1, "x": text[0]}, outputs=text[1], device=text[2])
    checkpoint.save(gift, finished_run.read(gift, stale=True))
    assert report_command.main([str(gift)]) == 0
    assert not [path for path in gift.rglob("*") if path.is_file() and b"hunter2" in path.read_bytes()]
    assert json.loads((gift / "model.json").read_bytes())["config"]["x"] == text
    assert not Path("CANARY").exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"trusted": ["os"], "model": {"_target_": "os.mkdir", "path": "CANARY"}}, "model._target_=os.mkdir"),
        ({"model": {"_target_": "torchvision.models.resnet18", "weights": "DEFAULT"}}, "torchvision.models.resnet18"),
        ({"model": {"_target_": "prunelab.models.deep_mlp.DeepMLP", "depth": "x"}}, "the config: builds no network"),
        ({"model": {"_target_": "prunelab.models.deep_mlp.DeepMLP", "width": 10**30}}, "the config: builds no network"),
        ({"model": {"_target_": "prunelab.models.lenet.LeNet"}}, "does not fit the model"),
        ({"model": "lenet"}, "model=lenet: must be a mapping"),
        ({"strategy": 3}, "the config: builds no network"),
        ({"regularizer": {"_target_": "os.mkdir"}}, "regularizer._target_=os.mkdir"),
        ({"data": {"_target_": "prunelab.data.synthetic.synthetic", "shape": 3}}, "the config: builds no network"),
    ],
)
def test_a_received_config_is_refused_in_one_line(changes, said, gift, capsys):
    rewrite(gift, **changes)
    assert compact_command.main([str(gift)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert not Path("CANARY").exists()


def test_weights_are_never_downloaded(gift, tmp_path, monkeypatch):
    """Even from a package that this command line trusts: the weights are in the folder."""
    module = (
        "import torch\ndef net(**more):\n    return torch.hub.load_state_dict_from_url('http://localhost:1/x.pt')\n"
    )
    (tmp_path / "downloading.py").write_text(module)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    rewrite(gift, model={"_target_": "downloading.net"})
    with pytest.raises(ConfigError, match="is not downloaded"):
        finished_run.load(gift, ["downloading"])


@pytest.mark.parametrize("name", ["../../evil", "/tmp/evil", "a/../../evil"])
def test_names_in_a_folder_make_no_path(name, gift, tmp_path):
    said = json.loads((gift / "summary.json").read_bytes())
    said |= {"command": f"prunelab {name}=1 strategy={name}", "cost": [{"form": name}], "seed": name}
    (gift / "summary.json").write_text(json.dumps(said))
    shutil.copytree(gift, tmp_path / "sweep" / "0")
    (tmp_path / "sweep" / "sweep.json").write_text(json.dumps({"jobs": [[f"strategy={name}"], [name]]}))
    before = {path for path in tmp_path.parent.rglob("*") if not path.is_relative_to(tmp_path / "sweep")}
    assert report_command.main([str(tmp_path / "sweep")]) == 0
    dashboard.write(tmp_path / "sweep")
    assert {path for path in tmp_path.parent.rglob("*") if not path.is_relative_to(tmp_path / "sweep")} == before


def test_no_file_in_a_strangers_folder_stands_for_a_package(gift, monkeypatch):
    """`cd gift && prunelab report .`, with a `jinja2.py` or a folder `hydra_plugins` in it: it is on no path."""
    monkeypatch.chdir(gift)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path not in ("", str(gift))])
    before = list(sys.path)
    for command in (["report", "."], ["compact", "."], ["stages", "list"]):
        entry._subcommand(command[0], command[1:])
        assert sys.path == before


# Links


@pytest.fixture
def notes(tmp_path):
    """A file and a folder of the user's, which links lead to."""
    (tmp_path / "home" / "2024").mkdir(parents=True)
    (tmp_path / "home" / "2024" / "photo").write_text("mine")
    (tmp_path / "home" / "notes").write_text("mine")
    yield tmp_path / "home"
    assert sorted(str(path.relative_to(tmp_path / "home")) for path in (tmp_path / "home").rglob("*")) == [
        "2024",
        "2024/photo",
        "notes",
    ]
    assert (tmp_path / "home" / "notes").read_text() == (tmp_path / "home" / "2024" / "photo").read_text() == "mine"


def link(path, target):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.symlink_to(target)


def test_a_report_replaces_links(gift, notes):
    """H7."""
    for name in ("report.md", "report.html", "report_results.csv", "report_runs.csv"):
        link(gift / name, notes / "notes")
    assert report_command.main([str(gift)]) == 0
    assert not (gift / "report.md").is_symlink()
    assert "# Pruning report" in (gift / "report.md").read_text()


def test_compact_and_export_replace_links(gift, notes):
    for name in ("compact.json", "compact.safetensors"):
        link(gift / name, notes / "notes")
    link(gift / "model.json", notes / "missing")
    assert compact_command.main([str(gift)]) == 0
    checkpoint.save(gift, finished_run.read(gift, stale=True))
    assert not any((gift / name).is_symlink() for name in ("compact.json", "model.json"))


def test_a_run_and_a_sweep_replace_links(cli, tmp_path, notes):
    """A run and a sweep into received folders, whose every file is a link, some to files that do not exist."""
    small = ["data.limit=60", "train.epochs=0", "finetune.epochs=0", "schedule.rounds=1", "threads=1"]
    for at, name in enumerate(("rounds.csv", "epochs.csv", "summary.json", "prunelab.log", "model.safetensors")):
        for folder in ("gift", "gifts/0"):
            link(tmp_path / folder / name, notes / ("notes", "missing")[at % 2])
    for name in ("config.yaml", "hydra.yaml"):
        link(tmp_path / "gift" / ".hydra" / name, notes / "notes")
    for name in ("gifts/0/.hydra", "gifts/1", "gifts/.locks", "gifts/summary"):
        link(tmp_path / name, notes)
    for name in ("gifts/multirun.yaml", "gifts/sweep.json", "gifts/0/tries.json"):
        link(tmp_path / name, notes / "notes")
    for how in (["hydra.run.dir=gift"], ["-m", BASIC, "seed=0,1", "hydra.sweep.dir=gifts"]):
        done = cli(*how, *small, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "gifts" / "1" / "summary.json").is_file()
    assert not [path for path in (tmp_path / "gift").rglob("*") if path.is_symlink()]


@pytest.mark.slow
def test_a_run_and_a_sweep_replace_second_names_of_files(cli, tmp_path, notes):
    """Hard links, in a folder on a shared disk: what is opened in place, and what is replaced."""
    small = ["data.limit=60", "train.epochs=0", "finetune.epochs=0", "schedule.rounds=1", "threads=1"]
    opened = (".lock", "prunelab.log", *(f".hydra/{name}.yaml" for name in ("config", "hydra", "overrides")))
    names = [f"{folder}/{name}" for folder in ("gift", "gifts/0") for name in (*opened, "rounds.csv", "report.md")]
    for name in (*names, "gifts/multirun.yaml", "gifts/.locks/sweep.lock", "gifts/.locks/0.lock", "outputs/stages/x"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).hardlink_to(notes / "notes")
    for how in (["hydra.run.dir=gift"], ["-m", "seed=0,1", "hydra.sweep.dir=gifts"]):
        done = cli(*how, *small, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert cli("report", how[-1].partition("=")[2], cwd=tmp_path).returncode == 0


@pytest.mark.parametrize("place", ["{}.work", "locks", "locks/{}.lock", "damaged", "{}"])
def test_a_stage_store_replaces_links(place, tmp_path, notes, capsys):
    """A received store: the folder of checkpoints could be one with numbers for names, which are removed."""
    stage = Stage("dense", None, {}, lambda work: State({"w": torch.ones(2)}, {}, row(0)))
    root = tmp_path / "outputs" / "stages"
    link(root / place.format(stage.name), notes / "notes" if place.endswith("lock") else notes)
    if place == "damaged":
        (root / stage.name).mkdir()
    Work(root / f"{stage.name}.work", stage.name).save({"epoch": 1})
    assert Store(root).run(stage).weights["w"].tolist() == [1, 1]
    link(root / place.format(stage.name), notes / "notes" if place.endswith("lock") else notes)
    for command in (["verify"], ["list"], ["remove", "--all"]):
        stages_command.main(["--outputs", str(tmp_path / "outputs"), *command])


# A config folder

CONFIGS = {
    "callbacks": f"hydra: {{callbacks: {{e: {{{EVIL}}}}}}}",
    "no callback of ours": "hydra: {callbacks: {sweep: null}}",
    "factory of a formatter": "hydra: {job_logging: {formatters: {file: {(): os.mkdir, path: CANARY}}}}",
    "class of a handler": "hydra: {job_logging: {handlers: {file: {class: os.mkdir}}}}",
    "file of a handler": "hydra: {job_logging: {handlers: {file: {filename: CANARY}}}}",
    "factory in hydra_logging": "hydra: {hydra_logging: {filters: {x: {(): os.mkdir, path: CANARY}}}}",
    "launcher": f"hydra: {{launcher: {{{EVIL}}}}}",
    "inside a launcher": f"hydra: {{launcher: {{x: {{{EVIL}}}}}}}",
    "text for a launcher": "hydra: {launcher: {setup: [touch CANARY]}}",
    "sweeper": f"hydra: {{sweeper: {{{EVIL}}}}}",
    "trusted": "trusted: [os]",
    "trusted by a sweep": "hydra: {mode: MULTIRUN, sweeper: {params: {trusted: '[os]'}}}",
    "callbacks by a sweep": "hydra: {mode: MULTIRUN, sweeper: {params: {'+hydra.callbacks.e': x}}}",
    "package by a sweep": "hydra: {sweeper: {params: {'+model@hydra.callbacks.e': lenet}}}",
    "environment": "hydra: {job: {env_set: {LD_PRELOAD: x.so}}}",
    "outputs": "outputs: CANARY",
    "run folder": "hydra: {run: {dir: CANARY}}",
    "sweep folder": "hydra: {sweep: {dir: CANARY}}",
    "job folder": "hydra: {sweep: {subdir: ../../CANARY}}",
    "its own folder": "hydra: {output_subdir: ../CANARY}",
    "name of the log": "hydra: {job: {name: ../CANARY}}",
    "working folder": "hydra: {job: {chdir: true}}",
    "overrides": "trusted: [os]\nhydra: {overrides: {task: ['trusted=[os]']}}",
    "environment read": "model: {x: '${oc.env:HOME}'}",
    "folder made": "rewind: '${new_folder:CANARY}'",
    "resolver of a resolver": "rewind: '${${oc.env:HOME}:CANARY}'",
    "defaults list": "defaults:\n  - override /model: ${new_folder:CANARY}",
    "defaults list with a bad date": "x: 2026-99-99\ndefaults:\n  - override /model: ${new_folder:CANARY}",
    "path": "defaults:\n  - override /model: ../../cfg/other/evil",
    "logging of theirs": "defaults:\n  - override /hydra/job_logging: ../../../cfg/other/evil",
    "no hydra": "hydra: null",
    "keys that are no texts": "hydra: {1: 2, true: {2.5: 3}}",
    "very deep": f"seed: {'[' * 800}{']' * 800}",
    "aliases of aliases": "\n".join(["a0: &a0 [x]", *(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 30))]),
    "alias of itself": "a: &a [*a]",
    "package": "defaults:\n  - /other@hydra.callbacks.e: evil",
    "launcher of theirs": "defaults:\n  - override /hydra/launcher: evil",
}


@pytest.fixture
def stranger(tmp_path, monkeypatch):
    """A stranger's config folder; returns a function that writes an experiment into it."""
    monkeypatch.chdir(tmp_path)
    for path in ("cfg/other/evil.yaml", "cfg/hydra/launcher/evil.yaml"):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_text("_target_: os.mkdir\npath: CANARY\n")
    (tmp_path / "cfg" / "experiment").mkdir()

    def write(text):
        (tmp_path / "cfg" / "experiment" / "e.yaml").write_text(f"# @package _global_\n{text}\n")
        return ["--config-dir", "cfg", "experiment=e"]

    yield write
    assert not Path("CANARY").exists()


@pytest.mark.parametrize("text", CONFIGS.values(), ids=CONFIGS)
def test_a_config_file_decides_nothing_but_the_experiment(text, stranger):
    with pytest.raises(ConfigError) as caught:
        check_command_line(stranger(text))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "more"),
    [
        ("amount: 0.3\nrewind: ${train.epochs}", []),
        ("hydra: {mode: MULTIRUN, sweeper: {params: {seed: '0,1'}}}", []),
        ("defaults:\n  - override /hydra/launcher: basic\n  - override /strategy: l1", ["-m"]),
        ("amount: 0.3", ["outputs=mine", "trusted=[theirs]", "hydra.run.dir=here", "+hydra.callbacks.x.y=1"]),
        ("amount: 0.3", ["hydra.verbose=true", "seed=${oc.env:HOME}"]),
    ],
)
def test_a_config_file_of_yours_still_works(text, more, stranger):
    check_command_line([*stranger(text), *more])


def test_a_folder_of_config_files_holds_no_links_to_folders_and_no_pipes(stranger):
    """Hydra follows such links; a pipe would be waited for."""
    flags = stranger("amount: 0.3")
    link(Path("cfg/experiment/more"), Path("cfg/other").resolve())
    with pytest.raises(ConfigError, match="is a link to a folder"):
        check_command_line(flags)
    Path("cfg/experiment/more").unlink()
    os.mkfifo("cfg/experiment/pipe.yaml")
    with pytest.raises(ConfigError, match=r"pipe.yaml: must be a file"):
        check_command_line(flags)


@pytest.mark.parametrize("given", ["null", "3", "cfg", "choice([cfg],[])"])
def test_a_search_path_is_a_list(given):
    with pytest.raises(ConfigError, match=f"hydra.searchpath={re.escape(given)}: must be a list of folders"):
        check_command_line([f"hydra.searchpath={given}"])


@pytest.mark.parametrize(
    "given", ["experiment={}", "+experiment=[{}]", "model=lenet,{}", "+experiment/../x={}", "--config-name={}"]
)
def test_a_choice_is_no_path(given, tmp_path, stranger):
    """Hydra would read the file as one of prunelab's own."""
    stranger(CONFIGS["callbacks"])
    given = given.format(os.path.relpath(tmp_path / "cfg/experiment/e", conf_folder.folder() / "experiment"))
    with pytest.raises(ConfigError, match=r"not a path|must be the name of a file"):
        check_command_line([given])
    if not given.startswith("-"):
        with pytest.raises(ConfigError, match="not a path"):
            compose(given)


def test_the_same_file_by_a_search_path(stranger):
    stranger(CONFIGS["callbacks"])
    for path in ("cfg", f"file://{Path('cfg').resolve()}"):
        with pytest.raises(ConfigError, match=r"hydra.callbacks.e._target_=os.mkdir: is set by a config file"):
            check_command_line(["experiment=e", f"hydra.searchpath=['{path}']"])
    with pytest.raises(ConfigError, match="only `prunelab run`"):
        compose("experiment=e", "hydra.searchpath=[cfg]")


@pytest.mark.parametrize(
    "flags", [["--experimental-rerun", "x.pickle"], ["--experimental-re=x"], ["--config-path", "/x"], ["-cp", "/x"]]
)
def test_flags_that_replace_prunelab_are_refused(flags):
    with pytest.raises(ConfigError, match=r"unpickles|must be --config-dir"):
        check_command_line(flags)


def test_nothing_runs_before_the_refusal(cli, tmp_path, stranger):
    """H8, and a sweep of which only the second job's file is evil."""
    stranger(CONFIGS["callbacks"])
    (tmp_path / "cfg" / "experiment" / "good.yaml").write_text("# @package _global_\namount: 0.3\n")
    for how in (["experiment=e"], ["-m", "experiment=good,e", "hydra.sweep.dir=swept"]):
        done = cli("--config-dir", str(tmp_path / "cfg"), *how, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (1, "")
        (line,) = done.stderr.splitlines()
        assert "hydra.callbacks.e._target_=os.mkdir" in line
    assert not list(tmp_path.glob("swept/*/summary.json"))


# A study


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The database of a study without trials."""
    pytest.importorskip("optuna")
    from prunelab.sweeps.search.study import Study

    folder = tmp_path_factory.mktemp("study")
    Study(f"sqlite:///{folder}/search.db", folder / "search", ["amount=interval(0.1,0.5)"], None)
    return folder / "search.db"


@pytest.fixture
def plant(study, tmp_path, monkeypatch):
    """Return a function that puts a study into the working directory, with other overrides in its database."""
    monkeypatch.chdir(tmp_path)
    Path("outputs/searches").mkdir(parents=True)

    def planted(overrides):
        shutil.copy(study, "outputs/searches/search.db")
        with contextlib.closing(sqlite3.connect("outputs/searches/search.db")) as database:
            command = "update study_user_attributes set value_json=? where key='overrides'"
            database.execute(command, (json.dumps(overrides),))
            database.commit()

    return planted


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["trusted=[os]", "model._target_=os.mkdir", "+model.path=CANARY"], "model._target_=os.mkdir: is none of"),
        (["++trusted=[os]", "++model._target_='os.mkdir'"], "model._target_=os.mkdir: is none of"),
        (["trusted=choice([os])", "model._target_=choice(os.mkdir,os.rmdir)"], "model._target_=choice"),
        (["strategy=custom", "strategy.method=os.mkdir"], "strategy.method=os.mkdir: is none of"),
        (["hydra.job.env_set.X=1"], "hydra.job.env_set.X=1: is in the database"),
        (["+hydra/callbacks=x"], "is in the database"),
        (["hydra={callbacks:{e:{_target_:os.mkdir}}}"], "is in the database"),
        (["+model@hydra.callbacks.e=lenet"], "is in the database"),
        (["model.x=${oc.env:HOME}"], "is in the database"),
        (["amount=${new_folder:CANARY}"], "is in the database"),
    ],
)
def test_the_overrides_of_a_study_say_nothing_but_values(overrides, said):
    with pytest.raises(ConfigError) as caught:
        space.stored(overrides, [])
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["trusted=[os]", "model._target_=os.mkdir", "+model.path=CANARY"], "model._target_=os.mkdir: is none of"),
        (["model=../../../cfg/evil"], "model=../../../cfg/evil: must be the name of a choice, not a path"),
        ([["trusted=[os]"]], "must be a list of texts"),
        (None, "must be a list of texts"),
    ],
)
def test_a_received_study_runs_nothing(overrides, said, plant, capsys):
    """H2."""
    plant(overrides)
    assert search.main(["--trials", "1"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert not Path("CANARY").exists()


@pytest.mark.parametrize(
    "change",
    [
        "delete from trial_values",
        "update trial_values set value='abc'",
        "update trial_params set distribution_json="
        """'{"name": "CategoricalDistribution", "attributes": {"choices": [0.1, 0.2]}}', param_value=0""",
    ],
)
def test_the_trials_of_a_study_are_numbers(change, plant, capsys):
    from prunelab.sweeps.search.study import Study

    plant(["amount=interval(0.1,0.5)"])
    storage = "outputs/searches/search.db"
    opened = Study(f"sqlite:///{storage}", Path("outputs/searches/search"), [], None)
    trial = opened.optuna.ask()
    trial.set_user_attr("chosen", ["amount=0.2"])
    trial.set_user_attr("overrides", ["amount=0.2"])
    trial.suggest_float("amount", 0.1, 0.5)
    opened.optuna.tell(trial, [0.5, 3])
    with contextlib.closing(sqlite3.connect(storage)) as database:
        database.execute(change)
        database.commit()
    assert search.main(["--trials", "2"]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_the_journal_of_a_received_study_deletes_no_file(plant, notes, capsys):
    """SQLite rolls back what a killed process left; a journal may name a file that it deletes then."""
    plant(["amount=interval(0.1,0.5)"])
    path = Path("outputs/searches/search.db")
    content = path.read_bytes()
    with contextlib.closing(sqlite3.connect(path)) as database:  # as killed in the middle of a transaction
        database.execute("pragma cache_size=1")
        database.execute("begin")
        database.execute(
            "create table x as with recursive n(i) as (select 1 union all select i + 1 from n limit 999) "
            "select i, zeroblob(3000) from n"
        )
        journal = Path(f"{path}-journal").read_bytes()
    name = os.fsencode(notes / "notes")
    numbers = [number.to_bytes(4, "big") for number in (2**30 // 4096 + 1, len(name), sum(name))]
    journal += numbers[0] + name + numbers[1] + numbers[2]
    path.write_bytes(content)
    Path(f"{path}-journal").write_bytes(journal + bytes.fromhex("d9d505f920a163d7"))
    assert search.main(["--trials", "1"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "search.db-journal names another file, which SQLite would delete" in line


def test_folders_and_trust_of_a_study_are_those_of_this_command_line(plant):
    from prunelab.sweeps.search.study import Study

    plant(["outputs=/elsewhere", "trusted=[os]", "amount=interval(0.1,0.5)"])
    opened = Study("sqlite:///outputs/searches/search.db", Path("outputs/searches/search"), [], None)
    assert opened.overrides == ["amount=interval(0.1,0.5)"]
    assert space.parse(opened.overrides, ["trusted=[mine]"]).fixed == ["trusted=[mine]"]


@pytest.mark.parametrize("storage", ["text", "other", "mysql://nobody@nowhere/x"])
def test_what_is_no_study_is_one_line(storage, plant, capsys):
    """H9."""
    Path("text").write_text("no database " * 500)
    plant(["amount=interval(0.1,0.5)"])
    shutil.copy("outputs/searches/search.db", "other")
    with contextlib.closing(sqlite3.connect("other")) as database:
        database.execute("update study_user_attributes set value_json='[[['")
        database.commit()
    assert search.main(["--trials", "1", "--storage", storage]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1


# What cannot be read


@pytest.mark.parametrize("depth", [200_000, 900])
def test_a_deep_summary_is_one_line(depth, gift, capsys):
    (gift / "summary.json").write_text('{"status": "completed", "config": ' + "[" * depth + "]" * depth + "}")
    assert compact_command.main([str(gift)]) == 1
    assert report_command.main([str(gift)]) == 0
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_summary_that_is_a_pipe_is_not_waited_for(gift, capsys):
    for name in ("summary.json", "rounds.csv", "masks.safetensors"):
        (gift / name).unlink()
        os.mkfifo(gift / name)
    assert compact_command.main([str(gift)]) == 1
    assert report_command.main([str(gift)]) == 0
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("content", ["{}", "[]", '{"round": "x"}', "null", "3", '{"round": {"a": 1}}'])
def test_a_stage_with_a_strange_record_is_set_aside(content, tmp_path):
    """H9: a record with the right digest, of the wrong type."""
    stage = Stage("dense", None, {}, lambda work: State({"w": torch.ones(2)}, {}, row(0)))
    Store(tmp_path).run(stage)
    whole = files.read_folder(tmp_path / stage.name)
    files.write_folder(tmp_path / stage.name, {**whole, "round.json": content.encode()})
    found = Store(tmp_path).load(stage.name)
    assert found is None or (content == "null" and found.record is None)


def test_a_stage_of_other_tensors_is_one_line(finished, tmp_path):
    shutil.copytree(finished / "outputs", tmp_path / "outputs")
    for folder in (tmp_path / "outputs" / "stages").glob("*[0-9a-f]"):
        if (folder / "weights.safetensors").is_file():
            whole = files.read_folder(folder)
            files.write_folder(folder, {**whole, "weights.safetensors": save({"fc1.weight": torch.ones(1)})})
    how = ["data.limit=60", "train.epochs=1", "finetune.epochs=1", "schedule.rounds=1", "threads=1"]
    with pytest.raises(ConfigError, match=r"stages/\w+: is damaged or does not fit"):
        run(compose(*how, "model=lenet_300_100", f"outputs={tmp_path}/outputs"), tmp_path / "run")


@pytest.mark.parametrize("command", [["list"], ["verify"], ["remove", "--all"]])
def test_stages_without_permission_are_one_line(command, finished, monkeypatch, capsys):
    """H9. Root may read everything, so the refusal is simulated."""

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied", "stages")

    for name in ("iterdir", "read_bytes", "rename"):
        with monkeypatch.context() as patch:
            patch.setattr(Path, name, refuse)
            code = stages_command.main(["--outputs", str(finished / "outputs"), *command])
        said = capsys.readouterr().err.splitlines()
        assert len(said) == code


@pytest.mark.slow
def test_the_figures_for_the_readme():
    """Only if all tests of this file pass do these figures stand; they count its members."""
    record("foreign", configs=len(CONFIGS), names=len(NAMES) * len(KEYS), executed=0, written_outside=0)
