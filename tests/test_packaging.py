"""The wheel, and the wheel built from the sdist, run from another folder, with the data in them."""

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def build(*arguments):
    command = [sys.executable, "-m", "build", "--no-isolation", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    build("--sdist", "--outdir", folder, ROOT)
    return next(folder.glob("*.tar.gz"))


@pytest.mark.parametrize("source", ["checkout", "sdist"])
def test_a_wheel_runs_from_another_folder(source, sdist, tmp_path):
    tree = ROOT
    if source == "sdist":
        with tarfile.open(sdist) as archive:
            safe = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}  # not in the first 3.10 and 3.11
            archive.extractall(tmp_path / "sdist", **safe)
        (tree,) = (tmp_path / "sdist").iterdir()
    build("--wheel", "--outdir", tmp_path, tree)
    (wheel,) = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", site, wheel]
    subprocess.run(list(map(str, install)), check=True, capture_output=True)
    environment = {**os.environ, "PYTHONPATH": str(site), "PRUNELAB_CACHE": str(tmp_path / "cache")}
    code = "import prunelab.config.compose as c; print(c.folder())"
    where = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert where.stdout.strip() == str(site / "prunelab" / "conf")
    command = [sys.executable, "-m", "prunelab", "data.limit=200", "train.epochs=1", "schedule.rounds=1"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert len(list((tmp_path / "outputs").glob("*/*/rounds.csv"))) == 1


def test_the_sdist_holds_no_outputs_and_is_not_large(sdist):
    with tarfile.open(sdist) as archive:
        names = archive.getnames()
    assert not [name for name in names if "/outputs/" in name or "/.ci/" in name]
    assert sdist.stat().st_size < 13e6
