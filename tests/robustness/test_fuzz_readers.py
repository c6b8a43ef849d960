"""Every reader of files, with content of every kind: it is read or refused in one line, and nothing is written."""

import contextlib
import copy
import functools
import json
import os
import shutil
import sqlite3
from pathlib import Path

import pytest
import torch
from harness import is_full, record, row, sizes
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from prunelab import compose, run
from prunelab.cli import report as report_command
from prunelab.cli import stages as stages_command
from prunelab.cli.runs import comparison, listing
from prunelab.compaction import compact_files
from prunelab.errors import ConfigError
from prunelab.exports import finished_run
from prunelab.report import mask_pictures, sweep_text
from prunelab.report.page import sweep_command
from prunelab.report.results_frame import frame
from prunelab.report.run_folders import find_runs, read_sweep
from prunelab.runtime.json_data import parse_json
from prunelab.stages import files
from prunelab.stages.checkpoint import Work
from prunelab.stages.files import StorageError
from prunelab.stages.stage import Stage, State
from prunelab.stages.store import Store
from prunelab.sweeps.notes import Plan, Tries

ODD = st.sampled_from(
    ["../../x", "/etc/passwd", "${oc.env:HOME}", "${new_folder:evil}", "\x1b[2J\x00", "os.system", "nan", "é", "\ud800"]
)
NUMBERS = st.one_of(st.integers(-3, 3), st.integers(), st.just(10**400), st.floats(), st.just(1e308))
LEAVES = st.one_of(st.none(), st.booleans(), NUMBERS, st.text(max_size=5), ODD)
KEYS = st.one_of(st.sampled_from(["_target_", "folder", "status", "config", "0"]), st.text(max_size=3), ODD)
JSON = st.recursive(LEAVES, lambda x: st.one_of(st.lists(x, max_size=4), st.dictionaries(KEYS, x, max_size=4)))
BYTES = st.one_of(
    st.binary(max_size=200),
    st.sampled_from([b"[" * 200_000, b'{"a":' * 200_000, b"", b"null", b"\xff\xfe", (2**62).to_bytes(8, "little")]),
    st.tuples(st.integers(0, 300), st.binary(max_size=300)).map(lambda x: x[0].to_bytes(8, "little") + x[1]),
)


def places(value, path=()):
    """The paths to all values in nested JSON."""
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inner:
        yield from places(item, (*path, key))


def changed(data, original):
    """The same JSON with one or two values replaced or removed, or other bytes."""
    if data.draw(st.integers(0, 9)) == 0:
        return data.draw(BYTES)
    whole = copy.deepcopy(original)
    for _ in range(data.draw(st.integers(1, 2))):
        path = data.draw(st.sampled_from(list(places(whole))))
        new = data.draw(JSON)
        if not path:
            return json.dumps(new).encode()
        node = whole
        for key in path[:-1]:
            node = node[key]
        if data.draw(st.integers(0, 3)):
            node[path[-1]] = new
        else:
            del node[path[-1]]
    return json.dumps(whole).encode()


def damaged(data, content):
    """A binary file, cut, flipped, or replaced."""
    kind = data.draw(st.sampled_from(["cut", "flip", "other"]))
    if kind == "other" or not content:
        return data.draw(BYTES)
    at = data.draw(st.integers(0, len(content) - 1))
    if kind == "cut":
        return content[:at]
    return content[:at] + bytes([content[at] ^ 1 << data.draw(st.integers(0, 7))]) + content[at + 1 :]


@pytest.fixture(scope="module")
def gift(tmp_path_factory):
    """A finished run with a compact network, a stage, and the files of a sweep, which a test then damages."""
    home = tmp_path_factory.mktemp("gift")
    how = ["data.limit=60", "train.epochs=1", "finetune.epochs=1", "schedule.rounds=1", "threads=1"]
    how += ["model=lenet_300_100", "strategy=channel", "latency=false", f"outputs={home}/outputs"]
    run(compose(*how), home / "run")
    (home / "run" / "sweep.json").write_text('{"jobs": [["strategy=l1"], ["seed=1"]], "turn": null}')
    (home / "run" / "tries.json").write_text('{"tries": 1, "epochs": 1, "ended": true}')
    (home / "run" / "multirun.yaml").write_text("hydra: {overrides: {hydra: [], task: [a=1]}}")
    return home


def tree(folder):
    return {path: path.lstat().st_mtime_ns for path in folder.rglob("*")}


def attempt(read, tops):
    """Call a reader; whatever is wrong is one line, and no file is new or other."""
    before = [tree(top) for top in tops]
    said = ""
    try:
        read()
    except (ConfigError, StorageError) as error:
        said = str(error)
    assert "\n" not in said
    assert [tree(top) for top in tops] == before


def report(folder):
    runs = find_runs([folder, folder.parent / "second"])
    frame(runs)
    sweep_text(runs)
    listing(runs)
    if runs:
        comparison(runs[0], runs[-1])
    for one in runs:
        _ = (one.seed, one.seconds, one.error, one.final, one.rounds, one.epochs, one.layers, one.cost)
        mask_pictures.picture("label", one)
    sweep_command(folder)
    Tries.read(folder)


def sweep(folder):
    try:
        sweep_text(read_sweep(folder))
        Plan.read(folder)
    except (OSError, ValueError, KeyError, TypeError):
        pass  # what `_sweep` answers by the folders that exist


READERS = {
    "summary.json": (report, finished_run.load, compact_files.of_run),
    "compact.json": (compact_files.of_run,),
    "sweep.json": (report, sweep),
    "tries.json": (report,),
    "multirun.yaml": (report,),
    "rounds.csv": (report,),
    "layers.csv": (report,),
    "model.safetensors": (finished_run.load,),
    "masks.safetensors": (finished_run.load, report),
    "compact.safetensors": (compact_files.of_run,),
}


def fuzz(examples):
    """The settings of all fuzz tests."""
    return settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=examples < 100,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("examples", sizes(8, 120))
def test_a_changed_file_of_a_run(name, examples, gift, tmp_path, request):
    folder, outside = tmp_path / "in" / "run", tmp_path / "out"
    outside.mkdir()
    shutil.copytree(gift / "run", folder)
    original = (folder / name).read_bytes()
    if name in ("summary.json", "rounds.csv", "layers.csv", "masks.safetensors"):
        (folder / "sweep.json").unlink()

    @fuzz(examples)
    @given(st.data())
    def every(data):
        (folder / name).unlink(missing_ok=True)
        how = changed(data, json.loads(original)) if name.endswith("json") else damaged(data, original)
        (folder / name).write_bytes(how)
        for read in READERS[name]:
            attempt(functools.partial(read, folder), [folder, outside])

    every()
    if is_full(request):
        record(f"fuzz {name}", examples=examples, tracebacks=0, written_outside=0)


STRANGE = {
    "pipe": os.mkfifo,
    "endless": lambda path: path.symlink_to("/dev/zero"),
    "full": lambda path: path.symlink_to("/dev/full"),
    "link to itself": lambda path: path.symlink_to(path.name),
    "link to nothing": lambda path: path.symlink_to("nothing"),
    "folder": Path.mkdir,
    "unreadable": lambda path: path.symlink_to("/proc/self/mem"),
}


@pytest.mark.timeout(100, method="thread")  # a library that waits for a pipe hears no signal
@pytest.mark.parametrize("what", STRANGE)
def test_what_is_no_file_is_not_waited_for(what, gift, tmp_path):
    """Each file of a run in turn."""
    folder = tmp_path / "run"
    shutil.copytree(gift / "run", folder)
    for name, readers in READERS.items():
        original = {one: (folder / one).read_bytes() for one in ("sweep.json", name)}
        (folder / "sweep.json").unlink(missing_ok=name not in ("sweep.json", "tries.json", "multirun.yaml"))
        (folder / name).unlink(missing_ok=True)
        STRANGE[what](folder / name)
        for read in readers:
            attempt(functools.partial(read, folder), [folder])
        (folder / name).rmdir() if what == "folder" else (folder / name).unlink()
        for one, content in original.items():
            (folder / one).write_bytes(content)


@pytest.mark.timeout(100, method="thread")
@pytest.mark.parametrize("what", list(STRANGE)[:-1])
@pytest.mark.parametrize("name", ["manifest.json", "weights.safetensors", "round.json", "checkpoint.pt"])
def test_a_stage_with_what_is_no_file_is_set_aside(what, name, tmp_path, caplog):
    stage = Stage("dense", None, {}, lambda work: State({"w": torch.ones(2)}, {}, row(0)))
    folder = tmp_path / stage.name
    Store(tmp_path).run(stage)
    if name == "checkpoint.pt":
        folder = tmp_path / f"{stage.name}.work" / "1"
        files.write_folder(folder, {name: b""})
    (folder / name).unlink()
    STRANGE[what](folder / name)
    if name == "checkpoint.pt":
        assert Work(folder.parent, stage.name).load() is None
    else:
        assert Store(tmp_path).load(stage.name) is None
    assert "set aside" in caplog.text
    assert stages_command.main(["--outputs", str(tmp_path.parent), "list"]) == 0


def test_aliases_of_aliases_in_a_yaml_file_are_not_written_out(tmp_path):
    """30 lines that stand for 2**30 values."""
    lines = ["hydra: {overrides: {hydra: [], task: [*a29]}}", "a0: &a0 [x]"]
    lines[1:1] = [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(29, 0, -1)]
    (tmp_path / "multirun.yaml").write_text("\n".join(reversed(lines)))
    assert sweep_command(tmp_path) is None


@pytest.mark.parametrize("examples", sizes(1, 40)[1:])
def test_the_page_of_a_changed_run(examples, gift, tmp_path, request):
    """The whole report, beside an undamaged run."""
    folder, out = tmp_path / "runs", tmp_path / "out"
    for number in "01":
        shutil.copytree(gift / "run", folder / number)
        (folder / number / "sweep.json").unlink()
    original = json.loads((folder / "0" / "summary.json").read_bytes())

    @fuzz(examples)
    @given(st.data())
    def every(data):
        (folder / "0" / "summary.json").write_bytes(changed(data, original))
        before = tree(folder)
        assert report_command.main([str(folder), "--out", str(out / "page.html")]) == 0
        assert tree(folder) == before
        assert {path.name.split("_")[0].split(".")[0] for path in out.iterdir()} == {"page"}

    every()
    if is_full(request):
        record("fuzz of the report", examples=examples, tracebacks=0, written_outside=0)


@pytest.mark.parametrize("examples", sizes(30, 300))
def test_a_changed_stage(examples, tmp_path, request, caplog, capsys):
    """A stage and a checkpoint with the right digests: anybody can compute those."""
    stage = Stage("dense", None, {"n": 1}, lambda work: State({"w": torch.ones(2)}, {"w": torch.ones(2) > 0}, row(0)))
    store, root = Store(tmp_path / "in" / "stages"), tmp_path / "in" / "stages"
    store.run(stage)
    original = files.read_folder(root / stage.name)
    (tmp_path / "out").mkdir()

    @fuzz(examples)
    @given(st.data())
    def every(data):
        shutil.rmtree(root, ignore_errors=True)
        name = data.draw(st.sampled_from([*sorted(original), "manifest.json", "checkpoint.pt"]))
        if name == "checkpoint.pt":
            files.write_folder(root / f"{stage.name}.work" / "1", {name: data.draw(BYTES)})
            assert Work(root / f"{stage.name}.work", stage.name).load() is None
            return
        whole = {**original, "manifest.json": (json.dumps({"stage.json": "0"})).encode()}
        new = changed(data, json.loads(whole[name])) if name.endswith("json") else damaged(data, whole[name])
        if name == "manifest.json":
            files.write_folder(root / stage.name, original)
            (root / stage.name / name).write_bytes(new)
        else:
            files.write_folder(root / stage.name, {**original, name: new})
        stages_command.main(["--outputs", str(root.parent), "list"])
        found = store.load(stage.name)
        assert found is None or found.record is None or type(found.record.round) is int
        assert not list((tmp_path / "out").iterdir())

    every()
    if is_full(request):
        record("fuzz of stages", examples=examples, tracebacks=0, written_outside=0)
    assert "Traceback" not in caplog.text + capsys.readouterr().err


@given(st.one_of(BYTES, JSON.map(lambda value: json.dumps(value).encode())))
@settings(max_examples=50, deadline=None, database=None)
def test_json_is_data_or_a_value_error(text):
    with contextlib.suppress(ValueError):
        json.dumps(parse_json(text), ensure_ascii=False).encode()


@pytest.mark.parametrize("levels", [63, 65, 900, 200_000])
@pytest.mark.parametrize("pair", ["[]", '{"a":}'])
def test_deep_json_is_refused(levels, pair):
    text = pair[:-1] * levels + "1" + pair[-1] * levels
    if levels < 64:
        assert parse_json(text)
    else:
        with pytest.raises(ValueError, match="nested more than 64 levels deep"):
            parse_json(text)


@pytest.mark.parametrize("examples", sizes(5, 150))
def test_a_changed_study(examples, tmp_path, monkeypatch, request):
    """The database of a search: damaged bytes, and values that anybody can write into it."""
    pytest.importorskip("optuna")
    from optuna.trial import TrialState

    from prunelab.sweeps.search.study import Study

    monkeypatch.chdir(tmp_path)
    original, where = tmp_path / "original.db", ("sqlite:///in/study.db", tmp_path / "in" / "study", [], None)
    (tmp_path / "in").mkdir()
    made = Study(f"sqlite:///{original}", tmp_path / "in" / "study", [], None)
    trial = made.optuna.ask()
    trial.set_user_attr("chosen", ["amount=0.5"])
    trial.set_user_attr("overrides", ["amount=0.5"])
    made.optuna.tell(trial, (0.5, 1.0))
    content = original.read_bytes()

    @fuzz(examples)
    @given(st.data())
    def every(data):
        Path("in/study.db").write_bytes(content)
        if data.draw(st.booleans()):
            Path("in/study.db").write_bytes(damaged(data, content))
        else:
            table = data.draw(st.sampled_from(["study_user_attributes", "trial_user_attributes"]))
            with contextlib.closing(sqlite3.connect("in/study.db")) as database:
                text = json.dumps(data.draw(JSON))
                database.execute(f"update {table} set value_json=?", (text,))
                database.commit()
        with contextlib.suppress(ConfigError):
            opened = Study(*where)
            for one in opened.trials(TrialState.COMPLETE):
                assert all(isinstance(item, str) for item in one.user_attrs["chosen"])

    every()
    assert {path.name for path in tmp_path.iterdir()} == {"in", "original.db"}
    if is_full(request):
        record("fuzz of studies", examples=examples, tracebacks=0, written_outside=0)
