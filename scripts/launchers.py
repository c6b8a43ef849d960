"""Run a small sweep under every installed launcher: `python scripts/launchers.py`.

For each launcher it prints the command, exit status, seconds, threads per job, and the number of sockets opened that
other machines can reach, which must be 0.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from prunelab import report

LAUNCHERS = {"basic": None, "pool": None, "submitit_local": "submitit", "ray": "ray"}
SWEEP = ["strategy=l1,global", "seed=0,1", "data=synthetic", "data.examples=200", "train.epochs=1"]
LISTEN = "0A"  # the state of a listening socket in /proc/net/tcp


def listening() -> set[str]:
    """Return the inodes of all listening sockets that other machines can reach."""
    found = set()
    for path in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        for line in path.read_text().splitlines()[1:] if path.exists() else ():
            fields = line.split()
            loopback = fields[1].startswith(("0100007F", "0" * 24 + "01000000", "0000000000000000FFFF00000100007F"))
            if fields[3] == LISTEN and not loopback:
                found.add(fields[9])
    return found


def run(launcher: str, folder: Path) -> tuple[str, bool]:
    """Run one sweep; return a line of text, and whether everything was as expected."""
    line = ["-m", "prunelab", "-m", f"hydra/launcher={launcher}", *SWEEP, f"hydra.sweep.dir={folder / 'sweep'}"]
    print(f"\npython {' '.join(line)} outputs={folder}", flush=True)
    environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    before, opened, began = listening(), set(), time.perf_counter()
    with (folder / "output.txt").open("w") as output:
        words = [sys.executable, *line, f"outputs={folder}"]
        process = subprocess.Popen(words, stdout=output, stderr=output, env=environment)
        while process.poll() is None:
            opened |= listening() - before
            time.sleep(0.2)
    took = time.perf_counter() - began
    jobs = report.read_sweep(folder / "sweep") if (folder / "sweep" / "sweep.json").exists() else []
    done = sum(job.status == "completed" for job in jobs)
    threads = {job.summary.get("threads") for job in jobs}
    well = process.returncode == 0 and done == 4 and not opened and (threads == {1} or launcher == "basic")
    if not well:
        print((folder / "output.txt").read_text())
    text = f"{done} of 4 jobs, exit status {process.returncode}, {took:.0f} s, threads per job {threads}, "
    return f"{launcher:<15} {text}{len(opened)} sockets reachable from other machines", well


def main() -> int:
    """Return exit status 1 if a launcher did not do what is expected."""
    told, good = [], True
    for launcher, plugin in LAUNCHERS.items():
        if plugin and importlib.util.find_spec(f"hydra_plugins.hydra_{plugin}_launcher") is None:
            told.append(f"{launcher:<15} not installed: pip install 'prunelab[{plugin}]'")
            continue
        with tempfile.TemporaryDirectory() as folder:
            text, well = run(launcher, Path(folder))
        told.append(text if well else f"{text}: WRONG")
        good = good and well
    print("\n" + "\n".join(told))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
