"""Nothing is called done before a fresh process has loaded it and agreed."""

import dataclasses
import json
import shutil

import pytest
import torch
from export_networks import command

from prunelab import exports as export
from prunelab.costs import latency as timing
from prunelab.data.mnist import mnist
from prunelab.errors import ConfigError
from prunelab.exports import checkpoint, cost_forms, export_files, finished_run
from prunelab.exports.formats import FORMATS


@pytest.fixture
def folder(finished, tmp_path):
    return shutil.copytree(finished.folder, tmp_path / "run")


@pytest.fixture(scope="module")
def test_split():
    return mnist(limit=300).test


@pytest.mark.slow
def test_the_command_makes_every_kind(folder):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("torchao")
    done = command(folder, "--no-timing")
    assert done.returncode == 0, done.stderr
    for kind in FORMATS.values():
        assert all((folder / name).is_file() for name in kind.files)
        assert kind.files[0] in done.stdout
    assert sum("  same  " in line for line in done.stdout.splitlines()) == len(FORMATS)  # in the column `classes`
    assert not list(folder.glob(".export.*"))


def test_the_command_says_what_cannot_be_made_and_makes_the_rest(folder):
    (folder / "model.json").unlink(missing_ok=True)
    state = folder / "model.safetensors"
    from safetensors.torch import load_file, save_file

    save_file({name: value + 1 for name, value in load_file(state).items()}, state)  # not a zero left
    summary = folder / "summary.json"
    summary.write_text(json.dumps({**json.loads(summary.read_text()), "fingerprint": None}))
    done = command(folder, "csr", "safetensors")
    assert done.returncode == 1
    assert done.stderr.startswith("prunelab: export=csr: no layer can be stored as CSR")
    assert done.stderr.count("\n") == 1
    assert "model.safetensors" in done.stdout
    forms = {line.partition("  ")[0] for line in done.stdout.splitlines() if line.startswith("masked")}
    assert forms >= {"masked (torch)", "masked (safetensors)"}
    assert "Times: medians of interleaved turns" in done.stdout


def test_a_folder_without_a_run_is_one_line(tmp_path):
    done = command(tmp_path, "csr")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)


def test_rows_are_what_lies_there(folder, finished, test_split):
    config = finished_run.read(folder).config
    (row,) = export.make(folder, finished.model, config, test_split, ["csr"])
    assert all((folder / name).is_file() for name in row.files)
    assert row.inputs == 64 + min(256, len(test_split))
    assert 0 < row.largest_difference <= 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["int8_weight", "int8_dynamic"])
def test_int8_is_compared_with_the_network_that_was_rounded(folder, finished, test_split, kind):
    pytest.importorskip("torchao")
    config = finished_run.read(folder).config
    (row,) = export.make(folder, finished.model, config, test_split, [kind])
    assert row.largest_difference <= 1e-5
    assert all((folder / name).is_file() for name in row.files)
    found = cost_forms.exported(folder, finished.model, [kind], (), compact=False)[f"masked ({kind})"]
    with torch.no_grad():
        x = export_files.examples(test_split)["test"]
        assert (found.run(x) - finished.model(x)).abs().max() > 1e-4  # it is another network than the dense one


@pytest.mark.slow
def test_int8_that_comes_back_otherwise_is_not_done(folder, finished, test_split, monkeypatch):
    pytest.importorskip("torchao")
    honest = FORMATS["int8_weight"]
    monkeypatch.setitem(
        FORMATS, "int8_weight", dataclasses.replace(honest, save=lambda *both: honest.save(*both) and None)
    )
    config = finished_run.read(folder).config
    with pytest.raises(
        ConfigError, match="export=int8_weight: is not written: outputs differ"
    ):  # from the float network's
        export.make(folder, finished.model, config, test_split, ["int8_weight"])


def test_another_network_is_not_done(folder, finished, test_split, monkeypatch):
    config = finished_run.read(folder).config
    honest = FORMATS["csr"]

    def forge(work, network):
        with torch.no_grad():
            model = type(network.model)()
            model.load_state_dict(network.model.state_dict())
            model.fc3.bias[0] += 1e-3
        honest.save(work, dataclasses.replace(network, model=model))

    monkeypatch.setitem(FORMATS, "csr", dataclasses.replace(honest, save=forge))
    with pytest.raises(ConfigError, match=r"export=csr: is not written: outputs differ by 0.001"):
        export.make(folder, finished.model, config, test_split, ["csr"])
    assert not list(folder.glob("model.csr*"))


def test_a_file_that_cannot_be_loaded_is_not_done(folder, finished, test_split, monkeypatch):
    config = finished_run.read(folder).config
    broken = dataclasses.replace(
        FORMATS["torch_export"], save=lambda work, network: (work / "model.pt2").write_bytes(b"no")
    )
    monkeypatch.setitem(FORMATS, "torch_export", broken)
    said = []
    assert export_files.make(folder, finished.model, config, test_split, ["torch_export"], on_error=said.append) == []
    assert "export=torch_export: a fresh process cannot load it" in str(said[0])
    assert not (folder / "model.pt2").exists()


def test_nan_and_other_shapes_are_differences():
    inputs = {"a": torch.eye(2)}
    assert export_files.compare(lambda x: x, inputs, {"a": torch.eye(2)}) == (0.0, True)
    assert export_files.compare(lambda x: x, inputs, {"a": torch.eye(2) * float("nan")})[0] == float("inf")
    assert export_files.compare(lambda x: x, inputs, {"a": torch.eye(3)}) == (float("inf"), False)
    assert export_files.compare(lambda x: x, inputs, {"a": 1 - torch.eye(2)}) == (1.0, False)


def test_the_table_by_hand():
    row = export_files.Exported("csr", ("model.csr.safetensors",), 1e-6, True, 320)
    assert export_files.table([row]).splitlines()[1].split() == ["model.csr.safetensors", "1e-06", "same", "320"]


def test_an_unknown_kind(finished):
    with pytest.raises(
        ConfigError, match=r"export=tflite: must be one of safetensors, onnx, csr, torch_export, int8_weight"
    ):
        export_files.check(["csr", "tflite"])


def test_the_process_is_another_one(finished, tmp_path, monkeypatch):
    monkeypatch.setitem(export_files.FORMATS, "safetensors", None)  # in this process only
    x = torch.randn(3, 1, 28, 28)
    checkpoint.save(tmp_path, finished_run.read(finished.folder))
    found = export_files.fresh_outputs("safetensors", tmp_path, {"x": x})
    assert torch.equal(found["x"], finished.model.eval()(x))


def test_interval_by_hand():
    found = timing.interval([float(value) for value in range(1, 101)])
    assert found == (50.5, 41.0, 61.0)  # order statistics 40 and 61 of 100 have 95% or a little more
    assert timing.interval([3.0]) == (3.0, 3.0, 3.0)


def test_a_race_finds_the_faster_one():
    slow, fast = torch.nn.Linear(2000, 2000), torch.nn.Linear(2000, 20)
    found = timing.race({"slow": slow, "fast": fast}, torch.randn(8, 2000), "slow", 15)
    assert found["slow"].speedup == (1.0, 1.0, 1.0)
    assert found["fast"].speedup.low > 2
    assert found["fast"].ms.low <= found["fast"].ms.median <= found["fast"].ms.high
