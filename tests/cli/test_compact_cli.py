"""`prunelab compact RUN`, on a run of seconds."""

from __future__ import annotations

import json

import pytest
import torch
from conftest import overrides
from safetensors.torch import load_file

import prunelab
from prunelab.cli import compact as command
from prunelab.compaction import load
from prunelab.models.lenet import LeNet


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compact")
    asked = overrides(folder, "strategy=ln_structured", "amount=0.5", "schedule.rounds=1", "threads=1")
    return prunelab.run(prunelab.compose(*asked), folder / "run").folder


def test_a_finished_run_is_compacted(finished, capsys):
    assert command.main([str(finished)]) == 0
    shown = capsys.readouterr().out
    assert "conv1: 2 of 6 channels" in shown
    assert "conv1: 1 channel without weights stays: a multiple of 4 channels is faster" in shown
    assert "the same class for all" in shown
    said = json.loads((finished / "compact.json").read_text())
    assert said["tensors"]["conv2.weight"] == [8, 4, 3, 3]
    small = load(LeNet(), finished)
    dense = LeNet()
    dense.load_state_dict(load_file(finished / "model.safetensors"))
    x = torch.randn(32, 1, 28, 28)
    with torch.no_grad():
        assert float((small(x) - dense(x)).abs().max()) < 1e-5


def test_the_table_has_what_it_cost(finished, capsys):
    command.main([str(finished)])
    lines = {line.split("  ")[0]: line.split()[2:] for line in capsys.readouterr().out.splitlines()[:4] if line}
    pruned, compact = lines["masked (torch)"], lines["compact (torch)"]
    small = sum(value.numel() for value in load_file(finished / "compact.safetensors").values())
    assert (pruned[0], compact[0]) == ("60,074", f"{small:,}")
    # 4·26²·9 + 8·11²·36 + the linear layers, by hand
    fc1, fc2 = (load_file(finished / "compact.safetensors")[f"{name}.weight"].numel() for name in ("fc1", "fc2"))
    fc3 = load_file(finished / "compact.safetensors")["fc3.weight"].numel()
    assert compact[2] == f"{4 * 26**2 * 9 + 8 * 11**2 * 36 + fc1 + fc2 + fc3:,}"


@pytest.mark.parametrize("what", ["nothing", "running"])
def test_what_is_no_finished_run_is_refused(what, tmp_path, capsys):
    if what == "running":
        (tmp_path / "summary.json").write_text('{"status": "running"}')
    assert command.main([str(tmp_path)]) == 1
    assert str(tmp_path) in capsys.readouterr().err


def test_it_says_how_to_call_it(capsys):
    for arguments, status in (([], 2), (["--help"], 0)):
        with pytest.raises(SystemExit) as ended:
            command.main(arguments)
        assert ended.value.code == status
    assert "prunelab compact [-h] [--trusted PACKAGE] RUN" in capsys.readouterr().out
