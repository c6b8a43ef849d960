"""`prunelab stages`: list, verify and remove stored stages."""

import argparse
import contextlib
import errno
import functools
import itertools
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prunelab.cli.arguments import failed, parser
from prunelab.records import flat
from prunelab.runtime.json_data import read_json
from prunelab.runtime.streams import say
from prunelab.stages import files, locks
from prunelab.stages.stage import NAME_LENGTH
from prunelab.stages.store import Store, sweep_up
from prunelab.text import table

AGES = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
SIZES = {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9}


@dataclass(frozen=True)
class Entry:
    """A stored stage.

    Attributes:
        kind: such as `dense` or `round`; `unfinished` if it is being computed or was interrupted.
        parent: name of the stage that this one starts from; empty if there is none.
        inputs: the config values that it depends on, by dotted keys.
        size: in bytes.
        age: in seconds.
    """

    folder: Path
    kind: str
    parent: str
    inputs: dict[str, Any]
    size: int
    age: float

    @property
    def name(self) -> str:
        """The stage's name."""
        return self.folder.name.removesuffix(".work")


def entries(root: Path) -> list[Entry]:
    """Return all stages in a folder, the oldest first. If a description is unreadable, kind and inputs are unknown."""
    folders = root.iterdir() if root.is_dir() else ()
    found = [_entry(one) for one in folders if re.fullmatch(rf"[0-9a-f]{{{NAME_LENGTH}}}(\.work)?", one.name)]
    return sorted(found, key=lambda entry: -entry.age)


def _entry(folder: Path) -> Entry:
    described: Any = {}
    with contextlib.suppress(OSError, ValueError):
        described = read_json(folder / "stage.json")
    described = described if isinstance(described, dict) else {}
    inputs = described.get("inputs")
    kind = "unfinished" if folder.name.endswith(".work") else str(described.get("kind", "?"))
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    age = time.time() - folder.stat().st_mtime
    return Entry(
        folder, kind, str(described.get("parent") or ""), flat(inputs) if isinstance(inputs, dict) else {}, size, age
    )


def listing(found: Sequence[Entry]) -> str:
    """Return a table with one line per stage, and their number and size."""
    axes = ["criterion", "granularity", "allocation"]
    header = ["stage", "kind", "parent", "round", "seed", "amount", *axes, "size", "age"]
    rows = []
    for entry in found:
        parts = [str(entry.inputs.get(f"{axis}._target_", "")).rpartition(".")[2].lower() for axis in axes]
        keys = [str(entry.inputs.get(key, "")) for key in ("round", "seed", "amount")]
        unit = next((unit for unit in reversed(AGES) if entry.age >= AGES[unit]), "s")
        measured = [f"{entry.size / 1e6:.2f} MB", f"{entry.age / AGES[unit]:.0f} {unit}"]
        rows.append([entry.name[:12], entry.kind, entry.parent[:12], *keys, *parts, *measured])
    total = sum(entry.size for entry in found)
    return f"{table(header, rows)}\n{len(found)} stages, {total / 1e6:.2f} MB"


def chosen(found: Sequence[Entry], arguments: argparse.Namespace) -> list[Entry]:
    """Return the stages that meet all conditions; with `--down-to`, only as many of the oldest as needed."""
    old = [entry for entry in found if arguments.older_than is None or entry.age > arguments.older_than]
    kept = [one for one in old if all(str(one.inputs.get(key)) == value for key, value in arguments.where)]
    if arguments.down_to is None:
        return kept
    excess = sum(entry.size for entry in found) - arguments.down_to
    before = itertools.accumulate((entry.size for entry in kept), initial=0)  # what the older ones free
    return [entry for entry, freed in zip(kept, before, strict=False) if freed < excess]


def remove(root: Path, selected: Sequence[Entry]) -> int:
    """Remove stages that no process is computing. Return the number of removed stages."""
    gone = 0
    for entry in selected:
        with files.writing(entry.folder):
            lock = locks.hold(root / "locks" / f"{entry.name}.lock")
            if lock is None:
                say(f"{entry.name[:12]} is in use and stays", error=True)
                continue
            whole = files.remove_folder(entry.folder)
            lock.release()
            if not whole:
                raise PermissionError(errno.EACCES, "some of its files cannot be removed")
            gone += 1
    return gone


def _quantity(units: Mapping[str, float], text: str) -> float:
    match = re.fullmatch(r"([\d.]+)\s*([A-Za-z]+)", text)
    if not match or match[2] not in units:
        raise argparse.ArgumentTypeError(f"{text}: must be a number and one of {', '.join(units)}")
    return float(match[1]) * units[match[2]]


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text}: must be key=value, such as seed=0")
    return key, value


def _parser() -> argparse.ArgumentParser:
    top = parser("stages", "Lists, verifies and removes stored stages.")
    top.add_argument("--outputs", default="outputs", type=Path, help="the `outputs` of the runs (default: %(default)s)")
    commands = top.add_subparsers(dest="command", metavar="{list,verify,remove}")
    commands.add_parser("list", help="show name, kind, parent, size and age of every stage (the default)")
    commands.add_parser("verify", help="check every digest; exit status 1 if a stage is damaged")
    add = commands.add_parser("remove", help="remove stages; a run that needs one computes it again").add_argument
    age, size = functools.partial(_quantity, AGES), functools.partial(_quantity, SIZES)
    add("--older-than", type=age, metavar="AGE", help="those older than this, such as 12h or 7d")
    add("--down-to", type=size, metavar="SIZE", help="the oldest, until the rest is this large, such as 1GB")
    where = "those with this input, such as seed=0"
    add("--where", type=_pair, action="append", default=[], metavar="KEY=VALUE", help=where)
    add("--all", action="store_true", help="all stages")
    add("--dry-run", action="store_true", help="only list what would be removed")
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. Return its exit status: 1 for damaged stages or a folder that cannot be read or written."""
    top = _parser()
    arguments = top.parse_args(argv)
    root = arguments.outputs / "stages"
    sweep_up(root)
    try:
        with files.writing(root, "--outputs chooses another"):
            return _run(top, arguments, root)
    except files.StorageError as error:
        return failed(error)


def _run(top: argparse.ArgumentParser, arguments: argparse.Namespace, root: Path) -> int:
    found = entries(root)
    if arguments.command == "verify":
        store = Store(root)  # which checks every digest and moves damaged stages aside
        damaged = [entry for entry in found if entry.kind != "unfinished" and store.load(entry.name) is None]
        say(f"{len(found) - len(damaged)} whole, {len(damaged)} damaged")
        return 1 if damaged else 0
    if arguments.command != "remove":
        say(listing(found))
        return 0
    if not (arguments.all or arguments.where) and arguments.older_than is None and arguments.down_to is None:
        top.error("remove: needs --older-than, --down-to, --where or --all")
    selected = chosen(found, arguments)
    say(listing(selected))
    if not arguments.dry_run:
        say(f"{remove(root, selected)} removed")
    return 0
