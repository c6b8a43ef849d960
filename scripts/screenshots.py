"""Make the pictures `docs/report.png` and `docs/tensorboard.png`, and the README's table of strategies, from sweeps.

    python scripts/screenshots.py outputs/sweeps/<one> [more ...]

The report shows all given sweeps, TensorBoard and the table the first. Needs `pip install -e ".[report]" playwright`,
and Chromium (Debian: `apt-get install chromium`); the environment variable CHROMIUM may name another one.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from prunelab.report import dashboard
from prunelab.report.groups import choice
from prunelab.report.jobs import SIZES, sizes
from prunelab.report.page import Report
from prunelab.report.run_folders import read_sweep
from prunelab.report.tables import plain

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or "/usr/bin/chromium"


@contextmanager
def browser(width: int, height: int) -> Iterator[Page]:
    """Yield a page of a headless Chromium."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium.new_page(viewport={"width": width, "height": height}, device_scale_factor=1.5)
        chromium.close()


@contextmanager
def tensorboard(logdir: Path) -> Iterator[str]:
    """Start TensorBoard on a free port; yield its address."""
    with tempfile.TemporaryFile("w+") as log:
        command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(logdir), "--port", "0"]
        server = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            while True:
                assert server.poll() is None, "TensorBoard ended"
                log.seek(0)
                if found := re.search(r"http://\S+:\d+/", log.read()):
                    yield found[0].replace("0.0.0.0", "localhost")
                    return
        finally:
            server.kill()
            server.wait()


def strategies(sweep: Path) -> str:
    """Return a table of fair baselines and strategies of a sweep, the most accurate first, and its report's finding."""
    runs = [run for run in read_sweep(sweep) if run.status == "completed"]
    report = Report(runs, [sweep])
    rows = {line.name: line.rows for line in report.longer}
    for run in runs:
        rows[name] = {**rows.get(name := f"`{choice(run, 'strategy')}`", {}), run.seed: run.result}
    cells = {name: sizes(list(found.values())) for name, found in rows.items()}
    ordered = sorted(cells, key=lambda name: (name[0] == "`", -float(cells[name][-1].partition("%")[0])))
    lines = [["strategy", *SIZES], ["---"] * (1 + len(SIZES)), *([name, *cells[name]] for name in ordered)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    versions = runs[0].summary["versions"]
    told = f"over {len({run.seed for run in runs})} seeds, on one test set"
    made = f"prunelab {versions['prunelab']}, torch {versions['torch']}"
    return f"{table}\n\nMean ± standard error {told}; {made}. {plain(report.finding)}\n"


def reduce(picture: Path) -> None:
    """Write a picture again with 256 colours, which takes a third of the bytes."""
    Image.open(picture).convert("RGB").quantize(256).save(picture, optimize=True)


def main() -> None:
    """Write both pictures and the table."""
    sweeps = [Path(argument) for argument in sys.argv[1:]]
    if not sweeps:
        sys.exit(__doc__)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    marked = re.compile(r"(<!-- strategies: .*? -->\n).*?(<!-- end of strategies -->)", re.DOTALL)
    written = marked.sub(lambda found: found[1] + strategies(sweeps[0]) + found[2], readme)
    (ROOT / "README.md").write_text(written, encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder, browser(1100, 1000) as page:
        report = Path(folder) / "report.html"
        subprocess.run(
            [sys.executable, "-m", "prunelab", "report", *map(str, sweeps), "--out", str(report)], check=True
        )
        page.goto(report.as_uri())
        page.screenshot(path=DOCS / "report.png")
    dashboard.write(sweeps[0])
    with tensorboard(sweeps[0]) as address, browser(1500, 620) as page:
        page.goto(f"{address}#custom_scalars&_smoothingWeight=0")
        page.get_by_text("all jobs").wait_for()
        page.wait_for_timeout(3000)  # the curves are drawn one after the other
        page.get_by_text("Ignore outliers").click()  # which it does by default: the ends of the curves are cut off
        page.wait_for_timeout(1000)
        charts = page.locator("tf-category-paginated-view, .category").first  # without the list of runs and its paths
        box = charts.bounding_box() or {"x": 330, "y": 60, "width": 970, "height": 560}
        page.screenshot(path=DOCS / "tensorboard.png", clip=box)
    for name in ("report.png", "tensorboard.png"):
        reduce(DOCS / name)


if __name__ == "__main__":
    main()
