"""Nothing is called done before a fresh process has loaded it and agreed."""

import shutil

import pytest
import torch
from networks import command

from prunelab import building, compose, export
from prunelab.config import ConfigError
from prunelab.export import fresh, making, timing
from prunelab.export.formats import FORMATS


@pytest.fixture
def folder(finished, tmp_path):
    return shutil.copytree(finished.folder, tmp_path / "run")


@pytest.fixture(scope="module")
def test_split():
    return building.bind(compose("data.limit=300"), "data")().test


@pytest.mark.slow
def test_the_command_makes_every_kind(folder):
    pytest.importorskip("onnxruntime")
    done = command(folder, "--no-timing")
    assert done.returncode == 0, done.stderr
    for kind in FORMATS.values():
        assert all((folder / name).is_file() for name in kind.files)
        assert kind.files[0] in done.stdout
    assert done.stdout.count("same") == len(FORMATS)
    assert not list(folder.glob(".export.*"))


def test_the_command_says_what_cannot_be_made_and_makes_the_rest(folder):
    (folder / "model.json").unlink(missing_ok=True)
    state = folder / "model.safetensors"
    from safetensors.torch import load_file, save_file

    save_file({name: value + 1 for name, value in load_file(state).items()}, state)  # not a zero left
    done = command(folder, "csr", "safetensors")
    assert done.returncode == 1
    assert done.stderr.startswith("prunelab: export=csr: no layer to store that way")
    assert done.stderr.count("\n") == 1
    assert "model.safetensors" in done.stdout
    assert "median of turns, 1 thread(s)" in done.stdout


def test_a_folder_without_a_run_is_one_line(tmp_path):
    done = command(tmp_path, "csr")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)


def test_rows_are_what_lies_there(folder, finished, test_split):
    config = compose("data.limit=300", "model=lenet_300_100")
    (row,) = export.make(folder, finished.model, config, test_split, ["csr"])
    assert row.bytes == sum((folder / name).stat().st_size for name in row.files)
    assert row.gzipped < row.bytes
    assert row.inputs == 64 + min(256, len(test_split))
    assert 0 < row.largest_difference <= 1e-5
    assert set(row.speedup) == {1, 256}


def test_another_network_is_not_done(folder, finished, test_split, monkeypatch):
    config = compose("data.limit=300", "model=lenet_300_100")
    honest = FORMATS["csr"]

    def forge(work, network):
        with torch.no_grad():
            model = type(network.model)()
            model.load_state_dict(network.model.state_dict())
            model.fc3.bias[0] += 1e-3
        honest.save(work, network._replace(model=model))

    monkeypatch.setitem(FORMATS, "csr", honest._replace(save=forge))
    with pytest.raises(ConfigError, match=r"export=csr: is not done: outputs differ by 0.001"):
        export.make(folder, finished.model, config, test_split, ["csr"])
    assert not list(folder.glob("model.csr*"))


def test_a_file_that_cannot_be_loaded_is_not_done(folder, finished, test_split, monkeypatch):
    config = compose("data.limit=300", "model=lenet_300_100")
    broken = FORMATS["torch_export"]._replace(save=lambda work, network: (work / "model.pt2").write_bytes(b"no"))
    monkeypatch.setitem(FORMATS, "torch_export", broken)
    said = []
    assert making.make(folder, finished.model, config, test_split, ["torch_export"], on_error=said.append) == []
    assert "export=torch_export: a fresh process cannot load it" in str(said[0])
    assert not (folder / "model.pt2").exists()


def test_nan_and_other_shapes_are_differences():
    inputs = {"a": torch.eye(2)}
    assert making.compare(lambda x: x, inputs, {"a": torch.eye(2)}) == (0.0, True)
    assert making.compare(lambda x: x, inputs, {"a": torch.eye(2) * float("nan")})[0] == float("inf")
    assert making.compare(lambda x: x, inputs, {"a": torch.eye(3)}) == (float("inf"), False)
    assert making.compare(lambda x: x, inputs, {"a": 1 - torch.eye(2)}) == (1.0, False)


def test_a_table_says_why_it_is_no_faster():
    row = making.Exported("csr", ("model.csr.safetensors",), 2000, 1000, 1e-6, True, 320, {1: 0.9, 256: 2.5}, 1)
    text = making.table([row, row._replace(kind="onnx", speedup={1: 3.0, 256: 1.2})])
    assert "2,000     1,000       1e-06     same         0.90×         2.50×" in text
    assert "csr: no speed-up at batch 1: looking rows up" in text
    assert "onnx: no speed-up" not in text
    assert "speed at" not in making.table([row._replace(speedup=None)])


def test_an_unknown_kind(finished):
    with pytest.raises(ConfigError, match=r"export=tflite: must be of safetensors, onnx, csr, torch_export"):
        making.check(["csr", "tflite"])


def test_the_process_is_another_one(finished, tmp_path, monkeypatch):
    monkeypatch.setitem(fresh.FORMATS, "safetensors", None)  # in this process only
    x = torch.randn(3, 1, 28, 28)
    found = fresh.outputs("safetensors", finished.folder, {"x": x}, tmp_path, ())
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
