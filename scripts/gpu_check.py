"""Measure on a GPU what only a GPU can show, write the figures as JSON, and render docs/gpu.md from them.

Each part runs in a process of its own with a time limit; one that fails is reported with the last line of its error.
Parts that are left out (`--only`) keep the figures that the JSON file has.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gpu_batches import batched_sweep, cuda_graph, precision, several
from gpu_networks import compaction, csr, global_pruning, training_step
from gpu_runs import ROOT, Figures, Setting, default_run, gpu_tests, kill_and_resume, suite

Json = dict[str, Any]
PARTS: dict[str, tuple[Callable[[Setting], Figures], int]] = {  # with the time limit in seconds
    "gpu_tests": (gpu_tests, 300),
    "default_run": (default_run, 150),
    "kill_and_resume": (kill_and_resume, 90),
    "training_step": (training_step, 60),
    "global_pruning": (global_pruning, 60),
    "compaction": (compaction, 90),
    "csr": (csr, 60),
    "cuda_graph": (cuda_graph, 60),
    "precision": (precision, 60),
    "several": (several, 150),
    "batched_sweep": (batched_sweep, 420),
    "suite": (suite, 180),
}
TITLES = {
    "gpu_tests": "GPU tests",
    "csr": "CSR",
    "suite": "Quick suite",
    "several": "Several networks as one",
    "cuda_graph": "CUDA graph",
}


def machine(device: str) -> Json:
    """Return what the figures depend on."""
    code = (
        "import json, torch; cuda = torch.cuda.is_available();"
        "print(json.dumps({'torch': torch.__version__, 'CUDA': torch.version.cuda,"
        "'GPU': torch.cuda.get_device_name(0) if cuda else None}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found: Json = json.loads(done.stdout)
    if found["GPU"] is None and device == "cuda":
        sys.exit("gpu_check: torch sees no GPU here; --device cpu --quick tests the script itself")
    cores = len(os.sched_getaffinity(0))
    return found | {"Python": platform.python_version(), "cores": cores}


def in_process(name: str, setting: Setting) -> Json:
    """Run one part in a new process, which is killed with all of its children after the part's time limit."""
    words = [sys.executable, __file__, "--part", name, "--device", setting.device, "--work", str(setting.work)]
    words += ["--quick"] if setting.quick else []
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    log, start = setting.work / f"{name}.log", time.perf_counter()
    with log.open("w") as file:
        process = subprocess.Popen(
            words,
            stdout=subprocess.PIPE,
            stderr=file,
            text=True,
            start_new_session=True,
            env=os.environ | {"PYTHONPATH": path},
        )
        try:
            output, _ = process.communicate(timeout=PARTS[name][1])
            error = None if process.returncode == 0 else (log.read_text().strip().splitlines() or ["no message"])[-1]
        except subprocess.TimeoutExpired:
            output, error = "", f"not finished after {PARTS[name][1]} s"
            os.killpg(process.pid, signal.SIGKILL)
    found: Json = {"seconds": round(time.perf_counter() - start, 1)}
    return found | ({"error": error} if error else {"figures": json.loads(output.splitlines()[-1])})


def page(results: Json) -> str:
    """Return docs/gpu.md."""
    lines = ["# Measured on a GPU", "", "By `python scripts/gpu_check.py`, in float32; it writes this page."]
    for name in PARTS:
        found, text = results["parts"].get(name), inspect.getdoc(PARTS[name][0]) or ""
        lines += ["", f"## {TITLES.get(name) or name.replace('_', ' ').capitalize()}", "", text, ""]
        if found is None:
            lines += ["Not measured yet."]
            continue
        about = found["machine"]
        software = f"torch {about['torch']}, Python {about['Python']}"
        where = f"Measured on one {about['GPU']} with {about['cores']} CPU cores, {software}"
        if "error" in found:
            lines += [f"{where}. Failed: {found['error']}"]
        else:
            lines += [
                f"{where}.",
                "",
                "| figure | value |",
                "|---|---|",
                *(f"| {key} | {value} |" for key, value in found["figures"].items()),
            ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the parts, or one of them as a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--quick", action="store_true", help="a smoke test of the script, on small data")
    parser.add_argument("--only", help=f"parts to run, separated by commas: {','.join(PARTS)}")
    parser.add_argument(
        "--json", type=Path, default=Path("gpu.json"), help="file of the figures; parts are added to it"
    )
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "gpu.md", help="file of the rendered page")
    parser.add_argument("--work", type=Path, help="folder for runs and logs; default: a temporary one")
    parser.add_argument("--part", choices=list(PARTS), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.part:
        print(json.dumps(PARTS[args.part][0](Setting(args.device, args.quick, args.work))))
        return
    work = (args.work or Path(tempfile.mkdtemp(prefix="prunelab-gpu-"))).resolve()
    work.mkdir(parents=True, exist_ok=True)
    results: Json = json.loads(args.json.read_text()) if args.json.exists() else {"parts": {}}
    about = machine(args.device)
    for name in args.only.split(",") if args.only else PARTS:
        found = results["parts"][name] = in_process(name, Setting(args.device, args.quick, work)) | {"machine": about}
        print(f"{name}, {found['seconds']} s: {found.get('error') or json.dumps(found['figures'])}", flush=True)
        args.json.write_text(json.dumps(results, indent=2) + "\n")  # what is measured is kept, whatever comes
        args.page.write_text(page(results))


if __name__ == "__main__":
    main()
