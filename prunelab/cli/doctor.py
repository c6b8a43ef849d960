"""`prunelab doctor`: what this installation has, what is missing, and the command that mends it."""

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from prunelab.cli.arguments import parser
from prunelab.runtime import device
from prunelab.runtime.streams import say
from prunelab.runtime.versions import versions
from prunelab.text import table

DESCRIPTION = """\
Shows the versions, the device, the threads, the cache folder and the extras of this installation, and for all that is
missing the command that installs it. The exit status is 0 if experiments can run here."""


@dataclass(frozen=True)
class Finding:
    """One line of the table: a package, extra or folder, its state, and the command that mends it, if one is needed."""

    name: str
    state: str
    mend: str = ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table. Return the exit status: 1 if something is missing that every experiment needs."""
    parser("doctor", DESCRIPTION).parse_args(arguments)
    found = [*packages()]
    for part in (machine, data):  # which need what was looked at before them
        found += part() if not any(one.mend for one in found) else []
    wrong = [one.name for one in found if one.mend]
    found += [*extras(), chromium()]
    say(table(["", "state", "to mend"], [[one.name, one.state, one.mend] for one in found], left=3))
    said = f"No experiment can run before this is mended: {', '.join(wrong)}." if wrong else "Experiments can run here."
    say(f"\n{said}")
    return int(bool(wrong))


def packages() -> Iterator[Finding]:
    """Yield prunelab, Python and the packages that every experiment needs, with their versions."""
    yield from (Finding(name, version) for name, version in versions().items() if name in ("prunelab", "python"))
    for requirement in _requirements(""):
        missing = _missing([requirement])
        mend = f'pip install "{requirement.name}{requirement.specifier}"' if missing else ""
        yield Finding(requirement.name, missing or metadata.version(requirement.name), mend)


def machine() -> Iterator[Finding]:
    """Yield the device and the threads of `device=auto` and `threads=null`, and whether torch and torchvision fit."""
    try:
        import torchvision  # noqa: F401

        chosen = device.prepare("auto", None)
    except (ImportError, OSError, RuntimeError) as error:  # RuntimeError: operators of another torch
        first = str(error).splitlines()[0]
        mend = "install torch and torchvision from the same index"
        yield Finding("torch and torchvision", f"cannot be imported: {first}", mend)
        return
    threads = device.threads(None)
    asked = ", by OMP_NUM_THREADS" if os.environ.get("OMP_NUM_THREADS") == str(threads) else ""
    yield Finding("device", f"{chosen.type}, {device.identity(chosen, threads)['kind']}")
    yield Finding("threads", f"{threads}{asked}; cores: {device.cores()}")


def data() -> Iterator[Finding]:
    """Yield the state of the cache folder, which MNIST is written to if it is not there, and of `outputs`."""
    from prunelab.data.cache import cache_folder
    from prunelab.data.mnist import mnist

    try:
        mnist(limit=1)
        files = sorted(cache_folder().glob("*.safetensors"))
        size = sum(path.stat().st_size for path in files) / 1e6
        yield Finding("cache", f"{cache_folder()}: {size:.0f} MB, {', '.join(path.stem for path in files)}")
    except OSError as error:
        yield Finding("cache", str(error), "PRUNELAB_CACHE=FOLDER prunelab …")
    folder = Path("outputs") if Path("outputs").exists() else Path()
    if folder.is_dir() and os.access(folder, os.W_OK):
        yield Finding("outputs", f"{Path('outputs').absolute()} can be written")
    else:
        yield Finding("outputs", f"{folder.absolute()} cannot be written", "prunelab outputs=FOLDER …")


def extras() -> Iterator[Finding]:
    """Yield each extra: complete, or the packages that it lacks."""
    try:
        names = metadata.metadata("prunelab").get_all("Provides-Extra") or []
    except metadata.PackageNotFoundError:
        yield Finding("extras", "unknown: prunelab is imported from a folder, not installed", "pip install -e .")
        return
    for name in names:
        missing = _missing(_requirements(name))
        yield Finding(f"extra {name}", missing or "complete", f'pip install "prunelab[{name}]"' if missing else "")


def chromium() -> Finding:
    """Return where Chromium is; experiments and reports do without."""
    found = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if found:
        return Finding("chromium", found)
    return Finding("chromium", "none; only tests and scripts/screenshots.py use it", "apt-get install chromium")


def _requirements(extra: str) -> list[Requirement]:
    """Return what an extra adds; for "", what prunelab itself needs; nothing if prunelab is not installed."""
    try:
        lines = metadata.requires("prunelab") or []
    except metadata.PackageNotFoundError:
        return []
    found = [(one, one.marker) for one in map(Requirement, lines)]
    core = [one for one, marker in found if marker is None or marker.evaluate({"extra": ""})]
    added = [one for one, marker in found if one not in core and marker and marker.evaluate({"extra": extra})]
    return added if extra else core


def _missing(requirements: Sequence[Requirement]) -> str:
    """Return which of these packages are not installed, or not in a version that fits; empty if none."""
    found = []
    for one in requirements:
        try:
            version = metadata.version(one.name)
        except metadata.PackageNotFoundError:
            found.append(f"{one.name} is missing")
            continue
        if not one.specifier.contains(version, prereleases=True):
            found.append(f"{one.name} is {version}, needed is {one.specifier}")
    return ", ".join(found)
