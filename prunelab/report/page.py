"""The report: its content is collected here, and written as HTML (see `templates/`) and Markdown."""

import itertools
import re
import shlex
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import jinja2
import matplotlib as mpl
import yaml

from prunelab.report import cost_tables, differences, figures, mask_pictures, result_tables, results_frame, sentences
from prunelab.report.curves import Curve, Point, baselines, curves, final, pareto
from prunelab.report.drawing import STYLE, Figure
from prunelab.report.groups import group
from prunelab.report.jobs import ERROR
from prunelab.report.run_folders import Run
from prunelab.report.tables import Table, plain
from prunelab.runtime.regular_file import regular

COMMANDS = 12  # commands of single runs on the page; the others are in the CSV file
SECTIONS = {
    "accuracy": "Accuracy over sparsity and compression",
    "results": "Results",
    "pareto": "Pareto front: size and accuracy",
    "differences": "Comparison of the experiments",
    "inside": "Layers, masks and training",
    "cost": "Cost and latency",
    "failed": "Failed and missing runs",
    "origin": "Commands and versions",
}


class Report:
    """The content of a report of runs, completed or not, and of the folders that contain them; templates read it."""

    def __init__(self, runs: Sequence[Run], folders: Sequence[Path]) -> None:
        self.runs, self.folders = runs, folders
        self.name = ", ".join(folder.resolve().name for folder in folders)
        self.counts = sentences.counts(runs)
        self.groups = group(runs)  # the experiments: completed runs that differ only in their seed
        self.compared = sentences.compared(runs, self.groups)

        self.curves = curves(self.groups)
        self.dense, self.longer = baselines(self.curves), baselines(self.curves, longer=True)
        self.pairs = differences.all_pairs(self.curves)  # of each two curves, not corrected
        self.differences = differences.one_each(self.pairs, differences.shared_level(self.curves))
        self.compared_with_best = len(self.curves) > differences.EVERY_PAIR  # too many to compare every two of them
        self.finding = sentences.headline(self.curves, self.dense, self.longer, self.differences)
        self.spread = f"± is the standard error {ERROR}." if any(curve.seeds > 1 for curve in self.curves) else ""

        shown = [curve.last.group for curve in self.curves if curve.colour]
        drawn = (mask_pictures.picture(group.label, group.runs[0]) for group in shown)
        self.pictures = [picture for picture in drawn if picture]  # of the first layer, one run of each experiment
        self.front = self._front()
        self.tables = self._tables()
        known = (set(SECTIONS) if self.groups else {"failed", "origin"}) - ({"cost"} - set(self.tables))
        self.sections = {key: head for key, head in SECTIONS.items() if key in known}  # by anchor

        sweeps = {run.sweep: sweep_command(run.sweep) if run.sweep else None for run in runs}
        alone = [run for run in runs if not sweeps[run.sweep]]  # or in a sweep whose command is not known
        self.single = [str(run.summary["command"]) for run in alone if run.summary.get("command")]
        self.commands = [*filter(None, sweeps.values()), *self.single[:COMMANDS]]
        this = shlex.join(["prunelab", "report", *map(str, folders)])
        self.facts = {**result_tables.provenance(runs), "this page": [this]}

    def html(self) -> str:
        """Return the page: one file with its style and figures, without scripts, that needs no network."""
        loader = jinja2.FileSystemLoader(Path(__file__).parent / "templates")
        environment = jinja2.Environment(
            loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )
        return environment.get_template("page.html.jinja").render(report=self, commands=COMMANDS)

    def markdown(self) -> str:
        """Return the sentences, the tables and the commands as Markdown."""
        counted = ", ".join(f"{number} {status}" for status, number in self.counts.items())
        text = [
            "# Pruning report",
            *map(plain, filter(None, [self.compared, f"Runs: {counted}.", self.finding, self.spread])),
        ]
        text += [table.markdown() for table in self.tables.values() if table.columns and len(table.frame)]
        fence = "`" * max(3, 1 + max(map(len, re.findall("`+", "".join(self.commands))), default=0))
        commands = "\n".join(" ".join(command.split()) for command in self.commands)
        return "\n\n".join([*map(str.strip, text), f"{fence}sh\n{commands}\n{fence}"]) + "\n"

    @cached_property
    def panels(self) -> list[list[Curve]]:
        """All curves, once for each panel: those that the panel shows have a colour, the others are grey."""
        numbers = sorted({curve.panel for curve in self.curves}) or [0]
        return [[replace(c, colour=c.colour if c.panel == n else 0) for c in self.curves] for n in numbers]

    def levels(self, panel: Sequence[Curve]) -> list[figures.Level]:
        """The dense networks that the figures of a panel show as horizontal lines."""
        return figures.levels(panel, self.dense, self.longer)

    @cached_property
    def figures(self) -> dict[str, Figure]:
        """The figures by name."""
        with mpl.rc_context(STYLE):
            drawn = [
                (number, figure)
                for number, panel in enumerate(self.panels)
                for figure in (
                    *(figures.accuracy(panel, self.levels(panel), over) for over in ("sparsity", "compression")),
                    figures.front(panel, self.longer, [point for _, point in self.front]),
                    *figures.training(panel),
                )
            ]
        return {f"{figure.name}-{number}": figure for number, figure in drawn}

    @property
    def trained(self) -> bool:
        """Whether there are training curves."""
        return any(name.startswith(("val-accuracy", "train-loss")) for name in self.figures)

    def _front(self) -> list[tuple[str, Point]]:
        """Return the Pareto front of all points of all curves, with their names."""
        dense = [(line.name, line.point) for line in (*self.dense, *self.longer)]
        named = [*dense, *((point.group.label, point) for curve in self.curves for point in curve.pruned)]
        names = {id(point): name for name, point in named}
        return [(names[id(point)], point) for point in pareto(point for _, point in named)]

    def _tables(self) -> dict[str, Table]:
        """Return the tables by name, also those that are CSV files only. `failed` is there even if it is empty.

        Empty tables, tables of dashes and columns of dashes are left out.
        """
        every = differences.holm(itertools.chain.from_iterable(self.pairs))
        several = len(every) > len(self.differences)  # sparsities in common, for some pair
        one = "Paired differences in test accuracy at the sparsity that most have, or else the highest that both have"
        each = "Exploratory: paired differences in test accuracy at each sparsity that both experiments have"
        ends = [(group, final(group)) for group in self.groups]
        made = [
            result_tables.results(ends, self.dense, self.longer),
            result_tables.pareto(self.front),
            result_tables.differences(self.differences, "differences", one),
            *([result_tables.differences(every, "differences_all", each)] if several else []),
            result_tables.layers(self.groups),
            result_tables.masks(self.pictures),
            cost_tables.sizes(self.groups),
            cost_tables.latencies(self.groups),
            result_tables.failed(self.runs),
            Table("runs", "All runs", [], results_frame.frame(self.runs)),
        ]
        told = (table for table in made if table.name == "failed" or (len(table.frame) and table.measured))
        return {table.name: table.without_dashes() for table in told}


def sweep_command(folder: Path) -> str | None:
    """Return the command that started a sweep, from Hydra's `multirun.yaml`; None if that cannot be read."""
    try:
        given: Any = yaml.safe_load(regular(folder / "multirun.yaml").read_bytes())["hydra"]["overrides"]
        hydra = [item for item in given["hydra"] if not item.startswith(("hydra.mode=", "hydra.sweep.dir="))]
        return " ".join(["python -m prunelab -m", *map(shlex.quote, [*hydra, *given["task"]])])
    except Exception:  # a damaged file may raise anything; the report does without the command
        return None
