"""What the report says, section by section, in the order in which a reader asks."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from prunelab.report import costs, differences, figures, findings, mask_pictures, page, results
from prunelab.report.curves import SHOWN, Baseline, Curve, Point, baselines, curves, final, pareto
from prunelab.report.drawing import style
from prunelab.report.groups import Group, group
from prunelab.report.reading import Run, sweep_command
from prunelab.report.tables import Table, plain

COMMANDS = 12  # single runs whose command is printed; the others' are in the CSV


@dataclass
class Report:
    """Everything that is written: the page and its tables."""

    title: str
    compared: str
    finding: str
    counts: dict[str, int]
    sections: list[tuple[str, str, str]] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)

    def html(self, eyebrow: str) -> str:
        """The page."""
        values = {"title": self.title, "eyebrow": eyebrow, "compared": self.compared, "finding": self.finding}
        return page.page(values, self.counts, self.sections)

    def markdown(self) -> str:
        """The sentences and the tables."""
        counted = ", ".join(f"{number} {status}" for status, number in self.counts.items())
        text = ["# " + self.title, *map(plain, (self.compared, f"Runs: {counted}.", self.finding))]
        text += [table.markdown() for table in self.tables if table.rows and table.columns]
        fence = "`" * max(3, 1 + max(map(len, re.findall("`+", "".join(self.commands))), default=0))
        commands = "\n".join(" ".join(command.split()) for command in self.commands)
        return "\n\n".join([*map(str.strip, text), f"{fence}sh\n{commands}\n{fence}"]) + "\n"


def report(runs: Sequence[Run], folders: Sequence[Path]) -> Report:
    """Reads the runs and writes everything but the files."""
    groups = group(runs)
    found = curves(groups)
    dense = baselines(found)
    compared, finding = findings.compared(runs, groups), findings.headline(found, dense)
    made = Report("Pruning report", compared, finding, dict(findings.counts(runs)))
    with style():
        if groups:
            _accuracy(made, found, dense)
            _results(made, groups, dense)
            _pareto(made, found)
            _differences(made, found)
            _inside(made, groups, found)
            _cost(made, groups)
        _origin(made, runs, folders)
    made.tables.append(results.all_runs(runs))
    return made


def _accuracy(made: Report, found: Sequence[Curve], dense: Sequence[Baseline]) -> None:
    drawn = [
        ("Over sparsity. Band: ± one standard error.", figures.over_sparsity(found, dense)),
        ("Over compression, on a logarithmic axis.", figures.over_compression(found, dense)),
    ]
    made.sections.append(
        ("accuracy", "Accuracy as weights go", page.legend(found, len(dense), levels=True) + page.figures(drawn))
    )


def _results(made: Report, groups: Sequence[Group], dense: Sequence[Baseline]) -> None:
    table = results.results([(group, final(group)) for group in groups], dense if len(dense) <= SHOWN else ())
    made.tables.append(table)
    said = "n counts the seeds; with one seed there is no standard error. The speed-up counts multiply-adds on nonzero "
    said += "weights: a mask makes nothing faster."
    repeats = sum(group.repeats for group in groups)
    if repeats:
        said += f" {repeats} runs repeat a seed of the same experiment; the last of each is counted."
    made.sections.append(("results", "Results", page.cut(table, results.AT_MOST) + page.note(said)))


def _pareto(made: Report, found: Sequence[Curve]) -> None:
    places: list[tuple[str, Point]] = []
    for curve in found:
        places += [("dense network" if p.round == 0 else p.group.label, p) for p in curve.points]
    front = pareto(point for _, point in places)
    names = {id(point): name for name, point in places}
    table = results.pareto([(names[id(point)], point) for point in front])
    made.tables.append(table)
    said = "Ringed: networks that none beats in both size and validation accuracy. Validation accuracy chooses, test "
    said += "accuracy is reported, so the ringed line may fall and rise. Every round of every curve is a candidate."
    drawn = [("Test accuracy over nonzero parameters of the whole model.", figures.front(found, front))]
    body = page.legend(found) + page.figures(drawn, page.note(said)) + page.cut(table, results.AT_MOST)
    made.sections.append(("pareto", "Size against accuracy", body))


def _differences(made: Report, found: Sequence[Curve]) -> None:
    pairs = differences.all_pairs([curve for curve in found if curve.colour])
    if not pairs:
        made.sections.append(
            ("differences", "Which differences are real", page.note("No two curves share a sparsity."))
        )
        return
    title = "Paired differences in test accuracy at the highest sparsity that both have"
    highest = results.differences((found[0] for found in pairs), "differences", title)
    title = "Paired differences in test accuracy at every sparsity that both have"
    every = results.differences((d for found in pairs for d in found), "differences_all", title)
    made.tables += [highest, every]
    said = (
        "Paired by seed, at sparsities within half a point of each other, nothing interpolated. Intervals: Student's "
    )
    said += (
        "t, n − 1 degrees of freedom, each by itself: one in twenty comparisons without a real difference will still "
    )
    said += f"look like one, and here are {len(every.rows)}."
    body = page.cut(highest, results.AT_MOST) + page.note(said)
    if len(every.rows) > len(highest.rows):
        body += page.folded(
            f"All {len(every.rows)} comparisons, at every shared sparsity", page.cut(every, results.AT_MOST)
        )
    made.sections.append(("differences", "Which differences are real", body))


def _inside(made: Report, groups: Sequence[Group], found: Sequence[Curve]) -> None:
    """Layers, masks, training."""
    table, names = results.layers(groups)
    body = "<h3>Sparsity by layer</h3>" + page.cut(table, results.AT_MOST, results.shades(names)) if table.rows else ""
    named = [curve for curve in found if curve.colour]
    tried = [mask_pictures.picture(curve.last.group.label, curve.last.group.runs[0]) for curve in named]
    pictures = [picture for picture in tried if picture]
    if pictures:
        said = (
            "Filled: kept. Empty: pruned. Crossed out: a whole filter is gone. The lowest seed of each; a large matrix "
        )
        said += "is shown by blocks, the densest darkest."
        body += "<h3>Masks of the first layer</h3>" + page.note(said) + page.masks(pictures)
    drawn = list(zip(("Validation accuracy.", "Training loss."), figures.training(found), strict=False))
    if drawn:
        said = "Mean over seeds. Dashed: a round of pruning begins."
        body += "<h3>Training</h3>" + page.legend(named) + page.figures(drawn) + page.note(said)
    made.tables += [found for found in (table, results.masks(map(vars, pictures))) if found.rows]
    made.sections.append(
        ("inside", "Inside the networks", body or page.note("No layers, masks or epochs were stored."))
    )


def _cost(made: Report, groups: Sequence[Group]) -> None:
    """Nothing for runs of a time when there were no cost cards."""
    sizes, times = costs.sizes(groups), costs.times(groups)
    if not sizes.rows:
        return
    said = "Dense: the network before any pruning. Masked: the result with its masks. MACs are of one example; peak "
    said += "memory is the bytes of tensors that live at once, at batch 256, – where that is not known."
    body = page.cut(sizes, results.AT_MOST) + page.note(said)
    if times.rows:
        said = "Speed-up: the dense network's time ÷ its own, measured in turns, in the same run; with one seed there "
        said += "is no standard error, and its 95% intervals are in summary.json. latency=true times runs that make no "
        said += "other form."
        body += page.cut(times, results.AT_MOST) + page.note(said)
    made.tables += [table for table in (sizes, times) if table.rows]
    made.sections.append(("cost", "What each form costs", body))


def _origin(made: Report, runs: Sequence[Run], folders: Sequence[Path]) -> None:
    """What failed, and how all of it was made."""
    failed = results.failed(runs)
    made.tables.append(failed)
    body = page.cut(failed, results.AT_MOST) if failed.rows else page.note(f"Nothing: all {len(runs)} runs completed.")
    made.sections.append(("failed", "What failed or is missing", body))
    sweeps = dict.fromkeys(run.sweep for run in runs if run.sweep)
    known = [command for sweep in sweeps if (command := sweep_command(sweep))]
    untold = {sweep for sweep in sweeps if not sweep_command(sweep)}
    single = [str(run.summary["command"]) for run in runs if _alone(run, untold) and run.summary.get("command")]
    made.commands = [*known, *single[:COMMANDS]]
    body = page.commands(made.commands) or page.note("No command was stored.")
    if len(single) > COMMANDS:
        body += page.note(f"{len(single) - COMMANDS:,} more commands are in report_runs.csv.")
    this = shlex.join(["python", "-m", "prunelab.report", *map(str, folders)])
    facts = results.provenance(runs) | {"this page": [this]}
    made.sections.append(("origin", "What produced this", body + page.facts(facts)))


def _alone(run: Run, untold: set[Path]) -> bool:
    """Whether a run's own command is all that is known of how it was made."""
    return run.sweep is None or run.sweep in untold
