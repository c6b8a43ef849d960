"""The end of a run: what cannot be made is told in one line, and all else is there."""

import errno
import json

import pytest
from conftest import overrides

import prunelab
from prunelab.compaction import finish as compaction
from prunelab.experiment import finish, gate
from prunelab.exports import int8
from prunelab.exports.formats import FORMATS
from prunelab.tracking.tensorboard import TensorBoard

FILES = ("model.safetensors", "masks.safetensors", "rounds.csv", "epochs.csv", "layers.csv")
FULL = OSError(errno.ENOSPC, "No space left on device")


def failing(error):
    def fail(*args, **how):
        raise error

    return fail


@pytest.fixture(autouse=True)
def untried(monkeypatch):
    """The gate does not try the files before training, so that they can fail after it."""
    monkeypatch.setattr(gate, "_try_files", lambda *_: None)


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    return tmp_path_factory.mktemp("finish")  # one chain of stages for all of these runs


def run(outputs, *more):
    few = overrides(outputs, "schedule.rounds=1", "model=lenet_300_100", *more)
    result = prunelab.run(prunelab.compose(*few))
    said = json.loads((result.folder / "summary.json").read_text())
    assert all((result.folder / name).is_file() for name in FILES)
    assert said["problems"] == result.problems
    assert said["status"] == "completed"
    assert said["final"]["round"] == 1
    prunelab.load(result.folder)
    return result, said


def test_a_kind_that_cannot_be_made_leaves_the_others(outputs):
    result, said = run(outputs, "export=[csr,safetensors]")
    (line,) = result.problems
    assert line.startswith("export=csr: no layer can be stored as CSR")
    assert [row["kind"] for row in said["export"]] == ["safetensors"]
    assert [row["form"] for row in said["cost"]] == ["dense (torch)", "masked (torch)", "masked (safetensors)"]
    assert not list(result.folder.glob(".export.*"))


@pytest.mark.parametrize("error", [RuntimeError("no such operator\nat line 3"), MemoryError(), FULL], ids=repr)
def test_an_exporter_may_raise_anything(outputs, monkeypatch, error):
    import dataclasses

    broken = dataclasses.replace(FORMATS["torch_export"], save=failing(error))
    monkeypatch.setitem(FORMATS, "torch_export", broken)
    result, said = run(outputs, "export=[torch_export,safetensors]")
    (line,) = result.problems
    assert "\n" not in line
    assert type(error).__name__ in line or "No space left" in line
    assert [row["kind"] for row in said["export"]] == ["safetensors"]


@pytest.mark.parametrize(
    ("module", "name", "more", "told"),
    [
        (int8, "quantize", "quantize=int8_weight", "quantize=int8_weight: ValueError: broken"),
        (compaction, "compact", "compact=true", "compact=true: ValueError: broken"),
        (finish, "cost_card", "latency=false", "cost: ValueError: broken"),
        (finish.gate_savings, "measure", "latency=false", "gates: ValueError: broken"),
        (TensorBoard, "finish", "latency=false", "TensorBoard: ValueError: broken"),
        (TensorBoard, "cost", "latency=false", "cost: ValueError: broken"),
    ],
)
def test_any_part_may_fail(outputs, monkeypatch, module, name, more, told):
    if more.startswith("quantize"):
        pytest.importorskip("torchao")
    monkeypatch.setattr(module, name, failing(ValueError("broken")))
    assert told in run(outputs, more)[0].problems


def test_a_compact_network_that_computes_something_else_is_an_error(outputs, monkeypatch):
    import dataclasses

    honest = compaction.prove
    monkeypatch.setattr(compaction, "prove", lambda *args: dataclasses.replace(honest(*args), agree=False))
    result, said = run(outputs, "strategy=channel", "amount=0.5")
    (line,) = result.problems
    assert line.startswith("compact=true: is not written: the compact network does not compute the same")
    assert not (result.folder / "compact.safetensors").exists()
    assert [row["form"] for row in said["cost"]] == ["dense (torch)", "masked (torch)"]


RAISES = """
from prunelab.errors import ConfigError
calls = []

def late(weight):
    calls.append(1)
    if len(calls) > 3:  # the rehearsal scores three tensors
        raise ConfigError("strategy.score: is tired")
    return weight.abs()
"""


@pytest.mark.slow
def test_the_command_keeps_what_was_trained(tmp_path, cli):
    few = overrides(tmp_path, "schedule.rounds=1", "model=lenet_300_100")
    done = cli(*few, "export=[csr]", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("prunelab: export=csr: no layer can be stored as CSR")
    assert done.stderr.count("\n") == 1
    assert len(list(tmp_path.glob("outputs/2*/*/model.safetensors"))) == 1
    (tmp_path / "tired.py").write_text(RAISES)
    done = cli(*few, "strategy=custom", "strategy.method=tired.late", "trusted=[tired]", "seed=8", cwd=tmp_path)
    assert done.returncode == 1
    assert "is tired" in done.stderr
    assert len(list(tmp_path.glob("outputs/2*/*/rounds.csv"))) == 2  # the dense network was trained
    done = cli(*few, "strategy=custom", "strategy.method=tired.absent", "trusted=[tired]", "seed=9", cwd=tmp_path)
    assert done.returncode == 1
    assert len(list(tmp_path.glob("outputs/2*/*/summary.json"))) == 2  # nothing was
