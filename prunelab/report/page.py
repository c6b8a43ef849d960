"""The report: its content is collected here, and written as HTML (see `templates/`) and Markdown."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2

from prunelab.report import cost_tables, differences, figures, mask_pictures, result_tables, results_frame, sentences
from prunelab.report.curves import SHOWN, Baseline, Curve, Point, baselines, curves, final, pareto
from prunelab.report.drawing import Figure, style
from prunelab.report.groups import Group, group
from prunelab.report.mask_pictures import Picture
from prunelab.report.run_folders import Run, sweep_command
from prunelab.report.tables import Table, plain

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


@dataclass(frozen=True)
class Report:
    """The content of a report.

    Args:
        name: the names of the folders that are reported.
        runs: number of runs.
        counts: number of runs of each status.
        compared: sentence on what was compared.
        finding: sentences on the main finding.
        curves: all curves.
        dense: number of dense networks.
        repeats: number of runs that are left out since another one has the same seed.
        figures: by name.
        tables: by name; also those that are only CSV files. Tables without rows are left out, except `failed`.
        pictures: of masks.
        commands: that made the runs.
        more_commands: number of commands that are left out.
        facts: names and values, e.g. of versions.
    """

    name: str
    runs: int
    counts: Mapping[str, int]
    compared: str
    finding: str
    curves: Sequence[Curve]
    dense: int
    repeats: int
    figures: Mapping[str, Figure]
    tables: Mapping[str, Table]
    pictures: Sequence[Picture]
    commands: Sequence[str]
    more_commands: int
    facts: Mapping[str, Sequence[str]]

    @property
    def compared_with_best(self) -> bool:
        """Whether there are too many experiments to compare every two of them."""
        return len(self.curves) > differences.EVERY_PAIR

    @property
    def sections(self) -> dict[str, str]:
        """The headings by anchor: no results if no run completed, no costs if no run has any."""
        shown = (set(SECTIONS) if self.curves else {"failed", "origin"}) - ({"cost"} - set(self.tables))
        return {key: head for key, head in SECTIONS.items() if key in shown}

    def html(self) -> str:
        """Return the page: one file with its style and figures, without scripts, that needs no network."""
        loader = jinja2.FileSystemLoader(Path(__file__).parent / "templates")
        environment = jinja2.Environment(
            loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )
        return environment.get_template("page.html.jinja").render(report=self)

    def markdown(self) -> str:
        """Return the sentences, the tables and the commands as Markdown."""
        counted = ", ".join(f"{number} {status}" for status, number in self.counts.items())
        text = ["# Pruning report", *map(plain, (self.compared, f"Runs: {counted}.", self.finding))]
        text += [table.markdown() for table in self.tables.values() if table.columns and len(table.frame)]
        fence = "`" * max(3, 1 + max(map(len, re.findall("`+", "".join(self.commands))), default=0))
        commands = "\n".join(" ".join(command.split()) for command in self.commands)
        return "\n\n".join([*map(str.strip, text), f"{fence}sh\n{commands}\n{fence}"]) + "\n"


def report(runs: Sequence[Run], folders: Sequence[Path]) -> Report:
    """Collect the content of a report.

    Args:
        runs: all runs, completed or not.
        folders: where they were found.
    """
    groups = group(runs)
    found = curves(groups)
    dense = baselines(found)
    coloured = [curve for curve in found if curve.colour]
    tried = (mask_pictures.picture(curve.last.group.label, curve.last.group.runs[0]) for curve in coloured)
    pictures = [picture for picture in tried if picture]
    front = _front(found)
    commands = _commands(runs)
    this = shlex.join(["prunelab", "report", *map(str, folders)])
    return Report(
        name=", ".join(folder.resolve().name for folder in folders),
        runs=len(runs),
        counts=dict(sentences.counts(runs)),
        compared=sentences.compared(runs, groups),
        finding=sentences.headline(found, dense),
        curves=found,
        dense=len(dense),
        repeats=sum(group.repeats for group in groups),
        figures=_figures(found, dense, [point for _, point in front]),
        tables=_tables(runs, groups, found, dense, front, pictures),
        pictures=pictures,
        commands=commands[:COMMANDS],
        more_commands=len(commands[COMMANDS:]),
        facts={**result_tables.provenance(runs), "this page": [this]},
    )


def _front(found: Sequence[Curve]) -> list[tuple[str, Point]]:
    """Return the Pareto front of all points of all curves, with their names."""
    names = {id(p): "dense network" if p.round == 0 else p.group.label for curve in found for p in curve.points}
    return [(names[id(point)], point) for point in pareto(point for curve in found for point in curve.points)]


def _figures(found: Sequence[Curve], dense: Sequence[Baseline], front: Sequence[Point]) -> dict[str, Figure]:
    with style():
        drawn = [
            figures.over_sparsity(found, dense),
            figures.over_compression(found, dense),
            figures.front(found, front),
            *figures.training(found),
        ]
    return {figure.name: figure for figure in drawn if found}


def _tables(
    runs: Sequence[Run],
    groups: Sequence[Group],
    found: Sequence[Curve],
    dense: Sequence[Baseline],
    front: Sequence[tuple[str, Point]],
    pictures: Sequence[Picture],
) -> dict[str, Table]:
    pairs = differences.all_pairs(found)
    highest = "Paired differences in test accuracy at the highest sparsity that both experiments have"
    each = "Paired differences in test accuracy at each sparsity that both experiments have"
    ends = [(group, final(group)) for group in groups]
    made = [
        result_tables.results(ends, dense if len(dense) <= SHOWN else ()),
        result_tables.pareto(front),
        result_tables.differences((pair[0] for pair in pairs), "differences", highest),
        result_tables.differences(itertools.chain.from_iterable(pairs), "differences_all", each),
        result_tables.layers(groups),
        result_tables.masks(pictures),
        cost_tables.sizes(groups),
        cost_tables.latencies(groups),
        result_tables.failed(runs),
        Table("runs", "All runs", [], results_frame.frame(runs)),
    ]
    return {table.name: table for table in made if len(table.frame) or table.name == "failed"}


def _commands(runs: Sequence[Run]) -> list[str]:
    """Return the commands of the sweeps, and those of runs outside a sweep or in one whose command is not known."""
    sweeps = {run.sweep: sweep_command(run.sweep) for run in runs if run.sweep}
    single = [str(run.summary["command"]) for run in runs if not sweeps.get(run.sweep) and run.summary.get("command")]
    return [*filter(None, sweeps.values()), *single]
