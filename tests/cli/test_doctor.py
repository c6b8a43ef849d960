"""`prunelab doctor` finds what is missing, names the command that mends it, and fails only where no experiment runs."""

from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path

import pytest

import prunelab
from prunelab.cli import doctor

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]


CAPPED = {"hydra-core": "1.3.9", "pymdown-extensions": "12.1"}  # which have a highest version


@pytest.fixture
def installed(monkeypatch):
    """As if this project had been installed with all its extras, each package in a high version; `versions` changes."""
    versions: dict[str, str | None] = {}
    extras = PROJECT["optional-dependencies"]
    lines = [*PROJECT["dependencies"]]
    for name, those in extras.items():
        for package, _, marker in (one.partition("; ") for one in those):
            lines.append(f"{package}; {f'({marker}) and ' if marker else ''}extra == '{name}'")

    def version(name):
        found = versions.get(name, CAPPED.get(name, "999"))
        if found is None:
            raise metadata.PackageNotFoundError(name)
        return found

    class Metadata:
        def get_all(self, _key):
            return list(extras)

    monkeypatch.setattr(doctor.metadata, "requires", lambda _name: lines)
    monkeypatch.setattr(doctor.metadata, "metadata", lambda _name: Metadata())
    monkeypatch.setattr(doctor.metadata, "version", version)
    return versions


def test_the_whole_command_where_experiments_run(cli, tmp_path):
    said = cli("doctor", cwd=tmp_path)
    assert (said.returncode, said.stderr) == (0, "")
    assert said.stdout.splitlines()[-1] == "Experiments can run here."
    rows = {line[:19].strip(): line[19:] for line in said.stdout.splitlines()}
    assert rows["prunelab"].strip() == prunelab.__version__
    assert "cores" in rows["threads"]
    assert "mnist" in rows["cache"]


def test_the_whole_command_where_the_cache_is_a_file(cli, tmp_path):
    (tmp_path / "file").touch()
    said = cli("doctor", cwd=tmp_path, env={"PRUNELAB_CACHE": str(tmp_path / "file" / "cache")})
    assert said.returncode == 1
    assert said.stdout.splitlines()[-1].endswith("mended: cache.")
    assert "PRUNELAB_CACHE=FOLDER" in said.stdout


def test_a_damaged_bundle_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("PRUNELAB_CACHE", str(tmp_path / "new"))
    monkeypatch.setattr("prunelab.data.mnist.BUNDLE", tmp_path)
    found = {one.name: one for one in doctor.data()}
    assert "the bundled MNIST is damaged" in found["cache"].state
    assert found["cache"].mend


def test_outputs_that_is_a_file_is_named(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "outputs").touch()
    found = {one.name: one for one in doctor.data()}
    assert found["outputs"].mend == "prunelab outputs=FOLDER …"


def test_all_is_complete_where_everything_is_installed(installed):
    assert not [one for one in (*doctor.packages(), *doctor.extras()) if one.mend]
    assert {one.name for one in doctor.extras()} == {f"extra {name}" for name in PROJECT["optional-dependencies"]}


@pytest.mark.parametrize("line", PROJECT["dependencies"])
@pytest.mark.parametrize("version", [None, "0.1"])
def test_each_package_that_is_missing_or_too_old_is_installed_by_the_command(installed, line, version):
    requirement = doctor.Requirement(line)
    installed[requirement.name] = version
    (wrong,) = (one for one in doctor.packages() if one.mend)
    assert wrong.name == requirement.name
    assert doctor.Requirement(wrong.mend.removeprefix('pip install "').removesuffix('"')) == requirement


@pytest.mark.parametrize("name", [name for name in PROJECT["optional-dependencies"] if name != "test"])
def test_each_extra_that_is_incomplete_has_its_command(installed, name):
    package = doctor.Requirement(PROJECT["optional-dependencies"][name][0]).name
    installed[package] = None
    found = {one.name: one for one in doctor.extras()}[f"extra {name}"]
    assert found.state == f"{package} is missing"
    assert found.mend == f'pip install "prunelab[{name}]"'
    assert not [one for one in doctor.packages() if one.mend]


def test_a_torch_that_cannot_be_imported_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    (wrong,) = doctor.machine()
    assert wrong.name == "torch and torchvision"
    assert wrong.mend


def test_without_installation_the_extras_are_unknown(monkeypatch):
    def absent(_name):
        raise metadata.PackageNotFoundError

    monkeypatch.setattr(doctor.metadata, "metadata", absent)
    monkeypatch.setattr(doctor.metadata, "requires", absent)
    (found,) = doctor.extras()
    assert found.mend == "pip install -e ."
    assert not [one for one in doctor.packages() if one.mend]
