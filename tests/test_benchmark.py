"""The benchmark runs to its end and prints what it promises; its figures are for a whole run, not for a test."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

NUMBER = r"(?:\d+\.\d\d|nan)"
SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "benchmark.py"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_quick_benchmark_prints_ratios_accuracies_and_bookkeeping(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--quick", "--sweep", "--json", "figures.json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=800)
    assert done.returncode == 0, done.stderr
    for name in ("whole process", "processor", "loop"):
        assert re.search(rf"^ratio, {name}: +{NUMBER} \({NUMBER} to {NUMBER}\)$", done.stdout, re.M), done.stdout
    for name in ("one after the other, all threads", "as many plain scripts"):
        assert re.search(rf"^ratio, {name}: +{NUMBER} \(\d+\.\d s\)$", done.stdout, re.M), done.stdout
    for name in ("prunelab", "baseline, 0 workers", "baseline, 2 workers"):
        assert re.search(rf"^{name}( +{NUMBER} s){{3}} +{NUMBER}% +67\.2%$", done.stdout, re.M), done.stdout
    for name in ("lenet, bare", "lenet, prunelab, masked", "lenet_300_100, prunelab", "lenet_300_100, matrix products"):
        assert re.search(rf"^{name} +\d+\.\d{{3}} +{NUMBER}$", done.stdout, re.M), done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["figures.json"]
    took = json.loads((tmp_path / "figures.json").read_text())["bookkeeping"]
    assert all(took[key] > 0 for key in ("tracking", "storage", "tensorboard_start", "loop")), took
