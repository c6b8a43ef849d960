"""Export and quantisation as a part of an experiment."""

import json

import pytest
import torch
from conftest import composed, overrides

import prunelab
from prunelab.costs import latency as timing
from prunelab.data.mnist import mnist
from prunelab.errors import ConfigError
from prunelab.training import loop as training


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(timing, "REPEATS", 3)
    monkeypatch.setattr(timing, "WARM_UP", 1)


def card(result):
    rows = json.loads((result.folder / "summary.json").read_text())["cost"]
    return {row["form"]: row for row in rows}


def test_a_run_leaves_what_was_asked_for_and_is_loaded_again(tmp_path):
    few = overrides(tmp_path, "export=[safetensors]", "schedule.rounds=1", "seed=3")
    result = prunelab.run(prunelab.compose(*few))
    (row,) = json.loads((result.folder / "summary.json").read_text())["export"]
    assert row["same_classes"]
    loaded = prunelab.load(result.folder)
    inputs = torch.randn(5, 1, 28, 28)
    assert torch.equal(loaded.eval()(inputs), result.model.eval()(inputs))


@pytest.mark.parametrize(("asked", "package"), [("export=[onnx]", "onnxruntime"), ("quantize=int8_weight", "torchao")])
def test_a_missing_package_is_found_before_training(asked, package, tmp_path, monkeypatch):
    monkeypatch.setattr("prunelab.errors.find_spec", lambda name: None if name == package else object())
    monkeypatch.setattr(training, "fit", lambda *args, **how: pytest.fail("trained"))
    with pytest.raises(ConfigError, match=f"needs {package}: pip install"):
        prunelab.run(composed(tmp_path, asked))


@pytest.mark.slow
def test_int8_is_in_the_summary(tmp_path):
    pytest.importorskip("torchao")
    result = prunelab.run(composed(tmp_path, "quantize=int8_weight", "schedule.rounds=1"))
    facts = json.loads((result.folder / "summary.json").read_text())["quantized"]
    assert facts["bytes_after"] < 0.3 * facts["bytes_before"]
    assert (result.folder / "model.int8_weight.safetensors").is_file()


@pytest.mark.parametrize("wrong", ["export=[zip]", "quantize=int4"])
def test_what_there_is_not_is_refused(wrong):
    with pytest.raises(ConfigError, match="must be"):
        prunelab.compose(wrong)


def test_every_run_has_the_counts_and_masks_are_no_faster(tmp_path, capsys):
    result = prunelab.run(composed(tmp_path, "schedule.rounds=1", "amount=0.5"))
    found = card(result)
    assert list(found) == ["dense (torch)", "masked (torch)"]
    conv, linear = 54 * 26 * 26 + 864 * 11 * 11, 400 * 120 + 120 * 84 + 84 * 10
    assert found["dense (torch)"]["parameters"] == found["masked (torch)"]["parameters"] == 60_074
    assert (
        found["dense (torch)"]["macs"]
        == found["dense (torch)"]["macs_nonzero"]
        == found["masked (torch)"]["macs"]
        == conv + linear
    )
    assert found["masked (torch)"]["nonzero"] == result.rounds[1].nonzero == 60_074 - 59_838 // 2
    assert found["masked (torch)"]["macs_nonzero"] == result.rounds[1].macs_nonzero
    stored = (result.folder / "model.safetensors").stat().st_size  # what is shipped, without the masks
    assert found["masked (torch)"]["bytes"] == stored
    assert not [key for row in found.values() for key in row if key.startswith(("latency", "speedup"))]
    assert (
        found["masked (torch)"]["why_no_faster"] == "no speed-up: the same multiply-adds are done, those on zeros too"
    )
    shown = capsys.readouterr().out
    assert "masked (torch): no speed-up: the same multiply-adds are done, those on zeros too" in shown
    assert max(len(line) for line in shown.splitlines() if "http" not in line and str(tmp_path) not in line) <= 120


def test_dense_is_the_network_of_round_0(tmp_path, monkeypatch):
    given = {}
    monkeypatch.setattr(
        "prunelab.experiment.finish.cost_card", lambda forms, inputs, measure: given.update(forms) or []
    )
    monkeypatch.setattr("prunelab.tracking.run_folder.RunFolder.cost", lambda self, rows: None)
    result = prunelab.run(composed(tmp_path, "schedule.rounds=1", "amount=0.5"))
    assert list(given) == ["dense (torch)", "masked (torch)"]
    for form, row in zip(given.values(), result.rounds, strict=True):  # each gives what its round reports
        found = training.evaluate(form.run, mnist(limit=300).test)
        assert found == (row.test_accuracy, pytest.approx(row.test_loss, rel=1e-5))
    zeros = [sum(int((value == 0).sum()) for value in form.run.parameters()) for form in given.values()]
    assert zeros == [0, 59_838 // 2]


@pytest.mark.slow
def test_all_forms_are_timed_in_one_race_with_the_dense_network_of_their_runtime(tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("torchao")
    asked = ("model=lenet_300_100", "schedule=one_shot", "amount=0.95", "strategy=l1", "compact=true")
    few = overrides(tmp_path, *asked, "export=[onnx,csr]", "quantize=int8_weight", "latency=null")
    result = prunelab.run(prunelab.compose(*few))
    found = card(result)
    assert {name: row["against"] for name, row in found.items()} == {
        "dense (torch)": None,
        "masked (torch)": "dense (torch)",
        "compact (torch)": "dense (torch)",
        "dense (onnx)": None,
        "compact (onnx)": "dense (onnx)",
        "masked (csr)": "dense (torch)",
        "dense (int8_weight)": None,
        "masked (int8_weight)": "dense (int8_weight)",
    }
    assert all(row["speedup_256"][0] > 0 and row["latency_1_ms"][0] > 0 for row in found.values())
    assert {row["timed_in"].partition(" where")[0] for row in found.values()} == {"in a fresh process"}
    assert found["compact (onnx)"]["peak_bytes"] is None
    assert found["compact (onnx)"]["parameters"] == found["compact (torch)"]["parameters"]
    assert found["dense (onnx)"]["nonzero"] == found["dense (torch)"]["nonzero"]
    assert found["masked (csr)"]["macs"] < found["dense (torch)"]["macs"] / 10
    assert found["masked (int8_weight)"]["bytes"] < 0.3 * found["dense (torch)"]["bytes"]
    assert not list(result.folder.glob(".dense*"))


@pytest.mark.parametrize(("asked", "timed"), [(["latency=true"], True), (["latency=false", "compact=true"], False)])
def test_the_key_decides_what_is_timed(tmp_path, asked, timed):
    result = prunelab.run(composed(tmp_path, "schedule.rounds=1", *asked))
    assert all(("latency_1_ms" in row) is timed for row in card(result).values())


def test_latency_must_be_known():
    with pytest.raises(ConfigError, match="latency=often: must be null, true or false"):
        prunelab.compose("latency=often")
