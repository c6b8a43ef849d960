"""The wheel, and the wheel built from the sdist: all files are in it, and it runs from another folder."""

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

from prunelab.runtime.fresh_process import ADDRESS

ROOT = Path(__file__).parent.parent
PACKAGES = [*(ROOT / "prunelab").rglob("*"), *(ROOT / "hydra_plugins").rglob("*")]
DATA = {path for path in PACKAGES if path.is_file() and "__pycache__" not in path.parts}


def build(*arguments):
    command = [sys.executable, "-m", "build", "--no-isolation", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    build("--sdist", "--outdir", folder, ROOT)
    return next(folder.glob("*.tar.gz"))


@pytest.fixture(scope="module", params=["checkout", pytest.param("sdist", marks=pytest.mark.slow)])
def wheel(request, sdist, tmp_path_factory):
    folder, tree = tmp_path_factory.mktemp("wheel"), ROOT
    if request.param == "sdist":
        with tarfile.open(sdist) as archive:
            safe = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}  # not in the first 3.10 and 3.11
            archive.extractall(folder / "sdist", **safe)
        (tree,) = (folder / "sdist").iterdir()
    build("--wheel", "--outdir", folder, tree)
    (found,) = folder.glob("*.whl")
    return found


def test_a_wheel_holds_every_file_of_the_package_and_the_command(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (points,) = (name for name in names if name.endswith("entry_points.txt"))
        said = archive.read(points).decode()
    expected = {str(path.relative_to(ROOT)) for path in DATA}
    expected |= {f"prunelab/{path.relative_to(ROOT)}" for path in (ROOT / "conf").rglob("*.yaml")}
    assert {name for name in names if ".dist-info/" not in name} == expected
    assert "prunelab = prunelab.cli.main:main" in said
    kinds = {Path(name).suffix for name in expected}
    assert {".py", ".yaml", ".css", ".jinja", ".gz"} <= kinds
    images = "prunelab/data/files/MNIST/raw/train-images-idx3-ubyte.gz"
    launcher = "hydra_plugins/prunelab_pool.py"
    assert {images, launcher, "prunelab/conf/experiment/papers/snip_lenet300.yaml", "prunelab/py.typed"} <= names


def test_a_wheel_runs_from_another_folder(wheel, tmp_path):
    site = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", site, wheel]
    subprocess.run(list(map(str, install)), check=True, capture_output=True)
    environment = {**os.environ, "PYTHONPATH": str(site), "PRUNELAB_CACHE": str(tmp_path / "cache")}
    environment.pop(ADDRESS, None)  # the server of this process has the checkout's code

    def call(*words):
        done = subprocess.run([sys.executable, *words], cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        return done.stdout

    assert call("-c", "import prunelab; print(prunelab.__file__)").strip() == str(site / "prunelab" / "__init__.py")
    version = call(str(site / "bin" / "prunelab"), "--version").split()[-1]
    assert f'version = "{version}"' in (ROOT / "pyproject.toml").read_text()
    assert "snip_lenet300" in call("-m", "prunelab", "reproduce")
    call("-m", "prunelab", "-m", "data.limit=200", "train.epochs=1", "schedule.rounds=1")  # Hydra finds the launcher
    assert len(list((tmp_path / "outputs").glob("*/*/*/rounds.csv"))) == 1
    pytest.importorskip("jinja2")
    call("-m", "prunelab", "report", "outputs", "--out", "page.html")
    assert "test accuracy" in (tmp_path / "page.html").read_text().lower()


def test_the_sdist_holds_no_outputs_and_is_not_large(sdist):
    with tarfile.open(sdist) as archive:
        names = archive.getnames()
    assert not [name for name in names if "/outputs/" in name or "/.ci/" in name]
    assert sdist.stat().st_size < 13e6


def test_the_citation_has_what_its_format_asks_for_and_this_version():
    said = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {"cff-version", "message", "title", "authors"} <= set(said)  # the required fields of CFF 1.2.0
    assert said["cff-version"] == "1.2.0"
    assert said["type"] == "software"
    assert all(set(author) & {"name", "family-names"} for author in said["authors"])
    assert str(said["version"]) == project["version"]
    assert said["license"] == project["license"].split(" AND ")
    assert [author["name"] for author in said["authors"]] == [author["name"] for author in project["authors"]]
